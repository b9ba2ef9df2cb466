"""Nearest sources: against brute force, at poles and across RA 0, and from real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.local import LocalCatalog
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray
from crossmatch.sky import ipix29


def catalog(tmp_path: Path, ra: FloatArray, dec: FloatArray) -> LocalCatalog:
    path = tmp_path / "catalog.csv"
    lines = [
        f"s{i},{a!r},{d!r}" for i, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True))
    ]
    path.write_text("\n".join(["name,ra,dec", *lines]))
    return LocalCatalog.load("test", path)


def separations_arcsec(
    ra1: FloatArray, dec1: FloatArray, ra2: FloatArray, dec2: FloatArray
) -> FloatArray:
    """Great-circle distances of all pairs by Vincenty's formula, (n, m)."""
    a1, d1 = np.radians(ra1)[:, None], np.radians(dec1)[:, None]
    a2, d2 = np.radians(ra2)[None], np.radians(dec2)[None]
    x = np.cos(d2) * np.sin(a2 - a1)
    y = np.cos(d1) * np.sin(d2) - np.sin(d1) * np.cos(d2) * np.cos(a2 - a1)
    z = np.sin(d1) * np.sin(d2) + np.cos(d1) * np.cos(d2) * np.cos(a2 - a1)
    return np.degrees(np.arctan2(np.hypot(x, y), z)) * 3600


def check(found: LocalCatalog, ra: FloatArray, dec: FloatArray, radius: float) -> int:
    """Compare with brute force; the number of matches."""
    matches = found.closest(ra, dec, radius)
    distance = separations_arcsec(ra, dec, found.ra_deg, found.dec_deg)
    nearest = distance.min(axis=1)
    # Vincenty and chords differ by rounding: leave positions on the rim aside.
    clear = np.abs(nearest - radius) > 1e-6
    inside = nearest <= radius
    assert ((matches.row >= 0) == inside)[clear].all()
    hit = (matches.row >= 0) & inside
    assert matches.separation_arcsec[hit] == pytest.approx(nearest[hit], abs=1e-6)
    assert distance[np.flatnonzero(hit), matches.row[hit]] == pytest.approx(nearest[hit], abs=1e-6)
    assert np.isinf(matches.separation_arcsec[matches.row < 0]).all()
    return int(hit.sum())


@pytest.mark.parametrize(
    ("centre_ra", "centre_dec"),
    [(0.0, 0.0), (359.9999, 12.0), (123.0, 90.0), (45.0, -90.0), (45.0, 41.8103), (90.0, 41.81)],
)
@pytest.mark.parametrize("radius", [0.5, 5.0, 60.0, 3600.0])
def test_nearest_agrees_with_brute_force(
    tmp_path: Path, centre_ra: float, centre_dec: float, radius: float
) -> None:
    rng = np.random.default_rng(7)
    spread = 3 * radius / 3600
    stretch = max(np.cos(np.radians(centre_dec)), 0.01)

    def around(n: int) -> tuple[FloatArray, FloatArray]:
        dec = np.clip(centre_dec + rng.uniform(-spread, spread, n), -90, 90)
        near_pole = abs(centre_dec) == 90
        ra = rng.uniform(0, 360, n) if near_pole else centre_ra + rng.normal(0, spread, n) / stretch
        return ra % 360, dec

    found = catalog(tmp_path, *around(300))

    assert check(found, *around(200), radius) > 10


@pytest.mark.parametrize("radius", [100.0, 36_000.0, 200_000.0])
def test_the_whole_sky_agrees_with_brute_force(tmp_path: Path, radius: float) -> None:
    rng = np.random.default_rng(11)
    ra, dec = rng.uniform(0, 360, 400), np.degrees(np.arcsin(rng.uniform(-1, 1, 400)))
    query_ra, query_dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))

    check(catalog(tmp_path, ra, dec), query_ra, query_dec, radius)


