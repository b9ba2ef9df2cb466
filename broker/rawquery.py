"""Every packet as it came, for ``[archive] packets = "all"``: a Spark query of its own.

Executors read the alert topics and write Parquet files beside the packet table; the driver
sees names and footers of files only, and takes those of a batch into the table's log in
one transaction that bears the number of the batch. A batch that is done again finds its
number there, or its half-written files, which it replaces.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from broker.diskguard import PacketNews
from broker.packetstore import FILE_BYTES, PacketStore
from broker.sources import Sources, jvm_properties
from crossmatch.errors import GatewayError, ServiceError

CHECKPOINT = "checkpoint-packets"
_STAGING = "_writing"
_TYPICAL_BYTES = 82_000
_OPTIONS = {
    "compression": "zstd",
    "parquet.compression.codec.zstd.level": "1",
    # What must be read to get one packet, and what a task keeps in memory.
    "parquet.block.size": str(8 << 20),
    "parquet.enable.dictionary#packet": "false",
    "parquet.column.statistics.enabled#packet": "false",
    # Counts of packets bound a file, for Spark cannot count its bytes.
    "maxRecordsPerFile": str(FILE_BYTES // _TYPICAL_BYTES),
}


@dataclass(frozen=True, slots=True)
class RawReport:
    """What a batch of the raw query came to; ``bytes`` are those on disk."""

    batch_id: int
    packets: int
    files: int
    bytes: int
    news: tuple[PacketNews, ...] = ()


@dataclass(frozen=True, slots=True)
class RawSettings:
    """How the query works.

    Parameters
    ----------
    trigger_seconds : float
        Batches begin this far apart: short ones make many small files.
    max_offsets : int
        Packets of a batch at most.
    tasks : int
        Tasks that read and write at a time. One leaves the other cores to the matching, and
        makes the fewest files.
    """

    trigger_seconds: float = 30.0
    max_offsets: int = 20_000
    tasks: int = 1


class RawWriter:
    """Takes the query's batches to the store.

    Parameters
    ----------
    store : PacketStore
    tasks : int
    query_id : callable
        Id of the checkpoint: the numbers of batches are its own.
    on_batch : callable
        Called after each commit, and when a batch is refused.
    """

    def __init__(
        self,
        store: PacketStore,
        tasks: int,
        query_id: Callable[[], str],
        on_batch: Callable[[RawReport], None],
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._query_id = query_id
        self._on_batch = on_batch
        self._largest = 0
        self.failure: GatewayError | None = None
        """Why the last batch failed: Spark wraps what a batch raises beyond recognition."""

    def take(self, frame: DataFrame, batch_id: int) -> None:
        """``foreachBatch`` of the query.

        Raises
        ------
        ServiceError
            When there is no room for the batch: Kafka keeps it until there is.
        """
        try:
            self._take(frame, batch_id)
        except GatewayError as error:
            self.failure = error
            raise
        except Exception as error:
            self.failure = ServiceError(f"packets, batch {batch_id}: {error!r}; see Spark's log")
            raise

    def _take(self, frame: DataFrame, batch_id: int) -> None:
        app = f"mmgateway-packets-{self._query_id()}"
        if self._store.committed(app) >= batch_id:
            return
        # As large as the largest until now: the size is known only when it is written.
        news, room = self._store.make_room(max(self._largest, FILE_BYTES), 0)
        if not room:
            self._on_batch(RawReport(batch_id, 0, 0, 0, tuple(news)))
            raise ServiceError(
                f"packets, batch {batch_id}: there is no room at {self._store.path}; they wait"
                " in Kafka until its retention ends: make room, or lower [archive] keep_free"
            )
        files = self._write(frame, f"{self._query_id()[:8]}-{batch_id}")
        size = sum((self._store.path / name).stat().st_size for _, name in files)
        self._largest = max(self._largest, size)
        kept = self._store.commit(files, app, batch_id)
        told = (*news, *kept.news)
        self._on_batch(RawReport(batch_id, kept.stored, len(files), size, told))

    def _write(self, frame: DataFrame, name: str) -> list[tuple[str, str]]:
        """Files of a batch, moved to their nights: night and path below the table."""
        root = self._store.path
        staging = root / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        for left in root.glob(f"night=*/raw-{name}-*.parquet"):
            left.unlink()
        # Without this Spark sorts whole packets by night, on disk, before it writes the first.
        frame.sparkSession.conf.set("spark.sql.maxConcurrentOutputFileWriters", "8")
        frame.coalesce(self._tasks).write.partitionBy("night").options(**_OPTIONS).parquet(
            staging.as_uri()
        )
        files = []
        for number, path in enumerate(sorted(staging.glob("night=*/*.parquet"))):
            place = root / path.parent.name / f"raw-{name}-{number}.parquet"
            place.parent.mkdir(exist_ok=True)
            path.rename(place)
            night = path.parent.name.removeprefix("night=")
            files.append((night, f"{path.parent.name}/{place.name}"))
        shutil.rmtree(staging)
        return files


def raw_packets(spark: SparkSession, sources: Sources, max_offsets: int) -> DataFrame:
    """Streaming rows as the packet table has them, all made in the JVM.

    ``night`` is that of the arrival by Kafka's clock (noon to noon UTC), for nothing is
    decoded here. Object and alert id stay empty: the archive of alerts has them beside topic,
    partition and offset.
    """
    bootstrap, properties = sources.bootstrap, sources.properties
    if sources.alert_bootstrap:
        bootstrap, properties = sources.alert_bootstrap, sources.alert_properties
    topic, value = sf.col("topic"), sf.col("value")
    survey = sf.when(topic.isin(*sources.ztf), "ztf").otherwise("lsst")
    night = sf.date_format(sf.col("timestamp") - sf.expr("INTERVAL 12 HOURS"), "yyyy-MM-dd")
    return (
        spark.readStream.format("kafka")
        .options(**jvm_properties(properties))
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", ",".join(sources.survey))
        .option("startingOffsets", sources.starting_offsets)
        .option("failOnDataLoss", "false")
        .option("maxOffsetsPerTrigger", max_offsets)
        .option("kafka.fetch.max.wait.ms", "20")
        .option("kafka.isolation.level", "read_committed")
        .option("kafka.max.partition.fetch.bytes", str(16 << 20))
        .load()
        .where(value.isNotNull())
        .select(
            night.alias("night"),
            survey.alias("survey"),
            sf.lit(None).cast("string").alias("object_id"),
            sf.lit(None).cast("bigint").alias("alert_id"),
            "topic",
            "partition",
            "offset",
            sf.sha2(value, 256).alias("sha256"),
            value.alias("packet"),
        )
    )


def _query_id(checkpoint: Path) -> str:
    """Id of the query that a checkpoint belongs to."""
    return str(json.loads((checkpoint / "metadata").read_text("utf-8"))["id"])


class RawQuery:
    """The query while it runs."""

    def __init__(self, query: StreamingQuery, writer: RawWriter) -> None:
        self.query = query
        self._writer = writer

    def alive(self) -> None:
        """Raise ServiceError when the query has ended by itself, with the reason."""
        if self.query.isActive:
            return
        if self._writer.failure is not None:
            raise self._writer.failure
        error = self.query.exception()
        reason = "it stopped" if error is None else str(error).splitlines()[0][:500]
        raise ServiceError(f"the query that copies packets ended: {reason}")

    def stop(self) -> None:
        """End the query; what it was writing is written again by the next one."""
        self.query.stop()


def start_raw_query(
    spark: SparkSession,
    sources: Sources,
    store: PacketStore,
    checkpoint: Path,
    *,
    settings: RawSettings | None = None,
    on_batch: Callable[[RawReport], None] = lambda _: None,
) -> RawQuery:
    """Copy every packet of the alert topics into ``store``, until stopped.

    Parameters
    ----------
    spark : SparkSession
        May be that of the matching.
    sources : Sources
    store : PacketStore
        On a disk that the executors share with the driver.
    checkpoint : Path
        A folder of its own, by use ``<state>/checkpoint-packets``.
    settings : RawSettings, optional
    on_batch : callable
        Called with a report after each batch, and of a refused one.
    """
    settings = settings or RawSettings()
    store.path.mkdir(parents=True, exist_ok=True)
    writer = RawWriter(store, settings.tasks, lambda: _query_id(checkpoint), on_batch)
    query = (
        raw_packets(spark, sources, settings.max_offsets)
        .writeStream.foreachBatch(writer.take)
        .option("checkpointLocation", str(checkpoint))
        .trigger(processingTime=f"{settings.trigger_seconds:g} seconds")
        .queryName("packets")
        .start()
    )
    return RawQuery(query, writer)
