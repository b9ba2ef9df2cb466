"""The checks of ``make chaos`` find what they look for: each fault that they exist for is named."""

from __future__ import annotations

import dataclasses
import json
from random import Random
from typing import Any

import pytest

from broker import topics
from broker.kafka_io import Record
from crossmatch.times import datetime_from_jd
from gateway import config
from tests.chaos import checks, truth
from tests.chaos.listening import Seen, cut
from tests.chaos.stack import FEED, MISSIONS
from tests.chaos.stories import ORDERS, Burst, Item, Stories, with_repeats

IVO = "ivo://org.mmgateway"
EVENT, OBJECT = "Anteater_1", "ZTF26aaa"


def said(number: int, **changed: Any) -> dict[str, Any]:
    name = f"MM-ZTF-{OBJECT}.{EVENT}.{{}}"
    return {
        "candidate_id": name.format(number),
        "counterpart_id": f"MM-ZTF-{OBJECT}",
        "record_number": number,
        "alert_type": "initial" if number == 1 else "update",
        "state": "in_force",
        "supersedes": None if number == 1 else name.format(number - 1),
        "stream": "mm.candidates.grb",
        "event_id": EVENT,
        "id": OBJECT,
        "n_alerts": number,
        "alert_id": str(100 + number),
        "credible_level": 0.5,
    } | changed


HISTORY = [said(1), said(2)]
ANSWER = {(EVENT, OBJECT): truth.InForce(2, "102", 0.5)}


def test_the_last_statements_are_compared_with_the_answer() -> None:
    assert checks.check_answer(HISTORY, ANSWER).ok
    assert checks.check_answer([*HISTORY, said(3, state="withdrawn")], {}).ok


@pytest.mark.parametrize(
    ("statements", "answer", "fault"),
    [
        ([], ANSWER, "lost"),
        (HISTORY, {}, "too many"),
        ([*HISTORY, said(3, state="withdrawn")], ANSWER, "lost"),
        (HISTORY[:1], ANSWER, "instead of"),
        ([said(1), said(2, credible_level=0.5 + 1e-8)], ANSWER, "instead of"),
    ],
)
def test_another_answer_is_a_fault(statements: Any, answer: Any, fault: str) -> None:
    check = checks.check_answer(statements, answer)
    assert not check.ok
    assert fault in check.detail


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        ([said(1), said(1)], "2 times"),
        ([said(1), said(3)], "numbers"),
        ([said(2), said(1)], "numbers"),
        ([said(1), said(2, supersedes=None)], "no chain"),
        ([said(1), said(2, alert_type="initial")], "kinds"),
    ],
)
def test_a_statement_twice_or_a_broken_chain_is_a_fault(statements: Any, fault: str) -> None:
    assert checks.check_statements(HISTORY).ok
    check = checks.check_statements(statements)
    assert not check.ok
    assert fault in check.detail


def voevent(number: int, marked: bool = True) -> Record:
    ivoid = f"{IVO}/candidates#{said(number)['candidate_id']}"
    xml = f'<VOEvent ivorn="{ivoid}" role="observation"/>'.encode()
    headers = (("ivoid", ivoid.encode()), ("vtp", b"yes" if marked else b"no"))
    return Record(topics.VOEVENTS, 0, number, b"", xml, headers)


def test_each_statement_has_one_voevent() -> None:
    both = [voevent(1), voevent(2)]
    assert checks.check_voevents(HISTORY, both, IVO).ok
    assert not checks.check_voevents(HISTORY, both[:1], IVO).ok
    assert not checks.check_voevents(HISTORY, [*both, both[0]], IVO).ok
    assert not checks.check_voevents(HISTORY[:1], both, IVO).ok


def log(*lines: tuple[int, int] | None) -> str:
    """The publisher's: number and subscribers of each broadcast, None for a start."""
    return "\n".join(
        "event=publish_started kafka=x"
        if line is None
        else f"event=event_broadcast ivoid={IVO}/candidates#{said(line[0])['candidate_id']}"
        f" subscribers={line[1]}"
        for line in lines
    )


ALL = [voevent(n) for n in (1, 2, 3)]
GOT = {n: voevent(n).value for n in (1, 2, 3)}


def test_a_repeat_after_a_break_and_a_loss_while_away_are_as_promised() -> None:
    check = checks.check_vtp(
        ALL, [[GOT[1]], [GOT[1]]], log(None, (1, 1), None, (1, 1), (2, 0), (3, 1), None)
    )
    assert check.ok, check.detail
    assert "1 of 3" in check.detail
    assert "1 repeated" in check.detail
    assert "2 sent while" in check.detail


@pytest.mark.parametrize(
    ("connections", "lines", "fault"),
    [
        ([[GOT[1], GOT[1], GOT[2], GOT[3]]], [(1, 1), (2, 1), (3, 1)], "one connection"),
        ([[GOT[1], GOT[3]]], [(1, 1), (2, 0), (3, 1)], "one connection"),
        ([[GOT[1]]], [(1, 1), (2, 1), (3, 0)], "who did not get it"),
        ([[GOT[1], GOT[2]]], [(1, 1), (2, 1)], "never broadcast"),
        ([[GOT[1], b"<VOEvent/>"]], [(1, 1), (2, 0), (3, 0)], "not on the topic"),
    ],
)
def test_what_vtp_does_not_promise_is_a_fault(connections: Any, lines: Any, fault: str) -> None:
    check = checks.check_vtp(ALL, connections, log(None, *lines))
    assert not check.ok
    assert fault in check.detail


