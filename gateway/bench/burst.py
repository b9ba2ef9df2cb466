"""``mmgateway bench burst``: a night's alerts at once, through everything, and its memory.

A gateway of the bench's own with hundreds of circles in force. All alerts are sent as fast as
Kafka takes them; it is over when the ledger has all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from broker import kafka_io, topics
from broker.regioncodec import encode_region
from crossmatch.errors import ServiceError
from gateway import services
from gateway.bench import alertpackets, own, sky30
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.pipeline_world import NIGHT, regions

BENCH = "burst"
PACKAGES = ("mmgateway", "pyspark", "pyarrow", "deltalake", "confluent-kafka")
ALERTS = "alerts.burst"
_PATIENCE_S = 900.0
_AT_A_TIME = 1000

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is sent; ``stamp_bytes`` is the size of each of three cut-outs."""

    alerts: int = 100_000
    stamp_bytes: int = 24_000
    regions: int = 800
    seed: int = 1


def cases(folder: Path, sizes: Sizes, tell: Tell = lambda _: None) -> list[Row]:
    """The row of a burst.

    Parameters
    ----------
    folder : Path
        For the state of the gateway, which is stopped again: a bit more than all packets.

    Raises
    ------
    ServiceError
        If the gateway does not start, or not all alerts are taken in.
    """
    tell("starting Kafka and the matching")
    with own.running(folder, ["kafka", "match"], alerts=[ALERTS]) as gateway:
        producer = kafka_io.producer(gateway.bootstrap, {}, compression_type="none")
        for record in _circles(sizes):
            kafka_io.send(producer, topics.REGION_LOG, record)
        producer.flush(30)
        watch = _Watch(gateway)
        tell(f"{sizes.alerts:,} alerts")
        began, size = time.monotonic(), 0
        for packet in _packets(sizes):
            kafka_io.send(producer, ALERTS, packet)
            size += len(packet)
            watch.look()
        producer.flush(60)
        sent = time.monotonic() - began
        watch.wait(sizes.alerts, tell)
        seconds = time.monotonic() - began
    row = row_of(
        BENCH,
        f"{size / sizes.alerts / 1e3:.0f} kB, {sizes.regions} circles",
        OURS,
        sizes.alerts,
        [seconds],
        seconds,
        equal=None,
        compared=(
            "alerts sent as fast as Kafka takes them, by a process that makes them meanwhile,"
            " until the ledger has all; memory of all processes of the gateway, and the most at"
            " any moment, twice a second"
        ),
        facts={
            "sent_in_s": round(sent, 1),
            "statements": watch.counts.get("statements", 0),
            **{f"peak_MB_{name}": round(peak) for name, peak in sorted(watch.peaks.items())},
        },
    )
    return [row]


def _circles(sizes: Sizes) -> Iterator[bytes]:
    """Messages of regions; maps are files, and left out."""
    wanted = -(-sizes.regions * 5 // 4)
    for record in regions(wanted, sizes.seed):
        if record.region is not None and record.region.messenger == "grb":
            yield encode_region(record.region)


def _packets(sizes: Sizes) -> Iterator[bytes]:
    sources = sky30.sources(sizes.alerts, sizes.seed)
    night = sky30.night(sources, NIGHT, sizes.alerts, sizes.seed)
    for begin in range(0, night.num_rows, _AT_A_TIME):
        some = night.slice(begin, _AT_A_TIME)
        yield from alertpackets.ztf_of(some, sizes.stamp_bytes, sizes.seed)


class _Watch:
    """Memory of the services, and what the ledger has."""

    def __init__(self, gateway: own.Own) -> None:
        self.peaks: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._config = gateway.config
        self._ledger = kafka_io.consumer(gateway.bootstrap, {}, "mmgateway-bench")
        self._ledger.subscribe([topics.LEDGER])
        self._next = 0.0

    def look(self) -> None:
        """Note what the services take, if that was not just done."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.5
        taken = {s.service: s.memory_mb or 0.0 for s in services.status(self._config)}
        # The bench itself makes the packets, and is no part of the gateway.
        taken["all"] = sum(taken.values())
        for name, now in taken.items():
            if now:
                self.peaks[name] = max(self.peaks.get(name, 0.0), now)

    def wait(self, alerts: int, tell: Tell) -> None:
        """Until the ledger has so many alerts."""
        until = time.monotonic() + _PATIENCE_S
        said = time.monotonic()
        while self.counts.get("received", 0) < alerts:
            if time.monotonic() > until:
                raise ServiceError(f"{self.counts} after {_PATIENCE_S:.0f} s")
            if time.monotonic() > said + 10:
                said = time.monotonic()
                tell(f"{self.counts.get('received', 0):,} taken in")
            self.look()
            for message in self._ledger.consume(100, timeout=0.1):
                value = message.value()
                if message.error() is None and value is not None:
                    for name, count in json.loads(value)["counts"].items():
                        self.counts[name] = self.counts.get(name, 0) + count
        self._ledger.close()
