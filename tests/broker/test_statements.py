"""What is said of a candidate, why, and how its statements follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from broker import fold
from broker.fold import STATEMENT_COLUMNS
from broker.judge import PacketDetail
from crossmatch.candidate import Versions
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.lightcurve import Detection
from crossmatch.verdicts import EFFECTS, Verdict

from .conftest import CUTS, T0, T0_JD, alert, alerts, engine_of, notice, record
from .runner import Runner

NONE = alerts([])
BRIGHT = alert(1, 150.0, 2.0, days=0.5)
LATER = alert(2, 150.0, 2.0, days=0.6, mag=19.0)
AWAY = alert(11, 151.5, 2.0, days=0.5)


def grb(event: str = "E1", serial: int = 1, ra: float = 150.0, radius: float = 3.0, **changed):
    return record(notice(event, serial, ra, 2.0, radius, **changed), serial)


def retraction(event: str = "E1", serial: int = 9, **changed):
    return grb(event, serial, alert_type="retraction", localization=None, **changed)


def verdict(word: str, minute: int = 0, event: str = "", thing: str = "ZTF240000000") -> Verdict:
    return Verdict(
        verdict_id=f"{word}-{minute}",
        counterpart_id=f"MM-ZTF-{thing}",
        classification=word,
        effect=EFFECTS[word],
        stated=f"2024-03-02T00:{minute:02d}:00.000000Z",
        note="as said",
        event_id=event,
    )


def told(statement: dict) -> tuple:
    return statement["alert_type"], statement["reason"], statement["cause"]


def test_a_candidates_history_has_no_gaps_and_names_reasons_causes_and_changes(runner):
    said = runner.step(alerts([BRIGHT]), [grb()])
    said += runner.step(alerts([LATER]))
    said += runner.step(NONE, (), [verdict("asteroid")])
    said += runner.step(NONE, [grb(serial=2, radius=2.0)])
    said += runner.step(NONE, [grb(serial=3, ra=30.0)])
    said += runner.play(NONE, [grb(serial=4)])
    said += runner.step(NONE, [retraction()])

    assert [told(s) for s in said] == [
        ("initial", "new_candidate", "ztf 1"),
        ("update", "new_alert", "ztf 2"),
        ("update", "verdict", "asteroid-0"),
        ("update", "region_revised", "ivo://test/E1#2"),
        ("retraction", "outside_revised_region", "ivo://test/E1#3"),
        ("update", "found_in_archive", "ivo://test/E1#4"),
        ("retraction", "event_retracted", "ivo://test/E1#9"),
    ]
    name = "MM-ZTF-ZTF240000000.E1."
    assert [s["candidate_id"] for s in said] == [f"{name}{n}" for n in range(1, 8)]
    assert [s["supersedes"] for s in said] == [None, *(f"{name}{n}" for n in range(1, 7))]
    assert [s["record_number"] for s in said] == list(range(1, 8))
    assert said[0]["changed"] == []
    assert {"alerts", "brightness"} <= set(said[1]["changed"])
    assert "verdict" in said[2]["changed"]
    assert "region" in said[3]["changed"]
    assert said[4]["changed"] == ["state"]
    assert said[5]["changed"][0] == "state"


def test_a_revision_withdraws_and_updates_in_the_very_batch_without_the_archive(runner):
    runner.play(alerts([BRIGHT, AWAY]), [grb()])
    runner.archive.reads.clear()
    said = runner.step(NONE, [grb(serial=2, radius=0.5)])
    assert [(s["id"][-1], s["state"]) for s in said] == [("1", "withdrawn"), ("0", "in_force")]
    assert runner.archive.reads == []
    assert list(runner.engine.searches) == [("E1", (False, ()))]


def test_alerts_that_a_revision_gains_come_by_the_search(runner):
    runner.play(alerts([BRIGHT, AWAY]), [grb(radius=0.5)])
    assert runner.step(NONE, [grb(serial=2)])[0]["id"][-1] == "0"
    (said,) = runner.search()
    assert (said["id"][-1], said["alert_type"]) == ("1", "initial")


def test_what_is_known_of_packets_stays_when_alerts_are_judged_anew():
    """They may have left Kafka since."""
    packets = [
        {("alerts.ztf", 0, 1): PacketDetail((Detection(T0_JD, "g", 17.0, 0.1, 20.0, True),), "ab")}
    ]

    def source(matched: Sequence) -> dict:
        return packets[0] if packets else {}

    runner = Runner(lambda archive, aside: engine_of(archive, aside=aside, packets=source))
    (first,) = runner.step(alerts([BRIGHT]), [grb()])
    packets.clear()
    (second,) = runner.play(NONE, [grb(serial=2, radius=2.0)])
    assert first["alert_sha256"] == second["alert_sha256"] == "ab"
    assert first["first_detection"] == second["first_detection"]


# --- alerts that their survey takes back ------------------------------------------------------


def gone(row: dict) -> dict:
    return row | {"withdrawn": True}


def test_an_alert_that_is_taken_back_leaves_its_candidates(runner):
    runner.step(alerts([BRIGHT, LATER]), [grb(), grb("E2", messenger="neutrino")])
    said = runner.step(alerts([gone(LATER)]))
    assert {(s["event_id"], *told(s), s["n_alerts"]) for s in said} == {
        ("E1", "update", "alert_withdrawn", "ztf 2", 1),
        ("E2", "update", "alert_withdrawn", "ztf 2", 1),
    }
    said = runner.step(alerts([gone(BRIGHT)]))
    assert {told(s) for s in said} == {("retraction", "alert_withdrawn", "ztf 1")}
    assert runner.counts["withdrawn"] == 2
    assert runner.step(alerts([gone(BRIGHT)])) == []
    assert runner.counts["duplicate"] == 1


@pytest.mark.parametrize("order", [[gone(BRIGHT), BRIGHT], [BRIGHT, gone(BRIGHT)]])
def test_taking_back_in_the_same_batch_or_before_the_alert_holds(order, runner):
    runner.step(NONE, [grb()])
    assert runner.step(alerts(order)) == []
    assert (runner.counts["withdrawn"], runner.counts["duplicate"]) == (1, 1)

    apart = Runner(runner.new_engine)
    for row in order:
        apart.step(alerts([row]), [grb()])
    assert apart.in_force() == {}
    apart.play(NONE, [grb("LATE")])
    assert apart.in_force() == {}


def test_a_late_region_does_not_find_what_was_taken_back(runner):
    runner.step(alerts([BRIGHT]))
    runner.step(alerts([gone(BRIGHT)]))
    assert runner.play(NONE, [grb()]) == []


def test_a_verdict_and_the_end_of_its_candidate_in_one_batch_say_why_it_ended(runner):
    runner.step(alerts([BRIGHT]), [grb()])
    (said,) = runner.step(alerts([gone(BRIGHT)]), (), [verdict("asteroid")])
    assert told(said) == ("retraction", "alert_withdrawn", "ztf 1")


# --- repeats ----------------------------------------------------------------------------------


def test_an_alert_of_another_night_under_a_known_number_is_counted_apart_and_not_kept(runner):
    runner.step(alerts([BRIGHT]), [grb()])
    other = BRIGHT | {"time_jd": BRIGHT["time_jd"] + 1.0, "mag": 15.0}
    assert runner.step(alerts([other])) == []
    assert runner.counts["duplicate_other_night"] == 1
    assert runner.play(NONE, [grb(serial=2, radius=2.9)])[0]["mag"] == 18.0
    (parts,) = runner.kafka.entries[1]["parts"]
    assert parts["night"] == "2024-03-02"


# --- verdicts ---------------------------------------------------------------------------------


def test_a_verdict_that_comes_before_its_candidate_is_told_with_it(runner):
    assert runner.step(NONE, (), [verdict("asteroid")]) == []
    runner.restart()
    (said,) = runner.step(alerts([BRIGHT]), [grb()])
    assert (said["reason"], said["verdict"], said["tier"]) == (
        "new_candidate",
        "asteroid",
        "bronze",
    )


def test_the_latest_verdict_holds_whatever_came_last_and_unclear_takes_it_back(runner):
    runner.step(alerts([BRIGHT]), [grb()])
    (first,) = runner.step(NONE, (), [verdict("asteroid", 5)])
    assert first["verdict_effect"] == "demote"
    assert runner.step(NONE, (), [verdict("afterglow", 4)]) == []
    (said,) = runner.step(NONE, (), [verdict("unclear", 6)])
    assert (said["verdict"], said["verdict_effect"]) == ("unclear", "neutral")
    assert runner.step(NONE, (), [verdict("unclear", 6)]) == []


def test_a_verdict_on_one_event_leaves_the_others_alone(runner):
    runner.step(alerts([BRIGHT]), [grb(), grb("E2", messenger="neutrino")])
    (said,) = runner.step(NONE, (), [verdict("asteroid", event="E2")])
    assert said["event_id"] == "E2"


def test_a_verdict_under_a_missions_name_holds_for_the_joint_event(runner):
    swift = grb("S1", radius=1.0, mission="Swift")
    runner.step(alerts([BRIGHT]), [swift])
    runner.step(NONE, (), [verdict("afterglow", event="S1")])
    runner.play(NONE, [grb("F1", trigger_time=T0 - timedelta(seconds=30))])
    ((_, statement),) = runner.in_force().items()
    assert (statement["event_id"], statement["verdict"]) == ("F1", "afterglow")


# --- events of several missions ---------------------------------------------------------------


def swift(serial: int = 1, radius: float = 1.0, **changed):
    return grb("S1", serial, radius=radius, mission="Swift", **changed)


def test_events_of_two_missions_become_one_with_the_smaller_region(runner):
    runner.step(alerts([BRIGHT, AWAY]), [grb()])
    said = runner.step(NONE, [swift()])
    assert [(s["id"][-1], *told(s)) for s in said] == [
        ("1", "retraction", "outside_revised_region", "ivo://test/S1#1"),
        ("0", "update", "region_revised", "ivo://test/S1#1"),
    ]
    assert said[1]["joint_events"] == ["E1", "S1"]
    assert (said[1]["event_id"], said[1]["ref_ID"]) == ("E1", "ivo://test/S1#1")


def test_an_event_that_joins_another_one_is_withdrawn_under_its_own_name(runner):
    runner.step(alerts([BRIGHT]), [swift(trigger_time=T0 + timedelta(minutes=1))])
    said = runner.play(NONE, [grb()])
    assert [(s["event_id"], *told(s)) for s in said] == [
        ("S1", "retraction", "event_merged", "ivo://test/E1#1"),
        ("E1", "initial", "found_in_archive", "ivo://test/S1#1"),
    ]


def test_a_wider_region_that_joins_is_told_and_changes_no_place(runner):
    runner.play(alerts([BRIGHT]), [grb(radius=1.0)])
    runner.archive.reads.clear()
    (said,) = runner.play(NONE, [swift(radius=3.0)])
    assert told(said) == ("update", "event_joined", "ivo://test/S1#1")
    assert said["changed"] == ["joint_events"]
    assert runner.archive.reads == []


def test_events_that_a_retraction_parts_stand_alone_again_and_name_it_as_the_cause(runner):
    chain = [
        grb("A", mission="Fermi"),
        grb("B", mission="Swift", trigger_time=T0 + timedelta(seconds=50), radius=2.0),
        grb("C", mission="EP", trigger_time=T0 + timedelta(seconds=100), radius=2.5),
    ]
    runner.play(alerts([BRIGHT]), chain)
    ((_, one),) = runner.in_force().items()
    assert (one["event_id"], one["joint_events"]) == ("A", ["A", "B", "C"])
    other = grb("Z", messenger="neutrino", ra=200.0)

    runner.play(NONE, [other, retraction("B", mission="Swift")])

    last = {s["event_id"]: s for s in runner.kafka.statements}
    assert {e: s["joint_events"] for e, s in last.items()} == {"A": [], "C": []}
    causes = {s["cause"] for s in runner.kafka.statements if s["record_number"] == 2}
    assert causes == {"ivo://test/B#9"}


@pytest.mark.parametrize(
    "changed",
    [{"significant": False}, {"role": "test"}, {"streams": ("ourteam",)}, {"messenger": "gw"}],
)
def test_subthreshold_tests_private_and_other_messengers_join_nothing(changed):
    runner = Runner(lambda archive, aside: engine_of(archive, aside=aside, include_tests=True))
    runner.step(alerts([BRIGHT]), [grb(), grb("S1", mission="Swift", radius=1.0, **changed)])
    assert {s["event_id"] for s in runner.in_force().values()} == {"E1", "S1"}
    assert all(s["joint_events"] == [] for s in runner.in_force().values())


# --- another selection ------------------------------------------------------------------------


def with_score(score: float):
    return lambda archive, aside: engine_of(
        archive,
        aside=aside,
        cuts=replace(CUTS, min_real_bogus=score),
        versions=Versions(cuts=f"{score}", code="test"),
    )


@pytest.mark.parametrize("crash_after", [None, 0, 1])
def test_stricter_cuts_withdraw_at_once_and_looser_ones_search(runner, crash_after):
    rows = [alert(10 * i + 1, 150.0, 2.0, real_bogus=0.4 + 0.2 * i) for i in range(3)]
    runner.play(alerts(rows), [grb()])
    assert len(runner.in_force()) == 2

    said = runner.reselect(with_score(0.7), crash_after=crash_after)
    assert {(s["id"][-1], *told(s)) for s in said} == {
        ("1", "retraction", "failed_cut", "selection 0.7"),
        ("2", "update", "selection_changed", "selection 0.7"),
    }
    assert runner.search() == []

    said = runner.reselect(with_score(0.3), crash_after=crash_after)
    assert [(s["id"][-1], s["changed"]) for s in said] == [("2", ["selection"])]
    runner.restart()
    assert {(s["id"][-1], s["record_number"]) for s in runner.search()} == {("0", 1), ("1", 3)}


def test_a_new_selection_drops_a_search_that_was_under_way_and_owes_it_anew(runner):
    runner.step(alerts([alert(1, 150.0, 2.0, real_bogus=0.4), alert(2, 150.0, 2.0, days=2.5)]))
    runner.step(NONE, [grb()])
    runner.search(parts=1)
    runner.reselect(with_score(0.3))
    runner.search()
    ((_, statement),) = runner.in_force().items()
    assert statement["n_alerts"] == 2


# --- columns ----------------------------------------------------------------------------------


def test_statement_columns_and_matters_are_columns():
    columns = {field.name for field in CANDIDATE_FIELDS}
    assert columns >= STATEMENT_COLUMNS
    for names in fold._MATTERS.values():
        assert columns >= set(names)
