"""Matching in Spark's Python workers: the same statements, counts and letters as in the driver."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import topics
from broker.engine import Batch
from broker.lsstschemas import LsstSchemas
from broker.regioncodec import encode_retraction
from crossmatch.ahead import Found
from crossmatch.model import Circle
from tests.endtoend import packets
from tests.integration import mutations
from tests.integration.streaming import ALERTS, DEC, LSST, RA, World, good, notice, region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Message = tuple[str, bytes | None]
FAR = {"event_id": "Fermi_far", "localization": Circle(RA + 90.0, DEC, 5.0, 0.9)}


def said(world: World) -> list[dict[str, Any]]:
    return sorted(world.writer.statements, key=lambda s: (s["candidate_id"], s["alert_datetime"]))


def ledgers(world: World) -> list[dict[str, int]]:
    return [outcome.ledger for outcome in world.writer.outcomes]


def letters(world: World) -> list[dict[str, Any]]:
    """Dead letters; fastavro tells where in memory it read."""
    return [
        letter | {"detail": re.sub(r"0x[0-9a-f]+", "0x", letter["detail"])}
        for letter in world.writer.letters
    ]


def warm(world: World) -> World:
    """Let the JVM know the schema, so that it reads what comes now and not the driver."""
    for number in (1, 2):
        world.take((ALERTS, packets.alert(10 * number, 0.0, 0.0)))
    return world


def batches() -> Iterator[list[Message]]:
    """Regions that come, are replaced and go in the very batch whose alerts they concern."""
    yield [(topics.REGION_LOG, region()), (ALERTS, good(100)), (ALERTS, packets.alert(150, 0, 0))]
    yield [
        (ALERTS, good(200)),
        (ALERTS, packets.container(packets.record(250, RA, DEC), codec="deflate")),
    ]
    yield [(topics.REGION_LOG, region(**FAR)), (ALERTS, packets.alert(300, RA + 90.0, DEC))]
    moved = {"notice_id": "ivo://test/2", "order": (2.0, 0, 2), "sha256": "2"}
    near = Circle(RA, DEC, 0.001, 0.9)
    yield [
        (topics.REGION_LOG, region(**moved, localization=near)),
        (ALERTS, packets.alert(400, RA + 1.0, DEC)),
        (ALERTS, good(500)),
    ]
    retraction = notice(**FAR | {"localization": None}, alert_type="retraction", order=(3.0, 0, 3))
    yield [
        (topics.REGION_LOG, encode_retraction(retraction)),
        (ALERTS, packets.alert(600, RA + 90.0, DEC)),
        (ALERTS, good(700)),
    ]
    yield [(ALERTS, good(800)), (ALERTS, packets.alert(900, RA, float("nan"))), (ALERTS, None)]


def test_statements_and_counts_are_those_of_the_driver(spark: SparkSession, tmp_path: Path):
    driver = warm(World(spark, tmp_path / "driver"))
    workers = warm(World(spark, tmp_path / "workers", in_workers=True))

    for messages in batches():
        assert driver.take(*messages).statements == workers.take(*messages).statements

    assert ledgers(workers) == ledgers(driver)
    assert letters(workers) == letters(driver)
    assert {s["state"] for s in driver.writer.statements} == {"in_force", "withdrawn"}
    assert len(driver.writer.letters) == 2


def test_workers_tell_the_regions_of_what_passes_the_cuts(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world = warm(World(spark, tmp_path, in_workers=True))
    seen: list[Found] = []
    step = world.engine.step

    def noting(batch: Batch) -> Any:
        assert batch.found is not None
        seen.append(batch.found)
        return step(batch)

    monkeypatch.setattr(world.engine, "step", noting)
    world.take((topics.REGION_LOG, region()), (ALERTS, good(100)))
    poor = packets.container(packets.record(300, RA, DEC, rb=0.1, drb=0.1))
    world.take((ALERTS, good(200)), (ALERTS, packets.alert(250, 0.0, 0.0)), (ALERTS, poor))

    assert [found.rows.to_pylist() for found in seen] == [[[]], [[0], [], None]]


def test_a_region_that_came_while_the_next_batch_was_read_is_matched(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Workers look at regions of before the step that is being made."""
    world = warm(World(spark, tmp_path, in_workers=True))
    go_on, step, decoded = threading.Event(), world.engine.step, world.matcher._decoded

    def slow(batch: Batch) -> Any:
        assert go_on.wait(60)
        return step(batch)

    def noting(frame: Any, view: Any) -> Any:
        rows = decoded(frame, view)
        go_on.set()
        return rows

    monkeypatch.setattr(world.engine, "step", slow)
    world.matcher.take(world.frame((topics.REGION_LOG, region())), 2)
    monkeypatch.setattr(world.matcher, "_decoded", noting)
    world.matcher.take(world.frame((ALERTS, good(200))), 3)
    world.matcher.settle()

    assert world.writer.outcomes[-1].ledger["matched"] == 1


def test_damaged_packets_have_the_same_letters(spark: SparkSession, tmp_path: Path):
    schemas = LsstSchemas(known=mutations.LSST_SCHEMAS)
    driver = World(spark, tmp_path / "driver", lsst_schemas=schemas)
    workers = World(spark, tmp_path / "workers", in_workers=True, lsst_schemas=schemas)
    count = int(os.environ.get("MMGATEWAY_MUTATED", "300"))
    messages: list[Message] = [(topics.REGION_LOG, region())]
    for kind, _, packet in mutations.mutated(count, 7):
        messages.append((LSST if kind == "lsst" else ALERTS, packet))

    for world in (driver, workers):
        world.take(*messages)

    assert ledgers(workers) == ledgers(driver)
    assert letters(workers) == letters(driver)
    assert len(letters(driver)) > count // 4
    assert said(workers) == said(driver)
