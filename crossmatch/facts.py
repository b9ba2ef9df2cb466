"""What is known of one candidate, as the columns that the cuts of selections look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from crossmatch.counterpart import Counterpart, MatchedAlert
from crossmatch.cuts import CUT_COLUMNS
from crossmatch.model import Circle, Ellipse, FloatArray, Region
from crossmatch.predicates import Columns
from crossmatch.score import Evidence
from crossmatch.times import jd_from_datetime

if TYPE_CHECKING:
    from crossmatch.candidate import Context

_NAN = math.nan
_OF_ALERT = (*CUT_COLUMNS, "gaia_distance_arcsec", "mag")


def numbers(
    region: Region,
    latest: MatchedAlert,
    known: Counterpart,
    evidence: Evidence,
    context: Context,
) -> dict[str, float]:
    """Columns of one candidate by name, NaN where there is no value.

    What is of an alert is of the latest one, as is its place; dates and rates are of all that is
    known of the object. ``near.<catalogue>`` is the distance of the nearest source, infinite where
    the catalogue was asked and has none near; ``near_kind.<kind>`` that of all local catalogues
    of a kind, of stars the nearest significant one.
    """
    magnitudes = evidence.absolute_magnitudes or (None, None)
    found = {name: _number(latest.alert[name]) for name in _OF_ALERT}
    found |= {
        "detection_span_days": _NAN if known.first_jd is None else known.span_days,
        "n_detections": _number(known.columns["n_detections"]),
        "galactic_latitude_deg": known.columns["galactic_latitude"],
        "offset_days": evidence.last_days,
        "first_offset_days": _number(evidence.first_days),
        "separation_deg": latest.separation_deg,
        "error_radius_deg": error_radius_deg(region),
        "credible_level": latest.credible_level,
        "limit_days_before": _limit_days_before(known),
        "fade_mag_per_day": _NAN if known.fade is None else known.fade.mag_per_day,
        "fade_error": _NAN if known.fade is None else known.fade.error,
        "rise_mag_per_day": _number(known.rise_mag_per_day),
        "abs_mag_brightest": _number(magnitudes[0]),
        "abs_mag_faintest": _number(magnitudes[1]),
    }
    found |= {f"near.{name}": math.inf for name in context.looked_up}
    found |= {f"near.{name}": arcsec for name, arcsec in context.distances}
    found |= {f"near_kind.{kind}": math.inf for kind in context.kinds}
    for one in context.nearest:
        found[f"near_kind.{one.kind}"] = one.separation_arcsec
    if context.galaxy_arcsec is not None:
        found["near_kind.galaxies"] = context.galaxy_arcsec
    return found


def columns(values: Mapping[str, float]) -> Columns:
    """Numbers as columns of one row; what is not among them is missing."""

    def column(name: str) -> FloatArray:
        return np.array([values.get(name, _NAN)])

    return column


def error_radius_deg(region: Region) -> float:
    """Radius as the mission tells it, whatever it contains; NaN where there is none.

    Without systematic errors. Of an ellipse it is the major one.
    """
    place = region.localization
    if isinstance(place, Circle):
        return place.radius_deg
    return place.semi_major_deg if isinstance(place, Ellipse) else _NAN


def _limit_days_before(known: Counterpart) -> float:
    """From the last limit to the first detection; NaN where a detection is known before it."""
    told = known.columns["last_nondetection_time"]
    if told is None or known.first_jd is None:
        return _NAN
    days = known.first_jd - jd_from_datetime(datetime.fromisoformat(told))
    return days if days > 0 else _NAN


def _number(value: float | bool | None) -> float:
    return _NAN if value is None else float(value)
