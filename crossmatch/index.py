"""All active regions in sorted arrays: which regions hold a pixel, and how deep.

The covers of all regions are cut at each other's ends into elementary intervals of
order-29 pixels; each interval has the list of the regions that hold it (compressed
sparse rows). A lookup is one ``searchsorted``. The map cells of all regions stand in
one more sorted array, so that density and level of all pairs are one search, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crossmatch import sky
from crossmatch.model import BoolArray, FloatArray, IntArray, Region
from crossmatch.shapes import MapShape, Shape, shape_of
from crossmatch.times import jd_from_datetime

# Regions that may wait in the second index before both are made one.
_MAX_RECENT = 64
# Cells of this order (0.2 arcsec) and larger can be told apart in the common table of
# cells: 44 bits for the pixel and 19 for the region fit one integer.
_CELL_ORDER = 20
_CELL_SHIFT = 2 * (sky.MAX_ORDER - _CELL_ORDER)
_CELL_BITS = 44
_MAX_SLOTS = 1 << (63 - _CELL_BITS)


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Elementary intervals: interval i is ``edges[i] <= pixel < edges[i + 1]``.

    Its regions are ``rows[first[i] : first[i + 1]]``, ascending.
    """

    edges: IntArray
    first: IntArray
    rows: IntArray

    def find(self, ipix29: IntArray) -> tuple[IntArray, IntArray]:
        """Begin and end in ``rows`` of the regions of each pixel; ``ipix29`` ascending."""
        interval = np.searchsorted(self.edges, ipix29, side="right") - 1
        # Before the first edge and after the last there is nothing: an empty stretch.
        outside = (interval < 0) | (interval >= len(self.edges) - 1)
        begin = self.first[np.where(outside, 0, interval)]
        end = self.first[np.where(outside, 0, interval + 1)]
        return begin, end

    def keep(self, new_row: IntArray) -> _Intervals:
        """The same intervals with rows renumbered by ``new_row``; -1 removes."""
        rows = new_row[self.rows]
        stays = rows >= 0
        before = np.concatenate([[0], np.cumsum(stays)])
        return _Intervals(self.edges, before[self.first], rows[stays])


