"""Reading and writing with a real Kafka: what is there, what was aborted, what is gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from broker import kafka_io
from broker.embedded.kafka import EmbeddedKafka
from broker.kafka_io import PacketReader, TopicSpec
from crossmatch.errors import ServiceError

NewTopic = Callable[..., str]


@pytest.fixture
def reader(kafka: EmbeddedKafka) -> Iterator[PacketReader]:
    client = PacketReader(kafka.bootstrap, {})
    yield client
    client.close()


def fill(kafka: EmbeddedKafka, topic: str, partition: int, values: list[bytes]) -> None:
    producer: Any = kafka_io.producer(kafka.bootstrap, {})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0


def transaction(kafka: EmbeddedKafka, topic: str, values: list[bytes], commit: bool) -> None:
    producer = kafka_io.producer(kafka.bootstrap, {}, transactional_id=f"test-{topic}")
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.flush(30)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def delete_before(kafka: EmbeddedKafka, topic: str, partition: int, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    answers: dict[Any, Future[Any]] = admin.delete_records(
        [TopicPartition(topic, partition, offset)]
    )
    for answer in answers.values():
        answer.result(30)


def test_packets_come_from_all_their_topics_and_partitions(
    kafka: EmbeddedKafka, topic: NewTopic, reader: PacketReader
):
    one, two = topic(), topic(partitions=2)
    values = {
        (t, p): [f"{t} {p} {i}".encode() for i in range(500)] for t in (one, two) for p in (0,)
    }
    values[(two, 1)] = [b"only"]
    for (name, partition), some in values.items():
        fill(kafka, name, partition, some)
    # Near each other, far apart, twice, and not in order.
    wanted = [(two, 1, 0), (one, 0, 499), (one, 0, 3), (two, 0, 4), (one, 0, 3), (one, 0, 9)]

    found = reader.fetch(wanted)

    assert found == {(t, p, i): values[(t, p)][i] for t, p, i in wanted}
    assert reader.fetch([(one, 0, 2)]) == {(one, 0, 2): values[(one, 0)][2]}
    assert reader.fetch([]) == {}


def test_packets_that_are_gone_or_never_were_are_left_out(
    kafka: EmbeddedKafka, topic: NewTopic, reader: PacketReader
):
    name = topic()
    fill(kafka, name, 0, [b"%d" % i for i in range(100)])
    delete_before(kafka, name, 0, 50)

    found = reader.fetch([(name, 0, i) for i in (0, 10, 49, 50, 60, 99, 100, 5000)])

    assert found == {(name, 0, i): b"%d" % i for i in (50, 60, 99)}


def test_many_packets_that_are_gone_do_not_hold_the_service_up(
    kafka: EmbeddedKafka, topic: NewTopic, reader: PacketReader
):
    """The archive reaches back for months, Kafka for a week: a late region meets mostly these."""
    name = topic()
    fill(kafka, name, 0, [b"x"] * 20_000)
    delete_before(kafka, name, 0, 19_990)

    begin = time.monotonic()

    assert reader.fetch([(name, 0, i) for i in range(0, 19_990, 400)]) == {}
    assert time.monotonic() - begin < 2


def test_packets_behind_the_end_of_a_topic_that_was_made_anew_are_gone(
    kafka: EmbeddedKafka, topic: NewTopic, reader: PacketReader
):
    """Kafka begins anew at its first message then; this must not go on for ever."""
    name = topic()
    fill(kafka, name, 0, [b"%d" % i for i in range(300)])

    found = reader.fetch([(name, 0, i) for i in (7, 290, 5000, 6000, 9000)])

    assert found == {(name, 0, 7): b"7", (name, 0, 290): b"290"}
    assert reader.fetch([(name, 0, i) for i in (5000, 9000)]) == {}
    assert reader.fetch([(name, 0, 5)]) == {(name, 0, 5): b"5"}


def test_packets_between_aborted_ones_are_found(
    kafka: EmbeddedKafka, topic: NewTopic, reader: PacketReader
):
    name = topic()
    transaction(kafka, name, [b"a", b"b"], commit=False)
    transaction(kafka, name, [b"c"], commit=True)
    fill(kafka, name, 0, [b"d"])

    found = reader.fetch([(name, 0, i) for i in range(7)])

    assert sorted(found.values()) == [b"c", b"d"]


def test_a_kafka_that_is_away_is_not_taken_for_packets_that_are_gone():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reader = PacketReader(f"127.0.0.1:{taken.getsockname()[1]}", {}, timeout=0.5)
        try:
            with pytest.raises(ServiceError):
                reader.fetch([("alerts.ztf", 0, 0)])
        finally:
            reader.close()


def test_all_committed_messages_are_read_and_no_aborted_ones(kafka: EmbeddedKafka, topic: NewTopic):
    name = topic()
    transaction(kafka, name, [b"a"], commit=True)
    transaction(kafka, name, [b"no"] * 5, commit=False)
    transaction(kafka, name, [b"b"], commit=True)
    transaction(kafka, name, [b"no"], commit=False)

    messages = list(kafka_io.read_all(kafka.bootstrap, {}, name))

    assert [m.value for m in messages] == [b"a", b"b"]
    assert [m.value for m in kafka_io.read_all(kafka.bootstrap, {}, name, start=1)] == [b"b"]
    end = messages[1].offset
    assert [m.value for m in kafka_io.read_all(kafka.bootstrap, {}, name, end=end)] == [b"a"]


def test_an_empty_topic_and_one_with_aborted_messages_only_give_nothing(
    kafka: EmbeddedKafka, topic: NewTopic
):
    empty, aborted = topic(), topic()
    transaction(kafka, aborted, [b"no"], commit=False)

    assert list(kafka_io.read_all(kafka.bootstrap, {}, empty)) == []
    assert list(kafka_io.read_all(kafka.bootstrap, {}, aborted)) == []


def test_what_an_open_transaction_hides_is_waited_for(kafka: EmbeddedKafka, topic: NewTopic):
    name = topic()
    fill(kafka, name, 0, [b"a"])
    producer = kafka_io.producer(kafka.bootstrap, {}, transactional_id=f"open-{name}")
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"b")
    producer.flush(30)
    fill(kafka, name, 0, [b"c"])

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: list(kafka_io.read_all(kafka.bootstrap, {}, name)))
        producer.commit_transaction(30)
        found = reading.result(60)

    assert [m.value for m in found] == [b"a", b"b", b"c"]


def test_a_topic_that_does_not_exist_is_said_in_words(kafka: EmbeddedKafka):
    with pytest.raises(ServiceError, match=r"no\.such\.topic"):
        list(kafka_io.read_all(kafka.bootstrap, {}, "no.such.topic"))


def test_topics_are_made_once(kafka: EmbeddedKafka, topic: NewTopic):
    there = topic()
    specs = [TopicSpec(there), TopicSpec(f"{there}.new", 3, {"cleanup.policy": "compact"})]

    assert kafka_io.ensure_topics(kafka.bootstrap, {}, specs) == [f"{there}.new"]
    assert kafka_io.ensure_topics(kafka.bootstrap, {}, specs) == []
    assert list(kafka_io.read_all(kafka.bootstrap, {}, f"{there}.new")) == []


def test_headers_and_keys_travel_with_a_message(kafka: EmbeddedKafka, topic: NewTopic):
    name = topic()
    producer = kafka_io.producer(kafka.bootstrap, {})
    kafka_io.send(producer, name, b"value", b"key", [("event_id", b"E1")])
    assert producer.flush(30) == 0

    (message,) = kafka_io.read_all(kafka.bootstrap, {}, name)

    assert (message.key, message.value, message.headers) == (
        b"key",
        b"value",
        (("event_id", b"E1"),),
    )


def test_the_ends_of_many_topics_are_one_question(kafka: EmbeddedKafka, topic: NewTopic):
    one, two, empty = topic(), topic(partitions=2), topic()
    fill(kafka, one, 0, [b"x"] * 3)
    fill(kafka, two, 1, [b"x"])
    transaction(kafka, one, [b"y"], commit=True)
    asked: list[set[str]] = []

    def choose(names: Iterable[str]) -> list[str]:
        asked.append(set(names))
        return [one, two, empty]

    found = kafka_io.committed_ends(kafka.bootstrap, {}, choose)

    # The mark of the transaction counts.
    assert found == {one: {0: 5}, two: {0: 0, 1: 1}, empty: {0: 0}}
    assert len(asked) == 1
    assert asked[0] >= {one, two, empty}


def test_what_a_transaction_that_is_open_wrote_is_behind_the_end(
    kafka: EmbeddedKafka, topic: NewTopic
):
    name = topic()
    fill(kafka, name, 0, [b"x"])
    producer = kafka_io.producer(kafka.bootstrap, {}, transactional_id=f"test-{name}")
    producer.init_transactions(30)
    producer.begin_transaction()
    kafka_io.send(producer, name, b"y")
    producer.flush(30)
    try:
        ends = kafka_io.committed_ends(kafka.bootstrap, {}, lambda names: [name])
        assert ends == {name: {0: 1}}
        assert kafka_io.ends(kafka.bootstrap, {}, name) == {0: 2}
    finally:
        producer.abort_transaction(30)


def test_a_kafka_that_does_not_tell_the_ends_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bootstrap = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServiceError, match="does not tell where topics end"):
            kafka_io.committed_ends(bootstrap, {}, list, timeout=0.5)
