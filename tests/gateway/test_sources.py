"""Sources: what they hand over, and when they commit, move and complain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from crossmatch.errors import ServiceError
from gateway.feeds.registry import HEARTBEAT
from gateway.listener.sources import PROBE_SECONDS, Arrival, FolderSource, KafkaSource, bounded
from tests.gateway.memory import NOW, arrival


def test_too_long_a_notice_is_refused_with_its_beginning() -> None:
    long = bounded(arrival(b"<" * (7 * 2**20 + 1)))
    assert long.refused is not None
    assert (long.refused.reason, len(long.raw)) == ("too_large", 2**16)


@dataclass
class Delivered:
    """A pipeline's end of the queue, by hand."""

    jobs: list[tuple[Sequence[Arrival], Any, Any]] = field(default_factory=list)
    outcome: str = "region"

    def __call__(self, arrivals: Sequence[Arrival], stored: Any = None, done: Any = None) -> None:
        self.jobs.append((arrivals, stored, done))
        if stored is not None:
            stored()


def test_folder_takes_complete_files_and_moves_them(tmp_path: Path) -> None:
    delivered = Delivered()
    source = FolderSource(tmp_path, delivered, lambda: NOW)
    for name in ("a.xml", "b.json", "c.txt", ".d.xml"):
        (tmp_path / name).write_bytes(name.encode())
    assert source.poll() == 0
    assert source.poll() == 2
    assert source.poll() == 0
    for (arrivals, _, done), outcome in zip(delivered.jobs, ("region", "rejected"), strict=True):
        assert arrivals[0].source.startswith("folder:")
        done([outcome])
    assert (tmp_path / "done" / "a.xml").read_bytes() == b"a.xml"
    assert (tmp_path / "rejected" / "b.json").exists()


def test_folder_leaves_a_growing_file_and_keeps_files_of_one_name(tmp_path: Path) -> None:
    delivered = Delivered()
    source = FolderSource(tmp_path, delivered, lambda: NOW)
    file = tmp_path / "a.xml"
    file.write_bytes(b"1")
    source.poll()
    file.write_bytes(b"12")
    assert source.poll() == 0
    assert source.poll() == 1
    delivered.jobs[-1][2](["region"])
    file.write_bytes(b"other")
    source.poll()
    source.poll()
    delivered.jobs[-1][2](["region"])
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a-1.xml", "a.xml"]


class Message:
    """A message of confluent_kafka, as far as the source looks at it."""

    def __init__(
        self, value: bytes | None, offset: int = 0, error: Any = None, topic: str = "t"
    ) -> None:
        self._value, self._offset, self._error, self._topic = value, offset, error, topic

    def value(self) -> bytes | None:
        return self._value

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> Any:
        return self._error


class Trouble:
    """An error that came as a message."""

    def __init__(self, fatal: bool) -> None:
        self._fatal = fatal

    def fatal(self) -> bool:
        return self._fatal

    def str(self) -> str:
        return "unknown topic"


class Client:
    """A consumer with messages in memory."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.commits: list[int] = []
        self.subscribed: list[list[str]] = []
        self.there = True
        self.asked = 0

    def subscribe(self, topics: list[str]) -> None:
        self.subscribed.append(topics)

    def list_topics(self, timeout: float) -> None:
        self.asked += 1
        if not self.there:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def close(self) -> None:
        self.there = False

    def poll(self, wait: float) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, number: int, wait: float) -> list[Message]:
        taken, self.messages = self.messages[:number], self.messages[number:]
        return taken

    def commit(self, offsets: list[Any], asynchronous: bool) -> None:
        self.commits += [o.offset for o in offsets]


def test_offsets_are_committed_after_the_bytes_are_stored() -> None:
    client = Client([Message(b"a", 4), Message(b"b", 5)])
    seen: list[list[int]] = []

    def deliver(arrivals: Sequence[Arrival], stored: Any = None, done: Any = None) -> None:
        seen.append(list(client.commits))
        stored()

    source = KafkaSource("gcn", client, ["t"], deliver, lambda: NOW)
    assert source.step() == 2
    assert seen == [[]]
    assert client.commits == [6]


def test_errors_that_come_as_messages_are_no_notices() -> None:
    client = Client([Message(None, error=Trouble(False)), Message(b"a", 1)])
    delivered = Delivered()
    assert KafkaSource("gcn", client, ["t"], delivered, lambda: NOW).step() == 1
    assert [a.raw for a in delivered.jobs[0][0]] == [b"a"]


def test_fatal_error_of_kafka_ends_the_source() -> None:
    client = Client([Message(None, error=Trouble(True))])
    with pytest.raises(ServiceError, match="gcn"):
        KafkaSource("gcn", client, ["t"], Delivered(), lambda: NOW).step()


def test_topics_change_without_leaving_the_group() -> None:
    client = Client([])
    source = KafkaSource("gcn", client, ["a"], Delivered(), lambda: NOW)
    source.step()
    source.step()
    source.subscribe(["a", "b"])
    source.step()
    assert client.subscribed == [["a"], ["a", "b"]]


def test_messages_of_a_source_of_its_own_are_the_feeds() -> None:
    delivered = Delivered()
    KafkaSource("k", Client([Message(b"a")]), ["t"], delivered, lambda: NOW, "ours").step()
    assert [a.feed for a in delivered.jobs[0][0]] == ["ours"]


@dataclass
class Links:
    """What a source said of its server."""

    said: list[str] = field(default_factory=list)

    def opened(self, server: str, *, credentials: bool = False) -> None:
        self.said.append("opened")

    def contact(self, server: str, when: datetime) -> None:
        self.said.append(f"contact {server}")

    def lost(self, server: str, detail: str, when: datetime) -> None:
        self.said.append(f"lost {server}")

    def beat(self, source: str, topic: str, when: datetime) -> None:
        self.said.append(f"beat {source}")


def test_heartbeats_are_told_and_not_stored() -> None:
    links, delivered = Links(), Delivered()
    client = Client([Message(b"{}", topic=HEARTBEAT), Message(b"{}", topic=HEARTBEAT)])
    assert KafkaSource("gcn", client, ["t"], delivered, lambda: NOW, link=links).step() == 0
    assert links.said == ["beat kafka:gcn"] * 2
    assert delivered.jobs == []


def test_server_that_was_away_is_asked_now_and_then_whether_it_is_back() -> None:
    times = [NOW]
    links, client = Links(), Client([])
    source = KafkaSource("k", client, ["t"], Delivered(), lambda: times[-1], link=links)
    source.trouble(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    client.there = False
    source.step()
    assert client.asked == 0
    times.append(NOW + timedelta(seconds=PROBE_SECONDS + 1))
    source.step()
    assert (client.asked, links.said) == (1, ["lost k"])
    client.there = True
    times.append(times[-1] + timedelta(seconds=PROBE_SECONDS + 1))
    source.step()
    source.step()
    assert (client.asked, links.said) == (2, ["lost k", "contact k"])


def test_folder_of_a_feed_says_whose_it_is(tmp_path: Path) -> None:
    delivered = Delivered()
    source = FolderSource(tmp_path / "in", delivered, lambda: NOW, "ours")
    (tmp_path / "in" / "a.xml").write_bytes(b"a")
    source.poll()
    source.poll()
    assert [a.feed for a in delivered.jobs[0][0]] == ["ours"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ServiceError, match="folder of the feed ours"):
        FolderSource(tmp_path / "file", delivered, lambda: NOW, "ours")
