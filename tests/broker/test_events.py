"""What is in force, whatever came first."""

from __future__ import annotations

import itertools

from broker.events import Events

from .conftest import notice, record


def retraction(event: str, serial: int):
    return record(notice(event, serial, 0, 0, 1, alert_type="retraction", localization=None))


def test_every_order_of_versions_and_a_retraction_ends_the_same():
    records = [
        record(notice("E1", 1, 10, 0, 3)),
        record(notice("E1", 2, 11, 0, 2), 2),
        retraction("E1", 3),
        record(notice("E1", 4, 12, 0, 1), 3),
    ]
    for order in itertools.permutations(records):
        events = Events()
        for one in order:
            events.apply([one])
        assert [r.order for r in events.in_force()] == [records[3].order]


def test_a_retraction_that_comes_first_holds():
    events = Events()
    events.apply([retraction("E1", 3)])
    assert events.apply([record(notice("E1", 1, 10, 0, 3))]) == []
    assert events.region("E1") is None


def test_a_late_older_version_changes_nothing():
    events = Events()
    events.apply([record(notice("E1", 2, 10, 0, 3))])
    assert events.apply([record(notice("E1", 1, 50, 0, 3))]) == []


def test_versions_that_come_together_are_one_change():
    events = Events()
    changes = events.apply([record(notice("E1", n, 10, 0, n)) for n in (1, 2)])
    assert [(c.event_id, c.before) for c in changes] == [("E1", None)]
    assert changes[0].after is not None
    assert changes[0].after.order[2] == 2


def test_test_events_are_left_out_unless_wanted():
    mock = record(notice("M1", 1, 10, 0, 3, role="test"))
    assert Events().apply([mock]) == []
    assert len(Events(include_tests=True).apply([mock])) == 1
