"""What catalogues elsewhere answered, by counterpart: all of ``mm.lookups`` that steps took in.

The topic is what counts. The file beside it spares memory, for answers are never forgotten, and
is written anew from the topic where it does not fit what was committed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from crossmatch.errors import ServiceError
from crossmatch.remote import Answer

_PART = 500
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    counterpart TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_counterpart ON answers (counterpart);
CREATE INDEX IF NOT EXISTS answers_by_step ON answers (step);
"""


class AnswerStore(Protocol):
    """Answers as a step needs them; may be asked from any thread."""

    def add(self, answers: Sequence[Answer], step: int) -> None:
        """Keep what a step took in."""

    def of(self, counterparts: Iterable[str]) -> Mapping[str, Sequence[Answer]]:
        """Answers about objects, those of which there are any."""

    def count(self) -> int:
        """Number of messages that were taken in."""


class MemoryAnswers:
    """Answers in memory: of a replay, and of tests."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self._answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self._count = 0
        self.add(list(answers), -1)

    def add(self, answers: Sequence[Answer], step: int) -> None:
        """Keep what a step took in."""
        for answer in answers:
            self._answers[answer.counterpart_id].append(answer)
        self._count += len(answers)

    def of(self, counterparts: Iterable[str]) -> Mapping[str, Sequence[Answer]]:
        """Answers about objects, those of which there are any."""
        return {name: tuple(self._answers[name]) for name in counterparts if name in self._answers}

    def count(self) -> int:
        """Number of messages that were taken in."""
        return self._count


class SqliteAnswers:
    """Answers in a file of SQLite's, readable by its owner alone, for one process.

    Parameters
    ----------
    path : Path
        Made where there is none.

    Raises
    ------
    ServiceError
        Here and in every method: it cannot be read or written.
    """

    def __init__(self, path: Path, wait_seconds: float = 5.0) -> None:
        self.path = path
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise ServiceError(f"{path}: {error.strerror}") from error
        self._db = self._opened()
        self._count = self._counted()

    def restore(
        self, committed_step: int, count: int, read: Callable[[], Iterable[Answer]]
    ) -> None:
        """Go back to how things stood after a step, when so many messages had been taken in.

        ``read`` gives all of them; it is called where the file does not have as many.
        """
        self._write("DELETE FROM answers WHERE step > ?", [(committed_step,)])
        self._count = self._counted()
        if self._count != count:
            self._write("DELETE FROM answers WHERE step >= ?", [(-1,)])
            self._count = 0
            self.add(list(read()), committed_step)

    def add(self, answers: Sequence[Answer], step: int) -> None:
        """Keep what a step took in."""
        if answers:
            rows = [(step, a.counterpart_id, json.dumps(a.to_json())) for a in answers]
            self._write("INSERT INTO answers (step, counterpart, body) VALUES (?, ?, ?)", rows)
            self._count += len(rows)

    def of(self, counterparts: Iterable[str]) -> Mapping[str, Sequence[Answer]]:
        """Answers about objects, those of which there are any."""
        if not self._count:
            return {}
        found: defaultdict[str, list[Answer]] = defaultdict(list)
        names = sorted(set(counterparts))
        for begin in range(0, len(names), _PART):
            part = names[begin : begin + _PART]
            marks = ",".join("?" * len(part))
            query = f"SELECT body FROM answers WHERE counterpart IN ({marks}) ORDER BY id"
            for (body,) in self._read(query, part):
                answer = Answer.from_json(json.loads(body))
                found[answer.counterpart_id].append(answer)
        return {name: tuple(answers) for name, answers in found.items()}

    def count(self) -> int:
        """Number of messages that were taken in."""
        return self._count

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.OperationalError as error:
            raise ServiceError(f"{self.path}: {error}; does another matcher run?") from error
        except sqlite3.DatabaseError:
            # Broken: all of it stands on the topic.
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        try:
            return self._connected()
        except sqlite3.Error as error:
            raise ServiceError(f"{self.path}: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=self._wait_seconds, check_same_thread=False)
        try:
            # A matcher that was replaced but still runs must not write among its successor's.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            # Written before the transaction on Kafka is: it is not to be behind it.
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(_TABLE)
            # The lock is taken with the first writing.
            db.execute("BEGIN IMMEDIATE")
            db.commit()
        except BaseException:
            db.close()
            raise
        return db

    def _counted(self) -> int:
        return int(self._read("SELECT count(*) FROM answers", ())[0][0])

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[str, ...]]:
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ServiceError(f"{self.path}: {error}") from error

    def _write(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        try:
            with self._lock, self._db:
                self._db.executemany(query, rows)
        except sqlite3.Error as error:
            raise ServiceError(f"{self.path}: {error}") from error
