"""From the matched alerts of one object and one event to the columns of a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from crossmatch import facts, score
from crossmatch.chains import Chain
from crossmatch.counterpart import Counterpart, MatchedAlert, counterpart_of, in_order, latest_of
from crossmatch.model import Circle, Region
from crossmatch.neighbours import Host, host_at
from crossmatch.times import iso_utc, jd_from_datetime
from crossmatch.verdicts import Verdict

SECONDS_PER_DAY = 86400.0
PASSED = "passed"
WITHHELD = "withheld."


@dataclass(frozen=True, slots=True)
class Context:
    """What catalogues say about a position; ``looked_up`` names the ones that were asked.

    ``not_looked_up`` names those that are to be asked and have not answered yet.
    ``near`` has a text for each neighbour. ``hosts`` are galaxies that may be the host, the
    most likely first, where there are several; the first is that of ``host_name``.
    ``distances`` are those of the nearest source of catalogues that have one near, arcsec,
    whichever source ``near`` tells of.
    """

    looked_up: tuple[str, ...] = ()
    host_name: str | None = None
    host_distance_mpc: float | None = None
    host_offset_arcsec: float | None = None
    catalog_versions: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    not_looked_up: tuple[str, ...] = ()
    distances: tuple[tuple[str, float], ...] = ()


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


@dataclass(frozen=True, slots=True)
class Assessed:
    """A candidate: its columns, and how it stands to what its chain demands.

    ``standing`` is ``passed``, ``withheld.<cut>`` by the first cut of the chain's ``demands`` that
    it fails, or ``lowered.<cut>`` by one of ``silver_demands``; None where a chain demands nothing.
    """

    columns: dict[str, Any]
    standing: str | None = None

    @property
    def withheld(self) -> bool:
        """Whether it is not to be told."""
        return self.standing is not None and self.standing.startswith(WITHHELD)


def assess(
    region: Region,
    chain: Chain,
    alerts: Sequence[MatchedAlert],
    context: Context,
    distance: EventDistance,
    versions: Versions,
    verdict: Verdict | None = None,
    joint_events: Sequence[str] = (),
    counterpart: Counterpart | None = None,
) -> Assessed:
    """A candidate as it follows from its inputs alone.

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
    counterpart : Counterpart, optional
        What the alerts tell of the object, if that is known already.

    Returns
    -------
    Assessed
        With columns among ``CANDIDATE_FIELDS``.
    """
    if len(context.hosts) > 1:
        host = host_at(context.hosts, distance.mean_mpc, distance.sigma_mpc)
        context = _with_host(context, host)
    latest = latest_of(alerts)
    known = counterpart or counterpart_of(in_order(alerts))
    magnitudes = _absolute_magnitudes(known.mag, context, distance)
    evidence = _evidence(region, latest, known, magnitudes, _host_sigma(context, distance))
    effect = "neutral" if verdict is None else verdict.effect
    standing = None
    if chain.demands is not None or chain.silver_demands is not None:
        numbers = facts.numbers(region, latest, known, evidence, context)
        # What people confirmed goes before all cuts.
        standing = _standing(chain, numbers, region.mission) if effect != "confirm" else PASSED
    kind, _, cut = (standing or "").partition(".")
    graded = score.grade(evidence, region, chain, effect, cut if kind == "lowered" else None)
    columns = {
        **_event_columns(region),
        **_verdict_columns(verdict),
        "joint_events": list(joint_events),
        **known.columns,
        **_relation_columns(latest, evidence),
        **_context_columns(context),
        **_distance_columns(region, distance, magnitudes),
        "tier": graded.tier,
        "score": graded.score,
        "factors": list(graded.factors),
        "catalog_versions": list(context.catalog_versions or versions.catalogs),
        "cuts_version": versions.cuts,
        "code_version": versions.code,
    }
    return Assessed(columns, standing)


def _evidence(
    region: Region,
    latest: MatchedAlert,
    known: Counterpart,
    magnitudes: tuple[float, float, float] | None,
    host_sigma: float | None,
) -> score.Evidence:
    """What is known of the object relative to the event."""
    trigger_jd = jd_from_datetime(region.trigger_time)
    return score.Evidence(
        credible_level=latest.credible_level,
        first_days=None if known.first_jd is None else known.first_jd - trigger_jd,
        last_days=known.last_jd - trigger_jd,
        detection_span_days=known.span_days,
        fade=known.fade,
        rise_mag_per_day=known.rise_mag_per_day,
        absolute_magnitudes=None if magnitudes is None else magnitudes[1:],
        host_distance_sigma=host_sigma,
    )


def _relation_columns(latest: MatchedAlert, evidence: score.Evidence) -> dict[str, Any]:
    """Where and when it lies, seen from the event."""
    first_days = evidence.first_days
    return {
        "time_offset_first": None if first_days is None else _seconds(first_days),
        "time_offset_last": _seconds(evidence.last_days),
        "credible_level": latest.credible_level,
        "probability_density": latest.density_per_sr,
        "separation": latest.separation_deg,
    }


def _context_columns(context: Context) -> dict[str, Any]:
    """What catalogues have near it."""
    return {
        "host_name": context.host_name,
        "host_distance": context.host_distance_mpc,
        "host_offset": context.host_offset_arcsec,
        "nearby": list(context.near) or None,
        "looked_up": _looked_up(context),
    }


def _distance_columns(
    region: Region, distance: EventDistance, magnitudes: tuple[float, float, float] | None
) -> dict[str, Any]:
    """How far the event is, and how bright the object would be there."""
    return {
        "luminosity_distance": _first_known(distance.mean_mpc, region.distance_mpc),
        "luminosity_distance_error": _first_known(distance.sigma_mpc, region.distance_error_mpc),
        "absolute_magnitude": None if magnitudes is None else magnitudes[0],
    }


def _standing(chain: Chain, numbers: Mapping[str, float], mission: str) -> str:
    column = facts.columns(numbers)
    for kind, selection in (("withheld", chain.demands), ("lowered", chain.silver_demands)):
        failed = None if selection is None else selection.first_failed(column, mission)
        if failed is not None:
            return f"{kind}.{failed}"
    return PASSED


def _looked_up(context: Context) -> str:
    waiting = (f"{name}:not_looked_up" for name in context.not_looked_up)
    return ",".join((*context.looked_up, *waiting)) or "not_looked_up"


def _with_host(context: Context, host: Host) -> Context:
    name, distance_mpc, offset_arcsec = host
    return replace(
        context,
        host_name=name,
        host_distance_mpc=distance_mpc,
        host_offset_arcsec=offset_arcsec,
    )


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
