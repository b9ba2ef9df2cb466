"""How far the searches of the archive have come, for whoever asks ``mmgateway status``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broker.archive import night_of
from broker.owed import OwedSearch
from gateway import runfiles
from gateway.logs import EventLog

log = EventLog("match")
_FILE = "searches.json"


class Progress:
    """Writes the owed searches to a file, and tells in the log of those that are new.

    Parameters
    ----------
    state : Path
    nights : callable
        Nights of the archive between two Julian dates.
    """

    def __init__(self, state: Path, nights: Callable[[float, float], list[str]]) -> None:
        self._path = runfiles.run_folder(state) / _FILE
        self._nights = nights
        self._known: dict[str, OwedSearch] = {}

    def tell(self, searches: Sequence[OwedSearch]) -> None:
        """Note how far searches have come."""
        now = {search.key: search for search in searches}
        if now == self._known:
            return
        for key, search in now.items():
            if key not in self._known:
                log.info("search_owed", event_id=search.event_id, resumed_after=search.until)
        self._known = now
        runfiles.write_json(self._path, {"searches": self._rows(searches)})

    def _rows(self, searches: Sequence[OwedSearch]) -> list[dict[str, Any]]:
        if not searches:
            return []
        start, end = min(s.start_jd for s in searches), max(s.end_jd for s in searches)
        nights = self._nights(start, end)
        return [
            {
                "event_id": search.event_id,
                "nights": len(own := _within(nights, search)),
                "nights_done": sum(night <= search.until for night in own),
                "found": search.found,
            }
            for search in searches
        ]


def _within(nights: Sequence[str], search: OwedSearch) -> list[str]:
    first, last = map(str, night_of(np.array([search.start_jd, search.end_jd])))
    return [night for night in nights if first <= night <= last]


def searches(state: Path) -> list[dict[str, Any]]:
    """Searches of the archive that are under way: event, nights, nights done, alerts found."""
    record = runfiles.read_json(state / "run" / _FILE)
    return [] if record is None else list(record["searches"])
