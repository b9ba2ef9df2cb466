from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from broker import topics
from broker.codec import decode, encode_candidate
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import NoticeError, ServiceError
from gateway.config import Publish, load
from gateway.publisher.outgoing import Packet, Packets
from gateway.publisher.positions import (
    LOOK_SECONDS,
    PUBLISH_KEY,
    Marks,
    PartitionReader,
    decode_position,
    encode_position,
    marks_of,
)
from gateway.publisher.steps import MAKE_SECONDS, Broadcasting, VOEventWriter

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GW = topics.candidates("gw")
GRB = topics.candidates("grb")


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


@pytest.fixture
def kafka() -> FakeKafka:
    kafka = FakeKafka()
    for name in ("C1", "C2", "C3"):
        kafka.add(GW, encode_candidate(statement(name)))
    return kafka


def test_each_statement_becomes_one_voevent_over_restarts(kafka: FakeKafka) -> None:
    work(writer(kafka))
    kafka.add(GRB, encode_candidate(statement("C4")))
    work(writer(kafka))
    work(writer(kafka))
    assert [name.rpartition("#")[2] for name in ivoids(kafka)] == [
        f"C{n}%2FE1%2F1" for n in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("survived", [0, 1])
def test_kill_before_a_commit_neither_loses_nor_repeats(kafka: FakeKafka, survived: int) -> None:
    left = [survived]

    def kill() -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with pytest.raises(Killed):
        work(writer(kafka, FakeProducer(kafka, kill)))
    assert len(ivoids(kafka)) == 2 * survived
    work(writer(kafka))
    assert len(ivoids(kafka)) == len(set(ivoids(kafka))) == 3


def test_position_is_part_of_the_transaction(kafka: FakeKafka) -> None:
    work(writer(kafka))
    last = [r.value for r in kafka.records(topics.MARKER) if r.key == PUBLISH_KEY][-1]
    assert decode_position(last) == {(GW, 0): 3}


def test_failed_commit_ends_the_step_with_a_reason(kafka: FakeKafka) -> None:
    producer = FakeProducer(kafka)
    error = SimpleNamespace(str=lambda: "fenced")
    producer.failure = KafkaException(error)
    step = writer(kafka, producer)
    step.run()
    assert isinstance(step.failure, ServiceError)
    assert "fenced" in str(step.failure)
    assert step._over.is_set()


def test_statement_that_cannot_be_told_is_a_dead_letter(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.add(GW, b"no statement")
    kafka.add(GW, encode_candidate(statement("C5", tier="platinum")))
    kafka.add(GW, encode_candidate(statement("C6")))
    work(writer(kafka))
    letters = [decode(r.value) for r in kafka.records(topics.DEAD_LETTER)]
    assert [(x["source"], x["offset"]) for x in letters] == [("publish", 3), ("publish", 4)]
    assert letters[1]["reason"] == "voevent_failed"
    assert letters[0]["raw"] == b"no statement"
    assert len(ivoids(kafka)) == 4


def test_who_heard_of_a_candidate_hears_of_its_fall_after_a_restart(kafka: FakeKafka) -> None:
    work(writer(kafka))
    # The VOEvents themselves need not be there any more.
    del kafka.topics[topics.VOEVENTS]
    fallen = {"candidate_id": "C1/E1/2", "tier": "bronze", "supersedes": "C1/E1/1"}
    kafka.add(GW, encode_candidate(statement("C1", **fallen, alert_type="update")))
    kafka.add(GW, encode_candidate(statement("C9", tier="bronze")))
    work(writer(kafka))
    assert by_vtp(kafka) == [b"yes", b"no"]


def test_pair_is_kept_once() -> None:
    packets = Packets(settings())
    assert packets.make(statement()).first
    again = packets.make(statement())
    assert (again.by_vtp, again.first) == (True, False)


def test_nobody_heard_of_what_could_not_be_built() -> None:
    packets = Packets(settings())
    with pytest.raises(NoticeError):
        packets.make(statement(ra=None))
    assert not packets.make(statement(tier="bronze")).by_vtp


@pytest.mark.parametrize(
    ("tier", "state", "min_tier", "told"),
    [
        ("gold", "in_force", "gold", True),
        ("silver", "in_force", "gold", False),
        ("silver", "in_force", "silver", True),
        ("gold", "withdrawn", "gold", False),
    ],
)
def test_tier_decides_on_vtp(tier: str, state: str, min_tier: str, told: bool) -> None:
    packets = Packets(settings(min_tier=min_tier))
    assert packets.make(statement(tier=tier, state=state)).by_vtp == told


def test_configured_site_is_told() -> None:
    packets = Packets(settings(observatory={"ztf": "La Silla"}))
    assert b'ObservatoryLocation id="La Silla"' in packets.make(statement()).xml


# --- VOEvents that take long to make


class SlowPackets(Packets):
    """Takes seconds for each VOEvent, and says when it was at work."""

    def __init__(self, clock: list[float], seconds: float, done: list[str]) -> None:
        super().__init__(settings())
        self._clock, self._seconds, self._done = clock, seconds, done

    def make(self, *arguments: Any, **named: Any) -> Packet:
        self._clock[0] += self._seconds
        self._done.append("make")
        return super().make(*arguments, **named)


class NotingProducer(FakeProducer):
    def __init__(self, kafka: FakeKafka, done: list[str]) -> None:
        super().__init__(kafka, lambda: done.append("commit"))
        self._done = done

    def begin_transaction(self) -> None:
        self._done.append("begin")
        super().begin_transaction()


def slow(kafka: FakeKafka, seconds: float, done: list[str]) -> VOEventWriter:
    clock = [0.0]
    return VOEventWriter(
        NotingProducer(kafka, done),
        PartitionReader(FakeConsumer(kafka), [GW, topics.RETRY], {}),
        SlowPackets(clock, seconds, done),
        threading.Event(),
        lambda: NOW,
        clock=lambda: clock[0],
    )


def test_nothing_is_made_while_a_transaction_is_open(kafka: FakeKafka) -> None:
    done: list[str] = []
    step = slow(kafka, MAKE_SECONDS / 100, done)
    step.work(step._reader.read(10))
    assert done == ["make", "make", "make", "begin", "commit"]


def test_what_takes_long_goes_out_in_several_transactions(kafka: FakeKafka) -> None:
    done: list[str] = []
    step = slow(kafka, 0.6 * MAKE_SECONDS, done)
    step.work(step._reader.read(10))
    assert done == ["make", "make", "begin", "commit", "make", "begin", "commit"]
    assert len(ivoids(kafka)) == 3
    positions = [decode_position(r.value) for r in kafka.records(topics.MARKER)
                 if r.key == PUBLISH_KEY]  # fmt: skip
    assert positions == [{(GW, 0): 2}, {(GW, 0): 3}]
    counts = [json.loads(r.value)["counts"] for r in kafka.records(topics.LEDGER)]
    assert counts == [{"received": 2, "made": 2}, {"received": 1, "made": 1}]


def test_a_kill_between_the_transactions_of_one_reading_neither_loses_nor_repeats(
    kafka: FakeKafka,
) -> None:
    step = slow(kafka, 2 * MAKE_SECONDS, [])
    producer = step._producer
    commits = [True, False]

    def kill() -> None:
        if not commits.pop(0):
            raise Killed

    producer._before_commit = kill
    with pytest.raises(Killed):
        step.work(step._reader.read(10))
    assert len(ivoids(kafka)) == 1
    work(writer(kafka))
    assert len(ivoids(kafka)) == len(set(ivoids(kafka))) == 3


def test_whoever_stops_waits_for_one_transaction_only(kafka: FakeKafka) -> None:
    step = slow(kafka, 2 * MAKE_SECONDS, [])
    step._producer._before_commit = step._over.set
    step.work(step._reader.read(10))
    assert len(ivoids(kafka)) == 1
    work(writer(kafka))
    assert len(set(ivoids(kafka))) == 3


# --- Private streams

OURS = "mm.private.ourteam.candidates.gw"
OUR_VOEVENTS = "mm.private.ourteam.voevents"


def private(name: str = "C1", **changed: Any) -> dict[str, Any]:
    return statement(name, **{"stream": OURS, "streams": ["ourteam"], **changed})


def test_private_statement_becomes_a_voevent_on_the_topic_of_its_stream_alone() -> None:
    kafka = FakeKafka()
    kafka.add(OURS, encode_candidate(private(reason="secret")))
    work(writer(kafka))
    assert kafka.records(topics.VOEVENTS) == []
    (told,) = kafka.records(OUR_VOEVENTS)
    assert b"secret" in told.value
    ivoid = dict(told.headers)["ivoid"].decode()
    assert ivoid == "ivo://org.mmgateway/private/ourteam/candidates#C1%2FE1%2F1"


def test_every_stream_gets_one_copy_over_restarts() -> None:
    kafka = FakeKafka()
    for stream in ("a", "b"):
        copy = private(stream=f"mm.private.{stream}.candidates.gw", streams=["a", "b"])
        kafka.add(copy["stream"], encode_candidate(copy))
        work(writer(kafka))
    work(writer(kafka))
    told = [kafka.records(f"mm.private.{s}.voevents") for s in ("a", "b")]
    assert [len(records) for records in told] == [1, 1]
    ivoids_ = {dict(records[0].headers)["ivoid"] for records in told}
    assert len(ivoids_) == 2


def test_who_heard_is_known_for_each_stream() -> None:
    """A public robot that heard of a pair is not told of a private fall, nor the reverse."""
    kafka = FakeKafka()
    kafka.add(GW, encode_candidate(statement("C1")))
    kafka.add(OURS, encode_candidate(private("C1", tier="bronze")))
    work(writer(kafka))
    kafka.add(OURS, encode_candidate(private("C2")))
    kafka.add(GW, encode_candidate(statement("C2", tier="bronze")))
    kafka.add(OURS, encode_candidate(private("C2", tier="bronze", candidate_id="C2/E1/2")))
    work(writer(kafka))
    assert by_vtp(kafka) == [b"yes", b"no"]
    marks = [dict(r.headers)["vtp"] for r in kafka.records(OUR_VOEVENTS)]
    assert marks == [b"no", b"yes", b"yes"]


@pytest.mark.parametrize(
    ("topic", "streams"), [(GW, ["ourteam"]), (OURS, []), (OURS, ["otherteam"])]
)
def test_statement_on_a_topic_of_others_is_told_nobody(topic: str, streams: list[str]) -> None:
    kafka = FakeKafka()
    kafka.add(topic, encode_candidate(statement(streams=streams)))
    work(writer(kafka))
    assert kafka.records(topics.VOEVENTS) == kafka.records(OUR_VOEVENTS) == []
    (letter,) = [decode(r.value) for r in kafka.records(topics.DEAD_LETTER)]
    assert letter["reason"] == "wrong_stream"


def test_dead_letter_of_a_private_statement_goes_to_its_stream_too() -> None:
    kafka = FakeKafka()
    kafka.add(OURS, b"no statement")
    work(writer(kafka))
    for topic in (topics.DEAD_LETTER, "mm.private.ourteam.deadletter"):
        (letter,) = [decode(r.value) for r in kafka.records(topic)]
        assert (letter["raw"], letter["streams"]) == (b"no statement", ["ourteam"])


def test_topics_of_a_new_stream_are_made_before_the_transaction() -> None:
    kafka = FakeKafka()
    kafka.add(OURS, encode_candidate(private()))
    made: list[str] = []
    step = writer(kafka)
    step._make_topics = made.append
    work(step)
    kafka.add(OURS, encode_candidate(private("C2")))
    work(step)
    assert made == ["ourteam"]


def test_stream_that_comes_later_is_read_from_its_start() -> None:
    kafka = FakeKafka()
    kafka.add(GW, b"public")
    now = [0.0]
    reader = PartitionReader(FakeConsumer(kafka), [GW], {}, lambda: now[0])
    assert [r.topic for r in reader.read(10)] == [GW]
    kafka.add(OURS, b"ours")
    kafka.add("mm.private.ourteam.regions", b"no candidate")
    now[0] = LOOK_SECONDS
    assert [(r.topic, r.value) for r in reader.read(10)] == [(OURS, b"ours")]
    assert reader.position == {(GW, 0): 1, (OURS, 0): 1}


def test_private_voevent_is_sent_to_its_stream_and_public_ones_to_everybody(
    told: FakeKafka,
) -> None:
    told.add(OUR_VOEVENTS, b"secret", headers=[("vtp", b"yes")])
    told.add(OUR_VOEVENTS, b"hidden", headers=[("vtp", b"no")])
    broadcast = Broadcast(told)
    broadcast.work()
    pairs = sorted(zip(broadcast.streams, broadcast.sent, strict=True))
    assert pairs == [("", b"one"), ("", b"three"), ("ourteam", b"secret")]
    last = Broadcast(told)
    last.work()
    assert last.sent == []


# --- VTP


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


@pytest.fixture
def told() -> FakeKafka:
    kafka = FakeKafka()
    for value, mark in ((b"one", b"yes"), (b"two", b"no"), (b"three", b"yes"), (b"four", b"no")):
        kafka.add(topics.VOEVENTS, value, headers=[("vtp", mark)])
    return kafka


def test_position_is_kept_after_each_broadcast(told: FakeKafka) -> None:
    broadcast = Broadcast(told)
    broadcast.work()
    at = topics.VOEVENTS
    assert broadcast.done == [
        ("sent", b"one"),
        ("kept", {(at, 0): 1}),
        ("sent", b"three"),
        ("kept", {(at, 0): 3}),
        ("kept", {(at, 0): 4}),
    ]


def test_broadcast_goes_on_where_it_stopped(told: FakeKafka) -> None:
    with pytest.raises(Killed):
        Broadcast(told, fail_after=1).work()
    again = Broadcast(told)
    again.work()
    assert again.sent == [b"three"]
    last = Broadcast(told)
    last.work()
    assert last.sent == []


def test_what_is_no_voevent_does_not_stop_the_broadcast(told: FakeKafka) -> None:
    told.add(topics.VOEVENTS, b"poison", headers=[("vtp", b"yes")])
    told.add(topics.VOEVENTS, b"five", headers=[("vtp", b"yes")])
    broadcast = Broadcast(told)
    broadcast.work()
    assert broadcast.sent == [b"one", b"three", b"five"]


def test_unexpected_fault_ends_the_service_and_is_kept(told: FakeKafka) -> None:
    broadcast = Broadcast(told)

    def fail(stream: str, xml: bytes) -> None:
        raise ZeroDivisionError("ours")

    broadcast.step._send = fail
    broadcast.step.run()
    assert isinstance(broadcast.step.failure, ZeroDivisionError)
    assert broadcast.step._over.is_set()
    assert broadcast.step._reader._consumer.closed


# --- Positions


def test_positions_read_back_as_they_were() -> None:
    position: Mapping[tuple[str, int], int] = {("a", 0): 3, ("a", 11): 5, ("b.c", 2): 0}
    assert decode_position(encode_position(position)) == position


def test_nothing_said_yet() -> None:
    assert marks_of([]) == Marks({}, {}, frozenset())


def test_topic_that_comes_later_is_read_from_its_start(kafka: FakeKafka) -> None:
    now = [0.0]
    reader = PartitionReader(FakeConsumer(kafka), [GW, GRB], {(GW, 0): 2}, lambda: now[0])
    assert [(r.topic, r.offset) for r in reader.read(10)] == [(GW, 2)]
    kafka.add(GRB, b"first")
    assert reader.read(10) == []
    now[0] = LOOK_SECONDS
    assert [(r.topic, r.offset) for r in reader.read(10)] == [(GRB, 0)]
    assert reader.position == {(GW, 0): 3, (GRB, 0): 1}


def test_kafka_that_is_away_when_partitions_are_looked_for_is_waited_for(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    consumer = FakeConsumer(kafka)
    reader = PartitionReader(consumer, [GW], {}, lambda: now[0])

    def away(timeout: float) -> None:
        raise KafkaException(SimpleNamespace(str=lambda: "no answer"))

    monkeypatch.setattr(consumer, "list_topics", away)
    now[0] = LOOK_SECONDS
    assert len(reader.read(10)) == 3
    with pytest.raises(ServiceError, match="no answer"):
        PartitionReader(consumer, [GW], {})
