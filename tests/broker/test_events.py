"""What is in force, whatever came first."""

from __future__ import annotations

import itertools

from broker.events import Events
from broker.regioncodec import decode_region, encode_region
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.region import make_region

from .conftest import notice, record


def retraction(event: str, serial: int, **changed):
    fields = {"alert_type": "retraction", "localization": None, **changed}
    return record(notice(event, serial, 0, 0, 1, **fields))


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
    assert events.in_force() == []


def test_a_late_older_version_changes_nothing():
    events = Events()
    events.apply([record(notice("E1", 2, 10, 0, 3))])
    assert events.apply([record(notice("E1", 1, 50, 0, 3))]) == []


def test_versions_that_come_together_are_one_change():
    events = Events()
    changes = events.apply([record(notice("E1", n, 10, 0, n)) for n in (1, 2)])
    assert [(c.event_id, c.before) for c in changes] == [("E1", None)]
    assert changes[0].after is not None
    assert changes[0].after.region.order[2] == 2


def superseder(event: str, serial: int, *cited: str, **changed):
    of = notice(event, serial, 10, 0, 1, alert_type="update", retracts=cited, **changed)
    encoded = encode_region(make_region(of, 1, DEFAULT_CHAINS), retracts=cited)
    return decode_region(encoded)


def test_a_superseded_region_of_another_event_is_no_longer_in_force_in_any_order():
    old = notice("E1", 5, 10, 0, 3)
    for order in itertools.permutations([record(old), superseder("E2", 1, old.notice_id)]):
        events = Events()
        for one in order:
            events.apply([one])
        assert [r.event_id for r in events.in_force()] == ["E2"]


def test_a_superseded_region_is_a_change_that_names_its_cause():
    old = notice("E1", 1, 10, 0, 3)
    events = Events()
    events.apply([record(old)])
    new = superseder("E2", 2, old.notice_id)
    changes = {c.event_id: c for c in events.apply([new])}
    assert changes["E1"].after is None
    assert changes["E1"].cause is new
    assert changes["E2"].after is not None


def test_tests_and_private_regions_supersede_nothing_real_and_public():
    old = notice("E1", 1, 10, 0, 3)
    for other in ({"role": "test"}, {"streams": ("ourteam",)}):
        events = Events(include_tests=True)
        events.apply([record(old), superseder("E2", 2, old.notice_id, **other)])
        assert "E1" in [r.event_id for r in events.in_force()]


PRIVATE = {"streams": ("ourteam",)}


def orders(events: Events, *streams: str) -> list[int]:
    return [r.order[2] for r in events.in_force() if r.streams == streams]


def test_a_private_revision_or_retraction_touches_no_public_event_of_that_name_nor_the_reverse():
    """Whatever a feed calls its events, also when one calls them as another does."""
    public = [record(notice("E1", 1, 10, 0, 3)), retraction("E1", 2)]
    private = [record(notice("E1", 3, 10, 0, 3, **PRIVATE)), retraction("E1", 4, **PRIVATE)]
    other = [record(notice("E1", 5, 10, 0, 3, streams=("otherteam", "ourteam")))]
    for order in itertools.permutations([*public[:1], *private, *other]):
        events = Events()
        events.apply(order)
        assert orders(events) == [1]
        assert orders(events, "ourteam") == []
        assert orders(events, "otherteam", "ourteam") == [5]
    events = Events()
    events.apply([*private[:1], *public])
    assert orders(events) == []
    assert orders(events, "ourteam") == [3]


def test_a_private_retraction_that_cites_a_public_notice_leaves_it_in_force():
    public = notice("E1", 1, 10, 0, 3)
    cites = {"retracts": (public.notice_id, "E1"), **PRIVATE}
    events = Events()
    events.apply([record(public)])
    assert events.apply([retraction("ourteam:X", 9, **cites)]) == []
    assert orders(events) == [1]


def test_a_change_names_the_world_of_its_event():
    found = [*Events().apply([record(notice("E1", 1, 10, 0, 3, **PRIVATE))])]
    assert [(c.event_id, c.world) for c in found] == [("E1", (False, ("ourteam",)))]


def test_test_events_are_left_out_unless_wanted():
    mock = record(notice("M1", 1, 10, 0, 3, role="test"))
    assert Events().apply([mock]) == []
    assert len(Events(include_tests=True).apply([mock])) == 1