def entries(**changed: Any) -> list[dict[str, Any]]:
    alerts = {"received": 4, "duplicate": 1, "matched": 3, "statements": 2} | changed
    return [
        {"kind": "notices", "counts": {"received": 1, "region": 1}},
        {"kind": "alerts", "step": 0, "counts": alerts},
        {"kind": "search", "step": 1, "counts": {"statements": 1}},
        {"kind": "voevents", "counts": {"received": 3, "made": 3}},
    ]


def test_a_ledger_that_adds_up() -> None:
    assert checks.check_ledger(entries(), 4, 3, 1, 3).ok


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"received": 5, "matched": 4}, "alerts received"),
        ({"matched": 2}, "hole"),
        ({"duplicate": 2, "matched": 2}, "repeats"),
        ({"lost": 1, "matched": 2}, "lost"),
        ({"statements": 1}, "statements"),
    ],
)
def test_a_ledger_that_does_not_add_up_is_a_fault(changed: Any, fault: str) -> None:
    check = checks.check_ledger(entries(**changed), 4, 3, 1, 3)
    assert not check.ok
    assert fault in check.detail


def test_a_missing_step_is_a_fault() -> None:
    found = entries()
    found[2]["step"] = 2
    assert "not in a row" in checks.check_ledger(found, 4, 3, 1, 3).detail


def test_a_reader_who_was_given_something_twice_or_not_at_all() -> None:
    final = [voevent(1), voevent(2)]
    assert checks.check_reader(final, final, "x").ok
    for live in (final[:1], [*final, final[0]], [*final, voevent(3)]):
        assert not checks.check_reader(live, final, "x").ok


def test_tables_hold_everything_once() -> None:
    ids = [one["candidate_id"] for one in HISTORY]
    assert all(c.ok for c in checks.check_tables([1, 2], 2, ids, HISTORY))
    alerts, _ = checks.check_tables([1, 1], 2, ids, HISTORY)
    _, more = checks.check_tables([1, 2], 2, [*ids, "x"], HISTORY)
    _, fewer = checks.check_tables([1, 2], 2, ids[:1], HISTORY)
    assert [alerts.ok, more.ok, fewer.ok] == [False, False, False]


def test_messages_of_cut_transactions_are_those_that_never_became_visible() -> None:
    written = [Seen("t", offset, "match", 0.0) for offset in range(3)]
    assert cut(written, [Record("t", 0, 0, b"", b""), Record("t", 0, 2, b"", b"")]) == written[1:2]


def _config(tmp_path: Any) -> config.Config:
    made = config.load(environ={})
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    for mission, topic in MISSIONS.items():
        text = FEED.format(name=mission.lower(), mission=mission, topic=topic)
        (feeds / f"{mission.lower()}.toml").write_text(text, "utf-8")
    return dataclasses.replace(made, paths=dataclasses.replace(made.paths, state=tmp_path))


def test_the_batch_answer_does_not_depend_on_the_order(tmp_path: Any) -> None:
    """And there is one: stories have candidates, some of which retractions and cuts take away."""
    settings = _config(tmp_path)
    rng = Random(3)
    stories = Stories(rng)
    items = [item for _ in range(3) for item in stories.story()]
    answers = []
    for order in ORDERS.values():
        played = with_repeats(order(items, rng), rng)
        answers.append(_answer(settings, played))
    assert len(answers[0]) > 3
    assert all(answer == answers[0] for answer in answers)


def test_a_retraction_and_a_shrunken_circle_change_the_answer(tmp_path: Any) -> None:
    settings = _config(tmp_path)
    items = [i for i in Stories(Random(3)).story() if i.kind == "alert"]
    # The place and time of the story's burst, found by its first alerts.
    (ra, dec, jd) = (
        truth.decoded([items[0].payload]).select(["ra_deg", "dec_deg", "time_jd"]).to_pylist()[0]
    ).values()
    burst = Burst("Anteater", "x", datetime_from_jd(jd - 0.1), ra, dec)
    wide, narrow = burst.notice(1, 9.0), burst.notice(2, 0.2)
    all_of_it = _answer(settings, [wide, *items])
    assert len(all_of_it) > len(_answer(settings, [narrow, wide, *items])) > 0
    assert _answer(settings, [burst.retraction(3), narrow, wide, *items]) == {}


def _answer(settings: config.Config, items: list[Item]) -> truth.Answer:
    notices = [(item.topic, item.payload) for item in items if item.kind == "notice"]
    alerts = [item.payload for item in items if item.kind == "alert"]
    return truth.batch_answer(settings, notices, alerts)


def test_a_ledger_entry_is_read_from_its_record() -> None:
    record = Record(topics.LEDGER, 0, 0, b"alerts/0", json.dumps(entries()[1]).encode())
    assert checks.ledger_entries([record]) == [entries()[1]]
