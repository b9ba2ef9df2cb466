import base64
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import match as match_module
from crossmatch.index import RegionIndex
from crossmatch.match import Pairs, match
from crossmatch.model import Circle, Ellipse, MultiOrderMap, Polygon, Region, Window
from crossmatch.region import credible_level, density_per_sr
from crossmatch.sky import PIXEL_SR, to_radec
from crossmatch.skymap import read_skymap
from crossmatch.times import jd_from_datetime

T0 = 2460325.0  # of the regions made here
COLUMNS = ("alert_row", "region_row", "credible_level", "density_per_sr", "separation_deg")


def many(region_of: Callable[..., Region], gaussian_map: MultiOrderMap) -> list[Region]:
    return [
        region_of(gaussian_map, level=0.9),
        region_of(Circle(45.0, -20.0, 6.0, 0.68), level=0.99),
        region_of(Ellipse(35.0, -25.0, 9.0, 2.0, 70.0, 0.9), window=Window(-1.0, 1.0)),
        region_of(Polygon(((30, -30), (50, -30), (50, -10), (30, -10)), 0.9), level=0.95),
        region_of(Circle(0.0, 90.0, 360.0, 0.9), window=Window(-0.5, 2.0)),
    ]


def alerts(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return T0 + rng.uniform(-2, 9, n), rng.uniform(15, 65, n), rng.uniform(-45, 5, n)


def rows(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.alert_row.tolist(), pairs.region_row.tolist(), strict=True))


