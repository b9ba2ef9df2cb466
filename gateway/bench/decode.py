"""``mmgateway bench decode``: from packets to the columns that matching needs, beside peers.

Ours are the very columns of the live query, made in the JVM of a Spark with one core, without
Kafka: the packets lie in the JVM as they lie in Python for the others. Peers read whole records.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as sf

from broker.decode import JVM, writer_schema
from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.spark import spark_session
from broker.lsstschemas import LsstSchemas
from broker.sources import Sources, slim_columns
from broker.surveys import NATIVE_SCHEMAS
from crossmatch.errors import ServiceError
from gateway.bench import decode_peers as peers
from gateway.bench import lsstpackets
from gateway.bench.alertpackets import Alerts, ztf
from gateway.bench.measure import OURS, Row, row_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

BENCH = "decode"
PACKAGES = ("mmgateway", "pyspark", "fastavro", "confluent-kafka", "pyarrow", "numpy")
CASES = (("ztf", 82), ("lsst", 3), ("lsst", 47), ("lsst", 82))
"""Survey and size of a packet in kB."""
_DISTINCT_BYTES = 8_000_000
_NIGHT_JD = 2461042.6
_FIRST_ID = 170_000_000_000_000_000
_TOPIC = {"ztf": "alerts.ztf", "lsst": "alerts.lsst"}
_VARIABLE = "mmgateway_bench_packets"
_COMPARED = (
    "packets of {kb} kB, one core each (local[1], one processor for the Java machine): ours to the"
    " {columns} columns that matching needs, peers to whole records. All read {distinct:,} distinct"
    " packets over and over, ours {many:,} in all, Spark's from_avro {few:,}, others in Python"
    " {by_peers:,}; Spark's fixed cost of a job, about a tenth of a second, is in each of its"
    " times. Equal: all those columns of the distinct packets"
)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: packets a run of ours and of the peers, sizes of packets in kB."""

    packets: int = 1_000_000
    by_peers: int = 1_000
    kilobytes: tuple[int, ...] = ()
    runs: int = 5
    seed: int = 1

    @property
    def by_from_avro(self) -> int:
        """Packets a run of Spark's ``from_avro``.

        A job of Spark takes a tenth of a second before the first packet. That is a tenth of what
        ours takes for a million; of 200,000 whole records it is a hundredth.
        """
        return max(self.by_peers, self.packets // 5)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What does some packets, and how many."""

    name: str
    run: Callable[[], object]
    items: int
    equal: bool | None


def cases(work: Path, sizes: Sizes, tell: Tell = lambda _: None) -> list[Row]:
    """Rows of all cases; ``work`` takes Spark's scratch files.

    Raises
    ------
    ServiceError
        If Spark does not start, or ours does not read what it is to read.
    """
    wanted = [c for c in CASES if not sizes.kilobytes or c[1] in sizes.kilobytes]
    rows: list[Row] = []
    with _spark(work) as spark:
        for survey, kilobytes in wanted:
            tell(f"{survey}, {kilobytes} kB")
            rows += _Case(spark, survey, kilobytes, sizes, tell).rows()
    return rows


@contextmanager
def _spark(work: Path) -> Iterator[SparkSession]:
    spark = spark_session(
        java=find_java(os.environ),
        jars=fetch_jars(SPARK),
        local_dir=work / "spark",
        master="local[1]",
        driver_memory="3g",
        extra={"spark.driver.extraJavaOptions": "-XX:ActiveProcessorCount=1"},
    )
    try:
        yield spark
    finally:
        spark.stop()


def made(survey: str, kilobytes: int, count: int, seed: int) -> list[bytes]:
    """Packets of a survey of about so many kB, each with another place and number.

    A small packet has no cut-outs; one of ZTF's has always its header, of 8 kB.
    """
    rng = np.random.default_rng(seed)
    alerts = Alerts(
        _FIRST_ID + np.arange(count),
        np.arange(count),
        _NIGHT_JD + 0.3 * rng.random(count),
        360 * rng.random(count),
        np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
        rng.uniform(17, 21, count),
    )
    make = ztf if survey == "ztf" else lsstpackets.lsst
    if kilobytes < 10:
        return make(alerts, 0, seed)
    least = len(make(alerts, 1, seed)[0])
    return make(alerts, (1000 * kilobytes - least) // 3, seed)


class _Case:
    """Packets of one survey and size, and all that read them."""

    def __init__(
        self, spark: SparkSession, survey: str, kilobytes: int, sizes: Sizes, tell: Tell
    ) -> None:
        self._spark, self._survey, self._sizes, self._tell = spark, survey, sizes, tell
        self._kilobytes = kilobytes
        count = max(10, min(sizes.by_peers, _DISTINCT_BYTES // (1000 * kilobytes)))
        self._packets = made(survey, kilobytes, count, sizes.seed)
        self._schema = (
            writer_schema(self._packets[0]) if survey == "ztf" else lsstpackets.schema_json()
        ) or ""
        self._columns = self._ours()
        self._hold()

    def rows(self) -> list[Row]:
        """Ours first; all take turns, after a run of each that is not counted."""
        expected = self._expected()
        subjects = [*self._by_spark(expected), *self._by_python(expected)]
        taken: dict[str, list[float]] = {s.name: [] for s in subjects}
        for number in range(self._sizes.runs + 1):
            for subject in subjects:
                began = time.perf_counter()
                subject.run()
                if number:
                    taken[subject.name].append(time.perf_counter() - began)
        each = statistics.median(taken[OURS]) / subjects[0].items
        compared = _COMPARED.format(
            kb=self._kilobytes,
            columns=len(self._names()),
            distinct=len(self._packets),
            many=self._sizes.packets,
            few=self._sizes.by_from_avro,
            by_peers=self._sizes.by_peers,
        )
        return [
            row_of(
                BENCH,
                f"{self._survey} {self._kilobytes} kB",
                s.name,
                s.items,
                taken[s.name],
                each * s.items,
                equal=s.equal,
                compared=compared,
                facts={"columns": len(self._names())} if s.name == OURS else None,
            )
            for s in subjects
        ]

    def _ours(self) -> list[Column]:
        """The columns of the live query, once it has learned the schema."""
        known = {lsstpackets.SCHEMA_ID: self._schema} if self._survey == "lsst" else {}
        sources = Sources(
            bootstrap="",
            properties={},
            ztf=(_TOPIC["ztf"],) if self._survey == "ztf" else (),
            lsst=(_TOPIC["lsst"],) if self._survey == "lsst" else (),
            lsst_schemas=LsstSchemas(known=known),
        )
        learned = {"ztf": (self._schema,) if self._survey == "ztf" else (), "lsst": ()}
        return slim_columns(sources, learned)

    def _hold(self) -> None:
        """Put the packets into the JVM: a variable of SQL is there as it is, never copied."""
        rows = [(bytearray(packet),) for packet in self._packets]
        self._spark.createDataFrame(rows, "value binary").createOrReplaceTempView(_VARIABLE)
        self._spark.sql(f"DECLARE OR REPLACE VARIABLE {_VARIABLE} ARRAY<BINARY>")
        self._spark.sql(
            f"SET VAR {_VARIABLE} = (SELECT collect_list(value) FROM {_VARIABLE})"
        ).collect()

    def _frame(self, count: int) -> DataFrame:
        """As the query's raw rows: the packets in turn."""
        distinct = len(self._packets)
        # A slice of all is an array of Java objects: taking one from it copies nothing.
        value = f"element_at(slice({_VARIABLE}, 1, {distinct}), CAST(id % {distinct} AS INT) + 1)"
        return self._spark.range(0, count, 1, 1).select(
            sf.lit(_TOPIC[self._survey]).alias("topic"),
            sf.lit(0).alias("partition"),
            sf.col("id").alias("offset"),
            sf.expr(value).alias("value"),
        )

    def _names(self) -> list[str]:
        return list(NATIVE_SCHEMAS[self._survey].names[:-3])

    def _expected(self) -> list[dict[str, Any]]:
        """Native columns by ours; all must have been read in the JVM."""
        table = self._frame(len(self._packets)).select(*self._columns).toArrow()
        rows: list[dict[str, Any]] = table[self._survey].to_pylist()
        if {row["route"] for row in rows} != {JVM}:
            raise ServiceError("packets of the bench were not read in the JVM")
        return [{name: row[name] for name in self._names()} for row in rows]

    def _by_spark(self, expected: list[dict[str, Any]]) -> list[_Subject]:
        many, few = self._sizes.packets, self._sizes.by_from_avro
        frame = self._frame(many)
        whole = peers.spark_whole(self._survey, sf.col("value"), self._schema)
        found = (
            self._frame(len(self._packets))
            .select(whole.alias("r"))
            .select(peers.spark_native(self._survey, sf.col("r")).alias("r"))
        )
        equal = found.select("r.*").toArrow().to_pylist() == expected
        length = sf.octet_length("value").alias("length")
        return [
            _Subject(OURS, partial(_do, frame.select(*self._columns)), many, None),
            _Subject(
                f"{OURS}, handed to Python as Arrow",
                frame.select(*self._columns).toArrow,
                many,
                None,
            ),
            _Subject(
                "Spark, packets looked at only", partial(_do, frame.select(length)), many, None
            ),
            _Subject(
                "Spark from_avro, whole record",
                partial(_do, self._frame(few).select(whole.alias("r"))),
                few,
                equal,
            ),
        ]

    def _by_python(self, expected: list[dict[str, Any]]) -> list[_Subject]:
        readers: dict[str, peers.Read] = {}
        if self._survey == "ztf":
            start = peers.body_start(self._schema)
            readers["fastavro, whole container"] = peers.fastavro_container
            readers["fastavro, body of known schema"] = peers.fastavro_body(self._schema, start)
        else:
            readers["fastavro, whole record"] = peers.fastavro_body(self._schema, lambda _: 5)
            deserialise = peers.confluent(self._schema)
            if deserialise is None:
                self._tell(f"without {peers.CONFLUENT}: pip install 'mmgateway[bench]'")
            else:
                readers[peers.CONFLUENT] = deserialise
        few = self._sizes.by_peers
        sent = [self._packets[i % len(self._packets)] for i in range(few)]
        return [
            _Subject(name, partial(_each, read, sent), few, self._equal(read, expected))
            for name, read in readers.items()
        ]

    def _equal(self, read: peers.Read, expected: list[dict[str, Any]]) -> bool:
        return [peers.native(self._survey, read(p)) for p in self._packets] == expected


def _do(frame: DataFrame) -> None:
    """Make every row, and keep none."""
    frame.write.format("noop").mode("overwrite").save()


def _each(read: peers.Read, packets: Sequence[bytes]) -> None:
    for packet in packets:
        read(packet)
