"""Positions as columns have them: decimal or sexagesimal, and never both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalogs import batches
from catalogs.angles import positions
from catalogs.ingest import Wanted
from catalogs.store import Store
from catalogs.tables import read_table
from tests.catalogs.catalogfiles import NOW, refused


def test_sexagesimal_text_is_hours_and_degrees(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('ra,dec\n"12 00 00","-00 30 00"\n"","10:00:00"\n')

    ra, dec = positions(read_table(path), "ra", "dec", path)

    assert ra[0] == pytest.approx(180.0)
    assert np.isnan(ra[1])
    assert dec.tolist() == pytest.approx([-0.5, 10.0])


@pytest.mark.parametrize("suffix", ["csv", "vot"])
def test_decimal_text_is_degrees(tmp_path: Path, suffix: str) -> None:
    from astropy.table import Table

    path = tmp_path / f"t.{suffix}"
    given = Table({"ra": ["150.5", "--"], "dec": ["2.25", "3"]})
    given.write(path, format="ascii.csv" if suffix == "csv" else "votable")
    ra, dec = positions(read_table(path), "ra", "dec", path)
    assert ra[0] == 150.5
    assert np.isnan(ra[1])
    assert dec.tolist() == [2.25, 3.0]


@pytest.mark.parametrize(
    ("rows", "row", "column", "words"),
    [
        (["150.1,2"] * 20 + ["10:02:00,2"], 21, "ra", "'10:02:00' is sexagesimal"),
        (["10:02:00,2", "150.1,2"], 2, "ra", "'150.1' is a decimal number"),
        (["150.1,2", "150.1,02:00:00"], 2, "dec", "'02:00:00' is sexagesimal"),
        (["10:02:00,2", "10:02:01,2"] * 10 + ["10,2"], 21, "ra", "'10' is a decimal number"),
    ],
)
@pytest.mark.parametrize("rows_a_batch", [7, 1000])
def test_a_column_that_has_both_is_refused(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[str],
    row: int,
    column: str,
    words: str,
    rows_a_batch: int,
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), rows_a_batch))
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["ra,dec", *rows]) + "\n")
    error = refused(store, path)
    assert error.reason == "mixed_positions"
    assert f"a.csv: row {row}, column {column}: {words}" in error.detail


@pytest.mark.parametrize("rows_a_batch", [2, 1000])
@pytest.mark.parametrize(
    ("rows", "row", "column", "word"),
    [
        (["1,2", "3,4", "hello,6", "7,8"], 3, "ra", "hello"),
        (["1,2", "3,4", '5,"10,5"', "7,8"], 3, "dec", "10,5"),
        (["10:00:00,2", "10:00:01,2", "10:00:02,2", "10:61:00,2"], 4, "ra", "10:61:00"),
        (["hello,2"], 1, "ra", "hello"),
    ],
)
def test_text_that_is_no_position_is_told_by_row_and_column(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_a_batch: int,
    rows: list[str],
    row: int,
    column: str,
    word: str,
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), rows_a_batch))
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["ra,dec", *rows]) + "\n")
    error = refused(store, path)
    assert error.reason == "not_a_position"
    assert f"a.csv: row {row}, column {column}: {word!r} is neither" in error.detail


def test_decimal_text_in_some_batches_is_one_way_of_writing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    path = tmp_path / "a.csv"
    path.write_text("ra,dec\n150.1,2\n10,2\n11,b'3.5'\n,\n")
    store.add(path, Wanted(name="test", skip=True), NOW)
    assert sorted(store.open("test").sources.ra_deg.tolist()) == [10.0, 11.0, 150.1]
    assert sorted(store.open("test").sources.dec_deg.tolist()) == [2.0, 2.0, 3.5]
