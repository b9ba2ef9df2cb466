"""What is known of a candidate, as its cuts see it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from crossmatch.candidate import Assessed, Context, EventDistance, Versions, assess
from crossmatch.chains import DEFAULT_CHAINS, Chain, chains_with
from crossmatch.counterpart import MatchedAlert, counterpart_of, in_order, latest_of
from crossmatch.facts import error_radius_deg, numbers
from crossmatch.lightcurve import Detection
from crossmatch.model import Ellipse
from crossmatch.neighbours import Neighbour
from crossmatch.score import Evidence
from crossmatch.selections import BUILT_IN, selection_of
from crossmatch.verdicts import Verdict

from .test_candidate import T0_JD, matched, region

UNKNOWN: dict[str, Any] = {"first_detection_jd": None, "n_detections": None}
EVIDENCE = Evidence(0.5, 0.1, 1.0, 0.0, None, None, None, None)


def known(*alerts: MatchedAlert, context: Context | None = None) -> dict[str, float]:
    counterpart = counterpart_of(in_order(alerts))
    latest = latest_of(alerts)
    return numbers(region(), latest, counterpart, EVIDENCE, context or Context())


def limit(days: float, mag: float, band: str = "r") -> Detection:
    return Detection(T0_JD + days, band, None, None, mag)


def with_history(alert: MatchedAlert, *points: Detection) -> MatchedAlert:
    return alert._replace(history=points)


def test_the_limit_is_the_last_before_the_first_detection() -> None:
    alert = matched(1, 2.0, 18.0, **UNKNOWN)
    found = known(with_history(alert, limit(-3.0, 20.0), limit(1.5, 20.5), limit(2.5, 21.0)))
    assert found["limit_days_before"] == pytest.approx(0.5, abs=1e-6)
    # The survey knows of a detection that the history does not reach.
    early = matched(1, 2.0, 18.0, first_detection_jd=T0_JD - 40)
    assert math.isnan(known(with_history(early, limit(1.5, 20.5)))["limit_days_before"])
    assert math.isnan(known(alert)["limit_days_before"])


def test_rates_are_of_one_filter_with_its_error() -> None:
    g = Detection(T0_JD + 1.0, "g", 17.0, 0.05, 20.0)
    alert = with_history(matched(1, 2.0, 18.0, "r", **UNKNOWN), g)
    assert math.isnan(known(alert)["fade_mag_per_day"])
    r = g._replace(filter="r")
    found = known(with_history(matched(1, 2.0, 18.0, "r", **UNKNOWN), r))
    assert found["fade_mag_per_day"] == pytest.approx(1.0)
    assert found["fade_error"] == pytest.approx(0.05 * math.sqrt(2))
    risen = known(with_history(matched(1, 2.0, 18.0, "r", **UNKNOWN), limit(1.0, 20.0)))
    assert risen["rise_mag_per_day"] == pytest.approx(2.0)
    other = known(with_history(matched(1, 2.0, 18.0, "r", **UNKNOWN), limit(1.0, 20.0, "g")))
    assert math.isnan(other["rise_mag_per_day"])


def test_a_single_detection_spans_nothing_and_an_unknown_first_one_is_unknown() -> None:
    assert known(matched(1, 2.0, 18.0, **UNKNOWN))["detection_span_days"] == 0.0
    two = known(matched(1, 2.0, 18.0, **UNKNOWN), matched(2, 2.5, 18.0, **UNKNOWN))
    assert two["detection_span_days"] == pytest.approx(0.5)
    faint = matched(1, 2.0, None, **UNKNOWN)
    assert math.isnan(known(faint)["detection_span_days"])


def test_a_catalogue_that_has_nothing_near_is_infinitely_far_and_an_unasked_one_unknown() -> None:
    context = Context(("simbad", "gaia"), distances=(("gaia", 0.4),), not_looked_up=("vizier:t",))
    found = known(matched(1, 2.0, 18.0), context=context)
    assert (found["near.simbad"], found["near.gaia"]) == (math.inf, 0.4)
    assert "near.vizier:t" not in found


def test_the_error_radius_is_the_missions() -> None:
    assert error_radius_deg(region()) == 11.6
    oval = replace(region(), localization=Ellipse(1.0, 2.0, 3.0, 0.5, 10.0, 0.9))
    assert error_radius_deg(oval) == 3.0


def assessed(*, demands: Any = None, silver: Any = None, **context: Any) -> Assessed:
    chain = replace(
        DEFAULT_CHAINS["grb"],
        demands=demands and selection_of("d", demands, BUILT_IN),
        silver_demands=silver and selection_of("s", silver, BUILT_IN),
    )
    alerts = [matched(1, 0.5, 18.0, **UNKNOWN), matched(2, 2.5, 19.0, **UNKNOWN)]
    return assess(region(), chain, alerts, Context(**context), EventDistance(), Versions("c", "v"))


def test_how_a_candidate_stands_to_what_its_chain_demands() -> None:
    assert assessed().standing is None
    assert assessed(demands=["two_detections", "fading"]).standing == "passed"
    low = [{"cut": "galactic_latitude", "min_deg": 80}]
    withheld = assessed(demands=low, silver=["rising"])
    assert (withheld.standing, withheld.withheld) == ("withheld.galactic_latitude", True)
    lowered = assessed(silver=low)
    assert (lowered.standing, lowered.withheld) == ("lowered.galactic_latitude", False)
    assert lowered.columns["tier"] == "bronze"
    # The Fermi position is 24 deg away.
    assert assessed(demands=["cuts1"]).standing == "withheld.separation_fermi"


def test_luminosity_counts_where_a_distance_is_known() -> None:
    demands = [{"cut": "absolute_magnitude"}]
    assert assessed(demands=demands).standing == "passed"
    near, far = ((Neighbour("g", "galaxies", 1.0, distance_mpc=mpc),) for mpc in (40.0, 900.0))
    assert assessed(demands=demands, hosts=near).standing == "passed"
    assert assessed(demands=demands, hosts=far).standing == "withheld.absolute_magnitude"


STAR = Neighbour("gaia", "stars", 1.4, parallax_sigma=4.0, motion_sigma=-1.0)
QUASAR = Neighbour("milliquas", "agn", 0.3)
ALL_KINDS = frozenset(["stars", "agn", "transients", "variables", "minor_planets"])


def test_a_kind_that_has_nothing_near_is_infinitely_far_and_an_unasked_one_unknown() -> None:
    kinds = ["stars", "agn", "variables", "galaxies"]
    context = Context(kinds=frozenset(kinds), nearest=(STAR, QUASAR))
    found = known(matched(1, 2.0, 18.0), context=context)
    assert [found[f"near_kind.{kind}"] for kind in kinds] == [1.4, 0.3, math.inf, math.inf]
    in_nucleus = known(matched(1, 2.0, 18.0), context=replace(context, galaxy_arcsec=0.2))
    assert in_nucleus["near_kind.galaxies"] == 0.2
    assert "near_kind.transients" not in found


@pytest.mark.parametrize(
    ("nearest", "standing"),
    [
        ((), "passed"),
        ((STAR,), "withheld.known_star"),
        ((replace(STAR, separation_arcsec=1.6),), "passed"),
        ((Neighbour("m", "minor_planets", 4.9),), "withheld.known_minor_planet"),
        ((Neighbour("m", "minor_planets", 5.1),), "passed"),
        ((QUASAR, Neighbour("v", "variables", 0.1), Neighbour("t", "transients", 0.1)), "passed"),
        # One quasar in a hundred seems to move by three sigma.
        ((STAR, QUASAR), "passed"),
    ],
)
@pytest.mark.parametrize("name", ["grb", "neutrino", "gw_bbh"])
def test_known_stars_and_asteroids_are_withheld_by_default_and_nothing_else(
    name: str, nearest: tuple[Neighbour, ...], standing: str
) -> None:
    context = Context(kinds=ALL_KINDS, nearest=nearest)
    assert by_default(DEFAULT_CHAINS[name], context) == standing
    free = chains_with({name: {"demands": False}})[name]
    assert by_default(free, context) is None


@pytest.mark.parametrize(
    ("minutes", "standing"),
    [((0,), "withheld.known_minor_planet"), ((0, 20), "withheld.known_minor_planet"),
     ((0, 40), "passed"), ((-60 * 24 * 30, 0), "passed")],
)  # fmt: skip
def test_an_asteroid_that_passes_by_withholds_nothing_that_stays_where_it_is(
    minutes: tuple[int, ...], standing: str
) -> None:
    context = Context(kinds=ALL_KINDS, nearest=(Neighbour("m", "minor_planets", 0.5),))
    first = 0.5 + minutes[0] / 1440
    alerts = [
        matched(i, 0.5 + after / 1440, 18.0, first_detection_jd=T0_JD + first)
        for i, after in enumerate(minutes)
    ]
    chain = DEFAULT_CHAINS["neutrino"]
    made = assess(region(), chain, alerts, context, EventDistance(), Versions("c", "v"))
    assert made.standing == standing


def test_what_gaia_takes_for_a_moving_source_in_a_nucleus_is_told() -> None:
    context = Context(kinds=ALL_KINDS | {"galaxies"}, nearest=(STAR,), galaxy_arcsec=0.3)
    assert by_default(DEFAULT_CHAINS["grb"], context) == "passed"
    beside = replace(context, galaxy_arcsec=1.6)
    assert by_default(DEFAULT_CHAINS["grb"], beside) == "withheld.known_star"


def by_default(chain: Chain, context: Context) -> str | None:
    alerts = [matched(1, 0.5, 18.0, **UNKNOWN)]
    return assess(region(), chain, alerts, context, EventDistance(), Versions("c", "v")).standing


def test_without_a_catalogue_of_them_nothing_is_judged() -> None:
    """Neither counted, nor does it cost anything."""
    for kinds in (frozenset[str](), frozenset(["galaxies", "agn"])):
        context = Context(kinds=kinds, nearest=(QUASAR,))
        assert by_default(DEFAULT_CHAINS["grb"], context) is None


def test_what_passes_at_a_glance_is_what_the_columns_say(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Neighbour("m", "minor_planets", 9.0)
    cuts = ["known_star", {"cut": "far_from_kind", "kind": "minor_planets", "radius_arcsec": 5}]

    def standings() -> list[str | None]:
        return [
            assessed(demands=cuts, kinds=ALL_KINDS, nearest=nearest).standing
            for nearest in ((), (STAR,), (far,), (QUASAR,), (far, STAR))
        ]

    fast = standings()
    monkeypatch.setattr("crossmatch.candidate._may_fail", lambda *_: True)
    assert standings() == fast
    assert set(fast) == {"passed", "withheld.known_star"}


def test_what_is_near_a_kind_can_be_what_is_wanted() -> None:
    """That asks columns of what has nothing near too."""
    cuts = [{"cut": "far_from_kind", "kind": "agn", "not": True}]
    kinds = frozenset(["agn"])
    assert assessed(demands=cuts, kinds=kinds, nearest=(QUASAR,)).standing == "passed"
    assert assessed(demands=cuts, kinds=kinds).standing == "withheld.not_near_agn"
    assert assessed(demands=cuts).standing == "withheld.not_near_agn"


def test_what_people_confirmed_is_told_though_a_star_is_there() -> None:
    told = Verdict(
        verdict_id="v", counterpart_id="c", classification="afterglow", effect="confirm",
        stated="2017-08-19T00:00:00.000000Z",
    )  # fmt: skip
    context = Context(kinds=frozenset(["stars"]), nearest=(STAR,))
    alerts = [matched(1, 0.5, 18.0, **UNKNOWN)]
    made = assess(
        region(), DEFAULT_CHAINS["grb"], alerts, context, EventDistance(), Versions("c", "v"), told
    )
    assert (made.standing, made.columns["tier"]) == ("passed", "gold")
