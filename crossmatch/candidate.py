"""From the matched alerts of one object and one event to the columns of a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from crossmatch import facts, score
from crossmatch.chains import Chain
from crossmatch.counterpart import Counterpart, MatchedAlert, counterpart_of, in_order, latest_of
from crossmatch.model import Circle, Region
from crossmatch.neighbours import Neighbour, host_at
from crossmatch.selections import Selection
from crossmatch.times import iso_utc, jd_from_datetime
from crossmatch.verdicts import Effect, Verdict

SECONDS_PER_DAY = 86400.0
PASSED = "passed"
WITHHELD = "withheld."

_SEPARATION = "separation_arcsec"
_SOURCE_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "simbad": {"simbad_name": "name", "simbad_type": "type", "simbad_distance": _SEPARATION},
    "stars": {"star_distance": _SEPARATION, "star_significance": "significance"},
    "agn": {"agn_name": "name", "agn_distance": _SEPARATION},
    "transients": {"known_transient": "name", "known_transient_distance": _SEPARATION},
    "variables": {
        "variable_name": "name",
        "variable_type": "type",
        "variable_distance": _SEPARATION,
    },
    "minor_planets": {"minor_planet": "name", "minor_planet_distance": _SEPARATION},
}
"""By kind of the nearest source the columns that tell of it, and what of it they tell."""
_HOST_COLUMNS: Mapping[str, str] = {
    "host_name": "name",
    "host_distance": "distance_mpc",
    "host_offset": _SEPARATION,
    "redshift": "redshift",
    "p_cc": "p_cc",
}
_NOTHING_NEAR = dict.fromkeys(
    column for told in (_HOST_COLUMNS, *_SOURCE_COLUMNS.values()) for column in told
)
_VERDICT_COLUMNS: Mapping[str, str] = {
    "verdict": "classification",
    "verdict_effect": "effect",
    "verdict_note": "note",
    "verdict_reference": "reference",
    "verdict_author": "author",
    "verdict_time": "stated",
}
_NO_VERDICT: Mapping[str, Any] = dict.fromkeys(_VERDICT_COLUMNS)


@dataclass(frozen=True)
class Context:
    """What catalogues say about a position.

    Parameters
    ----------
    looked_up, not_looked_up : tuple of str
        Catalogues that were asked, and that are to be asked and have not answered yet.
    catalog_versions : tuple of str
        ``name@version`` of those that were asked; of a table of positions by time the one that
        covers the time of the position.
    kinds : frozenset of str
        What the local ones among them are of.
    near : tuple of str
        A text for each catalogue that has something near.
    distances : tuple of (str, float)
        Catalogues that have something near, and how far the nearest source is, arcsec,
        whichever source ``near`` tells of.
    nearest : tuple of Neighbour
        The nearest source of each kind but galaxies, of stars the nearest that is significant;
        also Simbad's, of a kind of its own.
    hosts : tuple of Neighbour
        Galaxies that may be the host, the most likely first: what `likely_hosts` gives.
    galaxy_arcsec : float or None
        How far the nearest galaxy of local catalogues is, a host or not.
    """

    looked_up: tuple[str, ...] = ()
    not_looked_up: tuple[str, ...] = ()
    catalog_versions: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    near: tuple[str, ...] = ()
    distances: tuple[tuple[str, float], ...] = ()
    nearest: tuple[Neighbour, ...] = ()
    hosts: tuple[Neighbour, ...] = ()
    galaxy_arcsec: float | None = None

    # Most candidates have nothing near, and share one context: its columns are made once.
    @cached_property
    def columns(self) -> Mapping[str, Any]:
        """What a candidate says of it, if its host is the most likely one."""
        waiting = (f"{name}:not_looked_up" for name in self.not_looked_up)
        found = {
            **_NOTHING_NEAR,
            **(_host_columns(self.hosts[0]) if self.hosts else {}),
            "nearby": list(self.near) or None,
            "looked_up": ",".join((*self.looked_up, *waiting)) or "not_looked_up",
        }
        for one in self.nearest:
            told = _SOURCE_COLUMNS.get(one.kind, {})
            found |= {column: getattr(one, name) for column, name in told.items()}
        return found


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
    it fails, or ``lowered.<cut>`` by one of ``silver_demands``; None where a chain demands nothing,
    or only what no catalogue was asked about.
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
    host = None
    if context.hosts:
        host = host_at(context.hosts, distance.mean_mpc, distance.sigma_mpc)
    host_mpc = None if host is None else host.distance_mpc
    latest = latest_of(alerts)
    known = counterpart or counterpart_of(in_order(alerts))
    magnitudes = _absolute_magnitudes(known.mag, host_mpc, distance)
    evidence = _evidence(region, latest, known, magnitudes, _host_sigma(host_mpc, distance))
    effect = "neutral" if verdict is None else verdict.effect
    standing = _standing(region, chain, latest, known, evidence, context, effect)
    kind, _, cut = (standing or "").partition(".")
    graded = score.grade(evidence, region, chain, effect, cut if kind == "lowered" else None)
    columns = {
        **_event_columns(region),
        **_verdict_columns(verdict),
        "joint_events": list(joint_events),
        **known.columns,
        **_relation_columns(latest, evidence),
        **_context_columns(context, host, latest.alert),
        **_distance_columns(region, distance, magnitudes),
        "tier": graded.tier,
        "score": graded.score,
        "factors": list(graded.factors),
        "catalog_versions": list(context.catalog_versions),
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


def _context_columns(
    context: Context, host: Neighbour | None, alert: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What catalogues have near it; of minor planets also the alert may name one."""
    told = context.columns
    if host is not None and host is not context.hosts[0]:
        told = {**told, **_host_columns(host)}
    name, away = alert["moving_name"], alert["moving_distance_arcsec"]
    if name is None and away is None:
        return told
    found = told["minor_planet_distance"]
    if found is not None and (away is None or found < away):
        return told
    return {**told, "minor_planet": name, "minor_planet_distance": away}


