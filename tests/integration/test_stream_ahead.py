"""The query is one batch ahead of the steps: decoding beside them, and beginning again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from broker import topics
from broker.checkpoint import rewind
from broker.embedded.kafka import EmbeddedKafka
from crossmatch.errors import ServiceError

from .streaming import ALERTS, Stream, World, good, region

pytestmark = pytest.mark.integration


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    return World(spark, tmp_path)


def test_a_batch_is_decoded_while_the_step_before_is_made(world: World, monkeypatch):
    begun, go_on, decoded = threading.Event(), threading.Event(), threading.Event()
    step, decode = world.engine.step, world.matcher._decoded

    def slow(batch):
        if batch.batch_id == 0:
            begun.set()
            assert go_on.wait(60)
        return step(batch)

    def noting(frame, view):
        rows = decode(frame, view)
        decoded.set()
        return rows

    monkeypatch.setattr(world.engine, "step", slow)
    world.matcher.take(world.frame((topics.REGION_LOG, region())), 0)
    assert begun.wait(60)
    monkeypatch.setattr(world.matcher, "_decoded", noting)
    frame = world.frame((ALERTS, good()))
    second = threading.Thread(target=world.matcher.take, args=(frame, 1))
    second.start()

    assert decoded.wait(60)
    assert world.writer.outcomes == []
    go_on.set()
    second.join(60)
    world.matcher.settle()

    assert [outcome.batch_id for outcome in world.writer.outcomes] == [0, 1]
    assert len(world.writer.statements) == 1


def test_a_step_that_fails_is_noted_at_once_and_ends_the_next_batch(world: World, monkeypatch):
    def fail(batch):
        raise RuntimeError("no room")

    monkeypatch.setattr(world.engine, "step", fail)
    world.matcher.take(world.frame((ALERTS, good())), 0)
    with pytest.raises(ServiceError, match="no room"):
        world.matcher.settle()
    assert "no room" in str(world.matcher.failure)

    with pytest.raises(ServiceError, match="no room"):
        world.matcher.take(world.frame((ALERTS, good(101))), 1)
    assert world.writer.outcomes == []


def test_a_query_that_was_ahead_plays_what_was_not_committed_once_more(
    kafka: EmbeddedKafka, spark: SparkSession, topic: Callable[..., str], tmp_path: Path
):
    stream, alerts = Stream(kafka, spark, tmp_path), topic("alerts")
    batches = [[b"ours %d-%d" % (batch, i) for i in range(3)] for batch in range(4)]

    def ours() -> list[bytes]:
        # Other tests leave regions in this Kafka.
        return [value for value in stream.values if value.startswith(b"ours")]

    for values in batches:
        stream.send(alerts, *values)
        with stream.running(ztf=(alerts,)):
            pass
    assert sorted(ours()) == [value for values in batches for value in values]
    stream.values.clear()

    assert rewind(tmp_path / "checkpoint", 2) == 1
    stream.send(alerts, b"ours too")
    with stream.running(ztf=(alerts,)):
        pass

    assert sorted(ours()) == [*batches[3], b"ours too"]
