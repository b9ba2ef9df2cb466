"""Works off the searches of the archive that regions owe, night by night, beside the live path.

Searches that have come equally far go through the nights together: a thousand regions that
come at once read each night once. After each part the next one is chosen anew, the searches
with the smallest regions first, so that a circle does not wait for a map of half the sky.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import zip_longest
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from broker import cycles
from broker.engine import Engine, Outcome
from broker.judge import Matches
from broker.owed import OwedSearch
from broker.places import Good
from crossmatch import sky
from crossmatch.index import RegionIndex
from crossmatch.model import IntArray, Region

ENOUGH = 500
"""Groups of a step: a transaction is to stay short, as live alerts wait for its end."""
MOST = 100_000
"""Alerts found that are kept in memory, some 300 MB."""
ROWS = 5_000
"""Rows judged at a time."""
SECONDS = 5.0
"""What was found for longer than this is committed, so that progress is seen and kept. What is
found of an object makes one statement then, where each night would make one of its own."""
LARGE_DEG2 = 10.0
"""Regions above this are searched after smaller ones, which would wait for them."""

_NICENESS = 10

Commit: TypeAlias = Callable[[Callable[[], Outcome | None]], Outcome | None]
"""Calls a step of the engine while nobody else does, and commits its outcome, if any."""

Part: TypeAlias = Sequence[tuple[OwedSearch, Region]]


class Nights(Protocol):
    """The archive as a search needs it."""

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        """Nights with alerts that may lie in the span, ascending."""

    def search_night(
        self,
        night: str,
        ranges: IntArray,
        start_jd: float,
        end_jd: float,
        before_batch: int,
        good: Good,
    ) -> pa.Table:
        """Alerts of one night, earlier than a batch, in a span of time and ranges of sky.

        Ordered by their numbers and batches; those that are not good may be left out.
        """


def work_off(
    engine: Engine,
    archive: Nights,
    commit: Commit,
    is_over: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do all owed searches, and those that come meanwhile; return when there is none."""
    nothing = _Prepared((), RegionIndex.build([]))
    work = _Work(engine, archive, commit, is_over, clock, nothing)
    while not is_over() and (part := _planned(engine, commit)):
        with cycles.not_looked_for():
            work.search(part)


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


def _planned(engine: Engine, commit: Commit, besides: Part = ()) -> Part:
    """The next part; found while nobody takes a step, in which regions come and go."""
    part: list[tuple[OwedSearch, Region]] = []

    def plan() -> None:
        part.extend(_next(engine, besides))

    commit(plan)
    return part


def _next(engine: Engine, besides: Part = ()) -> Part:
    """Searches that have come equally far, those of the smallest regions."""
    mine = {search.event for search, _ in besides}
    parts: defaultdict[tuple[str, bool], list[tuple[OwedSearch, Region]]] = defaultdict(list)
    for search in engine.searches.values():
        region = engine.plan(search)
        if region is not None and search.event not in mine:
            parts[search.until, region.area90_deg2 > LARGE_DEG2].append((search, region))
    return min(parts.values(), key=lambda part: (_area(part), part[0][0].until), default=())


def _area(part: Part) -> float:
    return sum(region.area90_deg2 for _, region in part)


