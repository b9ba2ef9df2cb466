"""Counts of one step by night and feed, as its entry in the ledger tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

Place = tuple[str, str]


class Tally:
    """Counts by night and feed, and beside them counts that belong to no night.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add("matched", "2026-01-01", "ztf", 2)
    >>> tally.add_rows("matched", ["2026-01-01", "2026-01-02"], ["ztf", "ztf"])
    >>> tally.add_total("pairs", 5)
    >>> tally.counts()
    {'matched': 4, 'pairs': 5}
    >>> tally.parts()[0]
    {'night': '2026-01-01', 'feed': 'ztf', 'counts': {'matched': 3}}
    """

    def __init__(self) -> None:
        self._placed: dict[Place, Counter[str]] = {}
        self._totals: Counter[str] = Counter()

    def add(self, name: str, night: str, feed: str, n: int = 1) -> None:
        """Count ``n`` of a night (``YYYY-MM-DD``, empty: unknown) and a feed."""
        if n:
            self._placed.setdefault((night, feed), Counter())[name] += n

    def add_rows(self, name: str, nights: Any, feeds: Any) -> None:
        """Count rows.

        Parameters
        ----------
        name : str
        nights, feeds : (n,) arrays of str, or str
            NumPy, Arrow or lists; one text stands for all rows. At least one is an array.
        """
        for place, n in _by_place(nights, feeds):
            self.add(name, *place, n)

    def add_total(self, name: str, n: int = 1) -> None:
        """Count what belongs to no night or feed: pairs, statements, messages."""
        if n:
            self._totals[name] += n

    def counts(self) -> dict[str, int]:
        """All counts by name, sorted; none is 0."""
        total = Counter(self._totals)
        for counts in self._placed.values():
            total.update(counts)
        return {name: n for name, n in sorted(total.items()) if n}

    def parts(self) -> list[dict[str, Any]]:
        """Counts by night and feed, in their order: ``night``, ``feed``, ``counts``."""
        return [
            {"night": night, "feed": feed, "counts": found}
            for (night, feed), counts in sorted(self._placed.items())
            if (found := {name: n for name, n in sorted(counts.items()) if n})
        ]

    def update(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Count the parts of another entry too."""
        for part in parts:
            for name, n in part["counts"].items():
                self.add(name, part["night"], part["feed"], n)


def _by_place(nights: Any, feeds: Any) -> Iterable[tuple[Place, int]]:
    if isinstance(nights, str):
        return (((nights, feed), n) for feed, n in _counted(feeds))
    if isinstance(feeds, str):
        return (((night, feeds), n) for night, n in _counted(nights))
    table = pa.table({"night": _texts(nights), "feed": _texts(feeds)})
    rows = table.group_by(["night", "feed"]).aggregate([([], "count_all")]).to_pylist()
    return (((row["night"], row["feed"]), row["count_all"]) for row in rows)


def _counted(texts: Any) -> Iterable[tuple[str, int]]:
    return ((pair["values"], pair["counts"]) for pair in _texts(texts).value_counts().to_pylist())


def _texts(values: Any) -> Any:
    """Arrow texts; a null is an unknown night or feed, which is the empty text."""
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(values, type=pa.string())
    return values.cast(pa.string()).fill_null("")
