"""Elementary intervals of pixels, each with the list of the regions that hold it.

The covers of regions are cut at each other's ends; what lies between two neighbouring
ends is held by the same regions throughout. The lists stand one after another (compressed
sparse rows), so that a lookup is one ``searchsorted``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crossmatch import sky
from crossmatch.model import BoolArray, IntArray

RowArray = NDArray[np.int32]
_FEW = np.iinfo(np.int32).max
# Cells of 0.01 square degrees: 3 million of them, with 5 bytes each.
_MAX_CELL_ORDER = 9


@dataclass(frozen=True, eq=False)
class Intervals:
    """Interval i is ``edges[i] <= pixel < edges[i + 1]``.

    Its regions are ``rows[first[i] : first[i + 1]]``, ascending. ``edges`` is (m,) int64,
    ``rows`` int32, ``first`` (max(m, 1),) int32, or int64 where there are too many rows.
    """

    edges: IntArray
    first: IntArray
    rows: RowArray

    def find(self, ipix29: IntArray) -> tuple[IntArray, IntArray]:
        """Begin and end in ``rows`` of the regions of each pixel, (n,) each.

        The more pixels neighbours are neighbours on the sky, the faster.
        """
        cells, bounds = self._cells, self._bounds
        cell = ipix29 >> cells.shift
        # Edges up to each pixel.
        below = cells.below[cell]
        hard = np.flatnonzero(cells.crossed[cell])
        below[hard] = np.searchsorted(self.edges, ipix29[hard], side="right")
        return bounds[below], bounds[below + 1]

    @cached_property
    def _cells(self) -> _Cells:
        return _cells_of(self.edges)

    @cached_property
    def _bounds(self) -> IntArray:
        """``first``, with an empty stretch for what is before the first edge or after the last."""
        return np.concatenate([self.first[:1], self.first, self.first[-1:]])

    def renumbered(self, new_row: IntArray) -> Intervals:
        """The same intervals with rows renumbered by ``new_row``; -1 removes."""
        rows = new_row[self.rows]
        stays = rows >= 0
        before = np.concatenate([[0], np.cumsum(stays)])
        return Intervals(self.edges, _narrow(before[self.first]), rows[stays].astype(np.int32))

    def simplified(self) -> Intervals:
        """The same without edges on both sides of which there are the same regions."""
        first = self.first.astype(np.int64)
        count = np.diff(first)
        if not len(count):
            return self
        # Row by row against the list of the interval before, where that is as long.
        as_many = np.flatnonzero(count[1:] == count[:-1]) + 1
        mine = sky.expand(first[as_many], first[as_many + 1])
        theirs = sky.expand(first[as_many - 1], first[as_many])
        differs = np.repeat(as_many, count[as_many])[self.rows[mine] != self.rows[theirs]]
        same = np.zeros(len(count), np.bool_)
        same[as_many] = True
        same[differs] = False
        same[0] = count[0] == 0
        kept = np.flatnonzero(~same)
        if not len(kept):
            return intervals_of([], 0)
        rows = self.rows[sky.expand(first[kept], first[kept + 1])]
        edges = np.append(self.edges[kept], self.edges[-1])
        return Intervals(edges, _narrow(np.concatenate([[0], np.cumsum(count[kept])])), rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.edges.nbytes + self.first.nbytes + self.rows.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Cells of the sky, most of which no edge crosses: there a look replaces a search.

    ``below`` (c,) int32 or int64 counts the edges up to the first pixel of each cell, that one
    included; ``crossed`` (c,) tells whether there are others in it. The last cell is beyond the
    sky.
    """

    shift: int
    below: IntArray
    crossed: BoolArray


def _cells_of(edges: IntArray) -> _Cells:
    order = min(max(len(edges).bit_length() // 2 - 1, 0), _MAX_CELL_ORDER)
    shift = 2 * (sky.MAX_ORDER - order)
    cell, n_cells = edges >> shift, 12 * 4**order + 1
    at_start = cell[edges == cell << shift]
    count = np.bincount(cell, minlength=n_cells)
    # Edges differ, so that at most one is at the start of a cell.
    starts = np.bincount(at_start, minlength=n_cells)
    below = np.cumsum(count) - count + starts
    return _Cells(shift, _narrow(below), count > starts)


def intervals_of(covers: Sequence[IntArray], first_row: int) -> Intervals:
    """Intervals of several sets of ranges, the i-th belonging to row ``first_row + i``."""
    ranges = np.concatenate([np.empty((0, 2), np.int64), *covers])
    owner = np.repeat(np.arange(len(covers)), [len(c) for c in covers])
    edges = np.unique(ranges)
    low = np.searchsorted(edges, ranges[:, 0])
    count = np.searchsorted(edges, ranges[:, 1]) - low
    # One sort of single numbers is several times faster than a sort by two keys.
    width = max(len(covers), 1)
    key = np.sort(sky.expand(low, low + count) * width + np.repeat(owner, count))
    first = np.searchsorted(key, np.arange(max(len(edges), 1)) * width)
    return Intervals(edges, _narrow(first), (key % width + first_row).astype(np.int32))


def merged(below: Intervals, above: Intervals) -> Intervals:
    """One of both; all rows of ``above`` must be greater than those of ``below``."""
    # Two ascending runs: a stable sort of them is one merge.
    edges = np.sort(np.concatenate([below.edges, above.edges]), kind="stable")
    edges = edges[np.r_[True, edges[1:] != edges[:-1]][: len(edges)]]
    begin, end = below.find(edges[:-1])
    begin2, end2 = above.find(edges[:-1])
    first = np.concatenate([[0], np.cumsum((end - begin) + (end2 - begin2))])
    rows = np.empty(int(first[-1]), np.int32)
    middle = first[:-1] + (end - begin)
    rows[sky.expand(first[:-1], middle)] = below.rows[sky.expand(begin, end)]
    rows[sky.expand(middle, first[1:])] = above.rows[sky.expand(begin2, end2)]
    return Intervals(edges, _narrow(first), rows)


def _narrow(first: IntArray) -> IntArray:
    """Half the bytes, as long as the numbers are small enough."""
    narrow: IntArray = first.astype(np.int32 if int(first[-1]) <= _FEW else np.int64)
    return narrow
