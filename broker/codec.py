"""Records of our topics as Avro object containers, one record each.

``fastavro.reader(io.BytesIO(value))`` reads every one of them without our code.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, cast

import fastavro

from broker.flatavro import body_writer, varint
from crossmatch.columns import CANDIDATE_FIELDS, Field
from crossmatch.errors import Rejected

_AVRO_TYPES: Mapping[str, Any] = {
    "string": "string",
    "double": "double",
    "int": "int",
    "long": "long",
    "boolean": "boolean",
    "bytes": "bytes",
    "strings": {"type": "array", "items": "string"},
}
_SYNC = b"mmgateway.v1-rec"  # A constant marker: the same record always gives the same bytes.


def avro_schema(name: str, fields: tuple[Field, ...], *, docs: bool = True) -> dict[str, Any]:
    """Avro record schema of a column table; optional fields are unions with null.

    With ``docs`` fields say what they are: meaning, unit and UCD.
    """

    def column(f: Field) -> dict[str, Any]:
        kind = _AVRO_TYPES[f.kind]
        doc = "; ".join(part for part in (f.doc, f.unit and f"unit {f.unit}", f.ucd) if part)
        base = {"name": f.name, **({"doc": doc} if docs else {})}
        if f.required:
            return base | {"type": kind}
        return base | {"type": ["null", kind], "default": None}

    return {
        "type": "record",
        "name": name,
        "namespace": "mmgateway.v1",
        "fields": [column(f) for f in fields],
    }


_FILES = ("deadletter", "region", "verdict")
"""Schemas that stand in files."""


@cache
def _schema(name: str) -> Any:
    if name == "candidate":
        # Without what it says of each field, a message is half as large; the reference says it.
        return parsed(avro_schema("Candidate", CANDIDATE_FIELDS, docs=False))
    text = resources.files("broker").joinpath(f"schemas/{name}.avsc").read_text("utf-8")
    return parsed(json.loads(text))


def parsed(schema: dict[str, Any]) -> Any:
    """``schema`` as fastavro writes with it: in every process the same text in the container."""
    return _ordered(fastavro.parse_schema(schema))


def _ordered(schema: Any) -> Any:
    """The library leaves some keys in the order of a set, which changes with each process."""
    if isinstance(schema, list):
        return [_ordered(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Its own notes, which it does not write, are left as they are.
    return {
        key: value if key.startswith("__") else _ordered(value)
        for key, value in sorted(schema.items())
    }


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """``record`` as an Avro object container with the schema ``name``, always the same bytes."""
    body = _body_writer(name)(record)
    # One block: one record, its length, itself, and the mark that the header announced. To
    # write the header anew for each record would take four times as long.
    return b"".join((_header(name), varint(1), varint(len(body)), body, _SYNC))


@cache
def _body_writer(name: str) -> Callable[[Mapping[str, Any]], bytes]:
    schema = _schema(name)
    if name == "candidate":
        return body_writer(schema)

    def body(record: Mapping[str, Any]) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, record, strict_allow_default=True)
        return buffer.getvalue()

    return body


@cache
def _header(name: str) -> bytes:
    """What every container of a schema begins with."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, _schema(name), [], sync_marker=_SYNC)
    return buffer.getvalue()


def decode(data: bytes) -> dict[str, Any]:
    """The one record of an Avro object container.

    Raises
    ------
    Rejected
        ``not_avro`` when it is none.
    """
    try:
        header = data[: data.find(_SYNC) + len(_SYNC)]
        schema = _schemas_by_header().get(header)
        (record,) = (
            fastavro.reader(io.BytesIO(data)) if schema is None else _block(data, header, schema)
        )
    except (ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise Rejected("not_avro", f"not an Avro container with one record: {error}") from error
    return cast(dict[str, Any], record)


@cache
def _schemas_by_header() -> Mapping[bytes, Any]:
    """Schemas of what this version writes: to read each header anew takes most of the time."""
    return {_header(name): _schema(name) for name in ("candidate", *_FILES)}


def _block(data: bytes, header: bytes, schema: Any) -> list[Any]:
    """Records of the one block that follows a header."""
    body = io.BytesIO(data)
    body.seek(len(header))
    count, size = (cast(int, fastavro.schemaless_reader(body, "long", None)) for _ in range(2))
    end = body.tell() + size
    records = [fastavro.schemaless_reader(body, schema, None) for _ in range(min(count, 2))]
    if body.tell() != end or data[end:] != _SYNC:
        raise ValueError("the block does not end where it says")
    return records


def encode_candidate(candidate: Mapping[str, Any]) -> bytes:
    """A candidate statement with the columns of ``CANDIDATE_FIELDS``."""
    return encode("candidate", candidate)


def encode_dead_letter(
    *,
    reason: str,
    detail: str,
    source: str,
    raw: bytes,
    received: datetime,
    topic: str = "",
    partition: int = -1,
    offset: int = -1,
    streams: Iterable[str] = (),
) -> bytes:
    """A rejected input with its reason and bytes; ``streams`` are those that may see it."""
    return encode(
        "deadletter",
        {
            "reason": reason,
            "detail": detail,
            "source": source,
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "received": iso(received),
            "raw": raw,
            "streams": list(streams),
        },
    )


def iso(moment: datetime) -> str:
    """ISO 8601 UTC with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_iso(text: str) -> datetime:
    """The inverse of :func:`iso`."""
    return datetime.fromisoformat(text)
