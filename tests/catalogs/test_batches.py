"""Catalogue files read in parts: formats by their first bytes, broken files, HATS."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
