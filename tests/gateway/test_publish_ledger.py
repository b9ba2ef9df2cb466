"""The publisher's entries in the ledger, and statements that are sent again."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from broker import topics
from broker.codec import decode, encode_candidate
from broker.ledger import voevent_hole
from gateway.publisher.outgoing import Packets
from gateway.publisher.positions import PartitionReader, marks_of
from gateway.publisher.steps import RETRY_KEY, RETRY_TOPIC, VOEventWriter
from tests.gateway.publishing import (
    GW,
    NOW,
    FakeConsumer,
    FakeKafka,
    FakeProducer,
    Killed,
    ivoids,
    settings,
    statement,
    work,
)

OURS = "mm.private.ourteam.candidates.gw"


def writer(kafka: FakeKafka, producer: FakeProducer | None = None) -> VOEventWriter:
    """A publisher that has just been started."""
    marks = marks_of(kafka.records(topics.MARKER))
    return VOEventWriter(
        producer or FakeProducer(kafka),
        PartitionReader(FakeConsumer(kafka), [GW, topics.RETRY], marks.publish),
        Packets(settings(), marks.heard),
        threading.Event(),
        lambda: NOW,
        made=marks.made,
    )


def entries(kafka: FakeKafka) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in kafka.records(topics.LEDGER)]


def letters(kafka: FakeKafka) -> list[dict[str, Any]]:
    return [decode(r.value) for r in kafka.records(topics.DEAD_LETTER)]


def retried(kafka: FakeKafka, value: bytes, origin: str = GW) -> None:
    kafka.add(topics.RETRY, value, RETRY_KEY, [(RETRY_TOPIC, origin.encode())])


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


def test_each_transaction_has_an_entry(kafka: FakeKafka) -> None:
    kafka.add(GW, encode_candidate(statement("C1")))
    kafka.add(GW, b"no statement")
    work(writer(kafka))
    (entry,) = entries(kafka)
    assert entry == {
        "kind": "voevents",
        "moment": "2026-01-02T00:00:00.000000Z",
        "counts": {"received": 2, "made": 1, "rejected": 1},
        "next": {GW: {"0": 2}},
    }
    assert voevent_hole(entry["counts"]) == 0


def test_what_a_kill_undid_is_not_counted(kafka: FakeKafka) -> None:
    kafka.add(GW, encode_candidate(statement("C1")))

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        work(writer(kafka, FakeProducer(kafka, kill)))
    work(writer(kafka))
    assert [entry["counts"] for entry in entries(kafka)] == [{"received": 1, "made": 1}]


def test_retried_statement_gives_its_voevent(kafka: FakeKafka) -> None:
    retried(kafka, encode_candidate(statement("C1")))
    work(writer(kafka))
    assert [name.rpartition("#")[2] for name in ivoids(kafka)] == ["C1%2FE1%2F1"]
    assert entries(kafka)[0]["counts"] == {"received": 1, "made": 1}


def test_voevent_is_made_once_however_often_it_is_asked_for(kafka: FakeKafka) -> None:
    for _ in range(2):
        retried(kafka, encode_candidate(statement("C1")))
    work(writer(kafka))
    retried(kafka, encode_candidate(statement("C1")))
    work(writer(kafka))
    assert len(ivoids(kafka)) == 1
    assert [letter["reason"] for letter in letters(kafka)] == ["already_made"] * 2
    assert sum(entry["counts"]["received"] for entry in entries(kafka)) == 3


def test_what_fails_again_is_another_letter(kafka: FakeKafka) -> None:
    retried(kafka, b"no statement")
    work(writer(kafka))
    (letter,) = letters(kafka)
    assert (letter["source"], letter["topic"], letter["raw"]) == ("publish", GW, b"no statement")


def test_private_statement_stays_private(kafka: FakeKafka) -> None:
    private = encode_candidate(statement("C1", streams=["ourteam"]))
    retried(kafka, private, OURS)
    work(writer(kafka))
    assert ivoids(kafka) == []
    assert len(kafka.records("mm.private.ourteam.voevents")) == 1


@pytest.mark.parametrize("origin", ["", "mm.private.ourteam.regions", "alerts.ztf"])
def test_statement_of_unknown_origin_is_told_nobody(kafka: FakeKafka, origin: str) -> None:
    retried(kafka, encode_candidate(statement("C1")), origin)
    work(writer(kafka))
    assert ivoids(kafka) == []
    assert [letter["reason"] for letter in letters(kafka)] == ["no_topic"]


def test_retried_notices_are_not_the_publishers(kafka: FakeKafka) -> None:
    kafka.add(topics.RETRY, b"<x/>", b"notice")
    work(writer(kafka))
    assert (entries(kafka), letters(kafka)) == ([], [])
