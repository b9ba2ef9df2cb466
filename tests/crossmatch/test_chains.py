"""Which chain applies to a notice, and how chains are overridden."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from crossmatch.chains import DEFAULT_CHAINS, chain_name, chains_with, check_catalogs
from crossmatch.errors import ConfigError
from crossmatch.model import Notice, Window
from crossmatch.selections import BUILT_IN, NOT_KNOWN, selections_with


def gw(significant=True, group="CBC", search="AllSky", **classification) -> Notice:
    return Notice(
        feed="lvk", mission="LVK", instrument="H1", kind="initial", notice_id="S1", event_id="S1",
        trigger_id="S1", messenger="gw", role="observation", alert_type="initial",
        issued=datetime(2024, 1, 1, tzinfo=UTC), order=(0.0, 0, 0), trigger_time=None,
        localization=None, sha256="", significant=significant, classification=classification,
        details={"group": group, "search": search},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("notice", "name"),
    [
        (gw(BNS=0.06, NSBH=0.05), "gw_ns"),
        (gw(BBH=0.99, HasRemnant=0.2), "gw_ns"),
        (gw(search="SSM"), "gw_ns"),
        (gw(BBH=0.99), "gw_bbh"),
        (gw(group="Burst"), "gw_burst"),
        (gw(significant=False, BBH=0.9), "gw_low"),
        (gw(significant=False, BNS=0.3), "gw_low_ns"),
        (replace(gw(significant=False, BNS=0.3), distance_mpc=399.0), "gw_low_promising"),
        (replace(gw(significant=False, BNS=0.19), distance_mpc=399.0), "gw_low_ns"),
        (
            replace(gw(significant=False), details={"external_observatory": "Fermi"}),
            "gw_low_promising",
        ),
    ],
)
def test_gravitational_waves_are_told_apart_by_what_may_shine(notice, name):
    assert chain_name(notice, systematic_included=True) == name


def test_a_neutrino_without_systematic_is_matched_wider():
    notice = replace(gw(), messenger="neutrino")
    wide = DEFAULT_CHAINS[chain_name(notice, systematic_included=False)]
    narrow = DEFAULT_CHAINS[chain_name(notice, systematic_included=True)]
    assert (wide.level, narrow.level) == (0.95, 0.9)


def test_every_default_is_in_range():
    for chain in DEFAULT_CHAINS.values():
        assert 0 < chain.level_silver <= chain.level <= 1
        assert chain.window.start_days < chain.window.end_days


def test_values_can_be_replaced():
    chains = chains_with({"gw_bbh": {"max_tier": "gold", "window": [0, 30]}})
    assert chains["gw_bbh"].max_tier == "gold"
    assert chains["gw_bbh"].window == Window(0.0, 30.0)
    assert chains["grb"] == DEFAULT_CHAINS["grb"]


def test_false_takes_a_bound_away():
    assert chains_with({"grb": {"gold_first_days": False}})["grb"].gold_first_days is None


@pytest.mark.parametrize(
    "overrides",
    [
        {"nova": {"level": 0.9}},
        {"grb": {"levle": 0.9}},
        {"grb": {"level": 1.5}},
        {"grb": {"window": [3, 1]}},
        {"grb": {"window": 3}},
        {"grb": {"max_tier": "platinum"}},
        {"grb": {"level": "x"}},
        {"grb": {"level": False}},
        {"grb": {"window": ["a", 2]}},
        {"grb": {"window": [float("nan"), 2]}},
        {"grb": {"needs_new": "no"}},
        {"grb": {"gold_first_days": "z"}},
    ],
)
def test_wrong_overrides_are_named(overrides):
    with pytest.raises(ConfigError, match="chains"):
        chains_with(overrides)


FAR = selections_with(
    {"far": {"cuts": ["positive", {"cut": "far_from", "catalog": "gaia", "radius_arcsec": 1.5}]}}
)


@pytest.mark.parametrize("key", ["demands", "silver_demands"])
@pytest.mark.parametrize(
    ("searched", "words"),
    [
        ({}, "far_from looks at 'gaia', which is not asked (none is): put it into"),
        ({"simbad": 9.0, "g": 9.0}, "looks at 'gaia', which is not asked (simbad, g): put it"),
        (
            {"gaia": 1.4},
            "looks 1.5 arcsec far, gaia is searched within 1.4: give the cut a smaller",
        ),
    ],
)
def test_a_demand_that_no_catalogue_answers_is_refused(
    key: str, searched: dict[str, float], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_catalogs(chains_with({"grb": {key: "far"}}, FAR), searched, {})
    assert str(error.value).startswith(f"[chains.grb] {key}: far_from looks ")
    assert words in str(error.value)


def test_what_catalogues_answer_may_be_demanded() -> None:
    check_catalogs(chains_with({"grb": {"demands": "far"}}, FAR), {"gaia": 1.5}, {})


KINDS = selections_with(
    {
        "stars": {"cuts": ["known_star"]},
        "flaring": {"cuts": [{"cut": "far_from_kind", "not": True}]},
        "planets": {
            "cuts": [{"cut": "far_from_kind", "kind": "minor_planets", "radius_arcsec": False}]
        },
        "with_default": {"cuts": ["not_star_or_asteroid", "fading"]},
    }
)
ASKED = {"gaia": 1.5, "ps1": 1.4, "quasars": 3.0, "xray": 2.0, "simbad": 9.0}


@pytest.mark.parametrize(
    ("demanded", "kinds", "words"),
    [
        ("stars", {}, "known_star looks at catalogues of the kind 'stars', of which none is asked"),
        ("planets", {"gaia": "stars"}, "near_minor_planets looks at catalogues of the kind 'minor"),
        ("flaring", {"quasars": "agn", "xray": "agn"}, "3 arcsec far, xray is searched within 2"),
        ("stars", {"gaia": "stars", "ps1": "stars"}, "1.5 arcsec far, ps1 is searched within 1.4"),
        ("with_default", {"gaia": "stars"}, "known_minor_planet looks at catalogues of the kind"),
    ],
)
def test_a_demand_of_a_kind_that_no_catalogue_answers_is_refused(
    demanded: str, kinds: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check_catalogs(chains_with({"grb": {"demands": demanded}}, KINDS), ASKED, kinds)
    assert str(error.value).startswith("[chains.grb] demands: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("demanded", "kinds"),
    [
        ("stars", {"gaia": "stars"}),
        ("flaring", {"quasars": "agn"}),
        # As far as it is searched.
        ("planets", {"ps1": "minor_planets"}),
    ],
)
def test_a_demand_of_a_kind_that_is_asked_is_taken(demanded: str, kinds: dict[str, str]) -> None:
    check_catalogs(chains_with({"grb": {"demands": demanded}}, KINDS), ASKED, kinds)


def test_the_default_demands_what_there_is() -> None:
    check_catalogs(DEFAULT_CHAINS, {}, {})
    check_catalogs(DEFAULT_CHAINS, {"gaia": 0.5}, {"gaia": "stars"})
    assert {chain.demands for chain in DEFAULT_CHAINS.values()} == {BUILT_IN[NOT_KNOWN]}
    assert chains_with({"grb": {"demands": "stars"}}, KINDS)["grb"].demands == KINDS["stars"]
    assert chains_with({"grb": {"demands": False}})["grb"].demands is None


def test_a_selection_of_ones_own_may_be_the_default_of_all_chains() -> None:
    mine = selections_with({NOT_KNOWN: {"cuts": [{"cut": "known_star", "radius_arcsec": 1}]}})
    chains = chains_with({"grb": {"level": 0.5}}, mine)
    assert {chain.demands for chain in chains.values()} == {mine[NOT_KNOWN]}
    with pytest.raises(ConfigError, match="of which none is asked"):
        check_catalogs(chains, {}, {})
