"""What ``mmgateway bench pipeline`` measures with: sizes, regions, and the packets on the topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from broker import kafka_io
from broker.regioncodec import RegionRecord
from broker.told import Lookup, no_lookup
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.model import Circle
from gateway.bench import alertpackets, lsstpackets
from gateway.bench.late_region import DISTANCE, late_of
from gateway.lookup import local_lookup
from gateway.night.maps import Arc, multi_order_map
from gateway.topicspecs import topic_specs

TOPIC = "alerts.bench"
CATALOGS = (Kind.galaxies, Kind.stars, Kind.agn, Kind.variables, Kind.transients)
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
    batch; ``plain`` those that the job gets which tries one region after another. ``survey`` is
    whose packets they are; without cut-outs LSST's have 3 kB and ZTF's 8. ``sources`` are those of
    a catalogue of galaxies in which matches are looked up, and in four of other kinds with a
    tenth each; without sources they are not.
    """

    packets: int = 100_000
    stamp_bytes: int = 24_000
    regions: int = 1000
    batch: int = 20_000
    runs: int = 7
    plain: int = 200
    survey: Literal["ztf", "lsst"] = "ztf"
    sources: int = 10_000_000
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


def named(alerts: pa.Table, survey: str) -> pa.Table:
    """Alerts whose objects have the names that they have in packets of the survey."""
    if survey == "ztf":
        return alerts
    numbers = alerts["object_id"].combine_chunks().dictionary_encode().indices
    names = pc.cast(pc.add(pc.cast(numbers, pa.int64()), 1), pa.string())
    return alerts.set_column(alerts.column_names.index("object_id"), "object_id", names)


def packets_of(alerts: pa.Table, sizes: Sizes, cuts: Cuts) -> list[bytes]:
    """Packets of alerts from :func:`named`; as many pass the cuts, whatever the survey."""
    if sizes.survey == "ztf":
        return alertpackets.ztf_of(alerts, sizes.stamp_bytes, sizes.seed)
    names = ("alert_id", "object_id", "time_jd", "ra_deg", "dec_deg", "mag")
    columns = [alerts[name].to_numpy() for name in names]
    columns[1] = columns[1].astype(np.int64) - 1
    # LSST's packets have none of the fields by which most of ZTF's alerts are cut.
    reliability = np.where(apply_cuts(alerts, cuts).keep, 0.95, 0.05)
    made = alertpackets.Alerts(*columns)
    return lsstpackets.lsst(made, sizes.stamp_bytes, sizes.seed, reliability)


def send(bootstrap: str, alerts: pa.Table, sizes: Sizes, cuts: Cuts) -> float:
    """Fill the topic; the mean size of a packet, in bytes."""
    kafka_io.ensure_topics(bootstrap, {}, topic_specs([TOPIC]))
    # One that compresses would measure its own decompression.
    producer = kafka_io.producer(bootstrap, {}, compression_type="none")
    total = 0
    for at in range(0, alerts.num_rows, 1000):
        for packet in packets_of(alerts.slice(at, 1000), sizes, cuts):
            kafka_io.send(producer, TOPIC, packet)
            total += len(packet)
    producer.flush(300)
    return total / float(alerts.num_rows)


def lookup_of(work: Path, sizes: Sizes) -> Lookup:
    """Look-up in local catalogues of five kinds, evenly on the sky, added as others are."""
    if not sizes.sources:
        return no_lookup
    rng = np.random.default_rng([sizes.seed, 8])
    store = Store(work / "catalogs")
    for kind in CATALOGS:
        n = sizes.sources if kind is Kind.galaxies else max(1, sizes.sources // 10)
        path = work / f"{kind}.parquet"
        pq.write_table(_sources(kind, n, rng), path)
        store.add(path, Wanted(name=kind.value, kind=kind), datetime.now(UTC))
        path.unlink()
    return local_lookup([kind.value for kind in CATALOGS], store)[0]


def _sources(kind: Kind, n: int, rng: np.random.Generator) -> pa.Table:
    columns = {
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        "source_id": np.arange(n),
        "mag": rng.uniform(12, 21, n),
    }
    if kind is Kind.galaxies:
        columns["redshift"] = rng.uniform(0.01, 0.4, n)
    elif kind is Kind.stars:
        columns |= {"parallax": rng.exponential(1.0, n), "parallax_error": np.full(n, 0.1)}
        columns |= {"pmra": rng.normal(0, 5, n), "pmdec": rng.normal(0, 5, n)}
        columns |= {"pmra_error": np.full(n, 0.1), "pmdec_error": np.full(n, 0.1)}
    return pa.table(columns)
