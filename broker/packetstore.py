"""Whole alert packets as they came from Kafka, by night, in a Delta table.

The matcher keeps the packets of its candidates here; in mode "all" a Spark query
(`broker.rawquery`) adds every packet to the same table. A packet is found by its address
(topic, partition, offset): ranges of addresses in Delta's log name the files that may hold
it, the small address columns of these the row, and only its row group is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError, TableNotFoundError

from broker.diskguard import (
    DiskUsage,
    Limits,
    PacketNews,
    Stored,
    disk_usage,
    dropped,
    oldest,
    refusal,
)
from broker.packetfiles import (
    SCHEMA,
    Address,
    Index,
    Night,
    Packet,
    PacketFiles,
    PacketsGone,
    add_action,
    as_table,
    index_of,
    nights_of,
    parts,
)
from crossmatch.errors import ServiceError

CHUNK_BYTES = 64 << 20
"""Packets are written in parts of this size: what one file holds, and memory."""
FILE_BYTES = 128 << 20
GROUP_ROWS = 64
"""Packets in a row group: what must be read to get one of them, about 5 MB."""
# Cut-outs are compressed already, the schema and the numbers of a packet shrink: 0.62 of its size.
# Level 3 saves another hundredth and takes twice the time; snappy is as fast and leaves 0.84.
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    max_row_group_size=GROUP_ROWS,
    column_properties={
        "packet": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    },
)
_IN_FILES = ["survey", "object_id", "alert_id", "topic", "partition", "offset", "packet"]
_T = TypeVar("_T")
_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": "topic,partition,offset",
    "delta.logRetentionDuration": "interval 1 days",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of packets: ``stored + known + refused`` is their number."""

    stored: int = 0
    known: int = 0
    refused: int = 0
    news: tuple[PacketNews, ...] = ()


