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
from gateway.intake import Decision, EventBook, EventState, identity, is_localised

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


def superseder(minute: int, *cited: str, event: str = "Fermi_1", **fields: Any) -> Notice:
    """A localised notice that takes the place of others."""
    return notice(minute, rank=1, event=event, alert_type="update", retracts=cited, **fields)


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


def test_superseded_notice_of_another_event_no_longer_stands_whichever_comes_first() -> None:
    old = notice(5, event="A_1")
    new = superseder(1, old.notice_id, event="B_1")
    for order in permutations((old, new)):
        book = book_of(*order)
        assert (book.state("A_1").current, book.state("A_1").withdrawn) == (None, (True,))
        assert (book.state("B_1").current, book.state("B_1").retracted) == (new, False)
    assert book_of(old).accept(new).changed == ("B_1", "A_1")


def test_a_notice_that_supersedes_one_leaves_the_others_of_that_event() -> None:
    first, second = notice(0, event="A_1"), notice(1, event="A_1")
    book = book_of(first, second, superseder(2, second.notice_id, event="B_1"))
    assert book.state("A_1").current == first


def test_a_notice_that_cites_its_own_event_or_itself_stands() -> None:
    own = superseder(1, "me", "Fermi_1", notice_id="me")
    book = book_of(notice(0), own)
    assert book.state("Fermi_1").current == own
    assert book.state("Fermi_1").withdrawn == (False, False)


def test_a_superseded_notice_does_not_come_back_with_the_end_of_its_superseder() -> None:
    old = notice(0, event="A_1")
    book = book_of(old, superseder(1, old.notice_id, event="B_1"), retraction(2, event="B_1"))
    assert (book.state("A_1").current, book.state("B_1").current) == (None, None)


def test_a_notice_without_position_supersedes_nothing() -> None:
    """No region comes of it, so that those who only see regions would never know."""
    old = notice(0, event="A_1")
    book = book_of(old, superseder(1, old.notice_id, event="B_1", localization=None))
    assert book.state("A_1").current == old


@pytest.mark.parametrize("fields", [{"role": "test"}, {"streams": ("a",)}])
def test_tests_and_private_notices_supersede_nothing_real_and_public(
    fields: dict[str, Any],
) -> None:
    old = notice(0, event="A_1")
    for order in permutations((old, superseder(1, old.notice_id, event="B_1", **fields))):
        assert book_of(*order).state("A_1").current == old


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


DAY = timedelta(days=1)


def heard(book: EventBook, of: Notice, day: float = 0.0, **expires: datetime) -> Decision:
    """A notice that came some days after T0."""
    return book.accept(of, received=T0 + day * DAY, **expires)


def test_a_notice_is_forgotten_some_time_after_it_came_and_its_window_closed() -> None:
    book = EventBook()
    heard(book, notice(0))
    heard(book, notice(0, event="B_1"), expires=T0 + 200 * DAY)
    heard(book, notice(0, event="C_1"), expires=T0 + 9000 * DAY)
    heard(book, notice(0, role="test"), expires=T0 + 200 * DAY)
    left = []
    for day in (7, 8, 60, 61, 260, 261, 426, 427):
        book.forget(T0 + day * DAY)
        left.append(len(book))
    assert left == [4, 3, 3, 2, 2, 1, 1, 0]


def test_forgetting_tells_what_was_forgotten_once() -> None:
    book = EventBook()
    heard(book, notice(0))
    assert book.forget(T0 + 60 * DAY) == set()
    assert book.forget(T0 + 61 * DAY) == {identity(notice(0))}
    assert book.forget(T0 + 62 * DAY) == set()


def test_what_is_due_is_not_known_any_more_whether_the_book_was_swept_or_not() -> None:
    """The times of sweeps depend on restarts; what is told must not."""
    told = []
    for is_swept in (True, False):
        book = EventBook()
        for known in (notice(0), notice(1), retraction(2)):
            heard(book, known)
        if is_swept:
            book.forget(T0 + 61 * DAY)
        told.append([heard(book, n, 61) for n in (notice(1), notice(0), notice(1))])
    assert told[0] == told[1]
    assert [(d.outcome, d.version, d.current_version) for d in told[0]] == [
        ("region", 1, 1), ("region", 1, 2), ("duplicate", 2, 2),
    ]  # fmt: skip


def test_numbers_go_on_while_anything_of_the_event_is_known() -> None:
    book = EventBook()
    told = [heard(book, notice(n), 50 * n).version for n in range(6)]
    assert told == [1, 2, 3, 4, 5, 6]
    state = book.state("Fermi_1")
    assert (state.forgotten, state.version, len(state.versions)) == (4, 6, 2)


def test_the_notice_in_force_is_known_as_long_as_its_event() -> None:
    book = EventBook()
    final = notice(0, rank=2)
    heard(book, final)
    for n in range(1, 6):
        told = heard(book, notice(n), 50 * n)
    assert told.current == final
    assert told.changed == ("Fermi_1",)
    assert book.state("Fermi_1").versions == (notice(4), notice(5), final)


def test_what_was_taken_back_does_not_come_back_when_its_retraction_is_forgotten() -> None:
    book = EventBook()
    cited = notice(0, event="B_1")
    heard(book, cited, expires=T0 + 100 * DAY)
    heard(book, retraction(1, cited.notice_id, event="A_1"))
    for day in (61, 150):
        book.forget(T0 + day * DAY)
        assert book.state("B_1").retracted
        assert book.state("B_1").withdrawn == (True,)
    # It covers what comes late, too, while anything of the event is known.
    assert not heard(
        book, notice(0, event="B_1", notice_id=cited.notice_id, sha256="0"), 155
    ).changed


