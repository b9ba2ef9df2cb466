"""Many notices from files: each read, classified, counted and written as a row."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from crossmatch.chains import Chain
from crossmatch.errors import ConfigError, NoticeError, Rejected, ServiceError
from gateway.feeds.message import Ignored
from gateway.feeds.registry import Registry
from gateway.listener.sources import MAX_NOTICE_BYTES
from gateway.mapfolder import find_map
from gateway.offline.trial import COLUMNS, Row, identity, row_of
from gateway.understand import Understood, understand

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)
_TABLE_SUFFIXES = (".csv", ".fits", ".fits.gz", ".parquet")
_TABLE_HEADS = (b"SIMPLE  =", b"PAR1", b"\x93NUMPY")
_CHUNK = 64
_CHUNK_BYTES = 8 * 2**20
OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")

_NUMBERS = ("ra_deg", "dec_deg", "radius90_deg", "area90_deg2")
ROW_SCHEMA = pa.schema(
    [
        pa.field(
            name,
            pa.float64() if name in _NUMBERS else pa.string(),
            nullable=name in (*_NUMBERS, "trigger_time_utc"),
        )
        for name in COLUMNS
    ]
)
"""Columns of ``--out``, in order."""


@dataclass(frozen=True, slots=True)
class Found:
    """A message in a file, or why its bytes cannot be had.

    ``name`` is the path as given and the rest of it, in a tarball ``archive:member``;
    ``last`` tells that the file on disk ends with it.
    """

    name: str
    raw: bytes
    rejected: Rejected | None = None
    last: bool = True


def files_in(paths: Sequence[str]) -> list[str]:
    """All regular files that are not hidden, of folders sorted and with all below.

    Raises
    ------
    ConfigError
        If a path does not exist or is neither a file nor a folder.
    """
    found: list[str] = []
    for path in paths:
        if not os.path.exists(path):
            raise ConfigError(f"{path}: no such file or folder")
        if os.path.isfile(path):
            found.append(path)
            continue
        if not os.path.isdir(path):
            raise ConfigError(f"{path}: neither a file nor a folder")
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(n for n in inner if not n.startswith("."))
            inside = (os.path.join(folder, n) for n in sorted(names) if not n.startswith("."))
            found += [file for file in inside if os.path.isfile(file)]
    return found


def messages(files: Iterable[str]) -> Iterator[Found]:
    """Every message of the files, tarballs member by member; nothing of them is kept."""
    for file in files:
        if file.lower().endswith(_TAR_SUFFIXES):
            yield from _members(file)
            continue
        try:
            size = os.path.getsize(file)
            refused = _too_large(file, size)
            raw = b"" if size > MAX_NOTICE_BYTES else Path(file).read_bytes()
        except OSError as error:
            why = NoticeError("unreadable", f"the file cannot be read: {error.strerror}")
            yield Found(file, b"", why)
            continue
        yield Found(file, raw, refused)


def _members(archive: str) -> Iterator[Found]:
    waiting: Found | None = None
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                hidden = any(
                    p.startswith(".") for p in PurePosixPath(member.name).parts if p.strip(".")
                )
                if hidden or not member.isfile():
                    continue
                if waiting is not None:
                    yield waiting
                too_large = _too_large(member.name, member.size)
                read = member.size <= MAX_NOTICE_BYTES
                file = tar.extractfile(member) if read else None
                raw = b"" if file is None else file.read()
                waiting = Found(f"{archive}:{member.name}", raw, too_large, last=False)
    except _TAR_ERRORS as error:
        if waiting is not None:
            yield waiting
        # What came before the damage counts; the archive itself is one more thing rejected.
        yield Found(archive, b"", NoticeError("bad_archive", f"not a whole tarball: {error}"))
        return
    if waiting is None:
        yield Found(archive, b"", NoticeError("empty", "nothing is in the tarball"))
    else:
        yield replace(waiting, last=True)


def _too_large(name: str, size: int) -> Rejected | None:
    """Why the listener would refuse the message; what is called a table may have any size."""
    if size <= MAX_NOTICE_BYTES or name.lower().endswith(_TABLE_SUFFIXES):
        return None
    return too_large(size)


def too_large(size: int) -> NoticeError:
    """Refusal of what the listener would not take; ``size`` in bytes."""
    return NoticeError("too_large", f"{size} bytes; at most {MAX_NOTICE_BYTES} are taken")


def _is_table(found: Found) -> bool:
    head = found.raw[:4096]
    return (
        found.name.lower().endswith(_TABLE_SUFFIXES)
        or head.startswith(_TABLE_HEADS)
        or b"<VOTABLE" in head
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """Classifies messages: the feeds, chains and maps that it takes, and a feed if one is told."""

    registry: Registry
    chains: Mapping[str, Chain]
    feed: str = ""
    skymaps: Path | None = None

    def understand(self, found: Found) -> Understood:
        """What a message is; a fault of a parser is a rejection too."""
        if found.rejected is not None:
            return Understood("rejected", rejected=found.rejected)
        if _is_table(found):
            return Understood("ignored", ignored=Ignored("table", "", ""))
        try:
            return understand(
                self.registry,
                self.chains,
                found.raw,
                feed=self.feed,
                find_map=partial(find_map, self.skymaps),
                heed_pause=False,
            )
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            return Understood("rejected", self.feed, rejected=NoticeError("parser_failed", detail))

    def rows(self, chunk: Sequence[Found]) -> list[tuple[Row, str]]:
        """Row and identity of each message."""
        rows = []
        for found in chunk:
            understood = self.understand(found)
            nothing = found.rejected is not None
            # Files that cannot be read are no repeats of each other.
            same = "" if nothing else identity(found.raw, understood)
            rows.append((row_of(_shown(found.name), understood), same))
        return rows


def _shown(name: str) -> str:
    """A file's name as text: bytes in it that are no UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(slots=True)
