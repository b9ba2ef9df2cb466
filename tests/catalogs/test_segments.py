"""Where moving objects are at a time: against brute force, anywhere on the sky."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs import segments
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray
from tests.catalogs.catalogfiles import NOW, write
from tests.catalogs.test_sources import ODD_PLACES

JD = 2461100.5
GAP = 1.5
# Rounding of the two formulas, in arcseconds; a Julian date resolves 40 microseconds, in which
# the fastest moves by a tenth of a milliarcsecond.
RIM = 1e-3


def vector(ra: float, dec: float) -> FloatArray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def degrees(place: FloatArray) -> tuple[float, float]:
    x, y, z = place
    return float(np.degrees(np.arctan2(y, x)) % 360), float(
        np.degrees(np.arctan2(z, np.hypot(x, y)))
    )


def angle_arcsec(one: FloatArray, other: FloatArray) -> float:
    across = np.linalg.norm(np.cross(one, other))
    return float(np.degrees(np.arctan2(across, one @ other)) * 3600)


def moved(rng: np.random.Generator, place: FloatArray, away_deg: float) -> FloatArray:
    """A place so far away in any direction."""
    way = np.cross(place, rng.normal(size=3))
    away = np.radians(away_deg)
    return np.asarray(place * np.cos(away) + way / np.linalg.norm(way) * np.sin(away))


def slerp(one: FloatArray, other: FloatArray, part: float) -> FloatArray:
    whole = np.radians(angle_arcsec(one, other) / 3600)
    if whole < 1e-12:
        return one
    return np.asarray(
        (np.sin((1 - part) * whole) * one + np.sin(part * whole) * other) / np.sin(whole)
    )


Track = list[tuple[float, FloatArray]]


def tracks(rng: np.random.Generator, start: FloatArray, count: int) -> dict[str, Track]:
    """Objects around a place with a few times each, slow ones and fast ones."""
    found = {}
    for number in range(count):
        speed = 10 ** rng.uniform(-3, 1.7)
        time, place = JD + rng.uniform(0, 1), moved(rng, start, rng.uniform(0, 2 * speed))
        track = [(time, place)]
        for _ in range(rng.integers(1, 5)):
            # After a gap that is too long there must be another time near enough.
            days = rng.uniform(0.02, GAP)
            if rng.random() < 0.3 and len(track) > 1:
                time += GAP + rng.uniform(0.01, 2.0)
                track.append((time, moved(rng, place, rng.uniform(0, speed))))
                place = track[-1][1]
            time, place = time + days, moved(rng, place, speed * days)
            track.append((time, place))
        found[f"2026 {number}"] = track
    return found


def known(track: Track, time: float) -> FloatArray | None:
    """Where an object is at a time, None where nothing is known."""
    for (start, one), (end, other) in pairwise(track):
        if start <= time <= end and end - start <= GAP:
            return slerp(one, other, (time - start) / (end - start))
    return None


def asked(
    rng: np.random.Generator, found: dict[str, Track], radius: float
) -> Iterator[tuple[float, FloatArray]]:
    """Times and places: beside objects at any time, at the ends of segments, and in gaps."""
    for track in found.values():
        times = [time for time, _ in track]
        between = rng.uniform(times[0] - 0.5, times[-1] + 0.5, 6).tolist()
        for time in [*times, *between]:
            place = known(track, time)
            place = track[0][1] if place is None else place
            yield time, moved(rng, place, rng.uniform(0, 2 * radius) / 3600)


def added(folder: Path, found: dict[str, Track], seed: int) -> StoredCatalog:
    rows = [(name, time, *degrees(p)) for name, track in found.items() for time, p in track]
    order = np.random.default_rng(seed).permutation(len(rows))
    columns = dict(zip(("name", "jd", "ra", "dec"), zip(*rows, strict=True), strict=True))
    path = write(folder / "a.parquet", {n: np.asarray(v)[order] for n, v in columns.items()})
    store = Store(folder / "store")
    store.add(path, Wanted(name="test", kind=Kind.minor_planets), NOW)
    return store.open("test")


def agrees(catalog: StoredCatalog, found: dict[str, Track], radius: float, seed: int) -> int:
    """Compare with brute force; the number of pairs."""
    times, places = zip(*asked(np.random.default_rng(seed), found, radius), strict=True)
    ra, dec = (np.array(values) for values in zip(*map(degrees, places), strict=True))
    pairs = catalog.within(ra, dec, radius, np.array(times))
    names = catalog.columns(["name"], pairs.row)["name"].to_pylist()
    told = dict(
        zip(zip(pairs.position.tolist(), names, strict=True), pairs.separation_arcsec, strict=True)
    )
    assert len(told) == len(names), "an object comes once, where segments meet too"
    for number, (time, place) in enumerate(zip(times, places, strict=True)):
        for name, track in found.items():
            there = known(track, time)
            away = np.inf if there is None else angle_arcsec(place, there)
            if (number, name) in told:
                assert told[number, name] == pytest.approx(away, abs=RIM)
            else:
                assert away > radius - RIM
    assert (pairs.separation_arcsec <= radius).all()
    closest = catalog.closest(ra, dec, radius, np.array(times))
    nearest = {p: min(s for (q, _), s in told.items() if q == p) for p in {q for q, _ in told}}
    assert {p: closest.separation_arcsec[p] for p in np.flatnonzero(closest.row >= 0)} == nearest
    return len(names)


@settings(max_examples=30, deadline=None)
@given(
    place=st.sampled_from(ODD_PLACES),
    radius=st.sampled_from([0.5, 5.0, 60.0, 4000.0]),
    seed=st.integers(0, 2**32),
)
def test_anywhere_agrees_with_brute_force(
    place: tuple[float, float], radius: float, seed: int
) -> None:
    found = tracks(np.random.default_rng(seed), vector(*place), 12)
    with tempfile.TemporaryDirectory() as folder:
        assert agrees(added(Path(folder), found, seed), found, radius, seed) > 0


def test_slots_that_are_dropped_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_MOST_SLOTS", 2)
    found = tracks(np.random.default_rng(5), vector(0, 0), 20)
    catalog = added(tmp_path, found, 5)
    assert agrees(catalog, found, 5.0, 5) == agrees(catalog, found, 5.0, 5) > 0
    assert catalog.segments is not None
    assert len(catalog.segments._slots) == 2


def test_slots_are_changed_by_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = added(tmp_path, tracks(np.random.default_rng(5), vector(0, 0), 5), 5).segments
    assert held is not None
    locked = []
    grouped = segments.Segments._grouped

    def watched(self: segments.Segments, slot: int) -> Iterator[segments._Group]:
        locked.append(self._lock.locked())
        yield from grouped(self, slot)

    monkeypatch.setattr(segments.Segments, "_grouped", watched)
    held._groups(int(JD * 2))
    held._groups(int(JD * 2))
    assert locked == [True]
    assert not held._lock.locked()


def test_a_fast_one_widens_the_search_for_slow_ones_by_nothing(tmp_path: Path) -> None:
    one, other = vector(10, 0), vector(200, 40)
    found = {
        "slow": [(JD, one), (JD + 1, moved(np.random.default_rng(1), one, 0.2))],
        "fast": [(JD, other), (JD + 1, moved(np.random.default_rng(2), other, 50.0))],
    }
    ways = added(tmp_path, found, 1).segments
    assert ways is not None
    groups = ways._groups(int(2 * JD))
    assert [(round(g.reach_arcsec), len(g.rows)) for g in groups] == [(360, 1), (90000, 1)]


def test_one_that_stands_still_is_found(tmp_path: Path) -> None:
    place = vector(10, 0)
    catalog = added(tmp_path, {"a": [(JD, place), (JD + 1, place)]}, 1)
    found = catalog.closest(np.array([10.0]), np.array([0.0]), time_jd=np.array([JD + 0.3]))
    assert found.separation_arcsec[0] == pytest.approx(0, abs=1e-6)


def test_nothing_asked_and_no_time(tmp_path: Path) -> None:
    catalog = added(tmp_path, tracks(np.random.default_rng(5), vector(0, 0), 3), 5)
    nothing = np.empty(0)
    assert len(catalog.within(nothing, nothing, time_jd=nothing).row) == 0
    with pytest.raises(CatalogError, match="no_time"):
        catalog.closest(np.array([10.0]), np.array([0.0]))


def test_times_are_covered_from_the_first_to_the_last(tmp_path: Path) -> None:
    place = vector(10, 0)
    catalog = added(tmp_path, {"a": [(JD, place), (JD + 1, place)]}, 1)
    asked = np.array([np.nextafter(JD, 0), JD, JD + 0.3, JD + 1, np.nextafter(JD + 1, np.inf)])
    assert catalog.covers(asked).tolist() == [False, True, True, True, False]
    found = catalog.closest(np.full(5, 10.0), np.zeros(5), time_jd=asked)
    assert (found.row >= 0).tolist() == catalog.covers(asked).tolist()
