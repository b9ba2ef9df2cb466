"""Events that are over leave the memory; what is heard of them later brings them back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossmatch.candidate import Versions
from crossmatch.model import Window
from crossmatch.verdicts import Verdict

from .conftest import CUTS, T0_JD, alert, alerts, engine_of, notice, record
from .runner import Runner

NONE = alerts([])
OVER = T0_JD + 30.0


def grb(event: str, serial: int = 1, ra: float = 150.0, radius: float = 3.0, **changed):
    return record(notice(event, serial, ra, 2.0, radius, **changed), serial)


def retraction(event: str, serial: int, **changed):
    return grb(event, serial, alert_type="retraction", localization=None, **changed)


def verdict(thing: str = "ZTF240000000") -> Verdict:
    return Verdict(
        verdict_id="v1",
        counterpart_id=f"MM-ZTF-{thing}",
        classification="asteroid",
        effect="demote",
        stated="2024-03-05T00:00:00.000000Z",
    )


@pytest.fixture
def closed(runner: Runner) -> Runner:
    """An event with a candidate, put aside."""
    runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1")])
    runner.close(OVER)
    return runner


def test_what_is_over_leaves_memory_index_and_state_topic(closed):
    engine = closed.engine
    assert closed.kafka.state == {}
    assert len(engine.groups) == len(engine.events.families) == 0
    assert len(engine._index) == 0
    assert engine.events.in_force() == []
    assert engine.events._versions._events == {}
    assert engine.events._versions._withdrawals == {}
    assert engine.events._at_minute == {}
    assert closed.kafka.entries[-1]["counts"] == {"events_closed": 1}
    # Its candidate stays in force: nobody said otherwise.
    assert len(closed.in_force()) == 1


def test_what_is_not_over_or_owes_a_search_stays(runner):
    runner.step(alerts([alert(1, 150.0, 2.0)]))
    runner.step(NONE, [grb("E1")])
    runner.close(OVER)
    runner.close(T0_JD + 19.0)
    assert len(runner.engine.events.in_force()) == 1
    runner.search()
    runner.close(T0_JD + 19.0)
    assert len(runner.engine.events.in_force()) == 1
    runner.close(OVER)
    assert runner.engine.events.in_force() == []
    before = runner.kafka.step
    runner.close(OVER)
    assert runner.kafka.step == before, "closing nothing is no step"


def test_a_late_alert_brings_the_event_back_and_goes_on_with_its_history(closed):
    (said,) = closed.step(alerts([alert(2, 150.0, 2.0, days=2.0)]))
    assert (said["record_number"], said["alert_type"], said["n_alerts"]) == (2, "update", 2)
    assert said["supersedes"] == "MM-ZTF-ZTF240000000.E1.1"


def test_an_alert_of_another_time_brings_nothing_back(closed):
    closed.step(alerts([alert(11, 150.0, 2.0, days=40.0)]))
    assert closed.engine.events.in_force() == []


def test_an_alert_of_years_ago_brings_nothing_back_that_was_since(closed):
    old, new = alert(11, 150.0, 2.0, days=-2000.0), alert(21, 150.0, 2.0, days=40.0)
    closed.step(alerts([old, new]))
    assert closed.engine.events.in_force() == []


def test_a_late_revision_or_retraction_brings_it_back(closed):
    (said,) = closed.play(NONE, [grb("E1", 2, radius=1.0)])
    assert (said["reason"], said["record_number"]) == ("region_revised", 2)
    closed.close(OVER)
    (said,) = closed.step(NONE, [retraction("E1", 3)])
    assert (said["reason"], said["record_number"]) == ("event_retracted", 3)
    closed.close(OVER)
    assert closed.play(NONE, [grb("E1", 1)]) == [], "what was taken back stays so"


def test_a_retraction_that_only_cites_the_notice_brings_it_back(closed):
    cites = retraction("OTHER", 9, retracts=("ivo://test/E1#1",))
    (said,) = closed.step(NONE, [cites])
    assert (said["event_id"], said["state"], said["cause"]) == (
        "E1",
        "withdrawn",
        "ivo://test/OTHER#9",
    )


def test_another_missions_notice_of_the_same_burst_brings_it_back(closed):
    said = closed.play(NONE, [grb("S1", radius=0.5, mission="Swift")])
    assert [(s["event_id"], s["joint_events"]) for s in said] == [("E1", ["E1", "S1"])]


def test_a_verdict_brings_it_back(closed):
    (said,) = closed.step(NONE, (), [verdict()])
    assert (said["reason"], said["cause"], said["verdict"]) == ("verdict", "v1", "asteroid")


def test_an_alert_that_is_taken_back_brings_it_back_at_whatever_time(closed):
    row = alert(1, 150.0, 2.0, days=300.0, withdrawn=True)
    (said,) = closed.step(alerts([row]))
    assert (said["state"], said["reason"]) == ("withdrawn", "alert_withdrawn")


def test_a_retraction_that_came_before_everything_is_remembered_when_put_aside(runner):
    runner.step(NONE, [retraction("E1", 5)])
    runner.close(OVER)
    assert len(runner.engine.events.families) == 0
    assert runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1", 1)]) == []
    assert runner.in_force() == {}


def test_a_burst_that_joined_another_is_put_aside_and_comes_back_with_it(runner):
    swift = grb("S1", radius=0.5, mission="Swift", window=Window(0.0, 5.0))
    runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1"), swift])
    runner.close(T0_JD + 10.0)
    assert len(runner.engine.events.in_force()) == 1, "E1 is not over"
    runner.close(OVER)
    assert runner.engine.events.in_force() == []
    (said,) = runner.play(NONE, [retraction("S1", 2, mission="Swift")])
    assert (said["event_id"], said["joint_events"]) == ("E1", [])


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_crash_while_closing_leaves_either_all_or_nothing_aside(runner, is_committed):
    runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1")])
    runner.close(OVER, crash=not is_committed)
    runner.restart()
    assert len(runner.engine.groups) == (0 if is_committed else 1)
    assert len(runner.engine.events.in_force()) == (0 if is_committed else 1)
    (said,) = runner.step(alerts([alert(2, 150.0, 2.0, days=2.0)]))
    assert (said["record_number"], said["n_alerts"]) == (2, 2)


def test_a_crash_between_taking_back_and_the_commit_loses_nothing(closed):
    (said,) = closed.step(alerts([alert(2, 150.0, 2.0, days=2.0)]), crash=True)
    assert (said["record_number"], said["n_alerts"]) == (2, 2)
    closed.restart()
    assert len(closed.engine.groups) == 1
    closed.close(OVER)
    closed.restart()
    (said,) = closed.step(NONE, [retraction("E1", 2)])
    assert said["record_number"] == 3


def test_what_was_put_aside_under_another_selection_is_judged_anew_when_it_comes_back(runner):
    rows = [alert(1, 150.0, 2.0, real_bogus=0.6), alert(11, 150.1, 2.0)]
    faint = alert(21, 150.2, 2.0, real_bogus=0.4)
    runner.play(alerts([*rows, faint]), [grb("E1")])
    runner.close(OVER)

    def with_score(score: float, name: str):
        return lambda archive, aside: engine_of(
            archive,
            aside=aside,
            cuts=replace(CUTS, min_real_bogus=score),
            versions=Versions(cuts=name, code="test"),
        )

    assert runner.reselect(with_score(0.8, "strict")) == []
    said = runner.play(alerts([alert(31, 150.3, 2.0)]))
    assert {(s["id"][-1], s["reason"]) for s in said} == {
        ("0", "failed_cut"),
        ("1", "selection_changed"),
        ("3", "new_candidate"),
    }
    runner.close(OVER)
    runner.reselect(with_score(0.3, "loose"))
    said = runner.play(NONE, (), [verdict()])
    assert {s["id"][-1] for s in runner.in_force().values()} == {"0", "1", "2", "3"}
    assert {s["cuts_version"] for s in runner.in_force().values()} == {"loose"}


def test_a_month_of_events_leaves_the_memory_flat(runner):
    sizes = []
    for day in range(30):
        short = {"window": Window(0.0, 1.0), "trigger_time": notice("X", 1, 0, 0, 1).issued}
        short["trigger_time"] = short["trigger_time"].replace(day=1 + day)
        runner.play(
            alerts([alert(10 * day + 1, 150.0, 2.0, days=day + 0.5)]),
            [grb(f"E{day}", **short)],
        )
        runner.close(T0_JD + day - 2.0)
        engine = runner.engine
        held = (engine.groups, engine.events.families, engine._index, engine.events._at_minute)
        sizes.append([*map(len, held), len(runner.kafka.state)])
    assert len(runner.in_force()) == 30
    assert max(sizes[5:]) <= max(sizes[:5])