class Account:
    """Counts of all rows that were added."""

    notices: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    feeds: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    _events: set[str] = field(default_factory=set)
    _first: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row, same: str) -> Row:
        """Count a row and return it with the message that it repeats."""
        if same:
            first = self._first.setdefault(same, row.path)
            if first != row.path:
                self.duplicates += 1
                row = replace(row, duplicate_of=first)
        self.notices += 1
        self.outcomes[row.outcome] += 1
        self.feeds.setdefault(row.feed, Counter())[row.outcome] += 1
        if row.reason and row.reason != row.outcome:
            self.reasons[f"{row.outcome}: {row.reason}"] += 1
        if row.event_id:
            self._events.add(row.event_id)
        return row

    @property
    def events(self) -> int:
        """Number of different events."""
        return len(self._events)

    def as_dict(self, seconds: float) -> dict[str, Any]:
        """The account as plain values; messages that no feed knows are under ``""``."""
        return {
            "notices": self.notices,
            "outcomes": dict(self.outcomes.most_common()),
            "feeds": {name: dict(self.feeds[name]) for name in sorted(self.feeds)},
            "reasons": dict(self.reasons.most_common()),
            "duplicates": self.duplicates,
            "seconds": round(seconds, 3),
            "events": self.events,
        }


def check(
    files: Sequence[str],
    reader: Reader,
    *,
    jobs: int = 1,
    write: Callable[[Row], None] = lambda row: None,
    advance: Callable[[int, int], None] = lambda files, notices: None,
) -> Account:
    """Classify every message of the files, in order.

    Parameters
    ----------
    jobs : int
        Processes; with 1 the work is done in this one.
    write : callable
        Takes each row.
    advance : callable
        Told of the files and the messages that were finished since the last call.
    """
    account = Account()
    for last, rows in _worked(_chunks(messages(files)), reader, jobs):
        for row, same in rows:
            write(account.add(row, same))
        advance(sum(last), len(last))
    return account


_Worked = tuple[list[bool], list[tuple[Row, str]]]


def _worked(chunks: Iterator[list[Found]], reader: Reader, jobs: int) -> Iterator[_Worked]:
    """For each chunk which messages end a file, and the rows."""
    if jobs == 1:
        for chunk in chunks:
            yield [f.last for f in chunk], reader.rows(chunk)
        return
    # Not fork: this process may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _begin, (reader,)) as pool:
        pending: deque[tuple[list[bool], Future[list[tuple[Row, str]]]]] = deque()
        while True:
            for chunk in islice(chunks, 2 * jobs - len(pending)):
                pending.append(([f.last for f in chunk], pool.submit(_rows, chunk)))
            if not pending:
                return
            last, future = pending.popleft()
            yield last, future.result()


_reader: Reader | None = None


def _begin(reader: Reader) -> None:
    """Be a worker: once, for the feeds are large beside a chunk."""
    global _reader
    _reader = reader


def _rows(chunk: Sequence[Found]) -> list[tuple[Row, str]]:
    assert _reader is not None, "set when the process began"
    return _reader.rows(chunk)


def _chunks(source: Iterator[Found]) -> Iterator[list[Found]]:
    chunk: list[Found] = []
    size = 0
    for found in source:
        chunk.append(found)
        size += len(found.raw)
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def check_output(path: Path) -> None:
    """Raise ConfigError when rows could not be written there, before any work is done."""
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(f"--out {path}: name a file ending in .csv, .jsonl or .parquet")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.absolute().parent}")


class RowFile:
    """Rows as CSV, JSON lines or Parquet, by the suffix; written as they come.

    Raises
    ------
    ServiceError
        By every method, if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_output(path)
        self._path = path
        self._rows: list[Row] = []
        self._text: IO[str] | None = None
        self._table: pq.ParquetWriter | None = None
        with _writing(path):
            if path.suffix.lower() == ".parquet":
                self._table = pq.ParquetWriter(path, ROW_SCHEMA)
            else:
                self._text = path.open("w", encoding="utf-8", newline="\n")
            if self._text is not None and path.suffix.lower() == ".csv":
                self._text.write(",".join(COLUMNS) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with _writing(self._path):
            self._flush()
            for file in (self._text, self._table):
                if file is not None:
                    file.close()

    def write(self, row: Row) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= 1000:
            with _writing(self._path):
                self._flush()

    def _flush(self) -> None:
        rows = [dict(zip(COLUMNS, astuple(row), strict=True)) for row in self._rows]
        self._rows.clear()
        if self._table is not None:
            self._table.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
        elif self._text is not None and self._path.suffix.lower() == ".csv":
            csv.writer(self._text, lineterminator="\n").writerows(row.values() for row in rows)
        elif self._text is not None:
            self._text.writelines(json.dumps(row) + "\n" for row in rows)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk become a sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise ServiceError(f"{path}: cannot be written: {why}") from error
