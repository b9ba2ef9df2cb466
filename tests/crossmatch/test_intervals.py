from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossmatch import sky
from crossmatch.intervals import Intervals, intervals_of, merged
from crossmatch.model import IntArray

RANGE = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda r: (r[0], r[0] + r[1]))
COVERS = st.lists(
    st.lists(RANGE, max_size=5).map(lambda r: sky.merge(np.array(r, np.int64).reshape(-1, 2))),
    max_size=6,
)
PIXELS = np.arange(-1, 42)


def held(intervals: Intervals) -> list[list[int]]:
    """Regions of each pixel."""
    begin, end = intervals.find(PIXELS)
    return [intervals.rows[a:b].tolist() for a, b in zip(begin, end, strict=True)]


def one_by_one(covers: list[IntArray]) -> list[list[int]]:
    return [[i for i, c in enumerate(covers) if sky.contains(c, np.array([p]))[0]] for p in PIXELS]


@given(COVERS)
def test_each_pixel_has_the_regions_whose_ranges_hold_it(covers: list[IntArray]) -> None:
    assert held(intervals_of(covers, 0)) == one_by_one(covers)


@st.composite
def sky_edges(draw: st.DrawFn) -> IntArray:
    """Edges at starts of cells of all orders, beside them, and at both ends of the sky."""
    cells = draw(st.lists(st.tuples(st.integers(0, 29), st.floats(0, 1)), min_size=1, max_size=30))
    starts = [int(part * 12 * 4**order) * 4 ** (29 - order) for order, part in cells]
    near = draw(st.lists(st.sampled_from([-1, 0, 1, 7]), min_size=30, max_size=30))
    edges = [s + n for s, n in zip(starts, near, strict=False)] + draw(
        st.sampled_from([[], [0], [sky.N_PIX], [0, sky.N_PIX]])
    )
    return np.unique(np.clip(np.array(edges, np.int64), 0, sky.N_PIX))


@given(sky_edges())
def test_a_pixel_is_found_between_the_edges_beside_it_anywhere_on_the_sky(edges: IntArray) -> None:
    intervals = Intervals(edges, np.arange(len(edges)), np.arange(len(edges) - 1, dtype=np.int32))
    pixels = np.unique(np.clip(edges[:, None] + [-1, 0, 1], 0, sky.N_PIX - 1))
    begin, end = intervals.find(pixels)
    found = [intervals.rows[a:b].tolist() for a, b in zip(begin, end, strict=True)]
    last = len(edges) - 1
    expected = [int((edges <= pixel).sum()) - 1 for pixel in pixels]
    assert found == [[i] if 0 <= i < last else [] for i in expected]


@given(COVERS, st.integers(0, 6))
def test_merged_are_as_made_at_once(covers: list[IntArray], n_below: int) -> None:
    below = covers[:n_below]
    both = merged(intervals_of(below, 0), intervals_of(covers[n_below:], len(below)))
    assert held(both) == one_by_one(covers)
    at_once = intervals_of(covers, 0)
    assert np.array_equal(both.edges, at_once.edges)
    assert np.array_equal(both.rows, at_once.rows)


@given(COVERS, st.sets(st.integers(0, 5)))
def test_what_is_left_after_some_are_gone(covers: list[IntArray], gone: set[int]) -> None:
    stays = np.array([i not in gone for i in range(len(covers))], np.bool_)
    new_row = np.where(stays, np.cumsum(stays) - 1, -1)
    left = intervals_of(covers, 0).renumbered(new_row)
    expected = one_by_one([c for c, stay in zip(covers, stays, strict=True) if stay])
    assert held(left) == expected
    simple = left.simplified()
    assert held(simple) == expected
    lists = [simple.rows[a:b].tolist() for a, b in pairwise(simple.first)]
    assert all(one != other for one, other in pairwise(lists))
