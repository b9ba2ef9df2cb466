"""Appends by entries of the Delta log, against the library that reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from broker import deltalog
from broker.tables import DeltaFolder
from crossmatch.errors import ServiceError

SCHEMA = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("part", pa.string())])


def rows(*numbers: int) -> pa.Table:
    values = {"x": numbers, "part": ["even" if n % 2 == 0 else "odd" for n in numbers]}
    return pa.table(values, schema=SCHEMA)


def opened(path: Path) -> DeltaFolder:
    return DeltaFolder(path, SCHEMA, "part", ("x",))


def numbers(path: Path) -> list[int]:
    return sorted(DeltaTable(str(path)).to_pyarrow_table()["x"].to_pylist())


def test_what_is_appended_is_what_the_library_reads(tmp_path):
    table = opened(tmp_path / "t")
    for step in range(5):
        table.append(rows(step, step + 1), step)

    read = DeltaTable(str(tmp_path / "t"))

    assert numbers(tmp_path / "t") == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert (read.version(), read.transaction_version("mmgateway-match")) == (4, 4)
    for action in pa.table(read.get_add_actions(flatten=True)).to_pylist():
        file = tmp_path / "t" / action["path"]
        assert action["size_bytes"] == file.stat().st_size
        assert action["num_records"] == 1
        assert (action["min.x"] % 2 == 0) == (action["partition.part"] == "even")
    assert not list((tmp_path / "t" / "_delta_log").glob(".*.tmp"))


def test_versions_that_others_wrote_are_passed_over(tmp_path):
    table = opened(tmp_path / "t")
    table.append(rows(1), 0)
    table.append(rows(2), 1)
    with table.alone():
        DeltaTable(str(tmp_path / "t")).optimize.compact()
    table.append(rows(3), 2)
    assert numbers(tmp_path / "t") == [1, 2, 3]


def test_a_log_that_was_cut_behind_us_is_looked_at_again(tmp_path):
    table = opened(tmp_path / "t")
    for step in range(3):
        table.append(rows(step), step)
    other = DeltaTable(str(tmp_path / "t"))
    other.optimize.compact()
    other.create_checkpoint()
    for version in range(3):
        deltalog.entry(tmp_path / "t" / "_delta_log", version).unlink()
    table.append(rows(3), 3)
    assert DeltaTable(str(tmp_path / "t")).version() == 4
    assert numbers(tmp_path / "t") == [0, 1, 2, 3]


def test_two_processes_that_archive_to_one_folder_are_told_apart(tmp_path):
    one = opened(tmp_path / "t")
    one.append(rows(1), 0)
    one.append(rows(2), 1)
    opened(tmp_path / "t").append(rows(3), 2)
    with pytest.raises(ServiceError, match="only one 'match' may run"):
        one.append(rows(4), 2)
    files = {f.name for f in (tmp_path / "t").glob("part=*/*.parquet")}
    assert numbers(tmp_path / "t") == [1, 2, 3]
    assert len(files) == 3


def test_a_table_whose_columns_others_changed_is_not_written_blindly(tmp_path):
    table = opened(tmp_path / "t")
    table.append(rows(1), 0)
    table.append(rows(2), 1)
    DeltaTable(str(tmp_path / "t")).alter.set_table_properties({"delta.appendOnly": "true"})
    with pytest.raises(ServiceError, match="changed the table"):
        table.append(rows(3), 2)
    fresh = opened(tmp_path / "t")
    fresh.append(rows(3), 2)
    assert numbers(tmp_path / "t") == [1, 2, 3]


def test_a_table_that_asks_more_of_writers_is_written_by_the_library(tmp_path):
    table = opened(tmp_path / "t")
    table.append(rows(1), 0)
    library = DeltaTable(str(tmp_path / "t"))
    assert deltalog.is_plain(library)
    library.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    fresh = opened(tmp_path / "t")
    for step in (1, 2):
        fresh.append(rows(step + 1), step)
    assert numbers(tmp_path / "t") == [1, 2, 3]
    assert not deltalog.is_plain(DeltaTable(str(tmp_path / "t")))
