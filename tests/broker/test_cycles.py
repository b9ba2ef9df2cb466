"""When cycles are looked for, and that all is as before afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

from broker import cycles


class Node:
    other: Node


def made_cycle() -> weakref.ref[Node]:
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_seldom_is_not_never():
    with cycles.rarely_looked_for():
        gone = made_cycle()
        kept = [[i] for i in range(200_000)]
        assert gone() is None
    assert len(kept) == 200_000


def test_thresholds_are_as_before_also_after_a_failure():
    before = gc.get_threshold()
    with cycles.rarely_looked_for():
        assert gc.get_threshold() > before
    assert gc.get_threshold() == before
    with pytest.raises(KeyError), cycles.rarely_looked_for():
        raise KeyError("x")
    assert gc.get_threshold() == before


@pytest.mark.parametrize("is_on", [True, False])
def test_not_at_all_leaves_it_as_it_was(is_on: bool):
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        with cycles.not_looked_for():
            assert not gc.isenabled()
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()
