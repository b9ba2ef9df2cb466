"""``mmgateway bench join``: alerts meet regions, ours and peers'."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import Circle, IntArray
from gateway.bench.join_peers import CIRCLE_PEERS, PEERS, Found, Peer, Run, one_thread
from gateway.bench.join_world import LEVEL, World, arc_map, region_of, regions, world
from gateway.bench.measure import OURS, Row, row_of
from gateway.night.maps import Arc

BENCH = "join"
PACKAGES = (
    "mmgateway", "numpy", "healpy", "ligo.skymap", "mocpy", "duckdb", "polars",
)  # fmt: skip
# With more regions their areas shrink, so that an alert lies in about as many.
_NATURAL = 1000
# Areas of the case in which cost is compared at equal pairs, with so many regions.
_EQUAL_AT = 300
_ADDED_CELLS = 20_000
# So many maps come at most until a layer of small ones is merged with the large one; a look-up of
# a few positions after each makes what is only made when it is needed.
_MOST_ADDED = 150
_FEW_POSITIONS = 8
_LEVEL_TOLERANCE = 1e-6
_LEVELS = f"{OURS}, with density and level"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    ``cells`` is the mean of a map: a fifth of the regions are maps. Peers that ask one
    region after another are asked for ``one_by_one`` of them, and their time is scaled.
    """

    alerts: int = 1_000_000
    regions: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    growth: tuple[int, ...] = (100, 1000, 10_000)
    cells: int = 10_000
    one_by_one: int = 40
    runs: int = 5
    seed: int = 1
    peers: bool = True


SMALL = Sizes(alerts=5000, regions=(1, 20), growth=(20, 60), cells=500, one_by_one=10, runs=2)


