"""The Parquet files of the packet store: which may hold an address, and reading single rows."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from broker.diskguard import Stored
from crossmatch.errors import ServiceError
from crossmatch.model import IntArray

Address = tuple[str, int, int]
"""Topic, partition and offset."""

SCHEMA = pa.schema(
    [
        pa.field("night", pa.string()),
        pa.field("survey", pa.string()),
        pa.field("object_id", pa.string()),
        pa.field("alert_id", pa.int64()),
        pa.field("topic", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("packet", pa.binary()),
    ]
)
ADDRESS = ("topic", "partition", "offset")
_CACHED_FILES = 4096


class PacketsGone(ServiceError):
    """A file of packets left the disk while it was wanted."""


class Packet(NamedTuple):
    """A packet with what it is filed under; ``night`` as ``YYYY-MM-DD``."""

    address: Address
    survey: str
    object_id: str | None
    alert_id: int | None
    night: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Night:
    """What is stored of a night; a packet stored twice counts twice."""

    night: str
    packets: int
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Index:
    """Files of one version of the table, with the range of addresses in each.

    ``lowest`` and ``highest`` have a topic, partition and offset a file, each by itself.
    """

    files: tuple[Stored, ...]
    lowest: tuple[Address, ...]
    highest: tuple[Address, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    def packets_in(self, names: Iterable[str]) -> int:
        """Packets in the files with these paths."""
        chosen = set(names)
        return sum(file.packets for file in self.files if file.path in chosen)

    def may_hold(
        self, addresses: Iterable[Address], among: Sequence[Stored] | None = None
    ) -> list[tuple[str, list[Address]]]:
        """Paths of files (of ``among``, or all) with the addresses that each may hold."""
        numbers = range(len(self.files))
        if among is not None:
            chosen = {file.path for file in among}
            numbers = [i for i in numbers if self.files[i].path in chosen]  # type: ignore[assignment]
        places: dict[tuple[str, int], list[int]] = {}
        for topic, partition, offset in addresses:
            places.setdefault((topic, partition), []).append(offset)
        offsets = {place: np.sort(np.array(found)) for place, found in places.items()}
        result = []
        for i in numbers:
            maybe = [
                (*place, int(offset))
                for place, mine in offsets.items()
                for offset in _between(mine, place, self.lowest[i], self.highest[i])
            ]
            if maybe:
                result.append((self.files[i].path, maybe))
        return result


def _between(
    offsets: IntArray, place: tuple[str, int], lowest: Address, highest: Address
) -> IntArray:
    inside = lowest[0] <= place[0] <= highest[0] and lowest[1] <= place[1] <= highest[1]
    begin, end = np.searchsorted(offsets, [lowest[2], highest[2] + 1]) if inside else (0, 0)
    return offsets[begin:end]


def index_of(table: DeltaTable) -> Index:
    """Files of a table, oldest night and oldest file first."""
    actions = pa.table(table.get_add_actions(flatten=True))
    written = actions["modification_time"].cast(pa.int64())
    actions = actions.set_column(
        actions.column_names.index("modification_time"), "modification_time", written
    )
    rows = sorted(
        actions.to_pylist(), key=lambda r: (r["partition.night"], r["modification_time"], r["path"])
    )
    return Index(
        tuple(
            Stored(
                r["path"],
                r["partition.night"],
                r["num_records"],
                r["size_bytes"],
                r["modification_time"],
            )
            for r in rows
        ),
        tuple((r["min.topic"], r["min.partition"], r["min.offset"]) for r in rows),
        tuple((r["max.topic"], r["max.partition"], r["max.offset"]) for r in rows),
    )


def nights_of(index: Index) -> list[Night]:
    """Nights in their order, with what is stored of each."""
    by_night: dict[str, list[Stored]] = {}
    for file in index.files:
        by_night.setdefault(file.night, []).append(file)
    return [
        Night(night, sum(f.packets for f in files), sum(f.bytes for f in files), len(files))
        for night, files in sorted(by_night.items())
    ]


def parts(rows: Sequence[Packet], most: int) -> Iterator[list[Packet]]:
    """Rows in parts of at most ``most`` bytes, or of one packet that is larger."""
    part: list[Packet] = []
    size = 0
    for row in rows:
        if part and size + len(row.data) > most:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.data)
    if part:
        yield part


def as_table(rows: Sequence[Packet]) -> pa.Table:
    """Packets as rows of `SCHEMA`."""
    columns = [
        [row.night for row in rows],
        [row.survey for row in rows],
        [row.object_id for row in rows],
        [row.alert_id for row in rows],
        *([row.address[i] for row in rows] for i in range(3)),
        [hashlib.sha256(row.data).hexdigest() for row in rows],
        [row.data for row in rows],
    ]
    return pa.table(columns, schema=SCHEMA)


def add_action(root: Path, night: str, name: str) -> AddAction:
    """What takes the Parquet file ``name`` below ``root`` into the table."""
    known = (root / name).stat()
    return AddAction(
        path=name,
        size=known.st_size,
        partition_values={"night": night},
        modification_time=int(known.st_mtime * 1000),
        data_change=True,
        stats=_statistics(root / name),
    )


def _statistics(path: Path) -> str:
    """Ranges of the addresses in a Parquet file, from its footer, as Delta's log has them."""
    footer = _reading(path, lambda: pq.read_metadata(path))
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    names = footer.schema.names
    for name in ADDRESS:
        stats = [group.column(names.index(name)).statistics for group in groups]
        lowest[name] = min(s.min for s in stats)
        highest[name] = max(s.max for s in stats)
    return json.dumps(
        {
            "numRecords": footer.num_rows,
            "minValues": lowest,
            "maxValues": highest,
            "nullCount": dict.fromkeys(ADDRESS, 0),
        }
    )


