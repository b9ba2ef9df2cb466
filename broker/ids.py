"""Numbers of all archived alerts: whether one was there before, in bounded memory.

The latest numbers lie in memory. When they become many, those of the nights that were not
touched for longest are merged into one sorted file a night, which is mapped, not read. Each
survey's night knows its smallest and largest number, and surveys count upwards: nearly all
nights are ruled out at once. The files are only a cache: what they lack is read from the
table again, and a file that is broken is deleted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from broker.tables import numpy_column, split_by
from crossmatch.model import BoolArray, IntArray

MAX_ROWS_IN_MEMORY = 4_000_000
"""Numbers in memory, 16 bytes each, before nights go to files."""

log = logging.getLogger("mmgateway.archive")

_CHUNKS = 16
_EXACT_NIGHTS = 4
ALL_BATCHES = 2**62
"""Above every batch that there will ever be."""

_NONE = np.empty(0, dtype=np.int64)

Parts = Mapping[str, tuple[IntArray, IntArray]]
"""For each survey its alerts: numbers and batches, parallel arrays of shape (n,)."""

ReadNight = Callable[[str, int, int], Parts]
"""From (night, lowest batch, batch below which) to what the table has of them."""


def by_survey(rows: pa.Table) -> Parts:
    """``alert_id`` and ``batch_id`` of each survey's rows."""
    return {
        survey: (numpy_column(some, "alert_id"), numpy_column(some, "batch_id"))
        for survey, some in split_by(rows, "survey")
    }


@dataclass(slots=True)
class Numbered:
    """Numbers with the first batch of each; sorted when they are looked up."""

    ids: IntArray = field(default_factory=lambda: _NONE)
    batches: IntArray = field(default_factory=lambda: _NONE)
    _chunks: list[tuple[IntArray, IntArray]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids) + sum(len(ids) for ids, _ in self._chunks)

    def add(self, ids: IntArray, batches: IntArray) -> None:
        """Add numbers, in any order; the lowest batch of a number counts."""
        self._chunks.append(_sorted(ids, batches))
        if len(self._chunks) >= _CHUNKS:
            self.settle()

    def settle(self) -> None:
        """Merge what was added into one sorted array."""
        if self._chunks:
            parts = [(self.ids, self.batches), *self._chunks]
            ids, batches = (np.concatenate(p) for p in zip(*parts, strict=True))
            self.ids, self.batches = _sorted(ids, batches)
            self._chunks = []

    def holds(self, ids: IntArray, before_batch: int) -> BoolArray:
        """Which of ``ids`` came in batches below ``before_batch``."""
        found = np.zeros(len(ids), dtype=bool)
        for known, batches in ((self.ids, self.batches), *self._chunks):
            at, there = _places(known, ids)
            found[there] |= batches[at[there]] < before_batch
        return found


@dataclass(frozen=True, slots=True)
class _Stored:
    """The file of a night: through which batch it goes, and where each survey's part begins."""

    path: Path
    through: int
    counts: Mapping[str, int]

    def ids(self, survey: str) -> IntArray:
        """Sorted numbers of a survey, mapped."""
        count = self.counts.get(survey, 0)
        if count == 0:
            return _NONE
        names = list(self.counts)
        begin = sum(self.counts[name] for name in names[: names.index(survey)])
        return self.mapped()[begin : begin + count]

    def mapped(self) -> IntArray:
        """All its numbers.

        Raises
        ------
        FileNotFoundError
            When somebody deleted it.
        ValueError
            When it is not what its name says.
        """
        try:
            found: IntArray = np.load(self.path, mmap_mode="r")
        except EOFError as error:
            raise ValueError("it is empty") from error
        count = sum(self.counts.values())
        if found.dtype != np.int64 or found.shape != (count,):
            raise ValueError(f"it has {found.dtype} of shape {found.shape}, not {count} numbers")
        return found


@dataclass(slots=True)
class _Night:
    recent: dict[str, Numbered] = field(default_factory=dict)
    stored: _Stored | None = None
    through: int = -1
    touched: int = 0


