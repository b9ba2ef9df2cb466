"""``mmgateway bench packets``: what it costs to keep every packet (``[archive] packets = "all"``).

A Kafka and a Spark of the bench's own. The topic is copied by `broker.rawquery` alone; then it is
read and decoded as the matching does it (slim columns, made in the JVM, to Arrow in the driver),
alone and while the copying runs.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from broker import kafka_io
from broker.decode import writer_schema
from broker.diskguard import Limits
from broker.embedded.java import find_java
from broker.embedded.kafka import EmbeddedKafka
from broker.packetstore import PacketStore
from broker.rawquery import RawReport, RawSettings, start_raw_query
from broker.sources import Sources, raw_rows, slim_columns
from broker.writers import MAX_LEARNED
from crossmatch.errors import ConfigError, ServiceError
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.own import own_spark
from gateway.night import packets as ztf
from gateway.topicspecs import topic_specs

BENCH = "packets"
PACKAGES = ("mmgateway", "pyspark", "deltalake", "pyarrow")
TOPIC = "alerts.bench"
ZTF_NIGHT, LSST_NIGHT = 300_000, 10_000_000
_STAMP_BYTES = 22_000
_BESIDE = f"{OURS}, beside the copying"
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured; ``folder`` has ZTF packets (``*.avro``) in place of generated ones."""

    packets: int = 10_000
    batch: int = 2_500
    tasks: int = 1
    runs: int = 3
    seed: int = 1
    folder: Path | None = None


