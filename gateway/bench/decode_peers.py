"""Whole records of alert packets, as others read them, and the native columns in them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import fastavro
from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql.avro.functions import from_avro

from broker.packets import PLACES, native_row
from broker.surveys import NATIVE_SCHEMAS

CONFLUENT = "confluent-kafka, AvroDeserializer"
_MESSAGE_START_BYTES = 5
_SYNC_BYTES = 16

Read = Callable[[bytes], dict[str, Any]]


def fastavro_container(packet: bytes) -> dict[str, Any]:
    """The record of a container, with its schema, as most brokers read ZTF's alerts."""
    (record,) = fastavro.reader(io.BytesIO(packet))
    return record  # type: ignore[return-value]


def fastavro_body(schema: str, start: Callable[[bytes], int]) -> Read:
    """Reader of the record in a packet, whose schema was parsed before.

    Parameters
    ----------
    schema : str
        Avro schema, JSON.
    start : callable
        Where the record begins in a packet.
    """
    parsed = fastavro.parse_schema(json.loads(schema))

    def read(packet: bytes) -> dict[str, Any]:
        stream = io.BytesIO(packet)
        stream.seek(start(packet))
        return fastavro.schemaless_reader(stream, parsed, None)  # type: ignore[return-value]

    return read


def confluent(schema: str) -> Read | None:
    """``confluent-kafka``'s deserialiser with a registry in memory; None if it is not installed."""
    try:
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
        from confluent_kafka.schema_registry.avro import AvroDeserializer

        client = SchemaRegistryClient.new_client({"url": "mock://bench"})
    except ImportError:
        # Parts of its extra are asked for only when the client is made.
        return None
    number = client.register_schema("alerts-value", Schema(schema, "AVRO"))
    deserialise = AvroDeserializer(client)
    start = b"\x00" + number.to_bytes(4, "big")

    def read(packet: bytes) -> dict[str, Any]:
        # The registry in memory numbers by itself.
        record: Any = deserialise(start + packet[_MESSAGE_START_BYTES:])
        return dict(record)

    return read


def body_start(schema: str) -> Callable[[bytes], int]:
    """Where the record begins in containers that all have this schema and one record."""
    end_of_header = schema.encode() + b"\x00"

    def start(packet: bytes) -> int:
        # One record's count is one byte; then its size.
        at = packet.index(end_of_header) + len(end_of_header) + _SYNC_BYTES + 1
        while packet[at] & 0x80:
            at += 1
        return at + 1

    return start


def native(survey: str, record: dict[str, Any]) -> dict[str, Any]:
    """The columns that matching needs, of a whole record."""
    return native_row(record, survey)


def spark_whole(survey: str, value: Column, schema: str) -> Column:
    """Struct of the whole record by Spark's own ``from_avro``: container or message."""
    if survey == "lsst":
        return from_avro(sf.substring(value, _MESSAGE_START_BYTES + 1, 1 << 30), schema)
    fields: list[dict[str, Any]] = [
        {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "sync", "size": _SYNC_BYTES}},
        {"name": "n", "type": "long"},
        {"name": "size", "type": "long"},
        {"name": "body", "type": json.loads(schema)},
    ]
    container = json.dumps({"type": "record", "name": "container", "fields": fields})
    return from_avro(value, container).getField("body")


def spark_native(survey: str, record: Column) -> Column:
    """The columns that matching needs, of a struct of a whole record in which all are written."""
    names = NATIVE_SCHEMAS[survey].names[:-3]
    return sf.struct(*(_first_place(record, PLACES[survey][n]).alias(n) for n in names))


def _first_place(record: Column, places: Sequence[tuple[str, ...]]) -> Column:
    column = record
    for part in places[0]:
        column = column.getField(part)
    return column
