"""Spherical polygons smaller than a hemisphere: inside, cover, area, and how far in."""

from __future__ import annotations

import numpy as np

from crossmatch.errors import RegionError
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import (
    DEG2_PER_SR,
    cover_order,
    dot,
    refine,
    unit_vectors,
)


class SkyPolygon:
    """A polygon with great-circle sides, in the even-odd sense.

    On the gnomonic plane at its centre (the mean direction of its vertices) great
    circles are straight, so plane geometry is exact there.

    Parameters
    ----------
    vertices_deg : tuple of (ra, dec)
        ICRS degrees, in order, not closed (a repeated first vertex does no harm).

    Raises
    ------
    RegionError
        ``polygon_invalid``: fewer than three vertices, a vertex that is no position,
        no area, or too large to lie within a hemisphere.
    """

    def __init__(self, vertices_deg: tuple[tuple[float, float], ...]) -> None:
        vertices = np.array(vertices_deg, np.float64).reshape(-1, 2)
        if not (np.isfinite(vertices).all() and (np.abs(vertices[:, 1]) <= 90).all()):
            raise RegionError("polygon_invalid", "a vertex is not a position")
        if len(vertices) < 3:
            raise RegionError("polygon_invalid", f"{len(vertices)} vertices are no polygon")
        self._vertices = unit_vectors(vertices[:, 0], vertices[:, 1])
        mean = self._vertices.mean(axis=0)
        length = float(np.linalg.norm(mean))
        if length < 1e-6 or (self._vertices @ (mean / length) < np.sin(np.radians(0.5))).any():
            raise RegionError("polygon_invalid", "the polygon does not fit in a hemisphere")
        self._centre = mean / length
        pole = np.eye(3)[int(np.argmin(np.abs(self._centre)))]
        east = np.cross(pole, self._centre)
        self._east = east / np.linalg.norm(east)
        self._north = np.cross(self._centre, self._east)
        self._corners = self._on_plane(self._vertices)
        self.area_deg2 = self._area_deg2()
        if self.area_deg2 < 1e-15:
            raise RegionError("polygon_invalid", "the polygon has no area")

    @property
    def centre_deg(self) -> tuple[float, float]:
        """Mean direction of the vertices: right ascension, declination."""
        x, y, z = self._centre
        return float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arcsin(z)))

    def share(self, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
        """Part of the polygon's area that lies further in than each position.

        0 at the centre, 1 on the border, infinite outside; (n,) float64. "Further in"
        compares, for each direction from the centre, the solid angle up to the position
        with that up to the (farthest) border. So the positions with a share below s
        fill exactly s of the area, if every border point can be seen from the centre.
        """
        vectors = unit_vectors(ra_deg, dec_deg)
        found = np.full(len(vectors), np.inf)
        front = dot(vectors, self._centre) > 1e-6
        plane = self._on_plane(vectors[front])
        found[front] = np.where(self._inside(plane), self._share(plane), np.inf)
        return found

    def cover(self) -> IntArray:
        """Ranges that contain the polygon and little more."""

        def near(ra: FloatArray, dec: FloatArray, margin: float) -> BoolArray:
            vectors = unit_vectors(ra, dec)
            close: BoolArray = np.asarray(self._border_distance(vectors) <= np.radians(margin))
            front = dot(vectors, self._centre) > 1e-6
            close[front] |= self._inside(self._on_plane(vectors[front]))
            return close

        return refine(near, cover_order(0.5 * self.area_deg2**0.5))

    def _on_plane(self, vectors: FloatArray) -> FloatArray:
        height = dot(vectors, self._centre)
        x, y = dot(vectors, self._east), dot(vectors, self._north)
        return np.stack([x / height, y / height], axis=-1)

    def _area_deg2(self) -> float:
        """Sum of signed triangles with the centre (Eriksson 1990, Math. Mag. 63, 184)."""
        a, b, c = self._vertices, np.roll(self._vertices, -1, axis=0), self._centre
        triple = np.cross(a, b) @ c
        excess = 2 * np.arctan2(triple, 1 + (a * b).sum(axis=1) + b @ c + a @ c)
        return float(abs(excess.sum()) * DEG2_PER_SR)

    def _inside(self, plane: FloatArray) -> BoolArray:
        x, y = plane[:, :1], plane[:, 1:]
        ax, ay = self._corners.T
        bx, by = np.roll(self._corners, -1, axis=0).T
        straddles = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = ax + (y - ay) / (by - ay) * (bx - ax)
        return np.asarray((straddles & (x < crossing)).sum(axis=1) % 2 == 1, np.bool_)

    def _share(self, plane: FloatArray) -> FloatArray:
        radius = np.linalg.norm(plane, axis=1)
        direction = plane / np.where(radius > 0, radius, 1)[:, None]
        dx, dy = direction[:, :1], direction[:, 1:]
        ax, ay = self._corners.T
        bx, by = np.roll(self._corners, -1, axis=0).T
        ex, ey = bx - ax, by - ay
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = dx * ey - dy * ex
            along = (ax * ey - ay * ex) / turn
            place = (ax * dy - ay * dx) / turn
        hit = (along > 0) & (place >= -1e-12) & (place <= 1 + 1e-12)
        border = _versine(np.where(hit, along, 0.0).max(axis=1))
        share = np.divide(_versine(radius), border, out=np.ones_like(radius), where=border > 0)
        return np.where(radius > 0, np.minimum(share, 1.0), 0.0)

    def _border_distance(self, vectors: FloatArray) -> FloatArray:
        """Angle in radians from each vector to the nearest side."""
        a, b = self._vertices, np.roll(self._vertices, -1, axis=0)
        keep = np.linalg.norm(a - b, axis=1) > 0
        a, b = a[keep], b[keep]
        normal = np.cross(a, b)
        normal /= np.linalg.norm(normal, axis=1)[:, None]
        height = np.abs(vectors @ normal.T)
        beside = (vectors @ np.cross(normal, a).T >= 0) & (vectors @ np.cross(b, normal).T >= 0)
        chord = np.minimum(
            np.linalg.norm(vectors[:, None] - a, axis=2),
            np.linalg.norm(vectors[:, None] - b, axis=2),
        )
        to_ends = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
        to_side = np.where(beside, np.arcsin(np.clip(height, 0, 1)), to_ends)
        return np.asarray(to_side.min(axis=1), np.float64)


def _versine(tangent: FloatArray) -> FloatArray:
    """1 - cos of angles given by their tangents: solid angle per radian of direction."""
    secant = np.sqrt(1 + tangent**2)
    return np.asarray(tangent**2 / (secant * (1 + secant)), np.float64)


def polygon_ranges(vertices_deg: tuple[tuple[float, float], ...]) -> IntArray:
    """Cover of a spherical polygon: contains it and little more.

    Raises
    ------
    RegionError
        As :class:`SkyPolygon`.
    """
    return SkyPolygon(vertices_deg).cover()
