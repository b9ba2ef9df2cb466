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
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from broker.engine import Engine, Outcome
from broker.judge import Matches
from broker.owed import OwedSearch
from crossmatch import sky
from crossmatch.model import IntArray, Region
from crossmatch.region import cover_ranges

ENOUGH = 2_000
"""Alerts found that make a step: a transaction is to stay short."""
ROWS = 50_000
"""Rows judged at a time."""
SECONDS = 1.0
"""A part longer than this is committed, so that progress is seen and kept."""

Commit: TypeAlias = Callable[[Callable[[], Outcome | None]], Outcome | None]
"""Calls a step of the engine while nobody else does, and commits its outcome."""


class Nights(Protocol):
    """The archive as a search needs it."""

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        """Nights with alerts that may lie in the span, ascending."""

    def search_night(
        self, night: str, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        """Alerts of one night, earlier than a batch, in a span of time and ranges of sky."""


def work_off(
    engine: Engine,
    archive: Nights,
    commit: Commit,
    is_over: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do all owed searches, and those that come meanwhile; return when there is none."""
    while not is_over() and (part := _next(engine)):
        _search(engine, archive, commit, part, is_over, clock)


def _next(engine: Engine) -> list[tuple[OwedSearch, Region]]:
    """Searches that have come equally far, those of the smallest regions."""
    parts: defaultdict[str, list[tuple[OwedSearch, Region]]] = defaultdict(list)
    for search in list(engine.searches.values()):
        region = engine.plan(search)
        if region is not None:
            parts[search.until].append((search, region))
    area = {until: sum(r.area90_deg2 for _, r in part) for until, part in parts.items()}
    return parts[min(area, key=lambda until: (area[until], until))] if parts else []


def _search(
    engine: Engine,
    archive: Nights,
    commit: Commit,
    part: Sequence[tuple[OwedSearch, Region]],
    is_over: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    """Search some nights for the regions of a part, and commit what was found."""
    searches = [search for search, _ in part]
    begin, found, n = clock(), Matches(), 0
    start, end = min(s.start_jd for s in searches), max(s.end_jd for s in searches)
    until = searches[0].until
    nights = [night for night in archive.nights(start, end) if night > until]
    ranges = sky.union(*(cover_ranges(r.localization, r.level) for _, r in part))
    before = max(s.before_batch for s in searches)
    for night in nights:
        rows = archive.search_night(night, ranges, start, end, before)
        for at in range(0, rows.num_rows, ROWS):
            n += _judge(engine, rows.slice(at, ROWS), part, found)
            if n >= ENOUGH and at + ROWS < rows.num_rows:
                # Of a night that is not yet done: what was found is not lost, nor found twice.
                taken = _taken(engine, commit, searches, found, until)
                if taken is None:
                    return
                searches, found, n = taken, Matches(), 0
        until = night
        if n >= ENOUGH or clock() - begin >= SECONDS or is_over():
            break
    _taken(engine, commit, searches, found, until, nights[-1] if nights else until)


def _taken(
    engine: Engine,
    commit: Commit,
    searches: Sequence[OwedSearch],
    found: Matches,
    until: str,
    last: str | None = None,
) -> list[OwedSearch] | None:
    """Commit what was found; the searches as they are owed now, None if any is no longer.

    The searches are done when ``until`` is the ``last`` night.
    """
    commit(lambda: engine.take_found(searches, found, until, is_last=until == last))
    now = [engine.searches.get(search.event) for search in searches]
    return None if None in now else [search for search in now if search is not None]


def _judge(
    engine: Engine,
    rows: pa.Table,
    part: Sequence[tuple[OwedSearch, Region]],
    found: Matches,
) -> int:
    """Add what the regions hold of some rows to ``found``; how many alerts that were."""
    before = np.array([search.before_batch for search, _ in part], dtype=np.int64)
    matches = engine.judge.search(rows, [region for _, region in part], before)
    for key, alerts in matches.items():
        found.setdefault(key, []).extend(alerts)
    return sum(map(len, matches.values()))


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
