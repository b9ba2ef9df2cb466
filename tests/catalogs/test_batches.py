"""Catalogue files read in parts: formats by their first bytes, broken files, HATS."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs import hats
from catalogs.batches import source_of, unified
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW, WANTED, refused, table, write


def test_a_hats_folder_is_read_again(store: Store, tmp_path: Path) -> None:
    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    first = store.open("test")
    for folder in (first.folder, first.folder / "test"):
        again = store.add(folder, Wanted(name="again"), NOW)
        assert again.facts["source_kind"] == "hats"
        assert store.open("again").sources.ipix29.tolist() == first.sources.ipix29.tolist()


@pytest.fixture
def hats_folder(tmp_path: Path) -> Path:
    """A primary table of several partitions, as someone else would publish it."""
    store = Store(tmp_path / "another")
    store.add(write(tmp_path / "a.parquet", table(3000)), WANTED, NOW)
    parts = store.open("test").folder
    whole = pq.read_table(parts / "test" / "dataset", partitioning=None)
    folder = tmp_path / "hats"
    writer = hats.Writer(folder, whole.schema)
    for pixel in range(12):
        part = hats.Partition(0, pixel)
        pixels = whole["_healpix_29"].to_numpy()
        writer.write(part, whole.filter((pixels >= part.start) & (pixels < part.end)))
    writer.close(hats.properties_of("hats", "ra", "dec", (), NOW))
    return folder


def test_a_whole_hats_folder_is_taken(hats_folder: Path) -> None:
    source = source_of(hats_folder)
    assert (len(source.files), source.ra, source.dec) == (12, "ra", "dec")
    assert sum(b.rows.columns.num_rows for b in source.batches()) == 3000


@pytest.mark.parametrize("listed", ["partition_info.csv", "_metadata"])
def test_a_partition_that_is_missing_is_told(store: Store, hats_folder: Path, listed: str) -> None:
    if listed == "_metadata":
        (hats_folder / "partition_info.csv").unlink()
    next(hats_folder.glob("**/Npix=7.parquet")).unlink()
    error = refused(store, hats_folder)
    assert error.reason == "incomplete"
    assert "Norder=0, Npix=7 is listed and missing; 11 partitions" in error.detail


def test_rows_that_are_missing_are_told(store: Store, hats_folder: Path) -> None:
    file = next(hats_folder.glob("**/Npix=7.parquet"))
    pq.write_table(pq.read_table(file, partitioning=None).slice(1), file)
    error = refused(store, hats_folder)
    assert error.reason == "incomplete"
    assert "2999 rows in 12 files, properties say 3000" in error.detail


def test_partitions_of_other_types_are_brought_to_one(store: Store, hats_folder: Path) -> None:
    file = next(hats_folder.glob("**/Npix=7.parquet"))
    part = pq.read_table(file, partitioning=None)
    number = part.column_names.index("source_id")
    pq.write_table(part.set_column(number, "source_id", part["source_id"].cast("int32")), file)
    store.add(hats_folder, Wanted(name="again"), NOW)
    assert store.open("again").facts["columns"]["source_id"] == "int64"


def test_a_margin_is_no_catalogue(store: Store, hats_folder: Path) -> None:
    told = hats.properties_of("hats", "ra", "dec", (), NOW)
    names = ("properties", "hats.properties")
    hats.write_properties(hats_folder, names, hats.margin_properties(told, "hats_margin"))
    error = refused(store, hats_folder)
    assert error.reason == "hats_margin"
    assert "add hats" in error.detail


def test_the_table_of_tns_has_its_time_above(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tns.csv"
    path.write_text(
        '"2026-03-01 00:00:00 - 23:59:59"\n"objid","name","ra","declination","type"\n'
        '"1","2026abc","10.5","-3.5","SN Ia"\n"2","2026abd","11.5","4.5",""\n'
    )
    store.add(path, Wanted(name="tns", kind=Kind.transients), NOW)
    found = store.open("tns")
    row = found.closest(np.array([10.5]), np.array([-3.5])).row
    assert found.columns(["name", "type"], row).to_pylist() == [
        {"name": "2026abc", "type": "SN Ia"}
    ]


@pytest.mark.parametrize("part", [0.3, 0.999])
def test_a_truncated_parquet_file(store: Store, tmp_path: Path, part: float) -> None:
    path = write(tmp_path / "a.parquet", table())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert refused(store, path).reason == "truncated"


def test_a_damaged_parquet_file_says_after_which_row(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(table(2000)), path, row_group_size=500, compression="zstd")
    start = pq.read_metadata(path).row_group(2).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    error = refused(store, path)
    assert error.reason == "not_a_table"
    assert "cannot be read after row" in error.detail


def test_paths_that_are_nothing(store: Store, tmp_path: Path) -> None:
    assert refused(store, tmp_path / "none.csv").reason == "no_such_file"
    assert refused(store, tmp_path).reason == "not_hats"


def test_compressed_files_are_to_be_unpacked(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"ra,dec\n1,2\n"))
    error = refused(store, path)
    assert (error.reason, error.detail) == ("compressed", f"{path}: unpack it first")


def test_schemas_meet_in_text() -> None:
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.null()]
    met = [unified([pa.schema([("c", k)]), pa.schema([("c", pa.int64())])]) for k in kinds]
    assert [s.field("c").type for s in met] == [pa.int64(), pa.float64(), pa.string(), pa.int64()]


def test_a_row_too_long_anywhere_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for long in range(1, 8):
        rows = [f"{i},{i},{i}" + ",5" * (i == long) for i in range(1, 8)]
        path.write_text("\n".join(["n,ra,dec", *rows]))
        with pytest.raises(CatalogError) as caught:
            list(source_of(path).batches(rows=3))
        assert caught.value.reason == "not_a_table"
        assert "4" in caught.value.detail.rpartition(":")[2]


def test_sources_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    for suffix, kind in (("csv", "csv"), ("fits", "fits"), ("vot", "votable")):
        path = write(tmp_path / f"a.{suffix}", table(3))
        assert source_of(path.rename(tmp_path / "plain")).kind == kind
