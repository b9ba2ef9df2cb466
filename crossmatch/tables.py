"""What a lookup needs of all active regions, as arrays: nothing of it changes.

Places are answered by three means. Intervals tell which regions may hold a pixel. The map
cells of all regions stand in one sorted array, so that density and level of all pairs are
one search. Circles are asked by their distance, all together, exactly. Few shapes remain
that answer for themselves, one after another: ellipses, polygons, maps of tiny cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossmatch import sky
from crossmatch.intervals import Intervals
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.pairkeys import KeyArray, above, parted, widened
from crossmatch.shapes import FisherShape, MapShape, Shape

# Cells of this order (0.2 arcsec) and larger can be told apart in the common table of
# cells: 44 bits for the pixel and 19 for the region fit one integer.
_CELL_ORDER = 20
CELL_SHIFT = 2 * (sky.MAX_ORDER - _CELL_ORDER)
CELL_BITS = 44
MAX_SLOTS = 1 << (63 - CELL_BITS)
"""Maps that the table of cells can tell apart."""

OTHER, MAP, CIRCLE = range(3)
MAX_COMPONENTS = 3
"""Of a circle with systematic errors; with more it answers for itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Map cells of many regions: sorted by ``key``, slot of the region above first pixel.

    ``key`` is (c,) int64, ``values`` (c, 2) float64: density per steradian and level, side
    by side because they are read together. Slots ascend with rows; those of regions that
    are gone may remain.
    """

    key: IntArray
    values: FloatArray

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.key.nbytes + self.values.nbytes


def has_cells(shape: Shape, level: float) -> bool:
    """Whether a shape is asked by the table of cells."""
    return isinstance(shape, MapShape) and level < 1 and shape.smallest_cell >> CELL_SHIFT > 0


def cells_of(shape: MapShape, level: float, slot: int) -> Cells:
    """Cells of a map that are inside ``level``."""
    start, density, cell_level = shape.cells_inside(level)
    key = slot << CELL_BITS | start >> CELL_SHIFT
    return Cells(key, np.stack([density, cell_level], axis=1))


def cells_kept(cells: Cells, new_slot: IntArray) -> Cells:
    """The same cells with slots renumbered by ``new_slot``; -1 removes."""
    slot = new_slot[cells.key >> CELL_BITS]
    stays = slot >= 0
    pixel = cells.key[stays] & ((1 << CELL_BITS) - 1)
    return Cells(slot[stays] << CELL_BITS | pixel, cells.values[stays])


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What matching needs of the regions, by row.

    Parameters
    ----------
    trigger_jd, window_start_days, window_end_days, level : (r,) float64
        JD UTC, days, credible level.
    best_vector : (3, r) float64
        Unit vectors of the best positions; of circles their centres.
    kappa, level_scale, density_scale : (k, r) float64
        Of circles: level is the sum of ``level_scale * expm1(-kappa * v)`` and density
        that of ``density_scale * exp(-kappa * v)``, v = 1 - cos(distance).
    kind, slot : (r,) int64
        OTHER, MAP or CIRCLE; slot of a map's cells.
    """

    trigger_jd: FloatArray
    window_start_days: FloatArray
    window_end_days: FloatArray
    level: FloatArray
    best_vector: FloatArray
    kappa: FloatArray
    level_scale: FloatArray
    density_scale: FloatArray
    kind: IntArray
    slot: IntArray


