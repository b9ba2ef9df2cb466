"""Statements of private streams: told to their stream, and to nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from broker import topics
from broker.codec import decode, encode_candidate
from gateway.publisher.positions import LOOK_SECONDS, PartitionReader
from tests.gateway.publishing import (
    GW,
    OUR_VOEVENTS,
    OURS,
    Broadcast,
    FakeConsumer,
    FakeKafka,
    by_vtp,
    kafka_with_voevents,
    statement,
    work,
    writer,
)


@pytest.fixture
def told() -> FakeKafka:
    return kafka_with_voevents()


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
