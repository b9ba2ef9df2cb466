"""The live query: Spark reads alerts and regions from Kafka, the driver takes a step a batch.

One streaming query subscribes to the alert topics, ``mm.regionlog``, ``mm.verdicts`` and
``mm.lookups``, so that a region wakes it as an alert does and the checkpoint has the offsets of
all. The JVM decodes only the columns that matching needs; slim rows come to the driver as Arrow.
While the driver makes the step of a batch, the JVM reads and decodes the next one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.streaming.query import StreamingQuery

from broker import decode, packets, topics, worker
from broker.ahead import Ahead
from broker.carried import Carried
from broker.checkpoint import not_of_one_run
from broker.codec import RegionRecord, encode_dead_letter
from broker.commit import Committer, Input
from broker.containers import Record
from broker.engine import Batch, Engine
from broker.history import history
from broker.judge import Address, PacketDetail, PacketSource, address_of
from broker.kafka_io import PacketReader
from broker.lookuplog import decode_answer
from broker.sources import HISTORY, OWN, Sources
from broker.surveys import NATIVE_SCHEMAS, Normalised, normalise
from broker.verdictlog import decode_verdict
from broker.writers import Writers
from crossmatch.ahead import ROWS, Found, View
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.counterpart import MatchedAlert
from crossmatch.errors import AlertError, GatewayError, Rejected, ServiceError
from crossmatch.lightcurve import Detection

MAX_LETTERS_BYTES = 32 << 20
"""Bytes of rejected packets that one batch copies; a transaction is to stay short."""

MAX_BY_PYTHON = 50
"""With more packets of a new schema in a batch it is worth reading the batch once more."""

_FETCH = 500
_OWN = list(OWN)
_HOW_READ = [pa.field("route", pa.string()), pa.field("schema_id", pa.int64())]
_T = TypeVar("_T")

MAX_LETTER_BYTES = 1 << 20
"""More of a rejected packet than this is not copied; topic and offset tell where it lies."""


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
        self._reader = new_reader()
        self._read_region = read_region
        self._query_id = query_id
        self._now = now
        self._carried = carried
        self._ahead = ahead
        self._on_batch = on_batch
        self._writers = Writers(sources, new_reader().fetch)
        self._letter_bytes_left = MAX_LETTERS_BYTES
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
        letters: list[bytes] = []
        self._letter_bytes_left = MAX_LETTERS_BYTES
        own = self._own(rows)
        records = self._understood(own, topics.REGION_LOG, self._read_region, "regions", letters)
        verdicts = self._understood(own, topics.VERDICTS, decode_verdict, "verdicts", letters)
        lookups = self._understood(own, topics.LOOKUPS, decode_answer, "lookups", letters)
        alerts, rejected, regions = self._alerts(rows, letters)
        found = None if self._ahead is None else Found(regions, view)
        alerts_next, lost = self._positions(rows)
        messages = rows.num_rows - own.num_rows
        batch = Batch(batch_id, alerts, records, rejected, verdicts, messages, lost, lookups, found)
        read = Input(
            query=self._query_id(),
            regions_next=_next_of(own, topics.REGION_LOG),
            verdicts_next=_next_of(own, topics.VERDICTS),
            lookups_next=_next_of(own, topics.LOOKUPS),
            alerts_next=alerts_next,
            letters=letters,
        )
        self._committer.commit(lambda: self._engine.step(batch), read)

    def _positions(self, rows: pa.Table) -> tuple[dict[str, int], dict[str, int]]:
        """Next offset of each alert partition, and how many alerts Kafka deleted unread."""
        marker = self._committer.marker
        known = {} if marker is None else dict(marker.alerts_next)
        alerts = rows.filter(~pc.field("topic").isin(_OWN))
        ends = alerts.group_by(["topic", "partition"]).aggregate(
            [("offset", "min"), ("offset", "max")]
        )
        lost: Counter[str] = Counter()
        for row in ends.to_pylist():
            place = f"{row['topic']}/{row['partition']}"
            expected = known.get(place, row["offset_min"])
            if row["offset_min"] > expected:
                # Marks of transactions leave gaps too; only what is below the start is gone.
                low = self._reader.low(row["topic"], row["partition"])
                lost[row["topic"]] += max(0, min(low, row["offset_min"]) - expected)
            known[place] = row["offset_max"] + 1
        return known, dict(lost)

    def _own(self, rows: pa.Table) -> pa.Table:
        """Our own messages of the batch, in the order of their topics."""
        found = rows.filter(pc.field("topic").isin(_OWN)).select(["topic", "offset", "own"])
        return found.sort_by([("topic", "ascending"), ("offset", "ascending")])

    def _understood(
        self,
        own: pa.Table,
        topic: str,
        decoded: Callable[[bytes], _T],
        source: str,
        letters: list[bytes],
    ) -> list[_T]:
        """What messages of ours say; one that says nothing becomes a dead letter."""
        found = []
        for row in own.filter(pc.field("topic") == topic).to_pylist():
            raw = row["own"] or b""
            try:
                found.append(decoded(raw))
            except Rejected as error:
                letters.append(self._letter(error, (topic, 0, row["offset"]), raw, source))
        return found

    def _alerts(
        self, rows: pa.Table, letters: list[bytes]
    ) -> tuple[pa.Table, Counter[tuple[str, str]], pa.ListArray]:
        """Good alerts, what was rejected, and rows of regions where workers looked for them."""
        tables, regions = [ALERT_SCHEMA.empty_table()], [pa.nulls(0, ROWS)]
        rejected: Counter[tuple[str, str]] = Counter()
        for survey in ("ztf", "lsst"):
            if survey not in rows.column_names:
                continue
            mine = self._known(self._native(rows, survey), letters, rejected)
            late = self._by_python(mine, survey, letters, rejected)
            mine = mine.filter(pc.equal(mine["route"], decode.JVM))
            for native, (done, found) in (
                (mine, self._normalised(survey, mine)),
                (late, _in_driver(survey, late)),
            ):
                tables.append(done.alerts)
                regions.append(found)
                self._reject(native, done.rejected, letters, rejected)
        return pa.concat_tables(tables), rejected, pa.concat_arrays(regions)

    def _normalised(self, survey: str, read: pa.Table) -> tuple[Normalised, pa.ListArray]:
        """What the rows that the JVM read tell, with the regions that workers found."""
        if self._ahead is None:
            return _in_driver(survey, read)
        return worker.alerts_of(survey, read)

    def _native(self, rows: pa.Table, survey: str) -> pa.Table:
        """Rows of one survey as a flat table: address, how they were read, and native columns,
        or what workers made of them."""
        names = self._sources.ztf if survey == "ztf" else self._sources.lsst
        mine = rows.filter(pc.field("topic").isin(names))
        flat = mine.select(["topic", "partition", "offset"])
        struct = mine[survey].combine_chunks()
        for name, column in zip(struct.type.names, struct.flatten(), strict=True):
            flat = flat.append_column(name, column)
        if self._ahead is not None:
            return flat
        schema = pa.schema([*NATIVE_SCHEMAS[survey], *_HOW_READ])
        return flat.select(schema.names).cast(schema)

    def _known(
        self, native: pa.Table, letters: list[bytes], rejected: Counter[tuple[str, str]]
    ) -> pa.Table:
        """Rows without the messages whose schemas are not at hand; those become dead letters."""
        numbers = pc.unique(native["schema_id"].drop_null()).to_pylist()
        schemas = self._writers.schemas
        missing = {number: schemas.advice(number) for number in numbers if number not in schemas}
        if not missing:
            return native
        unknown = pc.is_in(native["schema_id"], value_set=pa.array(missing, pa.int64()))
        ids = native["schema_id"].to_pylist()
        rows = [i for i, is_unknown in enumerate(unknown.to_pylist()) if is_unknown]
        rejections = [(i, "unknown_schema_id", missing[ids[i]]) for i in rows]
        self._reject(native, rejections, letters, rejected)
        return native.filter(pc.invert(unknown))

    def _by_python(
        self,
        native: pa.Table,
        survey: str,
        letters: list[bytes],
        rejected: Counter[tuple[str, str]],
    ) -> pa.Table:
        """What Python reads from the packets of the rows that the JVM does not read."""
        extra: list[dict[str, Any]] = []
        unread = _addresses(native.filter(pc.equal(native["route"], decode.PYTHON)))
        for begin in range(0, len(unread), _FETCH):
            part = unread[begin : begin + _FETCH]
            packets_of = self._reader.fetch(part)
            for address in part:
                try:
                    extra += self._records_of(packets_of.get(address), survey, address)
                except AlertError as error:
                    rejected[error.reason, address[0]] += 1
                    letters.append(self._letter(error, address, packets_of.get(address, b"")))
        return pa.Table.from_pylist(extra, schema=NATIVE_SCHEMAS[survey])

    def _records_of(
        self, packet: bytes | None, survey: str, address: Address
    ) -> list[dict[str, Any]]:
        if packet is None:
            raise AlertError("packet_gone", "Kafka no longer has the packet")
        place = dict(zip(("topic", "partition", "offset"), address, strict=True))
        records = packets.decode_packet(packet, survey, self._sources.lsst_schemas)
        return [packets.native_row(record, survey) | place for record in records]

    def _reject(
        self,
        native: pa.Table,
        rejections: Sequence[tuple[int, str, str]],
        letters: list[bytes],
        rejected: Counter[tuple[str, str]],
    ) -> None:
        if not rejections:
            return
        addresses = _addresses(native.take([r[0] for r in rejections]))
        for begin in range(0, len(addresses), _FETCH):
            part = slice(begin, begin + _FETCH)
            wanted = addresses[part] if self._letter_bytes_left > 0 else []
            raw = self._reader.fetch(wanted)
            for (_, reason, detail), address in zip(rejections[part], addresses[part], strict=True):
                packet = raw.get(address)
                error = self._better(AlertError(reason, detail), packet, address[0])
                rejected[error.reason, address[0]] += 1
                letters.append(self._letter(error, address, packet or b""))

    def _better(self, error: AlertError, packet: bytes | None, topic: str) -> AlertError:
        """What Python says is wrong with a packet that the JVM gave only nulls for."""
        if error.reason != "null_required" or packet is None:
            return error
        try:
            packets.decode_packet(packet, self._sources.survey[topic], self._sources.lsst_schemas)
        except AlertError as better:
            return better
        return error

    def _letter(
        self, error: Rejected, address: Address, raw: bytes, source: str = "alerts"
    ) -> bytes:
        # What exceeds the bounds is not copied: topic and offset tell where it lies.
        copied = raw[: max(0, min(MAX_LETTER_BYTES, self._letter_bytes_left))]
        self._letter_bytes_left -= len(copied)
        return encode_dead_letter(
            reason=error.reason,
            detail=error.detail,
            source=source,
            raw=copied,
            received=self._now(),
            topic=address[0],
            partition=address[1],
            offset=address[2],
        )


def _next_of(own: pa.Table, topic: str) -> int | None:
    """Offset behind the last message of one of our topics; None without any."""
    offsets = own.filter(pc.field("topic") == topic)["offset"]
    return None if len(offsets) == 0 else int(pc.max(offsets).as_py()) + 1


def _in_driver(survey: str, native: pa.Table) -> tuple[Normalised, pa.ListArray]:
    """Alerts of native rows, for whose regions nobody looked yet."""
    done = normalise(survey, native)
    return done, pa.nulls(done.alerts.num_rows, ROWS)


def _addresses(rows: pa.Table) -> list[Address]:
    columns = (rows[name].to_pylist() for name in ("topic", "partition", "offset"))
    return list(zip(*columns, strict=True))


def packet_details(
    fetch: Callable[[Sequence[Address]], Mapping[Address, bytes]],
    survey_of: Mapping[str, str],
    lsst_schemas: Mapping[int, str],
    collect: Callable[[Sequence[tuple[MatchedAlert, bytes]]], object] = lambda _: None,
    read: Callable[[Sequence[Address]], Mapping[Address, Record]] = lambda _: {},
) -> PacketSource:
    """Source of whole packets for the engine: decoded in Python where the JVM did not.

    Parameters
    ----------
    fetch : callable
        From addresses to the packets that can still be had.
    survey_of : mapping of str to str
        Survey of each alert topic.
    lsst_schemas : mapping of int to str
    collect : callable, optional
        Gets the packets of matched alerts, to keep them.
    read : callable, optional
        From addresses to what the JVM read of these packets for their light curves.
    """

    def details(matched: Sequence[MatchedAlert]) -> dict[Address, PacketDetail]:
        # A topic that is no longer configured has no survey: its alerts stay as archived.
        known = {address_of(m.alert): m for m in matched if m.alert["topic"] in survey_of}
        records = read(list(known))
        found, kept = {}, []
        for address, value in fetch(list(known)).items():
            survey = survey_of[address[0]]
            curve = (
                tuple(history(records[address], survey))
                if address in records
                else _history(value, survey, lsst_schemas)
            )
            found[address] = PacketDetail(curve, hashlib.sha256(value).hexdigest())
            kept.append((known[address], value))
        collect(kept)
        return found

    return details


def _history(packet: bytes, survey: str, lsst_schemas: Mapping[int, str]) -> tuple[Detection, ...]:
    """Light curve of a packet; empty if it is broken behind the columns that matching reads."""
    try:
        records = packets.decode_packet(packet, survey, lsst_schemas)
    except AlertError:
        return ()
    return tuple(history(records[0], survey)) if len(records) == 1 else ()


def checkpoint_id(folder: Path) -> str:
    """Id of the query that a checkpoint belongs to; empty if there is no checkpoint yet."""
    try:
        return str(json.loads((folder / "metadata").read_text("utf-8"))["id"])
    except FileNotFoundError:
        return ""


def start(matcher: LiveMatcher, rows: DataFrame, checkpoint: Path) -> StreamingQuery:
    """Start the query; it runs until it is stopped or fails."""
    return (
        rows.writeStream.foreachBatch(matcher.take)
        .option("checkpointLocation", str(checkpoint))
        .queryName("match")
        .start()
    )