def _intervals(covers: Sequence[IntArray], first_row: int) -> _Intervals:
    """Intervals of several sets of ranges, the i-th belonging to row ``first_row + i``."""
    ranges = np.concatenate([np.empty((0, 2), np.int64), *covers])
    owner = np.repeat(np.arange(len(covers)), [len(c) for c in covers])
    edges = np.unique(ranges)
    low = np.searchsorted(edges, ranges[:, 0])
    count = np.searchsorted(edges, ranges[:, 1]) - low
    # One sort of single numbers is several times faster than a sort by two keys.
    width = max(len(covers), 1)
    key = np.sort(sky.expand(low, low + count) * width + np.repeat(owner, count))
    first = np.searchsorted(key, np.arange(len(edges) + 1) * width)
    return _Intervals(edges, first, key % width + first_row)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Map cells of many regions: sorted by ``key``, slot of the region above first pixel."""

    key: IntArray
    density: FloatArray
    level: FloatArray

    def at(self, slot: IntArray, ipix29: IntArray) -> tuple[FloatArray, FloatArray]:
        """Density and level of pixels known to lie in a cell of their region."""
        wanted = slot << _CELL_BITS | ipix29 >> _CELL_SHIFT
        # Sorting first costs 40 ns each and saves 300: the search then stays in the caches.
        order = np.argsort(wanted)
        cell = np.empty(len(wanted), np.int64)
        cell[order] = np.searchsorted(self.key, wanted[order], side="right") - 1
        return self.density[cell], self.level[cell]


def _fits_table(shape: Shape, slot: int) -> bool:
    return (
        isinstance(shape, MapShape) and slot < _MAX_SLOTS and shape.smallest_cell >> _CELL_SHIFT > 0
    )


def _cells(shapes: Sequence[Shape], levels: Sequence[float]) -> _Cells:
    """Cells inside the level of each map; slots count the shapes, maps or not."""
    keys, densities, cell_levels = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0)]
    for slot, (shape, level) in enumerate(zip(shapes, levels, strict=True)):
        if isinstance(shape, MapShape) and _fits_table(shape, slot):
            start, density, cell_level = shape.cells_inside(level)
            keys.append(slot << _CELL_BITS | start >> _CELL_SHIFT)
            densities.append(density)
            cell_levels.append(cell_level)
    return _Cells(np.concatenate(keys), np.concatenate(densities), np.concatenate(cell_levels))


@dataclass(frozen=True, slots=True)
class _Layer:
    """Regions of a run of rows: their intervals, their cells, and the slots of the cells."""

    intervals: _Intervals
    cells: _Cells
    slots: IntArray


def _layer(
    covers: Sequence[IntArray], shapes: Sequence[Shape], levels: Sequence[float], first_row: int
) -> _Layer:
    slots = np.arange(len(covers), dtype=np.int64)
    return _Layer(_intervals(covers, first_row), _cells(shapes, levels), slots)


@dataclass(frozen=True, slots=True)
class Columns:
    """What matching needs of the regions, by row: JD UTC, days, level, unit vectors (3, n)."""

    trigger_jd: FloatArray
    window_start_days: FloatArray
    window_end_days: FloatArray
    level: FloatArray
    best_vector: FloatArray
    in_table: BoolArray


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
        self._n_large = 0
        self._large = self._small = _layer([], [], [], 0)

    @classmethod
    def build(cls, regions: Sequence[Region]) -> RegionIndex:
        """Index of ``regions``; region i has row i."""
        index = cls()
        for region in regions:
            index._append(region)
        index.compact()
        return index

    @cached_property
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

    @cached_property
    def columns(self) -> Columns:
        """Columns of the regions, by row."""
        regions, best = self._regions, np.array([s.best_deg for s in self._shapes], np.float64)
        best = best.reshape(-1, 2)
        slots = np.concatenate([self._large.slots, self._small.slots]).tolist()
        return Columns(
            np.array([jd_from_datetime(r.trigger_time) for r in regions], np.float64),
            np.array([r.window.start_days for r in regions], np.float64),
            np.array([r.window.end_days for r in regions], np.float64),
            np.array([r.level for r in regions], np.float64),
            np.ascontiguousarray(sky.unit_vectors(best[:, 0], best[:, 1]).T),
            np.array(
                [
                    _fits_table(shape, slot) and region.level < 1
                    for shape, slot, region in zip(self._shapes, slots, regions, strict=True)
                ],
                np.bool_,
            ),
        )

    def add(self, region: Region) -> int:
        """Row that ``region`` has been given, the next free one."""
        self._append(region)
        if len(self._regions) - self._n_large > _MAX_RECENT:
            self.compact()
        else:
            self._small = self._layer_from(self._n_large)
            self._changed()
        return len(self._regions) - 1

    def discard(self, unwanted: Callable[[Region], bool]) -> tuple[Region, ...]:
        """Regions taken out, those for which ``unwanted`` holds; later rows move up."""
        stays: BoolArray = np.array([not unwanted(r) for r in self._regions], np.bool_)
        if stays.all():
            return ()
        gone = tuple(r for r, stay in zip(self._regions, stays, strict=True) if not stay)
        new_row = np.where(stays, np.cumsum(stays) - 1, -1)
        n = self._n_large
        self._large, self._small = (
            _Layer(layer.intervals.keep(new_row), layer.cells, layer.slots[part])
            for layer, part in ((self._large, stays[:n]), (self._small, stays[n:]))
        )
        self._n_large = int(stays[:n].sum())
        kept = np.flatnonzero(stays).tolist()
        self._regions = [self._regions[i] for i in kept]
        self._shapes = [self._shapes[i] for i in kept]
        self._covers = [self._covers[i] for i in kept]
        self._changed()
        return gone

    def compact(self) -> None:
        """Make one index of both; rows stay."""
        self._large = self._layer_from(0)
        self._small = _layer([], [], [], 0)
        self._n_large = len(self._regions)
        self._changed()

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
            the position: covers of shapes other than maps may be generous.
        """
        by_place = np.argsort(ipix29)
        ordered = ipix29[by_place]
        stretches = []
        for layer in (self._large, self._small):
            begin, end = np.empty_like(ipix29), np.empty_like(ipix29)
            begin[by_place], end[by_place] = layer.intervals.find(ordered)
            stretches.append((begin, end))
        (begin, end), (begin2, end2) = stretches
        n_large, n_small = end - begin, end2 - begin2
        alert_rows = np.repeat(np.arange(len(ipix29)), n_large + n_small)
        large = self._large.intervals.rows[sky.expand(begin, end)]
        if not n_small.any():
            return alert_rows, large
        # Rows of the small layer are above all of the large one: put after them, for each
        # alert, they keep the order.
        region_rows = np.empty(len(alert_rows), np.int64)
        offset = np.cumsum(n_large + n_small) - n_small
        region_rows[sky.expand(offset - n_large, offset)] = large
        small = self._small.intervals.rows[sky.expand(begin2, end2)]
        region_rows[sky.expand(offset, offset + n_small)] = small
        return alert_rows, region_rows

    def evaluate(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray, rows: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Density per steradian and credible level of pairs that :meth:`lookup` gave.

        Position i is asked of the region of ``rows[i]``; all (p,).
        """
        in_table = self.columns.in_table[rows]
        large = rows < self._n_large
        if (in_table & large).all():  # the common case, and no copies
            return self._large.cells.at(self._large.slots[rows], ipix29)
        density, level = np.empty(len(rows)), np.empty(len(rows))
        for layer, first_row, mine in (
            (self._large, 0, in_table & large),
            (self._small, self._n_large, in_table & ~large),
        ):
            if mine.any():
                slot = layer.slots[rows[mine] - first_row]
                density[mine], level[mine] = layer.cells.at(slot, ipix29[mine])
        others = np.flatnonzero(~in_table)
        others = others[np.argsort(rows[others], kind="stable")]
        bounds = np.flatnonzero(np.diff(rows[others])) + 1
        for group in np.split(others, bounds) if len(others) else []:
            shape = self._shapes[int(rows[group[0]])]
            density[group], level[group] = shape.at(ra_deg[group], dec_deg[group], ipix29[group])
        return density, level

    def _append(self, region: Region) -> None:
        shape = shape_of(region.localization)
        cover = shape.cover(region.level)
        self._covers.append(cover)
        self._shapes.append(shape)
        self._regions.append(region)

    def _layer_from(self, first_row: int) -> _Layer:
        levels = [r.level for r in self._regions[first_row:]]
        return _layer(self._covers[first_row:], self._shapes[first_row:], levels, first_row)

    def _changed(self) -> None:
        for name in ("columns", "regions"):
            self.__dict__.pop(name, None)
