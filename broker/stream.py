"""The live query: Spark reads alerts and regions from Kafka, the driver takes a step a batch.

One streaming query subscribes to the alert topics and to ``mm.regionlog``, so that a
region wakes it as an alert does and the checkpoint has the offsets of both. The JVM
decodes only the columns that matching needs; slim rows come to the driver as Arrow.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from broker import decode, packets, topics
from broker.archive import CandidateArchive
from broker.codec import RegionRecord, decode_region, encode_dead_letter
from broker.engine import Address, Batch, Engine, Outcome, PacketDetail
from broker.kafka_io import PacketReader
from broker.ledger import added
from broker.sources import Sources, slim_columns
from broker.surveys import NATIVE_SCHEMAS, normalise
from broker.writer import Marker, Writer
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import AlertError, GatewayError, Rejected, ServiceError
from crossmatch.lightcurve import Detection
from crossmatch.model import MultiOrderMap

MAX_LETTERS_BYTES = 32 << 20
"""Bytes of rejected packets that one batch copies; a transaction is to stay short."""

MAX_LEARNED = 8
"""Writers' schemas of a survey that are read in the JVM at a time, the latest."""

MAX_BY_PYTHON = 50
"""With more packets of a new schema in a batch it is worth reading the batch once more."""

_FETCH = 500

MAX_LETTER_BYTES = 1 << 20
"""More of a rejected packet than this is not copied; topic and offset tell where it lies."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch came to and how long its parts took, for whoever watches."""

    outcome: Outcome
    marker: Marker
    decode_seconds: float
    match_seconds: float
    publish_seconds: float


