"""Statements become counterparts, each with its events and their histories."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from crossmatch.errors import ConfigError
from gateway.offline.counterparts import (
    Selection,
    find,
    find_event,
    grouped,
    selected,
    simultaneous,
    summary,
)
from tests.gateway.candidatefiles import statement

NOW = datetime(2017, 9, 15, tzinfo=UTC)
BURST = {"event_id": "Fermi_1", "messenger": "grb", "tier": "bronze", "score": 0.4}
WITHDRAWN = {"state": "withdrawn", "alert_type": "retraction"}


def test_an_object_of_two_events_is_one_counterpart_with_two_tracks():
    (one,) = grouped([statement(**BURST), statement(number=1), statement(number=2)])
    assert one.counterpart_id == "MM-ZTF-ZTF17aabcdef"
    assert [(t.event_id, len(t.statements)) for t in one.tracks] == [
        ("GW170817", 2),
        ("Fermi_1", 1),
    ]


def test_the_order_of_the_statements_does_not_matter():
    said = [
        *(statement(number=n) for n in range(1, 6)),
        statement(**BURST),
        statement("ZTF17bbb"),
        statement("ZTF17bbb", number=2, **WITHDRAWN),
    ]
    expected = grouped(said)
    for seed in range(5):
        shuffled = random.Random(seed).sample(said, len(said))
        assert grouped(shuffled) == expected
    assert expected[0].best.latest["record_number"] == 5


def test_copies_for_several_streams_count_once():
    copies = [
        statement(event_id="a+b:E", streams=["a", "b"], stream=f"mm.private.{s}.candidates.gw")
        for s in ("a", "b")
    ]
    assert len(grouped(copies)[0].best.statements) == 1


def test_a_test_event_of_the_same_name_is_another_event():
    (one,) = grouped([statement(), statement(role="test", number=1)])
    assert len(one.tracks) == 2


def test_the_best_tier_comes_first_then_the_score_and_what_was_withdrawn_last():
    said = [
        statement("a", tier="silver", score=1.9),
        statement("b", tier="gold", score=2.1),
        statement("c", tier="gold", score=2.9, **WITHDRAWN),
        statement("d", tier="gold", score=2.5),
    ]
    assert [c.counterpart_id[-1] for c in grouped(said)] == ["d", "b", "a", "c"]


def test_place_and_brightness_are_of_the_latest_measurement_of_whatever_event():
    (one,) = grouped([statement(mag=17.0), statement(number=3, mag=18.5, **BURST)])
    assert one.best.event_id == "GW170817"
    assert summary(one, NOW)["mag"] == 18.5


def names(found) -> list[str]:
    return [c.counterpart_id.rpartition("-")[2] for c in found]


SAID = (
    statement("gold", tier="gold", score=2.5),
    statement("gold", **BURST),
    statement("bronze", tier="bronze", score=0.5, alert_datetime="2017-08-20T00:00:00.000000Z"),
    statement("gone", **WITHDRAWN),
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["gold", "bronze"]),
        ({"tier": "silver"}, ["gold"]),
        ({"event": "Fermi_1"}, ["gold"]),
        ({"event": "Fermi_1", "tier": "silver"}, []),
        ({"state": "withdrawn"}, ["gone"]),
        ({"state": "all"}, ["gold", "bronze", "gone"]),
        ({"since": "2017-08-19T00:00:00.000000Z"}, ["bronze"]),
    ],
)
def test_counterparts_are_chosen_by_event_tier_state_and_time(asked, expected):
    assert names(selected(grouped(SAID), Selection(**asked))) == expected


def test_of_an_event_asked_for_its_track_stands_first_and_the_others_stay():
    (one,) = selected(grouped(SAID), Selection(event="Fermi_1"))
    assert [t.event_id for t in one.tracks] == ["Fermi_1", "GW170817"]


def test_a_withdrawn_track_is_not_shown_among_those_in_force():
    said = [statement(), statement(**BURST | WITHDRAWN)]
    (in_force,) = selected(grouped(said), Selection())
    (all_,) = selected(grouped(said), Selection(state="all"))
    assert (len(in_force.tracks), len(all_.tracks)) == (1, 2)


def test_a_joint_event_is_found_by_the_names_of_all_its_missions():
    known = grouped([statement(event_name="GRB 170817A", joint_events=["Fermi_1", "INTEGRAL_2"])])
    for name in ("GW170817", "GRB 170817A", "INTEGRAL_2"):
        assert find_event(known[0], name).event_id == "GW170817"
        assert selected(known, Selection(event=name)) == known


def test_a_counterpart_is_found_by_its_id_and_by_its_object():
    known = grouped(SAID)
    assert find(known, "MM-ZTF-gold") is find(known, "gold")


def test_an_object_of_two_surveys_must_be_said_in_full():
    known = grouped([statement("123"), statement("123", survey="lsst")])
    with pytest.raises(ConfigError, match="say MM-LSST-123 or MM-ZTF-123"):
        find(known, "123")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("ztf17AABCDEF", "did you mean ZTF17aabcdef[?]"),
        ("ZTF17aabcdeg", "did you mean ZTF17aabcdef[?]"),
        ("MM-ZTF-ZTF17aabcdeg", "did you mean MM-ZTF-ZTF17aabcdef[?]"),
        ("q", "candidates list --state all"),
    ],
)
def test_an_unknown_counterpart_is_refused_with_what_may_be_meant(asked, hint):
    with pytest.raises(ConfigError, match=hint):
        find(grouped([statement()]), asked)


def test_an_event_that_it_does_not_belong_to_is_refused_with_those_that_it_does():
    (one,) = grouped([statement()])
    with pytest.raises(ConfigError, match="no event 'GW1', but to GW170817"):
        find_event(one, "GW1")


def test_triggers_within_a_minute_may_be_one_event():
    near = {"event_trigger_time": "2017-08-17T12:41:06.475Z"}
    far = {"event_trigger_time": "2017-08-17T12:43:00.000Z"}
    merger = grouped([statement(), statement(**BURST | near)])[0].tracks
    chance = grouped([statement(), statement(**BURST | far)])[0].tracks
    assert simultaneous(merger)
    assert not simultaneous(chance)
    assert simultaneous([])


OPEN = {"expires": "2017-09-30T00:00:00.000Z"}


def test_what_has_expired_comes_last_and_is_left_out_of_what_is_live():
    said = [
        statement("old", tier="gold", score=3.0),
        statement("new", tier="bronze", **OPEN),
        statement("both", tier="gold"),
        statement("both", tier="silver", event_id="Fermi_1", **OPEN),
    ]
    known = grouped(said)
    assert names(selected(known, Selection(now=NOW))) == ["both", "new", "old"]
    assert names(selected(known, Selection(now=NOW, live=True))) == ["both", "new"]
    both = selected(known, Selection(now=NOW))[0]
    assert [t.event_id for t in both.tracks] == ["Fermi_1", "GW170817"]


def test_the_summary_says_for_each_event_whether_it_has_expired():
    (one,) = grouped([statement(), statement(event_id="Fermi_1", **OPEN)])
    told = summary(one, NOW)
    assert told["expired"] is False
    assert {e["event_id"]: e["expired"] for e in told["events"]} == {
        "GW170817": True,
        "Fermi_1": False,
    }
    assert summary(one, NOW.replace(year=2018))["expired"] is True


@pytest.mark.parametrize(("second", "expired"), [(3, False), (4, True)])
def test_a_window_closes_at_the_very_time_it_expires(second: int, expired: bool):
    (one,) = grouped([statement()])
    assert one.best.expired(datetime(2017, 8, 31, 12, 41, second, tzinfo=UTC)) is expired
