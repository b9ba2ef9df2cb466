"""Packets through Spark's JVM give what fastavro gives; broken ones give nulls and no more."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from broker import decode, javacode, packets
from broker.surveys import NATIVE_SCHEMAS, normalise
from crossmatch.errors import AlertError
from tests.broker.lsstpackets import as_message, with_source

CANDIDATE: dict[str, Any] = {
    "type": "record",
    "name": "candidate",
    "fields": [
        {"name": "jd", "type": "double"},
        {"name": "ra", "type": "double"},
        {"name": "nbad", "type": ["int", "null"]},
    ],
}
ALERT: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "test",
    "fields": [
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {"name": "candidate", "type": CANDIDATE},
        {"name": "cutout", "type": "bytes"},
    ],
}
RECORD = {
    "objectId": "ZTF1",
    "candid": 2**60,
    "candidate": {"jd": 2460000.5, "ra": 10.25, "nbad": None},
    "cutout": bytes(300),
}


def container(records: int = 1, **options: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, ALERT, [RECORD] * records, sync_marker=bytes(range(16)), **options)
    return stream.getvalue()


TEXT = decode.writer_schema(container()) or ""


def rows(
    spark: SparkSession,
    values: list[bytes],
    survey: str = "ztf",
    lsst: Mapping[int, str] | None = None,
    texts: tuple[str, ...] = (TEXT,),
) -> list[dict[str, Any]]:
    frame = spark.createDataFrame([(bytearray(v),) for v in values], "value binary").coalesce(1)
    value = sf.col("value")
    if survey == "ztf":
        packet = decode.ztf_packet(value, texts)
    else:
        packet = decode.lsst_packet(value, lsst or {}, texts)
    return frame.select(packet.alias("p")).select("p.*").toArrow().to_pylist()


def leaves(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("route", "schema_id") and v is not None}


def test_one_record_is_read_in_the_jvm(spark: SparkSession) -> None:
    (row,) = rows(spark, [container()])
    assert row["route"] == "jvm"
    expected = {"objectId": "ZTF1", "candid": 2**60, "jd": 2460000.5, "ra": 10.25}
    assert leaves(row) == expected


def test_the_reader_is_made_a_function_of_java_at_every_start(spark: SparkSession) -> None:
    kinds = javacode.made_of_java(spark.sparkContext).getParameterTypes()
    named = [kind.getName() for kind in kinds]
    assert named == ["org.apache.spark.sql.api.java.UDF1", "org.apache.spark.sql.types.DataType"]


def test_what_the_jvm_does_not_read_goes_to_python(spark: SparkSession) -> None:
    other = TEXT.replace("cutout", "cutOut")
    values = [
        container(codec="deflate"),
        container(records=2),
        container(records=2, sync_interval=1),
        container(metadata={"more": "x"}),
        container().replace(TEXT.encode(), other.encode()),
        b"\x00\x00\x00\x03\x84body",
    ]
    found = rows(spark, values)
    assert [row["route"] for row in found] == ["python"] * len(values)
    assert not any(leaves(row) for row in found)


def test_two_equal_blocks_are_not_taken_for_one(spark: SparkSession) -> None:
    """The sync marker before the last block is also where one block's would be."""
    whole = container()
    block = whole[whole.index(bytes(range(16))) + 16 :]
    (row,) = rows(spark, [whole + block])
    assert row["route"] == "python"


