from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossmatch import sky
from crossmatch.covers import split_cover
from crossmatch.model import Circle, Ellipse, IntArray, MultiOrderMap, SystematicTerm
from crossmatch.shapes import shape_of

RADII = st.floats(-6.0, 2.2).map(lambda x: 10**x)
TERMS = (SystematicTerm(1.8, 0.52), SystematicTerm(4.1, 0.48))


@st.composite
def circles(draw: st.DrawFn) -> Circle:
    return Circle(
        draw(st.floats(0, 360, exclude_max=True)),
        draw(st.sampled_from([-90.0, 90.0, 0.0]) | st.floats(-90, 90)),
        draw(RADII),
        draw(st.sampled_from([0.68, 0.9])),
        draw(st.sampled_from([(), TERMS])),
    )


def positions_in(ranges: IntArray, rng: np.random.Generator) -> tuple[Any, Any, IntArray]:
    """Corners and random pixels of ranges."""
    first, last = ranges.T
    some = rng.integers(first, last)
    pixels = np.unique(np.concatenate([first, last - 1, some]))
    return *sky.to_radec(pixels), pixels


@given(circles(), st.sampled_from([0.5, 0.9, 0.99, 0.999999]), st.integers(0, 99))
def test_what_is_sure_of_a_circle_is_inside_and_both_parts_are_its_cover(
    circle: Circle, level: float, seed: int
) -> None:
    shape = shape_of(circle)
    sure, doubtful = split_cover(shape, level)
    assert np.array_equal(sky.union(sure, doubtful), sky.merge(shape.cover(level)))
    assert not len(sky.intersection(sure, doubtful))
    if len(sure):
        levels = shape.at(*positions_in(sure, np.random.default_rng(seed)))[1]
        assert (levels <= level).all()


def test_most_of_a_circle_is_sure() -> None:
    sure, doubtful = split_cover(shape_of(Circle(210.0, -40.0, 3.0, 0.9)), 0.9)
    assert sky.area_deg2(sure) > 0.7 * np.pi * 3.0**2
    assert sky.area_deg2(doubtful) < 0.6 * np.pi * 3.0**2


def test_all_of_a_map_is_sure_and_nothing_of_an_ellipse() -> None:
    cells = np.array([5, 6], np.int64) << 40
    skymap = MultiOrderMap(cells, cells + (1 << 40), np.array([1.0, 3.0]))
    for place, number in ((skymap, 0), (Ellipse(10.0, 20.0, 3.0, 1.0, 30.0, 0.9), 1)):
        shape = shape_of(place)
        parts = split_cover(shape, 0.9)
        assert np.array_equal(parts[number], shape.cover(0.9))
        assert not len(parts[1 - number])


def test_at_level_one_everything_is_asked() -> None:
    sure, doubtful = split_cover(shape_of(Circle(0.0, 0.0, 1.0, 0.9)), 1.0)
    assert not len(sure)
    assert np.array_equal(doubtful, sky.whole_sky())


def test_the_radius_of_level_one_is_the_whole_sky() -> None:
    assert shape_of(Circle(1.0, 2.0, 5.0, 0.9)).radius_deg(1.0) == 180.0  # type: ignore[attr-defined]
