"""Statements are read from the matcher's table; private ones only when they are asked for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from crossmatch.errors import ServiceError
from gateway.offline.counterparts import grouped
from gateway.offline.statements import LIST_COLUMNS, Table
from tests.gateway.candidatefiles import statement, write_table

PRIVATE = {"event_id": "ourteam:Own_1", "streams": ["ourteam"]}


def test_the_latest_statement_of_each_event_and_counterpart_is_read(tmp_path: Path):
    said = [statement(number=n) for n in range(1, 13)]
    said += [statement(event_id="Fermi_1"), statement("ZTF17bbb")]
    write_table(tmp_path, said[:4])
    write_table(tmp_path, said[4:])
    rows = Table(tmp_path / "candidates").latest()
    found = {(r["counterpart_id"], r["event_id"]): r["record_number"] for r in rows}
    assert found == {
        ("MM-ZTF-ZTF17aabcdef", "GW170817"): 12,
        ("MM-ZTF-ZTF17aabcdef", "Fermi_1"): 1,
        ("MM-ZTF-ZTF17bbb", "GW170817"): 1,
    }
    assert set(rows[0]) == set(LIST_COLUMNS)


def test_a_statement_that_was_written_twice_counts_once(tmp_path: Path):
    write_table(tmp_path, [statement()] * 2)
    (one,) = grouped(Table(tmp_path / "candidates").latest())
    assert len(one.best.statements) == 1


@pytest.mark.parametrize("name", ["ZTF17aabcdef", "MM-ZTF-ZTF17aabcdef"])
def test_all_statements_about_one_object_are_read_whole(tmp_path: Path, name: str):
    said = [statement(number=n) for n in (1, 2, 3)]
    write_table(tmp_path, [*said, statement("ZTF17bbb")])
    rows = Table(tmp_path / "candidates").of(name)
    assert sorted(rows, key=lambda r: r["record_number"]) == said


def test_private_statements_are_read_only_when_asked_for(tmp_path: Path):
    write_table(tmp_path, [statement("ZTF17open"), statement("ZTF17private", **PRIVATE)])
    public = Table(tmp_path / "candidates")
    operators = Table(tmp_path / "candidates", private=True)
    assert [r["id"] for r in public.latest()] == ["ZTF17open"]
    assert public.of("ZTF17private") == []
    assert public.names() == ["MM-ZTF-ZTF17open"]
    assert len(operators.latest()) == len(operators.names()) == 2
    assert len(operators.of("ZTF17private")) == 1


def test_a_table_of_an_earlier_version_lacks_columns_and_is_read(tmp_path: Path):
    old = {
        k: v
        for k, v in statement().items()
        if k not in ("verdict", "verdict_effect", "joint_events")
    }
    write_deltalake(str(tmp_path / "candidates"), pa.table({k: [v] for k, v in old.items() if v}))
    (row,) = Table(tmp_path / "candidates").latest()
    assert row["verdict"] is None
    assert grouped([row])[0].best.event_names == ("GW170817",)


def test_without_a_table_the_sentence_says_what_to_do(tmp_path: Path):
    with pytest.raises(ServiceError, match=r"'mmgateway up'.*--from-kafka"):
        Table(tmp_path / "candidates")
