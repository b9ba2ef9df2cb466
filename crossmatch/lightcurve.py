"""Light curves of single objects: fading, rising, colour, limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_SAME_EXPOSURE_DAYS = 1e-5
_BLUE_TO_RED = "ugrizy"


class Detection(NamedTuple):
    """One measurement: a detection, or a limit where ``mag`` is None. Magnitudes are AB."""

    time_jd: float
    filter: str
    mag: float | None
    mag_error: float | None
    limiting_mag: float | None
    positive: bool = True

    @property
    def is_detection(self) -> bool:
        """A positive measurement with a magnitude and its error."""
        return self.mag is not None and self.mag_error is not None and self.positive


@dataclass(frozen=True, slots=True)
class Rate:
    """A change of magnitude per day in one filter; positive means fading."""

    filter: str
    mag_per_day: float
    error: float

    @property
    def significance(self) -> float:
        """Rate in units of its error."""
        return self.mag_per_day / self.error


def merged(*curves: Iterable[Detection]) -> list[Detection]:
    """One light curve in order of time; the same exposure counts once, detections before limits."""
    points = sorted(
        (p for curve in curves for p in curve),
        key=lambda p: (p.time_jd, p.filter, p.mag is None, p.mag or 0.0),
    )
    kept: list[Detection] = []
    for point in points:
        # In order of time: where the latest is not of this exposure, none is.
        near = kept[-3:] if kept and point[0] - kept[-1][0] < _SAME_EXPOSURE_DAYS else ()
        repeats = any(
            point.filter == other.filter and point.time_jd - other.time_jd < _SAME_EXPOSURE_DAYS
            for other in near
        )
        if not repeats:
            kept.append(point)
    return kept


def fade_rate(curve: Sequence[Detection], min_span_days: float = 0.1) -> Rate | None:
    """Most significant slope in any one filter, by weighted least squares.

    A slope needs detections that span ``min_span_days``; errors below 0.02 mag are
    raised to that, as no survey's zero points are better.
    """
    rates = [
        rate
        for name in sorted({p.filter for p in curve})
        if (rate := _slope([p for p in curve if p.filter == name], name, min_span_days))
    ]
    return max(rates, key=lambda r: r.significance, default=None)


def _slope(points: Sequence[Detection], name: str, min_span_days: float) -> Rate | None:
    rows = [
        (p.time_jd, p.mag, 1 / max(p.mag_error, 0.02) ** 2)
        for p in points
        if p.positive and p.mag is not None and p.mag_error is not None
    ]
    if len(rows) < 2:
        return None
    times = [t for t, _, _ in rows]
    if max(times) - min(times) < min_span_days:
        return None
    total = math.fsum([w for _, _, w in rows])
    mean_t = math.fsum([w * t for t, _, w in rows]) / total
    mean_m = math.fsum([w * m for _, m, w in rows]) / total
    spread = math.fsum([w * (t - mean_t) ** 2 for t, _, w in rows])
    slope = math.fsum([w * (t - mean_t) * (m - mean_m) for t, m, w in rows]) / spread
    return Rate(name, slope, 1 / math.sqrt(spread))


def last_limit(curve: Sequence[Detection]) -> Detection | None:
    """Last non-detection before the first detection, with its limit."""
    limits = [p for p in curve if p.mag is None and p.limiting_mag is not None]
    first = first_detection_jd(curve) if limits else None
    if first is None:
        return None
    return max((p for p in limits if p.time_jd < first), key=lambda p: p.time_jd, default=None)


def first_detection_jd(curve: Sequence[Detection]) -> float | None:
    """Time of the earliest detection."""
    return min((p.time_jd for p in curve if p.is_detection), default=None)


def rise_rate(curve: Sequence[Detection]) -> float | None:
    """Least rise in mag/day from the last limit to the first detection, in the same filter.

    A limit fainter than the detection gives a lower bound on the rise; None where
    there is no such pair.
    """
    limit = last_limit(curve)
    if limit is None or limit.limiting_mag is None:
        return None
    after = [
        p
        for p in curve
        if p.is_detection and p.filter == limit.filter and p.time_jd > limit.time_jd
    ]
    first = min(after, key=lambda p: p.time_jd, default=None)
    if first is None or first.mag is None or first.mag >= limit.limiting_mag:
        return None
    return (limit.limiting_mag - first.mag) / (first.time_jd - limit.time_jd)


def latest_color(curve: Sequence[Detection], within_days: float = 0.5) -> tuple[str, float] | None:
    """Newest colour, bluer minus redder, of two detections less than ``within_days`` apart.

    The curve is in order of time, as :func:`merged` gives it.
    """
    detections = [p for p in curve if p.is_detection and p.filter in _BLUE_TO_RED]
    for number, late in reversed(list(enumerate(detections))):
        for early in reversed(detections[:number]):
            if late.time_jd - early.time_jd > within_days:
                break
            if early.filter == late.filter:
                continue
            blue, red = sorted((early, late), key=lambda p: _BLUE_TO_RED.index(p.filter))
            if blue.mag is not None and red.mag is not None:
                return f"{blue.filter}-{red.filter}", blue.mag - red.mag
    return None
