"""Events put aside in a file of SQLite's: one file, no server, and it survives a kill."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from broker.coldstore import Family
from crossmatch.errors import ServiceError

# "mmgw": how a file of ours is known; 0 is what a new file has.
_APPLICATION_ID = 0x6D6D6777
_FORMAT = 1
_WAIT_SECONDS = 5.0
_DIGEST_BYTES = 32
_LARGEST_EXPONENT = sys.float_info.max_exp
_MAX_JOURNAL_BYTES = 64 << 20
# The texts are apart from the small rows that every search reads.
_TABLES = """
CREATE TABLE families (
    id INTEGER PRIMARY KEY,
    start_jd REAL NOT NULL,
    end_jd REAL NOT NULL,
    span_days REAL NOT NULL,
    put_step INTEGER NOT NULL,
    taken_step INTEGER,
    digests BLOB NOT NULL
);
CREATE INDEX families_by_span ON families (span_days, end_jd, start_jd) WHERE taken_step IS NULL;
CREATE INDEX families_by_end ON families (end_jd) WHERE taken_step IS NULL;
CREATE TABLE names (
    name BLOB NOT NULL,
    family INTEGER NOT NULL REFERENCES families ON DELETE CASCADE,
    PRIMARY KEY (name, family)
) WITHOUT ROWID;
CREATE INDEX names_by_family ON names (family);
CREATE TABLE bodies (
    family INTEGER PRIMARY KEY REFERENCES families ON DELETE CASCADE,
    size INTEGER NOT NULL,
    body BLOB NOT NULL
);
"""
# Families of one span are sorted by their end, so that those which overlap a time lie together
# but for a factor of two; without spans one long window would have all that are later read.
_BETWEEN = """
WITH RECURSIVE spans (days) AS (
    SELECT min(span_days) FROM families WHERE taken_step IS NULL
    UNION ALL
    SELECT (SELECT min(span_days) FROM families WHERE taken_step IS NULL AND span_days > days)
    FROM spans WHERE days IS NOT NULL
)
SELECT id FROM spans CROSS JOIN families
WHERE span_days = days AND end_jd >= :start AND end_jd <= :end + days AND start_jd < :end
    AND taken_step IS NULL