@settings(max_examples=60, deadline=None)
@given(
    ra=st.floats(0, 359.9999),
    dec=st.floats(-90, 90),
    angle=st.floats(0, 2 * np.pi),
    radius=st.floats(0.1, 4000.0),
)
def test_a_source_just_inside_the_radius_is_found(
    ra: float, dec: float, angle: float, radius: float
) -> None:
    # One step of the radius (almost) from the source in any direction, exact at the poles too.
    step = np.radians(radius / 3600) * (1 - 1e-6)
    a, d = np.radians(ra), np.radians(dec)
    source = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    north = np.array([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    x, y, z = np.cos(step) * source + np.sin(step) * (np.cos(angle) * north + np.sin(angle) * east)
    query_ra = np.degrees([np.arctan2(y, x)]) % 360
    query_dec = np.degrees([np.arctan2(z, np.hypot(x, y))])
    found = LocalCatalog(
        name="one",
        version="",
        ra_deg=np.array([ra]),
        dec_deg=np.array([dec]),
        ipix29=ipix29(np.array([ra]), np.array([dec])),
        table=pa.table({"name": ["s0"]}),
    )

    matches = found.closest(query_ra, query_dec, radius)

    assert matches.row.tolist() == [0]


def test_of_equal_sources_the_first_counts_and_columns_follow(tmp_path: Path) -> None:
    found = catalog(tmp_path, np.array([10.0, 10.0, 200.0]), np.array([5.0, 5.0, -5.0]))

    rows = found.closest(np.array([10.0, 90.0, 200.0]), np.array([5.0, 0.0, -5.0]), 1.0).row

    assert found.columns(["name"], rows)["name"].to_pylist() == ["s0", None, "s2"]
    with pytest.raises(CatalogError) as caught:
        found.columns(["colour"], rows)
    assert caught.value.reason == "no_such_column"


def test_no_positions_and_no_sources(tmp_path: Path) -> None:
    empty = catalog(tmp_path, np.empty(0), np.empty(0))

    assert len(empty) == 0
    assert empty.closest(np.array([1.0]), np.array([1.0]), 5.0).row.tolist() == [-1]
    full = catalog(tmp_path, np.array([1.0]), np.array([1.0]))
    assert full.closest(np.empty(0), np.empty(0), 5.0).row.tolist() == []


def test_rows_without_a_position_are_told_or_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("RAJ2000,DEJ2000,m\n1.0,2.0,a\n,3.0,b\n4.0,nan,c\n")

    with pytest.raises(CatalogError, match="row 2, column RAJ2000: no value") as caught:
        LocalCatalog.load("c", path)
    assert caught.value.reason == "no_position"
    found = LocalCatalog.load("c", path, skip=True)

    assert (len(found), found.skipped) == (1, 2)
    assert found.table["m"].to_pylist() == ["a"]


def test_the_version_is_that_of_the_bytes(tmp_path: Path) -> None:
    first = catalog(tmp_path, np.array([1.0]), np.array([1.0])).version
    second = catalog(tmp_path, np.array([1.5]), np.array([1.0])).version

    assert len(first) == 12
    assert first != second


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "no_position_columns"),
        ("ra,dec\n1.0,95.0\n", "out_of_range"),
        ("ra,dec\n361.0,5.0\n", "out_of_range"),
        ("ra,dec\n" + "3.0,1.0\n-3.0,-1.0\n" * 5, "radians_suspected"),
        ("ra,dec\n" + "3.0,50.0\n23.0,-50.0\n" * 5, "hours_suspected"),
        ("ra,dec\nnorth,1.0\n", "not_a_position"),
        ("<html></html>", "not_a_table"),
        ("", "not_a_table"),
    ],
)
def test_what_is_no_catalogue_says_why(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)

    with pytest.raises(CatalogError) as caught:
        LocalCatalog.load("c", path)
    assert caught.value.reason == reason


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        LocalCatalog.load("c", tmp_path / "nowhere.csv")
    assert caught.value.reason == "no_such_file"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "rows", "name"),
    [
        ("3hsp.csv", 2013, ""),
        ("4LAC-DR3-h.fits", 3407, "Source_Name"),
        ("fermi_gbm_grb_2008-2021.votable.xml", 3120, "name"),
        ("gcvs.parquet", 59099, "VarType"),
    ],
)
def test_real_catalogues_of_every_format(
    shared_data: Path, file: str, rows: int, name: str
) -> None:
    found = LocalCatalog.load("real", shared_data / "catalogs" / file)
    step = max(rows // 200, 1)

    matches = found.closest(found.ra_deg[::step], found.dec_deg[::step], 1.0)

    assert len(found) == rows
    assert (matches.separation_arcsec < 1e-6).all()
    assert not name or found.columns([name], matches.row)[name].null_count == 0
    assert (np.diff(found.ipix29) >= 0).all()


@pytest.mark.realdata
def test_magnitudes_that_are_texts_are_refused(shared_data: Path) -> None:
    path = shared_data / "catalogs" / "symbiotic_and_cataclysmic.parquet"
    with pytest.raises(CatalogError, match=r"row 1882, column magnitude: '15.0p-18.5p'"):
        LocalCatalog.load("real", path)


@pytest.mark.realdata
def test_sexagesimal_positions_of_a_real_catalogue(shared_data: Path) -> None:
    found = LocalCatalog.load("3hsp", shared_data / "catalogs" / "3hsp.csv")

    # 3HSPJ000116.4+293534
    matches = found.closest(np.array([0.318208]), np.array([29.592778]), 1.0)

    assert found.columns(["id"], matches.row)["id"].to_pylist() == [1]
