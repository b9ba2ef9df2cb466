"""Bad messages through a real Spark and the engine: each costs itself and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import topics
from broker.codec import decode, encode
from tests.endtoend import packets
from tests.integration.streaming import ALERTS, DEC, RA, World, good, region, with_history

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    return World(spark, tmp_path)


FOREIGN = encode(
    "deadletter",
    dict.fromkeys(("reason", "detail", "source", "topic", "received"), "")
    | {"partition": 0, "offset": 0, "raw": b""},
)


def _damaged_fields(**changed: Any) -> bytes:
    return encode("region", decode(region()) | changed)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"garbage", id="not Avro"),
        pytest.param(b"Obj\x01" + bytes(40), id="an empty container"),
        pytest.param(region()[:-30], id="truncated"),
        pytest.param(region().replace(b"avro.codec\x08null", b"avro.codec\x08nulx"), id="codec"),
        pytest.param(region()[:200] + b"\xff" * 40 + region()[240:], id="damaged schema"),
        pytest.param(None, id="no value"),
        pytest.param(FOREIGN, id="another record"),
        pytest.param(_damaged_fields(shape="blob"), id="unknown shape"),
        pytest.param(_damaged_fields(shape="map", skymap_sha256="0"), id="missing map"),
        pytest.param(_damaged_fields(trigger_time="yesterday"), id="no time"),
        pytest.param(_damaged_fields(trigger_time=None), id="time is null"),
        pytest.param(_damaged_fields(radii_deg=[]), id="no radius"),
        pytest.param(_damaged_fields(radii_deg=[-1.0]), id="negative radius"),
        pytest.param(_damaged_fields(dec=float("nan")), id="position not a number"),
        pytest.param(_damaged_fields(window_days=[]), id="no window"),
        pytest.param(_damaged_fields(chain="nonsense"), id="unknown chain"),
        pytest.param(_damaged_fields(level=7.0), id="level above one"),
    ],
)
def test_a_message_on_the_regions_topic_that_is_no_region_costs_nothing_else(
    world: World, value: bytes | None
):
    world.take(
        (topics.REGION_LOG, value), (topics.REGION_LOG, region(event_id="Good")), (ALERTS, good())
    )

    assert [s["event_id"] for s in world.writer.statements] == ["Good"]
    (letter,) = world.writer.letters
    assert (letter["topic"], letter["offset"]) == (topics.REGION_LOG, 0)
    assert letter["raw"] == (value or b"")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, "", id="no value"),
        pytest.param(b"garbage", "", id="not Avro"),
        pytest.param(good()[:-40], "", id="truncated"),
        pytest.param(good()[:5000], "", id="header only"),
        pytest.param(packets.alert(100, 720.0, 0.0), "ra_out_of_range", id="RA 720"),
        pytest.param(packets.alert(100, RA, float("nan")), "null_required", id="NaN position"),
        pytest.param(packets.alert(100, RA, DEC, days=1e6), "time_out_of_range", id="year 4763"),
        pytest.param(b"\x00\x00\x00\x03\x84abc", "", id="Confluent on a ZTF topic"),
    ],
)
def test_a_bad_alert_costs_only_itself(world: World, value: bytes | None, reason: str):
    outcome = world.take((topics.REGION_LOG, region()), (ALERTS, value), (ALERTS, good(200)))

    assert [s["id"] for s in outcome.statements] == ["ZTF260000002"]
    assert outcome.ledger["received"] == 2
    (letter,) = world.writer.letters
    assert letter["reason"] == reason or not reason
    assert letter["detail"]
    assert letter["raw"] == (value or b"")


def _broken_behind_the_leaves() -> bytes:
    """Right size, right markers, good leaves; the light curve behind them is rubbish."""
    packet = bytearray(with_history())
    packet[-180:-100] = b"\xff" * 80
    return bytes(packet)


def test_a_packet_that_is_broken_behind_what_matching_needs_does_not_end_the_service(world: World):
    """The JVM reads no further than its leaves; Python, asked for the light curve, stumbles."""
    world.take((ALERTS, good(900)))
    outcome = world.take(
        (topics.REGION_LOG, region()), (ALERTS, _broken_behind_the_leaves()), (ALERTS, good(200))
    )

    assert "ZTF260000002" in [s["id"] for s in outcome.statements]