@dataclass(frozen=True, slots=True)
class FileRows:
    """Addresses of the rows of a file, (n,) each, and where its row groups begin, (g + 1,)."""

    topics: tuple[str, ...]
    topic: IntArray
    partition: IntArray
    offset: IntArray
    begins: IntArray

    def addresses(self) -> list[Address]:
        """Address of each row."""
        rows = zip(self.topic, self.partition, self.offset, strict=True)
        return [(self.topics[t], int(p), int(o)) for t, p, o in rows]

    def rows_of(self, addresses: Iterable[Address]) -> dict[Address, int]:
        """Row of each address that is here."""
        wanted = set(addresses)
        near = np.flatnonzero(np.isin(self.offset, [a[2] for a in wanted]))
        found: dict[Address, int] = {}
        for row in near.tolist():
            address = (
                self.topics[self.topic[row]],
                int(self.partition[row]),
                int(self.offset[row]),
            )
            if address in wanted:
                found.setdefault(address, row)
        return found


class PacketFiles:
    """Reads the files below ``root``; addresses of the latest used stay in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache: OrderedDict[str, FileRows] = OrderedDict()

    def forget(self, name: str) -> None:
        """No longer keep the addresses of a file."""
        self._cache.pop(name, None)

    def rows(self, name: str) -> FileRows:
        """Addresses of the rows of a file."""
        if name not in self._cache:
            self._cache[name] = self._read_rows(self.root / name)
            if len(self._cache) > _CACHED_FILES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(name)
        return self._cache[name]

    def _read_rows(self, path: Path) -> FileRows:
        def read() -> tuple[pa.Table, list[int]]:
            with pq.ParquetFile(path) as file:
                footer = file.metadata
                sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
                return file.read(columns=list(ADDRESS)), sizes

        table, sizes = _reading(path, read)
        topics = table["topic"].combine_chunks().dictionary_encode()
        return FileRows(
            tuple(topics.dictionary.to_pylist()),
            topics.indices.to_numpy(),
            table["partition"].to_numpy(),
            table["offset"].to_numpy(),
            np.concatenate([[0], np.cumsum(sizes)]),
        )

    def digests(self, name: str) -> list[str]:
        """SHA-256 of each row's packet."""
        path = self.root / name
        table = _reading(path, lambda: pq.ParquetFile(path).read(columns=["sha256"]))
        digests: list[str] = table["sha256"].to_pylist()
        return digests

    def packets_at(self, name: str, rows: Mapping[Address, int]) -> dict[Address, bytes]:
        """Packets of some rows, each checked against its digest.

        Raises
        ------
        PacketsGone
            When the file is no longer there.
        ServiceError
            When it cannot be read, or has other bytes than were written.
        """
        begins = self.rows(name).begins
        groups: dict[int, list[tuple[Address, int]]] = {}
        for address, row in rows.items():
            number = int(np.searchsorted(begins, row, side="right")) - 1
            groups.setdefault(number, []).append((address, row - int(begins[number])))
        found = {}
        for number, places in sorted(groups.items()):
            table = self.group(name, number, ["sha256", "packet"])
            for address, row in places:
                data = table["packet"][row].as_py()
                if hashlib.sha256(data).hexdigest() != table["sha256"][row].as_py():
                    raise _broken(self.root / name, "a packet is not what was written")
                found[address] = data
        return found

    def groups(self, name: str) -> range:
        """Numbers of the row groups of a file."""
        return range(len(self.rows(name).begins) - 1)

    def group(self, name: str, number: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a row group."""
        path = self.root / name

        def read() -> pa.Table:
            with pq.ParquetFile(path) as file:
                return file.read_row_group(number, columns=list(columns))

        return _reading(path, read)


def _reading(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FileNotFoundError as error:
        raise PacketsGone(
            f"the packets in {path} were dropped to make room while they were read;"
            " ask again for what is left"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(path, str(error).splitlines()[0][:200]) from error


def _broken(path: Path, why: str) -> ServiceError:
    return ServiceError(
        f"the file of packets {path} is broken ({why}); restore it from a copy, or delete it"
        " and its packets count as dropped"
    )
