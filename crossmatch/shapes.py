"""One class per kind of localisation, prepared once, asked many times.

What all share: a position is inside level L exactly when its credible level is
<= L, ``cover(L)`` contains every such position, and level 1 is the whole sky.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np

from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.model import (
    BoolArray,
    Circle,
    Ellipse,
    FloatArray,
    IntArray,
    Localization,
    MultiOrderMap,
    Polygon,
)
from crossmatch.polygon import SkyPolygon

# "68 %" is one sigma. On the plane this is kappa = 1 / (0.66 sigma)**2, the convention of
# Connaughton et al. 2015 (ApJS 216, 32) and of RAVEN for Fermi GBM; we solve it on the sphere.
_ONE_SIGMA = math.erf(math.sqrt(0.5))
# Smaller radii mean this one: the pixels of order 29, in which positions count, are no finer,
# and the square of a radius far below is not a number any more.
_SMALLEST_DEG = 1e-7


class Shape(Protocol):
    """A localisation that is ready for questions."""

    @property
    def best_deg(self) -> tuple[float, float]:
        """Most probable position: right ascension, declination."""

    def cover(self, level: float) -> IntArray:
        """Ranges that contain every position whose credible level is <= ``level``."""

    def area_deg2(self, level: float) -> float:
        """Area of the positions inside ``level``."""

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Probability per steradian and credible level at positions, each (n,) float64."""


def shape_of(localization: Localization) -> Shape:
    """Shape of a localisation.

    Raises
    ------
    RegionError
        If the localisation is not a probability on the sky.
    """
    match localization:
        case MultiOrderMap():
            return MapShape(localization)
        case Circle():
            _check_position(localization.ra_deg, localization.dec_deg)
            _check_containment(localization.containment, below_one=True)
            _check_radius(localization.radius_deg)
            components = _fisher_components(localization)
            best = (localization.ra_deg % 360, localization.dec_deg)
            return FisherShape(best, components) if components else UniformShape(best)
        case Ellipse():
            _check_position(localization.ra_deg, localization.dec_deg)
            _check_containment(localization.containment, below_one=True)
            _check_radius(localization.semi_major_deg)
            _check_radius(localization.semi_minor_deg)
            if not math.isfinite(localization.position_angle_deg):
                raise RegionError("angle_invalid", "the position angle is not finite")
            if max(localization.semi_major_deg, localization.semi_minor_deg) >= 90:
                return UniformShape((localization.ra_deg % 360, localization.dec_deg))
            return EllipseShape(
                replace(
                    localization,
                    semi_major_deg=max(localization.semi_major_deg, _SMALLEST_DEG),
                    semi_minor_deg=max(localization.semi_minor_deg, _SMALLEST_DEG),
                )
            )
        case Polygon():
            _check_containment(localization.containment, below_one=False)
            return PolygonShape(localization)


def _check_position(ra_deg: float, dec_deg: float) -> None:
    if not (math.isfinite(ra_deg) and -360 <= ra_deg <= 360 and abs(dec_deg) <= 90):
        raise RegionError("position_invalid", f"({ra_deg}, {dec_deg}) degrees is not a position")


def _check_radius(radius_deg: float) -> None:
    if not (math.isfinite(radius_deg) and radius_deg > 0):
        raise RegionError("radius_invalid", f"a radius of {radius_deg} degrees is not positive")


def _check_containment(containment: float, *, below_one: bool) -> None:
    if not (0 < containment < 1 or (containment == 1 and not below_one)):
        raise RegionError("containment_invalid", f"a containment of {containment}")


class UniformShape:
    """No idea where: every position is as good as any, and none may be left out.

    The credible level of every position is 0, since no position is less likely than another.
    """

    def __init__(self, best_deg: tuple[float, float]) -> None:
        self.best_deg = best_deg

    def cover(self, level: float) -> IntArray:
        """The whole sky."""
        return sky.whole_sky()

    def area_deg2(self, level: float) -> float:
        """The whole sky."""
        return sky.WHOLE_SKY_DEG2

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """1 / 4 pi and 0 everywhere."""
        n = len(ra_deg)
        return np.full(n, 1 / (4 * np.pi)), np.zeros(n)


