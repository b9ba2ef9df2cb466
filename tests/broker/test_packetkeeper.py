"""Packets from Kafka first, then from the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.diskguard import Limits, PacketNews
from broker.packetfiles import Address, Packet
from broker.packetkeeper import PacketKeeper
from broker.packetstore import PacketStore
from crossmatch.errors import ServiceError

NOW = datetime(2026, 1, 4, tzinfo=UTC)


class Kafka:
    """Messages by address, as long as they are kept."""

    def __init__(self, values: dict[Address, bytes]) -> None:
        self.values = values
        self.asked: list[list[Address]] = []

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        self.asked.append(sorted(addresses))
        return {a: self.values[a] for a in self.asked[-1] if a in self.values}


def filed(address: Address, data: bytes) -> Packet:
    return Packet(address, "ztf", "ZTF1", 1, "2026-01-01", data)


A, B, C = (("alerts", 0, n) for n in range(3))


@pytest.fixture
def store(tmp_path: Path) -> PacketStore:
    return PacketStore(tmp_path, Limits(None, 0.0))


def test_kafka_is_asked_first_then_the_store(store):
    store.put([filed(A, b"stored"), filed(B, b"old")], 1)
    keeper = PacketKeeper(Kafka({A: b"kafka"}), store, lambda: NOW)

    assert keeper.fetch([A, B, C]) == {A: b"kafka", B: b"old"}
    assert keeper.counts == {"from_kafka": 1, "from_store": 1, "gone": 1}


def test_what_was_kept_outlives_kafka(store):
    kafka = Kafka({A: b"one"})
    keeper = PacketKeeper(kafka, store, lambda: NOW)
    keeper.keep([filed(a, data) for a, data in keeper.fetch([A]).items()], 1)
    kafka.values.clear()
    assert keeper.fetch([A]) == {A: b"one"}
    assert keeper.counts["stored"] == 1


def test_a_step_done_again_keeps_nothing_twice(store):
    keeper = PacketKeeper(Kafka({}), store, lambda: NOW)
    keeper.keep([filed(A, b"one")], 1)
    keeper.keep([filed(A, b"one")], 1)
    assert (keeper.counts["stored"], keeper.counts["known"]) == (1, 1)


def test_without_a_store_there_is_kafka_alone():
    keeper = PacketKeeper(Kafka({A: b"kafka"}), None, lambda: NOW)
    assert keeper.keep([filed(A, b"kafka")], 1).stored == 0
    assert keeper.fetch([A, B]) == {A: b"kafka"}


def test_where_another_fills_the_store_it_is_only_read(store):
    store.put([filed(A, b"stored")], 1)
    keeper = PacketKeeper(Kafka({}), store, lambda: NOW, writes=False)
    assert keeper.keep([filed(B, b"new")], 2).stored == 0
    assert keeper.fetch([A, B]) == {A: b"stored"}


def test_many_packets_come_in_parts(store, monkeypatch):
    monkeypatch.setattr("broker.packetkeeper.CHUNK_BYTES", 300_000)
    values = {("alerts", 0, n): bytes(100_000) for n in range(10)}
    kafka = Kafka(values)
    keeper = PacketKeeper(kafka, store, lambda: NOW)

    assert dict(keeper.each(values)) == values
    assert [len(asked) for asked in kafka.asked] == [2, 3, 3, 2]


def test_a_broken_file_makes_its_packets_missing_and_is_told(store, tmp_path):
    store.put([filed(A, b"one")], 1)
    store.put([filed(B, b"two")], 2)
    broken = next(f for f in tmp_path.glob("night=*/*") if b"one" in f.read_bytes())
    broken.write_bytes(b"nothing")
    told: list[tuple[datetime, PacketNews]] = []
    fresh = PacketStore(tmp_path)
    keeper = PacketKeeper(Kafka({}), fresh, lambda: NOW, on_news=lambda *n: told.append(n))

    assert keeper.fetch([A, B]) == {B: b"two"}
    assert [(at, news.kind, news.packets) for at, news in told] == [(NOW, "unreadable", 1)]
    assert broken.name in told[0][1].text


def test_what_is_dropped_and_refused_is_told_and_counted(tmp_path):
    told: list[PacketNews] = []
    small = PacketStore(tmp_path, Limits(2500, 0.0))
    keeper = PacketKeeper(Kafka({}), small, lambda: NOW, on_news=lambda _, n: told.append(n))
    keeper.keep([filed(A, b"first")], 1)
    keeper.keep([filed(B, bytes(3000))], 2)
    keeper.keep([filed(C, bytes(2000))], 3)
    assert [news.kind for news in told] == ["refused", "dropped"]
    assert (keeper.counts["refused"], keeper.counts["dropped"]) == (1, 1)


def test_silence_of_kafka_is_not_absence(store):
    class Silent(Kafka):
        def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
            raise ServiceError("Kafka gives no packets: it does not answer")

    store.put([filed(A, b"stored")], 1)
    with pytest.raises(ServiceError, match="does not answer"):
        PacketKeeper(Silent({}), store, lambda: NOW).fetch([A])
