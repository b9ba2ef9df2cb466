"""Tests of alerts and candidates on columns, of which cuts are made.

Each takes a source of columns and its parameters and answers for n rows at once. A missing
value is NaN; a test says apart for which rows it can tell, so that whoever asks decides what a
missing value means. A bound that is None is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np

from crossmatch.model import BoolArray, FloatArray

FADE_MAG_PER_DAY = 0.3
FADE_SIGNIFICANCE = 3.0
RISE_MAG_PER_DAY = 1.0
TWO_DETECTIONS_DAYS = 15 / 1440
MINUTES_PER_DAY = 1440.0
SECONDS_PER_DAY = 86400.0

Columns: TypeAlias = Callable[[str], FloatArray]
"""From the name of a column to its values, (n,) float64, NaN where there is none."""


class Verdicts(NamedTuple):
    """What a test says of n rows: ``known``, whether it can tell, and then whether they pass."""

    passes: BoolArray
    known: BoolArray


Test: TypeAlias = Callable[..., Verdicts]


def positive(column: Columns) -> Verdicts:
    """Brighter than the reference image."""
    values = column("positive")
    return Verdicts(values != 0, ~np.isnan(values))


def real_bogus(
    column: Columns, min_real_bogus: float | None, min_deep_real_bogus: float | None
) -> Verdicts:
    """One of the two scores reaches its minimum; a score without minimum is not looked at."""
    score, deep = column("real_bogus"), column("deep_real_bogus")
    good, known = _no(score), _no(score)
    for values, least in ((score, min_real_bogus), (deep, min_deep_real_bogus)):
        if least is not None:
            good, known = good | (values >= least), known | ~np.isnan(values)
    return Verdicts(good, known)


def bad_pixels(column: Columns, max_bad_pixels: float) -> Verdicts:
    """Not more bad pixels in the stamp."""
    return _between(column("n_bad"), None, max_bad_pixels)


def mag_difference(column: Columns, max_mag_difference: float) -> Verdicts:
    """Aperture and PSF magnitude differ by less."""
    values = np.abs(column("mag_difference"))
    return Verdicts(values < max_mag_difference, ~np.isnan(values))


def not_moving(column: Columns, radius_arcsec: float) -> Verdicts:
    """No known minor body within the radius, its edge included."""
    values = column("moving_distance_arcsec")
    return Verdicts(values > radius_arcsec, ~np.isnan(values))


def not_star(column: Columns, radius_arcsec: float, min_star_score: float) -> Verdicts:
    """No PS1 source within the radius whose star score is above the minimum."""
    distance, score = column("ps1_distance_arcsec"), column("ps1_star_score")
    near, high = distance <= radius_arcsec, score > min_star_score
    far, low = distance > radius_arcsec, score <= min_star_score
    # One of the two suffices to tell that it is none.
    return Verdicts(far | low, far | low | (near & high))


def galaxy_like(column: Columns, max_star_score: float) -> Verdicts:
    """The nearest PS1 source has a star score below the maximum."""
    score = column("ps1_star_score")
    return Verdicts(score < max_star_score, ~np.isnan(score))


def far_from_ps1(column: Columns, radius_arcsec: float) -> Verdicts:
    """At least that far from any PS1 source."""
    return _between(column("ps1_distance_arcsec"), radius_arcsec, None)


def far_from_gaia(column: Columns, radius_arcsec: float) -> Verdicts:
    """At least that far from any Gaia source."""
    return _between(column("gaia_distance_arcsec"), radius_arcsec, None)


def far_from(column: Columns, catalog: str, radius_arcsec: float) -> Verdicts:
    """At least that far from any source of a catalogue."""
    return _between(column(f"near.{catalog}"), radius_arcsec, None)


def far_from_kind(column: Columns, kind: str, radius_arcsec: float | None) -> Verdicts:
    """At least that far from any source of local catalogues of a kind; None: none is found."""
    least = math.inf if radius_arcsec is None else radius_arcsec
    return _between(column(f"near_kind.{kind}"), least, None)


def known_star(column: Columns, radius_arcsec: float) -> Verdicts:
    """No source within the radius, its edge included, that moves or has a parallax significantly.

    What a catalogue of active galaxies or of galaxies has there is none: of a hundred quasars
    one seems to move, and a nucleus that is no point has an astrometry that is none.
    """
    away = column("near_kind.stars")
    other = [column(f"near_kind.{kind}") <= radius_arcsec for kind in ("agn", "galaxies")]
    return Verdicts((away > radius_arcsec) | other[0] | other[1], ~np.isnan(away))


def known_minor_planet(column: Columns, radius_arcsec: float, max_minutes: float) -> Verdicts:
    """No minor planet within the radius, its edge included, or detections span so long.

    Without a first detection they span nothing.
    """
    away = column("near_kind.minor_planets")
    minutes = np.nan_to_num(column("detection_span_days")) * MINUTES_PER_DAY
    return Verdicts((away > radius_arcsec) | (minutes >= max_minutes), ~np.isnan(away))


def detections(
    column: Columns, min_detections: float | None, max_detections: float | None
) -> Verdicts:
    """As many detections so far, the present one included."""
    return _between(column("n_detections"), min_detections, max_detections)


def two_detections(column: Columns, min_minutes: float) -> Verdicts:
    """At least that long between the first detection and the latest."""
    return _between(column("detection_span_days") * MINUTES_PER_DAY, min_minutes, None)


def short_lived(column: Columns, max_minutes: float) -> Verdicts:
    """At most that long between the first detection and the latest."""
    return _between(column("detection_span_days") * MINUTES_PER_DAY, None, max_minutes)


def galactic_latitude(column: Columns, min_deg: float) -> Verdicts:
    """At least that far from the plane of the Galaxy."""
    return _between(np.abs(column("galactic_latitude_deg")), min_deg, None)


def magnitude(column: Columns, brightest: float | None, faintest: float | None) -> Verdicts:
    """Between two magnitudes, both included."""
    return _between(column("mag"), brightest, faintest)


def window(column: Columns, start_seconds: float, end_days: float) -> Verdicts:
    """The latest detection lies in the window after the trigger: start < t <= end."""
    return _inside(column("offset_days"), start_seconds, end_days)


def first_detected(column: Columns, start_seconds: float, end_days: float) -> Verdicts:
    """The first detection lies in the window after the trigger: start < t <= end."""
    return _inside(column("first_offset_days"), start_seconds, end_days)


def separation(column: Columns, max_sigma: float | None, max_deg: float | None) -> Verdicts:
    """Not farther from the event than so many error radii, nor than so many degrees."""
    away, radius = column("separation_deg"), column("error_radius_deg")
    passes = known = ~np.isnan(away)
    if max_deg is not None:
        passes = passes & (away <= max_deg)
    if max_sigma is not None:
        # Whatever the radius, what is beyond the degrees fails.
        known = known & (~np.isnan(radius) | ~passes)
        passes = passes & (away <= max_sigma * radius)
    return Verdicts(passes, known)


def credible_level(column: Columns, max_level: float) -> Verdicts:
    """Inside the region of that credible level."""
    return _between(column("credible_level"), None, max_level)


def upper_limit(column: Columns, within_days: float | None) -> Verdicts:
    """A limit before the first detection, not earlier than so many days before it."""
    return _between(column("limit_days_before"), None, within_days)


def fading(column: Columns, min_mag_per_day: float, min_sigma: float) -> Verdicts:
    """In one filter it fades at least so fast, at so many sigma."""
    rate, error = column("fade_mag_per_day"), column("fade_error")
    known = ~np.isnan(rate) & ~np.isnan(error)
    return Verdicts(fades(rate, error, min_mag_per_day, min_sigma), known)


def rising(column: Columns, min_mag_per_day: float) -> Verdicts:
    """From the last limit it rose at least so fast, in one filter."""
    return _between(column("rise_mag_per_day"), min_mag_per_day, None)


def changing(column: Columns, min_fade: float, min_sigma: float, min_rise: float) -> Verdicts:
    """It fades or it rose: one of the two suffices."""
    fade, rise = fading(column, min_fade, min_sigma), rising(column, min_rise)
    good = (fade.known & fade.passes) | (rise.known & rise.passes)
    return Verdicts(good, good | fade.known | rise.known)


def absolute_magnitude(column: Columns, brightest: float, faintest: float) -> Verdicts:
    """Between two absolute magnitudes at a distance that the host or the event allows."""
    most, least = column("abs_mag_brightest"), column("abs_mag_faintest")
    known = ~np.isnan(most) & ~np.isnan(least)
    return Verdicts(luminosity_fits(most, least, brightest, faintest), known)


@overload
def fades(rate: float, error: float, min_mag_per_day: float, min_sigma: float) -> bool: ...
@overload
def fades(
    rate: FloatArray, error: FloatArray, min_mag_per_day: float, min_sigma: float
) -> BoolArray: ...
def fades(rate: Any, error: Any, min_mag_per_day: float, min_sigma: float) -> Any:
    """Whether rates of fading, mag/d, are as large and as significant; NaN is not."""
    return (rate >= min_mag_per_day) & (rate >= min_sigma * error)


def luminosity_fits(
    most: FloatArray | float, least: FloatArray | float, brightest: float, faintest: float
) -> BoolArray:
    """Whether absolute magnitudes from ``most`` to ``least`` luminous meet the range."""
    return np.less(brightest, least) & np.less(most, faintest)


def _between(values: FloatArray, least: float | None, most: float | None) -> Verdicts:
    passes = known = ~np.isnan(values)
    if least is not None:
        passes = passes & (values >= least)
    if most is not None:
        passes = passes & (values <= most)
    return Verdicts(passes, known)


def _inside(days: FloatArray, start_seconds: float, end_days: float) -> Verdicts:
    passes = (days > start_seconds / SECONDS_PER_DAY) & (days <= end_days)
    return Verdicts(passes, ~np.isnan(days))


def _no(values: FloatArray) -> BoolArray:
    return np.zeros(len(values), np.bool_)
