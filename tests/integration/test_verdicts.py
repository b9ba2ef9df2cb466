"""Verdicts and statements over a real Kafka."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broker import kafka_io, topics
from broker.codec import encode_candidate
from broker.embedded.kafka import EmbeddedKafka
from crossmatch.errors import ServiceError
from gateway.offline import verdicts
from gateway.offline.counterparts import grouped
from gateway.offline.statements import from_topics
from gateway.topicspecs import ensure_topics
from tests.gateway.candidatefiles import statement

NOW = datetime(2017, 8, 19, tzinfo=UTC)


def test_what_is_sent_is_read_and_rubbish_is_counted(kafka: EmbeddedKafka):
    given = [
        verdicts.new_verdict("MM-ZTF-ZTF17aabcdef", word, now=NOW + timedelta(seconds=i))
        for i, word in enumerate(("supernova", "unclear"))
    ]
    before = verdicts.read(kafka.bootstrap, {})
    verdicts.send(kafka.bootstrap, {}, given)
    verdicts.send(kafka.bootstrap, {}, given[:1])
    producer = kafka_io.producer(kafka.bootstrap, {})
    kafka_io.send(producer, topics.VERDICTS, b"rubbish")
    producer.flush(20)
    after = verdicts.read(kafka.bootstrap, {})
    assert after.verdicts == (*before.verdicts, *given)
    assert after.unreadable == before.unreadable + 1


def test_statements_are_read_from_public_topics_and_private_ones_when_asked_for(
    kafka: EmbeddedKafka,
):
    ensure_topics(kafka.bootstrap, {}, (), ["verdictteam"])
    private = {"event_id": "verdictteam:Own_1", "streams": ["verdictteam"], "messenger": "grb"}
    said = [statement("ZTF18verdict"), statement("ZTF18verdict", **private)]
    producer = kafka_io.producer(kafka.bootstrap, {})
    kafka_io.send(producer, "mm.candidates.gw", encode_candidate(said[0]))
    kafka_io.send(producer, "mm.private.verdictteam.candidates.grb", encode_candidate(said[1]))
    producer.flush(20)

    def events(*, private: bool) -> list[str]:
        found = grouped(from_topics(kafka.bootstrap, {}, private=private))
        (one,) = (c for c in found if c.newest["id"] == "ZTF18verdict")
        return sorted(t.event_id for t in one.tracks)

    assert events(private=False) == ["GW170817"]
    assert events(private=True) == ["GW170817", "verdictteam:Own_1"]


def test_without_kafka_it_is_said_what_to_do():
    with pytest.raises(ServiceError, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        from_topics("127.0.0.1:1", {})
