"""The active regions, each in a numbered row: which hold a position, and how deep.

Regions come and go; :class:`crossmatch.tables.Tables` are what a lookup needs of those of
the moment. In memory an interval takes 12 bytes and each region in its list 4, a map cell
inside its region's level 24: of 1,000 regions with 2.3 million map cells 54 MB, 24 bytes a
cell. A process that looks up adds 20 bytes an interval, 6 MB. (Regions and shapes, with the
whole maps, are not counted, and not needed to look up.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from crossmatch import sky, tablefiles
from crossmatch.covers import split_cover
from crossmatch.growing import Growing
from crossmatch.intervals import Intervals, intervals_of, merged
from crossmatch.model import BoolArray, FloatArray, IntArray, Region
from crossmatch.pairkeys import NUMBERS_PER_ROW, numbers_of
from crossmatch.shapes import FisherShape, MapShape, Shape, shape_of
from crossmatch.tables import (
    CIRCLE,
    MAP,
    MAX_COMPONENTS,
    MAX_SLOTS,
    OTHER,
    Cells,
    Columns,
    Tables,
    cells_kept,
    cells_of,
    circle_columns,
    has_cells,
)
from crossmatch.times import jd_from_datetime

# A layer of intervals has at least so many times the regions of the next one: of a
# thousand regions there are three layers, and a new one is merged with fifteen at most,
# but one time in sixteen.
_SHRINK = 8
# Regions that may go before their ends and cells are cleared away: half of all, and these.
_FEW_GONE = 64
# Rows of the growing columns: trigger, window, level, best vector; then circles.
_N_PLAIN = 7


class RegionIndex:
    """Active regions and the places where they may be.

    A new region gets a layer of intervals of its own, which is merged with others as
    they come to be of a size: a map of 20,000 cells beside a thousand regions takes
    milliseconds. Rows change only in :meth:`discard`.
    """

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self._shapes: list[Shape] = []
        self._layers: list[tuple[int, Intervals]] = []  # with the number of regions
        self._numbers = Growing(_N_PLAIN + 3 * MAX_COMPONENTS, np.float64)
        self._kinds = Growing(2, np.int64)
        self._keys = Growing(1, np.int64)
        self._values = Growing(1, np.float64)
        self._next_slot = 0
        self._gone = 0

    @classmethod
    def build(cls, regions: Sequence[Region]) -> RegionIndex:
        """Index of ``regions``; region i has row i."""
        index = cls()
        index._extend(regions)
        return index

    @staticmethod
    def load(folder: Path, *, mmap: bool = True) -> Tables:
        """Tables that :meth:`save` wrote, for :func:`crossmatch.match.match`.

        With ``mmap`` the large arrays stay in the file, and all processes of a machine
        that read it share its pages. Pickled, the tables are the name of their folder.

        Raises
        ------
        FileNotFoundError
            If nothing was saved there.
        ValueError
            If what was saved is of another version of this program.
        """
        return tablefiles.load(folder, mmap)

    def save(self, folder: Path) -> None:
        """Write the tables of this moment to a folder, which is made."""
        tablefiles.save(self.tables, {i: self._regions[i] for i in self.tables.others}, folder)

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
    def tables(self) -> Tables:
        """What a lookup needs; later changes of the index leave it as it is."""
        cells = Cells(self._keys.view[0], self._values.view[0].reshape(-1, 2))
        kind, slot = self._kinds.view
        numbers, k = self._numbers.view, MAX_COMPONENTS
        circles = numbers[_N_PLAIN:]
        trigger, start, end, level = numbers[:4]
        columns = Columns(
            trigger_jd=trigger,
            window_start_days=start,
            window_end_days=end,
            level=level,
            best_vector=numbers[4:_N_PLAIN],
            kappa=circles[:k],
            level_scale=circles[k : 2 * k],
            density_scale=circles[2 * k :],
            kind=kind,
            slot=slot,
        )
        others = {row: self._shapes[row] for row in np.flatnonzero(kind == OTHER).tolist()}
        layers = tuple(layer for _, layer in self._layers)
        return Tables(layers, cells, columns, others)

    def add(self, region: Region) -> int:
        """Row that ``region`` has been given, the next free one."""
        self._extend([region])
        return len(self._regions) - 1

    def discard(self, unwanted: Callable[[Region], bool]) -> tuple[Region, ...]:
        """Regions taken out, those for which ``unwanted`` holds; later rows move up."""
        stays: BoolArray = np.array([not unwanted(r) for r in self._regions], np.bool_)
        if stays.all():
            return ()
        gone = tuple(r for r, stay in zip(self._regions, stays, strict=True) if not stay)
        new_row = np.where(stays, np.cumsum(stays) - 1, -1)
        new_number = numbers_of(new_row)
        layers, begin = [], 0
        for size, layer in self._layers:
            left = int(stays[begin : begin + size].sum())
            begin += size
            if left:
                layers.append((left, layer.renumbered(new_number)))
        self._layers = layers
        self._numbers.keep(stays)
        self._kinds.keep(stays)
        kept = np.flatnonzero(stays).tolist()
        self._regions = [self._regions[i] for i in kept]
        self._shapes = [self._shapes[i] for i in kept]
        self._gone += len(gone)
        self._changed()
        if self._gone > _FEW_GONE + len(kept):
            self.compact()
        return gone

    def compact(self) -> None:
        """Make one layer of all, and clear away what regions that are gone have left."""
        while len(self._layers) > 1:
            self._merge_last()
        self._layers = [(size, layer.simplified()) for size, layer in self._layers]
        kind, slot = self._kinds.view.copy()
        maps = np.flatnonzero(kind == MAP)
        new_slot = np.full(self._next_slot, -1)
        new_slot[slot[maps]] = np.arange(len(maps))
        cells = cells_kept(self.tables.cells, new_slot)
        self._keys, self._values = Growing(1, np.int64), Growing(1, np.float64)
        self._extend_cells([cells])
        slot[maps] = np.arange(len(maps))
        self._kinds = Growing(2, np.int64)
        self._kinds.extend(np.stack([kind, slot]))
        self._next_slot, self._gone = len(maps), 0
        self._changed()

    def lookup(self, ipix29: IntArray) -> tuple[IntArray, IntArray]:
        """See :meth:`crossmatch.tables.Tables.lookup`."""
        return self.tables.lookup(ipix29)

    def _extend(self, regions: Sequence[Region]) -> None:
        """Rows, cells and one layer of intervals for more regions; all of them or none."""
        shapes = [shape_of(region.localization) for region in regions]
        parts = [split_cover(s, r.level) for s, r in zip(shapes, regions, strict=True)]
        if not regions:
            return
        if self._next_slot + len(regions) > MAX_SLOTS:
            self.compact()
        first_row = len(self._regions)
        numbers, kinds, cells = [], [], []
        for shape, region in zip(shapes, regions, strict=True):
            kind = _kind(shape, region.level)
            numbers.append(_numbers(shape, region))
            kinds.append((kind, self._next_slot if kind == MAP else 0))
            if kind == MAP and isinstance(shape, MapShape):
                cells.append(cells_of(shape, region.level, self._next_slot))
                self._next_slot += 1
        self._extend_cells(cells)
        self._numbers.extend(np.array(numbers).T)
        self._kinds.extend(np.array(kinds, np.int64).T)
        self._regions.extend(regions)
        self._shapes.extend(shapes)
        # In the order of `crossmatch.pairkeys`: what is sure, then what is not.
        covers = [cover for both in parts for cover in both]
        layer = intervals_of(covers, NUMBERS_PER_ROW * first_row)
        self._layers.append((len(regions), layer))
        while len(self._layers) > 1 and self._layers[-2][0] < _SHRINK * self._layers[-1][0]:
            self._merge_last()
        self._changed()

    def _extend_cells(self, cells: Sequence[Cells]) -> None:
        if cells:
            keys = np.concatenate([c.key for c in cells])
            values = np.concatenate([c.values for c in cells])
            self._keys.extend(keys[None])
            self._values.extend(values.reshape(1, -1))

    def _merge_last(self) -> None:
        (n_below, below), (n_above, above) = self._layers[-2:]
        self._layers[-2:] = [(n_below + n_above, merged(below, above))]

    def _changed(self) -> None:
        for name in ("tables", "regions"):
            self.__dict__.pop(name, None)


def _kind(shape: Shape, level: float) -> int:
    if has_cells(shape, level):
        return MAP
    if isinstance(shape, FisherShape) and circle_columns(shape) is not None:
        return CIRCLE
    return OTHER


def _numbers(shape: Shape, region: Region) -> FloatArray:
    """One column of the growing table of rows."""
    circle = circle_columns(shape) if isinstance(shape, FisherShape) else None
    return np.concatenate(
        [
            [jd_from_datetime(region.trigger_time)],
            [region.window.start_days, region.window.end_days, region.level],
            sky.unit_vectors(*shape.best_deg),
            *(circle or (np.zeros(MAX_COMPONENTS),) * 3),
        ]
    )
