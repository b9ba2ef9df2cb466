"""Sources sorted along the HEALPix curve: which lie within a radius of many positions.

The sky is divided into pixels with about one source each, and a table says where the
sources of each pixel begin: a position reads two numbers of it. A position that is farther
from the border of its pixel than the radius is done with that; the others ask the
neighbours too. All arrays can be memory-mapped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import healpy
import numpy as np

from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import MAX_ORDER, expand, ipix29

_Found: TypeAlias = tuple[IntArray, IntArray, FloatArray]
_Runs: TypeAlias = tuple[IntArray, IntArray, IntArray]

ARCSEC_PER_RAD = math.degrees(1.0) * 3600.0

# The HEALPix plane (Calabretta and Roukema 2007, equations 2 and 12) stretches no angle on the
# sky by more than this: its Jacobian's largest singular value is 1.3417 in the equatorial belt
# and 1.694 in the caps, reached at the pole. Half a percent is added.
_MOST_STRETCH = 1.702
# Side of a base pixel on that plane, in radians: half the diagonal of pi/2 times the root of 2.
_BASE_SIDE = math.pi / (2 * math.sqrt(2))
# Pixels of order 29 are 0.4 mas wide; positions are rounded to a few of them.
_ROUNDING = 2e-7
# Sides of a pixel are divided by 2**7 when asking how far a position is from its border.
_FINE = 7
_MOST_TABLE_ORDER = 12
# Positions at a time: what they touch then stays in the processor's cache.
_CHUNK = 1 << 16
# Where pixels have more sources than that, those in smaller ones are searched for.
_CROWD = 24
# Pairs at a time: bounds the memory of wide searches.
_MOST_PAIRS = 1 << 21


@dataclass(frozen=True, slots=True)
class Matches:
    """Nearest source of each position.

    ``row`` (n,) int64 is the row in the catalogue, -1 where nothing lies within the
    radius; ``separation_arcsec`` (n,) float64 is infinite there.
    """

    row: IntArray
    separation_arcsec: FloatArray


@dataclass(frozen=True, slots=True)
class Pairs:
    """Positions and sources near each other, (p,) each, by position and then separation.

    ``position`` and ``row`` are int64 numbers of the position asked for and of the source.
    """

    position: IntArray
    row: IntArray
    separation_arcsec: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Places of sources in the order of their pixels.

    Parameters
    ----------
    ra_deg, dec_deg : (n,) float64
        ICRS, in the order of ``ipix29``.
    ipix29 : (n,) int64
        Order-29 NESTED pixels, ascending.
    offsets : (12 * 4**order + 1,) int32 or int64
        Where the sources of each pixel of ``order`` begin.
    order : int
        See :func:`table_order`.
    """

    ra_deg: FloatArray
    dec_deg: FloatArray
    ipix29: IntArray
    offsets: IntArray
    order: int

    @classmethod
    def of(cls, ra_deg: FloatArray, dec_deg: FloatArray, pixels: IntArray) -> Sources:
        """Sources that are sorted by ``pixels`` already; the table is made."""
        order = table_order(len(pixels))
        return cls(ra_deg, dec_deg, pixels, offsets_of(counts_of(pixels, order)), order)

    def __len__(self) -> int:
        return len(self.ipix29)

    def closest(self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float) -> Matches:
        """Nearest source within ``radius_arcsec`` (included) of each position.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS, finite.
        radius_arcsec : float
            Not negative; any, though meant for arcseconds.

        Returns
        -------
        Matches
            (n,) each. Of equally near sources the first in the order of pixels.
        """
        ra_deg, dec_deg = np.atleast_1d(ra_deg), np.atleast_1d(dec_deg)
        row = np.full(len(ra_deg), -1, np.int64)
        separation = np.full(len(ra_deg), np.inf)
        for some, (position, source, away) in self._chunks(ra_deg, dec_deg, radius_arcsec):
            if (position[1:] <= position[:-1]).any():
                best = np.lexsort((source, away, position))
                best = best[np.r_[True, np.diff(position[best]) > 0]]
                position, source, away = position[best], source[best], away[best]
            place = some[position]
            row[place], separation[place] = source, away
        return Matches(row, separation)

    def within(self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float) -> Pairs:
        """All sources within ``radius_arcsec`` (included) of each position.

        Returns
        -------
        Pairs
            Sorted by position, separation and source.
        """
        ra_deg, dec_deg = np.atleast_1d(ra_deg), np.atleast_1d(dec_deg)
        found = [
            (some[position], source, away)
            for some, (position, source, away) in self._chunks(ra_deg, dec_deg, radius_arcsec)
        ]
        if not found:
            return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        position, source, away = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((source, away, position))
        return Pairs(position[order], source[order], away[order])

    def _chunks(
        self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float
    ) -> Iterator[tuple[IntArray, _Found]]:
        """Some positions and their pairs, no position in two parts.

        Pairs have the number among these positions, the source and the separation.
        """
        if len(self) == 0 or len(ra_deg) == 0:
            return
        if not radius_arcsec >= 0:
            raise ValueError(f"a radius of {radius_arcsec} arcsec")
        pixels = ipix29(ra_deg, dec_deg)
        walk = np.argsort(pixels)
        for start in range(0, len(walk), _CHUNK):
            some = walk[start : start + _CHUNK]
            ra, dec = ra_deg[some], dec_deg[some]
            for runs in self._runs(pixels[some], radius_arcsec):
                for part in _parts(runs):
                    yield some, self._tested(ra, dec, part, radius_arcsec)

    def _runs(self, pixels: IntArray, radius_arcsec: float) -> Iterator[_Runs]:
        """Runs of sources that may be near positions: position, first source, end.

        First those of positions that need one pixel alone, then the others.
        """
        order = self.order
        pixel = pixels >> 2 * (MAX_ORDER - order)
        low, high = self.offsets[pixel], self.offsets[pixel + 1]
        fine = (pixels >> 2 * (MAX_ORDER - order - _FINE)) & (4**_FINE - 1)
        hard = _border(order, radius_arcsec)[fine] | (high - low > _CROWD)
        easy = np.flatnonzero((high > low) & ~hard)
        yield easy, low[easy], high[easy]
        if (some := np.flatnonzero(hard)).size:
            yield self._around(some, pixels[some], _disc_order(radius_arcsec))

    def _around(self, position: IntArray, pixels: IntArray, disc_order: int) -> _Runs:
        """Runs of sources in all pixels that discs of the radius may touch.

        ``disc_order`` is that of the smallest pixels of which a disc touches no more
        than the one that it is in and that one's neighbours.
        """
        if disc_order < 0:
            zero = np.zeros(len(position), np.int64)
            return position, zero, zero + len(self)
        order = min(self.order, disc_order)
        owner, cell = _neighbourhood(pixels, order)
        shift = 2 * (self.order - order)
        low, high = self.offsets[cell << shift], self.offsets[(cell + 1) << shift]
        if disc_order > self.order:
            count = np.bincount(owner, high - low, minlength=len(position))
            crowded = count > _CROWD
            if crowded.any():
                calm = ~crowded[owner]
                few = np.flatnonzero(crowded)
                owner2, low2, high2 = self._searched(few, pixels[few], disc_order)
                owner = np.concatenate([owner[calm], owner2])
                low, high = np.concatenate([low[calm], low2]), np.concatenate([high[calm], high2])
        some = high > low
        return position[owner[some]], low[some], high[some]

    def _searched(self, position: IntArray, pixels: IntArray, order: int) -> _Runs:
        """As :meth:`_around` for crowded places: pixels too small for the table."""
        owner, cell = _neighbourhood(pixels, order)
        shift = 2 * (MAX_ORDER - order)
        low = np.searchsorted(self.ipix29, cell << shift)
        return position[owner], low, np.searchsorted(self.ipix29, (cell + 1) << shift)

    def _tested(
        self, ra_deg: FloatArray, dec_deg: FloatArray, runs: _Runs, radius_arcsec: float
    ) -> _Found:
        """Pairs that are as near as that, and their separations."""
        position, source = _expanded(*runs)
        # Most are sorted out by one column alone: a declination read is half the memory touched.
        limit = radius_arcsec / 3600 * (1 + 1e-9) + 1e-12
        near = np.flatnonzero(np.abs(self.dec_deg[source] - dec_deg[position]) <= limit)
        position, source = position[near], source[near]
        away = separation_arcsec(
            ra_deg[position], dec_deg[position], self.ra_deg[source], self.dec_deg[source]
        )
        near = np.flatnonzero(away <= radius_arcsec)
        return position[near], source[near], away[near]


