"""Each cut at its threshold, and what it makes of a missing value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from crossmatch import facts
from crossmatch.cutnames import CUTS
from crossmatch.predicates import Columns
from crossmatch.selections import step_of

MISSING = math.nan


def fails(cut: str | dict[str, Any], **values: float) -> bool:
    return bool(step_of(cut, "here").fails(facts.columns(values))[0])


@pytest.mark.parametrize(
    ("cut", "passing", "failing"),
    [
        ("positive", {"positive": 1}, {"positive": 0}),
        (
            "real_bogus",
            {"real_bogus": 0.55, "deep_real_bogus": 0.2},
            {"real_bogus": 0.54, "deep_real_bogus": 0.29},
        ),
        (
            {"cut": "real_bogus", "min_deep_real_bogus": False},
            {"real_bogus": 0.55},
            {"real_bogus": 0.54, "deep_real_bogus": 1.0},
        ),
        ("bad_pixels", {"n_bad": 0}, {"n_bad": 1}),
        ("mag_difference", {"mag_difference": -0.099}, {"mag_difference": -0.1}),
        ("moving", {"moving_distance_arcsec": 5.01}, {"moving_distance_arcsec": 5.0}),
        (
            "star",
            {"ps1_distance_arcsec": 2.01, "ps1_star_score": 1.0},
            {"ps1_distance_arcsec": 2.0, "ps1_star_score": 0.77},
        ),
        ("galaxy_like", {"ps1_star_score": 0.75}, {"ps1_star_score": 0.76}),
        ("far_from_ps1", {"ps1_distance_arcsec": 5.0}, {"ps1_distance_arcsec": 4.99}),
        ("far_from_gaia", {"gaia_distance_arcsec": 5.0}, {"gaia_distance_arcsec": 4.99}),
        ("far_from", {"near.simbad": math.inf}, {"near.simbad": 0.99}),
        ("far_from_kind", {"near_kind.agn": 3.0}, {"near_kind.agn": 2.99}),
        (
            {"cut": "far_from_kind", "kind": "variables", "not": True},
            {"near_kind.variables": 2.99},
            {"near_kind.variables": 3.0},
        ),
        (
            {"cut": "far_from_kind", "kind": "minor_planets", "radius_arcsec": False},
            {"near_kind.minor_planets": math.inf},
            {"near_kind.minor_planets": 59.0},
        ),
        (
            "known_star",
            {"near_kind.stars": 1.51},
            {"near_kind.stars": 1.5},
        ),
        (
            "known_star",
            {"near_kind.stars": 0.1, "near_kind.agn": 1.5},
            {"near_kind.stars": 0.1, "near_kind.agn": 1.6},
        ),
        (
            "known_star",
            {"near_kind.stars": 0.1, "near_kind.galaxies": 1.5, "near_kind.agn": math.inf},
            {"near_kind.stars": 0.1, "near_kind.galaxies": 1.6, "near_kind.agn": math.inf},
        ),
        ("known_star", {"near_kind.stars": math.inf}, {"near_kind.stars": 0}),
        (
            "known_minor_planet",
            {"near_kind.minor_planets": 5.01, "detection_span_days": 0.0},
            {"near_kind.minor_planets": 5.0, "detection_span_days": 0.0},
        ),
        (
            "known_minor_planet",
            {"near_kind.minor_planets": 0.0, "detection_span_days": 30 / 1440},
            {"near_kind.minor_planets": 0.0, "detection_span_days": 29 / 1440},
        ),
        (
            "known_minor_planet",
            {"near_kind.minor_planets": math.inf},
            {"near_kind.minor_planets": 4.0, "detection_span_days": MISSING},
        ),
        ("detections", {"n_detections": 2}, {"n_detections": 1}),
        (
            {"cut": "detections", "min_detections": False, "max_detections": 2},
            {"n_detections": 2},
            {"n_detections": 3},
        ),
        ("two_detections", {"detection_span_days": 15 / 1440}, {"detection_span_days": 0.0}),
        ("short_lived", {"detection_span_days": 0.02}, {"detection_span_days": 0.022}),
        ("galactic_latitude", {"galactic_latitude_deg": -10}, {"galactic_latitude_deg": 9.9}),
        ("magnitude", {"mag": 20.5}, {"mag": 20.6}),
        ("window", {"offset_days": 20.0}, {"offset_days": -600 / 86400}),
        ("first_detected", {"first_offset_days": -0.006}, {"first_offset_days": 20.01}),
        (
            "separation",
            {"separation_deg": 3.0, "error_radius_deg": 1.0},
            {"separation_deg": 3.01, "error_radius_deg": 1.0},
        ),
        (
            {"cut": "separation", "max_sigma": 1, "max_deg": 5},
            {"separation_deg": 4.9, "error_radius_deg": 10},
            {"separation_deg": 5.1, "error_radius_deg": 10},
        ),
        ("credible_level", {"credible_level": 0.9}, {"credible_level": 0.91}),
        (
            {"cut": "upper_limit", "within_days": 5},
            {"limit_days_before": 5.0},
            {"limit_days_before": 5.1},
        ),
        (
            "fading",
            {"fade_mag_per_day": 0.3, "fade_error": 0.099},
            {"fade_mag_per_day": 0.5, "fade_error": 0.2},
        ),
        ("rising", {"rise_mag_per_day": 1.0}, {"rise_mag_per_day": 0.9}),
        ("changing", {"rise_mag_per_day": 1.0}, {"rise_mag_per_day": 0.9}),
        (
            "absolute_magnitude",
            {"abs_mag_brightest": -18.0, "abs_mag_faintest": -17.0},
            {"abs_mag_brightest": -19.0, "abs_mag_faintest": -18.0},
        ),
    ],
)
def test_each_cut_at_its_threshold(
    cut: str | dict[str, Any], passing: dict[str, float], failing: dict[str, float]
) -> None:
    assert not fails(cut, **passing)
    assert fails(cut, **failing)


@pytest.mark.parametrize("name", CUTS)
def test_what_is_missing_passes_or_fails_as_the_cut_says_or_the_selection(name: str) -> None:
    assert fails(name) == (CUTS[name].missing == "fail")
    assert fails({"cut": name, "missing": "fail"})
    assert not fails({"cut": name, "missing": "pass"})


@pytest.mark.parametrize("name", CUTS)
def test_many_rows_are_judged_at_once_as_each_by_itself(name: str) -> None:
    rng = np.random.default_rng(5)
    made: dict[str, Any] = {}

    def column(wanted: str) -> Any:
        values = rng.choice([-20.0, -0.004, 0.0, 0.2, 0.8, 1.0, 4.0, 30.0, MISSING], 200)
        return made.setdefault(wanted, values)

    step = step_of(name, "here")
    together = step.fails(column)

    def alone(row: int) -> Columns:
        return lambda wanted: made[wanted][row : row + 1]

    assert together.tolist() == [bool(step.fails(alone(row))[0]) for row in range(200)]


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ({"ps1_distance_arcsec": 30.0}, True),
        ({"ps1_star_score": 0.1}, True),
        ({"ps1_distance_arcsec": 1.0}, False),
        ({"ps1_star_score": 0.9}, False),
    ],
)
def test_one_value_may_be_enough_to_tell_that_it_is_no_star(
    values: dict[str, float], known: bool
) -> None:
    assert fails({"cut": "star", "missing": "fail"}, **values) == (not known)
    assert not fails("star", **values)


def test_beyond_the_degrees_the_error_radius_does_not_matter() -> None:
    cut = {"cut": "separation", "max_sigma": 1, "max_deg": 5}
    assert fails(cut, separation_deg=6.0)
    assert not fails(cut, separation_deg=4.0)
    assert fails(cut | {"missing": "fail"}, separation_deg=4.0)


def test_changing_is_fading_or_rising() -> None:
    slow = {"fade_mag_per_day": 0.1, "fade_error": 0.01}
    assert fails("changing", **slow)
    assert not fails("changing", **slow, rise_mag_per_day=1.5)
    assert not fails("changing", fade_mag_per_day=0.5, fade_error=0.1, rise_mag_per_day=0.1)