class FisherShape:
    """Mixture of Fisher distributions around one centre.

    ``components`` are pairs (kappa, weight), weights adding up to 1. The density
    falls with the distance whatever the mixture, so the credible level of a position
    is the probability within its distance.
    """

    def __init__(
        self, best_deg: tuple[float, float], components: tuple[tuple[float, float], ...]
    ) -> None:
        self.best_deg = best_deg
        self.components = components

    def probability_within(self, radius_deg: FloatArray | float) -> FloatArray:
        """Probability within a distance, normalised over the sphere, (n,) float64."""
        versine = 2 * np.sin(np.radians(radius_deg) / 2) ** 2
        total = sum(w * np.expm1(-k * versine) / math.expm1(-2 * k) for k, w in self.components)
        return np.asarray(np.minimum(total, 1.0), np.float64)

    def radius_deg(self, level: float) -> float:
        """Smallest radius that holds ``level``; 180 for level 1.

        Newton's method in the versine 1 - cos r, of which the probability is a concave
        function: begun where the narrowest component alone would end, its steps never go
        beyond the root.
        """
        if level >= 1:
            return 180.0
        # Weight over the probability of the whole sphere, of each component.
        parts = [(kappa, weight / -math.expm1(-2 * kappa)) for kappa, weight in self.components]
        versine = min(-math.log1p(level * math.expm1(-2 * k)) / k for k, _ in parts)
        for _ in range(500):
            held = sum(-scale * math.expm1(-kappa * versine) for kappa, scale in parts)
            slope = sum(scale * kappa * math.exp(-kappa * versine) for kappa, scale in parts)
            step = (level - held) / slope if slope > 0 else 2.0
            if step <= 1e-15 * versine or versine >= 2:
                break
            versine += step
        # A hair more, so that rounding does not leave the edge outside.
        return math.degrees(2 * math.asin(math.sqrt(min(versine * (1 + 2e-15), 2.0) / 2)))

    def cover(self, level: float) -> IntArray:
        """Cone of :meth:`radius_deg`."""
        if level >= 1:
            return sky.whole_sky()
        return sky.cone_ranges(*self.best_deg, self.radius_deg(level) + 1e-9)

    def area_deg2(self, level: float) -> float:
        """Area of the cap of :meth:`radius_deg`."""
        half = math.radians(self.radius_deg(level)) / 2
        return float(sky.WHOLE_SKY_DEG2 * math.sin(half) ** 2)

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Density and level from the distance to the centre."""
        distance = sky.separation_deg(*self.best_deg, ra_deg, dec_deg)
        versine = 2 * np.sin(np.radians(distance) / 2) ** 2
        density = np.zeros(len(distance))
        for kappa, weight in self.components:
            peak = -weight * kappa / (2 * np.pi * math.expm1(-2 * kappa))
            density += peak * np.exp(-kappa * versine)
        return density, self.probability_within(distance)


def _fisher_components(circle: Circle) -> tuple[tuple[float, float], ...]:
    """Pairs (kappa, weight) of a circle; none when the radius tells nothing."""
    containment = _ONE_SIGMA if abs(circle.containment - 0.68) < 0.005 else circle.containment
    kappa = _kappa(circle.radius_deg, containment)
    if kappa <= 0:
        return ()
    if not circle.systematic:
        return ((kappa, 1.0),)
    terms = circle.systematic
    total = sum(t.weight for t in terms)
    if any(not (t.radius68_deg >= 0 and t.weight > 0) for t in terms) or abs(total - 1) > 1e-3:
        raise RegionError("systematic_invalid", f"systematic terms {terms}")
    statistical = _radius_holding(_ONE_SIGMA, kappa)
    radii = [math.hypot(statistical, t.radius68_deg) for t in terms]
    # A component so wide that it is uniform keeps a tiny kappa: the formulae hold there.
    return tuple(
        (max(_kappa(r, _ONE_SIGMA), 1e-9), t.weight / total)
        for r, t in zip(radii, terms, strict=True)
    )


def _kappa(radius_deg: float, containment: float) -> float:
    """Concentration whose cap of ``radius_deg`` holds ``containment``; 0 if none does."""
    radius_deg = min(max(radius_deg, _SMALLEST_DEG), 180.0)
    versine = 2 * math.sin(math.radians(radius_deg) / 2) ** 2
    if versine / 2 >= containment:
        return 0.0
    # Exact for a plane; on the sphere the true value is lower.
    high = -math.log1p(-containment) / versine
    if high > 20:  # exp(-2 kappa) vanishes
        return high
    # Newton's method for kappa = -log(1 - containment (1 - exp(-2 kappa))) / versine, kept between
    # bounds; kappa = 0 is a root too, and the excess is negative between the two.
    low, kappa = 0.0, high
    for _ in range(100):
        held = 1 + containment * math.expm1(-2 * kappa)
        excess = kappa + math.log(held) / versine
        if excess > 0:
            high = kappa
        else:
            low = kappa
        slope = 1 - 2 * containment * math.exp(-2 * kappa) / (versine * held)
        better = kappa - excess / slope if slope > 0 else 0.5 * (low + high)
        if not low <= better <= high:
            better = 0.5 * (low + high)
        if abs(better - kappa) <= 1e-15 * kappa:
            break
        kappa = better
    return kappa


def _radius_holding(probability: float, kappa: float) -> float:
    versine = -math.log1p(probability * math.expm1(-2 * kappa)) / kappa
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(versine / 2))))


class EllipseShape:
    """Gaussian on the zenithal equidistant plane at the centre: distances from it are true.

    What the Gaussian has beyond 180 degrees is neglected; axes of 90 degrees and more
    are not ellipses to us.
    """

    def __init__(self, ellipse: Ellipse) -> None:
        self._ellipse = ellipse
        self._rate = -math.log1p(-ellipse.containment)
        self.best_deg = (ellipse.ra_deg % 360, ellipse.dec_deg)

    def _scale(self, level: float) -> float:
        return math.sqrt(-math.log1p(-level) / self._rate)

    def cover(self, level: float) -> IntArray:
        """Cover of the ellipse, scaled to ``level``."""
        if level >= 1:
            return sky.whole_sky()
        scale, e = self._scale(level) * (1 + 1e-9), self._ellipse
        return sky.ellipse_ranges(
            e.ra_deg,
            e.dec_deg,
            scale * e.semi_major_deg,
            scale * e.semi_minor_deg,
            e.position_angle_deg,
        )

    def area_deg2(self, level: float) -> float:
        """Area on the sphere, integrated over the direction from the centre."""
        if level >= 1:
            return sky.WHOLE_SKY_DEG2
        angle = np.arange(720) * (2 * np.pi / 720)
        e = self._ellipse
        radius = self._scale(level) / np.hypot(
            np.cos(angle) / e.semi_major_deg, np.sin(angle) / e.semi_minor_deg
        )
        caps = np.sin(np.radians(np.minimum(radius, 180.0)) / 2) ** 2
        return float(caps.mean() * sky.WHOLE_SKY_DEG2)

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Density and level from the elliptical radius."""
        e = self._ellipse
        exponent = (
            self._rate
            * sky.elliptical_radius(
                e.ra_deg,
                e.dec_deg,
                e.semi_major_deg,
                e.semi_minor_deg,
                e.position_angle_deg,
                ra_deg,
                dec_deg,
            )
            ** 2
        )
        distance = sky.separation_deg(e.ra_deg, e.dec_deg, ra_deg, dec_deg)
        # Plane area per steradian is r / sin r; the antipode is a point, and bounded here.
        stretch = 1 / np.maximum(np.sinc(distance / 180), 1e-6)
        axes = math.radians(e.semi_major_deg) * math.radians(e.semi_minor_deg)
        density = self._rate / (np.pi * axes) * np.exp(-exponent) * stretch
        return density, np.minimum(-np.expm1(-exponent), 1.0)


