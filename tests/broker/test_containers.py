"""Avro within bounds: hostile bytes end as AlertError, good ones decode in every codec."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import random
import zlib
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from broker import containers
from broker.containers import decode, read_container
from crossmatch.errors import AlertError

SCHEMA = {
    "type": "record",
    "name": "packet",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "when", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "ra", "type": ["null", "double"]},
        {"name": "image", "type": ["null", "bytes"]},
        {
            "name": "earlier",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "point",
                    "fields": [{"name": "jd", "type": "double"}, {"name": "mag", "type": "float"}],
                },
            },
        },
    ],
}
RECORDS = [
    {
        "id": n,
        "when": 10**15 + n,
        "ra": n / 2,
        "image": b"x" * n,
        "earlier": [{"jd": 1.5, "mag": 2}],
    }
    for n in range(30)
]
PLAIN = fastavro.parse_schema(
    json.loads(json.dumps(SCHEMA).replace('"timestamp-micros"', '"none"'))
)


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def container(
    schema: Any = SCHEMA,
    blocks: tuple[tuple[int, bytes], ...] = (),
    codec: str = "null",
) -> bytes:
    """Object container made by hand, so that anything in it can be wrong."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    header = {b"avro.schema": text, b"avro.codec": codec.encode()}
    out = b"Obj\x01" + varint(len(header))
    for key, value in header.items():
        out += sized(key) + sized(value)
    sync = bytes(range(16))
    out += varint(0) + sync
    for count, body in blocks:
        out += varint(count) + sized(body) + sync
    return out


def body(*records: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    for record in records:
        fastavro.schemaless_writer(stream, PLAIN, record)
    return stream.getvalue()


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def snappy(data: bytes) -> bytes:
    return pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstandard": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    "snappy": snappy,
}


def reason(value: bytes, schemas: dict[int, str] | None = None) -> str:
    with pytest.raises(AlertError) as caught:
        decode(value, schemas or {})
    return caught.value.reason


@pytest.mark.parametrize("codec", sorted(PACKERS))
def test_every_codec_gives_the_records(codec: str) -> None:
    pack = PACKERS[codec]
    blocks = ((20, pack(body(*RECORDS[:20]))), (10, pack(body(*RECORDS[20:]))))

    assert decode(container(blocks=blocks, codec=codec), {}) == RECORDS


def test_what_fastavro_writes_is_read() -> None:
    stream = io.BytesIO()
    fastavro.writer(stream, PLAIN, RECORDS, codec="deflate", sync_interval=100)

    assert decode(stream.getvalue(), {}) == RECORDS


def test_a_container_without_records_is_empty() -> None:
    assert decode(container(), {}) == []


def test_confluent_wire_format_takes_the_schema_by_its_number() -> None:
    message = b"\x00" + (900).to_bytes(4, "big") + body(RECORDS[3])

    assert decode(message, {900: json.dumps(SCHEMA)}) == [RECORDS[3]]
    assert reason(message, {901: json.dumps(SCHEMA)}) == "unknown_schema_id"
    assert reason(message + b"\x00", {900: json.dumps(SCHEMA)}) == "trailing_bytes"
    assert reason(message[:-3], {900: json.dumps(SCHEMA)}) in ("truncated", "malformed")


def test_what_is_said_of_a_record_that_was_cut_is_the_same_each_time() -> None:
    message = b"\x00" + (900).to_bytes(4, "big") + body(RECORDS[3])
    details = set()
    for _ in range(2):
        with pytest.raises(AlertError) as caught:
            decode(message[:-6], {900: json.dumps(SCHEMA)})
        details.add((caught.value.reason, caught.value.detail))

    ((told, detail),) = details
    assert told == "truncated"
    assert "0x" not in detail


def test_no_prefix_of_a_container_does_harm() -> None:
    whole = container(blocks=((2, body(*RECORDS[4:6])),))
    without_block = len(container())

    for length in range(len(whole)):
        if length == without_block:
            continue
        assert reason(whole[:length]) in ("empty", "not_avro", "truncated")


