"""Covers of regions in two parts: where a position is inside for certain, and where it is asked."""

from __future__ import annotations

from crossmatch import sky
from crossmatch.model import IntArray
from crossmatch.shapes import FisherShape, Shape
from crossmatch.tables import has_cells

# Levels are computed to a few units of 1e-16; nearer to its limit than that no level is certain.
_LEVEL_MARGIN = 1e-12


def split_cover(shape: Shape, level: float) -> tuple[IntArray, IntArray]:
    """Ranges in which every position lies within ``level``, and those in which it may.

    Returns
    -------
    sure, doubtful : (m, 2) int64
        Disjoint; together the cover of the shape. Of maps all is sure, of circles what is
        farther from the edge than a cell is wide, of other shapes nothing.
    """
    cover = shape.cover(level)
    nothing = cover[:0]
    if has_cells(shape, level):
        return cover, nothing
    if not isinstance(shape, FisherShape) or level >= 1:
        return nothing, cover
    inner_deg = shape.radius_deg(max(level - _LEVEL_MARGIN, 0.0))
    return sky.parted_by_distance(cover, *shape.best_deg, inner_deg)
