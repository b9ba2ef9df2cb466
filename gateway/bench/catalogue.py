"""``mmgateway bench catalogue``: the nearest source of many positions, ours and peers'.

Sources lie evenly on the sky, in the files that ``catalogs add`` would write, mapped into
memory. Half the positions are within an arcsecond or two of a source.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.batches import DEC, PIXEL_COLUMN, RA
from catalogs.indexfiles import IndexFiles
from catalogs.sources import Matches, Sources
from crossmatch.model import FloatArray
from crossmatch.sky import N_PIX, to_radec
from gateway.bench.catalogue_peers import PEERS, Peer, Run, Sky
from gateway.bench.measure import OURS, Row, row_of

BENCH = "catalogue"
PACKAGES = ("mmgateway", "numpy", "healpy", "scipy", "astropy")
RADIUS_ARCSEC = 1.5
_PART = 2_000_000
# Separations by different formulas; what is as near the rim as that is left aside.
_TOLERANCE_ARCSEC = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured: sources of each catalogue and positions of each batch."""

    sources: tuple[int, ...] = (10_000_000,)
    positions: tuple[int, ...] = (400, 10_000, 1_000_000)
    runs: int = 5
    seed: int = 1
    peers: bool = True


SMALL = Sizes(sources=(100_000,), positions=(400, 5_000), runs=2)


def cases(
    work: Path,
    sizes: Sizes,
    tell: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Rows of all cases; ``work`` takes the catalogues, 28 bytes a source.

    ``note`` is told of each peer that is missing, once.
    """
    peers = _present(PEERS, note) if sizes.peers else []
    rows: list[Row] = []
    for number in sizes.sources:
        tell(f"a catalogue of {number:,} sources")
        folder = work / f"{number}"
        sources = made(folder, number, sizes.seed)
        sky = Sky(sources.ra_deg, sources.dec_deg, RADIUS_ARCSEC, folder)
        ready = [(peer, peer.prepare(sky)) for peer in peers if number <= peer.most_sources]
        for count in sizes.positions:
            tell(f"{count:,} positions, {number:,} sources")
            some = [(p, run) for p, run in ready if p.positions[0] <= count <= p.positions[1]]
            rows += _case(sources, some, count, sizes, clock)
    return rows


def made(folder: Path, count: int, seed: int) -> Sources:
    """Sources evenly on the sky, in files of a folder that are made if they are not there.

    Each is in the middle of a pixel of order 29.
    """
    if not (folder / "done").is_file():
        rng = np.random.default_rng(seed)
        index = IndexFiles(folder / "index", count)
        parts = -(-count // _PART)
        edges = np.linspace(0, N_PIX, parts + 1).astype(np.int64)
        for part, some in enumerate(np.diff(np.linspace(0, count, parts + 1).astype(np.int64))):
            pixels = np.sort(rng.integers(edges[part], edges[part + 1], some))
            ra, dec = to_radec(pixels)
            index.write(pa.table({PIXEL_COLUMN: pixels, RA: ra, DEC: dec, "id": pixels}), ["id"])
        index.finish()
        (folder / "done").touch()
    arrays = {
        name: np.asarray(np.load(folder / "index" / f"{name}.npy", mmap_mode="r"))
        for name in ("ra", "dec", "ipix29", "offsets")
    }
    order = round(np.log2(len(arrays["offsets"]) / 12) / 2)
    return Sources(arrays["ra"], arrays["dec"], arrays["ipix29"], arrays["offsets"], order)


def positions(sources: Sources, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Positions in any order, half of them about half an arcsecond from a source."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    near = rng.permutation(count)[: count // 2]
    row = rng.integers(0, len(sources), len(near))
    dec[near] = np.clip(sources.dec_deg[row] + rng.normal(0, 0.5 / 3600, len(near)), -90, 90)
    stretch = np.maximum(np.cos(np.radians(dec[near])), 1e-6)
    ra[near] = sources.ra_deg[row] + rng.normal(0, 0.5 / 3600, len(near)) / stretch
    return ra % 360, dec


def same(ours: Matches, theirs: Matches) -> bool:
    """Whether the same sources were found, and separations agree."""
    away = np.stack([ours.separation_arcsec, theirs.separation_arcsec])
    rim = (np.abs(away - RADIUS_ARCSEC) < _TOLERANCE_ARCSEC).any(axis=0)
    found = (ours.row >= 0) & (theirs.row >= 0)
    agree = np.abs(away[0][found] - away[1][found]) <= _TOLERANCE_ARCSEC
    return bool((ours.row == theirs.row)[~rim].all() and agree.all())


def _present(peers: Sequence[Peer], note: Callable[[str], None]) -> list[Peer]:
    there = []
    for peer in peers:
        if (why := peer.missing()) is None:
            there.append(peer)
        else:
            note(f"{peer.name}: left out, {why}")
    return there


def _case(
    sources: Sources,
    peers: Sequence[tuple[Peer, Run]],
    count: int,
    sizes: Sizes,
    clock: Callable[[], float],
) -> list[Row]:
    """Rows of one batch: what all find is compared first, then they take turns.

    Each run has positions of its own, as in life: nothing lies in the processor's cache.
    """
    asked = [positions(sources, count, sizes.seed + 1 + n) for n in range(sizes.runs + 1)]
    ours = sources.closest(*asked[0], RADIUS_ARCSEC)
    equal = {peer.name: same(ours, run(*asked[0])) for peer, run in peers}
    taken: dict[str, list[float]] = {OURS: [], **{peer.name: [] for peer, _ in peers}}
    for number, batch in enumerate(asked[1:]):
        began = clock()
        sources.closest(*batch, RADIUS_ARCSEC)
        taken[OURS].append(clock() - began)
        for peer, run in peers:
            if number and peer.slow:
                continue
            began = clock()
            run(*batch)
            taken[peer.name].append(clock() - began)
    name = f"{count:,} of {len(sources):,}"
    told = (
        f"{count:,} positions, {(ours.row >= 0).sum():,} with a source within {RADIUS_ARCSEC}″ of"
        f" {len(sources):,}. Timed: from right ascensions and declinations to nearest source and"
        " separation, one processor each; what a peer prepares once for its catalogue is not"
        " timed, but STILTS reads files. Equal: the same sources, separations to 1e-6″"
    )
    median = statistics.median(taken[OURS])
    return [
        row_of(BENCH, name, s, count, t, median, equal=equal.get(s), compared=told)
        for s, t in taken.items()
    ]
