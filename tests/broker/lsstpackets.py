"""Real LSST packets with other values in them, written again as their survey writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro

from broker.containers import is_container

_MESSAGE_START_BYTES = 5


def with_source(value: bytes, schemas: Mapping[int, str], **changed: Any) -> bytes:
    """The packet with other values in its ``diaSource``.

    Parameters
    ----------
    value : bytes
        Object container or Confluent wire format; the result has the same form and schema.
    schemas : mapping
        Schema JSON by registry number, for the wire format.
    **changed
        Values by name; every name must be a field of the packet's schema.
    """
    if is_container(value):
        reader = fastavro.reader(io.BytesIO(value))
        schema = reader.writer_schema
        records = [_changed(record, changed) for record in reader]
        stream = io.BytesIO()
        fastavro.writer(stream, schema, records, codec=reader.codec)
        return stream.getvalue()
    start = value[:_MESSAGE_START_BYTES]
    return _message(value, start, schemas[int.from_bytes(start[1:], "big")], changed)


def as_message(value: bytes, number: int, schemas: Mapping[int, str], **changed: Any) -> bytes:
    """The record of a container in Confluent wire format, with a schema by its registry number."""
    (record,) = fastavro.reader(io.BytesIO(value))
    return _written(_changed(record, changed), number.to_bytes(5, "big"), schemas[number])


def _message(value: bytes, start: bytes, text: str, changed: Mapping[str, Any]) -> bytes:
    body = io.BytesIO(value[_MESSAGE_START_BYTES:])
    record = fastavro.schemaless_reader(body, fastavro.parse_schema(json.loads(text)), None)
    return _written(_changed(record, changed), start, text)


def _written(record: Any, start: bytes, text: str) -> bytes:
    stream = io.BytesIO(start)
    stream.seek(len(start))
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(text)), record)
    return stream.getvalue()


def _changed(record: Any, changed: Mapping[str, Any]) -> dict[str, Any]:
    source = record["diaSource"]
    if not changed.keys() <= source.keys():
        raise KeyError(f"{changed.keys() - source.keys()} not in diaSource")
    return record | {"diaSource": source | changed}
