"""Every packet through a real Spark to the packet table, once whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import kafka_io
from broker.diskguard import Limits
from broker.packetstore import PacketStore
from broker.rawquery import RawReport, RawSettings, RawWriter, raw_packets, start_raw_query
from broker.sources import Sources
from crossmatch.errors import ServiceError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from broker.embedded.kafka import EmbeddedKafka

NewTopic = Callable[..., str]
ROW = (
    "night string, survey string, object_id string, alert_id bigint,"
    " topic string, partition int, offset bigint, sha256 string, packet binary"
)
SETTINGS = RawSettings(trigger_seconds=0.0, max_offsets=8)


def send(kafka: EmbeddedKafka, topic: str, values: list[bytes | None]) -> None:
    producer = kafka_io.producer(kafka.bootstrap, {})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def sources(kafka: EmbeddedKafka, ztf: str, lsst: str) -> Sources:
    return Sources(bootstrap=kafka.bootstrap, properties={}, ztf=(ztf,), lsst=(lsst,))


def copied(
    spark: SparkSession, wanted: Sources, store: PacketStore, checkpoint: Path
) -> list[RawReport]:
    """What the batches came to until everything that lies in Kafka is copied."""
    reports: list[RawReport] = []
    query = start_raw_query(
        spark, wanted, store, checkpoint, settings=SETTINGS, on_batch=reports.append
    )
    try:
        query.query.processAllAvailable()
        query.alive()
    finally:
        query.stop()
    return reports


def rows(spark: SparkSession, begin: int, end: int, night: str = "2026-01-01") -> DataFrame:
    from hashlib import sha256

    packets = [b"packet %d" % n for n in range(begin, end)]
    return spark.createDataFrame(
        [
            (night, "ztf", None, None, "a", 0, n, sha256(p).hexdigest(), bytearray(p))
            for n, p in enumerate(packets, begin)
        ],
        ROW,
    )


def writer(store: PacketStore, told: list[Any] | None = None) -> RawWriter:
    on_batch = (lambda _: None) if told is None else told.append
    store.path.mkdir(parents=True, exist_ok=True)
    return RawWriter(store, 1, lambda: "0123456789", on_batch)


def test_every_packet_is_kept_as_it_came_also_after_a_restart(
    spark: SparkSession, kafka: EmbeddedKafka, topic: NewTopic, tmp_path: Path
) -> None:
    ztf, lsst = topic(partitions=2), topic()
    wanted, store = sources(kafka, ztf, lsst), PacketStore(tmp_path / "packets", Limits(None, 0))
    first = [b"ztf %d" % n + bytes(5000) for n in range(20)]
    send(kafka, ztf, [*first, None])
    send(kafka, lsst, [b"\x00rubin"])
    reports = copied(spark, wanted, store, tmp_path / "checkpoint")
    assert len(reports) > 1
    assert sum(r.packets for r in reports) == 21
    send(kafka, ztf, [b"after"])
    again = copied(spark, wanted, store, tmp_path / "checkpoint")

    assert [r.packets for r in again] == [1]
    (night,) = store.nights()
    kept = list(store.packets(night.night))
    assert sorted(p.data for p in kept) == sorted([*first, b"\x00rubin", b"after"])
    assert {(p.address[0], p.survey) for p in kept} == {(ztf, "ztf"), (lsst, "lsst")}
    assert store.get([p.address for p in kept]) == {p.address: p.data for p in kept}


def test_the_night_is_that_of_the_arrival_from_noon_to_noon(
    spark: SparkSession, kafka: EmbeddedKafka, topic: NewTopic, tmp_path: Path
) -> None:
    ztf, lsst = topic(), topic()
    before = datetime.now(UTC)
    send(kafka, ztf, [b"now"])
    store = PacketStore(tmp_path / "packets", Limits(None, 0))
    copied(spark, sources(kafka, ztf, lsst), store, tmp_path / "checkpoint")
    nights = {
        datetime.fromtimestamp(t.timestamp() - 43200, UTC).date().isoformat()
        for t in (before, datetime.now(UTC))
    }
    assert {n.night for n in store.nights()} <= nights


def test_a_batch_done_again_is_not_doubled(spark: SparkSession, tmp_path: Path) -> None:
    store = PacketStore(tmp_path, Limits(None, 0))
    writer(store).take(rows(spark, 0, 3), 0)
    writer(store).take(rows(spark, 0, 3), 0)
    assert [(n.packets, n.files) for n in store.nights()] == [(3, 1)]


def test_files_of_a_batch_that_died_before_its_commit_are_replaced(
    spark: SparkSession, tmp_path: Path
) -> None:
    class Dies(PacketStore):
        def commit(self, *args: Any) -> Any:
            raise ServiceError("the disk failed")

    dying = writer(Dies(tmp_path, Limits(None, 0)))
    with pytest.raises(ServiceError, match="the disk failed"):
        dying.take(rows(spark, 0, 3, "2025-12-31").union(rows(spark, 3, 6)), 0)
    assert isinstance(dying.failure, ServiceError)
    store = PacketStore(tmp_path, Limits(None, 0))
    assert store.nights() == []
    writer(store).take(rows(spark, 0, 6), 0)

    assert [(n.night, n.packets) for n in store.nights()] == [("2026-01-01", 6)]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_batch_over_noon_fills_two_nights(spark: SparkSession, tmp_path: Path) -> None:
    store = PacketStore(tmp_path, Limits(None, 0))
    writer(store).take(rows(spark, 0, 2).union(rows(spark, 2, 5, "2026-01-02")), 0)
    assert [(n.night, n.packets) for n in store.nights()] == [("2026-01-01", 2), ("2026-01-02", 3)]
    assert store.get([("a", 0, 0), ("a", 0, 4)]) == {
        ("a", 0, 0): b"packet 0",
        ("a", 0, 4): b"packet 4",
    }


def test_without_room_the_query_stops_and_says_why(spark: SparkSession, tmp_path: Path) -> None:
    told: list[RawReport] = []
    full = writer(PacketStore(tmp_path, Limits(None, 0.999999999)), told)
    with pytest.raises(ServiceError, match=r"there is no room .* they wait in Kafka"):
        full.take(rows(spark, 0, 3), 0)
    assert [news.kind for report in told for news in report.news] == ["refused"]
    assert list(tmp_path.rglob("*.parquet")) == []


def test_other_programs_read_the_table(spark: SparkSession, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    store = PacketStore(tmp_path, Limits(None, 0))
    writer(store).take(rows(spark, 0, 2), 0)
    table = DeltaTable(str(tmp_path)).to_pyarrow_table().sort_by("offset")
    assert table["packet"].to_pylist() == [b"packet 0", b"packet 1"]
    assert table["night"].to_pylist() == ["2026-01-01"] * 2


def test_the_columns_are_those_of_the_table(
    spark: SparkSession, kafka: EmbeddedKafka, topic: NewTopic
) -> None:
    from broker.packetfiles import SCHEMA

    frame = raw_packets(spark, sources(kafka, topic(), topic()), 10)
    assert frame.columns == SCHEMA.names
