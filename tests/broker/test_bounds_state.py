"""State that ends: what a month of alerts and events leaves in memory is what two weeks did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.coldsqlite import SqliteColdStore
from gateway.bench import bounds

from .conftest import MemoryArchive

SIZES = bounds.Sizes(
    days=30, alerts_a_day=150, batches_a_day=1, events_a_day=5, radius_deg=(15.0, 30.0), seed=2
)


@pytest.fixture(scope="module")
def month() -> dict:
    return bounds.month(bounds.World(MemoryArchive(), SqliteColdStore(None)), SIZES)


@pytest.mark.parametrize("what", ["events", "families", "index", "groups", "alerts"])
def test_state_is_flat_over_a_month(month, what):
    days = [day[what] for day in month["day"]]
    steady = max(days[bounds.STEADY_DAY : -7])

    assert steady > 5
    # Events of a day differ in number of matches and length of window.
    assert max(days[-7:]) <= 1.2 * steady + 3 * steady**0.5


def test_no_search_is_left_owed(month):
    assert {day["searches"] for day in month["day"]} == {0}


def test_without_closing_the_state_would_grow(monkeypatch):
    monkeypatch.setattr(bounds.World, "close", lambda self: None)

    shorter = replace(SIZES, days=20)
    grown = bounds.month(bounds.World(MemoryArchive(), SqliteColdStore(None)), shorter)

    assert grown["day"][-1]["events"] > 1.4 * grown["day"][bounds.STEADY_DAY]["events"]
    assert not grown["bounded"]
