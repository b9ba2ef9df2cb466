"""Places on the sky: order-29 HEALPix numbers, sets of ranges of them, angles.

A *set of ranges* is an ``(m, 2) int64`` array of half-open ranges of order-29
NESTED pixels, sorted and disjoint, neighbours merged: one spelling for each set.
Every function that returns ranges returns that form; :func:`merge` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import healpy
import numpy as np

from crossmatch.errors import RegionError
from crossmatch.model import BoolArray, FloatArray, IntArray

MAX_ORDER = 29
N_PIX = 12 * 4**MAX_ORDER
WHOLE_SKY_DEG2 = 360.0**2 / math.pi
PIXEL_SR = 4 * math.pi / N_PIX
DEG2_PER_SR = math.degrees(1.0) ** 2

# First UNIQ number of each order, and of the one that does not exist.
_FIRST_UNIQ = 4 ** np.arange(1, MAX_ORDER + 3, dtype=np.int64)
# Sizes of the cells of order 29, 28, ... 0 in order-29 pixels.
_SIZES = 4 ** np.arange(MAX_ORDER + 1, dtype=np.int64)

# From here on to 360 degrees, 0.4 nanoarcseconds, healpy may give a pixel of another base cell.
_NEARLY_AROUND_DEG = 360 - 1e-13

Near: TypeAlias = Callable[[FloatArray, FloatArray, float], BoolArray]


def ipix29(ra_deg: FloatArray, dec_deg: FloatArray) -> IntArray:
    """Order-29 NESTED pixels of positions.

    Parameters
    ----------
    ra_deg, dec_deg : (n,) float64
        ICRS degrees; any finite right ascension, declination within +-90.

    Returns
    -------
    (n,) int64

    Raises
    ------
    ValueError
        If a position is not finite or a declination is out of range.

    Notes
    -----
    healpy: 48 ns a position for any number of them. cdshealpix takes 35 ns for
    a million, but 570 ns each for a thousand, and batches are often small.
    """
    ra, dec = np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
    if ra.size == 0:
        return np.empty(ra.shape, np.int64)
    first, last = ra.min(), ra.max()
    if not math.isfinite(first) or not math.isfinite(last):
        raise ValueError("a right ascension is not finite")
    if not (dec.min() >= -90 and dec.max() <= 90):
        raise ValueError("a declination is not within -90 and 90 degrees")
    if first < 0 or last > _NEARLY_AROUND_DEG:
        ra = np.mod(ra, 360)
        ra = np.where(ra > _NEARLY_AROUND_DEG, 0.0, ra)
    pixels = healpy.ang2pix(1 << MAX_ORDER, ra, dec, nest=True, lonlat=True)
    return np.asarray(pixels, np.int64)


def to_radec(ipix29: IntArray) -> tuple[FloatArray, FloatArray]:
    """Centres, in ICRS degrees, of order-29 NESTED pixels: right ascension, declination."""
    return _centres(MAX_ORDER, np.asarray(ipix29, np.int64))


def _centres(order: int, ipix: IntArray) -> tuple[FloatArray, FloatArray]:
    if ipix.size == 0:
        return np.empty(ipix.shape), np.empty(ipix.shape)
    ra, dec = healpy.pix2ang(1 << order, ipix, nest=True, lonlat=True)
    return np.asarray(ra, np.float64), np.asarray(dec, np.float64)


def cell_centres(start: IntArray, end: IntArray) -> tuple[FloatArray, FloatArray]:
    """Centres, in ICRS degrees, of HEALPix cells given as order-29 ranges, each (n,)."""
    order = cell_orders(start, end)
    ra, dec = np.empty(len(start)), np.empty(len(start))
    for k in np.unique(order):
        here = order == k
        ra[here], dec[here] = _centres(int(k), start[here] >> 2 * (MAX_ORDER - k))
    return ra, dec


def cell_orders(start: IntArray, end: IntArray) -> IntArray:
    """Order of HEALPix cells given as order-29 ranges, (n,) int64.

    Raises
    ------
    RegionError
        ``cells_invalid``, if a range is not exactly one cell.
    """
    size = end - start
    rank = np.minimum(np.searchsorted(_SIZES, size, side="left"), MAX_ORDER)
    aligned = (size == _SIZES[rank]) & (start & (_SIZES[rank] - 1) == 0)
    if not (aligned & (start >= 0) & (end <= N_PIX)).all():
        raise RegionError("cells_invalid", "a range of pixels is not one HEALPix cell")
    return np.asarray(MAX_ORDER - rank, np.int64)


def uniq_of_cells(start: IntArray, end: IntArray) -> IntArray:
    """UNIQ numbers of HEALPix cells given as order-29 ranges, (n,) int64."""
    order = cell_orders(start, end)
    return _FIRST_UNIQ[order] + (start >> 2 * (MAX_ORDER - order))


def uniq_to_ranges(uniq: IntArray) -> IntArray:
    """Order-29 range of each cell, in the order given: (n, 2) int64, not merged.

    Raises
    ------
    RegionError
        ``cells_invalid``, if a number is no UNIQ number of order 0 to 29.
    """
    uniq = np.asarray(uniq, np.int64)
    if uniq.size and (uniq.min() < 4 or uniq.max() >= _FIRST_UNIQ[MAX_ORDER + 1]):
        raise RegionError("cells_invalid", "a UNIQ number is not between 4 and 4**31 - 1")
    # searchsorted and not log2: the float logarithm is wrong just below a power of four.
    order = np.searchsorted(_FIRST_UNIQ, uniq, side="right") - 1
    shift = 2 * (MAX_ORDER - order)
    ipix = uniq - _FIRST_UNIQ[order]
    return np.stack([ipix << shift, (ipix + 1) << shift], axis=-1)


def ranges_to_uniq(ranges: IntArray) -> IntArray:
    """UNIQ numbers, sorted, of the largest cells that make up ``ranges``."""
    found = [
        _FIRST_UNIQ[order] + expand(first, last) for order, first, last in _cells_by_order(ranges)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _cells_by_order(ranges: IntArray) -> list[tuple[int, IntArray, IntArray]]:
    """For each order with cells: the order and half-open runs of its cell numbers."""
    found = []
    rest = np.asarray(ranges, np.int64).reshape(-1, 2)
    for order in range(MAX_ORDER + 1):
        shift = 2 * (MAX_ORDER - order)
        first = -(-rest[:, 0] >> shift)
        last = rest[:, 1] >> shift
        whole = first < last
        if not whole.any():
            continue
        found.append((order, first[whole], last[whole]))
        left = np.stack([rest[whole, 0], first[whole] << shift], axis=1)
        right = np.stack([last[whole] << shift, rest[whole, 1]], axis=1)
        rest = np.concatenate([rest[~whole], left, right])
        rest = rest[rest[:, 0] < rest[:, 1]]
        if not len(rest):
            break
        rest = rest[np.argsort(rest[:, 0])]
    return found


def expand(first: IntArray, last: IntArray) -> IntArray:
    """All integers of the half-open runs ``first[i] <= k < last[i]``, one run after another."""
    counts = last - first
    offsets = np.cumsum(counts) - counts
    runs = np.arange(counts.sum(), dtype=np.int64) + np.repeat(first - offsets, counts)
    return np.asarray(runs, np.int64)


def whole_sky() -> IntArray:
    """The range that is the whole sky, (1, 2) int64."""
    return np.array([[0, N_PIX]], np.int64)


def merge(ranges: IntArray) -> IntArray:
    """Set of ranges from ranges in any order that may touch, overlap or be empty."""
    ranges = np.asarray(ranges, np.int64).reshape(-1, 2)
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if len(ranges) < 2:
        return ranges.copy()
    if (np.diff(ranges[:, 0]) < 0).any():
        ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    opens = np.flatnonzero(np.r_[True, ranges[1:, 0] > reach[:-1]])
    closes = np.r_[opens[1:] - 1, len(ranges) - 1]
    return np.stack([ranges[opens, 0], reach[closes]], axis=1)


def union(*sets: IntArray) -> IntArray:
    """What lies in any of the sets."""
    return merge(np.concatenate([np.empty((0, 2), np.int64), *sets]))


def intersection(a: IntArray, b: IntArray) -> IntArray:
    """What lies in both sets of ranges."""
    low = np.searchsorted(b[:, 1], a[:, 0], side="right")
    high = np.searchsorted(b[:, 0], a[:, 1], side="left")
    high = np.maximum(high, low)
    of_b = expand(low, high)
    of_a = np.repeat(np.arange(len(a)), high - low)
    start = np.maximum(a[of_a, 0], b[of_b, 0])
    end = np.minimum(a[of_a, 1], b[of_b, 1])
    return merge(np.stack([start, end], axis=1))


def contains(ranges: IntArray, ipix29: IntArray) -> BoolArray:
    """Whether each pixel lies in the set of ranges, (n,) bool."""
    ipix29 = np.asarray(ipix29, np.int64)
    if len(ranges) == 0:
        return np.zeros(ipix29.shape, np.bool_)
    before = np.searchsorted(ranges[:, 0], ipix29, side="right") - 1
    return np.asarray((before >= 0) & (ipix29 < ranges[np.maximum(before, 0), 1]), np.bool_)


def area_deg2(ranges: IntArray) -> float:
    """Area of a set of ranges in square degrees."""
    pixels = int((ranges[:, 1] - ranges[:, 0]).sum())
    return float(pixels / N_PIX * WHOLE_SKY_DEG2)


def moc_ascii(ranges: IntArray, max_order: int = MAX_ORDER) -> str:
    """MOC in ASCII (IVOA MOC 2.0, section 4.3.2) that covers the set of ranges.

    Cells smaller than ``max_order`` are widened to it, so that the text is short
    and nothing is lost. The empty set is ``"<max_order>/"``.
    """
    shift = 2 * (MAX_ORDER - max_order)
    wide = np.stack([ranges[:, 0] >> shift, -(-ranges[:, 1] >> shift)], axis=1) << shift
    parts = []
    deepest = -1
    for order, first, last in _cells_by_order(merge(wide)):
        runs = [
            f"{a}" if b == a + 1 else f"{a}-{b - 1}"
            for a, b in zip(first.tolist(), last.tolist(), strict=True)
        ]
        parts.append(f"{order}/{' '.join(runs)}")
        deepest = order
    if deepest < max_order:
        parts.append(f"{max_order}/")
    return " ".join(parts)


def short_moc(ranges: IntArray, max_order: int, most: int) -> str:
    """:func:`moc_ascii` in at most ``most`` characters, its cells widened as far as that needs.

    ``most`` must have room for the 12 cells of order 0: 30 characters.
    """
    for order in range(max_order, -1, -1):
        shift = 2 * (MAX_ORDER - order)
        ranges = merge(
            np.stack([ranges[:, 0] >> shift, -(-ranges[:, 1] >> shift)], axis=1) << shift
        )
        # Each range is a number and a blank at least: no text is made only to be thrown away.
        if 2 * len(ranges) <= most and len(text := moc_ascii(ranges, order)) <= most:
            return text
    raise ValueError(f"no MOC has {most} characters")


def ranges_from_ascii(text: str) -> IntArray:
    """Set of ranges from a MOC in ASCII.

    Raises
    ------
    RegionError
        ``moc_invalid``, if the text is no spatial MOC.
    """
    found: list[tuple[int, int]] = []
    order: int | None = None
    for word in text.replace(",", " ").replace("/", "/ ").split():
        if word.endswith("/"):
            order = _whole_number(word[:-1], text)
            if order > MAX_ORDER:
                raise RegionError("moc_invalid", f"order {order} is above {MAX_ORDER}")
            continue
        if order is None:
            raise RegionError("moc_invalid", f"a cell before any order in {text[:40]!r}")
        first, dash, last = word.partition("-")
        a = _whole_number(first, text)
        b = _whole_number(last, text) if dash else a
        if not a <= b < 12 * 4**order:
            raise RegionError("moc_invalid", f"cells {word!r} do not exist at order {order}")
        shift = 2 * (MAX_ORDER - order)
        found.append((a << shift, (b + 1) << shift))
    if order is None:
        raise RegionError("moc_invalid", f"no order in {text[:40]!r}")
    return merge(np.array(found, np.int64).reshape(-1, 2))


def _whole_number(word: str, text: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 20):
        raise RegionError("moc_invalid", f"{word[:20]!r} is not a number in {text[:40]!r}")
    return int(word)


def unit_vectors(ra_deg: FloatArray | float, dec_deg: FloatArray | float) -> FloatArray:
    """Unit vectors of positions, (..., 3)."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def dot(vectors: FloatArray, direction: FloatArray) -> FloatArray:
    """Scalar products of vectors (..., 3) with one direction (3,).

    Written out, since the last digit of a BLAS product depends on how many rows come
    with it, and a position must give the same answer in every batch.
    """
    x, y, z = direction.tolist()
    return np.asarray(vectors[..., 0] * x + vectors[..., 1] * y + vectors[..., 2] * z, np.float64)


