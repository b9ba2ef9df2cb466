"""Pairs found against regions of before give what a match with those of now gives."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import ahead
from crossmatch.ahead import Found, View, match_found, rows_of
from crossmatch.index import RegionIndex
from crossmatch.match import Pairs, match
from crossmatch.model import Circle, Ellipse, MultiOrderMap, Polygon, Region, Window
from crossmatch.times import jd_from_datetime

N = 300
COLUMNS = ("alert_row", "region_row", "credible_level", "density_per_sr", "separation_deg")


def pool(region_of: Callable[..., Region], gaussian_map: MultiOrderMap) -> list[Region]:
    """Twelve regions of all kinds, which overlap one another."""
    circles = [region_of(Circle(25.0 + 4 * i, -20.0, 3.0 + i, 0.9)) for i in range(7)]
    return [
        *circles,
        region_of(gaussian_map),
        region_of(gaussian_map, level=0.5, window=Window(-1.0, 1.0)),
        region_of(Ellipse(35.0, -25.0, 9.0, 2.0, 70.0, 0.9)),
        region_of(Polygon(((30, -30), (50, -30), (50, -10), (30, -10)), 0.9), level=0.95),
        region_of(Circle(0.0, 90.0, 360.0, 0.9)),
    ]


def alerts(regions: list[Region], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    start = jd_from_datetime(regions[0].trigger_time)
    return start + rng.uniform(-2, 9, N), rng.uniform(15, 65, N), rng.uniform(-45, 5, N)


def look(view: View, places: tuple[np.ndarray, ...], which: np.ndarray) -> Found:
    """What a worker finds that has only the view's file, and looks for some of the alerts."""
    with tempfile.TemporaryDirectory() as folder:
        view.save(Path(folder) / "tables")
        tables = RegionIndex.load(Path(folder) / "tables")
        looked = np.flatnonzero(which)
        rows = rows_of(match(*(column[looked] for column in places), tables), len(looked))
    return Found(rows.take(pa.array(np.cumsum(which) - 1, mask=~which)), view)


def same(one: Pairs, other: Pairs) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


NUMBERS = st.sets(st.integers(0, 11))


@given(NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_whatever_came_and_went_since_the_pairs_are_those_of_now(
    region_of: Callable[..., Region],
    gaussian_map: MultiOrderMap,
    before: set[int],
    gone: set[int],
    came: set[int],
    compact: bool,
    seed: int,
) -> None:
    """Regions that go and come again stand for those that are replaced."""
    regions = pool(region_of, gaussian_map)
    index = RegionIndex.build([regions[i] for i in before])
    places = alerts(regions, seed)
    which = np.random.default_rng(seed).random(N) < (1.0, 0.7, 0.0, 0.5)[seed]
    found = look(View.of(index), places, which)
    index.discard(lambda region: any(region is regions[i] for i in gone))
    for number in sorted(came - (before - gone)):
        index.add(regions[number])
    if compact:
        index.compact()

    assert same(match_found(*places, index, found), match(*places, index))


def test_of_some_alerts_what_was_found_of_all_serves(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    regions = pool(region_of, gaussian_map)
    index, places = RegionIndex.build(regions), alerts(regions, 0)
    found = look(View.of(index), places, np.ones(N, np.bool_))
    some = np.flatnonzero(np.arange(N) % 3 == 1)
    mine = tuple(column[some] for column in places)

    assert same(match_found(*mine, index, found.take(pa.array(some))), match(*mine, index))


def test_only_regions_that_came_since_are_looked_for(
    region_of: Callable[..., Region],
    gaussian_map: MultiOrderMap,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    regions = pool(region_of, gaussian_map)
    index, places = RegionIndex.build(regions[:-1]), alerts(regions, 0)
    found = look(View.of(index), places, np.ones(N, np.bool_))
    asked: list[int] = []

    def noting(time: np.ndarray, ra: np.ndarray, dec: np.ndarray, others: RegionIndex) -> Pairs:
        asked.append(len(others))
        return match(time, ra, dec, others)

    monkeypatch.setattr(ahead, "match", noting)
    match_found(*places, index, found)
    assert asked == []
    index.add(regions[-1])
    match_found(*places, index, found)
    assert asked == [1]


def test_without_alerts_there_are_no_pairs(region_of: Callable[..., Region]) -> None:
    index = RegionIndex.build([region_of(Circle(30.0, 10.0, 5.0, 0.9))])
    none = np.empty(0)
    found = Found(rows_of(match(none, none, none, index), 0), View.of(index))

    assert len(match_found(none, none, none, index, found)) == 0