class LiveMatcher:
    """Takes the query's batches through the engine to the writer.

    Parameters
    ----------
    engine : Engine
    writer : Writer
    sources : Sources
    reader : PacketReader
        For the packets of matched and of rejected alerts.
    load_map : callable
        From (hash, path) to the sky map.
    query_id : callable
        Gives the id of the checkpoint, so that a marker of another one is noticed.
    statements : CandidateArchive
    now : callable
        The clock of dead letters.
    marker : Marker or None
        The last committed batch.
    on_batch : callable, optional
        Called with a report after each commit.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        writer: Writer,
        sources: Sources,
        reader: PacketReader,
        load_map: Callable[[str, str], MultiOrderMap],
        query_id: Callable[[], str],
        statements: CandidateArchive,
        now: Callable[[], datetime],
        marker: Marker | None,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._sources = sources
        self._reader = reader
        self._load_map = load_map
        self._query_id = query_id
        self._statements = statements
        self._now = now
        self._marker = marker
        self._on_batch = on_batch
        self._learned: dict[str, tuple[str, ...]] = {"ztf": (), "lsst": ()}
        self._columns = slim_columns(sources, self._learned)
        self._letter_bytes_left = MAX_LETTERS_BYTES
        self.failure: GatewayError | None = None
        """Why the last batch failed: Spark wraps what a batch raises beyond recognition."""

    def take(self, frame: DataFrame, batch_id: int) -> None:
        """``foreachBatch`` of the query: do a batch once, whatever happened before.

        Raises
        ------
        ServiceError
            When the checkpoint and the published marker do not fit together.
        """
        try:
            self._take(frame, batch_id)
        except GatewayError as error:
            self.failure = error
            raise
        except Exception as error:
            self.failure = ServiceError(f"batch {batch_id} failed: {error!r}; see Spark's log")
            raise

    def _take(self, frame: DataFrame, batch_id: int) -> None:
        last = -1 if self._marker is None else self._marker.batch_id
        if batch_id <= last:
            return
        if batch_id != last + 1:
            published = "none" if self._marker is None else f"batch {last} as the last one"
            raise ServiceError(
                f"the checkpoint is at batch {batch_id}, but Kafka has {published}: they are"
                " not of one run; restore what belongs together, or start all anew"
            )
        begin = time.perf_counter()
        rows = self._decoded(frame)
        self._do(rows, batch_id, time.perf_counter() - begin)

    def _decoded(self, frame: DataFrame) -> pa.Table:
        """The batch decoded in the JVM; read once more when it brought schemas not seen before."""
        rows = frame.select(*self._columns).toArrow()
        learned = sum(self._learn(rows, survey) for survey in ("ztf", "lsst"))
        if learned:
            # Columns are made once for a set of schemas: making them takes longer than a batch.
            self._columns = slim_columns(self._sources, self._learned)
            if learned > MAX_BY_PYTHON:
                rows = frame.select(*self._columns).toArrow()
        return rows

    def _learn(self, rows: pa.Table, survey: str) -> int:
        """Note schemas of packets that the JVM did not read; how many such packets there are."""
        if survey not in rows.column_names:
            return 0
        unread = _addresses(_by_python(self._native(rows, survey)))
        samples = self._reader.fetch(unread[:: max(1, len(unread) // MAX_LEARNED)])
        known = self._learned[survey]
        for packet in samples.values():
            text = decode.writer_schema(packet)
            if text is not None and text not in known and _is_readable(survey, text):
                known = (*known, text)[-MAX_LEARNED:]
        if known == self._learned[survey]:
            return 0
        self._learned[survey] = known
        return len(unread)

    def _do(self, rows: pa.Table, batch_id: int, decode_seconds: float) -> None:
        begin = time.perf_counter()
        letters: list[bytes] = []
        self._letter_bytes_left = MAX_LETTERS_BYTES
        records, regions_next = self._records(rows, letters)
        alerts, rejected = self._alerts(rows, letters)
        batch = Batch(batch_id, alerts, records, rejected)
        outcome = self._engine.step(batch)
        alerts_next, lost = self._positions(rows)
        if lost:
            outcome.ledger["received"] = outcome.ledger.get("received", 0) + lost
            outcome.ledger["lost"] = lost
        matched = time.perf_counter()
        totals = added([{} if self._marker is None else self._marker.totals, outcome.ledger])
        marker = Marker(batch_id, self._query_id(), regions_next, totals, alerts_next)
        # Before they are published, as the alerts: a batch done anew is not added again.
        self._statements.append(outcome.statements, batch_id)
        self._writer.publish(outcome, marker, letters)
        self._marker = marker
        published = time.perf_counter()
        self._on_batch(
            BatchReport(outcome, marker, decode_seconds, matched - begin, published - matched)
        )

    def _positions(self, rows: pa.Table) -> tuple[dict[str, int], int]:
        """Next offset of each alert partition, and how many alerts Kafka deleted unread."""
        known = {} if self._marker is None else dict(self._marker.alerts_next)
        alerts = rows.filter(pc.field("topic") != topics.REGION_LOG)
        ends = alerts.group_by(["topic", "partition"]).aggregate(
            [("offset", "min"), ("offset", "max")]
        )
        lost = 0
        for row in ends.to_pylist():
            place = f"{row['topic']}/{row['partition']}"
            expected = known.get(place, row["offset_min"])
            if row["offset_min"] > expected:
                # Marks of transactions leave gaps too; only what is below the start is gone.
                low = self._reader.low(row["topic"], row["partition"])
                lost += max(0, min(low, row["offset_min"]) - expected)
            known[place] = row["offset_max"] + 1
        return known, lost

    def _records(self, rows: pa.Table, letters: list[bytes]) -> tuple[list[RegionRecord], int]:
        """Region records of the batch in the order of the topic, and where the next one will be."""
        regions_next = 0 if self._marker is None else self._marker.regions_next
        found = rows.filter(pc.field("topic") == topics.REGION_LOG).sort_by("offset")
        records = []
        for row in found.select(["offset", "region"]).to_pylist():
            regions_next = row["offset"] + 1
            try:
                records.append(self._region(row["region"] or b""))
            except Rejected as error:
                address = (topics.REGION_LOG, 0, row["offset"])
                letters.append(self._letter(error, address, row["region"] or b"", "regions"))
        return records, regions_next

    def _region(self, data: bytes) -> RegionRecord:
        record = decode_region(data, self._load_map)
        if record.region is not None and record.region.chain not in self._engine.chains:
            raise Rejected("unknown_chain", f"no selection chain {record.region.chain!r} here")
        return record

    def _alerts(self, rows: pa.Table, letters: list[bytes]) -> tuple[pa.Table, Counter[str]]:
        tables = [ALERT_SCHEMA.empty_table()]
        rejected: Counter[str] = Counter()
        for survey in ("ztf", "lsst"):
            if survey not in rows.column_names:
                continue
            native = self._with_python(self._native(rows, survey), survey, letters, rejected)
            result = normalise(survey, native)
            tables.append(result.alerts)
            self._reject(native, result.rejected, letters, rejected)
        return pa.concat_tables(tables), rejected

    def _native(self, rows: pa.Table, survey: str) -> pa.Table:
        """Rows of one survey as a flat table of its native columns, address and ``route``."""
        names = self._sources.ztf if survey == "ztf" else self._sources.lsst
        mine = rows.filter(pc.field("topic").isin(names))
        flat = mine.select(["topic", "partition", "offset"])
        struct = mine[survey].combine_chunks()
        for name, column in zip(struct.type.names, struct.flatten(), strict=True):
            flat = flat.append_column(name, column)
        schema = pa.schema([*NATIVE_SCHEMAS[survey], pa.field("route", pa.string())])
        return flat.select(schema.names).cast(schema)

    def _with_python(
        self, native: pa.Table, survey: str, letters: list[bytes], rejected: Counter[str]
    ) -> pa.Table:
        """Replace the rows that the JVM does not read by what Python reads from their packets."""
        good = native.filter(pc.equal(native["route"], decode.JVM))
        extra: list[dict[str, Any]] = []
        unread = _addresses(_by_python(native))
        for begin in range(0, len(unread), _FETCH):
            part = unread[begin : begin + _FETCH]
            packets_of = self._reader.fetch(part)
            for address in part:
                try:
                    extra += self._records_of(packets_of.get(address), survey, address)
                except AlertError as error:
                    rejected[error.reason] += 1
                    letters.append(self._letter(error, address, packets_of.get(address, b"")))
        schema = NATIVE_SCHEMAS[survey]
        return pa.concat_tables(
            [good.select(schema.names), pa.Table.from_pylist(extra, schema=schema)]
        )

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
        rejected: Counter[str],
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
                rejected[error.reason] += 1
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


def _is_readable(survey: str, text: str) -> bool:
    try:
        decode.check_schema(survey, text)
    except AlertError:
        # Python says what is wrong with such a packet, if anything is.
        return False
    return True


def _by_python(native: pa.Table) -> pa.Table:
    return native.filter(pc.equal(native["route"], decode.PYTHON))


def _addresses(rows: pa.Table) -> list[Address]:
    columns = (rows[name].to_pylist() for name in ("topic", "partition", "offset"))
    return list(zip(*columns, strict=True))


def packet_details(
    reader: PacketReader, survey_of: Mapping[str, str], lsst_schemas: Mapping[int, str]
) -> Callable[[Sequence[Address]], dict[Address, PacketDetail]]:
    """Source of whole packets for the engine: fetched again from Kafka, decoded in Python."""

    def details(addresses: Sequence[Address]) -> dict[Address, PacketDetail]:
        found = {}
        # A topic that is no longer configured has no survey: its alerts stay as archived.
        known = [address for address in addresses if address[0] in survey_of]
        for address, value in reader.fetch(known).items():
            history = _history(value, survey_of[address[0]], lsst_schemas)
            found[address] = PacketDetail(history, hashlib.sha256(value).hexdigest())
        return found

    return details


def _history(packet: bytes, survey: str, lsst_schemas: Mapping[int, str]) -> tuple[Detection, ...]:
    """Light curve of a packet; empty if it is broken behind the columns that matching reads."""
    try:
        records = packets.decode_packet(packet, survey, lsst_schemas)
    except AlertError:
        return ()
    return tuple(packets.history(records[0], survey)) if len(records) == 1 else ()


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
