"""Where the members of a JSON record place an event: circle, ellipse or box, in ICRS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from crossmatch.errors import NoticeError
from crossmatch.model import Circle, Ellipse, Polygon
from crossmatch.sky import unit_vectors
from gateway.feeds.dialect import angle_to_icrs
from gateway.feeds.parsers.members import finite, number_of
from gateway.feeds.parsers.readings import ERROR_UNITS, icrs_from
from gateway.feeds.spec import Feed, Kind
from voevents.parse import check_position

Place = Circle | Ellipse | Polygon

_SENTINELS = ((-1.0, -1.0), (-999.0, -999.0))


def localize(
    record: Mapping[str, Any], feed: Feed, kind: Kind, issued: datetime
) -> tuple[Place | None, str]:
    """Place of an event (``ra``, ``dec``, ``ra_dec_error``, ``polygon``), or why it has none.

    Corners (``polygon``) are preferred to an error radius, which can only surround them.

    Raises
    ------
    NoticeError
        ``bad_field``, ``bad_position``.
    """
    if not kind.position:
        return None, kind.no_position_reason or "no_position"
    containment = _containment(record, feed, kind)
    if record.get("polygon") is not None:
        return Polygon(_corners(record["polygon"], feed.frame), containment), ""
    lon, lat = number_of(record, "ra"), number_of(record, "dec")
    if lon is None or lat is None:
        return None, "no_position"
    error = record.get("ra_dec_error")
    axes = error if isinstance(error, list) else [error]
    radii = [finite(v, "ra_dec_error") for v in axes if v is not None]
    missing = not radii or radii[0] <= 0
    if missing and (lon, lat) in _SENTINELS:
        return None, "sentinel"
    if missing and lon == lat == 0.0:
        return None, "null_position"
    ra, dec = _icrs(lon, lat, feed.frame)
    if missing:
        if kind.error_deg is None:
            return None, "no_error_radius"
        radii = [kind.error_deg]
    elif len(radii) > 3 or min(radii[:2]) <= 0:
        raise NoticeError("bad_position", f"ra_dec_error is {error!r}; expected a or [a, b, angle]")
    else:
        radii[:2] = [r * ERROR_UNITS[feed.error_unit] for r in radii[:2]]
    if max(radii[:2]) >= 180:
        return None, "whole_sky"
    if len(radii) == 1 or radii[0] == radii[1]:
        terms = () if systematic_included(record, feed, kind) else _terms(record, kind, issued)
        return Circle(ra, dec, radii[0], containment, terms), ""
    major, minor, angle = (*radii, 0.0)[:3]
    if minor > major:
        major, minor, angle = minor, major, angle + 90.0
    angle = angle_to_icrs(lon, lat, angle, feed.frame)
    return Ellipse(ra, dec, major, minor, angle % 180.0, containment), ""


def systematic_included(record: Mapping[str, Any], feed: Feed, kind: Kind) -> bool:
    """Whether the error is statistical and systematic.

    A kind of the feed's file that says so outranks the notice: some claim what is not so.
    """
    if kind.systematic_included is not None:
        return kind.systematic_included
    said = record.get("systematic_included")
    return feed.systematic_included if said is None else said is True


def _terms(record: Mapping[str, Any], kind: Kind, issued: datetime) -> tuple[Any, ...]:
    scalars = {k: str(v) for k, v in record.items() if isinstance(v, str | int | float)}
    rule = next((r for r in kind.systematic if r.applies(issued, scalars)), None)
    return () if rule is None else rule.terms


def _containment(record: Mapping[str, Any], feed: Feed, kind: Kind) -> float:
    containment = number_of(record, "containment_probability")
    if containment is None:
        containment = kind.containment or feed.containment
    if not 0 < containment < 1:
        raise NoticeError("bad_position", f"containment_probability is {containment:g}")
    return containment


def _icrs(lon: float, lat: float, frame: str) -> tuple[float, float]:
    if frame == "galactic" and -180.0 <= lon < 0.0:
        # Galactic longitudes are written from -180 as often as from 0.
        lon += 360.0
    check_position(lon, lat)
    ra, dec = icrs_from(lon, lat, frame)
    return ra % 360.0, dec


def _corners(value: Any, frame: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not 3 <= len(value) <= 100:
        raise NoticeError("bad_position", "polygon: expected 3 to 100 corners")
    corners = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise NoticeError("bad_position", f"corner {str(pair)[:60]!r}; expected [ra, dec]")
        lon, lat = (finite(v, "corner") for v in pair)
        corners.append(_icrs(lon, lat, frame))
    # A box of four is convex; its corners come around it, but also row by row.
    return _around(corners) if len(corners) == 4 else tuple(corners)


def _around(corners: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Corners of a convex box in the order of their bearings from its middle."""
    vectors = unit_vectors(*np.array(corners).T)
    vectors = vectors - vectors.mean(axis=0)
    # The two directions in which the corners spread; the third is out of the sky.
    east, north = np.linalg.svd(vectors)[2][:2]
    bearing = np.arctan2(vectors @ north, vectors @ east)
    return tuple(corners[i] for i in np.argsort((bearing - bearing[0]) % math.tau))
