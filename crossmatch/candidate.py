"""From the matched alerts of one object and one event to the columns of a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from crossmatch import lightcurve, score
from crossmatch.chains import Chain
from crossmatch.lightcurve import Detection
from crossmatch.model import Circle, Region
from crossmatch.sky import latitudes_deg
from crossmatch.times import datetime_from_jd, iso_utc, jd_from_datetime
from crossmatch.verdicts import Verdict

SECONDS_PER_DAY = 86400.0


class MatchedAlert(NamedTuple):
    """One alert inside one region: its columns, where it lies, and its packet's light curve."""

    alert: Mapping[str, Any]
    credible_level: float
    density_per_sr: float
    separation_deg: float
    history: tuple[Detection, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What catalogues say about a position; ``looked_up`` names the ones that were asked."""

    looked_up: tuple[str, ...] = ()
    host_name: str | None = None
    host_distance_mpc: float | None = None
    host_offset_arcsec: float | None = None
    catalog_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventDistance:
    """Distance of the event in the direction of the object."""

    mean_mpc: float | None = None
    sigma_mpc: float | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What produced a candidate besides its inputs."""

    cuts: str
    code: str
    catalogs: tuple[str, ...] = field(default=())


def counterpart_id(survey: str, object_id: str) -> str:
    """One name per object, whatever events it is matched with."""
    return f"MM-{survey.upper()}-{object_id}"


def assess(
    region: Region,
    chain: Chain,
    alerts: Sequence[MatchedAlert],
    context: Context,
    distance: EventDistance,
    versions: Versions,
    verdict: Verdict | None = None,
    joint_events: Sequence[str] = (),
) -> dict[str, Any]:
    """Columns of a candidate that follow from its inputs alone.

    The result depends on the set of ``alerts``, not on their order; identifiers of
    the statement (record number, reason, time) are added by the fold.

    Parameters
    ----------
    region : Region
        The event's version in force.
    chain : Chain
    alerts : sequence of MatchedAlert
        All matched alerts of the object, at least one.
    context : Context
    distance : EventDistance
    versions : Versions
    verdict : Verdict, optional
        The one that holds for this object and event; it goes before the tier's rules.
    joint_events : sequence of str
        The event as each mission names it, where several saw it.

    Returns
    -------
    dict
        Keys among ``CANDIDATE_FIELDS``.
    """
    ordered = sorted(alerts, key=lambda m: (m.alert["time_jd"], m.alert["alert_id"]))
    latest = ordered[-1]
    curve = lightcurve.merged(
        *(m.history for m in ordered), [_as_detection(m.alert) for m in ordered]
    )
    trigger_jd = jd_from_datetime(region.trigger_time)
    first_jd = _first_detection(ordered, curve)
    magnitudes = _absolute_magnitudes(latest.alert["mag"], context, distance)
    host_sigma = _host_sigma(context, distance)
    evidence = _evidence(ordered, curve, first_jd, trigger_jd, magnitudes, host_sigma)
    effect = "neutral" if verdict is None else verdict.effect
    graded = score.grade(evidence, region, chain, effect)
    return {
        **_event_columns(region),
        **_verdict_columns(verdict),
        "joint_events": list(joint_events),
        **_object_columns(ordered, curve),
        **_time_columns(latest.alert, first_jd, trigger_jd),
        **_light_columns(latest.alert, curve, evidence),
        **_context_columns(latest.alert, context),
        "credible_level": latest.credible_level,
        "probability_density": latest.density_per_sr,
        "separation": latest.separation_deg,
        "luminosity_distance": _first_known(distance.mean_mpc, region.distance_mpc),
        "luminosity_distance_error": _first_known(distance.sigma_mpc, region.distance_error_mpc),
        "absolute_magnitude": None if magnitudes is None else magnitudes[0],
        "tier": graded.tier,
        "score": graded.score,
        "factors": list(graded.factors),
        "alert_sha256": latest.sha256 or None,
        "catalog_versions": list(context.catalog_versions or versions.catalogs),
        "cuts_version": versions.cuts,
        "code_version": versions.code,
    }


def _evidence(
    ordered: Sequence[MatchedAlert],
    curve: Sequence[Detection],
    first_jd: float | None,
    trigger_jd: float,
    magnitudes: tuple[float, float, float] | None,
    host_sigma: float | None,
) -> score.Evidence:
    """What speaks for the object, in days after the trigger and magnitudes a day."""
    latest = ordered[-1]
    return score.Evidence(
        credible_level=latest.credible_level,
        first_days=None if first_jd is None else first_jd - trigger_jd,
        last_days=latest.alert["time_jd"] - trigger_jd,
        detection_span_days=_span(ordered, curve, first_jd),
        fade=lightcurve.fade_rate(curve),
        rise_mag_per_day=lightcurve.rise_rate(curve),
        absolute_magnitudes=None if magnitudes is None else magnitudes[1:],
        host_distance_sigma=host_sigma,
    )


def _object_columns(ordered: Sequence[MatchedAlert], curve: Sequence[Detection]) -> dict[str, Any]:
    """Which object it is and where, by its latest alert."""
    alert = ordered[-1].alert
    error_arcsec = alert["ra_dec_error_arcsec"]
    galactic, ecliptic = latitudes_deg(alert["ra_deg"], alert["dec_deg"])
    return {
        "counterpart_id": counterpart_id(alert["survey"], alert["object_id"]),
        "survey": alert["survey"],
        "id": alert["object_id"],
        "alert_id": str(alert["alert_id"]),
        "n_alerts": len(ordered),
        "n_detections": _n_detections(ordered, curve),
        "ra": alert["ra_deg"],
        "dec": alert["dec_deg"],
        "ra_dec_error": None if error_arcsec is None else error_arcsec / 3600,
        # One sigma of a circular Gaussian.
        "containment_probability": None if error_arcsec is None else 0.3935,
        "galactic_latitude": galactic,
        "ecliptic_latitude": ecliptic,
    }


def _time_columns(
    alert: Mapping[str, Any], first_jd: float | None, trigger_jd: float
) -> dict[str, Any]:
    """When it was seen."""
    last = _iso_jd(alert["time_jd"])
    return {
        "observation_start": last,
        "first_detection": None if first_jd is None else _iso_jd(first_jd),
        "last_detection": last,
        "time_offset_first": None if first_jd is None else _seconds(first_jd - trigger_jd),
        "time_offset_last": _seconds(alert["time_jd"] - trigger_jd),
    }


def _light_columns(
    alert: Mapping[str, Any], curve: Sequence[Detection], evidence: score.Evidence
) -> dict[str, Any]:
    """How bright it is and how that changes."""
    fade, limit = evidence.fade, lightcurve.last_limit(curve)
    color = lightcurve.latest_color(curve)
    return {
        "filter": alert["filter"],
        "mag": alert["mag"],
        "mag_error": alert["mag_error"],
        "mag_system": "AB",
        "limiting_mag": alert["limiting_mag"],
        "last_nondetection_time": None if limit is None else _iso_jd(limit.time_jd),
        "last_nondetection_mag": None if limit is None else limit.limiting_mag,
        "fade_rate": None if fade is None else fade.mag_per_day,
        "fade_rate_error": None if fade is None else fade.error,
        "fade_filter": None if fade is None else fade.filter,
        "rise_rate": evidence.rise_mag_per_day,
        "color": None if color is None else color[1],
        "color_filters": None if color is None else color[0],
    }


def _context_columns(alert: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What lies near it, by the packet and by the catalogues."""
    return {
        "real_bogus": _first_known(alert["deep_real_bogus"], alert["real_bogus"]),
        "star_galaxy_score": alert["ps1_star_score"],
        "nearest_star_distance": alert["ps1_distance_arcsec"],
        "host_name": context.host_name,
        "host_distance": context.host_distance_mpc,
        "host_offset": context.host_offset_arcsec,
        "looked_up": ",".join(context.looked_up) or "not_looked_up",
    }


# Candidates of one event are made one after another; a cached region keeps its map in memory.
@lru_cache(maxsize=4)
def _event_columns(region: Region) -> Mapping[str, Any]:
    return {
        "role": region.role,
        "alert_tense": "test" if region.role == "test" else "current",
        "event_id": region.event_id,
        # Without the streams that stand before the name of a private event.
        "event_name": region.event_id.removeprefix(f"{'+'.join(region.streams)}:").replace(
            "_", " "
        ),
        "messenger": region.messenger,
        "ref_type": region.kind,
        "ref_instrument": f"{region.mission} {region.instrument}".strip(),
        "ref_ID": region.notice_id,
        "event_version": region.version,
        "event_trigger_time": iso_utc(region.trigger_time),
        "event_far": region.far_hz,
        "event_class": region.event_class or None,
        "event_area_90": region.area90_deg2,
        "significant": region.significant,
        "systematic_included": region.systematic_included
        or (isinstance(region.localization, Circle) and bool(region.localization.systematic)),
        "expires": iso_utc(region.expires),
        "streams": list(region.streams),
        "feed": region.feed,
        "feed_version": region.feed_version,
        "notice_sha256": region.notice_sha256,
        "skymap_sha256": region.skymap_sha256 or None,
    }


def _verdict_columns(verdict: Verdict | None) -> dict[str, Any]:
    """What people found; texts that they left empty are null."""
    told = {
        "verdict": verdict and verdict.classification,
        "verdict_effect": verdict and verdict.effect,
        "verdict_note": verdict and verdict.note,
        "verdict_reference": verdict and verdict.reference,
        "verdict_author": verdict and verdict.author,
        "verdict_time": verdict and verdict.stated,
    }
    return {name: text or None for name, text in told.items()}


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


def _span(
    ordered: Sequence[MatchedAlert], curve: Sequence[Detection], first_jd: float | None
) -> float:
    """Days between the earliest and the latest detection; 0 with a single one."""
    last = ordered[-1].alert["time_jd"]
    if first_jd is None or (_n_detections(ordered, curve) or 1) < 2:
        return 0.0
    return float(max(0.0, last - first_jd))


def _n_detections(ordered: Sequence[MatchedAlert], curve: Sequence[Detection]) -> int | None:
    counted = sum(p.is_detection for p in curve)
    told = [m.alert["n_detections"] for m in ordered if m.alert["n_detections"] is not None]
    return max([counted, *told]) or None


def _absolute_magnitudes(
    mag: float | None, context: Context, event: EventDistance
) -> tuple[float, float, float] | None:
    """Best, brightest and faintest absolute magnitude: at the host, else at the event +- 3 sigma.

    None without magnitude or distance. An event whose distance may be nothing has no
    faint limit.
    """
    best = _first_known(context.host_distance_mpc, event.mean_mpc)
    if mag is None or best is None or best <= 0:
        return None
    near = far = best
    if context.host_distance_mpc is None and event.sigma_mpc is not None:
        near, far = best - 3 * event.sigma_mpc, best + 3 * event.sigma_mpc
    faintest = _absolute(mag, near) if near > 0 else math.inf
    return _absolute(mag, best), _absolute(mag, far), faintest


def _absolute(mag: float, distance_mpc: float) -> float:
    return mag - 5 * math.log10(distance_mpc) - 25


def _host_sigma(context: Context, event: EventDistance) -> float | None:
    """How many sigma the host's distance is from the event's."""
    if context.host_distance_mpc is None or not event.mean_mpc or not event.sigma_mpc:
        return None
    return abs(context.host_distance_mpc - event.mean_mpc) / event.sigma_mpc


def _first_known(*values: float | None) -> float | None:
    for value in values:
        if value is not None:
            return value
    return None


def _seconds(days: float) -> float:
    return round(days * SECONDS_PER_DAY, 3)


@lru_cache(maxsize=4096)
def _iso_jd(jd: float) -> str:
    """Alerts of one exposure have one time."""
    return iso_utc(datetime_from_jd(jd))