ORDER BY id
"""
_FIND = """
SELECT family FROM names JOIN families ON id = family WHERE name = ? AND taken_step IS NULL
"""
_TAKE = """
SELECT start_jd, end_jd, size, body FROM families JOIN bodies ON family = id
WHERE id = ? AND taken_step IS NULL
"""


class SqliteColdStore:
    """`broker.coldstore.ColdStore` in a file.

    Every call is durable when it returns, and may come from any thread. One process
    has the file: another is refused, so that a matcher which was replaced but still runs
    cannot put its families among those of its successor.

    Parameters
    ----------
    path : Path or None
        File, made where there is none, readable by its owner alone: private streams' events
        are in it. None: in memory.

    Raises
    ------
    ServiceError
        Here and in every method: the file is not ours, broken, in use or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._place = "the store in memory" if path is None else str(path)
        self._lock = threading.Lock()
        with self._told():
            self._db = _connected(path)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def restore(self, committed_step: int) -> None:
        """Go back to how things stood after a step; what was taken by then is deleted."""
        step = {"step": committed_step}
        with self._changing() as db:
            db.execute("DELETE FROM families WHERE put_step > :step OR taken_step <= :step", step)
            db.execute("UPDATE families SET taken_step = NULL WHERE taken_step > :step", step)

    def put(self, families: Sequence[Family], step: int) -> None:
        """Put families aside.

        Parameters
        ----------
        families : sequence of Family
            Times may be infinite.
        step : int
            Number of the step that this belongs to.

        Raises
        ------
        ValueError
            For a time or a value in a group that is not a number.
        """
        packed = [(family, _packed(family)) for family in families]
        with self._changing() as db:
            for family, body in packed:
                number = db.execute(
                    "INSERT INTO families (start_jd, end_jd, span_days, put_step, digests)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (*_times(family), step, b"".join(map(_digest, family.records))),
                ).lastrowid
                db.executemany(
                    "INSERT INTO names VALUES (?, ?)",
                    [(_encoded(name), number) for name in sorted(family.names)],
                )
                compressed = pa.compress(body, codec="zstd", asbytes=True)
                db.execute("INSERT INTO bodies VALUES (?, ?, ?)", (number, len(body), compressed))

    def find(self, names: Iterable[str]) -> list[int]:
        """Ids of families that bear any of the names, ascending."""
        found: set[int] = set()
        with self._reading() as db:
            for name in set(names):
                found.update(row[0] for row in db.execute(_FIND, (_encoded(name),)))
        return sorted(found)

    def between(self, start_jd: float, end_jd: float) -> list[int]:
        """Ids of families with ``start_jd < end`` and ``end_jd >= start``, ascending."""
        with self._reading() as db:
            found = db.execute(_BETWEEN, {"start": start_jd, "end": end_jd})
            return [row[0] for row in found]

    def take(self, ids: Iterable[int], step: int) -> list[Family]:
        """Give families back in the order of their ids; those not here any more are left out."""
        families = []
        with self._changing() as db:
            for number in sorted(set(ids)):
                row = db.execute(_TAKE, (number,)).fetchone()
                if row is None:
                    continue
                db.execute("UPDATE families SET taken_step = ? WHERE id = ?", (step, number))
                names = db.execute("SELECT name FROM names WHERE family = ?", (number,))
                start_jd, end_jd, size, body = row
                records, groups = self._unpacked(number, size, body)
                named = frozenset(_decoded(name) for (name,) in names)
                families.append(Family(named, start_jd, end_jd, records, groups))
        return families

    def latest_end_jd(self) -> float:
        """When the last window of all families closes, JD UTC; minus infinity without any."""
        with self._reading() as db:
            row = db.execute("SELECT max(end_jd) FROM families WHERE taken_step IS NULL").fetchone()
        return -math.inf if row[0] is None else float(row[0])

    def count(self) -> int:
        """Number of families that are here."""
        with self._reading() as db:
            (number,) = db.execute(
                "SELECT count(*) FROM families WHERE taken_step IS NULL"
            ).fetchone()
        return int(number)

    def record_digests(self) -> set[bytes]:
        """SHA-256 digests of all records that are here."""
        digests: set[bytes] = set()
        with self._reading() as db:
            for (some,) in db.execute("SELECT digests FROM families WHERE taken_step IS NULL"):
                digests.update(
                    some[at : at + _DIGEST_BYTES] for at in range(0, len(some), _DIGEST_BYTES)
                )
        return digests

    def _unpacked(
        self, number: int, size: int, body: bytes
    ) -> tuple[tuple[bytes, ...], tuple[Mapping[str, Any], ...]]:
        try:
            return _unpacked(pa.decompress(body, size, codec="zstd", asbytes=True))
        except (pa.ArrowException, OSError, struct.error, ValueError) as error:
            raise ServiceError(
                f"{self._place} is broken at family {number}: {error}; {_REPLACE}"
            ) from error

    def _prepare(self) -> None:
        """Make the tables in a new file; refuse one that is not ours, and leave it as it is."""
        db = self._db
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = self._is_new()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA journal_size_limit = {_MAX_JOURNAL_BYTES}")
        # Kafka's transaction follows what is put here: it must not be lost when power fails.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")
        if is_new:
            for statement in _TABLES.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        db.execute("COMMIT")

    def _is_new(self) -> bool:
        db = self._db
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and version == 0 and tables == 0:
            return True
        if application != _APPLICATION_ID:
            raise ServiceError(
                f"{self._place} is a database of something else; move it away, or let the gateway"
                " keep its ended events in another place"
            )
        if version != _FORMAT:
            raise ServiceError(
                f"{self._place} has format {version}, this version of the gateway reads format"
                f" {_FORMAT}; start the version that wrote it"
            )
        return False

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            yield self._db

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it, or nothing if anything is raised."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the file as sentences; those of a caller, as of one who closed it, stay."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except (sqlite3.OperationalError, OSError) as error:
            raise ServiceError(f"{self._place}: {error}; {_remedy(error)}") from error
        except sqlite3.DatabaseError as error:
            raise ServiceError(f"{self._place} is broken: {error}; {_REPLACE}") from error


_REPLACE = (
    "put back a copy of it, or move it away and start again: ended events are then taken up"
    " anew if something comes for them"
)


def _remedy(error: sqlite3.OperationalError | OSError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another matcher has it: stop that one first"
    if code == sqlite3.SQLITE_FULL:
        return "make room on this disk and start again"
    return "see that this file and its folder can be written, and that the disk is well"


def _connected(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    return sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _times(family: Family) -> tuple[float, float, float]:
    """Start, end and the power of two above the time between them, in days."""
    start_jd, end_jd = family.start_jd, family.end_jd
    if math.isnan(start_jd) or math.isnan(end_jd):
        raise ValueError(f"a family from {start_jd} to {end_jd} has no place in time")
    if math.isinf(start_jd) or math.isinf(end_jd):
        return start_jd, end_jd, math.inf
    # Above and not at it: then end_jd <= end + span holds whenever start_jd < end, rounded or not.
    _, exponent = math.frexp(end_jd - start_jd)
    span_days = math.ldexp(1.0, max(exponent, 0)) if exponent < _LARGEST_EXPONENT else math.inf
    return start_jd, end_jd, span_days


def _encoded(name: str) -> bytes:
    """A name as bytes; half a surrogate pair, which JSON allows, is kept too."""
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _digest(record: bytes) -> bytes:
    return sha256(record).digest()


def _packed(family: Family) -> bytes:
    """Groups as JSON and the records, after their number and lengths."""
    groups = [dict(group) for group in family.groups]
    parts = [json.dumps(groups, allow_nan=False, separators=(",", ":")).encode(), *family.records]
    head = struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts))
    return b"".join((head, *parts))


def _unpacked(body: bytes) -> tuple[tuple[bytes, ...], tuple[Mapping[str, Any], ...]]:
    (count,) = struct.unpack_from("<I", body)
    lengths = struct.unpack_from(f"<{count}Q", body, 4)
    at = 4 + 8 * count
    parts = []
    for length in lengths:
        parts.append(body[at : at + length])
        at += length
    return tuple(parts[1:]), tuple(json.loads(parts[0]))
