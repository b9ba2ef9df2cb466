"""Schemas that change while the query runs are read without a restart."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import fastavro
import pytest

from broker import topics
from broker.lsstschemas import LsstSchemas
from broker.packets import decode_packet
from broker.stream import MAX_BY_PYTHON
from gateway.bench import lsstpackets
from gateway.night import packets as layout
from tests.integration import mutations
from tests.integration.streaming import ALERTS, LSST, World, good, region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NEW = 1200


def put(folder: Path, number: int) -> None:
    name = f"v{number // 100}_{number % 100}"
    (folder / name).mkdir(parents=True)
    (folder / name / f"lsst.{name}.alert.avsc").write_text(lsstpackets.schema_json())


def messages(number: int, count: int, first: int = 0) -> list[tuple[str, bytes]]:
    start = b"\x00" + number.to_bytes(4, "big")
    return [(LSST, start + packet[5:]) for packet in mutations.good("lsst", count, first)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "schemas", 1000)
    return tmp_path / "schemas"


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path, folder: Path) -> World:
    return World(spark, tmp_path, lsst_schemas=LsstSchemas(str(folder)))


def test_an_alert_with_a_schema_that_is_not_at_hand_is_a_dead_letter_that_says_what_to_do(
    world: World, folder: Path
) -> None:
    outcome = world.take(*messages(1000, 1), *messages(NEW, 1, 1))

    assert outcome.ledger["received"] == 2
    assert outcome.ledger["rejected.unknown_schema_id"] == 1
    (letter,) = world.writer.letters
    assert letter["detail"] == (
        f"schema 1200 is not at hand (known: 1000); put it into {folder}/v12_0, then:"
        " mmgateway deadletter retry --reason unknown_schema_id"
    )
    assert letter["raw"] == messages(NEW, 1, 1)[0][1]


def test_once_the_schema_is_there_the_next_alerts_and_those_sent_again_are_read(
    world: World, folder: Path
) -> None:
    first = messages(NEW, 2)
    assert world.take((topics.REGION_LOG, region()), *first).statements == []
    put(folder, NEW)
    outcome = world.take(*messages(NEW, 1, 2))
    again = world.take(*((LSST, letter["raw"]) for letter in world.writer.letters))

    assert outcome.ledger["matched"] == 1
    assert again.ledger["matched"] == 2
    assert len(world.writer.statements) == 3
    assert len(world.writer.letters) == 2


def test_many_alerts_of_a_late_schema_are_read_in_the_jvm_at_once(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.take(*messages(1000, 1))
    put(folder, NEW)
    for asked, name in ((world.messages, "fetch"), (world.matcher._writers, "_fetch")):
        monkeypatch.setattr(asked, name, lambda addresses: pytest.fail("asked Kafka"))
    count = MAX_BY_PYTHON + 1

    assert world.take(*messages(NEW, count, 1)).ledger["unmatched"] == count


@pytest.mark.parametrize("cut", [1, 5, 50])
def test_a_message_that_lacks_its_end_is_refused(world: World, cut: int) -> None:
    ((topic, value),) = messages(1000, 1)
    small = value[: -3 * 303] + b"\x00" * 3

    outcome = world.take((topic, small), (topic, small[:-cut]))

    assert outcome.ledger["unmatched"] == 1
    assert outcome.ledger["rejected.truncated"] == 1


def test_ztf_changes_its_schema_between_two_alerts(world: World) -> None:
    """As from 3.3 to 4.02: the header says how the fields lie."""
    old = layout.schema_json()
    new = old.replace('{"name":"fid"', '{"name":"newer","type":"int"},{"name":"fid"', 1)
    both = [good(i * 100) for i in range(1, 5)]
    changed = [_rewritten(packet, old, new) for packet in both[2:]]

    outcome = world.take((topics.REGION_LOG, region()), *((ALERTS, p) for p in both[:2] + changed))
    later = world.take(*((ALERTS, _rewritten(good(500), old, new)), (ALERTS, good(600))))

    assert outcome.ledger["matched"] == 4
    assert later.ledger["matched"] == 2
    assert world.writer.letters == []


def _rewritten(packet: bytes, old: str, new: str) -> bytes:
    """The packet with a schema that has one number more before the filter."""
    (record,) = decode_packet(packet, "ztf", {})
    candidate = record["candidate"] | {"newer": 7}
    stream = io.BytesIO()
    schema = fastavro.parse_schema(json.loads(new))
    fastavro.writer(stream, schema, [record | {"candidate": candidate}])
    return stream.getvalue()
