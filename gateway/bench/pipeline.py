"""``mmgateway bench pipeline``: alerts a second from Kafka to candidates, beside Spark alone.

A Kafka and a Spark of the bench's own; all jobs read the same topic from its beginning, with a new
checkpoint each time, and take turns. Ours is the live matcher with its archive and its
transactions. Counted is what comes after the first batch, in which queries start.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from broker import kafka_io, stream
from broker.archive import AlertArchive
from broker.carried import Carried
from broker.codec import RegionRecord
from broker.commit import Committed, Committer
from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.kafka import EmbeddedKafka
from broker.embedded.spark import spark_session
from broker.engine import Engine
from broker.kafka_io import PacketReader
from broker.packets import native_row
from broker.sources import Sources, raw_rows, slim_columns
from broker.stream import LiveMatcher, packet_details
from broker.surveys import NATIVE_SCHEMAS, normalise
from broker.writer import Writer
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.cuts import apply_cuts
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import Circle, Region
from crossmatch.shapes import shape_of
from crossmatch.sky import ipix29
from crossmatch.times import jd_from_datetime
from gateway.bench import alertpackets, sky30
from gateway.bench.late_region import DISTANCE, late_of
from gateway.bench.measure import OURS, Row, row_of
from gateway.config import load
from gateway.night import packets as ztf_packets
from gateway.night.maps import Arc, multi_order_map
from gateway.topicspecs import topic_specs

BENCH = "pipeline"
PACKAGES = ("mmgateway", "pyspark", "pyarrow", "deltalake", "confluent-kafka", "fastavro")
TOPIC = "alerts.bench"
_NIGHT = 10
_PATIENCE_S = 900.0
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


@dataclass(slots=True)
class _Run:
    """Ends of batches and the alerts they took in."""

    batches: list[tuple[float, int]] = field(default_factory=list)
    matches: Matches = field(default_factory=set)

    def note(self, alerts: int) -> None:
        """A batch has ended."""
        self.batches.append((time.monotonic(), alerts))

    @property
    def alerts(self) -> int:
        """All that was taken in."""
        return sum(alerts for _, alerts in self.batches)

    @property
    def per_s(self) -> float:
        """Alerts a second after the first batch."""
        first, last = self.batches[0], self.batches[-1]
        return (self.alerts - first[1]) / (last[0] - first[0])


def cases(work: Path, sizes: Sizes, tell: Tell = lambda _: None) -> list[Row]:
    """Rows of the matcher and of Spark jobs on the same topic.

    Parameters
    ----------
    work : Path
        For Kafka's data, checkpoints and archives: twice the size of all packets.

    Raises
    ------
    ServiceError
        If Kafka or Spark does not start, or a query stops.
    """
    java = find_java(os.environ)
    tell(f"making {sizes.packets} packets and {sizes.regions} regions")
    alerts = sky30.night(
        sky30.sources(sizes.packets, sizes.seed), _NIGHT, sizes.packets, sizes.seed
    )
    late = regions(sizes.regions, sizes.seed)
    with EmbeddedKafka(work / "kafka", 0, 0, java) as kafka:
        mean = _send(kafka.bootstrap, alerts, sizes)
        spark = spark_session(java=java, jars=fetch_jars(SPARK), local_dir=work / "spark")
        bench = _Bench(spark, kafka.bootstrap, work, sizes, late)
        try:
            return _rows(bench, alerts, mean, sizes, tell)
        finally:
            spark.stop()


def _rows(bench: _Bench, alerts: pa.Table, mean: float, sizes: Sizes, tell: Tell) -> list[Row]:
    subjects: dict[str, Callable[[], _Run]] = {
        OURS: bench.matching,
        "Spark, reading and decoding the prefix": bench.decoding,
        "Spark, counting bytes": bench.counting,
    }
    runs: dict[str, list[_Run]] = {name: [] for name in subjects}
    for number in range(sizes.runs + 1):
        for name, run in subjects.items():
            tell(f"run {number} of {sizes.runs}: {name}")
            done = run()
            if number:
                runs[name].append(done)
    tell(f"one region after another, {sizes.plain} packets")
    plain, expected, seconds = bench.one_after_another(alerts)
    equal = all(_of(run.matches, plain) == expected for run in runs[OURS])
    per_s = {name: [run.per_s for run in mine] for name, mine in runs.items()}
    rows = [
        _row(name, per_s[name], per_s[OURS], mean, sizes, equal if name == OURS else None)
        for name in subjects
    ]
    ours = statistics.median(1 / rate for rate in per_s[OURS])
    rows.append(
        row_of(
            BENCH,
            _case(mean, sizes),
            "fastavro, one region after another",
            1,
            [seconds / sizes.plain],
            ours,
            equal=equal,
            compared="whole records, cuts, then every region in turn, without Spark and Kafka",
        )
    )
    return rows


def _of(matches: Matches, objects: set[str]) -> Matches:
    return {match for match in matches if match[1] in objects}


def _case(mean: float, sizes: Sizes) -> str:
    return f"{mean / 1e3:.0f} kB, {sizes.regions} regions"


def _row(
    name: str,
    rates: Sequence[float],
    ours: Sequence[float],
    mean: float,
    sizes: Sizes,
    equal: bool | None,
) -> Row:
    parts = sorted(mine / rate for rate, mine in zip(rates, ours, strict=True))
    seconds = [1 / rate for rate in rates]
    return row_of(
        BENCH,
        _case(mean, sizes),
        name,
        1,
        seconds,
        statistics.median(1 / rate for rate in ours),
        equal=equal,
        compared=(
            f"{sizes.packets} alerts of {mean / 1e3:.0f} kB, {sizes.batch} a batch; time of one,"
            " after the first batch"
        ),
        facts={
            "alerts_per_s": round(statistics.median(rates)),
            "MB_per_s": round(statistics.median(rates) * mean / 1e6, 1),
            "our_part_of_its_rate": round(statistics.median(parts), 3),
            "least": round(parts[0], 3),
            "most": round(parts[-1], 3),
        },
    )


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
        night = _NIGHT - int(rng.integers(1, 6))
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


class _Bench:
    """One Spark on one topic."""

    def __init__(
        self, spark: Any, bootstrap: str, work: Path, sizes: Sizes, late: Sequence[RegionRecord]
    ) -> None:
        self._spark, self._bootstrap, self._work, self._sizes = spark, bootstrap, work, sizes
        self._late = late
        self._cuts = load(None, environ={}).cuts
        self._sources = Sources(
            bootstrap=bootstrap,
            properties={},
            ztf=(TOPIC,),
            lsst=(),
            max_offsets_per_trigger=sizes.batch,
        )
        self._number = 0

    def matching(self) -> _Run:
        """The live matcher: decoding, archive, cuts, join, candidates, one transaction a batch."""
        folder, run = self._new_folder(), _Run()
        archive = AlertArchive(folder / "alerts")
        reader = PacketReader(self._bootstrap, {})
        carried = Carried(self._cuts, reader.fetch)
        engine = Engine(
            chains=DEFAULT_CHAINS,
            cuts=self._cuts,
            versions=Versions(cuts="bench", code="bench"),
            archive=archive,
            now=lambda: datetime.now(UTC),
            packets=packet_details(carried.fetch, self._sources.survey, {}),
        )
        engine.restore(self._late, {})
        writer = Writer(self._bootstrap, {})
        writer.start()

        def committed(done: Committed) -> None:
            run.note(done.outcome.ledger.get("received", 0))

        matcher = LiveMatcher(
            engine=engine,
            committer=Committer(engine, writer, None, committed),
            sources=self._sources,
            new_reader=lambda: PacketReader(self._bootstrap, {}),
            read_region=_none,
            query_id=lambda: stream.checkpoint_id(folder / "checkpoint"),
            now=lambda: datetime.now(UTC),
            carried=carried,
        )
        self._play(matcher.take, folder, run)
        matcher.close()
        run.matches = {(key.event_id, key.object_id) for key in engine.groups}
        reader.close()
        return run

    def decoding(self) -> _Run:
        """The same columns decoded in the JVM, and dropped there."""
        columns = slim_columns(self._sources, {"ztf": (ztf_packets.schema_json(),), "lsst": ()})

        def take(frame: Any, _batch_id: int) -> None:
            frame.select(*columns).write.format("noop").mode("append").save()

        return self._counted(take)

    def counting(self) -> _Run:
        """Reading alone."""

        def take(frame: Any, _batch_id: int) -> None:
            frame.selectExpr("sum(length(value))").collect()

        return self._counted(take)

    def _counted(self, take: Callable[[Any, int], None]) -> _Run:
        folder, run = self._new_folder(), _Run()

        def note(frame: Any, batch_id: int) -> None:
            take(frame, batch_id)
            # Each batch is full but for the last one, whatever the partitions have.
            left = self._sizes.packets - run.alerts
            run.note(min(self._sizes.batch, left))

        self._play(note, folder, run)
        return run

    def _play(self, take: Callable[[Any, int], None], folder: Path, run: _Run) -> None:
        query = (
            raw_rows(self._spark, self._sources)
            .writeStream.foreachBatch(take)
            .option("checkpointLocation", str(folder / "checkpoint"))
            .start()
        )
        until = time.monotonic() + _PATIENCE_S
        while run.alerts < self._sizes.packets:
            if not query.isActive:
                raise ServiceError(f"the query ended: {str(query.exception())[:500]}")
            if time.monotonic() > until:
                raise ServiceError(f"a query did not end within {_PATIENCE_S:.0f} s")
            time.sleep(0.01)
        query.stop()

    def _new_folder(self) -> Path:
        self._number += 1
        folder = self._work / f"run-{self._number}"
        folder.mkdir()
        return folder

    def one_after_another(self, alerts: pa.Table) -> tuple[set[str], Matches, float]:
        """What brokers do today: objects that were looked at, their matches, and the seconds."""
        few = alerts.slice(0, self._sizes.plain)
        packets = alertpackets.ztf_of(few, self._sizes.stamp_bytes, self._sizes.seed)
        held = [record.region for record in self._late if record.region is not None]
        shapes = [(region, shape_of(region.localization)) for region in held]
        begin = time.perf_counter()
        found: Matches = set()
        for packet in packets:
            found |= set(_plain_matches(packet, shapes, self._cuts))
        seconds = time.perf_counter() - begin
        # An object may be seen once more behind the few.
        later = set(alerts.slice(self._sizes.plain)["object_id"].to_pylist())
        looked = set(few["object_id"].to_pylist()) - later
        return looked, _of(found, looked), seconds


def _plain_matches(
    packet: bytes, shapes: Sequence[tuple[Region, Any]], cuts: Any
) -> Iterator[tuple[str, str]]:
    record: Any = next(fastavro.reader(io.BytesIO(packet)))
    row = native_row(record, "ztf") | {"topic": TOPIC, "partition": 0, "offset": 0}
    table = pa.Table.from_pylist([row], schema=NATIVE_SCHEMAS["ztf"])
    alerts = normalise("ztf", table).alerts
    if not apply_cuts(alerts, cuts).keep.any():
        return
    ra, dec, time_jd = (alerts[name].to_numpy() for name in ("ra_deg", "dec_deg", "time_jd"))
    pixel = ipix29(ra, dec)
    for region, shape in shapes:
        since = time_jd[0] - jd_from_datetime(region.trigger_time)
        _, level = shape.at(ra, dec, pixel)
        timely = region.window.start_days < since <= region.window.end_days
        if timely and level[0] <= region.level:
            yield region.event_id, record["objectId"]


def _none(_: bytes) -> RegionRecord:
    raise Rejected("no_region", "the bench has no topic of regions")


def _send(bootstrap: str, alerts: pa.Table, sizes: Sizes) -> float:
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
