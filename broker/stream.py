"""The live query: Spark reads alerts and regions from Kafka, the driver takes a step a batch.

One streaming query subscribes to the alert topics, ``mm.regionlog``, ``mm.verdicts`` and
``mm.lookups``, so that a region wakes it as an alert does and the checkpoint has the offsets of
all. The JVM decodes only the columns that matching needs; slim rows come to the driver as Arrow.
While the driver makes the step of a batch, the JVM reads and decodes the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from broker import topics
from broker.ahead import Ahead
from broker.batches import Batches
from broker.carried import Carried
from broker.checkpoint import not_of_one_run
from broker.commit import Committer, Input
from broker.engine import Batch, Engine
from broker.kafka_io import PacketReader
from broker.regioncodec import RegionRecord
from broker.sources import HISTORY, Sources
from broker.writers import Writers
from crossmatch.ahead import Found, View
from crossmatch.errors import GatewayError, ServiceError

MAX_BY_PYTHON = 50
"""With more packets of a new schema in a batch it is worth reading the batch once more."""


class LiveMatcher:
    """Takes the query's batches through the engine to the writer.

    Parameters
    ----------
    engine : Engine
    committer : Committer
    sources : Sources
    new_reader : callable
        Makes readers for packets that Python reads, and those that are rejected: one for the
        thread that decodes, one for that which takes steps.
    read_region : callable
        From a message of ``mm.regionlog`` to its record, or Rejected.
    query_id : callable
        Gives the id of the checkpoint, so that a marker of another one is noticed.
    now : callable
        The clock of dead letters.
    carried : Carried, optional
        Holds the packets that come along with a batch while its step is made; without, none do.
    ahead : Ahead, optional
        Lets Spark's workers match; without, the driver does.
    on_batch : callable, optional
        Called with the seconds that decoding took, after each batch.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        committer: Committer,
        sources: Sources,
        new_reader: Callable[[], PacketReader],
        read_region: Callable[[bytes], RegionRecord],
        query_id: Callable[[], str],
        now: Callable[[], datetime],
        carried: Carried | None = None,
        ahead: Ahead | None = None,
        on_batch: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._committer = committer
        self._sources = sources
        self._query_id = query_id
        self._carried = carried
        self._ahead = ahead
        self._on_batch = on_batch
        # One each for the thread that decodes and for that which takes steps.
        self._readers = new_reader(), new_reader()
        self._writers = Writers(sources, self._readers[0].fetch)
        self._batches = Batches(
            sources=sources,
            schemas=self._writers.schemas,
            reader=self._readers[1],
            read_region=read_region,
            now=now,
            by_workers=ahead is not None,
        )
        self._steps = ThreadPoolExecutor(1, "match-step")
        self._under_way: tuple[int, Future[None]] | None = None
        self.failure: GatewayError | None = None
        """Why a batch failed: Spark wraps what one raises beyond recognition."""

    def take(self, frame: DataFrame, batch_id: int) -> None:
        """``foreachBatch`` of the query: do a batch once, whatever happened before.

        It is decoded here, while the step of the batch before is made in a thread of its own,
        and returns when its own step has begun: Spark may be one batch ahead of what is
        committed (see :func:`broker.checkpoint.rewind`).

        Raises
        ------
        ServiceError
            When the checkpoint and the published marker do not fit together, or the batch
            before failed.
        """
        with self._noting(batch_id):
            self._take(frame, batch_id)

    def settle(self) -> None:
        """Wait for the step that is being made; raise what it raised."""
        if self._under_way is not None:
            _, step = self._under_way
            step.result()

    def close(self) -> None:
        """Let the step that is being made end; whether it could is for the next start to see."""
        self._steps.shutdown()
        for reader in self._readers:
            reader.close()

    def _take(self, frame: DataFrame, batch_id: int) -> None:
        last = self._last()
        if batch_id <= last:
            return
        if batch_id != last + 1:
            raise not_of_one_run("the checkpoint", batch_id, last)
        begin = time.perf_counter()
        view = self._engine.view
        rows = self._decoded(frame, view)
        decoded = time.perf_counter() - begin
        self.settle()
        self._under_way = batch_id, self._steps.submit(self._made, rows, view, batch_id)
        self._on_batch(decoded)

    def _last(self) -> int:
        """Last batch that was committed, or is being worked on."""
        if self._under_way is not None:
            return self._under_way[0]
        marker = self._committer.marker
        return -1 if marker is None else marker.batch_id

    def _made(self, rows: pa.Table, view: View, batch_id: int) -> None:
        """The step of a batch; a failure is noted at once, for the next batch may be far off."""
        with self._noting(batch_id):
            if self._carried is None:
                self._do(rows, view, batch_id)
                return
            self._do(self._carried.hold(rows), view, batch_id)
            self._carried.release()

    @contextmanager
    def _noting(self, batch_id: int) -> Iterator[None]:
        """Keep why a batch failed."""
        try:
            yield
        except GatewayError as error:
            self.failure = self.failure or error
            raise
        except Exception as error:
            failed = ServiceError(f"batch {batch_id} failed: {error!r}; see Spark's log")
            self.failure = self.failure or failed
            raise failed from error

    def _decoded(self, frame: DataFrame, view: View) -> pa.Table:
        """The batch decoded in the JVM; read once more when it brought schemas not seen before."""
        rows = self._slim(frame, view).toArrow()
        if self._writers.learn(rows) > MAX_BY_PYTHON:
            # Its packets are much of what memory there is.
            del rows
            rows = self._slim(frame, view).toArrow()
        if self._carried is not None:
            self._carried.learn(rows, self._sources.max_offsets_per_trigger)
        return rows

    def _slim(self, frame: DataFrame, view: View) -> DataFrame:
        slim = frame.select(*self._writers.columns, "value")
        if self._carried is not None:
            surveys = sorted(set(self._sources.survey.values()))
            slim = slim.withColumns(self._carried.columns(surveys))
        slim = slim.drop("value")
        if self._ahead is not None:
            slim = self._ahead.judged(slim, view)
        return slim if self._carried is None else slim.withColumns(self._histories())

    def _histories(self) -> dict[str, Column]:
        """Light curves of packets that come along; where workers matched, of matched alerts."""
        found = {}
        for survey, curve in self._writers.histories.items():
            if self._ahead is not None:
                curve = sf.when(sf.size(sf.col(survey)["judged"]["regions"]) > 0, curve)
            found[HISTORY[survey]] = curve
        return found

    def _do(self, rows: pa.Table, view: View, batch_id: int) -> None:
        marker = self._committer.marker
        said = self._batches.read(rows, {} if marker is None else marker.alerts_next)
        batch = Batch(
            batch_id,
            said.alerts,
            said.records,
            said.rejected,
            said.verdicts,
            said.messages,
            said.lost,
            said.lookups,
            None if self._ahead is None else Found(said.regions, view),
        )
        read = Input(
            query=self._query_id(),
            regions_next=said.next[topics.REGION_LOG],
            verdicts_next=said.next[topics.VERDICTS],
            lookups_next=said.next[topics.LOOKUPS],
            alerts_next=said.alerts_next,
            letters=said.letters,
        )
        self._committer.commit(lambda: self._engine.step(batch), read)


def start(matcher: LiveMatcher, rows: DataFrame, checkpoint: Path) -> StreamingQuery:
    """Start the query; it runs until it is stopped or fails."""
    return (
        rows.writeStream.foreachBatch(matcher.take)
        .option("checkpointLocation", str(checkpoint))
        .queryName("match")
        .start()
    )
