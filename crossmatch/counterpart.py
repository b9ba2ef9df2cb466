"""What the alerts of one object tell of it, whatever event it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from crossmatch import lightcurve
from crossmatch.lightcurve import Detection, Rate
from crossmatch.sky import latitudes_deg
from crossmatch.times import datetime_from_jd, iso_utc


class MatchedAlert(NamedTuple):
    """One alert inside one region: its columns, where it lies, and its packet's light curve."""

    alert: Mapping[str, Any]
    credible_level: float
    density_per_sr: float
    separation_deg: float
    history: tuple[Detection, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """An object by its alerts.

    Parameters
    ----------
    last_jd : float
        Time of the latest alert, JD UTC.
    first_jd : float or None
        Of the earliest detection that is known.
    span_days : float
        Between the two; 0 with a single detection.
    fade : Rate or None
        Most significant slope in one filter.
    rise_mag_per_day : float or None
        Least rise from the last limit to the first detection.
    mag : float or None
        Latest magnitude, AB.
    columns : mapping
        What a candidate says of the object, keys among ``CANDIDATE_FIELDS``.
    """

    last_jd: float
    first_jd: float | None
    span_days: float
    fade: Rate | None
    rise_mag_per_day: float | None
    mag: float | None
    columns: Mapping[str, Any]


def counterpart_id(survey: str, object_id: str) -> str:
    """One name per object, whatever events it is matched with."""
    return f"MM-{survey.upper()}-{object_id}"


def latest_of(alerts: Sequence[MatchedAlert]) -> MatchedAlert:
    """The last of :func:`in_order`."""
    if len(alerts) == 1:
        return alerts[0]
    return max(alerts, key=lambda m: (m.alert["time_jd"], m.alert["alert_id"]))


def in_order(alerts: Sequence[MatchedAlert]) -> list[MatchedAlert]:
    """Alerts by time; those of one time by their numbers."""
    if len(alerts) == 1:
        return list(alerts)
    return sorted(alerts, key=lambda m: (m.alert["time_jd"], m.alert["alert_id"]))


def sameness(alerts: Sequence[MatchedAlert]) -> tuple[int, ...]:
    """Equal for alerts that tell the same of their object, as long as both are held."""
    return tuple([number for a in alerts for number in (id(a.alert), id(a.history))])


def counterpart_of(ordered: Sequence[MatchedAlert]) -> Counterpart:
    """The object of some alerts, at least one, in the order of :func:`in_order`.

    What depends on the event is not looked at, so one answer serves all events.
    """
    latest = ordered[-1].alert
    curve = lightcurve.merged(
        *(m.history for m in ordered), [_as_detection(m.alert) for m in ordered]
    )
    first_jd = _first_detection(ordered, curve)
    n_detections = _n_detections(ordered, curve)
    several = first_jd is not None and (n_detections or 1) >= 2
    fade, rise = lightcurve.fade_rate(curve), lightcurve.rise_rate(curve)
    return Counterpart(
        last_jd=latest["time_jd"],
        first_jd=first_jd,
        span_days=max(0.0, latest["time_jd"] - first_jd) if several and first_jd else 0.0,
        fade=fade,
        rise_mag_per_day=rise,
        mag=latest["mag"],
        columns={
            **_object_columns(latest),
            "n_alerts": len(ordered),
            "n_detections": n_detections,
            "first_detection": None if first_jd is None else _iso_jd(first_jd),
            **_light_columns(latest, curve),
            "fade_rate": None if fade is None else fade.mag_per_day,
            "fade_rate_error": None if fade is None else fade.error,
            "fade_filter": None if fade is None else fade.filter,
            "rise_rate": rise,
            "alert_sha256": ordered[-1].sha256 or None,
        },
    )


def _object_columns(alert: Mapping[str, Any]) -> dict[str, Any]:
    """Which object it is and where, by its latest alert."""
    error_arcsec = alert["ra_dec_error_arcsec"]
    galactic, ecliptic = latitudes_deg(alert["ra_deg"], alert["dec_deg"])
    last = _iso_jd(alert["time_jd"])
    return {
        "counterpart_id": counterpart_id(alert["survey"], alert["object_id"]),
        "survey": alert["survey"],
        "id": alert["object_id"],
        "alert_id": str(alert["alert_id"]),
        "ra": alert["ra_deg"],
        "dec": alert["dec_deg"],
        "ra_dec_error": None if error_arcsec is None else error_arcsec / 3600,
        # One sigma of a circular Gaussian.
        "containment_probability": None if error_arcsec is None else 0.3935,
        "galactic_latitude": galactic,
        "ecliptic_latitude": ecliptic,
        "observation_start": last,
        "last_detection": last,
        "real_bogus": alert["real_bogus"]
        if alert["deep_real_bogus"] is None
        else alert["deep_real_bogus"],
        "star_galaxy_score": alert["ps1_star_score"],
        "nearest_star_distance": alert["ps1_distance_arcsec"],
    }


def _light_columns(alert: Mapping[str, Any], curve: Sequence[Detection]) -> dict[str, Any]:
    """How bright it is, and what was seen before."""
    limit, color = lightcurve.last_limit(curve), lightcurve.latest_color(curve)
    return {
        "filter": alert["filter"],
        "mag": alert["mag"],
        "mag_error": alert["mag_error"],
        "mag_system": "AB",
        "limiting_mag": alert["limiting_mag"],
        "last_nondetection_time": None if limit is None else _iso_jd(limit.time_jd),
        "last_nondetection_mag": None if limit is None else limit.limiting_mag,
        "color": None if color is None else color[1],
        "color_filters": None if color is None else color[0],
    }


def _as_detection(alert: Mapping[str, Any]) -> Detection:
    return Detection(
        alert["time_jd"],
        alert["filter"] or "",
        alert["mag"],
        alert["mag_error"],
        alert["limiting_mag"],
        alert["positive"] is not False,
    )


def _first_detection(ordered: Sequence[MatchedAlert], curve: Sequence[Detection]) -> float | None:
    known = [
        m.alert["first_detection_jd"] for m in ordered if m.alert["first_detection_jd"] is not None
    ]
    measured = lightcurve.first_detection_jd(curve)
    return min([*known, *([] if measured is None else [measured])], default=None)


def _n_detections(ordered: Sequence[MatchedAlert], curve: Sequence[Detection]) -> int | None:
    counted = sum(p.is_detection for p in curve)
    told = [m.alert["n_detections"] for m in ordered if m.alert["n_detections"] is not None]
    return max([counted, *told]) or None


@lru_cache(maxsize=4096)
def _iso_jd(jd: float) -> str:
    """Alerts of one exposure have one time."""
    return iso_utc(datetime_from_jd(jd))
