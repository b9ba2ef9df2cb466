"""Columns to Avro bytes: many records at once, without a Python step per field.

A record of Avro is the plain concatenation of its fields, so a batch is laid out as a
matrix of bytes with a mask of those that belong to the record, and flattened. Each packet
is an object container (Avro 1.11, "Object Container Files") with one record in one block.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from broker.flatavro import varint
from crossmatch.model import BoolArray, FloatArray, IntArray

ByteMatrix: TypeAlias = NDArray[np.uint8]
SYNC = bytes.fromhex("170817124104430000012345678aBcDe")


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one field: an array, one value for all, or None for null everywhere.

    ``valid`` marks the rows of an array that are not null.
    """

    values: FloatArray | IntArray | NDArray[np.bytes_] | float | int | str | None
    valid: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class _Slot:
    """Name, Avro primitive type, and the branch numbers of a union with null."""

    name: str
    kind: str
    null_branch: int | None


@cache
def schema_json() -> str:
    """The schema as a container carries it: compact, without documentation and defaults."""
    text = resources.files("gateway.night").joinpath("ztf.avsc").read_text("utf-8")
    return json.dumps(_bare(json.loads(text)), separators=(",", ":"))


def _bare(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _bare(v) for k, v in node.items() if k not in ("doc", "default")}
    return [_bare(v) for v in node] if isinstance(node, list) else node


@cache
def slots(record: str) -> tuple[_Slot, ...]:
    """Fields of the record ``candidate`` or ``prv_candidate`` in order."""
    schema = json.loads(schema_json())
    outer = {f["name"]: f["type"] for f in schema["fields"]}
    found = outer["candidate"] if record == "candidate" else outer["prv_candidates"][1]["items"]
    return slots_of(found["fields"])


def slots_of(fields: Iterable[Mapping[str, Any]]) -> tuple[_Slot, ...]:
    """Layout of a record's fields, each a primitive type or its union with null."""
    return tuple(_slot(f["name"], f["type"]) for f in fields)


def _slot(name: str, kind: Any) -> _Slot:
    if isinstance(kind, str):
        return _Slot(name, kind, None)
    (plain,) = (k for k in kind if k != "null")
    return _Slot(name, plain, kind.index("null"))


HEAD = tuple(
    _Slot(name, kind, None)
    for name, kind in (
        ("schemavsn", "string"),
        ("publisher", "string"),
        ("objectId", "string"),
        ("candid", "long"),
    )
)


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value


@cache
def container_header() -> bytes:
    """What precedes the block: magic, metadata, synchronisation marker."""
    meta = varint(2) + _text(b"avro.codec") + _text(b"null") + _text(b"avro.schema")
    return b"Obj\x01" + meta + _text(schema_json().encode("ascii")) + b"\x00" + SYNC


def container(body: bytes) -> bytes:
    """An object container with one record."""
    return b"".join((container_header(), b"\x02", varint(len(body)), body, SYNC))


def encode(
    layout: tuple[_Slot, ...], columns: Mapping[str, Column], rows: int
) -> tuple[bytes, IntArray]:
    """All records one after another, and where each ends.

    Parameters
    ----------
    layout : tuple of slots
        The fields in order; a field without a column is null.
    columns : mapping
        By field name; arrays have ``rows`` values.
    rows : int
        Number of records.

    Returns
    -------
    bytes
        The bodies, concatenated.
    (rows + 1,) int64
        Offsets: record i is ``[offsets[i], offsets[i + 1])``.
    """
    parts = [_encode_column(slot, columns.get(slot.name, Column(None)), rows) for slot in layout]
    width = sum(data.shape[1] for data, _ in parts)
    matrix = np.empty((rows, width), dtype=np.uint8)
    used = np.ones((rows, width), dtype=np.bool_)
    at = 0
    for data, length in parts:
        here = slice(at, at + data.shape[1])
        matrix[:, here] = data
        if length is not None:
            used[:, here] = np.arange(data.shape[1]) < length[:, None]
        at = here.stop
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(used.sum(axis=1), out=offsets[1:])
    return matrix[used].tobytes(), offsets


def _encode_column(slot: _Slot, column: Column, rows: int) -> tuple[ByteMatrix, IntArray | None]:
    """(rows or 1, w) bytes, and the length of each row where they differ."""
    if column.values is None:
        if slot.null_branch is None:
            raise ValueError(f"{slot.name} cannot be null")
        return np.array([[2 * slot.null_branch]], dtype=np.uint8), None
    if not isinstance(column.values, np.ndarray):
        return _constant(slot, column.values), None
    data, length = _encode_values(slot.kind, column.values)
    if slot.null_branch is None:
        return data, length
    branch = np.full((rows, 1), 2 * (1 - slot.null_branch), dtype=np.uint8)
    if column.valid is not None:
        branch[~column.valid] = 2 * slot.null_branch
        full = np.full(rows, data.shape[1]) if length is None else length
        length = np.where(column.valid, full, 0)
    return np.hstack([branch, data]), None if length is None else length + 1


def _constant(slot: _Slot, value: float | int | str) -> ByteMatrix:
    if slot.kind == "string":
        raw = _text(str(value).encode("ascii"))
    elif slot.kind in ("int", "long"):
        raw = varint(int(value))
    elif slot.kind == "boolean":
        raw = b"\x01" if value else b"\x00"
    else:
        raw = np.array(value, dtype="<f4" if slot.kind == "float" else "<f8").tobytes()
    if slot.null_branch is not None:
        raw = varint(1 - slot.null_branch) + raw
    return np.frombuffer(raw, dtype=np.uint8)[None, :]


def _encode_values(kind: str, values: NDArray[Any]) -> tuple[ByteMatrix, IntArray | None]:
    if kind in ("float", "double"):
        size = 4 if kind == "float" else 8
        packed = np.ascontiguousarray(values, dtype=f"<f{size}")
        return packed.view(np.uint8).reshape(-1, size), None
    if kind == "string":
        width = values.dtype.itemsize
        if width > 63:
            raise ValueError("texts of one length byte only")
        length = np.char.str_len(values).astype(np.int64)
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1, width)
        return np.hstack([(2 * length).astype(np.uint8)[:, None], raw]), length + 1
    return _varints(values.astype(np.int64))


def _varints(values: IntArray) -> tuple[ByteMatrix, IntArray | None]:
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    width = max(1, (int(zigzag.max(initial=0)).bit_length() + 6) // 7)
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    groups = zigzag[:, None] >> shifts
    length = np.maximum(1, (groups > 0).sum(axis=1)).astype(np.int64)
    data = (groups & np.uint64(0x7F)).astype(np.uint8)
    data |= np.where(np.arange(width) < length[:, None] - 1, np.uint8(0x80), np.uint8(0))
    return data, None if width == 1 else length
