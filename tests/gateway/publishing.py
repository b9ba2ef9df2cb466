"""A publisher on topics in memory: Kafka with its transactions, and statements to be told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from broker import topics
from broker.codec import encode_candidate
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import NoticeError
from gateway.config import Publish, load
from gateway.publisher.outgoing import Packets
from gateway.publisher.positions import PartitionReader, decode_position, marks_of
from gateway.publisher.steps import Broadcasting, VOEventWriter

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GW = topics.candidates("gw")
GRB = topics.candidates("grb")
OURS = "mm.private.ourteam.candidates.gw"
OUR_VOEVENTS = "mm.private.ourteam.voevents"


class Killed(BaseException):
    """The process ends here; no handler of the code sees it in reality."""


class Message:
    """As much of confluent_kafka.Message as is used."""

    def __init__(self, topic: str, offset: int, value: bytes, key: bytes, headers: Any) -> None:
        self._fields = (topic, offset, value, key, headers)

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self._fields[0]

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._fields[1]

    def value(self) -> bytes:
        return self._fields[2]

    def key(self) -> bytes:
        return self._fields[3]

    def headers(self) -> Any:
        return self._fields[4]


class FakeKafka:
    """Topics of one partition; what a transaction wrote is there once it is committed."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Message]] = {}

    def add(self, topic: str, value: bytes, key: bytes = b"", headers: Any = ()) -> None:
        log = self.topics.setdefault(topic, [])
        log.append(Message(topic, len(log), value, key, list(headers)))

    def records(self, topic: str) -> list[Any]:
        return [
            SimpleNamespace(key=m.key(), value=m.value(), headers=tuple(m.headers()))
            for m in self.topics.get(topic, [])
        ]


class FakeProducer:
    def __init__(self, kafka: FakeKafka, before_commit: Callable[[], None] = lambda: None) -> None:
        self._kafka = kafka
        self._before_commit = before_commit
        self._open: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def begin_transaction(self) -> None:
        self._open = []

    def produce(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Any = ()
    ) -> None:
        self._open.append((topic, value, key or b"", headers))

    def poll(self, seconds: float) -> None:
        pass

    def commit_transaction(self, seconds: float) -> None:
        if self.failure is not None:
            raise self.failure
        self._before_commit()
        for entry in self._open:
            self._kafka.add(*entry)


class FakeConsumer:
    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self.at: dict[str, int] = {}
        self.closed = False

    def list_topics(self, timeout: float) -> Any:
        one = SimpleNamespace(partitions={0: None})
        return SimpleNamespace(topics=dict.fromkeys(self._kafka.topics, one))

    def assign(self, partitions: Any) -> None:
        self.at = {p.topic: p.offset for p in partitions}

    def consume(self, limit: int, timeout: float) -> list[Message]:
        found: list[Message] = []
        for topic, offset in self.at.items():
            part = self._kafka.topics[topic][offset : offset + limit - len(found)]
            self.at[topic] = offset + len(part)
            found += part
        return found

    def close(self) -> None:
        self.closed = True


class Broadcast:
    """Step 2 on a fake Kafka, with what was sent and kept, in order."""

    def __init__(self, kafka: FakeKafka, fail_after: int = 1000) -> None:
        self.done: list[Any] = []
        self._kafka = kafka
        self._fail_after = fail_after
        marks = marks_of(kafka.records(topics.MARKER))
        self.streams: list[str] = []
        reader = PartitionReader(FakeConsumer(kafka), [topics.VOEVENTS], marks.vtp)
        self.step = Broadcasting(reader, self._send, self._keep, threading.Event())

    def _send(self, stream: str, xml: bytes) -> None:
        self.streams.append(stream)
        if len(self.sent) >= self._fail_after:
            raise Killed
        if xml == b"poison":
            raise NoticeError("not_a_voevent", "poison")
        self.done.append(("sent", xml))

    def _keep(self, position: bytes) -> None:
        self.done.append(("kept", decode_position(position)))
        self._kafka.add(topics.MARKER, position, b"vtp")

    @property
    def sent(self) -> list[bytes]:
        return [what for kind, what in self.done if kind == "sent"]

    def work(self) -> None:
        while messages := self.step._reader.read(10):
            self.step.work(messages)


def statement(name: str = "C1", **changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True, "strings": ["a"],
    }  # fmt: skip
    moment = "2026-01-02T03:04:05.000000Z"
    times = [
        "alert_datetime", "event_trigger_time", "observation_start", "first_detection",
        "last_detection", "last_nondetection_time", "expires",
    ]  # fmt: skip
    return {
        **{field.name: values[field.kind] for field in CANDIDATE_FIELDS},
        **dict.fromkeys(times, moment),
        "candidate_id": f"{name}/E1/1",
        "counterpart_id": name,
        "event_id": "E1",
        "alert_type": "initial",
        "state": "in_force",
        "supersedes": None,
        "role": "observation",
        "stream": GW,
        "streams": [],
        "messenger": "gw",
        "tier": "gold",
        "survey": "ztf",
        "filter": "r",
        "alert_id": "1",
        **changed,
    }


def settings(**changed: Any) -> Publish:
    default = load(None, {}).publish
    fields = {name: getattr(default, name) for name in Publish.__slots__}  # type: ignore[attr-defined]
    return Publish(**fields | changed)


def writer(kafka: FakeKafka, producer: FakeProducer | None = None) -> VOEventWriter:
    """A publisher that has just been started."""
    marks = marks_of(kafka.records(topics.MARKER))
    return VOEventWriter(
        producer or FakeProducer(kafka),
        PartitionReader(FakeConsumer(kafka), [GW, GRB], marks.publish),
        Packets(settings(), marks.heard),
        threading.Event(),
        lambda: NOW,
    )


def work(step: VOEventWriter) -> None:
    """Everything that waits."""
    while messages := step._reader.read(2):
        step.work(messages)


def ivoids(kafka: FakeKafka) -> list[str]:
    return [dict(r.headers)["ivoid"].decode() for r in kafka.records(topics.VOEVENTS)]


def by_vtp(kafka: FakeKafka) -> list[bytes]:
    return [dict(r.headers)["vtp"] for r in kafka.records(topics.VOEVENTS)]


def kafka_with_statements() -> FakeKafka:
    """Three statements that nobody has been told yet."""
    kafka = FakeKafka()
    for name in ("C1", "C2", "C3"):
        kafka.add(GW, encode_candidate(statement(name)))
    return kafka


def kafka_with_voevents() -> FakeKafka:
    """Four VOEvents, every other one for VTP."""
    kafka = FakeKafka()
    for value, mark in ((b"one", b"yes"), (b"two", b"no"), (b"three", b"yes"), (b"four", b"no")):
        kafka.add(topics.VOEVENTS, value, headers=[("vtp", mark)])
    return kafka
