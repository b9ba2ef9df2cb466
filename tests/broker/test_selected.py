"""What a chain demands of candidates: what fails is withheld or bronze, and counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker import ledger
from broker.groups import Group
from crossmatch.candidate import Context
from crossmatch.chains import chains_with
from crossmatch.neighbours import Neighbour
from crossmatch.remote import Answer, Remote, RemoteSource
from crossmatch.selections import selections_with

from .conftest import alert, alerts, engine_of, notice, record
from .runner import Runner
from .test_statements import grb, retraction, verdict

NONE = alerts([])
MINE = selections_with(
    {
        "twice": {"cuts": ["two_detections"]},
        "central": {"cuts": [{"cut": "separation", "max_sigma": 0.5}, "two_detections"]},
        "alone": {"cuts": [{"cut": "far_from", "catalog": "simbad", "radius_arcsec": 1.0}]},
        "steep": {"cuts": ["fading"]},
    }
)
FIRST = alert(1, 150.0, 2.0, days=0.5, first_detection_jd=None, n_detections=None)
SECOND = alert(2, 150.0, 2.0, days=0.6, first_detection_jd=None, n_detections=None)


def runner_with(remote: Remote | None = None, **demands: Any) -> Runner:
    chains = chains_with({"grb": demands}, MINE)
    more = {} if remote is None else {"remote": remote}
    return Runner(lambda archive, aside: engine_of(archive, aside=aside, chains=chains, **more))


def told(statements: list[dict]) -> list[tuple]:
    return [(s["alert_type"], s["reason"], s["cause"]) for s in statements]


def counted(runner: Runner) -> dict[str, int]:
    """Candidates that are judged, by how they stand, after the last entry."""
    names = ("judged", "passed", "withheld", "lowered")
    found: Counter[str] = Counter()
    for entry in runner.kafka.entries:
        assert ledger.candidate_hole(entry["counts"]) == 0
        assert ledger.part_holes({"kind": "alerts", **entry}) == {}
        found.update(entry["counts"])
        assert all(n >= 0 for n in found.values())
    return {k: n for k, n in found.items() if n and k.partition(".")[0] in names}


def test_what_fails_is_not_told_until_it_passes() -> None:
    runner = runner_with(demands="twice")
    assert runner.step(alerts([FIRST]), [grb()]) == []
    (said,) = runner.step(alerts([SECOND]))
    assert told([said]) == [("initial", "new_alert", "ztf 2")]
    assert (said["record_number"], said["n_alerts"]) == (1, 2)
    assert counted(runner) == {"judged": 1, "passed": 1}


def test_what_no_longer_passes_is_withdrawn_with_the_cut_and_may_come_back() -> None:
    runner = runner_with(demands="central")
    runner.play(alerts([FIRST, SECOND]), [grb()])
    said = runner.play(NONE, [grb(serial=2, ra=152.0)])
    assert counted(runner) == {"judged": 1, "withheld.separation": 1}
    said += runner.play(NONE, [grb(serial=3)])
    assert told(said) == [
        ("retraction", "failed_selection", "cut separation"),
        ("update", "region_revised", "ivo://test/E1#3"),
    ]
    assert [s["state"] for s in said] == ["withdrawn", "in_force"]
    assert said[0]["changed"] == ["state"]
    assert said[1]["changed"][0] == "state"
    assert counted(runner) == {"judged": 1, "passed": 1}


def test_a_withheld_candidate_survives_a_restart_and_is_counted_once() -> None:
    runner = runner_with(demands="twice")
    runner.step(alerts([FIRST]), [grb()])
    runner.restart()
    again = alert(3, 150.0, 2.0, days=0.501, first_detection_jd=None, n_detections=None)
    assert runner.step(alerts([again])) == []
    assert counted(runner) == {"judged": 1, "withheld.two_detections": 1}
    assert [s["record_number"] for s in runner.step(alerts([SECOND]))] == [1]
    assert counted(runner) == {"judged": 1, "passed": 1}


def test_nothing_stays_of_what_was_never_told() -> None:
    runner = runner_with(demands="twice")
    runner.step(alerts([FIRST]), [grb()])
    assert [name for name in runner.kafka.state if "ZTF" in name]
    assert runner.step(NONE, [retraction()]) == []
    assert list(runner.engine.groups) == []
    assert [name for name in runner.kafka.state if "ZTF" in name] == []
    assert counted(runner) == {}


def test_what_fails_a_demand_of_silver_is_bronze_and_says_why() -> None:
    plain, strict = runner_with(), runner_with(silver_demands="steep")
    for runner in (plain, strict):
        runner.play(alerts([FIRST, SECOND]), [grb()])
    tiers = [runner.kafka.statements[-1]["tier"] for runner in (plain, strict)]
    assert tiers == ["silver", "bronze"]
    assert "failed_fading" in strict.kafka.statements[-1]["factors"]
    assert counted(strict) == {"judged": 1, "lowered.fading": 1}
    assert counted(plain) == {}


def test_each_candidate_is_counted_once_by_its_tier_in_the_night_of_its_first_alert() -> None:
    runner = runner_with()

    def counts() -> dict[tuple[str, str], int]:
        found = ledger.placed(runner.kafka.entries)
        names = ((night, k, n) for (night, _), some in found.items() for k, n in some.items())
        return {
            (night, name): n
            for night, name, n in names
            if n and name.startswith(ledger.TOLD_PREFIX)
        }

    runner.step(alerts([FIRST]), [grb()])
    (first,) = runner.kafka.statements
    assert counts() == {("2024-03-01", f"told.{first['tier']}"): 1}
    (second,) = runner.step(alerts([alert(2, 150.0, 2.0, days=1.6)]))
    assert first["tier"] != second["tier"]
    assert counts() == {("2024-03-01", f"told.{second['tier']}"): 1}
    (third,) = runner.step(NONE, (), [verdict("afterglow")])
    assert third["tier"] == "gold"
    assert counts() == {("2024-03-01", "told.gold"): 1}
    assert runner.step(NONE, [retraction()])[0]["state"] == "withdrawn"
    assert counts() == {}


def test_people_go_before_cuts() -> None:
    runner = runner_with(demands="twice")
    runner.step(alerts([FIRST]), [grb()])
    (said,) = runner.step(NONE, (), [verdict("afterglow")])
    assert (said["alert_type"], said["tier"]) == ("initial", "gold")
    assert counted(runner) == {"judged": 1, "passed": 1}


@pytest.mark.parametrize(("away", "state"), [(0.4, "withdrawn"), (1.2, "in_force")])
def test_the_answer_of_a_catalogue_may_withdraw(away: float, state: str) -> None:
    runner = runner_with(Remote(("simbad",), 2.0), demands="alone")
    (first,) = runner.step(alerts([FIRST]), [grb()])
    assert first["looked_up"] == "simbad:not_looked_up"
    source = RemoteSource("S", "Star", 150.0, 2.0 + away / 3600, away)
    answer = Answer(
        first["counterpart_id"], "simbad", "2024-03-02", 150.0, 2.0, 4.0,
        "2024-03-02T00:00:00.000000Z", "xmatch", (source,),
    )  # fmt: skip
    (said,) = runner.step(NONE, (), (), [answer])
    assert said["state"] == state
    if state == "withdrawn":
        assert told([said]) == [("retraction", "failed_selection", "cut far_from")]


STAR = Neighbour("gaia", "stars", 0.5, parallax_sigma=9.0)


class Sky:
    """A catalogue of stars that may be replaced."""

    def __init__(self, *nearest: Neighbour) -> None:
        self.context = Context(("gaia",), kinds=frozenset(["stars"]), nearest=nearest)

    def replaced(self, *nearest: Neighbour) -> None:
        self.context = replace(self.context, nearest=nearest, catalog_versions=("gaia@2",))

    def __call__(self, ra: Any, *_: Any) -> list[Context]:
        return [self.context] * len(ra)

    def runner(self, **demands: Any) -> Runner:
        chains = chains_with({"grb": demands}, MINE)
        return Runner(
            lambda archive, aside: engine_of(archive, aside=aside, chains=chains, lookup=self)
        )


def test_by_default_a_known_star_is_withheld_and_counted() -> None:
    runner = Sky(STAR).runner()
    assert runner.step(alerts([FIRST]), [grb()]) == []
    assert counted(runner) == {"judged": 1, "withheld.known_star": 1}
    runner = Sky().runner()
    assert len(runner.step(alerts([FIRST]), [grb()])) == 1
    assert counted(runner) == {"judged": 1, "passed": 1}


@pytest.mark.parametrize("demands", [False, "twice"])
def test_demands_of_ones_own_stand_for_the_default(demands: Any) -> None:
    runner = Sky(STAR).runner(demands=demands)
    runner.step(alerts([FIRST, SECOND]), [grb()])
    assert runner.kafka.statements[-1]["star_distance"] == 0.5


def test_what_a_new_version_of_a_catalogue_shows_to_be_a_star_is_withdrawn() -> None:
    sky = Sky()
    runner = sky.runner()
    runner.step(alerts([FIRST]), [grb()])
    sky.replaced(STAR)
    # With the next alert, or when all that is open is judged anew.
    (said,) = runner.step(alerts([SECOND]))
    assert told([said]) == [("retraction", "failed_selection", "cut known_star")]
    sky.replaced()
    (said,) = runner.reselect(runner.new_engine)
    assert (said["alert_type"], said["state"], said["n_alerts"]) == ("update", "in_force", 2)
    sky.replaced(STAR)
    (said,) = runner.reselect(runner.new_engine)
    assert told([said]) == [("retraction", "failed_selection", "cut known_star")]
    assert counted(runner) == {"judged": 1, "withheld.known_star": 1}


def test_a_change_of_demands_withdraws_and_brings_back() -> None:
    runner = runner_with()
    runner.play(alerts([FIRST]), [grb()])
    strict, free = runner_with(demands="twice").new_engine, runner.new_engine
    runner.reselect(strict)
    assert runner.kafka.statements[-1]["state"] == "withdrawn"
    runner.reselect(free)
    assert runner.kafka.statements[-1]["state"] == "in_force"


def test_as_what_a_candidate_is_counted_is_part_of_the_state() -> None:
    runner = runner_with()
    runner.step(alerts([FIRST]), [grb()])
    (state,) = (json.loads(v) for k, v in runner.kafka.state.items() if "ZTF" in k)
    assert state["group"]["counted"] == ["2024-03-01", None, "bronze"]
    del state["group"]["counted"]
    assert Group.from_json(state["group"]).counted is None


def test_the_order_of_alerts_and_notices_does_not_matter() -> None:
    late, early = runner_with(demands="central"), runner_with(demands="central")
    late.play(alerts([FIRST]), [grb(ra=152.0)])
    late.play(alerts([SECOND]))
    late.play(NONE, [grb(serial=2)])
    early.play(NONE, [record(notice("E1", 2, 150.0, 2.0, 3.0), 2)])
    early.play(alerts([SECOND, FIRST]))
    (one,), (other,) = late.in_force().values(), early.in_force().values()
    names = ("tier", "score", "factors", "n_alerts", "separation", "first_detection")
    assert [one[n] for n in names] == [other[n] for n in names]
