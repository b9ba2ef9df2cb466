"""Tables of every format with units and nulls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from catalogs import tables
from catalogs.tables import measured, not_numbers, numbers, read_table, texts, unit_factor
from crossmatch.errors import CatalogError


def sample() -> Table:
    return Table(
        {
            "name": ["a", " b ", "c"],
            "ra": MaskedColumn([1.0, 2.0, 3.0], mask=[False, False, True], unit="deg"),
            "dec": [4.0, np.nan, 6.0] * u.deg,
            "count": np.array([1, 2, 3], dtype=np.int32),
        }
    )


@pytest.mark.parametrize("kind", ["fits", "votable", "csv", "parquet"])
def test_formats_agree(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        frame = sample().to_pandas()
        frame.to_parquet(path)
    elif kind == "csv":
        sample().write(path, format="ascii.csv")
    else:
        sample().write(path, format=kind)

    table = read_table(path)

    assert [t.strip() for t in texts(table.columns["name"]) if t] == ["a", "b", "c"]
    assert table.columns["ra"].to_pylist() == [1.0, 2.0, None]
    assert table.columns["dec"].to_pylist() == [4.0, None, 6.0]
    assert numbers(table.columns["count"]).tolist() == [1.0, 2.0, 3.0]
    assert table.units.get("ra", "") == ("deg" if kind in ("fits", "votable") else "")
    assert len(table.sha256) == 64


def test_units_are_converted_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.vot"
    columns = {"r": [6.0] * u.arcmin, "h": [1.0] * u.hourangle, "m": [1.0] * u.m, "n": [1.0]}
    Table(columns).write(path, format="votable")
    table = read_table(path)

    assert unit_factor(table, "r", "deg") == pytest.approx(1 / 60)
    assert unit_factor(table, "h", "deg") == pytest.approx(15.0)
    assert unit_factor(table, "n", "deg", default="arcsec") == pytest.approx(1 / 3600)
    with pytest.raises(CatalogError) as caught:
        unit_factor(table, "m", "deg")
    assert caught.value.reason == "wrong_unit"


def test_columns_are_found_whatever_their_case(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("RA,Dec\n10,20\n")
    table = read_table(path)

    assert table.find(("raj2000", "ra")) == "RA"
    assert table.find(("x",)) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"n,ra,dec,ra\na,1,2,3\n", "column 'ra' twice"),
        (b'"n", ra ,dec,"ra"\na,1,2,3\n', "column 'ra' twice"),
        (b"n,ra,dec\na\x00,1,2\n", "t.csv is no FITS, VOTable, Parquet or CSV file: byte 0x00"),
        (b"n,ra,dec\n" + b"a,1,2\n" * 1000 + b"b,\x003,4\n", "t.csv: a NUL byte at 6011"),
        ("n,ra,dec\na,1,2\n".encode("utf-16"), "as in UTF-16"),
        (bytes(range(256)) * 20, "t.csv is no FITS, VOTable, Parquet or CSV file: byte 0x00 at 0"),
        (b"<?xml version='1.0'?><a/>", "t.csv is XML, but no VOTable"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        read_table(path)
    assert caught.value.reason == "not_a_table"
    assert words in caught.value.detail


def test_columns_without_a_name_may_be_many(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("ra,dec,,\n1,2,,\n")
    assert read_table(path).columns["dec"].to_pylist() == [2]


def test_text_that_is_no_number_is_found_and_marks_of_no_value_are_not() -> None:
    given = [["1.5", None, "--", "12,0"], ["", "n/a", "40.7 Mpc", "-999", "bad"]]
    assert not_numbers(pa.chunked_array(given)).tolist() == [3, 6, 8]
    assert not_numbers(pa.chunked_array([[1.0, None]])).tolist() == []
    assert not_numbers(pa.chunked_array([["1", None]])).tolist() == []


def test_a_row_longer_than_the_header_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,ra,dec\na,1,2,\nb,3,4,\n")
    with pytest.raises(CatalogError, match="row 1 has 4 fields, the header 3"):
        read_table(path)


def test_whole_numbers_with_gaps_keep_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x\n4295806720038123457,1\n,2\n")
    assert read_table(path).columns["id"].to_pylist() == [4295806720038123457, None]


def test_words_for_nothing_are_nothing_and_names_lose_what_python_wrote() -> None:
    nothing = ["", " ", "null", "NULL", "None", "nan", "NaN", "<NA>", "--", "---", "b'---'", "b''"]
    names = ["b'NGC0253'", 'b"Barnard\'s"', " M 31 ", "b", "b'", "-1"]
    found = texts(pa.chunked_array([[None, *nothing, *names]]))
    assert found[: len(nothing) + 1] == [None] * (len(nothing) + 1)
    assert found[len(nothing) + 1 :] == ["NGC0253", "Barnard's", "M 31", "b", "b'", "-1"]


def test_marks_of_no_value_are_not_measured() -> None:
    marks = np.array([-999.0, -9999.0, np.float32(1e20), np.inf, -np.inf, np.nan])
    assert np.isnan(measured(marks)).all()
    true = np.array([0.0, 99.0, -99.9, 10362.4, -1000.0])
    assert measured(true).tolist() == true.tolist()


@pytest.mark.parametrize(
    "content",
    [b"SIMPLE  =  broken", b"PAR1 broken PAR1", b"<?xml version='1.0'?><VOTABLE>", b"\xff\xfe\x00"],
)
def test_broken_files_are_no_tables(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.bin"
    path.write_bytes(content)

    with pytest.raises(CatalogError) as caught:
        read_table(path)
    assert caught.value.reason == "not_a_table"


@pytest.mark.parametrize(("form", "times"), [("tabledata", 2.4), ("binary", 10), ("binary2", 10)])
def test_a_votable_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, times: float
) -> None:
    path = tmp_path / "t.vot"
    sample().write(path, format="votable", tabledata_format=form)
    memory = path.stat().st_size * times
    monkeypatch.setattr(tables, "_MOST_VOTABLE_MEMORY", memory + 1)
    assert read_table(path).columns.num_rows == 3
    monkeypatch.setattr(tables, "_MOST_VOTABLE_MEMORY", memory - 1)
    with pytest.raises(CatalogError) as caught:
        read_table(path)
    assert caught.value.reason == "too_large"
    assert f"stilts tcopy ifmt=votable in={path} ofmt=fits out=" in caught.value.detail
