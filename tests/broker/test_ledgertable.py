"""The table of the ledger: each entry once, whatever dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from broker import ledgertable
from broker.kafka_io import Record
from broker.ledgertable import LedgerTable
from crossmatch.errors import ServiceError

ALERTS = {
    "kind": "alerts",
    "step": 3,
    "batch_id": 2,
    "moment": "2026-01-02T03:04:05.000000Z",
    "counts": {"received": 2, "matched": 1, "unmatched": 1, "pairs": 4},
    "parts": [
        {"night": "2026-01-01", "feed": "ztf", "counts": {"received": 1, "matched": 1}},
        {"night": "", "feed": "ztf", "counts": {"received": 1, "unmatched": 1}},
    ],
}
NOTICES = {
    "kind": "notices",
    "next": 9,
    "moment": "2026-01-02T03:04:06.000000Z",
    "counts": {"received": 1, "region": 1},
    "parts": [{"night": "2026-01-01", "feed": "svom", "counts": {"received": 1, "region": 1}}],
}
CLOSED = {"kind": "close", "step": 4, "batch_id": 2, "counts": {}, "parts": []}


class Topic:
    """A topic in memory; marks of transactions leave gaps, as on Kafka."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, entry: dict[str, Any]) -> None:
        offset = 2 * len(self.records)
        self.records.append(Record("mm.ledger", 0, offset, b"", json.dumps(entry).encode()))

    def __call__(self, start: int) -> list[Record]:
        return [r for r in self.records if r.offset >= start]


@pytest.fixture
def topic() -> Topic:
    topic = Topic()
    for entry in (ALERTS, NOTICES, CLOSED):
        topic.add(entry)
    return topic


def shown(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "offset"} for entry in entries]


def test_entries_come_back_as_they_were(tmp_path: Path, topic: Topic) -> None:
    table = LedgerTable(tmp_path / "ledger")
    assert table.take(topic) == 3
    assert shown(table.entries()) == [ALERTS, NOTICES, CLOSED]


def test_each_entry_is_in_it_once(tmp_path: Path, topic: Topic) -> None:
    table = LedgerTable(tmp_path / "ledger")
    assert [table.take(topic), table.take(topic)] == [3, 0]
    topic.add(NOTICES)
    # A new process goes on where the table stands.
    assert LedgerTable(tmp_path / "ledger").take(topic) == 1
    assert len(table.entries()) == 4


def test_position_and_rows_are_written_together(
    tmp_path: Path, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left")

    table = LedgerTable(tmp_path / "ledger")
    with monkeypatch.context() as patch:
        patch.setattr(ledgertable, "write_deltalake", refuse)
        with pytest.raises(ServiceError, match="no space left"):
            table.take(topic)
    assert table.position() == 0
    assert table.take(topic) == 3


def test_many_appends_become_one_file(
    tmp_path: Path, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgertable, "_COMPACT_AT", 3)
    table = LedgerTable(tmp_path / "ledger")
    for _ in range(3):
        topic.add(NOTICES)
        table.take(topic)
    assert len(DeltaTable(str(table.path)).file_uris()) == 1
    assert len(table.entries()) == 6
    topic.add(NOTICES)
    # Compaction does not forget the position.
    assert table.take(topic) == 1


def test_a_long_ledger_is_written_in_parts(
    tmp_path: Path, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgertable, "_PART", 2)
    table = LedgerTable(tmp_path / "ledger")
    assert (table.take(topic), len(DeltaTable(str(table.path)).file_uris())) == (3, 2)
    assert shown(table.entries()) == [ALERTS, NOTICES, CLOSED]


def test_table_has_a_row_for_each_count(tmp_path: Path, topic: Topic) -> None:
    LedgerTable(tmp_path / "ledger").take(topic)
    rows = DeltaTable(str(tmp_path / "ledger")).to_pyarrow_table().to_pylist()
    found = [(r["night"], r["feed"], r["reason"], r["count"], r["step"]) for r in rows[:5]]
    assert found == [
        ("2026-01-01", "ztf", "received", 1, 3),
        ("2026-01-01", "ztf", "matched", 1, 3),
        ("", "ztf", "received", 1, 3),
        ("", "ztf", "unmatched", 1, 3),
        (None, None, "pairs", 4, 3),
    ]


def test_no_table_has_no_entries(tmp_path: Path) -> None:
    table = LedgerTable(tmp_path / "ledger")
    assert (table.entries(), table.position()) == ([], 0)
    table.compact()
