"""What CDS answered lately, by place: many events share objects, and are not asked about twice."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from catalogs.cds import Place
from crossmatch.errors import CatalogError, ServiceError
from crossmatch.remote import Answer, read_answer
from crossmatch.sky import MAX_ORDER, ipix29

CELL_ORDER = 21
"""HEALPix order of the grid: 0.1 arcsec."""
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    catalog TEXT NOT NULL,
    version TEXT NOT NULL,
    cell INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (catalog, version, cell)
);
"""


class AnswerCache:
    """Answers by catalogue, version and cell of the sky, in a file; the oldest are dropped.

    What is in it may be lost: it spares questions, no more. The file is opened with the first
    use, and begun anew when it is found damaged.

    Parameters
    ----------
    path : Path
        Readable by its owner alone.
    radius_arcsec : float
        An answer counts if it tells of all within this of a place.
    max_answers : int

    Raises
    ------
    ServiceError
        In every method: it cannot be read or written.
    """

    def __init__(self, path: Path, radius_arcsec: float, max_answers: int = 200_000) -> None:
        self._path = path
        self.radius_arcsec = radius_arcsec
        self._max = max_answers
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def get(self, catalog: str, version: str, places: Sequence[Place]) -> list[Answer | None]:
        """Answers that are known already, None for places of which there is none, (n,)."""
        found: list[Answer | None] = []
        query = "SELECT body FROM answers WHERE catalog = ? AND version = ? AND cell = ?"
        for place, cell in zip(places, _cells(places), strict=True):
            rows = self._do(query, (catalog, version, cell))
            found.append(self._of(place, rows[0][0]) if rows else None)
        return found

    def put(self, answers: Iterable[Answer]) -> None:
        """Keep answers; those of a place take the place of older ones."""
        answers = list(answers)
        places = [Place(a.counterpart_id, a.ra_deg, a.dec_deg) for a in answers]
        query = "INSERT OR REPLACE INTO answers (catalog, version, cell, body) VALUES (?, ?, ?, ?)"
        for answer, cell in zip(answers, _cells(places), strict=True):
            body = json.dumps(answer.to_json())
            self._do(query, (answer.catalog, answer.version, cell, body))
        # Answers of one version are equally good: the oldest are those that came first.
        self._do(
            "DELETE FROM answers WHERE rowid IN"
            " (SELECT rowid FROM answers ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
            (self._max,),
        )

    def count(self) -> int:
        """Number of answers that are kept."""
        return int(self._do("SELECT count(*) FROM answers", ())[0][0])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._let_go()

    def _of(self, place: Place, body: str) -> Answer | None:
        try:
            answer = read_answer(json.loads(body))
        except (ValueError, CatalogError) as error:
            raise ServiceError(f"{self._path}: an answer cannot be read: {error}") from error
        answer = replace(answer, counterpart_id=place.counterpart_id)
        return answer if answer.covers(place.ra_deg, place.dec_deg, self.radius_arcsec) else None

    def _let_go(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        # Each statement is a transaction of its own; what is lost is asked for again.
        db = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_TABLE)
        except BaseException:
            db.close()
            raise
        return db

    def _do(self, query: str, values: Sequence[object]) -> list[tuple[str, ...]]:
        try:
            with self._lock:
                return self._done(query, values)
        except (sqlite3.Error, OSError) as error:
            raise ServiceError(f"{self._path}: {error}") from error

    def _done(self, query: str, values: Sequence[object]) -> list[tuple[str, ...]]:
        try:
            return self._opened().execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._let_go()
            # Its subclasses are no reason to throw it away: it is in use, or the disk is full.
            if type(error) is not sqlite3.DatabaseError:
                raise
            self._path.unlink(missing_ok=True)
        return self._opened().execute(query, values).fetchall()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._connected()
        return self._db


def _cells(places: Sequence[Place]) -> list[int]:
    if not places:
        return []
    ra, dec = (np.array([place[i] for place in places]) for i in (1, 2))
    cells: list[int] = (ipix29(ra, dec) >> (2 * (MAX_ORDER - CELL_ORDER))).tolist()
    return cells
