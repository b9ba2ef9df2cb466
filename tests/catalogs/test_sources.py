"""Closest and all sources within a radius: against brute force, anywhere on the sky."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs import sources
from catalogs.sources import Sources, counts_of, offsets_of, table_order
from crossmatch.model import FloatArray
from crossmatch.sky import ipix29, separation_deg

# Rounding of the two formulas, in arcseconds; positions so near the rim are left aside.
RIM = 1e-6
# Where pixels meet in odd ways: poles, corners of base pixels, RA 0, the rim of the caps.
ODD_PLACES = [
    *((0.0, 90.0), (77.0, -90.0), (0.0, 0.0), (359.9999999, 10.0), (45.0, 0.0), (22.5, 20.0)),
    *((45.0, 41.810314895778596), (90.0, 41.810314895778596), (0.0, -41.810314895778596)),
    *((90.0, 66.4435), (180.0, 89.9999), (270.0, -89.9999)),
]


def sorted_sources(ra: FloatArray, dec: FloatArray) -> Sources:
    pixels = ipix29(ra, dec)
    order = np.argsort(pixels, kind="stable")
    return Sources.of(ra[order], dec[order], pixels[order])


def around(
    rng: np.random.Generator, place: tuple[float, float], arcsec: float, n: int
) -> tuple[FloatArray, FloatArray]:
    """Positions evenly within some arcseconds of a place, poles included."""
    ra0, dec0 = np.radians(place)
    angle, away = rng.uniform(0, 2 * np.pi, n), np.radians(arcsec / 3600) * np.sqrt(rng.random(n))
    centre = np.array([np.cos(dec0) * np.cos(ra0), np.cos(dec0) * np.sin(ra0), np.sin(dec0)])
    north = np.array([-np.sin(dec0) * np.cos(ra0), -np.sin(dec0) * np.sin(ra0), np.cos(dec0)])
    east = np.array([-np.sin(ra0), np.cos(ra0), 0.0])
    x, y, z = np.outer(centre, np.cos(away)) + np.sin(away) * (
        np.outer(north, np.cos(angle)) + np.outer(east, np.sin(angle))
    )
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def agrees(found: Sources, ra: FloatArray, dec: FloatArray, radius: float) -> int:
    """Compare both questions with brute force; the number of pairs."""
    away = 3600 * separation_deg(
        ra[:, None], dec[:, None], found.ra_deg[None], found.dec_deg[None]
    ).reshape(len(ra), len(found))
    pairs = found.within(ra, dec, radius)
    asked = np.zeros(away.shape, bool)
    asked[pairs.position, pairs.row] = True
    assert len(pairs.row) == asked.sum()
    clear = np.abs(away - radius) > RIM
    assert (asked == (away <= radius))[clear].all()
    assert pairs.separation_arcsec == pytest.approx(away[pairs.position, pairs.row], abs=RIM)
    assert (np.diff(pairs.position) >= 0).all()
    same = np.diff(pairs.position) == 0
    assert (np.diff(pairs.separation_arcsec)[same] >= 0).all()
    closest = found.closest(ra, dec, radius)
    first = np.r_[True, ~same] if len(pairs.row) else np.empty(0, bool)
    row, separation = np.full(len(ra), -1), np.full(len(ra), np.inf)
    row[pairs.position[first]] = pairs.row[first]
    separation[pairs.position[first]] = pairs.separation_arcsec[first]
    assert closest.row.tolist() == row.tolist()
    assert closest.separation_arcsec.tolist() == separation.tolist()
    return len(pairs.row)


@pytest.mark.parametrize("place", ODD_PLACES)
@pytest.mark.parametrize("radius", [0.0, 0.3, 1.5, 60.0, 4000.0])
def test_odd_places_agree_with_brute_force(place: tuple[float, float], radius: float) -> None:
    rng = np.random.default_rng(3)
    near = around(rng, place, 4 * radius + 0.1, 400)
    # Far sources make the pixels of the table small, as in a large catalogue.
    far = rng.uniform(0, 360, 100), rng.uniform(-90, 90, 100)
    found = sorted_sources(*(np.concatenate(pair) for pair in zip(near, far, strict=True)))
    ra, dec = around(rng, place, 4 * radius + 0.1, 150)
    if radius == 0:
        ra[:20], dec[:20] = found.ra_deg[:20], found.dec_deg[:20]
    assert agrees(found, ra, dec, radius) >= 20


@pytest.mark.parametrize("order", [0, 3, 8])
@pytest.mark.parametrize("radius", [1.5, 300.0, 3e5, 7e5])
def test_any_table_gives_the_same(order: int, radius: float) -> None:
    rng = np.random.default_rng(4)
    places = [around(rng, p, 2 * radius, 25) for p in ODD_PLACES]
    ra, dec = (np.concatenate(part) for part in zip(*places, strict=True))
    plain = sorted_sources(ra, dec)
    table = offsets_of(counts_of(plain.ipix29, order))
    found = Sources(plain.ra_deg, plain.dec_deg, plain.ipix29, table, order)
    assert agrees(found, ra[::3], dec[::3], radius) > 100


@settings(max_examples=80, deadline=None)
@given(
    place=st.tuples(st.floats(0, 360), st.floats(-90, 90)) | st.sampled_from(ODD_PLACES),
    radius=st.floats(0.01, 5000.0),
    count=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_anywhere_agrees_with_brute_force(
    place: tuple[float, float], radius: float, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = around(rng, place, 3 * radius, count)
    # Every third source twice over.
    found = sorted_sources(np.concatenate([ra, ra[::3]]), np.concatenate([dec, dec[::3]]))
    agrees(found, *around(rng, place, 3 * radius, 20), radius)


@settings(max_examples=60, deadline=None)
@given(order=st.integers(0, 9), number=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 99))
def test_discs_that_leave_a_pixel_are_known(order: int, number: float, seed: int) -> None:
    """No source beyond the border of a pixel is missed: tables with one pixel a source."""
    rng = np.random.default_rng(seed)
    nside = 1 << order
    pixel = int(number * 12 * nside**2)
    edge = healpy.boundaries(nside, pixel, step=8, nest=True)
    ra, dec = healpy.vec2ang(edge.T, lonlat=True)
    radius = 0.02 * 3600 * 58.6 / nside
    place = int(rng.integers(len(ra)))
    spots = around(rng, (float(ra[place]), float(dec[place])), radius, 60)
    plain = sorted_sources(*spots)
    table = offsets_of(counts_of(plain.ipix29, order))
    found = Sources(plain.ra_deg, plain.dec_deg, plain.ipix29, table, order)
    agrees(found, *around(rng, (float(ra[place]), float(dec[place])), radius, 20), radius / 3)


def test_stretch_of_the_plane_is_bounded() -> None:
    """Steps on the sky are never longer on the HEALPix plane than the bound says."""
    rng = np.random.default_rng(5)
    order, step = 8, 20.0
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    dec[:4000] = 90 - rng.uniform(0, 0.5, 4000)
    angle = rng.uniform(0, 2 * np.pi, 20_000)
    moved_dec = dec + step / 3600 * np.cos(angle)
    kept = np.abs(moved_dec) < 90
    moved_ra = ra + step / 3600 * np.sin(angle) / np.cos(np.radians((dec + moved_dec) / 2))
    shift = 2 * (29 - order)
    a, b = ipix29(ra[kept], dec[kept]), ipix29(moved_ra[kept], moved_dec[kept])
    same = a >> shift == b >> shift
    away = 3600 * separation_deg(ra[kept], dec[kept], moved_ra[kept], moved_dec[kept])[same]
    xa, ya, _ = healpy.pix2xyf(1 << 29, a[same], nest=True)
    xb, yb, _ = healpy.pix2xyf(1 << 29, b[same], nest=True)
    on_plane = np.hypot(xa - xb, ya - yb) / 2 ** (29 - order)
    bound = np.array([sources._reach(order, x) for x in away.tolist()])
    assert same.sum() > 10_000
    assert (on_plane <= bound).all()
    assert (on_plane / bound).max() > 0.9


def test_crowds_agree_with_astropy() -> None:
    rng = np.random.default_rng(6)
    crowd = around(rng, (266.4, -29.0), 60.0, 2000)
    rest = rng.uniform(0, 360, 200), rng.uniform(-90, 90, 200)
    found = sorted_sources(*(np.concatenate(pair) for pair in zip(crowd, rest, strict=True)))
    ra, dec = around(rng, (266.4, -29.0), 62.0, 800)
    matches = found.closest(ra, dec, 1.5)
    known = SkyCoord(found.ra_deg * u.deg, found.dec_deg * u.deg)
    asked = SkyCoord(ra * u.deg, dec * u.deg)
    away = asked[:, None].separation(known[None]).arcsec
    row, nearest = away.argmin(axis=1), away.min(axis=1)
    near = nearest <= 1.5
    assert near.sum() > 100
    assert matches.row.tolist() == np.where(near, row, -1).tolist()
    assert matches.separation_arcsec[near] == pytest.approx(nearest[near], abs=1e-7)


def test_wide_searches_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    found = sorted_sources(*around(rng, (10.0, 20.0), 60.0, 300))
    asked = around(rng, (10.0, 20.0), 60.0, 100)
    whole = found.within(*asked, 50.0)
    for most in (1, 100, 5000):
        monkeypatch.setattr(sources, "_MOST_PAIRS", most)
        parts = found.within(*asked, 50.0)
        assert parts.position.tolist() == whole.position.tolist()
        assert parts.row.tolist() == whole.row.tolist()
        assert found.closest(*asked, 50.0).row.tolist() == (
            whole.row[np.unique(whole.position, return_index=True)[1]].tolist()
        )


def test_chunks_of_positions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    found = sorted_sources(*around(rng, (0.0, 90.0), 600.0, 500))
    asked = around(rng, (0.0, 90.0), 600.0, 333)
    whole = found.closest(*asked, 20.0)
    monkeypatch.setattr(sources, "_CHUNK", 10)
    assert found.closest(*asked, 20.0).row.tolist() == whole.row.tolist()


def test_arrays_mapped_from_files_do(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    plain = sorted_sources(rng.uniform(0, 360, 500), rng.uniform(-90, 90, 500))
    mapped = []
    for name in ("ra_deg", "dec_deg", "ipix29", "offsets"):
        np.save(tmp_path / f"{name}.npy", getattr(plain, name))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    found = Sources(*mapped, plain.order)
    asked = rng.uniform(0, 360, 500), rng.uniform(-90, 90, 500)
    assert found.closest(*asked, 9000.0).row.tolist() == plain.closest(*asked, 9000.0).row.tolist()


def test_nothing_asked_and_nothing_there() -> None:
    none = np.empty(0)
    empty, one = sorted_sources(none, none), sorted_sources(np.array([1.0]), np.array([2.0]))
    assert empty.closest(np.array([1.0]), np.array([2.0]), 1.5).row.tolist() == [-1]
    assert len(empty.within(np.array([1.0]), np.array([2.0]), 1.5).row) == 0
    assert len(one.closest(none, none, 1.5).row) == 0
    with pytest.raises(ValueError, match="radius"):
        one.closest(np.array([1.0]), np.array([2.0]), -1.0)


@pytest.mark.parametrize("count", [0, 1, 1000, 10**6, 10**7, 10**8, 10**9])
def test_tables_fit_their_catalogues(count: int) -> None:
    pixels = 12 * 4 ** table_order(count)
    assert count / pixels < 3 or pixels > 2e8
    assert pixels <= max(2 * count, 12)
