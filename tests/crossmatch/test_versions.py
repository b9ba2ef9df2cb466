"""What stands and what is in force: the rule written out, and the book that keeps up with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.versions import Rank, Statement, Versions, World, precedence, reach

REAL: World = (False, ())
WORLDS: list[World] = [REAL, (True, ()), (False, ("ours",)), (True, ("ours",))]
EVENTS = ["E", "F", "a"]
NAMES = ["a", "b", "c", "d"]

ranks = st.tuples(
    st.tuples(st.integers(0, 5).map(float), st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from(NAMES),
    st.sampled_from(["", "map"]),
    st.sampled_from(["x", "y"]),
)
statements = st.builds(
    Statement,
    st.sampled_from(EVENTS),
    st.sampled_from(WORLDS),
    ranks,
    st.booleans(),
    st.lists(st.sampled_from([*EVENTS, *NAMES]), max_size=3).map(tuple),
)


def said(
    second: int, name: str, *retracts: str, event: str = "E", retraction: bool = False
) -> Statement:
    rank: Rank = ((float(second), 0, 0), name, "", "")
    return Statement(event, REAL, rank, retraction, retracts)


def versions_of(*told: Statement) -> Versions[Statement]:
    found: Versions[Statement] = Versions()
    for one in told:
        found.enter(one, None if one.retraction else one)
    return found


def falls(version: Statement, known: list[Statement]) -> bool:
    """The rule, for one version, looking at everything."""
    order, name, *_ = version.rank
    for other in known:
        if version.world not in reach(other.world):
            continue
        if other.retraction:
            by_event = version.event_id in (other.event_id, *other.retracts)
            if name in other.retracts or (by_event and order <= other.rank[0]):
                return True
        elif name in other.retracts and name != other.rank[1]:
            return True
    return False


def unique(told: list[Statement]) -> list[Statement]:
    return list({(s.event_id, s.world, s.rank, s.retraction): s for s in told}.values())


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_book_says_what_the_rule_says_after_each_statement_in_any_order(
    data: st.DataObject,
) -> None:
    told = data.draw(st.permutations(unique(data.draw(st.lists(statements, max_size=12)))))
    found: Versions[Statement] = Versions()
    known: list[Statement] = []
    for one in told:
        touched = found.touched(one)
        keys = [(event, world) for event in EVENTS for world in WORLDS]
        before = {key: found.current(key) for key in keys}
        found.enter(one, None if one.retraction else one)
        known.append(one)
        for key in keys:
            mine = sorted(
                (s for s in known if not s.retraction and (s.event_id, s.world) == key),
                key=lambda s: precedence(s.rank),
            )
            gone = [falls(s, known) for s in mine]
            standing = [s for s, is_gone in zip(mine, gone, strict=True) if not is_gone]
            assert found.versions(key) == list(zip(mine, gone, strict=True))
            assert found.current(key) == (standing[-1] if standing else None)
            assert [found.number(key, s.rank) for s in mine] == list(range(1, len(mine) + 1))
            assert key in touched or found.current(key) == before[key]


def test_what_supersedes_takes_back_no_more_than_it_names() -> None:
    found = versions_of(said(1, "a"), said(2, "b"), said(3, "c", "b", "E", event="F"))
    assert [gone for _, gone in found.versions(("E", REAL))] == [False, True]
    assert not found.is_retracted(("F", REAL))


def test_two_that_supersede_each_other_both_fall() -> None:
    found = versions_of(said(1, "a", "b"), said(2, "b", "a"))
    assert found.current(("E", REAL)) is None
    assert found.is_retracted(("E", REAL))


def test_a_forgotten_version_leaves_the_numbers_of_the_others() -> None:
    told = [said(n, name) for n, name in enumerate("abc")]
    found = versions_of(*told)
    found.forget_version(("E", REAL), told[0].rank)
    assert [found.number(("E", REAL), s.rank) for s in told] == [0, 2, 3]
    assert found.current_number(("E", REAL)) == 3
    assert (("a", REAL) in found, ("b", REAL) in found) == (False, True)


def test_a_forgotten_event_is_new_when_it_comes_again() -> None:
    found = versions_of(said(1, "a"), said(2, "b"))
    found.forget_event(("E", REAL))
    assert (list(found), ("a", REAL) in found) == ([], False)
    again = said(2, "b")
    found.enter(again, again)
    assert found.current_number(("E", REAL)) == 1


def test_a_withdrawal_cannot_be_forgotten_before_what_it_covers() -> None:
    found = versions_of(said(1, "a"), said(2, "r", "a", retraction=True))
    with pytest.raises(AssertionError, match="stand again"):
        found.forget_withdrawal(("a", REAL))
    found.forget_event(("E", REAL))
    found.forget_withdrawal(("a", REAL))
    assert not found.is_retracted(("a", REAL))
