"""The bench of the join: peers find the same, or it says so and fails."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from crossmatch.index import RegionIndex
from crossmatch.model import Circle, MultiOrderMap
from crossmatch.region import area_deg2
from gateway.bench import join, join_peers
from gateway.bench.join_peers import Found
from gateway.bench.join_world import arc_map, regions, world
from gateway.bench.measure import OURS
from gateway.cli import main
from gateway.night.maps import Arc

KEYS = set(
    "bench case subject items seconds per_s us_per_item ratio_to_ours equal".split()  # noqa: SIM905
)
TINY = replace(join.SMALL, alerts=1500, regions=(6,), growth=(), runs=1, one_by_one=3)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(join, "SMALL", TINY)


def test_a_line_for_ours_and_each_peer_all_equal(capsys):
    assert main(["bench", "join", "--small", "--json"]) == 0
    lines = capsys.readouterr()
    rows = [json.loads(line) for line in lines.out.splitlines()]
    assert {r["case"] for r in rows} == {
        "1 region",
        "20 regions",
        "16 circles",
        "growth",
        "add a map",
    }
    there = [p for p in join_peers.PEERS if p.missing() is None]
    assert len(there) >= 4
    for case in ("1 region", "20 regions"):
        mine = {r["subject"]: r for r in rows if r["case"] == case}
        assert set(mine) == {OURS, join._LEVELS, *(p.name for p in there)}
        assert all(mine[p.name]["equal"] is True for p in there)
        assert mine[OURS]["ratio_to_ours"] == 1.0
    for row in rows:
        assert row.keys() >= KEYS
        assert row["machine"]["load_1min"] >= 0
    (ours,) = (r for r in rows if (r["case"], r["subject"]) == ("20 regions", OURS))
    assert ours["facts"]["index_bytes"] > 8 * ours["facts"]["map_cells"] > 0
    (added,) = (r for r in rows if r["case"] == "add a map")
    assert added["equal"] is True
    assert added["facts"]["longest_ms"] >= added["facts"]["median_ms"] > 0
    for peer in join_peers.PEERS:
        assert (peer.name in lines.err) == (peer not in there)


def test_a_table_tells_what_was_scaled(tiny, capsys):
    assert main(["bench", "join", "--small"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mocpy, region by region: the first 3 regions, time times 2" in out


def test_a_peer_that_finds_something_else_is_told_and_fails(tiny, monkeypatch, capsys):
    def prepare(given):
        return lambda: Found(np.array([0]), np.array([0]))

    peer = replace(join_peers.PEERS[1], name="wrong", prepare=prepare)
    monkeypatch.setattr(join, "PEERS", (peer,))
    assert main(["bench", "join", "--small", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["equal"] for r in rows if r["subject"] == "wrong"] == [False]


@pytest.mark.parametrize(("threads", "told"), [(1, None), (2, "uses 2 threads")])
def test_polars_has_one_thread_or_it_is_told(monkeypatch, threads: int, told: str | None):
    fake = SimpleNamespace(__spec__=object(), thread_pool_size=lambda: threads)
    monkeypatch.setitem(sys.modules, "polars", fake)
    monkeypatch.setenv("POLARS_MAX_THREADS", "1")
    why = join_peers.one_thread()
    assert why is None if told is None else told in str(why)


def test_a_missing_peer_is_one_line(tiny, monkeypatch, capsys):
    # Whoever imported polars before has its threads.
    monkeypatch.setattr(join, "one_thread", lambda: None)
    peer = replace(join_peers.PEERS[1], name="absent", module="nowhere.at_all")
    monkeypatch.setattr(join, "PEERS", (peer,))
    assert main(["bench", "join", "--small", "--json"]) == 0
    lines = capsys.readouterr()
    assert sum("absent" in line for line in lines.err.splitlines()) == 1
    assert "absent: left out" in lines.err
    assert "mmgateway[bench]" in lines.err
    assert "absent" not in lines.out


def test_no_peers_when_none_are_wanted(tiny, capsys):
    assert main(["bench", "join", "--small", "--no-peers", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["subject"] for r in rows} == {OURS, join._LEVELS}


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (Found(np.array([1, 0]), np.array([0, 2]), np.array([0.5, 0.1])), True),
        (Found(np.array([1, 0]), np.array([0, 2]), None), True),
        (Found(np.array([1, 0]), np.array([0, 2]), np.array([0.5, 0.1001])), False),
        (Found(np.array([1, 0]), np.array([0, 1]), None), False),
        (Found(np.array([1]), np.array([0]), None), False),
        (Found(np.array([1, 0, 0]), np.array([0, 2, 2]), None), False),
    ],
)
def test_same_is_the_same_pairs_and_levels(other, equal):
    ours = Found(np.array([0, 1]), np.array([2, 0]), np.array([0.1, 0.5]))
    assert join.same(ours, other, 3) is equal


def test_maps_are_added_until_a_layer_of_them_is_merged_with_the_large_one():
    given = world(regions(20, 300, 1), 100, 1)
    ticks = itertools.count()
    for least, expected in ((1, 3), (5, 5)):
        index = RegionIndex.build(given.regions)
        taken, is_merged = join._added_seconds(index, given, 300, least, lambda: next(ticks))
        assert taken == [1] * expected
        assert is_merged
        assert len(index) == 20 + expected


def test_no_more_maps_are_added_than_can_be_waited_for(monkeypatch):
    monkeypatch.setattr(join, "_MOST_ADDED", 2)
    given = world(regions(20, 300, 1), 100, 1)
    index = RegionIndex.build(given.regions)
    taken, is_merged = join._added_seconds(index, given, 300, 1, lambda: 0.0)
    assert (len(taken), is_merged) == (2, False)


@pytest.mark.parametrize("area", [10.0, 300.0, 2000.0])
def test_generated_maps_have_the_area_and_about_the_cells_asked_for(area):
    along = np.sqrt(area / 14.47 * 8)
    arc = Arc(10.0, -40.0, 70.0, along, area / 14.47 / along, 60.0)
    skymap = arc_map(arc, 4000)
    assert area_deg2(skymap, 0.9) == pytest.approx(area, rel=0.1)
    assert 2000 < len(skymap.start) < 8000


def test_worlds_follow_from_the_seed():
    one, again, other = (regions(10, 300, seed) for seed in (1, 1, 2))
    kinds = [type(r.localization) for r in one]
    assert kinds == [MultiOrderMap, *[Circle] * 4] * 2
    assert [r.localization for r in one[1:5]] == [r.localization for r in again[1:5]]
    assert one[1].localization != other[1].localization
    assert np.array_equal(world(one, 50, 1).ra_deg, world(again, 50, 1).ra_deg)
