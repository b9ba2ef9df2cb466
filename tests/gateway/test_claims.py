"""Whose a message is when more than one feed knows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.feeds.registry import Registry, load_feeds, registry_of
from gateway.offline.claims import claim_on

NOTICES = Path(__file__).parents[1] / "data" / "notices"
WXT = (NOTICES / "wxt.json").read_bytes()
OWN = (
    'name = "{name}"\ntitle = "Ours"\nmission = "Own"\ninstrument = "WXT"\nmessenger = "xray"\n'
    'format = "json"\n{more}\n'
)


def feeds(folder: Path, **own: str) -> Registry:
    for name, more in own.items():
        (folder / f"{name}.toml").write_text(OWN.format(name=name, more=more))
    return load_feeds([folder])


def test_nothing_to_tell_of_what_one_feed_knows(tmp_path: Path) -> None:
    claim = claim_on(feeds(tmp_path), WXT)
    assert (claim.winner, claim.others, claim.sentence) == ("einstein_probe", (), "")
    assert claim_on(feeds(tmp_path), b"nonsense").winner == ""


def test_feeds_of_ones_own_go_before_the_built_in_ones(tmp_path: Path) -> None:
    claim = claim_on(feeds(tmp_path, ours='schemas = ["wxt/alert"]'), WXT)
    assert (claim.winner, claim.others) == ("ours", ("einstein_probe",))
    assert "ours has it; einstein_probe knows it too" in claim.sentence
    assert "before the built-in ones" in claim.sentence


def test_the_first_of_two_of_ones_own_has_it(tmp_path: Path) -> None:
    known = feeds(tmp_path, a='schemas = ["wxt/alert"]', b='schemas = ["wxt/alert"]')
    claim = claim_on(known, WXT, "b")
    assert claim.winner == "a"
    assert "a has it and not b: a is asked first" in claim.sentence


def test_what_a_message_says_of_itself_outranks_the_topic(tmp_path: Path) -> None:
    known = feeds(tmp_path, ours='topics = ["own.bursts"]')
    claim = claim_on(known, WXT, "ours")
    assert claim.winner == "einstein_probe"
    assert "ours does not know it by what it says of itself" in claim.sentence
    way = feeds(tmp_path, ours='topics = ["t"]\n[transport]\nkafka = "localhost:9092"')
    assert "own [transport]" in claim_on(way, WXT, "ours").sentence


def test_private_topics_are_for_private_feeds_alone(tmp_path: Path) -> None:
    known = feeds(tmp_path, ours='topics = ["own.bursts"]\nprivate = true')
    assert claim_on(known, WXT, "ours").winner == "ours"


def test_what_a_feed_can_never_read_is_somebody_elses(tmp_path: Path) -> None:
    known = feeds(tmp_path, ours='topics = ["own.bursts"]\nprivate = true')
    claim = claim_on(known, (NOTICES / "gbm_final.xml").read_bytes(), "ours")
    assert (claim.winner, claim.sentence) == ("fermi_gbm", "When it is heard, fermi_gbm has it.")


def test_feeds_that_are_off_have_nothing(tmp_path: Path) -> None:
    known = feeds(tmp_path, ours='schemas = ["wxt/alert"]\nenabled = false')
    assert claim_on(known, WXT, "ours").sentence == "ours is off: einstein_probe has it."


def test_nobody_knows_it(tmp_path: Path) -> None:
    known = feeds(tmp_path, ours='topics = ["own.bursts"]', more='topics = ["own.bursts"]')
    strange = b'{"what": "nobody knows"}'
    assert "nor does any other feed" in claim_on(known, strange, "ours").sentence


def test_fall_back_feeds_come_last(tmp_path: Path) -> None:
    built_in = feeds(tmp_path)
    on = [replace(f, enabled=True) for f in built_in.feeds]
    known = registry_of(on, built_in.parsers)
    claim = claim_on(known, (NOTICES / "gbm_final.xml").read_bytes(), "any_voevent")
    assert claim.winner == "fermi_gbm"
    assert "any_voevent takes only what no other feed knows" in claim.sentence
