"""Works off the searches of the archive that regions owe, night by night, beside the live path.

Searches that have come equally far go through the nights together: a thousand regions that
come at once read each night once. After each part the next one is chosen anew, the searches
with the smallest regions first, so that a circle does not wait for a map of half the sky.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from broker.engine import Engine, Outcome
from broker.judge import Matches
from broker.owed import OwedSearch
from crossmatch import sky
from crossmatch.index import RegionIndex
from crossmatch.model import IntArray, Region

ENOUGH = 1_000
"""Alerts found that make a step: a transaction is to stay short."""
ROWS = 5_000
"""Rows judged at a time."""
SECONDS = 1.0
"""A part longer than this is committed, so that progress is seen and kept."""

Commit: TypeAlias = Callable[[Callable[[], Outcome | None]], Outcome | None]
"""Calls a step of the engine while nobody else does, and commits its outcome, if any."""

Part: TypeAlias = list[tuple[OwedSearch, Region]]


class Nights(Protocol):
    """The archive as a search needs it."""

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        """Nights with alerts that may lie in the span, ascending."""

    def search_night(
        self, night: str, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        """Alerts of one night, earlier than a batch, in a span of time and ranges of sky.

        Ordered by their numbers and batches.
        """


def work_off(
    engine: Engine,
    archive: Nights,
    commit: Commit,
    is_over: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do all owed searches, and those that come meanwhile; return when there is none."""
    last = _Prepared((), RegionIndex.build([]))
    while not is_over() and (part := _planned(engine, commit)):
        regions = tuple(region for _, region in part)
        if not last.is_of(regions):
            last = _Prepared(regions, RegionIndex.build(regions))
        _search(engine, archive, commit, part, last, is_over, clock)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Regions as they are searched: many large maps take seconds, and many parts have the same."""

    regions: tuple[Region, ...]
    index: RegionIndex

    @cached_property
    def ranges(self) -> IntArray:
        """Where any of the regions lies."""
        covers = [self.index.shape(i).cover(r.level) for i, r in enumerate(self.regions)]
        return sky.union(*covers)

    def is_of(self, regions: Sequence[Region]) -> bool:
        """Whether these regions are the ones."""
        return list(map(id, regions)) == list(map(id, self.regions))


def _planned(engine: Engine, commit: Commit) -> Part:
    """The next part; found while nobody takes a step, in which regions come and go."""
    part: Part = []

    def plan() -> None:
        part.extend(_next(engine))

    commit(plan)
    return part


def _next(engine: Engine) -> Part:
    """Searches that have come equally far, those of the smallest regions."""
    parts: defaultdict[str, Part] = defaultdict(list)
    for search in engine.searches.values():
        region = engine.plan(search)
        if region is not None:
            parts[search.until].append((search, region))
    area = {until: sum(r.area90_deg2 for _, r in part) for until, part in parts.items()}
    return parts[min(area, key=lambda until: (area[until], until))] if parts else []


def _search(
    engine: Engine,
    archive: Nights,
    commit: Commit,
    part: Part,
    prepared: _Prepared,
    is_over: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    """Search some nights for the regions of a part, and commit what was found."""
    searches = [search for search, _ in part]
    begin, found, n, until = clock(), Matches(), 0, searches[0].until
    start, end = min(s.start_jd for s in searches), max(s.end_jd for s in searches)
    nights = [night for night in archive.nights(start, end) if night > until]
    before = np.array([s.before_batch for s in searches], dtype=np.int64)
    for night in nights:
        rows = archive.search_night(night, prepared.ranges, start, end, int(before.max()))
        for at in range(0, rows.num_rows, ROWS):
            matches = engine.judge.search(rows.slice(at, ROWS), prepared.index, before)
            for key, alerts in matches.items():
                found.setdefault(key, []).extend(alerts)
                n += len(alerts)
            if n >= ENOUGH and at + ROWS < rows.num_rows:
                # Of a night that is not yet done: what was found is not lost, nor found twice.
                last = rows.slice(at + ROWS - 1, 1).to_pylist()[0]
                through = (night, last["alert_id"], last["batch_id"])
                searches = _taken(
                    engine, commit, searches, found, until, is_last=False, through=through
                )
                if not searches:
                    return
                found, n = Matches(), 0
        until = night
        if n >= ENOUGH or clock() - begin >= SECONDS or is_over():
            break
    _taken(engine, commit, searches, found, until, is_last=not nights or until == nights[-1])


def _taken(
    engine: Engine,
    commit: Commit,
    searches: Sequence[OwedSearch],
    found: Matches,
    until: str,
    *,
    is_last: bool,
    through: tuple[str, int, int] | None = None,
) -> list[OwedSearch]:
    """Commit what was found; the searches as they are owed now.

    Those that are owed for another version of their region, which came meanwhile, are left
    out: nothing that was found for this one belongs to them.
    """
    outcome = commit(
        lambda: engine.take_found(searches, found, until, is_last=is_last, through=through)
    )
    owed = {} if outcome is None else outcome.searches
    return [now for search in searches if (now := owed.get(search.key)) is not None]


class Searcher(threading.Thread):
    """Does owed searches whenever it is woken.

    Parameters
    ----------
    engine : Engine
    archive : Nights
    commit : callable
        See :data:`Commit`.
    on_failure : callable
        Told what ended the thread, unless :meth:`stop` did.
    """

    def __init__(
        self,
        engine: Engine,
        archive: Nights,
        commit: Commit,
        on_failure: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="archive-search", daemon=True)
        self._engine = engine
        self._archive = archive
        self._commit = commit
        self._on_failure = on_failure
        self._woken = threading.Event()
        self._over = threading.Event()

    def wake(self) -> None:
        """There may be something to search."""
        self._woken.set()

    def stop(self) -> None:
        """End after the part that is being searched."""
        self._over.set()
        self._woken.set()
        self.join(30)

    def run(self) -> None:
        """Search until :meth:`stop`."""
        try:
            while not self._over.is_set():
                self._woken.wait()
                self._woken.clear()
                work_off(self._engine, self._archive, self._commit, self._over.is_set)
        except Exception as error:
            # Whatever it is: a matcher that no longer searches looks well and is not.
            self._on_failure(error)
