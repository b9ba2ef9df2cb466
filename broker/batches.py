"""What the rows of a batch say: messages of ours, alerts, and what cannot be used of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from broker import decode, packets, topics, worker
from broker.judge import Address
from broker.kafka_io import PacketReader
from broker.lookuplog import decode_answer
from broker.lsstschemas import LsstSchemas
from broker.regioncodec import RegionRecord
from broker.rejections import FETCH, Rejections, addresses
from broker.sources import OWN, Sources
from broker.surveys import NATIVE_SCHEMAS, Normalised, normalise
from broker.verdictlog import decode_verdict
from crossmatch.ahead import ROWS
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import AlertError, Rejected
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict

_OWN = list(OWN)
_HOW_READ = [pa.field("route", pa.string()), pa.field("schema_id", pa.int64())]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Said:
    """What a batch says.

    ``regions`` has for each alert the rows of the regions that workers found, null where none
    looked; ``next`` the offsets behind the last message of ours, by topic, ``alerts_next`` those
    of alert partitions. Rejected alerts are counted by reason and topic, ``lost`` those that
    Kafka deleted unread, by topic; ``messages`` are those that bore alerts.
    """

    alerts: pa.Table
    regions: pa.ListArray
    records: Sequence[RegionRecord]
    verdicts: Sequence[Verdict]
    lookups: Sequence[Answer]
    rejected: Mapping[tuple[str, str], int]
    letters: Sequence[bytes]
    messages: int
    lost: Mapping[str, int]
    next: Mapping[str, int | None]
    alerts_next: Mapping[str, int]


class Batches:
    """Reads batches.

    Parameters
    ----------
    sources : Sources
    schemas : LsstSchemas
        Those that are at hand, by their numbers.
    reader : PacketReader
        Of packets that Python reads, and of those that are rejected.
    read_region : callable
        From a message of ``mm.regionlog`` to its record, or Rejected.
    now : callable
        The clock of dead letters.
    by_workers : bool
        Whether workers of Spark's looked for regions.
    """

    def __init__(
        self,
        *,
        sources: Sources,
        schemas: LsstSchemas,
        reader: PacketReader,
        read_region: Callable[[bytes], RegionRecord],
        now: Callable[[], datetime],
        by_workers: bool,
    ) -> None:
        self._sources = sources
        self._schemas = schemas
        self._reader = reader
        self._read_region = read_region
        self._now = now
        self._by_workers = by_workers

    def read(self, rows: pa.Table, alerts_next: Mapping[str, int]) -> Said:
        """What the slim rows of a batch say.

        Parameters
        ----------
        rows : table
            As the query gives them.
        alerts_next : mapping of str to int
            Next offset of each alert partition before this batch.
        """
        rejections = Rejections(self._reader, self._sources, self._now)
        own = _own(rows)
        records = self._understood(own, topics.REGION_LOG, self._read_region, "regions", rejections)
        verdicts = self._understood(own, topics.VERDICTS, decode_verdict, "verdicts", rejections)
        lookups = self._understood(own, topics.LOOKUPS, decode_answer, "lookups", rejections)
        alerts, regions = self._alerts(rows, rejections)
        positions, lost = self._positions(rows, alerts_next)
        return Said(
            alerts=alerts,
            regions=regions,
            records=records,
            verdicts=verdicts,
            lookups=lookups,
            rejected=rejections.counts,
            letters=rejections.letters,
            messages=rows.num_rows - own.num_rows,
            lost=lost,
            next={topic: _next_of(own, topic) for topic in OWN},
            alerts_next=positions,
        )

    def _positions(
        self, rows: pa.Table, alerts_next: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Next offset of each alert partition, and how many alerts Kafka deleted unread."""
        known = dict(alerts_next)
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

    def _understood(
        self,
        own: pa.Table,
        topic: str,
        decoded: Callable[[bytes], _T],
        source: str,
        rejections: Rejections,
    ) -> list[_T]:
        """What messages of ours say; one that says nothing becomes a dead letter."""
        found = []
        for row in own.filter(pc.field("topic") == topic).to_pylist():
            raw = row["own"] or b""
            try:
                found.append(decoded(raw))
            except Rejected as error:
                rejections.message(error, (topic, 0, row["offset"]), raw, source)
        return found

    def _alerts(self, rows: pa.Table, rejections: Rejections) -> tuple[pa.Table, pa.ListArray]:
        """Good alerts, and rows of regions where workers looked for them."""
        tables, regions = [ALERT_SCHEMA.empty_table()], [pa.nulls(0, ROWS)]
        for survey in ("ztf", "lsst"):
            if survey not in rows.column_names:
                continue
            mine = self._known(self._native(rows, survey), rejections)
            late = self._by_python(mine, survey, rejections)
            mine = mine.filter(pc.equal(mine["route"], decode.JVM))
            for native, (done, found) in (
                (mine, self._normalised(survey, mine)),
                (late, _in_driver(survey, late)),
            ):
                tables.append(done.alerts)
                regions.append(found)
                rejections.alerts(native, done.rejected)
        return pa.concat_tables(tables), pa.concat_arrays(regions)

    def _normalised(self, survey: str, read: pa.Table) -> tuple[Normalised, pa.ListArray]:
        """What the rows that the JVM read tell, with the regions that workers found."""
        if not self._by_workers:
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
        if self._by_workers:
            return flat
        schema = pa.schema([*NATIVE_SCHEMAS[survey], *_HOW_READ])
        return flat.select(schema.names).cast(schema)

    def _known(self, native: pa.Table, rejections: Rejections) -> pa.Table:
        """Rows without the messages whose schemas are not at hand; those become dead letters."""
        numbers = pc.unique(native["schema_id"].drop_null()).to_pylist()
        schemas = self._schemas
        missing = {number: schemas.advice(number) for number in numbers if number not in schemas}
        if not missing:
            return native
        unknown = pc.is_in(native["schema_id"], value_set=pa.array(missing, pa.int64()))
        ids = native["schema_id"].to_pylist()
        rows = [i for i, is_unknown in enumerate(unknown.to_pylist()) if is_unknown]
        rejections.alerts(native, [(i, "unknown_schema_id", missing[ids[i]]) for i in rows])
        return native.filter(pc.invert(unknown))

    def _by_python(self, native: pa.Table, survey: str, rejections: Rejections) -> pa.Table:
        """What Python reads from the packets of the rows that the JVM does not read."""
        extra: list[dict[str, Any]] = []
        unread = addresses(native.filter(pc.equal(native["route"], decode.PYTHON)))
        for begin in range(0, len(unread), FETCH):
            part = unread[begin : begin + FETCH]
            packets_of = self._reader.fetch(part)
            for address in part:
                try:
                    extra += self._records_of(packets_of.get(address), survey, address)
                except AlertError as error:
                    rejections.alert(error, address, packets_of.get(address, b""))
        return pa.Table.from_pylist(extra, schema=NATIVE_SCHEMAS[survey])

    def _records_of(
        self, packet: bytes | None, survey: str, address: Address
    ) -> list[dict[str, Any]]:
        if packet is None:
            raise AlertError("packet_gone", "Kafka no longer has the packet")
        place = dict(zip(("topic", "partition", "offset"), address, strict=True))
        records = packets.decode_packet(packet, survey, self._sources.lsst_schemas)
        return [packets.native_row(record, survey) | place for record in records]


def _own(rows: pa.Table) -> pa.Table:
    """Our own messages of the batch, in the order of their topics."""
    found = rows.filter(pc.field("topic").isin(_OWN)).select(["topic", "offset", "own"])
    return found.sort_by([("topic", "ascending"), ("offset", "ascending")])


def _next_of(own: pa.Table, topic: str) -> int | None:
    """Offset behind the last message of one of our topics; None without any."""
    offsets = own.filter(pc.field("topic") == topic)["offset"]
    return None if len(offsets) == 0 else int(pc.max(offsets).as_py()) + 1


def _in_driver(survey: str, native: pa.Table) -> tuple[Normalised, pa.ListArray]:
    """Alerts of native rows, for whose regions nobody looked yet."""
    done = normalise(survey, native)
    return done, pa.nulls(done.alerts.num_rows, ROWS)