class PacketStore:
    """Whole packets by night.

    Parameters
    ----------
    path : Path
        Folder of the Delta table; made at the first write.
    limits : Limits
    usage : callable
        Tells how full the disk of a folder is.
    """

    def __init__(
        self, path: Path, limits: Limits | None = None, usage: DiskUsage = disk_usage
    ) -> None:
        self.path = path
        self.limits = limits or Limits()
        self._usage = usage
        self._lock = threading.RLock()
        self._files = PacketFiles(path)
        self._latest: tuple[int, Index] | None = None
        self._refusing = False

    # -- writing ---------------------------------------------------------------------

    def put(self, rows: Sequence[Packet], step: int) -> Kept:
        """Store packets, each address once; one that is there already is left as it is.

        A step that is done again therefore adds nothing. What had to go for them, and what
        there was no room for, is told in ``news``; a refusal only when it begins.

        Raises
        ------
        ServiceError
            When the disk fails.
        """
        new = {row.address: row for row in rows}
        stored, refused = 0, 0
        news: list[PacketNews] = []
        with self._lock:
            try:
                for address in self.known(list(new)):
                    del new[address]
            except ServiceError as error:
                # Some may be stored twice then; whoever reads gets one.
                news.append(PacketNews(kind="unreadable", packets=0, bytes=0, text=str(error)))
            for part in parts([new[a] for a in sorted(new)], CHUNK_BYTES):
                made, room = self.make_room(sum(len(row.data) for row in part), len(part))
                news += made
                if room:
                    self._append(part, step)
                    stored += len(part)
                else:
                    refused += len(part)
        return Kept(stored, len(rows) - stored - refused, refused, tuple(news))

    def make_room(self, coming: int, packets: int) -> tuple[list[PacketNews], bool]:
        """Drop the oldest until ``coming`` more bytes fit: what is told, and whether they do."""
        limits = self.limits
        news: list[PacketNews] = []
        with self._lock:
            if limits.max_bytes is None or coming <= limits.max_bytes:
                news += self.trim(limits.max_bytes, limits.keep_free, coming=coming)
            usage = self._usage(self.path)
            full = limits.excess(self._index().bytes, coming, usage) > 0
            if full and not self._refusing:
                news.append(refusal(packets, coming, self.path, limits, usage))
            self._refusing = full
        return news, not full

    def trim(
        self,
        max_bytes: int | None,
        keep_free: float,
        usage: DiskUsage | None = None,
        coming: int = 0,
    ) -> list[PacketNews]:
        """Drop the oldest nights, and of the only night the oldest files, until the limits hold.

        Their bytes leave the disk at once. A reader that has such a file open goes on.

        Parameters
        ----------
        max_bytes : int or None
            Packets take no more than this afterwards, with ``coming``.
        keep_free : float
            Part of the disk that stays free of packets.
        usage : callable, optional
            In place of the store's own.
        coming : int
            Bytes about to be written.

        Returns
        -------
        list of PacketNews
            One of each night from which something was dropped.
        """
        with self._lock:
            table = self._table()
            if table is None:
                return []
            index = self._index()
            now = (usage or self._usage)(self.path)
            need = Limits(max_bytes, keep_free).excess(index.bytes, coming, now)
            going = oldest(index.files, need) if need else []
            for file in going:
                (self.path / file.path).unlink(missing_ok=True)
                self._files.forget(file.path)
            if going:
                self._changed(table.repair)
        for night in {file.night for file in going}:
            # A reader of the folder, or a file just being written, keeps it.
            with suppress(OSError):
                (self.path / f"night={night}").rmdir()
        return dropped(going, index.files)

    def commit(self, files: Sequence[tuple[str, str]], app: str, version: int) -> Kept:
        """Take Parquet files into the table that somebody else wrote below its folder.

        Parameters
        ----------
        files : sequence of (night, path relative to the table)
        app, version : str, int
            Transaction; see `committed`.
        """
        if not files:
            return Kept()
        limits = self.limits
        adds: list[Any] = [add_action(self.path, night, name) for night, name in files]
        done = CommitProperties(app_transactions=[Transaction(app, version)])
        with self._lock:
            table = self._made()
            self._changed(
                lambda: table.create_write_transaction(
                    adds,
                    mode="append",
                    schema=SCHEMA,
                    partition_by=["night"],
                    commit_properties=done,
                )
            )
            packets = self._index().packets_in([name for _, name in files])
            return Kept(packets, news=tuple(self.trim(limits.max_bytes, limits.keep_free)))

    def committed(self, app: str) -> int:
        """Newest version of ``app`` that was committed; -1 when there is none."""
        table = self._table()
        version = None if table is None else table.transaction_version(app)
        return -1 if version is None else version

    def compact(self, night: str) -> int:
        """Make the small files of a night into large ones; the number of files that went."""
        with self._lock:
            table = self._table()
            if table is None:
                return 0
            done = self._changed(
                lambda: table.optimize.compact(
                    partition_filters=[("night", "=", night)],
                    target_size=FILE_BYTES,
                    max_concurrent_tasks=1,
                    writer_properties=_WRITER,
                )
            )
            # Only what the log lists as removed goes: files that Spark is just writing stay.
            self._changed(
                lambda: table.vacuum(
                    retention_hours=0, dry_run=False, enforce_retention_duration=False
                )
            )
        return int(done["numFilesRemoved"])

    def _append(self, rows: Sequence[Packet], step: int) -> None:
        self._made()
        self._changed(
            lambda: write_deltalake(
                str(self.path),
                as_table(rows),
                mode="append",
                partition_by=["night"],
                writer_properties=_WRITER,
                target_file_size=FILE_BYTES,
                commit_properties=CommitProperties(custom_metadata={"step": str(step)}),
            )
        )

    def _changed(self, change: Callable[[], _T]) -> _T:
        try:
            return change()
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the packets {self.path} cannot be written: {error}") from error

    # -- reading ---------------------------------------------------------------------

    def get(self, addresses: Sequence[Address]) -> dict[Address, bytes]:
        """Packets at ``addresses``; those that are not stored are left out.

        Raises
        ------
        ServiceError
            When a file of packets is broken.
        """
        return self._twice(lambda: self._get(addresses))

    def _get(self, addresses: Sequence[Address]) -> dict[Address, bytes]:
        found: dict[Address, bytes] = {}
        for name, hits in self._hits(addresses):
            rest = {a: row for a, row in hits.items() if a not in found}
            found |= self._files.packets_at(name, rest)
        return found

    def known(self, addresses: Sequence[Address]) -> set[Address]:
        """Those of ``addresses`` that are stored."""
        return self._twice(lambda: {a for _, hits in self._hits(addresses) for a in hits})

    def by_sha256(self, digest: str) -> bytes | None:
        """The packet with this digest (64 hexadecimal digits), from the newest night that has it.

        Reads the digests of all packets: about 20 MB for a night of ZTF.
        """
        return self._twice(lambda: self._by_sha256(digest.lower()))

    def _by_sha256(self, digest: str) -> bytes | None:
        place: Address = ("", 0, 0)
        for file in reversed(self._index().files):
            digests = self._files.digests(file.path)
            if digest in digests:
                found = self._files.packets_at(file.path, {place: digests.index(digest)})
                return found[place]
        return None

    def packets(self, night: str) -> Iterator[Packet]:
        """Every packet of a night, once, a row group at a time.

        Raises
        ------
        ServiceError
            When its files are dropped or broken while they are read.
        """
        index = self._index()
        done: list[Stored] = []
        for file in (f for f in index.files if f.night == night):
            addresses = self._files.rows(file.path).addresses()
            # Only after a lost checkpoint are there packets twice.
            again = {a for _, hits in self._hits(addresses, index, done) for a in hits}
            done.append(file)
            for number in self._files.groups(file.path):
                for row in self._files.group(file.path, number, _IN_FILES).to_pylist():
                    address = (row["topic"], row["partition"], row["offset"])
                    if address not in again:
                        known_as = (row["survey"], row["object_id"], row["alert_id"], night)
                        yield Packet(address, *known_as, row["packet"])

    def nights(self) -> list[Night]:
        """Nights in their order, with what is stored of each."""
        return nights_of(self._index())

    def _hits(
        self,
        addresses: Sequence[Address],
        index: Index | None = None,
        among: Sequence[Stored] | None = None,
    ) -> Iterator[tuple[str, dict[Address, int]]]:
        """Files that hold some of ``addresses``, with the row of each."""
        for name, maybe in (index or self._index()).may_hold(addresses, among):
            hits = self._files.rows(name).rows_of(maybe)
            if hits:
                yield name, hits

    def _twice(self, ask: Callable[[], _T]) -> _T:
        """The answer; asked again if files were dropped, compacted or deleted meanwhile."""
        try:
            return ask()
        except PacketsGone:
            table = self._table()
            if table is not None:
                # Files that the log still names went by other hands.
                self._changed(table.repair)
            return ask()

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.path))
        except TableNotFoundError:
            return None

    def _made(self) -> DeltaTable:
        table = self._table()
        if table is None:
            self._changed(lambda: self.path.mkdir(parents=True, exist_ok=True))
            return self._changed(
                lambda: DeltaTable.create(
                    str(self.path),
                    SCHEMA,
                    mode="ignore",
                    partition_by=["night"],
                    configuration=_CONFIGURATION,
                )
            )
        return table

    def _index(self) -> Index:
        """Files of the newest version."""
        with self._lock:
            table = self._table()
            if table is None:
                return Index((), (), ())
            version = table.version()
            if self._latest is None or self._latest[0] != version:
                self._latest = (version, index_of(table))
            return self._latest[1]
