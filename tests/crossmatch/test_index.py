from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import index as index_module
from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.index import RegionIndex
from crossmatch.model import Circle, MultiOrderMap, Region
from crossmatch.region import cover_ranges
from crossmatch.shapes import shape_of

CIRCLES = st.builds(
    Circle,
    st.floats(0, 360),
    st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0]),
    st.sampled_from([1e-4, 0.1, 2.0, 30.0, 120.0, 360.0]),
    st.just(0.9),
)


def brute_force(regions: list[Region], pixels: np.ndarray) -> list[tuple[int, int]]:
    """Pairs by asking each region's cover on its own."""
    pairs = [
        (alert, row)
        for row, region in enumerate(regions)
        for alert in np.flatnonzero(
            sky.contains(cover_ranges(region.localization, region.level), pixels)
        ).tolist()
    ]
    return sorted(pairs)


def pairs_of(index: RegionIndex, pixels: np.ndarray) -> list[tuple[int, int]]:
    alerts, rows = index.lookup(pixels)
    return list(zip(alerts.tolist(), rows.tolist(), strict=True))


def pixels_for(regions: list[Region], n: int = 300) -> np.ndarray:
    """Pixels all over the sky, and on both sides of every end of every cover."""
    rng = np.random.default_rng(len(regions))
    everywhere = rng.integers(0, sky.N_PIX, n)
    ends = [cover_ranges(r.localization, r.level).ravel() for r in regions]
    edges = np.concatenate([np.empty(0, np.int64), *ends])
    near = np.concatenate([edges, edges - 1])
    pixels = np.concatenate([everywhere, near[(near >= 0) & (near < sky.N_PIX)]])
    return rng.permutation(pixels)


@given(st.lists(CIRCLES, max_size=8), st.integers(0, 8), st.sets(st.integers(0, 7)))
@settings(max_examples=40, deadline=None)
def test_however_it_was_made_the_index_finds_what_brute_force_finds(
    region_of: Callable[..., Region], circles: list[Circle], n_first: int, gone: set[int]
) -> None:
    """Built, then added to, then discarded from, then compacted."""
    regions = [replace(region_of(c), event_id=f"E{i}") for i, c in enumerate(circles)]
    pixels = pixels_for(regions)
    index = RegionIndex.build(regions[:n_first])
    rows = [index.add(r) for r in regions[n_first:]]
    assert rows == list(range(min(n_first, len(regions)), len(regions)))
    assert index.regions == tuple(regions)
    assert pairs_of(index, pixels) == brute_force(regions, pixels)
    names = {f"E{i}" for i in gone}
    assert {r.event_id for r in index.discard(lambda r: r.event_id in names)} <= names
    left = [r for r in regions if r.event_id not in names]
    assert index.regions == tuple(left)
    assert pairs_of(index, pixels) == brute_force(left, pixels)
    index.compact()
    assert pairs_of(index, pixels) == brute_force(left, pixels)


def test_an_empty_index_finds_nothing() -> None:
    for index in (RegionIndex(), RegionIndex.build([])):
        assert pairs_of(index, np.array([0, 5, sky.N_PIX - 1])) == []
        assert index.regions == ()


def test_no_positions_give_no_pairs(region_of: Callable[..., Region]) -> None:
    index = RegionIndex.build([region_of(Circle(0.0, 0.0, 1.0, 0.9))])
    alerts, rows = index.lookup(np.empty(0, np.int64))
    assert (alerts.shape, rows.shape) == ((0,), (0,))


def test_the_first_and_last_pixel_of_the_sky(region_of: Callable[..., Region]) -> None:
    index = RegionIndex.build([region_of(Circle(0.0, 0.0, 360.0, 0.9))])
    assert pairs_of(index, np.array([0, sky.N_PIX - 1])) == [(0, 0), (1, 0)]


def test_maps_and_circles_together(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    regions = [region_of(gaussian_map), region_of(Circle(40.0, -20.0, 3.0, 0.9))]
    regions.append(region_of(gaussian_map, level=0.5))
    pixels = pixels_for(regions)
    assert pairs_of(RegionIndex.build(regions), pixels) == brute_force(regions, pixels)


def test_many_additions_are_taken_into_the_large_index(
    region_of: Callable[..., Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_MAX_RECENT", 3)
    regions = [region_of(Circle(float(10 * i), 0.0, 20.0, 0.9)) for i in range(9)]
    index = RegionIndex()
    for i, region in enumerate(regions):
        assert index.add(region) == i
    pixels = pixels_for(regions)
    assert pairs_of(index, pixels) == brute_force(regions, pixels)


def test_a_region_that_cannot_be_is_not_added(region_of: Callable[..., Region]) -> None:
    index = RegionIndex()
    good = region_of(Circle(0.0, 0.0, 1.0, 0.9))
    with pytest.raises(RegionError, match="radius_invalid"):
        index.add(replace(good, localization=Circle(0.0, 0.0, -1.0, 0.9)))
    assert index.regions == ()
    assert index.add(good) == 0


@given(st.integers(0, 6), st.sets(st.integers(0, 5)), st.booleans())
@settings(max_examples=20, deadline=None)
def test_density_and_level_are_those_of_each_region_alone(
    region_of: Callable[..., Region],
    gaussian_map: MultiOrderMap,
    n_first: int,
    gone: set[int],
    compacted: bool,
) -> None:
    """Maps in both indices, before and after rows have moved."""
    maps = [replace(gaussian_map, density=np.roll(gaussian_map.density, 40 * i)) for i in range(5)]
    places = [*maps[:3], Circle(40.0, -20.0, 9.0, 0.9), *maps[3:]]
    regions = [replace(region_of(p, level=0.95), event_id=f"E{i}") for i, p in enumerate(places)]
    index = RegionIndex.build(regions[:n_first])
    for region in regions[n_first:]:
        index.add(region)
    index.discard(lambda r: r.event_id in {f"E{i}" for i in gone})
    if compacted:
        index.compact()
    pixels = pixels_for(regions)
    alerts, rows = index.lookup(pixels)
    ra, dec = sky.to_radec(pixels[alerts])
    density, level = index.evaluate(ra, dec, pixels[alerts], rows)
    for row, region in enumerate(index.regions):
        mine = rows == row
        expected = shape_of(region.localization).at(ra[mine], dec[mine], pixels[alerts][mine])
        assert np.array_equal(density[mine], expected[0])
        assert np.array_equal(level[mine], expected[1])