def separation_deg(
    ra1_deg: FloatArray | float,
    dec1_deg: FloatArray | float,
    ra2_deg: FloatArray | float,
    dec2_deg: FloatArray | float,
) -> FloatArray:
    """Great-circle distance in degrees, broadcast; exact at 0 and 180 degrees (Vincenty 1975)."""
    dec1, dec2 = np.radians(dec1_deg), np.radians(dec2_deg)
    delta = np.radians(np.subtract(ra2_deg, ra1_deg))
    sin1, cos1, sin2, cos2 = np.sin(dec1), np.cos(dec1), np.sin(dec2), np.cos(dec2)
    across = np.hypot(
        cos2 * np.sin(delta),
        cos1 * sin2 - sin1 * cos2 * np.cos(delta),
    )
    along = sin1 * sin2 + cos1 * cos2 * np.cos(delta)
    return np.asarray(np.degrees(np.arctan2(across, along)), np.float64)


def separation_of_vectors_deg(a: FloatArray, b: FloatArray) -> FloatArray:
    """Angle in degrees between unit vectors, (3, n) each; (n,) float64.

    By the chord: exact for small angles, to a microdegree next to 180.
    """
    chord = np.sqrt(np.square(a - b).sum(axis=0))
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1.0))), np.float64)


def position_angle_deg(
    ra1_deg: float, dec1_deg: float, ra2_deg: FloatArray, dec2_deg: FloatArray
) -> FloatArray:
    """Direction of the second positions seen from the first, degrees from north through east."""
    dec1, dec2 = np.radians(dec1_deg), np.radians(dec2_deg)
    delta = np.radians(np.subtract(ra2_deg, ra1_deg))
    east = np.sin(delta) * np.cos(dec2)
    north = np.cos(dec1) * np.sin(dec2) - np.sin(dec1) * np.cos(dec2) * np.cos(delta)
    return np.asarray(np.degrees(np.arctan2(east, north)), np.float64)