def _host_columns(host: Neighbour) -> Mapping[str, Any]:
    return {column: getattr(host, name) for column, name in _HOST_COLUMNS.items()}


def _distance_columns(
    region: Region, distance: EventDistance, magnitudes: tuple[float, float, float] | None
) -> dict[str, Any]:
    """How far the event is, and how bright the object would be there."""
    return {
        "luminosity_distance": _first_known(distance.mean_mpc, region.distance_mpc),
        "luminosity_distance_error": _first_known(distance.sigma_mpc, region.distance_error_mpc),
        "absolute_magnitude": None if magnitudes is None else magnitudes[0],
    }


def _standing(
    region: Region,
    chain: Chain,
    latest: MatchedAlert,
    known: Counterpart,
    evidence: score.Evidence,
    context: Context,
    effect: Effect,
) -> str | None:
    """How it stands to what its chain demands; None where that is nothing, or cannot be told."""
    standing, column = None, None
    for kind, selection in (("withheld", chain.demands), ("lowered", chain.silver_demands)):
        if selection is None or not _can_tell(selection, context):
            continue
        standing = PASSED
        # What people confirmed goes before all cuts. Nearly all else passes at a glance.
        if effect == "confirm" or not _may_fail(selection, context):
            continue
        if column is None:
            column = facts.columns(facts.numbers(region, latest, known, evidence, context))
        failed = selection.first_failed(column, region.mission)
        if failed is not None:
            return f"{kind}.{failed}"
    return standing


def _can_tell(selection: Selection, context: Context) -> bool:
    """Whether a catalogue was asked that it looks at, if it looks at catalogues alone."""
    return not selection.kinds or not context.kinds.isdisjoint(selection.kinds)


def _may_fail(selection: Selection, context: Context) -> bool:
    return not selection.kinds or any(one.kind in selection.kinds for one in context.nearest)


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


def _verdict_columns(verdict: Verdict | None) -> Mapping[str, Any]:
    """What people found; texts that they left empty are null."""
    if verdict is None:
        return _NO_VERDICT
    return {column: getattr(verdict, name) or None for column, name in _VERDICT_COLUMNS.items()}


def _absolute_magnitudes(
    mag: float | None, host_mpc: float | None, event: EventDistance
) -> tuple[float, float, float] | None:
    """Best, brightest and faintest absolute magnitude: at the host, else at the event +- 3 sigma.

    None without magnitude or distance. An event whose distance may be nothing has no
    faint limit.
    """
    best = _first_known(host_mpc, event.mean_mpc)
    if mag is None or best is None or best <= 0:
        return None
    near = far = best
    if host_mpc is None and event.sigma_mpc is not None:
        near, far = best - 3 * event.sigma_mpc, best + 3 * event.sigma_mpc
    faintest = _absolute(mag, near) if near > 0 else math.inf
    return _absolute(mag, best), _absolute(mag, far), faintest


def _absolute(mag: float, distance_mpc: float) -> float:
    return mag - 5 * math.log10(distance_mpc) - 25


def _host_sigma(host_mpc: float | None, event: EventDistance) -> float | None:
    """How many sigma the host's distance is from the event's."""
    if host_mpc is None or not event.mean_mpc or not event.sigma_mpc:
        return None
    return abs(host_mpc - event.mean_mpc) / event.sigma_mpc


def _first_known(*values: float | None) -> float | None:
    for value in values:
        if value is not None:
            return value
    return None


def _seconds(days: float) -> float:
    return round(days * SECONDS_PER_DAY, 3)
