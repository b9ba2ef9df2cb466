"""What the match service does beside the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker import topics
from broker.codec import encode_candidate
from broker.diskguard import PacketNews
from broker.kafka_io import Record
from gateway.config import load
from gateway.matcher import upkeep
from gateway.matcher.upkeep import MANY_FILES, Tables, compact_packets, put_aside, trim_packets
from tests.gateway.candidatefiles import read_table, statement

NOW = datetime(2026, 1, 4, tzinfo=UTC)
GRB = topics.candidates("grb")


def test_all_that_has_ended_is_put_aside_however_many_steps_it_takes():
    asked: list[float] = []
    left = ["one", "two"]

    def close_ended(before_jd: float) -> str | None:
        asked.append(before_jd)
        return left.pop() if left else None

    def commit(step: Callable[[], Any]) -> Any:
        return step()

    engine: Any = SimpleNamespace(clock_jd=2461044.5, close_ended=close_ended)
    committer: Any = SimpleNamespace(commit=commit)
    put_aside(engine, committer, 2.5)
    assert asked == [2461042.0] * 3


class Store:
    def __init__(self) -> None:
        self.compacted: list[str] = []
        self.limits: list[tuple[int, float]] = []

    def nights(self) -> list[Any]:
        files = {"2026-01-01": MANY_FILES + 1, "2026-01-02": MANY_FILES, "2026-01-03": 99}
        return [SimpleNamespace(night=night, files=n) for night, n in files.items()]

    def compact(self, night: str) -> None:
        self.compacted.append(night)

    def trim(self, max_bytes: int, keep_free: float) -> list[PacketNews]:
        self.limits.append((max_bytes, keep_free))
        return [PacketNews(kind="dropped", packets=3, bytes=9, text="made room")]


@pytest.mark.parametrize(("writes", "compacted"), [(True, ["2026-01-01"]), (False, [])])
def test_nights_of_many_files_are_compacted_but_the_last_one(writes: bool, compacted: list[str]):
    store = Store()
    storage: Any = SimpleNamespace(store=store, writes=writes)
    compact_packets(storage)
    assert store.compacted == compacted


def test_what_had_to_go_is_told():
    config = load(None, environ={})
    config = replace(config, archive=replace(config.archive, packets_gigabytes=2.0, keep_free=0.2))
    store, told = Store(), []
    storage: Any = SimpleNamespace(store=store, writes=True)
    trim_packets(config, storage, lambda at, news: told.append((at, news.text)), NOW)
    assert told == [(NOW, "made room")]
    assert store.limits == [(2_000_000_000, 0.2)]


def test_where_no_packets_are_kept_there_is_nothing_to_do():
    storage: Any = SimpleNamespace(store=None, writes=True)
    compact_packets(storage)
    trim_packets(load(None, environ={}), storage, lambda at, news: pytest.fail("told"), NOW)


def test_the_table_of_candidates_follows_the_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held = [encode_candidate(statement(number=n)) for n in (1, 2)]
    reads: list[tuple[str, int]] = []

    def ends(bootstrap: str, properties: object, choose: Any) -> dict[str, dict[int, int]]:
        return {name: {0: len(held) + 1} for name in choose([GRB, topics.LEDGER])}

    def read_all(bootstrap: str, properties: object, topic: str, *, start: int) -> list[Record]:
        reads.append((topic, start))
        return [Record(topic, 0, n, b"", v) for n, v in enumerate(held) if n >= start]

    monkeypatch.setattr(upkeep.kafka_io, "committed_ends", ends)
    monkeypatch.setattr(upkeep.kafka_io, "read_all", read_all)
    config = load(None, environ={"MMGATEWAY_PATHS__STATE": str(tmp_path)})
    tables = Tables(config, "127.0.0.1:1")
    tables.write_candidates()
    tables.write_candidates()
    held.append(encode_candidate(statement(number=3)))
    tables.write_candidates()

    assert reads == [(GRB, 0), (GRB, 2)]
    assert [r["record_number"] for r in read_table(tmp_path / "candidates")] == [1, 2, 3]
