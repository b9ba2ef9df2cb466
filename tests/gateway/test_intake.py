"""Events from notices: the same state whatever the order of arrival, and however often."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.model import Circle, Notice
from gateway.feeds import Ignored
from gateway.intake import EventBook, EventState, identity, is_localised

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


def test_private_events_are_strangers_to_public_ones_of_the_same_id() -> None:
    book = book_of(notice(0), notice(1, streams=("a",)), notice(2, streams=("b",)))
    assert book.accept(retraction(3, streams=("a",))).changed == ("Fermi_1",)
    assert book.state("Fermi_1").current == notice(0)
    assert book.state("Fermi_1", streams=("a",)).retracted
    assert book.state("Fermi_1", streams=("b",)).current == notice(2, streams=("b",))
    assert book.accept(retraction(4)).retracted
    assert not book.state("Fermi_1", streams=("b",)).retracted
    assert [s.world for s in book.states()] == [(False, ()), (False, ("a",)), (False, ("b",))]


def test_private_citation_of_a_public_notice_changes_nothing_public() -> None:
    public = notice(0)
    book = book_of(public)
    told = book.accept(retraction(1, public.notice_id, event="X_1", streams=("a",)))
    assert told.changed == ("X_1",)
    assert not book.state("Fermi_1").retracted


def test_same_bytes_count_once_in_each_world() -> None:
    book = book_of(notice(0))
    private = notice(0, streams=("a",), sha256=notice(0).sha256)
    assert [book.accept(private).outcome for _ in range(2)] == ["region", "duplicate"]


def test_map_that_came_later_is_the_next_version_of_its_notice() -> None:
    circle = notice(0)
    placed = replace(circle, skymap_sha256="f" * 64)
    for order in ((circle, placed), (placed, circle)):
        book = book_of(*order)
        assert book.state("Fermi_1").versions == (circle, placed)
        assert book.accept(placed).outcome == "duplicate"
        assert book.accept(circle).version == 1
    assert book_of(placed, circle, retraction(1)).state("Fermi_1").retracted
    assert book_of(circle, placed, notice(1)).state("Fermi_1").current == notice(1)


def test_event_is_asserted_again_after_its_retraction_in_any_order() -> None:
    first, taken_back, again = notice(0), retraction(2), notice(3)
    for order in permutations((first, taken_back, again)):
        state = book_of(*order).state("Fermi_1")
        assert (state.current, state.withdrawn) == (again, (True, False))


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


PRIVATE = ("ourteam",)
POOL = [
    *(notice(m, rank=m % 3) for m in range(4)),
    notice(1, rank=2, localization=None),
    notice(2, rank=0, notice_id="twin", sha256="a" * 64),
    notice(2, rank=0, notice_id="twin", sha256="b" * 64),
    # The same notices placed by maps that came later; one has two.
    *(replace(notice(m, rank=m % 3), skymap_sha256=f"{m}" * 64) for m in range(3)),
    replace(notice(1, rank=1), skymap_sha256="e" * 64),
    *(notice(m, event="B_1") for m in range(3)),
    *(notice(m, role="test") for m in (1, 2)),
    notice(2, role="prediction"),
    # Private ones of the same ids, with the very bytes of public ones among them.
    *(notice(m, streams=PRIVATE, sha256=notice(m, rank=m % 3).sha256) for m in range(2)),
    notice(2, role="test", streams=PRIVATE),
    retraction(2),
    retraction(1, "ivo://x/B_1#0.0", "ivo://x/B_1#2.0", event="B_1"),
    retraction(3, "ivo://x/B_1#1.0"),
    retraction(3, "twin", event="C_1"),
    retraction(3, role="test"),
    retraction(1, streams=PRIVATE),
    retraction(3, "ivo://x/B_1#1.0", event="D_1", streams=PRIVATE),
    retraction(4, event="C_1"),
    notice(5, event="C_1"),
]
WORLDS = [(r, s) for r in ("observation", "test") for s in ((), PRIVATE)]


def states(book: EventBook) -> list[EventState]:
    names = ("Fermi_1", "B_1", "C_1", "D_1")
    return [book.state(e, r, s) for e in names for r, s in WORLDS]  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_order_with_repeats_ends_in_the_same_state(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(POOL), unique_by=identity))
    repeats = data.draw(st.lists(st.sampled_from(chosen), max_size=4)) if chosen else []
    shuffled = data.draw(st.permutations(chosen + repeats))
    book = EventBook()
    decisions = [book.accept(n) for n in shuffled]
    assert states(book) == states(book_of(*chosen))
    assert sum(d.outcome == "duplicate" for d in decisions) == len(repeats)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_private_notices_and_tests_change_nothing_for_others(data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(POOL))
    public = [n for n in shuffled if not n.streams]
    real = [n for n in public if n.role == "observation"]
    everything, alone, real_alone = book_of(*shuffled), book_of(*public), book_of(*real)
    for event in ("Fermi_1", "B_1", "C_1"):
        assert everything.state(event) == alone.state(event) == real_alone.state(event)
        assert everything.state(event, "test") == alone.state(event, "test")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_state_is_that_of_the_rule_written_out(data: st.DataObject) -> None:
    """The newest version that no retraction of its own world, or real one of a test's, covers."""
    known = data.draw(st.lists(st.sampled_from(POOL), unique_by=identity))
    book = book_of(*known)
    for event in ("Fermi_1", "B_1", "C_1"):
        for role, streams in WORLDS:
            is_test = role == "test"
            mine = [
                n for n in known
                if n.event_id == event and n.streams == streams and is_localised(n)
                and (n.role != "observation") == is_test
            ]  # fmt: skip
            standing = [
                n for n in mine
                if not any(
                    r.streams == streams and (is_test or r.role == "observation")
                    and (n.notice_id in r.retracts
                         or (event in (r.event_id, *r.retracts) and n.order <= r.order))
                    for r in known if r.alert_type == "retraction"
                )
            ]  # fmt: skip
            newest = max(
                standing,
                key=lambda n: (
                    n.order[1],
                    n.order[0],
                    n.order[2],
                    n.notice_id,
                    n.skymap_sha256,
                    n.sha256,
                ),
                default=None,
            )
            assert book.state(event, role, streams).current == newest  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(order=st.permutations(POOL))
def test_changes_are_told(order: list[Notice]) -> None:
    """Following ``changed`` alone gives the state in force of every event."""
    book, followed = EventBook(), {}
    for n in order:
        for event in book.accept(n).changed:
            followed[event] = essence(book, event)
    for event in ("Fermi_1", "B_1", "C_1"):
        assert followed[event] == essence(book, event)


def essence(book: EventBook, event: str) -> list[tuple[Notice | None, int, bool]]:
    found = [book.state(event, r, s) for r, s in WORLDS]  # type: ignore[arg-type]
    # Where nothing is known of an event, nobody needs to be told that it is retracted.
    return [(s.current, s.version, s is found[0] and s.retracted) for s in found]