def refine(near: Near, max_order: int) -> IntArray:
    """Cover of a shape by cells down to ``max_order``: contains the shape, may exceed it.

    ``near(ra, dec, radius)`` tells for each centre (degrees) whether the shape may
    come within ``radius`` degrees of it; it may err towards yes. Cells are divided
    as long as that holds.
    """
    ipix = np.arange(12, dtype=np.int64)
    for order in range(max_order + 1):
        if order:
            ipix = (4 * ipix[:, None] + np.arange(4)).ravel()
        ra, dec = _centres(order, ipix)
        ipix = ipix[near(ra, dec, _cell_radius_deg(order))]
    shift = 2 * (MAX_ORDER - max_order)
    return merge(np.stack([ipix << shift, (ipix + 1) << shift], axis=1))


def _cell_radius_deg(order: int) -> float:
    """Bound on the distance of any point of a cell from its centre.

    The largest distance to a corner (healpy's ``max_pixrad``) is 61.25 degrees
    / 2**order in the limit, from below; the margin is for rounding at high orders.
    """
    return 61.3 / 2.0**order + 1e-9


def cover_order(size_deg: float) -> int:
    """Order whose cells are about a sixteenth of ``size_deg`` wide, 0 to 29."""
    with np.errstate(divide="ignore"):
        return int(np.clip(np.ceil(np.log2(58.6 * 16 / size_deg)), 0, MAX_ORDER))


