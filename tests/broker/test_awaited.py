"""Answers of catalogues elsewhere in the steps: what awaits them, and what they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.awaited import Question
from broker.groups import Group
from crossmatch.remote import Answer, Remote, RemoteSource

from .conftest import T0_JD, alert, alerts, engine_of, notice, record
from .runner import Runner

NONE = alerts([])
OVER = T0_JD + 30.0
SIMBAD = Remote(("simbad",))
ASKED = Question("simbad", "MM-ZTF-ZTF240000000", 150.0, 2.0)
STAR = RemoteSource("S1", "Star", 150.0, 2.0 + 0.5 / 3600, 0.5)
ANSWER = Answer(
    "MM-ZTF-ZTF240000000",
    "simbad",
    "2024-03-02",
    150.0,
    2.0,
    2.0,
    "2024-03-02T00:00:00.000000Z",
    "xmatch",
    (STAR,),
)
TEXT = "simbad: 0.50 arcsec, S1, Star"


def grb(event: str, serial: int = 1, ra: float = 150.0, **changed):
    return record(notice(event, serial, ra, 2.0, 3.0, **changed), serial)


def asking(remote: Remote = SIMBAD):
    return lambda archive, aside: engine_of(archive, aside=aside, remote=remote)


@pytest.fixture
def runner() -> Runner:
    """A matcher that asks Simbad."""
    return Runner(asking())


@pytest.fixture
def said(runner: Runner) -> Runner:
    """With one candidate, which awaits an answer."""
    runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1")])
    return runner


def awaited(runner: Runner) -> list[Question]:
    return runner.engine.awaited.questions()


def test_candidate_goes_out_at_once_and_awaits_an_answer(said: Runner) -> None:
    (statement,) = said.kafka.statements
    assert (statement["looked_up"], statement["nearby"]) == ("simbad:not_looked_up", None)
    assert awaited(said) == [ASKED]
    said.restart()
    assert awaited(said) == [ASKED]


def test_answer_is_an_update_that_says_why(said: Runner) -> None:
    (statement,) = said.step(NONE, lookups=[ANSWER])
    assert (statement["reason"], statement["cause"]) == ("looked_up", "simbad@2024-03-02")
    assert (statement["alert_type"], statement["changed"]) == ("update", ["host"])
    assert (statement["looked_up"], statement["nearby"]) == ("simbad", [TEXT])
    assert statement["catalog_versions"] == ["simbad@2024-03-02"]
    assert awaited(said) == []
    said.restart()
    assert awaited(said) == []


def test_same_answer_twice_says_nothing_new(said: Runner) -> None:
    said.step(NONE, lookups=[ANSWER, ANSWER])
    assert said.step(NONE, lookups=[ANSWER]) == []
    assert said.counts["lookups"] == 3


def test_later_answer_is_a_new_statement_and_an_older_one_is_none(said: Runner) -> None:
    later = replace(ANSWER, version="2024-03-03", answered="2024-03-03T00:00:00.000000Z")
    (first,) = said.step(NONE, lookups=[later])
    assert first["catalog_versions"] == ["simbad@2024-03-03"]
    assert said.step(NONE, lookups=[ANSWER]) == []


def test_answer_that_came_before_its_candidate_holds(runner: Runner) -> None:
    runner.step(NONE, lookups=[ANSWER])
    runner.restart()
    (statement,) = runner.play(alerts([alert(1, 150.0, 2.0)]), [grb("E1")])
    assert (statement["looked_up"], statement["nearby"]) == ("simbad", [TEXT])


def test_crash_between_step_and_commit_says_it_once(said: Runner) -> None:
    (statement,) = said.step(NONE, lookups=[ANSWER], crash=True)
    assert statement["record_number"] == 2


def test_all_events_of_an_object_hear_of_its_answer(said: Runner) -> None:
    said.play(NONE, [grb("E2", mission="LVC", messenger="gw")])
    assert awaited(said) == [ASKED], "one question for both"
    statements = said.step(NONE, lookups=[ANSWER])
    assert {s["event_id"] for s in statements} == {"E1", "E2"}


def test_next_alert_beside_it_has_its_answer_with_its_own_distance(said: Runner) -> None:
    said.step(NONE, lookups=[ANSWER])
    beside = alert(2, 150.0, 2.0 + 0.2 / 3600, days=2.0)
    (statement,) = said.step(alerts([beside]))
    assert statement["nearby"] == [TEXT.replace("0.50", "0.30")]
    assert awaited(said) == []


def test_place_that_the_answer_does_not_cover_awaits_one_of_its_own(said: Runner) -> None:
    said.step(NONE, lookups=[ANSWER])
    (statement,) = said.step(alerts([alert(2, 150.0, 2.0 + 1.2 / 3600, days=2.0)]))
    assert (statement["looked_up"], statement["nearby"]) == ("simbad:not_looked_up", None)
    assert [q.dec_deg for q in awaited(said)] == [2.0 + 1.2 / 3600]


def test_what_is_withdrawn_awaits_nothing(said: Runner) -> None:
    said.step(NONE, [grb("E1", 2, alert_type="retraction", localization=None)])
    assert awaited(said) == []
    assert said.step(NONE, lookups=[ANSWER]) == []
    assert said.in_force() == {}


def test_event_is_not_put_aside_while_an_answer_is_awaited(said: Runner) -> None:
    said.close(OVER)
    assert awaited(said) == [ASKED]
    said.step(NONE, lookups=[ANSWER])
    said.close(OVER)
    assert said.engine.put_aside == 1
    assert said.kafka.state == {}


def test_event_that_was_put_aside_hears_of_a_later_answer(said: Runner) -> None:
    said.step(NONE, lookups=[replace(ANSWER, sources=())])
    said.close(OVER)
    later = replace(ANSWER, version="2024-03-09", answered="2024-03-09T00:00:00.000000Z")
    (statement,) = said.step(NONE, lookups=[later])
    assert (statement["record_number"], statement["nearby"]) == (3, [TEXT])
    assert said.engine.put_aside == 0


def test_candidate_that_was_made_ahead_is_made_anew_when_an_answer_comes_meanwhile(
    runner: Runner,
) -> None:
    runner.step(alerts([alert(1, 150.0, 2.0)]))
    runner.step(NONE, [grb("E1")])
    runner.search(meanwhile=lambda: runner.step(NONE, lookups=[ANSWER]))
    (statement,) = runner.in_force().values()
    assert statement["looked_up"] == "simbad"


def test_change_of_what_is_asked_is_a_change_of_the_rules(said: Runner) -> None:
    before = said.engine.rules
    (now,) = said.reselect(asking(Remote(("simbad", "vizier:t"))))
    assert said.engine.rules != before
    assert now["looked_up"] == "simbad:not_looked_up,vizier:t:not_looked_up"
    assert [q.catalog for q in awaited(said)] == ["simbad", "vizier:t"]
    (now,) = said.reselect(asking(Remote()))
    assert now["looked_up"] == "not_looked_up"
    assert awaited(said) == []


def test_answer_of_a_catalogue_that_is_not_asked_touches_nothing(said: Runner) -> None:
    assert said.step(NONE, lookups=[replace(ANSWER, catalog="vizier:t")]) == []
    assert said.kafka.entries[-1]["counts"] == {"lookups": 1}


def test_states_of_earlier_versions_are_read() -> None:
    data = Group().to_json()
    data["context"] = {"looked_up": ["g"], "host_name": "NGC 1", "hosts": [["NGC 1", 40.0, 1.0]]}
    assert Group.from_json(data).not_looked_up == ()