def mapped(folder: Path, name: str) -> Any:
    """An array of a file; a plain one, whose elements are taken faster than a memmap's."""
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))


def closest_of(pairs: Pairs, count: int) -> Matches:
    """The nearest source of each of ``count`` positions among all pairs."""
    position, first = np.unique(pairs.position, return_index=True)
    row, separation = np.full(count, -1, np.int64), np.full(count, np.inf)
    row[position], separation[position] = pairs.row[first], pairs.separation_arcsec[first]
    return Matches(row, separation)


def separation_arcsec(
    ra1_deg: FloatArray, dec1_deg: FloatArray, ra2_deg: FloatArray, dec2_deg: FloatArray
) -> FloatArray:
    """Angles between positions, (n,) each, by the haversine: exact where they are small."""
    dec1, dec2 = np.radians(dec1_deg), np.radians(dec2_deg)
    half_dec = np.sin((dec1 - dec2) / 2)
    half_ra = np.sin(np.radians(ra1_deg - ra2_deg) / 2)
    square = half_dec**2 + np.cos(dec1) * np.cos(dec2) * half_ra**2
    return np.asarray(2 * np.arcsin(np.sqrt(np.minimum(square, 1))) * ARCSEC_PER_RAD, np.float64)


def table_order(count: int) -> int:
    """Order at which ``count`` sources, spread evenly, are one to three in each pixel."""
    order = round(math.log(max(count, 12) / 12 * 0.7, 4))
    return min(max(order, 0), _MOST_TABLE_ORDER)