def cases(work: Path, sizes: Sizes, tell: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Rows of the three cases; ``work`` takes Kafka's data and the packets, and some GB.

    Raises
    ------
    ConfigError
        If the folder has no packets.
    ServiceError
        If Kafka or Spark does not start, or a query stops.
    """
    samples = real(sizes.folder) if sizes.folder else made(200, sizes.seed)
    java = find_java(os.environ)
    with EmbeddedKafka(work / "kafka", 0, 0, java) as kafka:
        tell(f"sending {sizes.packets} packets")
        sent = _send(kafka.bootstrap, samples, sizes.packets)
        spark = own_spark(java, work)
        sources = Sources(
            bootstrap=kafka.bootstrap,
            properties={},
            ztf=(TOPIC,),
            lsst=(),
            max_offsets_per_trigger=sizes.batch,
        )
        bench = _Bench(spark, sources, work, sizes, sent, _schemas(samples))
        try:
            bench.warm()
            copied, alone, both = [], [], []
            for number in range(sizes.runs):
                tell(f"run {number + 1} of {sizes.runs}: copying packets, alone")
                copied.append(bench.copying())
                tell("reading and decoding, alone")
                alone.append(bench.decoding())
                tell("reading and decoding while packets are copied")
                with bench.copying_beside() as reports:
                    both.append(bench.decoding(reports))
        finally:
            spark.stop()
    return [_of_runs(copied), _of_runs(alone), _beside(_of_runs(alone), _of_runs(both))]


def _of_runs(rows: Sequence[Row]) -> Row:
    """The row of several runs, with the facts of the middle one."""
    seconds = [row.seconds for row in rows]
    middle = sorted(rows, key=lambda row: row.seconds)[len(rows) // 2]
    return replace(
        row_of(
            middle.bench,
            middle.case,
            middle.subject,
            middle.items,
            seconds,
            statistics.median(seconds),
            equal=None if middle.equal is None else all(row.equal for row in rows),
            compared=middle.compared,
        ),
        facts=middle.facts,
    )


def _beside(alone: Row, both: Row) -> Row:
    return replace(
        both,
        subject=_BESIDE,
        ratio_to_ours=both.seconds / alone.seconds,
        facts=dict(both.facts) | {"rate_kept": round(alone.seconds / both.seconds, 2)},
    )


class _Bench:
    """One Spark on one topic."""

    def __init__(
        self,
        spark: Any,
        sources: Sources,
        work: Path,
        sizes: Sizes,
        sent_bytes: int,
        schemas: Sequence[str],
    ) -> None:
        self._spark, self._sources, self._work, self._sizes = spark, sources, work, sizes
        self._sent, self._mean = sent_bytes, sent_bytes / sizes.packets
        self._schemas = schemas
        self._runs = 0

    def warm(self) -> None:
        """Both queries once, so that the Java machine has compiled what is measured."""
        self.copying()
        self.decoding()

    def copying(self) -> Row:
        """The query of mode "all" from the beginning of the topic to its end."""
        with self.copying_beside() as reports:
            cpu = _cpu_seconds(self._spark)
            began = time.monotonic()
            _wait(lambda: sum(r.packets for _, r in reports) >= self._sizes.packets, self._alive)
            seconds, used = time.monotonic() - began, _cpu_seconds(self._spark) - cpu
        equal = in_store(self._store) == (self._sizes.packets, self._sent)
        stored = sum(r.bytes for _, r in reports) / self._sizes.packets
        gigabytes = self._sizes.packets * self._mean / 1e9
        return row_of(
            BENCH,
            "copying",
            OURS,
            self._sizes.packets,
            [seconds],
            seconds,
            equal=equal,
            compared=(
                f"packets of {self._mean / 1e3:.0f} kB from Kafka to Parquet, zstd,"
                f" {self._sizes.tasks} task(s) at a time; nights of {ZTF_NIGHT:,} (ZTF) and"
                f" {LSST_NIGHT:,} alerts (LSST) of that size; equal: number and bytes of what can"
                " be read again, to what was sent"
            ),
            facts={
                "alerts_per_s": round(self._sizes.packets / seconds),
                "MB_per_s": round(gigabytes * 1e3 / seconds, 1),
                "java_cpu_s_per_GB": round(used / gigabytes, 1),
                "stored_part": round(stored / self._mean, 3),
                "GB_a_night_ztf": round(stored * ZTF_NIGHT / 1e9, 1),
                "GB_a_night_lsst": round(stored * LSST_NIGHT / 1e9),
            },
        )

    @contextmanager
    def copying_beside(self) -> Iterator[list[tuple[float, RawReport]]]:
        """Run the query of mode "all"; gives its reports, with their times."""
        self._runs += 1
        reports: list[tuple[float, RawReport]] = []
        self._store = PacketStore(self._work / f"packets-{self._runs}", Limits(None, 0.02))
        query = start_raw_query(
            self._spark,
            self._sources,
            self._store,
            self._work / f"checkpoint-packets-{self._runs}",
            settings=RawSettings(0.0, self._sizes.batch, self._sizes.tasks),
            on_batch=lambda report: reports.append((time.monotonic(), report)),
        )
        self._alive = query.alive
        try:
            yield reports
        finally:
            query.stop()

    def decoding(self, reports: Sequence[tuple[float, RawReport]] = ()) -> Row:
        """Read and decode the topic as the matching does; how many packets went by beside it."""
        self._runs += 1
        columns = slim_columns(self._sources, {"ztf": self._schemas, "lsst": ()})
        rows = 0

        def take(frame: Any, _batch_id: int) -> None:
            nonlocal rows
            rows += frame.select(*columns).toArrow().num_rows

        began = time.monotonic()
        query = (
            raw_rows(self._spark, self._sources)
            .writeStream.foreachBatch(take)
            .option("checkpointLocation", str(self._work / f"checkpoint-{self._runs}"))
            .start()
        )
        _wait(lambda: rows >= self._sizes.packets, lambda: _active(query))
        seconds = time.monotonic() - began
        query.stop()
        beside = sum(report.packets for at, report in reports if at >= began)
        return row_of(
            BENCH,
            "matching",
            OURS,
            self._sizes.packets,
            [seconds],
            seconds,
            equal=None,
            compared=(
                "reading, decoding and handing over as the matching does, which takes most of"
                " its time"
            ),
            facts={
                "alerts_per_s": round(self._sizes.packets / seconds),
                "copied_beside_per_s": round(beside / seconds),
            },
        )


def in_store(store: PacketStore) -> tuple[int, int]:
    """Number and bytes of the packets of a store, all of them read."""
    sizes = [len(p.data) for night in store.nights() for p in store.packets(night.night)]
    return len(sizes), sum(sizes)


def _schemas(samples: Sequence[bytes]) -> list[str]:
    """Writers' schemas, as the matching learns them: without them the JVM reads nothing."""
    texts = {writer_schema(packet) for packet in samples}
    return sorted(text for text in texts if text is not None)[:MAX_LEARNED]


def _active(query: Any) -> None:
    if not query.isActive:
        raise ServiceError(f"the query that decodes ended: {str(query.exception())[:300]}")


def _wait(done: Callable[[], bool], alive: Callable[[], None]) -> None:
    until = time.monotonic() + _PATIENCE
    while not done():
        alive()
        if time.monotonic() > until:
            raise ServiceError(f"a query did not end within {_PATIENCE:.0f} s; try fewer packets")
        time.sleep(0.02)


def _cpu_seconds(spark: Any) -> float:
    """Processor time that the Java machine of Spark has used; 0 where the system does not tell."""
    pid = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def _send(bootstrap: str, samples: Sequence[bytes], count: int) -> int:
    """Fill the topic; how many bytes were sent."""
    kafka_io.ensure_topics(bootstrap, {}, topic_specs([TOPIC]))
    # One that compresses would measure its own decompression.
    producer = kafka_io.producer(bootstrap, {}, compression_type="none")
    size = 0
    for number in range(count):
        value = samples[number % len(samples)]
        kafka_io.send(producer, TOPIC, value, str(number).encode())
        size += len(value)
    producer.flush(120)
    return size


def real(folder: Path) -> list[bytes]:
    """Packets below ``folder`` (``*.avro``), without files that have no cut-outs or many alerts."""
    packets = [path.read_bytes() for path in sorted(folder.rglob("*.avro"))]
    packets = [packet for packet in packets if 50_000 < len(packet) < 120_000]
    if not packets:
        raise ConfigError(f"{folder}: no files *.avro of 50 to 120 kB are there")
    return packets


def made(count: int, seed: int) -> list[bytes]:
    """Packets of about 82 kB in ZTF's layout; cut-outs of random bytes, which do not shrink.

    They compress otherwise than real ones: for what a night takes, measure with those.
    """
    rng = np.random.default_rng(seed)
    schema = fastavro.parse_schema(json.loads(ztf.schema_json()))
    fields = {field["name"]: field["type"] for field in json.loads(ztf.schema_json())["fields"]}
    found = []
    for number in range(count):
        candidate = _filled(fields["candidate"], rng)
        history = [_filled(fields["prv_candidates"][1]["items"], rng) for _ in range(25)]
        stamps = {
            name: {"fileName": f"{name}.fits.gz", "stampData": rng.bytes(_STAMP_BYTES)}
            for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference")
        }
        record = {
            "schemavsn": "4.02",
            "publisher": "bench",
            "objectId": f"ZTF26{number:07d}",
            "candid": number,
            "candidate": candidate,
            "prv_candidates": history,
            **stamps,
        }
        buffer = io.BytesIO()
        fastavro.writer(buffer, schema, [record], sync_marker=ztf.SYNC)
        found.append(buffer.getvalue())
    return found


def _filled(schema: Any, rng: np.random.Generator) -> dict[str, Any]:
    """A record with a random value in every field."""
    values: dict[str, Any] = {}
    for field in schema["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kind = next(k for k in kinds if k != "null")
        if kind in ("int", "long"):
            values[field["name"]] = int(rng.integers(0, 100_000))
        elif kind in ("float", "double"):
            values[field["name"]] = float(np.float32(rng.uniform(1.0, 60.0)))
        elif kind == "string":
            values[field["name"]] = "t"
        else:
            values[field["name"]] = None
    return values
