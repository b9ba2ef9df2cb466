"""Tiers and ranking: how promising an object is for an event.

The rules are those of ``docs/explanation/selection.md``: bronze is real, in region
and window; silver is also new, seen twice and inside the silver level; gold is also
fading, or in a host at the event's distance, or in a small region, for a significant
and well localised event. A verdict of people goes before all of that: what they demote is
bronze at most, what they confirm is gold, as far as the chain allows gold at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossmatch.chains import Chain
from crossmatch.lightcurve import Rate
from crossmatch.model import TIERS, Region, Tier, Window
from crossmatch.predicates import (
    FADE_MAG_PER_DAY,
    FADE_SIGNIFICANCE,
    RISE_MAG_PER_DAY,
    TWO_DETECTIONS_DAYS,
    fades,
    luminosity_fits,
)
from crossmatch.verdicts import Effect

GOLD_MAX_AREA_DEG2 = 2000.0
SMALL_REGION_DEG2 = 0.1
_WEIGHTS = {
    "new": 0.1,
    "two_detections": 0.05,
    "fading": 0.2,
    "fast_rise": 0.05,
    "host_at_event_distance": 0.2,
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one object relative to one event; times in days after the trigger.

    ``absolute_magnitudes`` are the brightest and the faintest that the distance allows.
    """

    credible_level: float
    first_days: float | None
    last_days: float
    detection_span_days: float
    fade: Rate | None
    rise_mag_per_day: float | None
    absolute_magnitudes: tuple[float, float] | None
    host_distance_sigma: float | None


@dataclass(frozen=True, slots=True)
class Grade:
    """Tier, score (tier 0, 1, 2 plus a part below 1) and what decided it."""

    tier: Tier
    score: float
    factors: tuple[str, ...]


def is_new(first_days: float | None, window: Window) -> bool:
    """Whether the first detection lies inside the window."""
    return first_days is not None and window.start_days < first_days <= window.end_days


def is_fading(rate: Rate | None) -> bool:
    """At least 0.3 mag/day in one filter at 3 sigma."""
    return rate is not None and fades(
        rate.mag_per_day, rate.error, FADE_MAG_PER_DAY, FADE_SIGNIFICANCE
    )


def grade(
    evidence: Evidence,
    region: Region,
    chain: Chain,
    effect: Effect = "neutral",
    lowered: str | None = None,
) -> Grade:
    """Tier and score of an object that is real and inside ``region`` and its window.

    Parameters
    ----------
    evidence : Evidence
    region : Region
    chain : Chain
    effect : {"confirm", "demote", "neutral"}
        Of the verdict that holds. A confirmation lifts to gold, but not above the chain's cap,
        and nothing in a test event: what people found is real, the event is not.
    lowered : str, optional
        What the object fails of the selection that the chain demands of silver: it is bronze,
        unless people confirmed it.

    Returns
    -------
    Grade
    """
    found = _findings(evidence, region, chain)
    tier = _tier(found, chain)
    factors = sorted(found)
    if lowered is not None:
        tier = "bronze"
        factors.append(f"failed_{lowered}")
    if effect == "demote":
        tier = "bronze"
        factors.append("demoted_by_verdict")
    elif effect == "confirm":
        if region.role != "test":
            tier = "gold"
        factors.append("confirmed_by_verdict")
    capped = min(TIERS.index(tier), TIERS.index(chain.max_tier))
    if capped < TIERS.index(tier):
        factors.append(f"capped_at_{chain.max_tier}")
    part = _score_part(evidence, found)
    return Grade(TIERS[capped], round(capped + part, 6), tuple(factors))


def _tier(found: set[str], chain: Chain) -> Tier:
    """Tier by what was found, before caps and verdicts."""
    silver = {"two_detections", "inside_silver_level"} | ({"new"} if chain.needs_new else set())
    if not silver <= found:
        return "bronze"
    distinct = found & {"fading", "fast_rise", "host_at_event_distance", "small_region"}
    gold = {"significant_event", "well_localised", "early", "luminosity_fits"}
    return "gold" if distinct and gold <= found else "silver"


def _findings(evidence: Evidence, region: Region, chain: Chain) -> set[str]:
    tests = {
        "new": is_new(evidence.first_days, region.window),
        "two_detections": evidence.detection_span_days >= TWO_DETECTIONS_DAYS,
        "inside_silver_level": evidence.credible_level <= region.level_silver,
        "fading": is_fading(evidence.fade),
        "fast_rise": (evidence.rise_mag_per_day or 0.0) >= RISE_MAG_PER_DAY,
        "host_at_event_distance": (
            evidence.host_distance_sigma is not None and evidence.host_distance_sigma <= 3
        ),
        "small_region": region.area90_deg2 < SMALL_REGION_DEG2,
        "significant_event": region.significant,
        "well_localised": region.area90_deg2 <= GOLD_MAX_AREA_DEG2,
        "early": chain.gold_first_days is None
        or (evidence.first_days is not None and evidence.first_days <= chain.gold_first_days),
        "luminosity_fits": _luminosity_fits(evidence.absolute_magnitudes, chain),
    }
    return {name for name, holds in tests.items() if holds}


def _luminosity_fits(magnitudes: tuple[float, float] | None, chain: Chain) -> bool:
    if magnitudes is None or chain.min_abs_mag is None or chain.max_abs_mag is None:
        return True
    return bool(luminosity_fits(*magnitudes, chain.min_abs_mag, chain.max_abs_mag))


def _score_part(evidence: Evidence, found: set[str]) -> float:
    """Below 1: position first, then what sets the object apart from its field."""
    part = 0.35 * (1 - evidence.credible_level)
    return part + sum(weight for name, weight in _WEIGHTS.items() if name in found)
