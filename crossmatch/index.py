"""All active regions in one sorted array: which regions may hold a pixel.

The covers of all regions are cut at each other's ends into elementary intervals
of order-29 pixels; each interval has the list of the regions that hold it
(compressed sparse rows). A lookup is one ``searchsorted``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crossmatch.model import BoolArray, IntArray, Region
from crossmatch.shapes import Shape, shape_of

# One sort of millions of positions leaves the caches; measured best between 0.1 and 1 million.
_CHUNK = 250_000
# Regions that may wait in the second index before both are made one.
_MAX_RECENT = 64


@dataclass(frozen=True, slots=True)
class _Layer:
    """Elementary intervals: interval i is ``edges[i] <= pixel < edges[i + 1]``.

    Its regions are ``rows[first[i] : first[i + 1]]``.
    """

    edges: IntArray
    first: IntArray
    rows: IntArray

    def lookup(self, ipix29: IntArray) -> tuple[IntArray, IntArray]:
        """Pairs (position, region) in no particular order; ``ipix29`` ascending."""
        interval = np.searchsorted(self.edges, ipix29, side="right") - 1
        within = (interval >= 0) & (interval < len(self.edges) - 1)
        which = np.flatnonzero(within)
        begin, end = self.first[interval[which]], self.first[interval[which] + 1]
        count = end - begin
        total = int(count.sum())
        shift = np.repeat(begin - (np.cumsum(count) - count), count)
        return np.repeat(which, count), self.rows[np.arange(total) + shift]

    def keep(self, new_row: IntArray) -> _Layer:
        """The same intervals with rows renumbered by ``new_row``; -1 removes."""
        rows = new_row[self.rows]
        stays = rows >= 0
        before = np.r_[0, np.cumsum(stays)]
        return _Layer(self.edges, before[self.first], rows[stays])


def _layer(covers: Sequence[IntArray], rows: IntArray) -> _Layer:
    """Intervals of several sets of ranges, the i-th belonging to ``rows[i]``."""
    ranges = np.concatenate([np.empty((0, 2), np.int64), *covers])
    owner = np.repeat(rows, [len(c) for c in covers])
    edges = np.unique(ranges)
    low = np.searchsorted(edges, ranges[:, 0])
    count = np.searchsorted(edges, ranges[:, 1]) - low
    interval = np.arange(count.sum()) + np.repeat(low - (np.cumsum(count) - count), count)
    # One sort of single numbers is several times faster than a sort by two keys.
    width = int(rows.max(initial=0)) + 1
    key = np.sort(interval * width + np.repeat(owner, count))
    first = np.searchsorted(key, np.arange(max(len(edges), 1)) * width)
    return _Layer(edges, first, key % width)


class RegionIndex:
    """Active regions, each in a numbered row, and the places where they may be.

    A new region goes into a small second index (milliseconds) and is taken into the
    large one by :meth:`compact` (seconds, with a thousand maps): when the caller has
    time, or by itself when many have gathered. Rows change only in :meth:`discard`.
    """

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self._shapes: list[Shape] = []
        self._covers: list[IntArray] = []
        self._large = _layer([], np.empty(0, np.int64))
        self._small = self._large
        self._n_large = 0

    @classmethod
    def build(cls, regions: Sequence[Region]) -> RegionIndex:
        """Index of ``regions``; region i has row i."""
        index = cls()
        for region in regions:
            index._append(region)
        index.compact()
        return index

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions by row."""
        return tuple(self._regions)

    def __len__(self) -> int:
        return len(self._regions)

    def region(self, row: int) -> Region:
        """Region of a row."""
        return self._regions[row]

    def shape(self, row: int) -> Shape:
        """Shape of the region of a row, prepared."""
        return self._shapes[row]

    def add(self, region: Region) -> int:
        """Row that ``region`` has been given, the next free one."""
        self._append(region)
        if len(self._regions) - self._n_large > _MAX_RECENT:
            self.compact()
        else:
            rows = np.arange(self._n_large, len(self._regions))
            self._small = _layer(self._covers[self._n_large :], rows)
        return len(self._regions) - 1

    def discard(self, unwanted: Callable[[Region], bool]) -> tuple[Region, ...]:
        """Regions taken out, those for which ``unwanted`` holds; later rows move up."""
        stays: BoolArray = np.array([not unwanted(r) for r in self._regions], np.bool_)
        if stays.all():
            return ()
        gone = tuple(r for r, stay in zip(self._regions, stays, strict=True) if not stay)
        new_row = np.where(stays, np.cumsum(stays) - 1, -1)
        self._large = self._large.keep(new_row)
        self._small = self._small.keep(new_row)
        self._n_large = int(stays[: self._n_large].sum())
        kept = np.flatnonzero(stays).tolist()
        self._regions = [self._regions[i] for i in kept]
        self._shapes = [self._shapes[i] for i in kept]
        self._covers = [self._covers[i] for i in kept]
        return gone

    def compact(self) -> None:
        """Make one index of both; rows stay."""
        self._large = _layer(self._covers, np.arange(len(self._regions)))
        self._small = _layer([], np.empty(0, np.int64))
        self._n_large = len(self._regions)

    def lookup(self, ipix29: IntArray) -> tuple[IntArray, IntArray]:
        """Pairs of positions and regions whose cover holds them.

        Parameters
        ----------
        ipix29 : (n,) int64
            Order-29 NESTED pixels.

        Returns
        -------
        alert_rows, region_rows : (p,) int64
            Sorted by alert, then region. A superset of the regions that truly hold
            the position: covers may be generous.
        """
        alerts, regions = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for begin in range(0, len(ipix29), _CHUNK):
            chunk = ipix29[begin : begin + _CHUNK]
            by_place = np.argsort(chunk)
            for layer in (self._large, self._small):
                which, row = layer.lookup(chunk[by_place])
                alerts.append(by_place[which] + begin)
                regions.append(row)
        alert_rows, region_rows = np.concatenate(alerts), np.concatenate(regions)
        order = np.lexsort((region_rows, alert_rows))
        return alert_rows[order], region_rows[order]

    def _append(self, region: Region) -> None:
        shape = shape_of(region.localization)
        self._covers.append(shape.cover(region.level))
        self._shapes.append(shape)
        self._regions.append(region)