def cone_ranges(ra_deg: float, dec_deg: float, radius_deg: float) -> IntArray:
    """Cover of the positions within ``radius_deg`` (included) of a position."""
    if radius_deg >= 180:
        return whole_sky()

    def near(ra: FloatArray, dec: FloatArray, margin: float) -> BoolArray:
        distance = separation_deg(ra_deg, dec_deg, ra, dec)
        return np.asarray(distance <= radius_deg + margin, np.bool_)

    return refine(near, cover_order(max(radius_deg, 1e-7)))


def parted_by_distance(
    cover: IntArray, ra_deg: float, dec_deg: float, radius_deg: float
) -> tuple[IntArray, IntArray]:
    """Parts of a cover: cells that lie within a distance of a position as a whole, and others.

    Cells are of the order of the smallest in ``cover``, (m, 2) int64.
    """
    bits = int(np.bitwise_or.reduce(cover, axis=None))
    order = max(MAX_ORDER - ((bits & -bits).bit_length() - 1) // 2, 0)
    shift = 2 * (MAX_ORDER - order)
    cells = expand(cover[:, 0] >> shift, cover[:, 1] >> shift)
    distance = separation_deg(ra_deg, dec_deg, *_centres(order, cells))
    within = distance + _cell_radius_deg(order) <= radius_deg
    first, last = cells << shift, (cells + 1) << shift
    ranges = np.stack([first, last], axis=1)
    return merge(ranges[within]), merge(ranges[~within])


def ellipse_ranges(
    ra_deg: float,
    dec_deg: float,
    semi_major_deg: float,
    semi_minor_deg: float,
    position_angle_deg: float,
) -> IntArray:
    """Cover of an ellipse drawn on the zenithal equidistant plane at its centre."""
    longest, shortest = max(semi_major_deg, semi_minor_deg), min(semi_major_deg, semi_minor_deg)
    if longest >= 90:
        return cone_ranges(ra_deg, dec_deg, longest)

    def near(ra: FloatArray, dec: FloatArray, margin: float) -> BoolArray:
        distance = separation_deg(ra_deg, dec_deg, ra, dec)
        scaled = elliptical_radius(
            ra_deg, dec_deg, semi_major_deg, semi_minor_deg, position_angle_deg, ra, dec
        )
        # The plane stretches distances by r / sin r, at most pi/2 within 90 degrees,
        # and the elliptical radius grows by no more than 1 / b per degree on it.
        reach = 1 + 0.5 * np.pi * margin / shortest
        in_cone = distance <= longest + margin
        return np.asarray(in_cone & ((scaled <= reach) | (distance + margin > 90)), np.bool_)

    # Thin ellipses get cells as fine as their width, as far as that keeps the number sane.
    return refine(near, cover_order(max(shortest, longest / 64, 1e-7)))


def elliptical_radius(
    ra0_deg: float,
    dec0_deg: float,
    semi_major_deg: float,
    semi_minor_deg: float,
    position_angle0_deg: float,
    ra_deg: FloatArray,
    dec_deg: FloatArray,
) -> FloatArray:
    """Distance from an ellipse's centre in units of the ellipse: 1 on it, (n,) float64."""
    distance = separation_deg(ra0_deg, dec0_deg, ra_deg, dec_deg)
    angle = np.radians(position_angle_deg(ra0_deg, dec0_deg, ra_deg, dec_deg) - position_angle0_deg)
    return np.asarray(
        distance * np.hypot(np.cos(angle) / semi_major_deg, np.sin(angle) / semi_minor_deg),
        np.float64,
    )


# North galactic pole, ICRS degrees (ESA 1997, The Hipparcos and Tycho Catalogues, 1.5.3).
_GALACTIC_POLE = unit_vectors(192.85948, 27.12825)
# Obliquity at J2000, IAU 2006: 84381.406 arcsec; the frame bias (0.02 arcsec) is left out.
_ECLIPTIC_POLE = unit_vectors(270.0, 90.0 - 84381.406 / 3600)
_GALACTIC_POLE_XYZ = tuple(_GALACTIC_POLE.tolist())
_ECLIPTIC_POLE_XYZ = tuple(_ECLIPTIC_POLE.tolist())


def galactic_latitude_deg(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Galactic latitude in degrees of ICRS positions."""
    return _latitude_deg(_GALACTIC_POLE, ra_deg, dec_deg)


def ecliptic_latitude_deg(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Latitude in degrees above the mean ecliptic of J2000 of ICRS positions."""
    return _latitude_deg(_ECLIPTIC_POLE, ra_deg, dec_deg)


def latitudes_deg(ra_deg: float, dec_deg: float) -> tuple[float, float]:
    """Galactic and ecliptic latitude in degrees of one ICRS position, without arrays: 1 µs."""
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    x, y, z = math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)
    galactic, ecliptic = (
        math.degrees(math.asin(max(-1.0, min(1.0, x * p[0] + y * p[1] + z * p[2]))))
        for p in (_GALACTIC_POLE_XYZ, _ECLIPTIC_POLE_XYZ)
    )
    return galactic, ecliptic


def _latitude_deg(pole: FloatArray, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    sine = dot(unit_vectors(ra_deg, dec_deg), pole)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1, 1))), np.float64)
