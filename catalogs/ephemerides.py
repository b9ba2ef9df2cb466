"""Tables of positions by time of one name: the versions beside the one in use, by their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray

if TYPE_CHECKING:
    from catalogs.store import Store

Accept: TypeAlias = Callable[[StoredCatalog], None]
"""Raises CatalogError for a version that is not to be asked."""
Trouble: TypeAlias = Callable[[CatalogError], None]
"""Is told why a version is not asked."""
# Each has eight files open, and as many half days in memory as were asked for.
_MOST_OPEN = 16


class Ephemerides:
    """Versions of a catalogue with positions by time, opened when their times are asked for.

    Which there are is looked up when another is put in use; until then one that was removed is
    asked as long as it is open.

    Parameters
    ----------
    store : Store
    name : str
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._mark: object = None
        # Times that each covers, the newest first.
        self._times: dict[str, tuple[float, float]] = {}
        # The one that was asked last is the last.
        self._open: dict[str, StoredCatalog] = {}

    def refresh(self, mark: object, trouble: Trouble) -> None:
        """Look up which versions there are, if ``mark`` is another than before."""
        if mark == self._mark:
            return
        self._mark, self._open = mark, {}
        self._times = self._listed(trouble)

    def asked(
        self, time_jd: FloatArray, some: IntArray, trouble: Trouble, accept: Accept
    ) -> Iterator[tuple[StoredCatalog, IntArray]]:
        """Versions, and which of some positions each is asked about: the newest that covers them.

        Parameters
        ----------
        time_jd : (n,) float64
            Times of all positions, Julian dates, UTC.
        some : (m,) int64
            Numbers of positions, ascending.
        trouble, accept : callable
            A version that cannot be opened or is not accepted is passed over until others are
            looked up.

        Yields
        ------
        catalog : StoredCatalog
        positions : (k,) int64
            Ascending, at least one; those that no version covers come with none.
        """
        for version, (first, last) in list(self._times.items()):
            here = (first <= time_jd[some]) & (time_jd[some] <= last)
            if here.any() and (found := self._opened(version, trouble, accept)) is not None:
                yield found, some[here]
                some = some[~here]
                if not len(some):
                    return

    def _opened(self, version: str, trouble: Trouble, accept: Accept) -> StoredCatalog | None:
        found = self._open.pop(version, None)
        if found is None:
            try:
                found = self._store.open(self._name, version)
                accept(found)
            except CatalogError as error:
                del self._times[version]
                trouble(error)
                return None
        self._open[version] = found
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return found

    def _listed(self, trouble: Trouble) -> dict[str, tuple[float, float]]:
        """Times that versions cover, the newest first; one that cannot be read is left out."""
        found = []
        for version in self._store.present(self._name):
            try:
                facts = self._store.facts(self._name, version)
            except CatalogError as error:
                trouble(error)
                continue
            if (ways := facts.get("segments")) is not None:
                times = float(ways["first_jd"]), float(ways["last_jd"])
                found.append((facts["added"], version, times))
        return {version: times for _, version, times in sorted(found, reverse=True)}
