"""From file to catalogue: every format gives the same, real ones too."""

from __future__ import annotations

from pathlib import Path

import astropy.table
import numpy as np
import pytest
from astropy import units as u

from catalogs import batches
from catalogs.answers import described
from catalogs.batches import properties
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.sources import Pairs
from catalogs.store import Store
from tests.catalogs.catalogfiles import NOW, WANTED, refused, table, write


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits", "vot"])
def test_every_format_gives_the_same_catalogue(
    store: Store, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 70))
    given = table()
    store.add(write(tmp_path / f"a.{suffix}", given), WANTED, NOW)
    found = store.open("test")
    matches = found.closest(np.asarray(given["ra"]), np.asarray(given["dec"]))
    assert (matches.separation_arcsec < 1e-6).all()
    told = found.columns(["name", "mag"], matches.row)
    assert told["name"].to_pylist() == given["name"]
    assert told["mag"].to_pylist() == pytest.approx(given["mag"].tolist())
    assert (np.diff(found.sources.ipix29) >= 0).all()


def test_batches_do_not_change_the_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", table(2000))
    whole = store.add(path, WANTED, NOW)
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 130))
    parts = store.add(path, WANTED, NOW)
    assert (parts.version, parts.known) == (whole.version, True)
    assert store.versions("test") == [whole.version]


def test_nothing_that_was_put_aside_stays(store: Store, tmp_path: Path) -> None:
    store.add(write(tmp_path / "a.parquet", table(2000)), WANTED, NOW)
    there = {path.name for path in store.open("test").folder.iterdir()}
    assert there == {"catalog.json", "collection.properties", "index", "test", "test_margin"}


def test_only_some_columns_are_kept(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table())
    store.add(path, Wanted(name="test", columns=("mag",)), NOW)
    assert set(store.open("test").facts["columns"]) == {"source_id", "ra", "dec", "mag"}


def test_a_column_of_numbers_and_texts_becomes_text(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,label\n1,1,05\n2,2,6\n3,3,x\n")
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    store.add(path, WANTED, NOW)
    found = store.open("test")
    rows = found.closest(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).row
    assert found.columns(["label"], rows)["label"].to_pylist() == ["05", "6", "x"]


def test_whole_numbers_with_gaps_keep_every_digit(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    big = 4295806720038123456
    path.write_text(f"ra,dec,source_id\n10,1,{big}\n20,2,\n30,3,{big + 1}\n40,4,{big + 2}\n")
    for rows in (2, 100):
        monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), rows))
        store.add(path, WANTED, NOW)
        found = store.open("test")
        assert found.facts["columns"]["source_id"] == "int64"
        at = found.closest(np.array([10.0, 20, 30, 40]), np.array([1.0, 2, 3, 4])).row
        told = found.columns(["source_id"], at)["source_id"].to_pylist()
        assert told == [big, None, big + 1, big + 2]
    assert len(store.versions("test")) == 1


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("ra,dec\n00 40 00,+10 00 00\n00 44 00,-11 30 00\n", None),
        ("ra,dec\n0.1745329252,0.1745329252\n0.1919862177,-0.2007128640\n", "rad"),
        ("ra,dec\n0.6666666667,10\n0.7333333333,-11.5\n", "hour"),
    ],
)
def test_positions_in_other_units(
    store: Store, tmp_path: Path, text: str, unit: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    store.add(path, Wanted(name="test", unit=unit), NOW)
    found = store.open("test")
    assert sorted(found.sources.ra_deg.tolist()) == pytest.approx([10.0, 11.0], abs=1e-6)
    assert sorted(found.sources.dec_deg.tolist()) == pytest.approx([-11.5, 10.0], abs=1e-6)
    assert properties(found.folder / "test")["hats_col_ra"] == "ra_deg"


def test_the_unit_that_a_file_states_is_taken(store: Store, tmp_path: Path) -> None:
    given = table(100)
    columns = {"ra": np.radians(given["ra"]) * u.rad, "dec": np.radians(given["dec"]) * u.rad}
    astropy.table.Table(columns).write(tmp_path / "a.fits")
    store.add(tmp_path / "a.fits", WANTED, NOW)
    found = store.open("test").closest(given["ra"], given["dec"], 0.01)
    assert (found.row >= 0).all()


def test_a_unit_that_cannot_be_converted_is_refused(store: Store, tmp_path: Path) -> None:
    columns = {"ra": [1.0], "dec": [2.0], "parallax": [5.0] * u.kpc}
    astropy.table.Table(columns).write(tmp_path / "a.fits")
    error = refused(store, tmp_path / "a.fits", kind=Kind.stars)
    assert error.reason == "wrong_unit"
    assert "a.fits: column parallax is in 'kpc', expected mas" in error.detail
    for wanted in (
        Wanted(name="test"),
        Wanted(name="test", kind=Kind.stars, columns=("ra",)),
    ):
        store.add(tmp_path / "a.fits", wanted, NOW)


def test_units_of_astropys_parquet_are_taken(store: Store, tmp_path: Path) -> None:
    columns = {"ra": [0.5] * u.rad, "dec": [0.1] * u.rad, "pmra": [1.0], "pmdec": [0.0]}
    made = astropy.table.Table(columns)
    made["pmra"].unit = made["pmdec"].unit = u.arcsec / u.yr
    made.write(tmp_path / "a.parquet")
    added = store.add(tmp_path / "a.parquet", Wanted(name="test", epoch=2016.0), NOW)
    assert added.facts["fastest_mas_yr"] == pytest.approx(1000.0)
    assert store.open("test").sources.ra_deg.tolist() == pytest.approx([np.degrees(0.5)])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "kind", "rows"),
    [
        ("3hsp.csv", Kind.agn, 2013),
        ("4LAC-DR3-h.fits", Kind.agn, 3407),
        ("CLU_mini.csv", Kind.galaxies, 10),
        ("fermi_gbm_grb_2008-2021.votable.xml", Kind.other, 3120),
        ("fermi_gll_psc_v27.csv", Kind.agn, 3637),
        ("gcvs.parquet", Kind.variables, 59099),
        ("glade_S190814bv_region.csv", Kind.galaxies, 2000),
        ("symbiotic_and_cataclysmic.parquet", Kind.variables, 2857),
        ("tde.parquet", Kind.transients, 44),
    ],
)
def test_real_catalogues(store: Store, shared_data: Path, file: str, kind: Kind, rows: int) -> None:
    path = shared_data / "catalogs" / file
    columns: tuple[str, ...] = ()
    if file.startswith("symbiotic"):
        # Its magnitudes are ranges here and there.
        error = refused(store, path, kind=kind)
        assert error.reason == "not_a_number"
        assert "row 1882, column magnitude: '15.0p-18.5p' is no number" in error.detail
        columns = ("Name",)
    added = store.add(path, Wanted(name="real", kind=kind, columns=columns), NOW)
    found = store.open("real")
    assert added.facts["rows"] == rows == len(found)
    assert added.facts["skipped"] == 0
    step = max(rows // 200, 1)
    if file != "gcvs.parquet":
        some = np.arange(0, rows, step)
        told = described(found, Pairs(some, some, np.zeros(len(some))))
        assert all(one.name and "b'" not in one.name for one in told)
    ra, dec = found.sources.ra_deg[::step], found.sources.dec_deg[::step]
    assert (found.closest(ra, dec).separation_arcsec < 1e-6).all()
    assert store.verify("real") == []