def circle_columns(shape: FisherShape) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """``kappa``, ``level_scale`` and ``density_scale`` of a circle, each (k,), where they fit."""
    components = shape.components
    if len(components) > MAX_COMPONENTS:
        return None
    found = np.zeros((3, MAX_COMPONENTS))
    for i, (kappa, weight) in enumerate(components):
        scale = weight / np.expm1(-2 * kappa)
        found[:, i] = kappa, scale, -scale * kappa / (2 * np.pi)
    return found[0], found[1], found[2]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Active regions as arrays, for any number of readers.

    Parameters
    ----------
    layers : sequence of Intervals
        Of numbers as in `crossmatch.pairkeys`. Those of a layer are above all of those of the
        layers before it.
    cells : Cells
    columns : Columns
    others : mapping
        Shapes of the rows of kind OTHER.
    again : callable with arguments, optional
        Gives the same tables in another process: these are then pickled as that call.
    """

    layers: Sequence[Intervals]
    cells: Cells
    columns: Columns
    others: Mapping[int, Shape]
    again: tuple[Callable[..., Any], tuple[Any, ...]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.columns.kind)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.again is not None:
            return self.again
        return Tables, (self.layers, self.cells, self.columns, self.others)

    @property
    def nbytes(self) -> int:
        """Bytes of intervals and cells."""
        return self.cells.nbytes + sum(layer.nbytes for layer in self.layers)

    def hits(self, ordered29: IntArray, alert_rows: IntArray) -> KeyArray:
        """Keys of pairs of alerts and the regions whose cover holds them, (p,), in no order.

        ``ordered29`` are ascending pixels and ``alert_rows`` the rows, (n,) each, that the alerts
        there have among n.
        """
        begun = above(alert_rows, len(alert_rows), len(self))
        keys = [begun[:0]]
        for layer in self.layers:
            begin, end = layer.find(ordered29)
            some = np.flatnonzero(end > begin)
            held = (end - begin)[some]
            # One repetition by counts, and all else by it: that is four times as fast.
            group = np.repeat(np.arange(len(some)), held)
            shift = begin[some] - (np.cumsum(held) - held)
            number = layer.rows[shift[group] + np.arange(len(group))]
            keys.append(begun[some][group] | widened(number, begun.dtype))
        return keys[1] if len(keys) == 2 else np.concatenate(keys)

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
        return parted(np.sort(self.hits(ipix29[by_place], by_place)))

    def evaluate(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        ipix29: IntArray,
        alert_rows: IntArray,
        region_rows: IntArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Density per steradian and credible level of pairs that :meth:`lookup` gave.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS degrees of positions.
        ipix29 : (n,) int64
            Their pixels.
        alert_rows, region_rows : (p,) int64
            Position ``alert_rows[i]`` is asked of region ``region_rows[i]``.

        Returns
        -------
        density, level : (p,) float64
        """
        density, level = np.empty(len(region_rows)), np.empty(len(region_rows))
        kind = self.columns.kind[region_rows]
        for which, ask in ((MAP, self._maps), (CIRCLE, self._circles), (OTHER, self._others)):
            mine = np.flatnonzero(kind == which)
            if len(mine):
                alerts, rows = alert_rows[mine], region_rows[mine]
                place = ra_deg, dec_deg, ipix29
                density[mine], level[mine] = ask(*place, alerts, rows)
        return density, level

    def outside(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        ipix29: IntArray,
        alert_rows: IntArray,
        region_rows: IntArray,
    ) -> BoolArray:
        """Which pairs that :meth:`hits` gave, and that are in doubt, are none, (p,) bool."""
        level = self._levels(ra_deg, dec_deg, ipix29, alert_rows, region_rows)
        return level > self.columns.level[region_rows]

    def _levels(
        self, ra: FloatArray, dec: FloatArray, ipix29: IntArray, alerts: IntArray, rows: IntArray
    ) -> FloatArray:
        """Levels of pairs with circles and other shapes, not with maps, (p,) float64."""
        circle = self.columns.kind[rows] == CIRCLE
        if circle.all():
            return self._circle_level(rows, self._versine(ra, dec, alerts, rows))
        level = np.empty(len(rows))
        if circle.any():
            versine = self._versine(ra, dec, alerts[circle], rows[circle])
            level[circle] = self._circle_level(rows[circle], versine)
        level[~circle] = self._others(ra, dec, ipix29, alerts[~circle], rows[~circle])[1]
        return level

    def _maps(
        self, ra: FloatArray, dec: FloatArray, ipix29: IntArray, alerts: IntArray, rows: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Of pixels known to lie in a cell of their region."""
        wanted = self.columns.slot[rows] << CELL_BITS | ipix29[alerts] >> CELL_SHIFT
        # Sorting first costs 17 ns each and saves more: the search then stays in the caches.
        order = np.argsort(wanted)
        cell = np.empty(len(wanted), np.int64)
        cell[order] = np.searchsorted(self.cells.key, wanted[order], side="right") - 1
        density, level = self.cells.values.take(cell, axis=0).T
        return density, level

    def _circles(
        self, ra: FloatArray, dec: FloatArray, ipix29: IntArray, alerts: IntArray, rows: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        of, versine = self.columns, self._versine(ra, dec, alerts, rows)
        density = np.zeros(len(rows))
        for which, power in self._powers(rows, versine):
            density += of.density_scale[which][rows] * np.exp(power)
        return density, self._circle_level(rows, versine)

    def _circle_level(self, rows: IntArray, versine: FloatArray) -> FloatArray:
        level = np.zeros(len(rows))
        for which, power in self._powers(rows, versine):
            level += self.columns.level_scale[which][rows] * np.expm1(power)
        return np.minimum(level, 1.0)

    def _powers(self, rows: IntArray, versine: FloatArray) -> Iterator[tuple[int, FloatArray]]:
        """Exponents of the components, as many as any circle has."""
        for which, kappa in enumerate(self.columns.kappa):
            if which == 0 or kappa.any():
                yield which, -kappa[rows] * versine

    def _versine(
        self, ra: FloatArray, dec: FloatArray, alerts: IntArray, rows: IntArray
    ) -> FloatArray:
        """1 - cos(distance), by half the square of the chord: without its cancellation."""
        versine = np.zeros(len(rows))
        for axis, place in enumerate(_vectors(ra, dec, alerts)):
            versine += np.square(place - self.columns.best_vector[axis][rows])
        versine *= 0.5
        return versine

    def _others(
        self, ra: FloatArray, dec: FloatArray, ipix29: IntArray, alerts: IntArray, rows: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        density, level = np.empty(len(rows)), np.empty(len(rows))
        by_row = np.argsort(rows, kind="stable")
        bounds = np.flatnonzero(np.diff(rows[by_row])) + 1
        for group in np.split(by_row, bounds):
            shape, at = self.others[int(rows[group[0]])], alerts[group]
            density[group], level[group] = shape.at(ra[at], dec[at], ipix29[at])
        return density, level


def half_tangents(ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Tangents of half the angles, each (n,).

    NumPy computes a tangent in 1.5 ns, but a sine in 16.
    """
    return np.tan(np.radians(0.5 * ra_deg)), np.tan(np.radians(0.5 * dec_deg))


def directions(
    tan_ra: FloatArray, tan_dec: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Components, each (n,), of unit vectors: from tangents of half the angles, to 5e-16."""
    t2, u2 = tan_dec * tan_dec, tan_ra * tan_ra
    a = 1.0 / (1.0 + t2)
    c = (1.0 - t2) * a / (1.0 + u2)
    return c * (1.0 - u2), c * tan_ra * 2.0, tan_dec * a * 2.0


def _vectors(ra: FloatArray, dec: FloatArray, alerts: IntArray) -> tuple[FloatArray, ...]:
    """Components, each (p,), of the unit vectors of ``alerts``, each position taken once."""
    if len(alerts) < len(ra) // 2:
        return directions(*half_tangents(ra[alerts], dec[alerts]))
    return tuple(part[alerts] for part in directions(*half_tangents(ra, dec)))
