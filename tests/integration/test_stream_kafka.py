"""The query's rows from a real Kafka, and librdkafka's properties in the words of the JVM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker import topics
from broker.sources import jvm_properties
from crossmatch.errors import GatewayError
from tests.integration.streaming import Stream

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from broker.embedded.kafka import EmbeddedKafka

NewTopic = Callable[..., str]


@pytest.fixture
def real(kafka: EmbeddedKafka, spark: SparkSession, tmp_path: Path) -> Stream:
    return Stream(kafka, spark, tmp_path)


def test_a_start_at_the_latest_alerts_still_reads_all_regions(real: Stream, topic: NewTopic):
    alerts = topic("alerts")
    real.send(topics.REGION_LOG, b"an early region")
    real.send(alerts, b"an early alert")

    with real.running(ztf=(alerts,), starting_offsets="latest"):
        real.send(alerts, b"a late alert")

    assert b"a late alert" in real.values
    assert b"an early alert" not in real.values
    assert b"an early region" in real.values


def test_alerts_of_another_kafka_come_with_our_regions(
    real: Stream, topic: NewTopic, kafka: EmbeddedKafka
):
    alerts = topic("alerts")
    real.send(topics.REGION_LOG, b"our region")
    real.send(alerts, b"their alert")

    with real.running(ztf=(alerts,), alert_bootstrap=kafka.bootstrap):
        real.send(alerts, b"another alert")

    assert {b"our region", b"their alert", b"another alert"} <= set(real.values)


def test_a_topic_of_alerts_can_be_added_later(real: Stream, topic: NewTopic):
    one, two = topic("alerts"), topic("alerts")
    real.send(one, b"one")
    with real.running(ztf=(one,)):
        pass
    real.send(two, b"two")
    with real.running(ztf=(one, two)):
        real.send(one, b"three")

    assert [v for v in real.values if v in (b"one", b"two", b"three")] == [b"one", b"two", b"three"]


def test_alerts_that_kafka_deleted_while_nobody_matched_do_not_end_the_service(
    real: Stream, topic: NewTopic, kafka: EmbeddedKafka
):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    alerts = topic("alerts")
    real.send(alerts, b"before")
    with real.running(ztf=(alerts,)):
        pass
    real.send(alerts, b"gone", b"gone", b"after")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(alerts, 0, 3)]).values():
        done.result(30)

    with real.running(ztf=(alerts,)):
        pass

    assert real.values[-1] == b"after"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, {}),
        ({"client.id": "me", "queue.buffering.max.ms": "5"}, {"kafka.client.id": "me"}),
        (
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "gateway",
                "sasl.password": 'a"b\\c',
                "ssl.ca.location": "/etc/ca.pem",
            },
            {
                "kafka.security.protocol": "SASL_SSL",
                "kafka.sasl.mechanism": "SCRAM-SHA-512",
                "kafka.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required"
                    ' username="gateway" password="a\\"b\\\\c";'
                ),
                "kafka.ssl.truststore.type": "PEM",
                "kafka.ssl.truststore.location": "/etc/ca.pem",
            },
        ),
        (
            {"sasl.mechanisms": "PLAIN", "sasl.username": "u", "sasl.password": "p"},
            {
                "kafka.sasl.mechanism": "PLAIN",
                "kafka.sasl.jaas.config": (
                    "org.apache.kafka.common.security.plain.PlainLoginModule required"
                    ' username="u" password="p";'
                ),
            },
        ),
        pytest.param(
            {"ssl.endpoint.identification.algorithm": "none"},
            {"kafka.ssl.endpoint.identification.algorithm": ""},
        ),
    ],
    ids=["none", "client", "scram", "plain", "no host names"],
)
def test_properties_of_librdkafka_in_the_words_of_the_jvm(
    properties: Mapping[str, str], expected: Mapping[str, str]
):
    assert jvm_properties(properties) == expected


@pytest.mark.parametrize("name", ["ssl.certificate.location", "sasl.oauthbearer.client.id"])
def test_a_security_property_that_the_jvm_has_no_word_for_is_refused(name: str):
    with pytest.raises(GatewayError, match=name):
        jvm_properties({"security.protocol": "SSL", name: "x"})
