"""The parts of the match service that need neither Spark nor Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.chores import Chore, Chores
from broker.commit import Committed
from broker.diskguard import Limits, PacketNews
from broker.engine import Outcome
from broker.groups import Group
from broker.judge import address_of
from broker.owed import OwedSearch
from broker.packetfiles import Address, Packet
from broker.packetstore import Kept, PacketStore
from broker.writer import Marker
from crossmatch.counterpart import MatchedAlert
from gateway.config import load
from gateway.matcher.packets import Collector, Repaired, Storage, packet_of
from gateway.matcher.progress import Progress, searches
from gateway.matcher.service import _log_step
from gateway.matcher.troubles import Troubles

NIGHTS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-02-01"]
WORLD = (False, ())


def test_progress_tells_how_many_nights_of_each_search_are_done(tmp_path: Path):
    progress = Progress(tmp_path, lambda start, end: NIGHTS)
    wide = OwedSearch("S1", WORLD, 5, 2461042.0, 2461080.0, "2026-01-02", 7)
    narrow = OwedSearch("GRB1", WORLD, 5, 2461042.0, 2461044.0)

    progress.tell([wide, narrow])

    assert searches(tmp_path) == [
        {"event_id": "S1", "nights": 4, "nights_done": 2, "found": 7},
        {"event_id": "GRB1", "nights": 3, "nights_done": 0, "found": 0},
    ]
    progress.tell([])
    assert searches(tmp_path) == []


def test_the_log_tells_what_a_search_found_in_all_its_parts(caplog):
    caplog.set_level("INFO")
    ended, other = (OwedSearch(name, WORLD, 5, 2461042.0, 2461080.0, found=7) for name in "AB")
    told = [search.told("2026-01-02", None, None, 3) for search in (ended, other)]
    outcome = Outcome("search", 4, 2, "", [], {}, {ended.key: None, other.key: other}, {}, [], told)

    _log_step(Committed(outcome, Marker(2, "", 0), 0.1, 0.1))

    lines = [r.getMessage() for r in caplog.records if "search_done" in r.getMessage()]
    assert len(lines) == 1
    assert "event_id=A found=10" in lines[0]


def test_nothing_is_under_way_where_no_matcher_ever_ran(tmp_path: Path):
    assert searches(tmp_path) == []


def test_a_chore_that_fails_is_told_and_tried_again_and_the_others_are_done():
    moment, done, failures = [0.0], [], []

    def fail() -> None:
        done.append("fails")
        raise OSError("disk")

    chores = Chores(
        [Chore("fails", 5, fail), Chore("works", 10, lambda: done.append("works"), at_end=True)],
        lambda name, error: failures.append((name, error and str(error))),
        lambda: moment[0],
    )
    assert chores.do_due() == 5
    moment[0] = 10.0
    assert chores.do_due() == 5
    moment[0] = 15.0
    chores.do_due()

    assert done == ["fails", "works", "fails"]
    assert failures == [("fails", "disk"), ("works", None), ("fails", "disk")]
    chores.stop()
    assert done[3:] == ["works"]


def test_a_chore_that_is_to_be_done_once_is_done_until_it_does_not_fail():
    moment, answers = [0.0], [OSError("disk"), None]

    def work() -> None:
        error = answers.pop(0)
        if error is not None:
            raise error

    chores = Chores([Chore("once", 5, work, once=True)], lambda *_: None, lambda: moment[0])
    for moment[0] in (5.0, 10.0, 15.0):
        chores.do_due()

    assert answers == []


class MemoryKeeper:
    def __init__(self) -> None:
        self.kept: list = []

    def keep(self, packets, step) -> None:
        self.kept.append((step, list(packets)))


def test_packets_are_held_until_they_are_flushed_or_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.matcher.packets._HELD_BYTES", 10)
    keeper = MemoryKeeper()
    collector = Collector(keeper, lambda: 3)  # type: ignore[arg-type]

    collector.collect([(_matched(1), b"12345")])
    assert keeper.kept == []
    collector.flush()
    collector.flush()
    assert [(step, [p.data for p in packets]) for step, packets in keeper.kept] == [(3, [b"12345"])]
    collector.collect([(_matched(2), b"x" * 6), (_matched(3), b"y" * 6)])
    assert len(keeper.kept[1][1]) == 2


def test_a_packet_is_filed_under_the_night_of_its_exposure():
    packet = packet_of(_matched(1).alert, b"bytes")

    assert packet.night == "2026-01-01"
    assert packet.address == ("alerts.ztf", 0, 1)
    assert json.dumps([packet.survey, packet.object_id, packet.alert_id]) == '["ztf", "ZTF1", 1]'


def _matched(number: int):
    alert = {
        "survey": "ztf",
        "object_id": "ZTF1",
        "alert_id": number,
        "time_jd": 2461042.4,
        "topic": "alerts.ztf",
        "partition": 0,
        "offset": number,
    }
    return MatchedAlert(alert, 0.5, 1.0, 0.1)


def test_troubles_are_told_once_and_a_chore_that_works_again_is_over(tmp_path: Path):
    told, moment = [], [datetime(2026, 1, 1, tzinfo=UTC)]
    settings = load(None, environ={}).alarms
    troubles = Troubles(
        settings, tmp_path / "alarms.json", lambda: moment[0], lambda key, value: None
    )
    troubles._announcer._tell = lambda phase, alarm: told.append((phase, alarm.key))  # type: ignore[method-assign]
    dropped = PacketNews(kind="dropped", packets=3, bytes=9, text="made room", night="2025-12-01")

    for _ in range(2):
        troubles.chore("tidy the tables", OSError("disk"))
        troubles.packets(moment[0], dropped)
        troubles.announce()
    assert told == [
        ("begun", "chore_failed/tidy the tables"),
        ("begun", "packets_dropped/2025-12-01"),
    ]

    moment[0] += timedelta(days=2)
    troubles.chore("tidy the tables", None)
    troubles.announce()
    assert sorted(told[2:]) == [
        ("over", "chore_failed/tidy the tables"),
        ("over", "packets_dropped/2025-12-01"),
    ]


class PastKafka:
    """Packets by address; says how many were asked for at a time."""

    def __init__(self, values: dict[Address, bytes]) -> None:
        self.values = values
        self.asked: list[list[Address]] = []
        self.closed = False

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        self.asked.append(sorted(addresses))
        return {a: self.values[a] for a in self.asked[-1] if a in self.values}

    def close(self) -> None:
        self.closed = True


def stored_in(store: PacketStore | None, kafka: PastKafka, *, writes: bool = True) -> Storage:
    moment = datetime(2026, 1, 4, tzinfo=UTC)
    return Storage(store, writes, lambda: kafka, lambda: moment, lambda at, news: None)  # type: ignore[arg-type,return-value]


def group_of(*numbers: int, days: float = 0.0) -> Group:
    found = {n: _matched(n) for n in numbers}
    for one in found.values():
        one.alert["time_jd"] += days  # type: ignore[index]
    return Group(alerts=found)


def test_packets_that_a_kill_lost_are_fetched_again_and_stored(tmp_path: Path):
    store = PacketStore(tmp_path, Limits(None, 0.0))
    store.put([packet_of(_matched(1).alert, b"one")], 1)
    kafka = PastKafka({address_of(_matched(n).alert): b"%d" % n for n in (1, 2, 3, 9)})
    # Two events share the second; the fifth is no longer in Kafka.
    groups = [group_of(1, 2), group_of(2, 3, 5)]

    assert stored_in(store, kafka).repair(groups) == Repaired(missing=3, stored=2)
    assert store.get([address_of(_matched(n).alert) for n in (1, 2, 3, 5, 9)]) == {
        address_of(_matched(1).alert): b"one",
        address_of(_matched(2).alert): b"2",
        address_of(_matched(3).alert): b"3",
    }
    assert kafka.asked == [[address_of(_matched(n).alert) for n in (2, 3, 5)]]
    assert kafka.closed


def test_packets_older_than_kafka_keeps_them_are_not_asked_for(tmp_path: Path):
    kafka = PastKafka({address_of(_matched(n).alert): b"%d" % n for n in (1, 2)})
    groups = [group_of(1, days=-8.5), group_of(2, days=-7.5), group_of(3)]

    storage = stored_in(PacketStore(tmp_path, Limits(None, 0.0)), kafka)

    assert storage.repair(groups) == Repaired(missing=2, stored=1)
    assert kafka.asked == [[address_of(_matched(n).alert) for n in (2, 3)]]


def test_many_lost_packets_are_stored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.matcher.packets._HELD_BYTES", 300)
    monkeypatch.setattr("broker.packetkeeper.CHUNK_BYTES", 300)
    monkeypatch.setattr("broker.packetkeeper._FIRST_GUESS", 100)
    monkeypatch.setattr("gateway.matcher.packets._ASKED", 4)
    kafka = PastKafka({address_of(_matched(n).alert): bytes(100) for n in range(10)})
    store = PacketStore(tmp_path, Limits(None, 0.0))
    sizes = []
    put = store.put

    def noted(rows: Sequence[Packet], step: int) -> Kept:
        sizes.append(sum(len(row.data) for row in rows))
        return put(rows, step)

    monkeypatch.setattr(store, "put", noted)

    assert stored_in(store, kafka).repair([group_of(*range(10))]) == Repaired(10, 10)
    assert max(sizes) <= 300
    assert sum(sizes) == 1000
    assert max(map(len, kafka.asked)) <= 3


@pytest.mark.parametrize("writes", [True, False])
def test_nothing_is_repaired_where_the_matcher_keeps_no_packets(tmp_path: Path, writes: bool):
    kafka = PastKafka({address_of(_matched(1).alert): b"1"})
    store = None if writes else PacketStore(tmp_path, Limits(None, 0.0))
    assert stored_in(store, kafka, writes=writes).repair([group_of(1)]) == Repaired(0, 0)
    assert kafka.asked == []


def test_nothing_is_fetched_when_nothing_is_open_or_lost(tmp_path: Path):
    store = PacketStore(tmp_path, Limits(None, 0.0))
    store.put([packet_of(_matched(1).alert, b"one")], 1)
    kafka = PastKafka({})
    assert stored_in(store, kafka).repair([]) == Repaired(0, 0)
    assert stored_in(store, kafka).repair([group_of(1)]) == Repaired(0, 0)
    assert kafka.asked == []
