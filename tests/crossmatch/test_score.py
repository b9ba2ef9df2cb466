"""Tiers as the selection page states them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.lightcurve import Rate
from crossmatch.model import Region
from crossmatch.score import Evidence, grade, is_new

GW, GRB, NEUTRINO, FRB = (DEFAULT_CHAINS[n] for n in ("gw_ns", "grb", "neutrino", "frb"))

GOOD = Evidence(
    credible_level=0.5,
    first_days=0.5,
    last_days=1.5,
    detection_span_days=1.0,
    fade=Rate("r", 0.7, 0.05),
    rise_mag_per_day=None,
    absolute_magnitudes=(-15.5, -15.5),
    host_distance_sigma=0.1,
)


@pytest.fixture
def gw(make_test_region) -> Region:
    return make_test_region(GW, area90_deg2=31.0)


@pytest.fixture
def make_test_region():
    from datetime import UTC, datetime, timedelta

    from crossmatch.model import Circle

    start = datetime(2017, 8, 17, 12, 41, tzinfo=UTC)

    def make(chain, **changed) -> Region:
        fields = {
            "event_id": "E1",
            "version": 1,
            "notice_id": "n",
            "mission": "m",
            "instrument": "i",
            "kind": "k",
            "messenger": "gw",
            "role": "observation",
            "alert_type": "initial",
            "issued": start,
            "order": (0.0, 0, 0),
            "trigger_time": start,
            "localization": Circle(0, 0, 3, 0.9),
            "chain": chain.name,
            "window": chain.window,
            "level": chain.level,
            "level_silver": chain.level_silver,
            "area90_deg2": 31.0,
            "significant": True,
            "far_hz": None,
            "event_class": "",
            "distance_mpc": None,
            "distance_error_mpc": None,
            "expires": start + timedelta(days=14),
            "notice_sha256": "",
            "skymap_sha256": "",
            "feed": "f",
        }
        return Region(**(fields | changed))

    return make


@pytest.mark.parametrize(
    ("first_days", "new"),
    [(-0.1, False), (0.0, False), (0.1, True), (14.0, True), (14.1, False), (None, False)],
)
def test_new_means_first_seen_in_the_window(first_days, new):
    """After its start, up to and with its end; unknown is not new."""
    assert is_new(first_days, GW.window) is new


def test_new_seen_twice_fading_in_a_host_at_the_distance_is_gold(gw):
    assert grade(GOOD, gw, GW).tier == "gold"


@pytest.mark.parametrize(
    "changed",
    [
        {"first_days": -300.0},
        {"first_days": None},
        {"detection_span_days": 0.001},
        {"credible_level": 0.97},
    ],
    ids=lambda c: next(iter(c)),
)
def test_old_once_seen_or_far_out_stays_bronze(gw, changed):
    assert grade(replace(GOOD, **changed), gw, GW).tier == "bronze"


@pytest.mark.parametrize(
    "changed",
    [
        {"fade": Rate("r", 0.2, 0.01), "host_distance_sigma": None},
        {"fade": Rate("r", 0.7, 0.5), "host_distance_sigma": 4.0},
        {"fade": None, "host_distance_sigma": None},
        {"first_days": 6.0},
        {"absolute_magnitudes": (-19.0, -18.0)},
    ],
)
def test_without_a_distinction_or_too_late_or_too_bright_it_is_silver(gw, changed):
    assert grade(replace(GOOD, **changed), gw, GW).tier == "silver"


@pytest.mark.parametrize("changed", [{"significant": False}, {"area90_deg2": 2500.0}])
def test_only_significant_and_well_localised_events_give_gold(make_test_region, changed):
    assert grade(GOOD, make_test_region(GW, **changed), GW).tier == "silver"


def test_a_luminosity_that_the_distance_allows_is_enough(gw):
    assert grade(replace(GOOD, absolute_magnitudes=(-19.0, -17.0)), gw, GW).tier == "gold"


def test_a_small_region_distinguishes_by_itself(make_test_region):
    plain = replace(GOOD, fade=None, host_distance_sigma=None)
    region = make_test_region(GRB, area90_deg2=0.01)
    assert grade(plain, region, GRB).tier == "gold"


def test_a_fast_rise_distinguishes(gw):
    rising = replace(GOOD, fade=None, host_distance_sigma=None, rise_mag_per_day=1.5)
    assert grade(rising, gw, GW).tier == "gold"


def test_neutrinos_do_not_ask_for_newness(make_test_region):
    old = replace(GOOD, first_days=-175.0, fade=None, host_distance_sigma=None)
    assert grade(old, make_test_region(NEUTRINO), NEUTRINO).tier == "silver"


def test_a_cap_holds_and_says_so(make_test_region):
    capped = grade(GOOD, make_test_region(FRB), FRB)
    assert capped.tier == "bronze"
    assert "capped_at_bronze" in capped.factors


def test_the_score_orders_tiers_first_and_then_levels(gw):
    gold = grade(GOOD, gw, GW).score
    silver = grade(replace(GOOD, first_days=6.0), gw, GW).score
    inner = grade(replace(GOOD, credible_level=0.1), gw, GW).score
    assert 2 <= gold < inner < 3
    assert 1 <= silver < 2


def test_what_people_demote_is_bronze_and_keeps_its_place_among_the_bronze(gw):
    demoted = grade(GOOD, gw, GW, "demote")
    assert demoted.tier == "bronze"
    assert "demoted_by_verdict" in demoted.factors
    assert demoted.score == pytest.approx(grade(GOOD, gw, GW).score - 2)


def test_what_people_confirm_is_gold_whatever_the_rules_say(make_test_region):
    region = make_test_region(GW, area90_deg2=2500.0, significant=False)
    confirmed = grade(replace(GOOD, first_days=-300.0), region, GW, "confirm")
    assert confirmed.tier == "gold"
    assert 2 <= confirmed.score < 3
    assert "confirmed_by_verdict" in confirmed.factors


def test_the_cap_of_a_chain_holds_for_what_people_confirm(make_test_region):
    capped = grade(GOOD, make_test_region(FRB), FRB, "confirm")
    assert capped.tier == "bronze"
    assert {"confirmed_by_verdict", "capped_at_bronze"} <= set(capped.factors)


def test_a_confirmation_lifts_nothing_in_a_test_event(make_test_region):
    region = make_test_region(GW, role="test")
    old = replace(GOOD, first_days=-300.0)
    assert grade(old, region, GW, "confirm").tier == grade(old, region, GW).tier == "bronze"


def test_a_neutral_verdict_changes_nothing(gw):
    assert grade(GOOD, gw, GW, "neutral") == grade(GOOD, gw, GW)