def test_broken_packets_are_nulls(spark: SparkSession) -> None:
    good = container()
    values = [b"", b"x", b"{}", good[:-1], good[: len(good) // 2 + 200], good[:-1] + b"\xff"]
    found = rows(spark, values)
    assert [row["route"] for row in found] == ["jvm"] * len(values)
    assert not any(leaves(row) for row in found)


def test_absurd_lengths_leave_the_jvm_alive(spark: SparkSession) -> None:
    huge = b"\xfe\xff\xff\xff\x0f"  # 2**31 - 1
    good = container()
    at = good.index(b"\x08ZTF1")
    values = [
        good[:at] + huge + good[at + len(huge) :],
        good.replace(b"\x16avro.schema", huge + b"hema\x00\x00"),
        b"Obj\x01" + huge * 20,
        b"Obj\x01\x04" + huge + b"x" * 100,
        b"\x00\x00\x00\x03\x84" + huge * 50,
    ]
    found = rows(spark, [*values, good])
    assert not any(leaves(row) for row in found[:-1])
    assert leaves(found[-1])


def test_every_flipped_byte_is_survived(spark: SparkSession) -> None:
    good = container()
    values = [good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :] for i in range(len(good))]
    found = rows(spark, values)
    assert len(found) == len(values)
    # In the header and in the sync markers no flip goes unnoticed.
    sync = [i for i in range(len(good)) if good.startswith(bytes(range(16)), i)]
    assert not any(leaves(row) for row in found[: sync[0] + 16])
    assert not any(leaves(row) for row in found[sync[1] :])


NUMBERS: dict[str, Any] = {
    "type": "record",
    "name": "numbers",
    "fields": [
        {"name": "a", "type": "long"},
        {"name": "b", "type": ["float", "null"]},
        {"name": "c", "type": {"type": "enum", "name": "e", "symbols": ["X", "Y"]}},
    ],
}
# A value of each type that may stand before what is needed.
BEFORE: list[tuple[Any, list[Any]]] = [
    ("boolean", [True]),
    ("int", [-(2**31)]),
    ("long", [2**62]),
    ("float", [1.5]),
    ("double", [1e300]),
    ("string", ["", "Ω" * 100]),
    ("bytes", [bytes(300)]),
    ({"type": "fixed", "name": "small", "size": 3}, [b"abc"]),
    ({"type": "fixed", "name": "large", "size": 300}, [bytes(300)]),
    (["null", "double"], [None, 0.5]),
    (["long", "null"], [None, -(2**40)]),
    (["null", "string"], [None, "x"]),
    (["null", "int", "string", "boolean"], [None, 7, "x", True]),
    (["int", "string"], [7, "x"]),
    (NUMBERS, [{"a": 1, "b": None, "c": "Y"}]),
    (["null", "numbers"], [None, {"a": 2**50, "b": 1.0, "c": "X"}]),
    ({"type": "array", "items": "numbers"}, [[], [{"a": 1, "b": 2.0, "c": "X"}] * 70]),
    ({"type": "map", "values": ["null", "numbers"]}, [{}, {"k": None, "l": None}]),
    ({"type": "array", "items": {"type": "array", "items": "float"}}, [[[1.0] * 3, []]]),
]


def test_every_type_is_passed_over_as_fastavro_does(spark: SparkSession) -> None:
    fields = [{"name": f"x{i}", "type": kind} for i, (kind, _) in enumerate(BEFORE)]
    schema = ALERT | {"fields": [*fields, *ALERT["fields"]]}
    values = []
    for turn in range(4):
        before = {f"x{i}": found[turn % len(found)] for i, (_, found) in enumerate(BEFORE)}
        stream = io.BytesIO()
        fastavro.writer(stream, schema, [before | RECORD | {"objectId": f"é{turn}"}])
        values.append(stream.getvalue())
    found = rows(spark, values, texts=(decode.writer_schema(values[0]) or "",))
    assert [row["objectId"] for row in found] == ["é0", "é1", "é2", "é3"]
    assert [row["ra"] for row in found] == [10.25] * 4


def test_arrays_in_blocks_of_both_kinds(spark: SparkSession) -> None:
    """A negative count is followed by the block's bytes; an absurd one is refused at once."""
    source = {"type": "record", "name": "s", "fields": [{"name": "ra", "type": "double"}]}
    before = {"name": "x", "type": {"type": "array", "items": "int"}}
    needed = {"name": "diaSource", "type": source}
    schema = json.dumps({"type": "record", "name": "alert", "fields": [before, needed]})
    arrays = [b"\x02\x01\x00", b"\x01\x04\x80\x01\x02\x01\x00", b"\x03\x04\x01\x01\x00", b"\x00"]
    broken = [b"\xfe\xff\xff\xff\x0f", b"\x01\x80\x80\x80\x80\x08", b"\xff" * 10, b"\x01\x01"]
    number = 0x90000001  # has no place in a signed number
    start = b"\x00" + number.to_bytes(4, "big")
    values = [start + array + struct.pack("<d", 10.25) for array in arrays + broken]
    found = rows(spark, values, "lsst", {number: schema}, ())
    assert [row["ra"] for row in found] == [10.25] * len(arrays) + [None] * len(broken)
    assert {row["route"] for row in found} == {"jvm"}
    (unknown,) = rows(spark, values[:1], "lsst", {}, ())
    assert (unknown["route"], unknown["schema_id"]) == ("python", number)


def test_both_orders_of_a_header_are_known(spark: SparkSession) -> None:
    good = container()
    codec = b"\x14avro.codec\x08null"
    assert good.count(codec) == 1
    without = good.replace(codec, b"", 1)
    end = without.index(bytes(range(16))) - 1
    last = without[:end] + codec + without[end:]
    first = b"Obj\x01\x04" + codec + without[5:]
    found = rows(spark, [first, last, without])
    assert [row["route"] for row in found] == ["jvm", "jvm", "python"]
    assert leaves(found[0]) == leaves(found[1]) != {}


@pytest.mark.realdata
@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_real_packets_are_as_fastavro_reads_them(
    spark: SparkSession, shared_data: Path, survey: str
) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    folder = shared_data / "alerts" / f"{survey}_avro"
    named = list(packets.read_packets([folder], report=pytest.fail))
    found = {decode.writer_schema(value) for _, value in named}
    texts = tuple(sorted(text for text in found if text))
    got = rows(spark, [value for _, value in named], survey, schemas, texts)
    routes = {"jvm": 0, "python": 0, "broken": 0}
    for (name, value), row in zip(named, got, strict=True):
        if row["route"] == "python":
            routes["python"] += 1
            assert len(packets.decode_packet(value, survey, schemas)) > 1, name
            continue
        try:
            (record,) = packets.decode_packet(value, survey, schemas)
        except AlertError:
            routes["broken"] += 1
            assert not leaves(row), name
            continue
        routes["jvm"] += 1
        for leaf, expected in packets.native_row(record, survey).items():
            both_nan = isinstance(expected, float) and math.isnan(expected)
            assert row[leaf] == expected or (both_nan and math.isnan(row[leaf])), (name, leaf)
    expected_routes = {
        "ztf": {"jvm": 104, "python": 2, "broken": 5},
        "lsst": {"jvm": 47, "python": 1, "broken": 0},
    }
    assert routes == expected_routes[survey]


@pytest.mark.realdata
@pytest.mark.parametrize("number", [900, 1000, 1100])
def test_both_ways_tell_alike_what_lsst_takes_back(
    spark: SparkSession, shared_data: Path, number: int
) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    folder = f"alert_packet_fake_v{number // 100}_0"
    fake = shared_data / "alerts" / "lsst_avro" / folder / "fakeAlert.avro"
    times = [61050.25, None, math.nan, 0.0, -1.0, math.inf, -math.inf, 1e-9]
    contained = [with_source(fake.read_bytes(), {}, timeWithdrawnMjdTai=t) for t in times]
    sent = [as_message(fake.read_bytes(), number, schemas, timeWithdrawnMjdTai=t) for t in times]
    values = contained + sent
    text = decode.writer_schema(values[0])
    assert text is not None

    jvm = rows(spark, values, "lsst", schemas, (text,))
    python = [
        packets.native_row(record, "lsst")
        for value in values
        for record in packets.decode_packet(value, "lsst", schemas)
    ]

    assert {row["route"] for row in jvm} == {"jvm"}
    assert _withdrawn(jvm) == _withdrawn(python) == [t in (61050.25, 1e-9) for t in times] * 2


def _withdrawn(native: list[dict[str, Any]]) -> list[bool]:
    address = {"topic": "alerts", "partition": 0, "offset": 0}
    # The generated packets have no time and place of this world.
    somewhere = {"midpointMjdTai": 61049.0, "ra": 10.0, "dec": -30.0}
    table = pa.Table.from_pylist(
        [row | address | somewhere for row in native], schema=NATIVE_SCHEMAS["lsst"]
    )
    result = normalise("lsst", table)
    assert result.rejected == []
    return result.alerts["withdrawn"].to_pylist()


@pytest.mark.realdata
def test_absurd_bytes_where_the_time_of_taking_back_stands(
    spark: SparkSession, shared_data: Path
) -> None:
    """A branch of a union that there is not, or a length in its place, makes a row of nulls."""
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    fake = shared_data / "alerts" / "lsst_avro" / "alert_packet_fake_v10_0" / "fakeAlert.avro"
    null, good = (
        as_message(fake.read_bytes(), 1000, schemas, timeWithdrawnMjdTai=t)
        for t in (None, 61050.25)
    )
    at = next(i for i, (a, b) in enumerate(zip(null, good, strict=False)) if a != b)
    absurd = [b"\xfe\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x04", b"\x01", b"\xff" * 12]

    values = [good[:at] + x + good[at + 1 :] for x in absurd] + [good]
    found = rows(spark, values, "lsst", schemas, ())

    assert not any(leaves(row) for row in found[:-1])
    assert found[-1]["timeWithdrawnMjdTai"] == 61050.25