class KnownIds:
    """Which (survey, number) are archived, in which nights, since which batch.

    Parameters
    ----------
    folder : Path
        Of the sorted files; made when the first one is written.
    read : callable
        Reads columns of one night of the table.
    max_rows : int
        Numbers in memory.
    """

    def __init__(self, folder: Path, read: ReadNight, max_rows: int = MAX_ROWS_IN_MEMORY) -> None:
        self._folder = folder
        self._read = read
        self._max_rows = max_rows
        self._nights: dict[str, _Night] = {}
        self._bounds: dict[str, dict[str, tuple[int, int]]] = {}
        self._ticks = 0
        self._rested = 0
        self._exact: dict[tuple[str, str, int], IntArray] = {}
        self._lock = threading.RLock()

    def restore(self, nights: Mapping[str, int | None]) -> None:
        """Take in what is archived.

        Parameters
        ----------
        nights : mapping of str to int or None
            Newest batch of each night; None where that is not known.
        """
        stored = self._stored_files(nights)
        for night, newest in sorted(nights.items()):
            through = -1
            if night in stored:
                known = self._nights[night] = _Night(stored=stored[night])
                through = known.through = stored[night].through
                for survey in stored[night].counts:
                    self._widen(survey, night, stored[night].ids(survey))
            if newest is None or newest > through:
                self.add({night: self._read(night, through + 1, ALL_BATCHES)})

    def _stored_files(self, nights: Mapping[str, int | None]) -> dict[str, _Stored]:
        """The newest file of each night; broken ones, and those beyond the table, are deleted."""
        found: dict[str, _Stored] = {}
        for path in self._folder.glob("*.new"):
            # A process that was killed left it.
            path.unlink(missing_ok=True)
        for path in sorted(self._folder.glob("*.npy")):
            try:
                night, stored = _parsed(path)
                stored.mapped()
            except ValueError as error:
                _delete_broken(path, error)
                continue
            newest = nights.get(night, -1)
            if newest is not None and stored.through > newest:
                # The table was put back to what it was before: soon it has other rows.
                path.unlink(missing_ok=True)
            elif night not in found or found[night].through < stored.through:
                found[night] = stored
        return found

    def add(self, nights: Mapping[str, Parts]) -> None:
        """Take in alerts that were archived: all of a batch at once, batches in order."""
        with self._lock:
            self._ticks += 1
            for night, parts in nights.items():
                known = self._nights.setdefault(night, _Night())
                known.touched = self._ticks
                for survey, (ids, batches) in parts.items():
                    if len(ids) == 0:
                        continue
                    known.through = max(known.through, int(batches.max()))
                    known.recent.setdefault(survey, Numbered()).add(ids, batches)
                    self._widen(survey, night, ids)
            if self.rows_in_memory > self._max_rows:
                self.store(self._max_rows // 2)

    def _widen(self, survey: str, night: str, ids: IntArray) -> None:
        if len(ids) == 0:
            return
        bounds = self._bounds.setdefault(survey, {})
        low, high = bounds.get(night, (2**63 - 1, -(2**63)))
        bounds[night] = (min(low, int(ids.min())), max(high, int(ids.max())))

    def nights_with(
        self, survey: str, ids: IntArray, before_batch: int
    ) -> list[tuple[str, BoolArray]]:
        """Nights that have any of a survey's numbers in earlier batches, and which of them.

        Parameters
        ----------
        survey : str
        ids : (n,) int64
        before_batch : int
            Only batches below this one.

        Returns
        -------
        list of (str, (n,) bool)
        """
        found: list[tuple[str, BoolArray]] = []
        if len(ids) == 0:
            return found
        low, high = int(ids.min()), int(ids.max())
        with self._lock:
            for night, (least, most) in self._bounds.get(survey, {}).items():
                if most < low or least > high:
                    continue
                inside = np.flatnonzero((ids >= least) & (ids <= most))
                there = self._holds(night, survey, ids[inside], before_batch)
                if there.any():
                    mask = np.zeros(len(ids), dtype=bool)
                    mask[inside[there]] = True
                    found.append((night, mask))
        return found

    def _holds(self, night: str, survey: str, ids: IntArray, before_batch: int) -> BoolArray:
        known = self._nights[night]
        found = np.zeros(len(ids), dtype=bool)
        if survey in known.recent:
            found |= known.recent[survey].holds(ids, before_batch)
        if known.stored is not None:
            stored = self._stored_ids(night, known.stored, survey, before_batch)
            found |= _places(stored, ids)[1]
        return found

    def _stored_ids(self, night: str, stored: _Stored, survey: str, before_batch: int) -> IntArray:
        if stored.through < before_batch:
            try:
                return stored.ids(survey)
            except FileNotFoundError:
                # Somebody cleared the cache; the table has them as well.
                pass
            except ValueError as error:
                _delete_broken(stored.path, error)
            return self._before(night, survey, stored.through + 1)
        return self._before(night, survey, before_batch)

    def _before(self, night: str, survey: str, before_batch: int) -> IntArray:
        """Sorted numbers of earlier batches, read from the table: a batch that is done anew."""
        key = (night, survey, before_batch)
        if key not in self._exact:
            if len(self._exact) >= _EXACT_NIGHTS:
                self._exact.pop(next(iter(self._exact)))
            mine = self._read(night, 0, before_batch).get(survey)
            self._exact[key] = _NONE if mine is None else np.sort(mine[0])
        return self._exact[key]

    def store(self, max_rows: int = 0) -> None:
        """Move nights to files, those first that were not touched for longest.

        Parameters
        ----------
        max_rows : int
            So many numbers may stay in memory.
        """
        with self._lock:
            left = self.rows_in_memory
            recent = [item for item in self._nights.items() if item[1].recent]
            for night, known in sorted(recent, key=lambda item: item[1].touched):
                if left <= max_rows:
                    break
                left -= sum(len(numbers) for numbers in known.recent.values())
                self._store(night, known)

    def rest(self) -> None:
        """Move nights to files to which nothing was added since this was last called."""
        with self._lock:
            for night, known in self._nights.items():
                if known.touched <= self._rested:
                    self._store(night, known)
            self._rested = self._ticks

    def _store(self, night: str, known: _Night) -> None:
        if not known.recent:
            return
        before = known.stored
        names = sorted({*known.recent, *(before.counts if before else ())})
        parts = {}
        for name in names:
            recent = known.recent.get(name, Numbered())
            recent.settle()
            old = self._stored_ids(night, before, name, ALL_BATCHES) if before else _NONE
            parts[name] = np.union1d(old, recent.ids)
        counts = {name: len(ids) for name, ids in parts.items()}
        path = self._folder / _name(night, known.through, counts)
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            np.save(file, np.concatenate(list(parts.values())))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        for other in self._folder.glob(f"{night} *.npy"):
            if other != path:
                other.unlink(missing_ok=True)
        known.stored, known.recent = _Stored(path, known.through, counts), {}

    @property
    def rows_in_memory(self) -> int:
        """Numbers that are held in memory."""
        return sum(len(n) for known in self._nights.values() for n in known.recent.values())


def _name(night: str, through: int, counts: Mapping[str, int]) -> str:
    surveys = ",".join(f"{quote(name, safe='')}={count}" for name, count in counts.items())
    return f"{night} {through} {surveys}.npy"


def _parsed(path: Path) -> tuple[str, _Stored]:
    """What the name of a file says; ValueError when no file of ours is called so."""
    night, through, surveys = path.stem.split(" ")
    pairs = [text.split("=") for text in surveys.split(",")]
    counts = {unquote(name): int(count) for name, count in pairs}
    if min(counts.values()) < 0 or len(counts) < len(pairs):
        raise ValueError("no such file is written")
    return night, _Stored(path, int(through), counts)


def _delete_broken(path: Path, error: ValueError) -> None:
    """Delete a file that cannot be used: the table has its numbers too."""
    log.warning('event=file_of_numbers_deleted path="%s" detail="%s"', path, error)
    path.unlink(missing_ok=True)


def _sorted(ids: IntArray, batches: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct numbers in order, each with its lowest batch."""
    order = np.lexsort((batches, ids))
    ids, batches = ids[order], batches[order]
    first = np.ones(len(ids), dtype=bool)
    first[1:] = ids[1:] != ids[:-1]
    return ids[first], batches[first]


def _places(known: IntArray, ids: IntArray) -> tuple[IntArray, BoolArray]:
    """Where each of ``ids`` is in a sorted array, and whether it is there."""
    if len(known) == 0:
        return np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=bool)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return at, np.asarray(known[at] == ids)