def test_random_damage_gives_records_or_an_alert_error() -> None:
    rng = random.Random(20240115)
    whole = container(blocks=((2, body(*RECORDS[4:6])),))
    schema = json.dumps(SCHEMA)
    message = b"\x00\x00\x00\x00\x01" + body(RECORDS[9])
    for _ in range(3000):
        for original in (whole, message):
            damaged = bytearray(original)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            try:
                decode(bytes(damaged), {1: schema})
            except AlertError as error:
                assert error.reason  # noqa: PT017 - what matters is that nothing else is raised


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "empty"),
        (b"{}", "not_avro"),
        (b"\x00\x00\x00", "not_avro"),
        (b"Obj\x01", "truncated"),
        (b"Obj\x01" + varint(2**60), "absurd_length"),
        (b"Obj\x01" + varint(1) + varint(2**62), "absurd_length"),
        (b"Obj\x01" + varint(1) + sized(b"avro.schema") + varint(2**40), "absurd_length"),
        (b"Obj\x01" + b"\xff" * 20, "malformed"),
        (container(blocks=((2**60, b"12345678"),)), "absurd_length"),
        (container(blocks=((-5, b"12345678"),)), "absurd_length"),
        (container() + varint(1) + varint(2**50), "absurd_length"),
        (container(blocks=((1, body(RECORDS[0])),))[:-16] + b"-" * 16, "malformed"),
        (container(blocks=((1, body(*RECORDS[:2])),)), "trailing_bytes"),
        (container(codec="lzo", blocks=((1, b"x"),)), "unsupported_codec"),
        (container(codec="deflate", blocks=((1, b"\xff\xff\xff"),)), "malformed"),
        (container(codec="snappy", blocks=((1, snappy(b"data")[:-1] + b"?"),)), "malformed"),
        (container(codec="snappy", blocks=((1, b"\xff\xff\xff\xff\x7f1234"),)), "absurd_length"),
        (b"Obj\x01" + b"\x00" * (containers.MAX_PACKET_BYTES + 1), "too_large"),
    ],
)
def test_bad_bytes_have_a_reason(value: bytes, expected: str) -> None:
    assert reason(value) == expected


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz", "zstandard"])
def test_a_compressed_bomb_is_not_unpacked(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_MAX_BLOCK_BYTES", 1 << 20)
    bomb = PACKERS[codec](bytes(containers._MAX_BLOCK_BYTES + 10))

    assert reason(container(codec=codec, blocks=((1, bomb),))) == "absurd_length"


@pytest.mark.parametrize(
    "schema",
    [
        b"not json",
        b"[" * 100_000,
        {"type": "record", "name": "empty", "fields": []},
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "fixed", "name": "none", "size": 0}},
        {
            "type": "record",
            "name": "node",
            "fields": [{"name": "next", "type": ["null", "node"]}],
        },
        {"type": "record", "name": "a", "fields": [{"name": "b", "type": "missing"}]},
        {"type": "record", "name": "a", "fields": [{"name": "b"}]},
        {"no": "type"},
        17,
    ],
)
def test_schemas_that_could_ask_for_anything_are_refused(schema: Any) -> None:
    assert reason(container(schema, blocks=((1, b"\x00\x00"),))) == "bad_schema"


def test_deeply_nested_schemas_are_refused() -> None:
    schema: Any = "long"
    for _ in range(200):
        schema = {"type": "array", "items": schema}

    assert reason(container(schema, blocks=((1, b"\x00"),))) == "bad_schema"


def test_an_absurd_length_inside_a_record_is_malformed() -> None:
    record = varint(1) + varint(2) + varint(0) + varint(1) + varint(2**40) + b"x"

    assert reason(container(blocks=((1, record),))) in ("truncated", "malformed")


def test_records_before_the_damage_are_given() -> None:
    whole = container(blocks=((2, body(*RECORDS[:2])), (2, body(*RECORDS[2:4]))))
    records = read_container(io.BytesIO(whole[:-20]))

    assert [next(records), next(records)] == RECORDS[:2]
    with pytest.raises(AlertError):
        next(records)
