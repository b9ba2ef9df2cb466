"""What ``mmgateway bench pipeline`` measures with: sizes, regions, and the packets on the topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from broker import kafka_io
from broker.codec import RegionRecord
from crossmatch.model import Circle
from gateway.bench import alertpackets
from gateway.bench.late_region import DISTANCE, late_of
from gateway.night.maps import Arc, multi_order_map
from gateway.topicspecs import topic_specs

TOPIC = "alerts.bench"
NIGHT = 10
"""Of :mod:`gateway.bench.sky30`, whose alerts are sent."""
_TEMPLATES = 12
# Deviations along arcs that hold 99 % in 10 and in 2,000 square degrees.
_ALONG_DEG = (1.34, 19.1)

Tell = Callable[[str], None]
Matches = set[tuple[str, str]]
"""Events and objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    ``stamp_bytes`` is the size of each of three cut-outs, 0 for none; ``batch`` the alerts of a
    batch; ``plain`` those that the job gets which tries one region after another.
    """

    packets: int = 20_000
    stamp_bytes: int = 24_000
    regions: int = 1000
    batch: int = 2500
    runs: int = 7
    plain: int = 200
    seed: int = 1


def regions(count: int, seed: int) -> list[RegionRecord]:
    """Four circles of 0.05 to 15 degrees for each map of 10 to 2,000 square degrees.

    These are the sizes of what alerts are held against, at the levels of the chains (0.99). All
    windows hold the night of the alerts; positions are anywhere on the sky.
    """
    rng = np.random.default_rng([seed, 7])
    maps = [
        multi_order_map(
            Arc(
                float(rng.uniform(0, 360)),
                float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
                float(rng.uniform(0, 180)),
                along_deg=along,
                across_deg=along / 5,
                bend_deg=60.0,
            ),
            DISTANCE,
        )
        for along in np.geomspace(*_ALONG_DEG, min(_TEMPLATES, max(1, count // 5)))
    ]
    found = []
    for number in range(count):
        night = NIGHT - int(rng.integers(1, 6))
        if number % 5 == 0:
            place = maps[(number // 5) % len(maps)]
            found.append(late_of("map", f"S2611{number:05d}", "gw", night, place, 0.0).record)
            continue
        circle = Circle(
            ra_deg=float(rng.uniform(0, 360)),
            dec_deg=float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
            radius_deg=float(np.exp(rng.uniform(np.log(0.05), np.log(15.0)))),
            containment=0.99,
        )
        found.append(late_of("circle", f"grb{number}", "grb", night, circle, 0.0).record)
    return found


def send(bootstrap: str, alerts: pa.Table, sizes: Sizes) -> float:
    """Fill the topic; the mean size of a packet."""
    kafka_io.ensure_topics(bootstrap, {}, topic_specs([TOPIC]))
    # One that compresses would measure its own decompression.
    producer = kafka_io.producer(bootstrap, {}, compression_type="none")
    total = 0
    for at in range(0, alerts.num_rows, 1000):
        some = alerts.slice(at, 1000)
        for packet in alertpackets.ztf_of(some, sizes.stamp_bytes, sizes.seed):
            kafka_io.send(producer, TOPIC, packet)
            total += len(packet)
    producer.flush(300)
    return total / float(alerts.num_rows)
