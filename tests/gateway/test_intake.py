"""Events from notices: the same state whatever the order of arrival, and however often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.model import Circle, Notice
from gateway.feeds import Ignored
from gateway.intake import EventBook, EventState, is_localised

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def notice(minute: int, *, rank: int = 0, event: str = "Fermi_1", **fields: Any) -> Notice:
    issued = T0 + timedelta(minutes=minute)
    name = fields.pop("notice_id", f"ivo://x/{event}#{minute}.{rank}")
    values: dict[str, Any] = {
        "feed": "f", "mission": "M", "instrument": "I", "kind": "k",
        "notice_id": name, "event_id": event, "trigger_id": event,
        "messenger": "grb", "role": "observation", "alert_type": "initial",
        "issued": issued, "order": (issued.timestamp(), rank, 0), "trigger_time": T0,
        "localization": Circle(10.0, 20.0, 1.0 + minute, 0.9),
        "sha256": sha256(f"{name}{fields}".encode()).hexdigest(),
    }  # fmt: skip
    return Notice(**(values | fields))


def retraction(minute: int, *cited: str, event: str = "Fermi_1", **fields: Any) -> Notice:
    return notice(
        minute, rank=9, event=event, alert_type="retraction", localization=None,
        retracts=(*cited, event), **fields,
    )  # fmt: skip


def book_of(*notices: Notice) -> EventBook:
    book = EventBook()
    for n in notices:
        book.accept(n)
    return book


def test_versions_count_localised_notices_as_issued() -> None:
    book = EventBook()
    first, nothing, second = notice(0), notice(1, localization=None), notice(2)
    decisions = [book.accept(n) for n in (first, nothing, second)]
    assert [d.outcome for d in decisions] == ["region", "no_position", "region"]
    assert [d.version for d in decisions] == [1, 0, 2]
    assert decisions[-1].current == second
    assert [d.changed for d in decisions] == [("Fermi_1",), (), ("Fermi_1",)]


def test_late_older_notice_never_replaces_a_newer() -> None:
    book = book_of(notice(2))
    late = book.accept(notice(1))
    assert (late.outcome, late.version) == ("region", 1)
    assert late.current == notice(2)
    assert late.current_version == 2
    assert book.state("Fermi_1").versions == (notice(1), notice(2))


def test_same_second_is_sorted_by_kind() -> None:
    book = book_of(notice(0, rank=3), notice(0, rank=1))
    assert book.state("Fermi_1").current == notice(0, rank=3)


def test_same_bytes_act_once() -> None:
    book = book_of(notice(0))
    again = book.accept(notice(0))
    assert (again.outcome, again.version, again.changed) == ("duplicate", 1, ())


def test_same_identifier_with_other_bytes_is_another_notice() -> None:
    book = book_of(notice(0, notice_id="a"), notice(0, notice_id="a", sha256="0" * 64))
    assert len(book.state("Fermi_1").versions) == 2


def test_retraction_withdraws_all_before_it() -> None:
    book = book_of(notice(0), notice(1))
    told = book.accept(retraction(2))
    assert (told.outcome, told.retracted, told.current) == ("retraction", True, None)
    assert told.changed == ("Fermi_1",)


def test_retraction_that_arrives_first_holds() -> None:
    book = EventBook()
    first = book.accept(retraction(2))
    assert (first.outcome, first.retracted) == ("retraction", True)
    late = book.accept(notice(0))
    assert (late.outcome, late.current, late.retracted) == ("region", None, True)
    assert late.changed == ()


def test_only_a_later_localised_notice_revives_an_event() -> None:
    book = book_of(notice(0), retraction(2))
    assert book.accept(notice(3, localization=None)).retracted
    revived = book.accept(notice(4))
    assert (revived.retracted, revived.current) == (False, notice(4))
    assert revived.version == 2
    assert book.state("Fermi_1").withdrawn == (True, False)
    assert book.accept(retraction(5)).retracted


def test_cited_notice_stays_withdrawn_though_issued_later() -> None:
    late = notice(5)
    book = book_of(retraction(2, late.notice_id), late)
    assert book.state("Fermi_1").retracted


def test_retraction_cites_notices_of_other_events() -> None:
    a, b, c = notice(0, event="A_1"), notice(0, event="B_1"), notice(0, event="C_1")
    book = book_of(a, b, c)
    told = book.accept(retraction(1, a.notice_id, b.notice_id, event="A_1"))
    assert told.changed == ("A_1", "B_1")
    assert [book.state(e).retracted for e in ("A_1", "B_1", "C_1")] == [True, True, False]


def test_one_cited_notice_leaves_the_others_of_its_event() -> None:
    old, new = notice(0, event="B_1"), notice(1, event="B_1")
    book = book_of(old, new, retraction(2, new.notice_id, event="A_1"))
    assert book.state("B_1").current == old
    assert not book.state("B_1").retracted


def test_tests_and_real_events_are_strangers() -> None:
    book = book_of(notice(0), notice(1, role="test"), retraction(2, role="test"))
    assert book.state("Fermi_1").current == notice(0)
    assert book.state("Fermi_1", "test").retracted
    assert (book.events(), book.events("test")) == (("Fermi_1",), ("Fermi_1",))


def test_real_retraction_withdraws_tests_too() -> None:
    book = book_of(notice(0, role="test"))
    assert book.accept(retraction(2)).changed == ("Fermi_1",)
    assert book.state("Fermi_1", "test").retracted


def test_ignored_and_utility_leave_no_trace() -> None:
    book = EventBook()
    assert book.accept(Ignored("heartbeat", "", "")).outcome == "ignored"
    assert book.accept(notice(0, role="utility")).outcome == "ignored"
    assert book.events() == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"localization": None}, False),
        ({"localization": None, "skymap_fits": b"x"}, True),
        ({"localization": None, "skymap_url": "https://example.org/m"}, True),
        ({"alert_type": "retraction"}, False),
    ],
)
def test_what_can_become_a_region(fields: dict[str, Any], expected: bool) -> None:
    assert is_localised(notice(0, **fields)) is expected


def test_old_events_can_be_forgotten() -> None:
    book = book_of(notice(0), notice(0, event="B_1"), notice(90, event="B_1"), retraction(1))
    assert book.forget(T0 + timedelta(hours=1)) == 1
    assert book.events() == ("B_1",)
    assert book.accept(notice(0)).outcome == "region"


POOL = [
    *(notice(m, rank=m % 3) for m in range(4)),
    notice(1, rank=2, localization=None),
    notice(2, rank=0, notice_id="twin", sha256="a" * 64),
    notice(2, rank=0, notice_id="twin", sha256="b" * 64),
    *(notice(m, event="B_1") for m in range(3)),
    notice(2, role="test"),
    retraction(2),
    retraction(1, "ivo://x/B_1#0.0", "ivo://x/B_1#2.0", event="B_1"),
    retraction(3, "ivo://x/B_1#1.0"),
    retraction(3, role="test"),
    retraction(4, event="C_1"),
]


def states(book: EventBook) -> list[EventState]:
    return [book.state(e, r) for e in ("Fermi_1", "B_1", "C_1") for r in ("observation", "test")]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_order_with_repeats_ends_in_the_same_state(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(POOL), unique_by=lambda n: n.sha256))
    repeats = data.draw(st.lists(st.sampled_from(chosen), max_size=4)) if chosen else []
    shuffled = data.draw(st.permutations(chosen + repeats))
    book = EventBook()
    decisions = [book.accept(n) for n in shuffled]
    assert states(book) == states(book_of(*chosen))
    assert sum(d.outcome == "duplicate" for d in decisions) == len(repeats)


@settings(max_examples=200, deadline=None)
@given(order=st.permutations(POOL))
def test_changes_are_told(order: list[Notice]) -> None:
    """Following ``changed`` alone gives the state in force of every event."""
    book, followed = EventBook(), {}
    for n in order:
        for event in book.accept(n).changed:
            state = book.state(event)
            followed[event] = (state.current, state.version, state.retracted)
    for event in ("Fermi_1", "B_1"):
        state = book.state(event)
        assert followed[event] == (state.current, state.version, state.retracted)