class PolygonShape:
    """Uniform density inside a polygon, nothing known outside.

    All positions inside are equally likely, so which come first is a choice: those
    nearer to the centre, in parts of the way to the border (:meth:`SkyPolygon.share`).
    The level is the containment times that share; outside the polygon it is 1. A level
    above the containment is the polygon itself.
    """

    def __init__(self, polygon: Polygon) -> None:
        self._polygon = SkyPolygon(polygon.vertices_deg)
        self._containment = polygon.containment
        self.best_deg = self._polygon.centre_deg

    def cover(self, level: float) -> IntArray:
        """Cover of the whole polygon, whatever the level: polygons are small."""
        return sky.whole_sky() if level >= 1 else self._polygon.cover()

    def area_deg2(self, level: float) -> float:
        """Area of the polygon times the part of it inside ``level``."""
        if level >= 1:
            return sky.WHOLE_SKY_DEG2
        return self._polygon.area_deg2 * min(level / self._containment, 1.0)

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Density and level from the position in the polygon."""
        share = self._polygon.share(ra_deg, dec_deg)
        inside = np.isfinite(share)
        area_sr = self._polygon.area_deg2 / sky.DEG2_PER_SR
        density = np.where(inside, self._containment / area_sr, 0.0)
        level = np.where(inside, self._containment * share, 1.0)
        return density, level


class MapShape:
    """Multi-order map: cells in order of falling density.

    ``levels`` holds for each cell the probability of all cells before it and of
    itself, so the cell in which a level is crossed is outside that level.
    """

    def __init__(self, skymap: MultiOrderMap) -> None:
        self._map = skymap
        rank = _by_falling_density(skymap)
        probability = skymap.density * ((skymap.end - skymap.start) * sky.PIXEL_SR)
        self.levels = np.empty(len(rank))
        self.levels[rank] = np.minimum(np.cumsum(probability[rank]), 1.0)
        best = rank[:1]
        ra, dec = sky.cell_centres(skymap.start[best], skymap.end[best])
        self.best_deg = (float(ra[0]), float(dec[0]))

        self.smallest_cell = int((skymap.end - skymap.start).min())

    def cells_inside(self, level: float) -> tuple[IntArray, FloatArray, FloatArray]:
        """First pixel, density and level of the cells inside ``level``, in order of pixels."""
        cells = self.levels <= level
        return self._map.start[cells], self._map.density[cells], self.levels[cells]

    def inside(self, level: float) -> IntArray:
        """Set of ranges of the cells inside ``level``."""
        cells = self.levels <= level
        return sky.merge(np.stack([self._map.start[cells], self._map.end[cells]], axis=1))

    def cover(self, level: float) -> IntArray:
        """Exactly the cells inside, not more."""
        return sky.whole_sky() if level >= 1 else self.inside(level)

    def area_deg2(self, level: float) -> float:
        """Area of the cells inside ``level``."""
        if level >= 1:
            return sky.WHOLE_SKY_DEG2
        cells = self.levels <= level
        pixels = int((self._map.end[cells] - self._map.start[cells]).sum())
        return float(pixels / sky.N_PIX * sky.WHOLE_SKY_DEG2)

    def at(
        self, ra_deg: FloatArray, dec_deg: FloatArray, ipix29: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Density and level of the cells; 0 and 1 where there is no cell."""
        cell, found = find_cells(self._map, ipix29)
        density = np.where(found, self._map.density[cell], 0.0)
        return density, np.where(found, self.levels[cell], 1.0)


def find_cells(skymap: MultiOrderMap, ipix29: IntArray) -> tuple[IntArray, BoolArray]:
    """Cell that holds each pixel, and whether one does (else the cell number is any)."""
    cell = np.searchsorted(skymap.start, ipix29, side="right") - 1
    found = (cell >= 0) & (ipix29 < skymap.end[np.maximum(cell, 0)])
    return np.maximum(cell, 0), np.asarray(found, np.bool_)


def _by_falling_density(skymap: MultiOrderMap) -> IntArray:
    """Cells by falling density, ties by falling UNIQ as in ``ligo.skymap`` 2.

    (That sorts the records of a map by PROBDENSITY, then by their first field, and
    reverses.)
    """
    rank = np.argsort(skymap.density)[::-1]
    density = skymap.density[rank]
    same = density[1:] == density[:-1]
    if same.any():
        tied = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
        group = np.cumsum(np.r_[True, ~same])[tied]
        members = rank[tied]
        uniq = sky.uniq_of_cells(skymap.start[members], skymap.end[members])
        rank = rank.copy()
        rank[tied] = members[np.lexsort((-uniq, group))]
    return np.asarray(rank, np.int64)
