"""What is wrong with a catalogue is told by row and column, and nothing is added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalogs import batches
from catalogs.batches import Batch
from catalogs.checks import Identifiers
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.tables import Table
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW, WANTED, moving, refused, table, write


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits"])
@pytest.mark.parametrize(
    ("column", "row", "value", "reason"),
    [
        ("ra", 17, np.nan, "no_position"),
        ("dec", 250, np.nan, "no_position"),
        ("dec", 120, 91.0, "out_of_range"),
        ("ra", 3, 361.0, "out_of_range"),
        ("ra", 200, -181.0, "out_of_range"),
    ],
)
def test_a_bad_position_is_told_by_row_and_column(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    column: str,
    row: int,
    value: float,
    reason: str,
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 100))
    given = table()
    given[column][row - 1] = value
    error = refused(store, write(tmp_path / f"a.{suffix}", given))
    assert error.reason == reason
    assert f"row {row}, column {column}:" in error.detail


def test_rows_without_a_position_can_be_left_out(store: Store, tmp_path: Path) -> None:
    given = table()
    given["ra"][5] = np.nan
    path = write(tmp_path / "a.parquet", given)
    added = store.add(path, Wanted(name="test", skip=True), NOW)
    assert (added.facts["rows"], added.facts["skipped"]) == (299, 1)


@pytest.mark.parametrize(
    ("text", "options", "reason", "words"),
    [
        ("a,b\n1,2\n", {}, "no_position_columns", "--ra and --dec: a, b"),
        ("ra,b\n1,2\n", {}, "no_position_columns", "declination"),
        ("ra,dec\n1,2\n", {"ra": "alpha"}, "no_such_column", "no column alpha: ra, dec"),
        ("ra,dec\n1,2\n", {"columns": ("z",)}, "no_such_column", "has no z: ra, dec"),
        ("ra,dec\n1,2\n", {"id": "n"}, "no_such_column", "no column n"),
        ("ra,dec\nx,2\n", {}, "not_a_position", "row 1, column ra: 'x'"),
        ("ra,dec\n1,2\n", {"ra": "dec"}, "same_column", "dec is to be"),
        ("ra,dec,ra\n1,2,3\n", {}, "not_a_table", "column 'ra' twice"),
        ("ra,dec\n1,2\n3\0,4\n", {}, "not_a_table", "byte 0x00"),
        ("ra,dec\n", {}, "empty", "no rows"),
        ("n,ra,dec\na,1,2,\nb,3,4,\n", {}, "not_a_table", "row 1 has 4 fields, the header 3"),
        ("n,ra,dec\na,1,2\nb,3,4,5\n", {}, "not_a_table", "Expected 3 fields in line 3, saw 4"),
        ("", {}, "not_a_table", "row 0"),
        ("ra,dec\n1,2\n", {"name": "A b"}, "bad_name", "lower-case"),
        ("ra,dec\n1,2\n", {"name": "vizier:I/355"}, "bad_name", "lower-case"),
        ("ra,dec\n1,2\n", {"name": "simbad"}, "bad_name", "means something else"),
        ("ra,dec\n1,2\n", {"name": "nearby_galaxies"}, "bad_name", "means something else"),
        ("ra,dec\n1,2\n", {"name": "index"}, "bad_name", "means something else"),
        ("ra,dec\n1,2\n", {"radius_arcsec": 0.0}, "bad_radius", "above 0, at most 3600"),
        ("ra,dec\n1,2\n", {"radius_arcsec": -1.0}, "bad_radius", "-1 arcsec"),
        ("ra,dec\n1,2\n", {"radius_arcsec": float("inf")}, "bad_radius", "inf arcsec"),
        ("ra,dec\n1,2\n", {"radius_arcsec": float("nan")}, "bad_radius", "nan arcsec"),
        ("ra,dec\n1,2\n", {"radius_arcsec": 3600.1}, "bad_radius", "3600.1 arcsec"),
    ],
)
def test_wrong_tables(
    store: Store,
    tmp_path: Path,
    text: str,
    options: dict[str, Any],
    reason: str,
    words: str,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    error = refused(store, path, **options)
    assert error.reason == reason
    assert words in error.detail


@pytest.mark.parametrize(
    ("scale", "reason"), [((np.pi / 180, np.pi / 180), "radians_suspected"),
                          ((1 / 15, 1), "hours_suspected")]
)  # fmt: skip
def test_radians_and_hours_are_suspected(
    store: Store, tmp_path: Path, scale: tuple[float, float], reason: str
) -> None:
    given = table()
    given["ra"], given["dec"] = given["ra"] * scale[0], given["dec"] * scale[1]
    path = write(tmp_path / "a.parquet", given)
    error = refused(store, path)
    assert error.reason == reason
    assert "--unit deg if they are" in error.detail
    store.add(path, Wanted(name="test", unit="deg"), NOW)


@pytest.mark.parametrize("rows", [10, 300])
def test_radians_around_zero_are_suspected_by_column(
    store: Store, tmp_path: Path, rows: int
) -> None:
    given = table(rows)
    given["ra"], given["dec"] = np.radians(given["ra"] - 180), np.radians(given["dec"])
    error = refused(store, write(tmp_path / "a.parquet", given))
    assert error.reason == "radians_suspected"
    assert f"column ra from {given['ra'].min():.4g} to {given['ra'].max():.4g}" in error.detail
    assert f"column dec from {given['dec'].min():.4g} to" in error.detail


def test_a_few_sources_near_the_origin_are_no_radians(store: Store, tmp_path: Path) -> None:
    given = table(9)
    given["ra"], given["dec"] = given["ra"] / 360, given["dec"] / 90
    store.add(write(tmp_path / "a.parquet", given), WANTED, NOW)


@pytest.mark.parametrize("kind", [np.int64, str])
def test_identifiers_that_come_twice_are_told_by_their_rows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 100))
    given = table()
    given["source_id"][211] = given["source_id"][30]
    given["source_id"] = given["source_id"].astype(kind)
    error = refused(store, write(tmp_path / "a.parquet", given))
    assert error.reason == "duplicate_id"
    assert "row 212, column source_id: the same as row 31 (1 such)" in error.detail
    given["other"] = [None, *given.pop("source_id")[1:].tolist()]
    path = write(tmp_path / "b.parquet", given)
    assert "row 212, column other: the same as row 31" in refused(store, path, id="other").detail
    store.add(path, WANTED, NOW)


@pytest.mark.parametrize("kind", [int, str])
def test_of_many_identifiers_the_first_that_was_there_before_is_told(
    tmp_path: Path, kind: type
) -> None:
    rng = np.random.default_rng(5)
    given = [None if i % 7 == 0 else kind(i) for i in rng.integers(-(2**62), 2**62, 5000).tolist()]
    for second, first in ((4800, 4799), (4001, 12), (3000, 2999), (4900, 12)):
        given[second] = given[first] = kind(first)
    identifiers = Identifiers("n", tmp_path / "ids")
    for start in range(0, 5000, 700):
        rows = pa.table({"n": given[start : start + 700]})
        identifiers.take(Batch(Table(rows, {}, ""), Path("a"), start + 1, 1.0))
    with pytest.raises(CatalogError, match=r"row 3001, column n: the same as row 3000 \(4 such\)"):
        identifiers.refuse_twice()
    assert not (tmp_path / "ids").exists()


def test_identifiers_are_compared_whatever_a_batch_takes_them_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,source_id\n1,1,7\n2,2,8\n3,3,x\n4,4,8\n")
    error = refused(store, path)
    assert error.reason == "duplicate_id"
    assert "row 4, column source_id: the same as row 2" in error.detail


def test_numbers_that_fit_no_common_type_are_told_by_column(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,flux\n1,1,1.5\n2,2,2.5\n3,3,9007199254740993\n4,4,1\n")
    error = refused(store, path)
    assert error.reason == "mixed_types"
    assert "rows 3 to 4, column flux: int64, elsewhere double" in error.detail


@pytest.mark.parametrize("rows_a_batch", [2, 1000])
@pytest.mark.parametrize(
    ("kind", "columns", "values", "column", "text"),
    [
        (Kind.galaxies, "distmpc,magr", ["40 Mpc,12", "41 Mpc,13", "--,-999"], "distmpc", "40 Mpc"),
        (Kind.galaxies, "distmpc,magr", ["40,12", "--,n/a", '41,"12,0"'], "magr", "12,0"),
        (Kind.stars, "parallax,note", ["1,x", "2,y", "bad,z"], "parallax", "bad"),
        (Kind.other, "z,name", ["0.1,1", "0.2,b", "0.3?,c"], "z", "0.3?"),
        (Kind.other, "pmra,pmdec", ["1,1", ",", "2,fast"], "pmdec", "fast"),
        (Kind.other, "pmra,pmdec,ref_epoch", ["1,1,2016", ",,", "2,2,J2000"], "ref_epoch", "J2000"),
    ],
)
def test_text_in_a_column_of_numbers_is_told_by_row_and_column(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_a_batch: int,
    kind: Kind,
    columns: str,
    values: list[str],
    column: str,
    text: str,
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), rows_a_batch))
    path = tmp_path / "a.csv"
    lines = [f"{number},2,{value}" for number, value in enumerate(values)]
    path.write_text("\n".join([f"ra,dec,{columns}", *lines]) + "\n")
    epoch = None if "ref_epoch" in columns else 2016.0
    error = refused(store, path, kind=kind, epoch=epoch)
    assert error.reason == "not_a_number"
    row = next(n for n, value in enumerate(values, start=1) if text in value)
    assert f"a.csv: row {row}, column {column}: {text!r} is no number" in error.detail


def test_text_in_other_columns_may_be_anything(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,distmpc,magr,note\n1,2,---,13.5,12 to 13\n3,4,7,null,bad\n")
    added = store.add(path, Wanted(name="test", kind=Kind.galaxies), NOW)
    assert added.facts["rows"] == 2


@pytest.mark.parametrize("value", [15_001.0, -20_000.0, 1e6])
def test_a_motion_that_no_star_has_is_told(store: Store, tmp_path: Path, value: float) -> None:
    given = {**table(20), "pmra": np.ones(20), "pmdec": np.ones(20)}
    given["pmdec"][6] = value
    error = refused(store, write(tmp_path / "a.parquet", given), epoch=2016.0)
    assert error.reason == "out_of_range"
    assert f"row 7, column pmdec: {value:g} is faster than any star" in error.detail


@pytest.mark.parametrize("mark", [-9999.0, -999.0, 99999.0, 1e20, np.inf, -np.inf, np.nan])
def test_marks_of_no_motion_do_not_move(store: Store, tmp_path: Path, mark: float) -> None:
    given = {**table(20), "pmra": np.full(20, 3.0), "pmdec": np.full(20, 4.0)}
    given["pmra"][6] = given["pmdec"][6] = given["pmra"][7] = mark
    for kind in (np.float64, np.float32):
        changed = {n: np.asarray(given[n]).astype(kind) for n in ("pmra", "pmdec")}
        path = write(tmp_path / "a.parquet", {**given, **changed})
        store.add(path, Wanted(name="test", epoch=2016.0), NOW)
        found = store.open("test")
        assert found.facts["fastest_mas_yr"] == 5.0
        assert found.motion is not None
        rows = found.closest(given["ra"], given["dec"]).row
        assert np.flatnonzero(found.motion.pmra[rows] == 0).tolist() == [6, 7]
        assert np.flatnonzero(found.motion.pmdec[rows] == 0).tolist() == [6, 7]


def test_an_epoch_that_is_no_year_is_told(store: Store, tmp_path: Path) -> None:
    path = moving(tmp_path / "a.parquet", [2016.0, 2016.0, 57388.0, 2016.0])
    error = refused(store, path)
    assert "row 3, column ref_epoch" in error.detail
