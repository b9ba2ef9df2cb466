import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch import index as index_module
from crossmatch import sky
from crossmatch.errors import RegionError
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import (
    Circle,
    Ellipse,
    IntArray,
    Localization,
    MultiOrderMap,
    Polygon,
    Region,
    SystematicTerm,
)
from crossmatch.region import cover_ranges
from crossmatch.shapes import shape_of

CIRCLES = st.builds(
    Circle,
    st.floats(0, 360) | st.sampled_from([0.0, 45.0, 360.0]),
    st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0]),
    st.sampled_from([1e-4, 0.1, 2.0, 30.0, 120.0, 360.0]),
    st.just(0.9),
)


def cell_map(cells: dict[tuple[int, int], float]) -> MultiOrderMap:
    """Map of cells (order, number in its order) with weights, disjoint ones."""
    ranges = sorted(
        ((n << 2 * (29 - order), (n + 1) << 2 * (29 - order)), weight)
        for (order, n), weight in cells.items()
    )
    start, end = np.array([r for r, _ in ranges], np.int64).T
    weight = np.array([w for _, w in ranges])
    area = (end - start) * sky.PIXEL_SR
    return MultiOrderMap(start, end, weight / area / weight.sum())


@st.composite
def maps(draw: st.DrawFn) -> MultiOrderMap:
    """Few cells of one base pixel each, of orders 0 to 29, at its corners and inside."""
    cells = {}
    for base in draw(st.sets(st.integers(0, 11), min_size=1, max_size=4)):
        order = draw(st.sampled_from([0, 1, 5, 20, 21, 28, 29]))
        inside = draw(st.sampled_from([0, 4**order - 1]) | st.integers(0, 4**order - 1))
        cells[order, base * 4**order + inside] = draw(st.sampled_from([1.0, 1.0, 3.0, 20.0]))
    return cell_map(cells)


PLACES = CIRCLES | maps()
LEVELS = st.sampled_from([0.5, 0.9, 1.0])


def truth(regions: list[Region], pixels: IntArray) -> dict[tuple[int, int], float]:
    """Levels of all pairs inside, every region asked about every position."""
    ra, dec = sky.to_radec(pixels)
    inside = {}
    for row, region in enumerate(regions):
        _, levels = shape_of(region.localization).at(ra, dec, sky.ipix29(ra, dec))
        for alert in np.flatnonzero(levels <= region.level).tolist():
            inside[alert, row] = float(levels[alert])
    return inside


def found_by(index: RegionIndex, pixels: IntArray) -> dict[tuple[int, int], float]:
    """What matching finds, all windows open."""
    ra, dec = sky.to_radec(pixels)
    pairs = match(np.full(len(ra), 2460325.0 + 1), ra, dec, index)
    rows = list(zip(pairs.alert_row.tolist(), pairs.region_row.tolist(), strict=True))
    assert rows == sorted(set(rows))
    return dict(zip(rows, pairs.credible_level.tolist(), strict=True))


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
    """Built, then added to, then discarded from, then compacted, then saved."""
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


def test_many_additions_are_merged_into_few_layers(
    region_of: Callable[..., Region], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_SHRINK", 2)
    regions = [region_of(Circle(float(10 * i), 0.0, 20.0, 0.9)) for i in range(16)]
    index = RegionIndex()
    for i, region in enumerate(regions):
        assert index.add(region) == i
    assert len(index.tables.layers) == 1
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
    ra, dec = sky.to_radec(pixels)
    density, level = index.tables.evaluate(ra, dec, pixels, alerts, rows)
    for row, region in enumerate(index.regions):
        mine = rows == row
        at = alerts[mine]
        expected = shape_of(region.localization).at(ra[at], dec[at], pixels[at])
        assert density[mine] == pytest.approx(expected[0], rel=1e-9)
        assert level[mine] == pytest.approx(expected[1], rel=1e-9, abs=1e-14)


def agree(found: dict[tuple[int, int], float], regions: list[Region], pixels: IntArray) -> bool:
    """Same pairs and levels; on the very rim of a circle rounding may decide either way."""
    expected = truth(regions, pixels)
    for key in expected.keys() ^ found.keys():
        level = expected.get(key, found.get(key))
        if level != pytest.approx(regions[key[1]].level, rel=1e-6):
            return False
    return all(found[k] == pytest.approx(expected[k], rel=1e-6, abs=1e-9)
               for k in expected.keys() & found.keys())  # fmt: skip


@given(
    st.lists(st.tuples(PLACES, LEVELS), max_size=7),
    st.integers(0, 7),
    st.sets(st.integers(0, 6)),
)
@settings(max_examples=60, deadline=None)
def test_pairs_and_levels_are_those_of_asking_each_region_about_each_position(
    region_of: Callable[..., Region],
    places: list[tuple[Localization, float]],
    n_first: int,
    gone: set[int],
) -> None:
    """Poles, RA 0/360, cell edges, whole sky, cells of order 29; built, added to, cut down,
    built anew, saved and loaded."""
    regions = [
        replace(region_of(place, level=level), event_id=f"E{i}")
        for i, (place, level) in enumerate(places)
    ]
    pixels = pixels_for(regions, n=100)
    index = RegionIndex.build(regions[:n_first])
    for region in regions[n_first:]:
        index.add(region)
    assert agree(found_by(index, pixels), regions, pixels)
    names = {f"E{i}" for i in gone}
    index.discard(lambda r: r.event_id in names)
    left = [r for r in regions if r.event_id not in names]
    found = found_by(index, pixels)
    assert agree(found, left, pixels)
    assert found_by(RegionIndex.build(left), pixels) == found
    index.compact()
    assert found_by(index, pixels) == found
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "tables")
        for mmap in (True, False):
            assert found_by(RegionIndex.load(Path(folder) / "tables", mmap=mmap), pixels) == found