def test_a_retraction_outlives_what_it_took_back() -> None:
    """A repeat that comes after its first copy was forgotten does not stand either."""
    book = EventBook()
    cited = notice(0, event="B_1")
    heard(book, cited)
    heard(book, retraction(1, cited.notice_id, event="A_1"), 50)
    assert book.forget(T0 + 100 * DAY) == {identity(cited)}
    again = heard(book, cited, 100)
    assert (again.outcome, again.current, again.retracted) == ("region", None, True)


def month(first: int) -> list[tuple[float, Notice]]:
    """A month of notices with their days: events, a retraction, tests of one name for ever."""
    found = [(first + 0.1, retraction(first, event=f"E_{first}"))]
    for day in range(first, first + 30):
        event = f"E_{day}"
        found += [(day + n / 10, notice(day * 1440 + n, event=event)) for n in range(3)]
        found.append((day + 0.5, superseder(day * 1440, f"ivo://x/E_{day - 1}#9.9", event=event)))
        found.append((day + 0.6, notice(day * 1440, event=event, localization=None)))
        tests = (notice(day * 1440 + n, rank=n % 3, event="T", role="test") for n in range(9))
        found += [(day + 0.7, n) for n in tests]
    return found


def test_a_book_does_not_grow_from_year_to_year() -> None:
    book = EventBook()
    sizes = []
    for first in range(0, 720, 30):
        for day, n in month(first):
            heard(book, n, day, expires=n.issued + 20 * DAY)
        book.forget(T0 + (first + 30) * DAY)
        sizes.append((len(book), book.remembered))
    assert len(set(sizes[4:])) == 1
    assert sizes[-1] == max(sizes)
    assert book.state("T", "test").version == 24 * 30 * 9


def test_thousands_of_notices_of_one_event_take_no_longer_each_than_a_few() -> None:
    """Comparisons count, not seconds: they are the same on every machine."""
    compared = 0

    class Second(float):
        def __lt__(self, other: float) -> bool:
            nonlocal compared
            compared += 1
            return float(self) < float(other)

    book = EventBook()
    count = 2000
    for n in range(count):
        one = notice(n % 1000, notice_id=f"n{n}")
        book.accept(replace(one, order=(Second(one.order[0]), 0, n)))
        if n % 10 == 0:
            took_back = retraction(n % 1000 // 2, notice_id=f"r{n}")
            book.accept(replace(took_back, order=(Second(took_back.order[0]), 9, n)))
    assert len(book.state("Fermi_1").versions) == count
    assert compared < 100 * count


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
    superseder(2, "ivo://x/B_1#2.0", "ivo://x/Fermi_1#3.0"),
    superseder(6, "twin", "ivo://x/C_1#5.0", event="D_1"),
    superseder(3, "ivo://x/Fermi_1#1.1", "itself", "D_1", event="D_1", notice_id="itself"),
    superseder(1, "ivo://x/Fermi_1#0.0", event="B_1", localization=None),
    superseder(1, "ivo://x/Fermi_1#0.0", "ivo://x/B_1#0.0", event="C_1", role="test"),
    superseder(4, "ivo://x/B_1#2.0", event="D_1", streams=PRIVATE),
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
    for event in ("Fermi_1", "B_1", "C_1", "D_1"):
        assert everything.state(event) == alone.state(event) == real_alone.state(event)
        assert everything.state(event, "test") == alone.state(event, "test")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_state_is_that_of_the_rule_written_out(data: st.DataObject) -> None:
    """The newest version that no retraction of its own world, or real one of a test's, covers."""
    known = data.draw(st.lists(st.sampled_from(POOL), unique_by=identity))
    book = book_of(*known)
    for event in ("Fermi_1", "B_1", "C_1", "D_1"):
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
                and not any(
                    s.streams == streams and (is_test or s.role == "observation")
                    and n.notice_id in s.retracts and n.notice_id != s.notice_id
                    for s in known if is_localised(s)
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
@given(data=st.data())
def test_sweeps_change_no_answer(data: st.DataObject) -> None:
    """Whatever comes when, repeats after they were forgotten included."""
    chosen = data.draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=40))
    gaps = data.draw(st.lists(st.integers(0, 30), min_size=40, max_size=40))
    windows = data.draw(st.lists(st.sampled_from([0, 20, 200]), min_size=40, max_size=40))
    swept, alone = EventBook(), EventBook()
    day = 0
    for one, gap, window in zip(chosen, gaps, windows, strict=False):
        day += gap
        expires = T0 + (day + window) * DAY
        told = [heard(book, one, day, expires=expires) for book in (swept, alone)]
        assert told[0] == told[1]
        swept.forget(T0 + day * DAY)
    known = [book.forget(T0 + day * DAY) for book in (swept, alone)]
    assert known[0] <= known[1]
    assert states(swept) == states(alone)
    assert len(swept) == len(alone)


@settings(max_examples=200, deadline=None)
@given(order=st.permutations(POOL))
def test_changes_are_told(order: list[Notice]) -> None:
    """Following ``changed`` alone gives the state in force of every event."""
    book, followed = EventBook(), {}
    for n in order:
        for event in book.accept(n).changed:
            followed[event] = essence(book, event)
    for event in ("Fermi_1", "B_1", "C_1", "D_1"):
        assert followed[event] == essence(book, event)


def essence(book: EventBook, event: str) -> list[tuple[Notice | None, int, bool]]:
    found = [book.state(event, r, s) for r, s in WORLDS]  # type: ignore[arg-type]
    # Where nothing is known of an event, nobody needs to be told that it is retracted.
    return [(s.current, s.version, s is found[0] and s.retracted) for s in found]