@dataclass(slots=True)
class _Gathered:
    """What was found and is not yet taken in."""

    found: Matches
    size: int = 0

    def add(self, matches: Matches) -> None:
        """Alerts that were found; ten points of a light curve weigh as much as an alert."""
        for key, alerts in matches.items():
            self.found.setdefault(key, []).extend(alerts)
            self.size += sum(1 + len(one.history) // 10 for one in alerts)


@dataclass(eq=False)
class _Work:
    """Searches of the archive under way."""

    engine: Engine
    archive: Nights
    commit: Commit
    is_over: Callable[[], bool]
    clock: Callable[[], float]
    prepared: _Prepared

    def search(self, part: Part, besides: Part = ()) -> None:
        """Search some nights for the regions of a part, and commit what was found."""
        searches: Sequence[OwedSearch] = [search for search, _ in part]
        regions = tuple(region for _, region in part)
        if not self.prepared.is_of(regions):
            self.prepared = _Prepared(regions, RegionIndex.build(regions))
        prepared, besides = self.prepared, [*besides, *part]
        area = _area(part)
        begin, until = self.clock(), searches[0].until
        gathered = _Gathered({})
        start, end = min(s.start_jd for s in searches), max(s.end_jd for s in searches)
        nights = [night for night in self.archive.nights(start, end) if night > until]
        before = np.array([s.before_batch for s in searches], dtype=np.int64)
        read = partial(self._read, prepared.ranges, start, end, int(before.max()))
        for night, rows in _ahead(read, nights, lambda: self.clock() - begin < SECONDS):
            for at in range(0, rows.num_rows, ROWS):
                gathered.add(self.engine.judge.search(rows.slice(at, ROWS), prepared.index, before))
                if gathered.size >= MOST and at + ROWS < rows.num_rows:
                    # Of a night that is not yet done: what was found is not lost, nor found twice.
                    last = rows.slice(at + ROWS - 1, 1).to_pylist()[0]
                    through = (night, last["alert_id"], last["batch_id"])
                    searches = self._take(searches, gathered, until, area, besides, through=through)
                    if not searches:
                        return
                    gathered = _Gathered({})
            until = night
            self._go_before(area, besides)
            if gathered.size >= MOST or self.clock() - begin >= SECONDS or self.is_over():
                break
        is_last = not nights or until == nights[-1]
        self._take(searches, gathered, until, area, besides, is_last=is_last)

    def _read(
        self, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int, night: str
    ) -> pa.Table:
        good = self.engine.judge.good
        return self.archive.search_night(night, ranges, start_jd, end_jd, before_batch, good)

    def _take(
        self,
        searches: Sequence[OwedSearch],
        gathered: _Gathered,
        until: str,
        area: float,
        besides: Part,
        *,
        is_last: bool = False,
        through: tuple[str, int, int] | None = None,
    ) -> Sequence[OwedSearch]:
        """Commit what was found, some groups at a time; the searches as they are owed now.

        Those that are owed for another version of their region, which came meanwhile, are left
        out: nothing that was found for this one belongs to them.
        """
        keys = sorted((key.text, key) for key in gathered.found)
        for at in range(0, max(1, len(keys)), ENOUGH):
            some = keys[at : at + ENOUGH]
            more = at + ENOUGH < len(keys)
            whole = len(some) == len(keys)
            found = {key: gathered.found[key] for _, key in some}
            take = partial(
                self.engine.take_found,
                searches,
                found,
                until,
                # Before the step begins: live alerts wait for its end.
                self.engine.draft(found),
                is_last=is_last,
                through=through,
                objects=None if whole else (some[0][0], some[-1][0]),
                more=more,
            )
            outcome = self.commit(take)
            owed = {} if outcome is None else outcome.searches
            searches = [now for s in searches if (now := owed.get(s.key)) is not None]
            if not searches:
                break
            if more:
                self._go_before(area, besides)
        return searches

    def _go_before(self, area: float, besides: Part) -> None:
        """Do searches of smaller regions that came meanwhile."""
        while len(self.engine.searches) > len(besides) and not self.is_over():
            part = _planned(self.engine, self.commit, besides)
            if not part or _area(part) >= area:
                return
            self.search(part, besides)


def _ahead(
    read: Callable[[str], pa.Table], nights: Sequence[str], wanted: Callable[[], bool]
) -> Iterator[tuple[str, pa.Table]]:
    """Nights and what is read of them; one is read while that before is judged, if wanted then."""
    with ThreadPoolExecutor(1, "archive-read") as reader:
        ahead = None
        for night, following in zip_longest(nights, nights[1:]):
            rows = read(night) if ahead is None else ahead.result()
            ahead = reader.submit(read, following) if following and wanted() else None
            yield night, rows


def _stand_back() -> None:
    """Let others go first on a busy processor: Spark and the live path."""
    if sys.platform == "linux":
        # Elsewhere priorities are those of whole processes.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


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
        _stand_back()
        try:
            while not self._over.is_set():
                self._woken.wait()
                self._woken.clear()
                work_off(self._engine, self._archive, self._commit, self._over.is_set)
        except Exception as error:
            # Whatever it is: a matcher that no longer searches looks well and is not.
            self._on_failure(error)
