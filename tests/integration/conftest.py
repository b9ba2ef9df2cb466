"""A real Kafka and a real Spark, started once for all integration tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import Java, find_java
from broker.embedded.kafka import EmbeddedKafka
from broker.embedded.spark import spark_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            # PySpark leaves its sockets to the garbage collector, in whatever test that runs.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
            item.add_marker(
                pytest.mark.filterwarnings(
                    r"ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
                )
            )


@pytest.fixture(scope="session")
def java() -> Java:
    return find_java()


@pytest.fixture(scope="session")
def kafka(java: Java, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A Kafka on free ports with a folder of its own."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), 0, 0, java) as running:
        yield running


@pytest.fixture(scope="session")
def spark(java: Java, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The process's Spark session, as the match service makes it."""
    session = spark_session(
        java=java,
        jars=fetch_jars(SPARK),
        local_dir=tmp_path_factory.mktemp("spark"),
        master="local[2]",
        driver_memory="1g",
        extra={"spark.sql.shuffle.partitions": "1"},
    )
    yield session
    session.stop()


_numbers = itertools.count(1)


@pytest.fixture
def topic(kafka: EmbeddedKafka) -> Callable[..., str]:
    """Makes a topic with a name that no other test has: ``topic()``, ``topic(partitions=2)``."""
    from confluent_kafka.admin import AdminClient, NewTopic

    def make(prefix: str = "test", partitions: int = 1) -> str:
        name = f"{prefix}.{next(_numbers)}"
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            made.result(30)
        return name

    return make