def test_pairs_are_those_of_asking_every_region_about_every_alert(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    regions = many(region_of, gaussian_map)
    time, ra, dec = alerts(3000)
    pairs = match(time, ra, dec, RegionIndex.build(regions))
    expected = []
    for row, region in enumerate(regions):
        level = credible_level(region.localization, ra, dec)
        offset = time - jd_from_datetime(region.trigger_time)
        timely = (region.window.start_days < offset) & (offset <= region.window.end_days)
        expected += [(a, row) for a in np.flatnonzero(timely & (level <= region.level)).tolist()]
    assert rows(pairs) == sorted(expected)
    assert len(set(pairs.region_row.tolist())) == len(regions)
    for row, region in enumerate(regions):
        mine = pairs[pairs.region_row == row]
        a = mine.alert_row
        where = (region.localization, ra[a], dec[a])
        assert mine.credible_level == pytest.approx(credible_level(*where), rel=1e-9)
        assert mine.density_per_sr == pytest.approx(density_per_sr(*where), rel=1e-9)
        assert mine.time_offset_days == pytest.approx(time[a] - T0)


def test_every_alert_alone_gives_what_it_gives_among_others(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    """To the last digit: a replay must repeat the night byte for byte."""
    index = RegionIndex.build(many(region_of, gaussian_map))
    time, ra, dec = alerts(300)
    whole = match(time, ra, dec, index)
    for i in range(300):
        alone = match(time[i : i + 1], ra[i : i + 1], dec[i : i + 1], index)
        mine = whole[whole.alert_row == i]
        for name in COLUMNS[1:]:
            assert np.array_equal(getattr(alone, name), getattr(mine, name)), name


def test_chunks_change_nothing(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = RegionIndex.build(many(region_of, gaussian_map))
    whole = match(*alerts(1000), index)
    monkeypatch.setattr(match_module, "_CHUNK", 77)
    parts = match(*alerts(1000), index)
    for name in (*COLUMNS, "time_offset_days"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name


def test_maps_with_cells_too_small_for_the_common_table(
    region_of: Callable[..., Region],
) -> None:
    start = np.arange(4, dtype=np.int64)
    density = np.array([1.0, 4.0, 2.0, 3.0]) / (10 * PIXEL_SR)
    index = RegionIndex.build([region_of(MultiOrderMap(start, start + 1, density))])
    ra, dec = to_radec(np.arange(5))
    pairs = match(np.full(5, T0 + 1), ra, dec, index)
    assert pairs.alert_row.tolist() == [1, 2, 3]
    assert pairs.credible_level == pytest.approx([0.4, 0.9, 0.7])


def test_level_one_is_everywhere(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    half = MultiOrderMap(np.array([0]), np.array([1 << 58]), np.array([3 / np.pi]))
    index = RegionIndex.build([region_of(half, level=1.0), region_of(gaussian_map, level=1.0)])
    _, ra, dec = alerts(50)
    assert len(match(np.full(50, T0 + 1), ra, dec, index)) == 100


@given(st.lists(st.integers(0, 400), max_size=4), st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_batches_and_the_order_of_regions_change_nothing(
    region_of: Callable[..., Region],
    gaussian_map: MultiOrderMap,
    cuts: list[int],
    order: list[int],
) -> None:
    regions = many(region_of, gaussian_map)
    time, ra, dec = alerts(400)
    at_once = match(time, ra, dec, RegionIndex.build(regions))
    levels = at_once.credible_level.tolist()
    whole = {(a, r, level) for (a, r), level in zip(rows(at_once), levels, strict=True)}
    index = RegionIndex.build([regions[i] for i in order[:2]])
    for i in order[2:]:
        index.add(regions[i])
    found = set()
    bounds = [0, *sorted(cuts), 400]
    for a, b in pairwise(bounds):
        part = match(time[a:b], ra[a:b], dec[a:b], index)
        for (alert, row), level in zip(rows(part), part.credible_level.tolist(), strict=True):
            found.add((alert + a, order[row], level))
    assert found == whole


@given(
    st.floats(0, 360),
    st.floats(-90, 90) | st.sampled_from([-90.0, 90.0]),
    st.sampled_from([1e-3, 0.5, 10.0, 100.0]),
)
@settings(max_examples=40, deadline=None)
def test_circles_match_by_great_circle_distance(
    region_of: Callable[..., Region], ra0: float, dec0: float, radius: float
) -> None:
    """Distance by unit vectors, an independent truth, poles and RA 0/360 included."""
    index = RegionIndex.build([region_of(Circle(ra0, dec0, radius, 0.9), level=0.9)])
    rng = np.random.default_rng(7)
    shift = rng.normal(size=(500, 2)) * radius
    dec = np.clip(dec0 + shift[:, 0], -90, 90)
    ra = (ra0 + shift[:, 1] / np.maximum(np.cos(np.radians(dec)), 1e-3)) % 360
    a, b = (
        np.stack([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)], axis=-1)
        for r, d in (np.radians([ra, dec]), np.radians([ra0, dec0]))
    )
    distance = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))
    pairs = match(np.full(500, T0 + 1), ra, dec, index)
    clear = np.abs(distance / radius - 1) > 1e-6
    found = np.isin(np.arange(500), pairs.alert_row)
    assert np.array_equal(found[clear], (distance <= radius)[clear])
    assert pairs.separation_deg == pytest.approx(distance[pairs.alert_row], abs=1e-9)


def test_a_window_is_open_at_its_start_and_closed_at_its_end(
    region_of: Callable[..., Region],
) -> None:
    index = RegionIndex.build([region_of(Circle(10.0, 0.0, 1.0, 0.9), window=Window(0.0, 7.0))])
    time = T0 + np.array([-1e-6, 0.0, 1e-6, 7.0, 7 + 1e-6])
    pairs = match(time, np.full(5, 10.0), np.zeros(5), index)
    assert pairs.alert_row.tolist() == [2, 3]
    assert pairs.time_offset_days == pytest.approx([1e-6, 7.0], abs=1e-9)


def test_windows_count_for_each_pair(region_of: Callable[..., Region]) -> None:
    """Some alerts of a batch before, in and after windows that others of it are all in."""
    windows = [Window(-5.0, 20.0), Window(0.0, 3.0), Window(2.0, 4.0)]
    index = RegionIndex.build([region_of(Circle(10.0, 0.0, 1.0, 0.9), window=w) for w in windows])
    time = T0 + np.array([4.0, 1.0, 2.5, -2.0])
    pairs = match(time, np.full(4, 10.0), np.zeros(4), index)
    assert rows(pairs) == [(0, 0), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0)]


def test_nothing_meets_nothing(region_of: Callable[..., Region]) -> None:
    none = np.empty(0)
    index = RegionIndex.build([region_of(Circle(10.0, 0.0, 1.0, 0.9))])
    assert len(match(none, none, none, index)) == 0
    assert len(match(np.array([T0 + 1]), np.zeros(1), np.zeros(1), RegionIndex())) == 0


def test_what_is_no_position_is_refused(region_of: Callable[..., Region]) -> None:
    index = RegionIndex.build([region_of(Circle(10.0, 0.0, 1.0, 0.9))])
    with pytest.raises(ValueError, match="declination"):
        match(np.array([T0]), np.zeros(1), np.array([-999.0]), index)
    with pytest.raises(ValueError, match="time is not finite"):
        match(np.array([np.nan]), np.zeros(1), np.zeros(1), index)
    with pytest.raises(ValueError, match="1 times, 60000 right ascensions"):
        match(np.array([T0]), np.zeros(60_000), np.zeros(60_000), index)


@pytest.mark.realdata
def test_real_maps_and_alerts_give_the_expected_pairs(
    shared_data: Path, region_of: Callable[..., Region]
) -> None:
    """Window 0 to 7 d, level 0.9, all events of that week at once."""
    with (shared_data / "expected" / "gw_membership_20240115.csv").open(newline="") as lines:
        expected_rows = list(csv.DictReader(lines))
    place = {
        int(r["candid"]): (float(r["jd"]), float(r["ra"]), float(r["dec"])) for r in expected_rows
    }
    candid = np.array(sorted(place))
    time, ra, dec = np.array([place[c] for c in candid.tolist()]).T
    regions = []
    for path in sorted((shared_data / "notices" / "gcn_2024-01" / "lvk").glob("*.json")):
        event = json.loads(path.read_text())["event"]
        skymap = read_skymap(base64.b64decode(event["skymap"]))
        region = region_of(skymap, level=0.9, window=Window(0.0, 7.0))
        trigger = datetime.fromisoformat(event["time"])
        regions.append(replace(region, trigger_time=trigger, event_id=path.stem))
    pairs = match(time, ra, dec, RegionIndex.build(regions))
    found = {
        (regions[r].event_id, int(candid[a])): level
        for a, r, level in zip(
            pairs.alert_row.tolist(), pairs.region_row.tolist(), pairs.credible_level.tolist(),
            strict=True,
        )
    }  # fmt: skip
    expected = {
        (f"{r['superevent_id']}_{r['gcn_status']}", int(r["candid"])): float(r["credible_level"])
        for r in expected_rows
        if float(r["credible_level"]) <= 0.9
    }
    assert found == pytest.approx(expected, abs=1e-9)
    assert len(expected) == 2 * 111 + 2 * 37 + 70 + 64 + 2 * 18
