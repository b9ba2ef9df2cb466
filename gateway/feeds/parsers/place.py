"""Where a notice places an event: circle, ellipse or box, in ICRS; one rule for all formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from crossmatch.errors import NoticeError
from crossmatch.model import Circle, Ellipse, Polygon, SystematicTerm
from crossmatch.sky import unit_vectors
from gateway.feeds.parsers.members import finite, number_of
from gateway.feeds.parsers.readings import ERROR_UNITS, angle_to_icrs, icrs_from
from gateway.feeds.spec import Feed, Kind
from voevents.parse import check_position, is_sentinel

Place = Circle | Ellipse | Polygon


@dataclass(frozen=True, slots=True)
class Stated:
    """What a notice states of a place, in degrees of ``frame``.

    ``radii`` are an error radius, or two semi-axes in any order of which the first lies at
    ``angle_deg`` from north through east; empty: not stated. ``systematic_included`` is
    ``None`` when the notice does not say. ``params`` choose the systematic error.
    """

    lon_deg: float | None
    lat_deg: float | None
    radii: tuple[float, ...] = ()
    angle_deg: float = 0.0
    frame: str = "icrs"
    containment: float | None = None
    systematic_included: bool | None = None
    params: Mapping[str, str] = field(default_factory=dict)


def place_of(
    stated: Stated, feed: Feed, kind: Kind, issued: datetime
) -> tuple[Circle | Ellipse | None, str]:
    """Circle or ellipse of what is stated, or why there is none (a stable reason).

    Raises
    ------
    NoticeError
        ``bad_position``.
    """
    lon, lat, radii = stated.lon_deg, stated.lat_deg, stated.radii
    if lon is None or lat is None:
        return None, "no_position"
    missing = not radii or radii[0] <= 0
    if missing and is_sentinel(lon, lat, None):
        return None, "sentinel"
    if missing and lon == lat == 0.0:
        return None, "null_position"
    ra, dec = _icrs(lon, lat, stated.frame)
    if missing:
        if kind.error_deg is None:
            return None, "no_error_radius"
        radii = (kind.error_deg,)
    elif min(radii) <= 0:
        raise NoticeError("bad_position", f"semi-axes of {radii} deg; expected above 0")
    if max(radii) >= 180:
        return None, "whole_sky"
    containment = containment_of(stated.containment, feed, kind)
    if len(radii) == 1 or radii[0] == radii[1]:
        return Circle(ra, dec, radii[0], containment, _systematic(stated, feed, kind, issued)), ""
    major, minor = radii
    angle = stated.angle_deg
    if minor > major:
        major, minor, angle = minor, major, angle + 90.0
    angle = angle_to_icrs(lon, lat, angle, stated.frame)
    return Ellipse(ra, dec, major, minor, angle % 180.0, containment), ""


def localize(
    record: Mapping[str, Any], feed: Feed, kind: Kind, issued: datetime
) -> tuple[Place | None, str]:
    """Place in a JSON record (``ra``, ``dec``, ``ra_dec_error``, ``polygon``), or why it has none.

    Corners (``polygon``) are preferred to an error radius, which can only surround them.

    Raises
    ------
    NoticeError
        ``bad_field``, ``bad_position``.
    """
    if not kind.position:
        return None, kind.no_position_reason or "no_position"
    containment = number_of(record, "containment_probability")
    if record.get("polygon") is not None:
        held = containment_of(containment, feed, kind)
        return Polygon(_corners(record["polygon"], feed.frame), held), ""
    radii, angle = _radii(record.get("ra_dec_error"), feed)
    stated = Stated(
        number_of(record, "ra"),
        number_of(record, "dec"),
        radii,
        angle,
        feed.frame,
        containment,
        stated_included(record),
        _scalars(record) if kind.systematic else {},
    )
    return place_of(stated, feed, kind, issued)


def stated_included(record: Mapping[str, Any]) -> bool | None:
    """Whether a JSON record says that its error has the systematic one in it."""
    said = record.get("systematic_included")
    return None if said is None else said is True


def systematic_included(said: bool | None, feed: Feed, kind: Kind) -> bool:
    """Whether the error is statistical and systematic.

    A kind of the feed's file that says so outranks the notice: some claim what is not so.
    """
    if kind.systematic_included is not None:
        return kind.systematic_included
    return feed.systematic_included if said is None else said


def containment_of(stated: float | None, feed: Feed, kind: Kind) -> float:
    """Probability inside the error radius: what the notice states, else the feed's file.

    Raises
    ------
    NoticeError
        ``bad_position``: not between 0 and 1.
    """
    if stated is None:
        return kind.containment or feed.containment
    if not 0 < stated < 1:
        raise NoticeError("bad_position", f"containment is {stated:g}; expected inside (0, 1)")
    return stated


def _systematic(
    stated: Stated, feed: Feed, kind: Kind, issued: datetime
) -> tuple[SystematicTerm, ...]:
    if systematic_included(stated.systematic_included, feed, kind):
        return ()
    rule = next((r for r in kind.systematic if r.applies(issued, stated.params)), None)
    return () if rule is None else rule.terms


def _radii(error: Any, feed: Feed) -> tuple[tuple[float, ...], float]:
    """Radius, or semi-axes and position angle, in degrees, of ``a`` or ``[a, b, angle]``."""
    values = error if isinstance(error, list) else [error]
    numbers = [finite(v, "ra_dec_error") for v in values if v is not None]
    if len(numbers) > 3:
        text = str(error)[:60]
        raise NoticeError("bad_position", f"ra_dec_error is {text}; expected a or [a, b, angle]")
    angle = numbers[2] if len(numbers) == 3 else 0.0
    return tuple(v * ERROR_UNITS[feed.error_unit] for v in numbers[:2]), angle


def _scalars(record: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in record.items() if isinstance(v, str | int | float)}


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
