"""The publisher's second step, VTP, and the positions that both steps keep."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaException

from broker import topics
from crossmatch.errors import ServiceError
from gateway.publisher.positions import (
    LOOK_SECONDS,
    Marks,
    PartitionReader,
    decode_position,
    encode_position,
    marks_of,
)
from tests.gateway.publishing import (
    GRB,
    GW,
    Broadcast,
    FakeConsumer,
    FakeKafka,
    Killed,
    kafka_with_statements,
    kafka_with_voevents,
)


@pytest.fixture
def kafka() -> FakeKafka:
    return kafka_with_statements()


@pytest.fixture
def told() -> FakeKafka:
    return kafka_with_voevents()


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
