"""Which missions' events are one burst."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import joint
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Circle, Notice, Region
from crossmatch.region import make_region

T0 = datetime(2024, 3, 1, 2, 0, tzinfo=UTC)


def region(event: str, mission: str, seconds: float, ra: float = 150.0, **changed) -> Region:
    fields = {
        "feed": "test",
        "mission": mission,
        "instrument": "",
        "kind": "position",
        "notice_id": f"ivo://test/{event}#1",
        "event_id": event,
        "trigger_id": event,
        "messenger": "grb",
        "role": "observation",
        "alert_type": "initial",
        "issued": T0,
        "order": (T0.timestamp(), 0, 1),
        "trigger_time": T0 + timedelta(seconds=seconds),
        "localization": Circle(ra, 2.0, changed.pop("radius", 2.0), 0.9),
        "sha256": event,
    }
    return make_region(Notice(**(fields | changed)), 1, DEFAULT_CHAINS)


FERMI = region("F", "Fermi", 0.0)


def names(found: list[list[Region]]) -> set[frozenset[str]]:
    return {frozenset(r.event_id for r in group) for group in found}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (region("S", "Swift", 60.0), True),
        (region("S", "Swift", -60.0), True),
        (region("S", "Swift", 60.001), False),
        (region("S", "Swift", 0.0, ra=160.0), False),
        (region("S", "Fermi", 1.0), False),
        (region("S", "EP", 1.0, messenger="xray"), True),
        (region("S", "EP", 1.0, significant=False), False),
        (region("S", "LVC", 1.0, messenger="gw"), False),
        (region("S", "IceCube", 1.0, messenger="neutrino"), False),
        (region("S", "Swift", 1.0, known_source=True), False),
    ],
)
def test_two_missions_within_a_minute_and_overlapping_saw_one_burst(other, expected):
    assert joint.are_joint(FERMI, other) is expected
    assert joint.are_joint(other, FERMI) is expected


def test_regions_in_between_join_others_that_are_not_joint_themselves():
    regions = [FERMI, region("S", "Swift", 50.0), region("E", "EP", 100.0, messenger="xray")]
    for order in permutations(regions):
        (group,) = joint.components(order)
        assert [r.event_id for r in group] == ["F", "S", "E"]
        assert joint.joint_name(group) == "F"
    assert names(joint.components(regions[::2])) == {frozenset("F"), frozenset("E")}


def test_two_bursts_of_one_mission_are_joined_only_by_another_mission():
    one, other = region("F1", "Fermi", 0.0), region("F2", "Fermi", 30.0)
    assert len(joint.components([one, other])) == 2
    assert len(joint.components([one, other, region("S", "Swift", 10.0)])) == 1


def test_the_smallest_region_leads_and_names_decide_between_equals():
    small, large = region("S", "Swift", 20.0, radius=0.1), region("A", "EP", 10.0, radius=3.0)
    assert joint.leading([FERMI, small, large]) is small
    twin = replace(small, event_id="R")
    assert joint.leading([small, twin]).event_id == joint.leading([twin, small]).event_id == "R"


def test_nothing_joins_to_nothing():
    assert joint.components([]) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("Fermi", "Swift", "EP")),
            st.integers(0, 9).map(lambda n: 25.0 * n),
            st.sampled_from((150.0, 151.0, 158.0)),
            st.booleans(),
        ),
        max_size=7,
    )
)
def test_components_are_what_pairs_make(drawn):
    regions = [
        region(f"E{i}", mission, seconds, ra, significant=significant)
        for i, (mission, seconds, ra, significant) in enumerate(drawn)
    ]
    expected = {frozenset([r.event_id]) for r in regions}
    for a, b in combinations(regions, 2):
        if joint.are_joint(a, b):
            mine = {g for g in expected if a.event_id in g or b.event_id in g}
            expected = (expected - mine) | {frozenset().union(*mine)}
            # Time is looked up by minutes: neighbours have one in common.
            assert set(joint.minutes(a)) & set(joint.minutes(b))
    assert names(joint.components(regions)) == expected


def test_thousands_of_bursts_are_joined_without_looking_at_all_pairs(monkeypatch):
    regions = [replace(FERMI, event_id=f"F{i}", mission=f"M{i % 7}") for i in range(3000)]
    regions = [
        replace(r, trigger_time=T0 + timedelta(minutes=10 * i)) for i, r in enumerate(regions)
    ]
    asked = []
    monkeypatch.setattr(joint, "_may_be_one", lambda *pair: bool(asked.append(pair)))
    assert len(joint.components(regions)) == 3000
    assert not asked