def offsets_of(counts: IntArray) -> IntArray:
    """Where each pixel's sources begin, and the end, from how many it has: (m + 1,)."""
    total = int(counts.sum())
    # Half the memory wherever that is enough.
    offsets: IntArray = np.zeros(len(counts) + 1, "int32" if total < 2**31 else "int64")
    np.cumsum(counts, out=offsets[1:])
    return offsets


def counts_of(pixels: IntArray, order: int) -> IntArray:
    """How many of the order-29 ``pixels`` are in each pixel of ``order``, (12 * 4**order,)."""
    counts = np.bincount(pixels >> 2 * (MAX_ORDER - order), minlength=12 * 4**order)
    return np.asarray(counts, np.int64)


def _neighbourhood(pixels: IntArray, order: int) -> tuple[IntArray, IntArray]:
    """Pixel of ``order`` and its neighbours for each order-29 pixel: number of it, cell."""
    own = pixels >> 2 * (MAX_ORDER - order)
    cells = np.vstack([healpy.get_all_neighbours(1 << order, own, nest=True), own[np.newaxis]])
    if order == 0:
        # A base pixel may be a neighbour twice over.
        cells = np.sort(cells, axis=0)
        cells[1:][cells[1:] == cells[:-1]] = -1
    owner = np.broadcast_to(np.arange(len(pixels)), cells.shape)
    # Where only seven neighbours exist the eighth is -1.
    there = cells >= 0
    return np.asarray(owner[there], np.int64), np.asarray(cells[there], np.int64)


def _parts(runs: _Runs) -> Iterator[_Runs]:
    """Runs in parts of a bounded number of sources, all of a position in one of them."""
    position, low, high = runs
    ends = np.cumsum(high - low)
    if not len(ends) or ends[-1] <= _MOST_PAIRS:
        yield runs
        return
    order = np.argsort(position, kind="stable")
    position, low, high = position[order], low[order], high[order]
    ends = np.cumsum(high - low)
    first = np.flatnonzero(np.r_[True, np.diff(position) > 0])
    start = 0
    while start < len(position):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _MOST_PAIRS, side="right"))
        # Back to where a position begins; a single one may be more than that.
        stop = len(position) if stop >= len(position) else _start_at(first, start, stop, position)
        yield position[start:stop], low[start:stop], high[start:stop]
        start = stop


def _start_at(first: IntArray, start: int, stop: int, position: IntArray) -> int:
    """Last beginning of a position up to ``stop``, but at least the one after ``start``."""
    number = int(np.searchsorted(first, stop, side="right")) - 1
    if first[number] > start:
        return int(first[number])
    after = int(np.searchsorted(first, start, side="right"))
    return int(first[after]) if after < len(first) else len(position)


def _expanded(position: IntArray, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """Each position with each source of its run."""
    return np.repeat(position, high - low), expand(low, high)


def _reach(order: int, radius_arcsec: float) -> float:
    """How far a disc of the radius extends at most, in sides of a pixel of ``order``."""
    return radius_arcsec / ARCSEC_PER_RAD * _MOST_STRETCH / _BASE_SIDE * 2.0**order + _ROUNDING


@lru_cache(maxsize=64)
def _disc_order(radius_arcsec: float) -> int:
    """The highest order at which discs extend by no more than a pixel; -1 if there is none."""
    orders = (k for k in range(MAX_ORDER - 8, -1, -1) if _reach(k, radius_arcsec) <= 1)
    return next(orders, -1)


@lru_cache(maxsize=64)
def _border(order: int, radius_arcsec: float) -> BoolArray:
    """Whether discs may leave their pixel, by the place in it as a Morton number."""
    side = 1 << _FINE
    margin = min(math.ceil(_reach(order, radius_arcsec) * side), side)
    number = np.arange(side * side)
    x, y = (sum(((number >> 2 * b + first) & 1) << b for b in range(_FINE)) for first in (0, 1))
    return np.asarray((np.minimum(x, y) < margin) | (np.maximum(x, y) >= side - margin), np.bool_)


def cells_touched(pixels: IntArray, order: int, radius_arcsec: float) -> tuple[IntArray, IntArray]:
    """Places outside a pixel of ``order`` that sources in it may come within a radius of.

    Parameters
    ----------
    pixels : (n,) int64
        Order-29 pixels of sources.

    Returns
    -------
    number, ipix29 : (m,) int64
        Number of the source, and first order-29 pixel of each small cell that its disc may
        touch. Cells are a little wider than the radius.
    """
    fine = (pixels >> 2 * (MAX_ORDER - order - _FINE)) & (4**_FINE - 1)
    near = np.flatnonzero(_border(order, radius_arcsec)[fine])
    cells = _disc_order(radius_arcsec)
    owner, cell = _neighbourhood(pixels[near], cells)
    return near[owner], cell << 2 * (MAX_ORDER - cells)
