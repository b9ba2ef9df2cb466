"""Verdicts are made of what people say, and what they will do is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from broker.verdictlog import encode_verdict
from crossmatch.errors import ConfigError
from crossmatch.verdicts import CLASSIFICATIONS, Verdict
from gateway.offline.counterparts import Track, grouped
from gateway.offline.verdicts import Log, consequence, new_verdict, read_log, touched
from tests.gateway.candidatefiles import statement

NOW = datetime(2017, 8, 19, 1, 2, 3, 45, tzinfo=UTC)
ID = "MM-ZTF-ZTF17aabcdef"


def given(word: str = "supernova", **changed) -> Verdict:
    return new_verdict(ID, word, **{"now": NOW} | changed)


def test_the_class_gives_the_effect_unless_it_is_said():
    assert given("sn").classification == "supernova"
    assert given("sn").effect == "demote"
    assert given("sn", effect="confirm").effect == "confirm"


def test_the_same_words_at_the_same_time_are_the_same_verdict():
    assert given() == given()
    later = given(now=NOW + timedelta(microseconds=1))
    others = [given(note="Ia"), given("agn"), given(event_id="E"), later]
    assert len({v.verdict_id for v in (given(), *others)}) == 5


def test_times_are_utc_to_the_microsecond_so_that_texts_sort_as_times():
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    assert given(now=east).stated == "2017-08-19T01:02:03.000045Z"


def test_an_unknown_word_is_refused_with_the_nearest_and_all():
    with pytest.raises(ConfigError) as caught:
        given("supernov")
    sentence = str(caught.value)
    assert "did you mean supernova" in sentence
    assert all(word in sentence for word in CLASSIFICATIONS)


def test_a_note_without_end_is_refused():
    with pytest.raises(ConfigError, match="note: 3000 characters, at most 2000"):
        given(note="n" * 3000)


def test_it_touches_what_is_in_force_of_all_events_or_of_one():
    (one,) = grouped(
        [
            statement(),
            statement(event_id="Fermi_1"),
            statement(event_id="Swift_2", state="withdrawn"),
        ]
    )
    assert {t.event_id for t in touched(given(), one)} == {"GW170817", "Fermi_1"}
    assert {t.event_id for t in touched(given(event_id="Fermi_1"), one)} == {"Fermi_1"}


@pytest.mark.parametrize(
    ("word", "said", "sentence"),
    [
        ("supernova", {"tier": "gold"}, "falls from gold to bronze"),
        ("supernova", {"tier": "bronze"}, "stays bronze"),
        ("kilonova", {"tier": "silver"}, "rises from silver, to gold if its chain may"),
        ("kilonova", {"tier": "gold"}, "stays gold"),
        ("kilonova", {"tier": "silver", "role": "test"}, "stays silver: the event is a test"),
        ("tde", {"tier": "silver"}, "stays silver"),
        (
            "unclear",
            {"tier": "bronze", "verdict_effect": "demote"},
            "is bronze; will be as the rules say",
        ),
    ],
)
def test_what_it_will_do_is_told(word, said, sentence):
    assert consequence(given(word), Track((statement(**said),))) == sentence


def test_the_log_has_each_id_once_and_counts_what_is_no_verdict():
    messages = [encode_verdict(given()), b"rubbish", encode_verdict(given())]
    assert read_log(messages) == Log((given(),), 1)


def test_a_verdict_holds_while_some_event_heeds_it():
    one = given(event_id="E1")
    all_ = given("host", now=NOW + timedelta(seconds=1))
    other = given("agn", now=NOW + timedelta(seconds=2), event_id="E2")
    assert Log((one, all_, other)).holds() == {all_.verdict_id, other.verdict_id}
    assert Log((one, other)).holds() == {one.verdict_id, other.verdict_id}
