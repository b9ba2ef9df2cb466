"""The publisher's first step: each statement becomes one VOEvent, whatever is killed when."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from broker import topics
from broker.codec import decode, encode_candidate
from crossmatch.errors import NoticeError, ServiceError
from gateway.publisher.outgoing import Packet, Packets
from gateway.publisher.positions import PUBLISH_KEY, PartitionReader, decode_position
from gateway.publisher.steps import MAKE_SECONDS, VOEventWriter
from tests.gateway.publishing import (
    GRB,
    GW,
    NOW,
    FakeConsumer,
    FakeKafka,
    FakeProducer,
    Killed,
    by_vtp,
    ivoids,
    kafka_with_statements,
    settings,
    statement,
    work,
    writer,
)


@pytest.fixture
def kafka() -> FakeKafka:
    return kafka_with_statements()


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
