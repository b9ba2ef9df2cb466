"""The writer's transactions: one at a time, all or nothing, and everything comes back at start."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from broker import kafka_io, topics
from broker.codec import decode
from broker.embedded.kafka import EmbeddedKafka
from broker.engine import Outcome
from broker.groups import Group, GroupKey
from broker.owed import OwedSearch
from broker.writer import Marker, State, Writer
from crossmatch.columns import ALERT_SCHEMA, CANDIDATE_FIELDS
from crossmatch.counterpart import MatchedAlert
from crossmatch.errors import ServiceError
from crossmatch.lightcurve import Detection
from gateway import services

KEY = GroupKey("Fermi_1", "ztf", "ZTF26aaaaaaa")


_numbers = itertools.count(1)


@pytest.fixture
def own_kafka(kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> EmbeddedKafka:
    """Our topics, those that the writer reads again under names that no other test has.

    To delete them and make them anew would take Kafka a moment that no answer tells.
    """
    number = next(_numbers)
    for name in ("MARKER", "STATE", "LEDGER", "DEAD_LETTER"):
        monkeypatch.setattr(topics, name, f"{getattr(topics, name)}.{number}")
    services.ensure_topics(kafka.bootstrap, {})
    return kafka


def outcome(number: int, group: Group | None = None, **changed: Any) -> Outcome:
    fields: dict[str, Any] = {
        "kind": "alerts",
        "step": number,
        "batch_id": number,
        "moment": "2026-01-01T00:00:00.000000Z",
        "statements": [],
        "groups": {} if group is None else {KEY: group},
        "searches": {},
        "ledger": {"received": 3, "unmatched": 3},
        "parts": [],
    }
    return Outcome(**(fields | changed))


def marker(number: int) -> Marker:
    totals = {"received": 3 * (number + 1)}
    return Marker(number, "query", regions_next=7, totals=totals, step=number, selection="s")


def group_of(alerts: int, history: int) -> Group:
    """An object seen in ``alerts`` matched alerts, each with a light curve."""
    rng = random.Random(1)
    blank: dict[str, Any] = dict.fromkeys(ALERT_SCHEMA.names)
    points = tuple(
        Detection(2461040 + rng.random(), "r", 18 + rng.random(), rng.random(), 20.5, True)
        for _ in range(history)
    )
    matched = {
        i: MatchedAlert(blank | {"alert_id": i}, rng.random(), rng.random(), 1.0, points, "0" * 64)
        for i in range(alerts)
    }
    return Group(alerts=matched)


def test_the_marker_and_the_groups_come_back(own_kafka: EmbeddedKafka):
    first = Writer(own_kafka.bootstrap, {})
    assert first.start() is None
    group = group_of(2, 3)
    first.publish(outcome(0, Group()), marker(0))
    first.publish(outcome(1, group), marker(1), [b"letter"])

    second = Writer(own_kafka.bootstrap, {})

    assert second.start() == marker(1)
    assert second.state() == State({KEY: group}, [])
    entries = [
        json.loads(m.value) for m in kafka_io.read_all(own_kafka.bootstrap, {}, topics.LEDGER)
    ]
    assert [e["step"] for e in entries] == [0, 1]
    letters = kafka_io.read_all(own_kafka.bootstrap, {}, topics.DEAD_LETTER)
    assert [m.value for m in letters] == [b"letter"]


def test_searches_are_owed_after_a_restart_until_they_are_done_and_groups_until_they_go(
    own_kafka: EmbeddedKafka,
):
    writer = Writer(own_kafka.bootstrap, {})
    writer.start()
    owed = OwedSearch("Fermi_1", (False, ("ours",)), 3, 2461040.0, 2461060.5, "2026-01-02", 4)
    other = OwedSearch("Fermi_2", (True, ()), 3, 2461040.0, 2461060.5)
    writer.publish(outcome(0, Group(), searches={owed.key: owed, other.key: other}), marker(0))
    assert writer.state() == State({KEY: Group()}, [owed, other])

    writer.publish(outcome(1, groups={KEY: None}, searches={other.key: None}), marker(1))

    assert writer.state() == State({}, [owed])


def test_the_entry_of_a_step_tells_what_one_needs_to_do_it_again(own_kafka: EmbeddedKafka):
    writer = Writer(own_kafka.bootstrap, {})
    writer.start()
    before = Marker(4, "query", regions_next=7, verdicts_next=2, step=8)
    after = Marker(5, "query", regions_next=9, verdicts_next=2, step=9, selection="cuts")

    writer.publish(outcome(9, batch_id=5), after, before=before)

    (message,) = kafka_io.read_all(own_kafka.bootstrap, {}, topics.LEDGER)
    entry = json.loads(message.value)
    assert (entry["kind"], entry["step"], entry["batch_id"]) == ("alerts", 9, 5)
    assert entry["regions"] == [7, 9]
    assert entry["verdicts"] == [2, 2]
    assert entry["selection"] == "cuts"


def test_a_second_writer_of_the_same_name_fences_the_first(own_kafka: EmbeddedKafka):
    first = Writer(own_kafka.bootstrap, {})
    first.start()
    first.publish(outcome(0), marker(0))
    second = Writer(own_kafka.bootstrap, {})
    assert second.start() == marker(0)

    with pytest.raises(ServiceError, match="step 1 was not published"):
        first.publish(outcome(1), marker(99))

    second.publish(outcome(1), marker(1))
    assert Writer(own_kafka.bootstrap, {}).start() == marker(1)


def test_the_marker_of_another_service_is_not_ours(own_kafka: EmbeddedKafka):
    producer = kafka_io.producer(own_kafka.bootstrap, {})
    kafka_io.send(producer, topics.MARKER, b'{"next_notice": 5}', b"listen")
    assert producer.flush(30) == 0

    assert Writer(own_kafka.bootstrap, {}).start() is None


def test_a_batch_with_a_value_that_json_does_not_know_says_nothing(own_kafka: EmbeddedKafka):
    writer = Writer(own_kafka.bootstrap, {})
    writer.start()
    group = Group(last={"score": float("nan")})

    with pytest.raises(ValueError, match="JSON"):
        writer.publish(outcome(0, group), marker(0))

    assert Writer(own_kafka.bootstrap, {}).start() is None


def statement(streams: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True, "strings": ["a"],
    }  # fmt: skip
    columns = {field.name: values[field.kind] for field in CANDIDATE_FIELDS}
    known = {"messenger": "grb", "role": "observation", "streams": streams}
    return columns | known | {"reason": "secret" if streams else "open"}


def test_a_private_statement_is_told_to_each_of_its_streams_and_to_nobody_else(
    own_kafka: EmbeddedKafka,
):
    made: list[str] = []

    def make(stream: str) -> None:
        services.ensure_topics(own_kafka.bootstrap, {}, streams=[stream])
        made.append(stream)

    writer = Writer(own_kafka.bootstrap, {}, make_topics=make)
    writer.start()
    for batch_id in (0, 1):
        said = [statement(["a", "b"]), statement([])]
        writer.publish(outcome(batch_id, statements=said), marker(batch_id))

    def reasons(topic: str) -> list[tuple[str, str]]:
        found = kafka_io.read_all(own_kafka.bootstrap, {}, topic)
        return [(s["reason"], s["stream"]) for s in (decode(m.value) for m in found)]

    public = topics.candidates("grb")
    assert reasons(public) == [("open", public)] * 2
    for name in topics.seen_by(public, ["a", "b"]):
        assert reasons(name) == [("secret", name)] * 2
    assert made == ["a", "b"]


def test_an_object_that_was_seen_very_often_can_still_be_published(own_kafka: EmbeddedKafka):
    """A week in a deep field of Rubin: every alert repeats a year of detections and limits."""
    writer = Writer(own_kafka.bootstrap, {})
    writer.start()
    group = group_of(alerts=50, history=1600)

    writer.publish(outcome(0, group), marker(0))

    assert writer.state().groups == {KEY: group}