def cases(
    sizes: Sizes,
    tell: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Rows of all cases; ``note`` is told of each peer that is missing, once."""
    if sizes.peers and (why := one_thread()) is not None:
        note(why)
    peers = _present(PEERS, note) if sizes.peers else []
    of_circles = _present(CIRCLE_PEERS, note) if sizes.peers else []
    rows: list[Row] = []
    for number in sizes.regions:
        name = "1 region" if number == 1 else f"{number:,} regions"
        tell(name)
        made = _world(sizes, number, min(1.0, _NATURAL / number))
        rows += _case(name, made, peers, sizes, clock)
        if number == max(n for n in sizes.regions if n <= max(_NATURAL, min(sizes.regions))):
            circles = [r for r in made.regions if isinstance(r.localization, Circle)]
            if circles:
                tell(f"{len(circles):,} circles")
                some = replace(made, regions=tuple(circles))
                rows += _case(f"{len(circles):,} circles", some, of_circles, sizes, clock)
    if len(sizes.growth) > 1:
        tell("growth with the number of regions")
        rows += _growth(sizes, clock)
    tell("adding a map")
    rows.append(_added(sizes, clock))
    return rows


def _present(peers: Sequence[Peer], note: Callable[[str], None]) -> list[Peer]:
    there = []
    for peer in peers:
        if (why := peer.missing()) is None:
            there.append(peer)
        else:
            note(
                f"{peer.name}: left out, {peer.package} cannot be used ({why});"
                " pip install 'mmgateway[bench]' installs it"
            )
    return there


def _world(sizes: Sizes, number: int, scale: float) -> World:
    return world(regions(number, sizes.cells, sizes.seed, scale), sizes.alerts, sizes.seed)


def _ours(index: RegionIndex, given: World) -> tuple[Run, Run]:
    """Pairs alone, and pairs with density and level."""

    def pairs() -> Found:
        found = match(given.time_jd, given.ra_deg, given.dec_deg, index)
        return Found(found.alert_row, found.region_row)

    def with_levels() -> Found:
        found = match(given.time_jd, given.ra_deg, given.dec_deg, index)
        return Found(found.alert_row, found.region_row, found.credible_level)

    return pairs, with_levels


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A peer with what it is asked, and how many times as much the whole is."""

    name: str
    run: Run
    equal: bool
    share: float
    told: str


def _case(
    name: str, given: World, peers: Sequence[Peer], sizes: Sizes, clock: Callable[[], float]
) -> list[Row]:
    """Rows of one case: what all find is compared first, then they take turns."""
    index = RegionIndex.build(given.regions)
    ours, with_levels = _ours(index, given)
    found = with_levels()
    pairs = len(found.alert) / max(len(given.ra_deg), 1)
    asked = [_asked(peer, given, found, sizes) for peer in peers]
    del found
    subjects = [(OURS, ours, 1.0), (_LEVELS, with_levels, 1.0)]
    subjects += [(a.name, a.run, a.share) for a in asked]
    taken: dict[str, list[float]] = {subject: [] for subject, _, _ in subjects}
    for _ in range(sizes.runs):
        for subject, run, share in subjects:
            began = clock()
            run()
            taken[subject].append((clock() - began) * share)
    told = (
        f"{len(given.regions):,} region(s) with {given.cells:,} map cells, {len(given.ra_deg):,}"
        f" alerts, {pairs:.2f} pairs an alert. Timed: from positions to pairs, each subject on"
        " one processor; ligo.skymap and the second of ours give levels and densities, too."
        " Equal: the set of pairs, and levels to 1e-6"
    )
    told = ". ".join([told, *(f"{a.name}: {a.told}" for a in asked if a.told)])
    median = statistics.median(taken[OURS])
    equal = {a.name: a.equal for a in asked}
    n = len(given.ra_deg)
    size = {"map_cells": given.cells, "index_bytes": index.tables.nbytes}
    return [
        row_of(
            BENCH,
            name,
            s,
            n,
            taken[s],
            median,
            equal=equal.get(s),
            compared=told,
            facts=size if s == OURS else None,
        )
        for s in taken
    ]


def _asked(peer: Peer, given: World, found: Found, sizes: Sizes) -> _Asked:
    """A peer ready to be timed, after its results were compared with ours."""
    n_regions, n_alerts = len(given.regions), len(given.ra_deg)
    some_regions = min(sizes.one_by_one, n_regions) if peer.one_by_one else n_regions
    some_alerts = n_alerts if n_regions <= peer.all_regions else max(n_alerts // 10, 1)
    part = World(
        given.regions[:some_regions],
        given.time_jd[:some_alerts],
        given.ra_deg[:some_alerts],
        given.dec_deg[:some_alerts],
    )
    run = peer.prepare(part)
    mine = (found.region < some_regions) & (found.alert < some_alerts)
    level = None if found.level is None else found.level[mine]
    equal = same(Found(found.alert[mine], found.region[mine], level), run(), n_regions)
    told = []
    if some_regions < n_regions:
        told.append(f"the first {some_regions:,} regions")
    if some_alerts < n_alerts:
        told.append(f"the first {some_alerts:,} alerts")
    share = n_regions / some_regions * (n_alerts / some_alerts)
    scaled = f"{' and '.join(told)}, time times {share:g}" if told else ""
    return _Asked(peer.name, run, equal, share, scaled)


def same(ours: Found, theirs: Found, n_regions: int) -> bool:
    """Whether the pairs are the same set, and levels agree where both have them."""

    def keys(found: Found) -> tuple[IntArray, IntArray]:
        key = found.alert.astype(np.int64) * n_regions + found.region
        order = np.argsort(key)
        return key[order], order

    (mine, order), (other, other_order) = keys(ours), keys(theirs)
    if not np.array_equal(mine, other):
        return False
    if ours.level is None or theirs.level is None:
        return True
    away = np.abs(ours.level[order] - theirs.level[other_order])
    return bool(np.all(away <= _LEVEL_TOLERANCE))


def _growth(sizes: Sizes, clock: Callable[[], float]) -> list[Row]:
    """Ours alone, with more and more regions of smaller and smaller area."""
    runs, names, pairs = [], [], []
    for number in sizes.growth:
        given = _world(sizes, number, _EQUAL_AT / number)
        runs.append(_ours(RegionIndex.build(given.regions), given)[0])
        names.append(f"{OURS}, {number:,} regions")
        pairs.append(len(runs[-1]().alert) / sizes.alerts)
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(sizes.runs):
        for run, seconds in zip(runs, taken, strict=True):
            began = clock()
            run()
            seconds.append(clock() - began)
    first = statistics.median(taken[0])
    told = (
        "areas shrink as regions become more, so that alerts have about as many pairs: "
        + ", ".join(f"{p:.2f} with {n:,}" for p, n in zip(pairs, sizes.growth, strict=True))
        + f". The ratio is to the first, with {sizes.growth[0]:,} regions"
    )
    return [
        row_of(BENCH, "growth", n, sizes.alerts, t, first, equal=None, compared=told)
        for n, t in zip(names, taken, strict=True)
    ]


def _added(sizes: Sizes, clock: Callable[[], float]) -> Row:
    """One map more, until a look-up has found; and it is found as if all were built anew."""
    number = max(n for n in sizes.regions if n <= max(_NATURAL, min(sizes.regions)))
    given = _world(sizes, number, 1.0)
    index = RegionIndex.build(given.regions)
    cells = min(_ADDED_CELLS, 2 * sizes.cells)
    taken, is_merged = _added_seconds(index, given, cells, 4 * sizes.runs, clock)
    time_jd, ra, dec = (a[:20_000] for a in (given.time_jd, given.ra_deg, given.dec_deg))
    added, anew = (
        Found(p.alert_row, p.region_row, p.credible_level)
        for p in (match(time_jd, ra, dec, i) for i in (index, RegionIndex.build(index.regions)))
    )
    merged = "until a layer of them was" if is_merged else "and no layer of them was"
    told = (
        f"a map of about {cells:,} cells (level {LEVEL}) comes to an index of {number:,} regions,"
        f" {len(taken)} maps in turn, {merged} merged with the large one; timed until a first"
        f" look-up of {_FEW_POSITIONS} positions is done; equal: found as in an index built anew"
    )
    median = statistics.median(taken)
    return row_of(
        BENCH,
        "add a map",
        OURS,
        1,
        taken,
        median,
        equal=same(added, anew, len(index)),
        compared=told,
        facts={
            "maps": len(taken),
            "median_ms": round(median * 1e3, 2),
            "longest_ms": round(max(taken) * 1e3, 1),
            "large_layer_merged": "yes" if is_merged else "no",
        },
    )


def _added_seconds(
    index: RegionIndex, given: World, cells: int, least: int, clock: Callable[[], float]
) -> tuple[list[float], bool]:
    """What each map more takes, and whether the last one let all layers become one.

    There are ``least`` maps, and more until that happens, but not more than can be waited for.
    """
    time_jd, ra, dec = (a[:_FEW_POSITIONS] for a in (given.time_jd, given.ra_deg, given.dec_deg))
    match(time_jd, ra, dec, index)
    taken: list[float] = []
    is_merged = False
    while len(taken) < least or not (is_merged or len(taken) >= _MOST_ADDED):
        i = len(taken)
        arc = Arc((40.0 + 9 * i) % 360, 20.0 - i % 80, 30.0 * i % 360, 20.0, 2.0, 60.0)
        one = region_of(arc_map(arc, cells), f"added-{i}")
        began = clock()
        index.add(one)
        match(time_jd, ra, dec, index)
        taken.append(clock() - began)
        is_merged |= len(index.tables.layers) == 1
    return taken, is_merged
