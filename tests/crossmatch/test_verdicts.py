"""Which verdict holds, what each word does, and what is no verdict."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from crossmatch.errors import Rejected
from crossmatch.verdicts import (
    CLASSIFICATIONS,
    EFFECTS,
    MAX_LENGTHS,
    SYNONYMS,
    Verdict,
    checked,
    content_id,
    holding,
    known_word,
)

EARLY, LATE = "2026-01-31T00:00:00.000000Z", "2026-01-31T00:00:00.000001Z"


def verdict(**changed) -> Verdict:
    plain = {
        "verdict_id": "v-1", "counterpart_id": "MM-ZTF-ZTF17aaa", "classification": "supernova",
        "effect": "demote", "stated": EARLY,
    }  # fmt: skip
    return Verdict(**(plain | changed))


def test_the_latest_holds_in_any_order_of_arrival():
    said = [
        verdict(verdict_id="a"),
        verdict(verdict_id="b", stated=LATE),
        verdict(verdict_id="c", stated=LATE, event_id="other"),
    ]
    found = {holding(order, "E1").verdict_id for order in itertools.permutations(said)}
    assert found == {"b"}


def test_of_two_in_one_instant_the_greater_id_holds():
    said = [verdict(verdict_id="a"), verdict(verdict_id="b")]
    assert holding(said, "E1") == holding(said[::-1], "E1") == said[1]


def test_a_verdict_on_one_event_holds_for_no_other():
    said = [verdict(event_id="E1")]
    assert holding(said, "E1") == said[0]
    assert holding(said, "E2") is None


def test_a_later_word_on_all_events_replaces_one_on_a_single_event():
    one, all_ = verdict(event_id="E1"), verdict(verdict_id="v-2", stated=LATE)
    assert holding([one, all_], "E1") == all_


def test_unclear_takes_back():
    assert EFFECTS["unclear"] == "neutral"


def test_synonyms_lead_to_words_of_the_list():
    assert set(SYNONYMS.values()) <= set(CLASSIFICATIONS)
    assert not set(SYNONYMS) & set(CLASSIFICATIONS)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("supernova", "supernova"),
        (" SN ", "supernova"),
        ("SN Ic-BL", "ic_bl"),
        ("M dwarf", "flare"),
        ("supernov", None),
        ("", None),
    ],
)
def test_words_are_known_however_they_are_written(text, word):
    assert known_word(text) == word


def test_an_id_depends_on_where_one_part_ends():
    assert content_id("ab", "c") == content_id("ab", "c") != content_id("a", "bc")


def test_what_is_well_formed_passes_unchanged():
    good = verdict(note="Ia at z = 0.06 – “old”", classification="word_of_tomorrow")
    assert checked(good) == good


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"effect": "destroy"}, "unknown_effect"),
        ({"effect": ""}, "unknown_effect"),
        ({"verdict_id": ""}, "bad_verdict"),
        ({"counterpart_id": ""}, "bad_verdict"),
        ({"classification": ""}, "bad_verdict"),
        ({"classification": "Super Nova"}, "bad_verdict"),
        ({"note": "a\x00b"}, "bad_verdict"),
        ({"note": "\ufffe"}, "bad_verdict"),
        ({"author": "\x1b[31m"}, "bad_verdict"),
        ({"stated": ""}, "unknown_time"),
        ({"stated": "2026-01-31T00:00:00Z"}, "unknown_time"),
        ({"stated": "2026-02-31T00:00:00.000000Z"}, "unknown_time"),
        ({"stated": "2026-01-31T00:00:00.000000Z\n"}, "verdict_too_long"),
        ({"stated": "٢٠٢٦-01-31T00:00:00.000000Z"}, "unknown_time"),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_reason(changed, reason):
    with pytest.raises(Rejected) as caught:
        checked(verdict(**changed))
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", sorted(MAX_LENGTHS))
def test_every_text_has_a_longest_length(name):
    with pytest.raises(Rejected, match="verdict_too_long"):
        checked(replace(verdict(), **{name: "a" * (MAX_LENGTHS[name] + 1)}))