def every_kind(region_of: Callable[..., Region], gaussian_map: MultiOrderMap) -> list[Region]:
    terms = tuple(SystematicTerm(float(i + 1), 0.25) for i in range(4))
    return [
        region_of(gaussian_map),
        region_of(Circle(40.0, -20.0, 3.0, 0.9)),
        region_of(Circle(40.0, -20.0, 3.0, 0.68, (*terms[:2], SystematicTerm(9.0, 0.5)))),
        region_of(Circle(40.0, -20.0, 3.0, 0.68, terms)),
        region_of(Circle(40.0, -20.0, 360.0, 0.9)),
        region_of(Ellipse(35.0, -25.0, 9.0, 2.0, 70.0, 0.9)),
        region_of(Polygon(((30, -30), (50, -30), (50, -10), (30, -10)), 0.9), level=0.95),
        region_of(gaussian_map, level=1.0),
        region_of(cell_map({(29, 5): 1.0, (29, 6): 3.0}), level=0.8),
    ]


def test_every_kind_of_region_is_the_same_saved_and_loaded(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap, tmp_path: Path
) -> None:
    regions = every_kind(region_of, gaussian_map)
    index = RegionIndex.build(regions)
    index.save(tmp_path / "a" / "tables")
    loaded = RegionIndex.load(tmp_path / "a" / "tables")
    pixels = pixels_for(regions)
    found = found_by(index, pixels)
    assert agree(found, regions, pixels)
    assert {row for _, row in found} == set(range(len(regions)))
    assert found_by(loaded, pixels) == found


def test_loaded_tables_are_pickled_as_the_name_of_their_folder(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap, tmp_path: Path
) -> None:
    regions = every_kind(region_of, gaussian_map)
    index = RegionIndex.build(regions)
    index.save(tmp_path)
    packed = pickle.dumps(RegionIndex.load(tmp_path))
    assert len(packed) < 500
    pixels = pixels_for(regions)
    assert found_by(pickle.loads(packed), pixels) == found_by(index, pixels)
    assert found_by(pickle.loads(pickle.dumps(index.tables)), pixels) == found_by(index, pixels)


def test_large_arrays_are_mapped_and_cannot_be_written(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap, tmp_path: Path
) -> None:
    index = RegionIndex.build([region_of(gaussian_map, level=0.99)] * 20)
    index.save(tmp_path)
    key = RegionIndex.load(tmp_path).cells.key
    assert key.nbytes > 1 << 16
    assert not key.flags.writeable
    assert not key.flags.owndata


def test_nothing_saved_and_another_layout_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RegionIndex.load(tmp_path)
    RegionIndex().save(tmp_path)
    assert len(RegionIndex.load(tmp_path)) == 0
    with pytest.raises(FileExistsError):
        RegionIndex().save(tmp_path)
    (tmp_path / "tables.json").write_text('{"layout": 0}')
    with pytest.raises(ValueError, match="another version"):
        RegionIndex.load(tmp_path)


def test_tables_given_out_stay_as_they_were(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap
) -> None:
    """A search goes on with its tables while regions come and go."""
    regions = every_kind(region_of, gaussian_map)
    pixels = pixels_for(regions)
    index = RegionIndex.build(regions[:4])
    before = index.tables
    found = found_by(before, pixels)
    for region in regions[4:]:
        index.add(region)
    index.discard(lambda r: r is regions[0])
    index.compact()
    assert found_by(before, pixels) == found


def test_what_regions_leave_behind_is_cleared_away(
    region_of: Callable[..., Region], gaussian_map: MultiOrderMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year of regions that come and go takes no more memory than those of the moment."""
    monkeypatch.setattr(index_module, "_FEW_GONE", 2)
    index = RegionIndex()
    sizes = []
    for i in range(30):
        index.add(replace(region_of(gaussian_map), event_id=f"E{i}"))
        index.discard(lambda r, now=i: int(r.event_id[1:]) < now - 2)
        sizes.append(index.tables.nbytes)
    assert max(sizes) < 4 * sizes[2]
    index.discard(lambda r: True)
    index.compact()
    assert index.tables.nbytes < 100
