"""Light curves that the JVM reads are those that `fastavro` and Python give, or there is none."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from pyspark.sql import functions as sf

from broker import containers, curves, decode, packets, topics
from broker.history import ELASTICC_SIGN, history
from broker.packets import decode_packet
from crossmatch.errors import AlertError
from tests.broker.lsstpackets import as_message
from tests.integration import mutations
from tests.integration.streaming import ALERTS, World, region, with_history

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Record = dict[str, Any]


def read(
    spark: SparkSession,
    survey: str,
    values: Sequence[bytes],
    texts: Sequence[str] = (),
    messages: Mapping[int, str] | None = None,
) -> list[Record | None]:
    """What the JVM gives of each packet."""
    frame = spark.createDataFrame([(bytearray(v),) for v in values], "value binary").coalesce(1)
    made = curves.history_column(survey, sf.col("value"), messages or {}, texts)
    column = frame.select(made.alias("h")).toArrow()["h"].combine_chunks()
    there = column.is_valid()
    found = iter(curves.records(column.filter(there)))
    return [next(found) if is_there else None for is_there in there.to_pylist()]


def by_python(value: bytes, survey: str, messages: Mapping[int, str] | None = None) -> Any:
    """The light curve by `fastavro`, or None if it does not read the packet."""
    try:
        (record,) = decode_packet(value, survey, messages or {})
    except (AlertError, ValueError):
        return None
    return history(record, survey)


def assert_alike(
    spark: SparkSession,
    survey: str,
    values: Sequence[bytes],
    texts: Sequence[str] = (),
    messages: Mapping[int, str] | None = None,
) -> list[bool]:
    """Whether the JVM gave a curve, of each packet; where it did, it is that of Python."""
    found = read(spark, survey, values, texts, messages)
    for number, (record, value) in enumerate(zip(found, values, strict=True)):
        if record is not None:
            assert history(record, survey) == by_python(value, survey, messages), number
    return [record is not None for record in found]


@pytest.mark.realdata
@pytest.mark.parametrize(("survey", "expected", "points"), [("ztf", 104, 1500), ("lsst", 47, 300)])
def test_real_packets_have_the_same_light_curve(
    spark: SparkSession, shared_data: Path, survey: str, expected: int, points: int
) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    named = list(
        packets.read_packets([shared_data / "alerts" / f"{survey}_avro"], report=pytest.fail)
    )
    values = [value for _, value in named]
    texts = sorted({text for value in values if (text := decode.writer_schema(value))})

    read_by_jvm = assert_alike(spark, survey, values, texts, schemas)

    assert sum(read_by_jvm) == expected
    good = [v for v, is_read in zip(values, read_by_jvm, strict=True) if is_read]
    assert sum(len(by_python(v, survey, schemas)) for v in good) > points


@pytest.mark.realdata
@pytest.mark.parametrize("number", [704, 900, 1000, 1100])
def test_messages_of_rubin_have_the_same_light_curve(
    spark: SparkSession, shared_data: Path, number: int
) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    major, minor = divmod(number, 100)
    folder = f"alert_packet_fake_v{major}_{minor}"
    fake = shared_data / "alerts" / "lsst_avro" / folder / "fakeAlert.avro"
    value = as_message(fake.read_bytes(), number, schemas)

    assert assert_alike(spark, "lsst", [value], messages=schemas) == [True]


def entry(*fields: tuple[str, Any]) -> Record:
    return {
        "type": "record",
        "name": "entry",
        "fields": [{"name": name, "type": kind} for name, kind in fields],
    }


ZTF_ENTRY = entry(
    ("secret", ["null", "string"]),
    ("jd", ["double", "null"]),
    ("fid", ["null", "int"]),
    ("pid", "long"),
    ("diffmaglim", ["null", "float"]),
    ("kind", {"type": "enum", "name": "kind", "symbols": ["A", "B"]}),
    ("magpsf", ["null", "float", "double", "long"]),
    ("sigmapsf", "double"),
    ("isdiffpos", ["null", "string"]),
    ("more", {"type": "array", "items": ["null", "string"]}),
    ("last", {"type": "map", "values": "boolean"}),
)
LSST_ENTRY = entry(
    ("midpointMjdTai", ["null", "double"]),
    ("midPointTai", ["null", "double"]),
    ("psfFlux", ["null", "float"]),
    ("psFlux", ["null", "double"]),
    ("psfFluxErr", ["null", "float"]),
    ("psFluxErr", ["null", "int"]),
    ("band", ["null", "string"]),
    ("filterName", ["null", "string"]),
    ("timeWithdrawnMjdTai", ["null", "double"]),
    ("diaNoise", ["null", "float"]),
)
CANDIDATE = dict.fromkeys(("jd", "fid", "ra", "dec", "magpsf"), 1.0)
SOURCE = {"diaSourceId": 1.0, "ra": 1.0}


def numbers(name: str, fields: Mapping[str, float]) -> Record:
    found = [{"name": field, "type": "double"} for field in fields]
    return {"type": "record", "name": name, "fields": found}


SCHEMAS: dict[str, Record] = {
    "ztf": {
        "type": "record",
        "name": "alert",
        "fields": [
            {"name": "objectId", "type": "string"},
            {"name": "candidate", "type": numbers("candidate", CANDIDATE)},
            {"name": "prv_candidates", "type": ["null", {"type": "array", "items": ZTF_ENTRY}]},
            {"name": "cutout", "type": ["null", "bytes"]},
            {"name": "again", "type": {"type": "array", "items": "entry"}},
        ],
    },
    "lsst": {
        "type": "record",
        "name": "alert",
        "fields": [
            {"name": "diaSource", "type": numbers("source", SOURCE)},
            {
                "name": "prvDiaSources",
                "type": ["null", {"type": "array", "items": [LSST_ENTRY, "null"]}],
            },
            {"name": "prvDiaForcedSources", "type": {"type": "array", "items": "entry"}},
            {
                "name": "prvDiaNondetectionLimits",
                "type": [{"type": "array", "items": ["null", "entry"]}, "null"],
            },
            {
                "name": "diaObject",
                "type": [
                    "null",
                    {"type": "record", "name": "object"}
                    | {"fields": [{"name": ELASTICC_SIGN, "type": ["null", "float"]}]},
                ],
            },
        ],
    },
}
VALUES: dict[str, list[Any]] = {
    "jd": [2461042.5, 2461042.500001, 2461041.25, 2461040.0, math.nan, None, 0.0, -999.0, math.inf],
    "fid": [1, 2, 3, 4, None, 0],
    "magpsf": [17.5, 18.25, None, -999.0, math.nan, 2**40, 1e300],
    "sigmapsf": [0.05, math.nan, -999.0],
    "diffmaglim": [20.5, None, -999.0],
    "isdiffpos": ["t", "f", "1", "0", "T", "", "Ω", None],
    "midpointMjdTai": [61042.0, 61041.5, math.nan, None, math.inf],
    "midPointTai": [61040.0, None, math.nan],
    "psfFlux": [100.0, -100.0, 0.0, math.nan, None, 1.0],
    "psFlux": [50.0, None, math.inf],
    "psfFluxErr": [10.0, 1.0, 0.0, None, math.nan],
    "psFluxErr": [20, -1, None],
    "band": ["r", "G", "", "ü", None],
    "filterName": ["i", None],
    "timeWithdrawnMjdTai": [61042.0, math.nan, 0.0, -1.0, None, None, None],
    "diaNoise": [5.0, 0.0, None, math.nan],
    "secret": [None, "x", "Ω" * 40],
    "pid": [2**62, -1, 0],
    "kind": ["A", "B"],
    "more": [[], [None, "x"]],
    "last": [{}, {"k": True}],
}


def made(random: Random, survey: str) -> Record:
    """A record of `SCHEMAS` with anything in it."""

    def curve(kind: Record, empty: bool) -> list[Record | None]:
        names = [field["name"] for field in kind["fields"]]
        one = lambda: {name: random.choice(VALUES[name]) for name in names}  # noqa: E731
        return [
            None if empty and random.random() < 0.2 else one()
            for _ in range(random.choice((0, 1, 2, 7, 30)))
        ]

    if survey == "ztf":
        return {
            "objectId": "ZTF1",
            "candidate": CANDIDATE,
            "prv_candidates": random.choice(
                (None, curve(ZTF_ENTRY, False), curve(ZTF_ENTRY, False))
            ),
            "cutout": random.choice((None, b"x" * 300)),
            "again": curve(ZTF_ENTRY, False),
        }
    return {
        "diaSource": SOURCE,
        "prvDiaSources": random.choice((None, curve(LSST_ENTRY, True), curve(LSST_ENTRY, True))),
        "prvDiaForcedSources": curve(LSST_ENTRY, False),
        "prvDiaNondetectionLimits": random.choice((None, curve(LSST_ENTRY, True))),
        "diaObject": random.choice((None, {ELASTICC_SIGN: None}, {ELASTICC_SIGN: 0.5})),
    }


def container(schema: Record, *records: Record) -> bytes:
    stream = io.BytesIO()
    fastavro.writer(stream, schema, records, sync_marker=bytes(range(16)))
    return stream.getvalue()


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_random_records_have_the_same_light_curve(spark: SparkSession, survey: str) -> None:
    random = Random(17)
    values = [container(SCHEMAS[survey], made(random, survey)) for _ in range(400)]
    text = decode.writer_schema(values[0]) or ""

    alike = assert_alike(spark, survey, values, [text])

    # Some have many entries of a few bytes, for which there are bounds.
    assert sum(alike) > (399 if survey == "ztf" else 300)
    assert sum(bool(by_python(value, survey)) for value in values) > 100


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_every_damage_gives_no_light_curve_or_that_of_python(
    spark: SparkSession, survey: str
) -> None:
    random = Random(18)
    whole = [container(SCHEMAS[survey], made(random, survey)) for _ in range(60)]
    text = decode.writer_schema(whole[0]) or ""
    start = whole[0].index(bytes(range(16))) + 16
    values = []
    for value in whole:
        for _ in range(40):
            damaged = bytearray(value)
            at = random.randrange(start, len(value))
            damaged[at : at + 1] = random.choice(
                (
                    bytes([damaged[at] ^ 1 << random.randrange(8)]),
                    b"",
                    b"\xfe\xff\xff\xff\x0f",
                    b"\xff" * 9 + b"\x01",
                    b"\xff" * 12,
                    b"\x01",
                )
            )
            values.append(bytes(damaged))
            body = bytearray(value)
            body[at] ^= 1 << random.randrange(8)
            values.append(bytes(body))

    alike = assert_alike(spark, survey, values, [text])

    assert 100 < sum(alike) < len(values) - 100


def message(arrays: bytes, after: bytes = b"") -> bytes:
    return b"\x00\x00\x00\x00\x07" + bytes(16) + arrays + after


BLOCKS = json.dumps(
    {
        "type": "record",
        "name": "alert",
        "fields": [
            {"name": "diaSource", "type": numbers("source", SOURCE)},
            {
                "name": "prvDiaSources",
                "type": {
                    "type": "array",
                    "items": entry(
                        ("midpointMjdTai", "double"),
                        ("psfFlux", "double"),
                        ("psfFluxErr", "double"),
                        ("band", "string"),
                    ),
                },
            },
            {"name": "note", "type": "string"},
            {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
            {"name": "list", "type": {"type": "array", "items": "long"}},
        ],
    }
)
_ENTRY = fastavro.parse_schema(json.loads(BLOCKS)["fields"][1]["type"]["items"])


def item(days: int, band: bytes = b"\x02r") -> bytes:
    stream = io.BytesIO()
    one = {"midpointMjdTai": 61042.0 - days, "psfFlux": 100.0, "psfFluxErr": 5.0, "band": ""}
    fastavro.schemaless_writer(stream, _ENTRY, one)
    return stream.getvalue()[:-1] + band


NOTHING = b"\x00"
REST = b"\x02x\x00\x00"


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (message(NOTHING + REST), 0),
        (message(b"\x02" + item(1) + NOTHING + REST), 1),
        # Two blocks; the second one says how many bytes it has, and lies.
        (message(b"\x04" + item(1) + item(2) + b"\x01\x34" + item(3) + NOTHING + REST), 3),
        (message(b"\x01\xfe\xff\x01" + item(3) + b"\x02" + item(4) + NOTHING + REST), 2),
        (message(b"\x02" + item(1, b"\x04\xc3\xbc") + NOTHING + REST), 1),
        (message(NOTHING + b"\x02x\x02" + b"\x01\x7f\x05" + b"\x04\x01\x01" + NOTHING), 0),
    ],
)
def test_blocks_of_both_kinds_are_read(spark: SparkSession, value: bytes, entries: int) -> None:
    known = {7: BLOCKS}
    (found,) = read(spark, "lsst", [value], messages=known)
    assert found is not None
    assert len(found["prvDiaSources"]) == entries
    assert history(found, "lsst") == by_python(value, "lsst", known)


def test_what_is_broken_or_absurd_anywhere_has_none(spark: SparkSession) -> None:
    good = message(b"\x02" + item(1) + NOTHING + REST)
    broken = [
        good[:-1],
        good + b"\x00",
        message(b"\x02" + item(1, b"\x04\xc3\x28") + NOTHING + REST),
        message(NOTHING + b"\x04\xc3\x28" + b"\x00\x00"),
        message(NOTHING + b"\x02x\x04\x00"),
        message(NOTHING + b"\x02x\x00\x04\x01"),
        message(NOTHING + b"\x02x\x00" + b"\xff" * 9 + b"\x01"),
        *(
            message(count + item(1) * 3 + NOTHING + REST)
            for count in (
                b"\xfe\xff\xff\xff\x0f",
                b"\xff\xff\xff\xff\x0f",
                b"\xff" * 9 + b"\x01",
                b"\x80" * 9 + b"\x01",
                b"\xff" * 12,
                b"\x04",
            )
        ),
        b"",
        b"Obj\x01",
        b"\x00\x00\x00\x00\x08" + good[5:],
        good + bytes(containers.MAX_PACKET_BYTES),
    ]
    found = read(spark, "lsst", [*broken, good], messages={7: BLOCKS})
    assert [record is not None for record in found] == [False] * len(broken) + [True]


def test_more_entries_than_any_object_has_are_left_to_python(spark: SparkSession) -> None:
    block = b"\x80\x10" + b"".join(item(i) for i in range(1024))
    values = [message(block * n + NOTHING + REST) for n in (1, 16, 17)]
    assert by_python(values[2], "lsst", {7: BLOCKS})
    assert assert_alike(spark, "lsst", values, messages={7: BLOCKS}) == [True, True, False]


def test_damaged_packets_of_both_surveys(spark: SparkSession) -> None:
    damaged = mutations.mutated(1024, 5)
    for survey in ("ztf", "lsst"):
        values = [p for kind, _, p in damaged if (kind == "lsst") == (survey == "lsst")]
        values += mutations.good(survey if survey == "lsst" else "null", 2)
        texts = [decode.writer_schema(values[-1]) or ""] if survey == "ztf" else []
        alike = assert_alike(spark, survey, values, texts, mutations.LSST_SCHEMAS)
        assert alike[-2:] == [True, True]


@pytest.mark.parametrize("in_workers", [False, True])
def test_the_light_curve_of_a_candidate_comes_from_the_jvm(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_workers: bool
) -> None:
    value = with_history()
    world = World(spark, tmp_path, in_workers=in_workers)
    world.take((ALERTS, value))  # Its schema is learned from packets that Python reads.
    world.take((ALERTS, value), (topics.REGION_LOG, region()))
    decoded: list[bytes] = []

    def noted(packet: bytes, *more: Any) -> list[Record]:
        decoded.append(packet)
        return decode_packet(packet, *more)

    monkeypatch.setattr(packets, "decode_packet", noted)
    world.take((ALERTS, with_history(7)))

    groups = world.engine.groups.values()
    (alert,) = [a for g in groups for a in g.alerts.values() if a.alert["alert_id"] == 7]
    assert alert.history == tuple(by_python(with_history(7), "ztf"))
    assert len(alert.history) == 2
    assert with_history(7) not in decoded
