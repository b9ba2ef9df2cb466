"""How to read the native leaves of alerts from each writer's Avro records.

A schema cut after the last field needed decodes just that prefix of a record. What
is read is decided by the exact schema that the writer used: ZTF has sent at least
three layouts that all call themselves 3.3, and a wrong one decodes to wrong numbers
without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from broker import containers, packets
from broker.history import ELASTICC_SIGN, ELASTICC_TO_NJY
from broker.surveys import NATIVE_SCHEMAS
from crossmatch.errors import AlertError

_ADDRESS = 3  # topic, partition and offset end NATIVE_SCHEMAS
_AVRO = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.int32(): "int",
    pa.float64(): "double",
    pa.bool_(): "boolean",
}
# What Avro's schema resolution reads as the type named first.
_PROMOTED = {
    "double": {"double", "float", "int", "long"},
    "long": {"long", "int"},
    "int": {"int"},
    "string": {"string", "bytes"},
    "boolean": {"boolean"},
}
_Named = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A native column's place in a packet, older names of its last part, its Avro type."""

    native: str
    place: tuple[str, ...]
    older: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read the native leaves from one writer's records.

    ``writer`` is its schema, cut after the last field needed; ``reader`` has the leaves alone,
    nullable, the same shape for every writer of a survey. ``flux_scale`` brings its fluxes to nJy.
    ``rest_bytes`` is what the fields that were cut off take at least.
    """

    writer: Mapping[str, Any]
    reader: Mapping[str, Any]
    flux_scale: float = 1.0
    rest_bytes: int = 0


def native_fields(survey: str) -> list[pa.Field]:
    """Native columns that a packet has itself: all but its address."""
    return list(NATIVE_SCHEMAS[survey])[:-_ADDRESS]


@cache
def leaves(survey: str) -> tuple[Leaf, ...]:
    """Leaves of a survey; several names in one struct are one leaf, the later ones older."""
    found = []
    for field in native_fields(survey):
        by_struct: dict[tuple[str, ...], list[str]] = {}
        for *parents, name in packets.PLACES[survey][field.name]:
            by_struct.setdefault(tuple(parents), []).append(name)
        found += [
            Leaf(field.name, (*parents, names[0]), tuple(names[1:]), _AVRO[field.type])
            for parents, names in by_struct.items()
        ]
    return tuple(found)


def layout_of(survey: str, text: str) -> Layout:
    """The layout that a schema describes.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves`` when it is no alert schema of the survey.
    """
    return _cut(survey, containers.checked_schema(text))


def _cut(survey: str, schema: Mapping[str, Any]) -> Layout:
    """Prefix of a writer's schema, and the reader's schema that takes the leaves from it."""
    if not isinstance(schema, Mapping) or schema.get("type") != "record":
        raise AlertError("bad_schema", "an alert schema is a record")
    written = fields_of(schema)
    named = named_types(schema, {})
    tree: dict[str, list[Leaf]] = {}
    for leaf in leaves(survey):
        tree.setdefault(leaf.place[0], []).append(leaf)
    wanted = [i for i, name in enumerate(written) if name in tree]
    if not wanted:
        raise AlertError("no_leaves", f"the schema has no field of a {survey} alert")
    kept = [{"name": n, "type": plain(t)} for n, t in list(written.items())[: wanted[-1] + 1]]
    last = kept[-1]
    last["type"] = _cut_inside(last["type"], tree[last["name"]], named)
    reader = [_read(name, parts, written.get(name), named) for name, parts in tree.items()]
    simulated = survey == "lsst" and ELASTICC_SIGN in _inner(written.get("diaObject"), named)
    return Layout(
        {"type": "record", "name": schema["name"], "fields": kept},
        {"type": "record", "name": schema["name"], "fields": reader},
        ELASTICC_TO_NJY if simulated else 1.0,
        _least_bytes(list(written.values())[wanted[-1] + 1 :], named),
    )


def distinct(found: Iterable[Layout]) -> list[Layout]:
    """Layouts, each once, in the order in which they come first; they cannot be hashed."""
    known: list[Layout] = []
    for layout in found:
        if layout not in known:
            known.append(layout)
    return known


def _read(name: str, parts: Sequence[Leaf], written: Any, named: _Named) -> dict[str, Any]:
    """Field of the reader's schema: a leaf, or a struct of leaves; null where not written."""
    if parts[0].place == (name,):
        return _read_leaf(parts[0], {} if written is None else {name: written})
    record = _record(written, named)
    inner = _inner(written, named)
    struct = {
        "type": "record",
        # Avro matches records by name; only where there is none may it be any.
        "name": record["name"] if record else f"mmgateway.{name}",
        "fields": [_read_leaf(leaf, inner) for leaf in parts],
    }
    return {"name": name, "type": ["null", struct], "default": None}


def _read_leaf(leaf: Leaf, written: Mapping[str, Any]) -> dict[str, Any]:
    name = leaf.place[-1]
    field = {"name": name, "type": ["null", leaf.kind], "default": None}
    found = next((n for n in (name, *leaf.older) if n in written), None)
    if found is None:
        return field
    kinds = written[found] if isinstance(written[found], list) else [written[found]]
    for kind in kinds:
        if kind != "null" and (not isinstance(kind, str) or kind not in _PROMOTED[leaf.kind]):
            raise AlertError("bad_schema", f"{found} is written as {str(kind)[:80]}")
    return field if found == name else field | {"aliases": [found]}


def _cut_inside(kind: Any, parts: Sequence[Leaf], named: _Named) -> Any:
    """The last type of a prefix without its fields behind the last leaf.

    They are skipped by the bytes that they take at least, so that where a message ends
    too early is noticed.
    """
    if isinstance(kind, list):
        return [_cut_inside(branch, parts, named) for branch in kind]
    if not isinstance(kind, dict) or kind["type"] != "record":
        return kind
    names = {name for leaf in parts for name in (leaf.place[-1], *leaf.older)}
    wanted = [i for i, field in enumerate(kind["fields"]) if field["name"] in names]
    if not wanted:
        return kind
    kept, rest = kind["fields"][: wanted[-1] + 1], kind["fields"][wanted[-1] + 1 :]
    least = _least_bytes([field["type"] for field in rest], named)
    if least:
        skipped = {"type": "fixed", "name": "mmgateway.skipped", "size": least}
        kept = [*kept, {"name": "mmgateway_skipped", "type": skipped}]
    return kind | {"fields": kept}


_LEAST_BYTES = {"null": 0, "float": 4, "double": 8}


def _least_bytes(kinds: Sequence[Any], named: _Named) -> int:
    """Bytes that values of types take at least, all together."""
    # Types may hold others twice, and these others twice: each is looked at once.
    known: dict[str, int] = {}

    def least(kind: Any) -> int:
        if isinstance(kind, list):
            return 1 + min(map(least, kind))
        if isinstance(kind, str):
            if kind in named and kind not in known:
                known[kind] = least(named[kind])
            return known[kind] if kind in named else _LEAST_BYTES.get(kind, 1)
        if kind["type"] == "record":
            return sum(least(field["type"]) for field in kind["fields"])
        return int(kind["size"]) if kind["type"] == "fixed" else 1

    found = sum(map(least, kinds))
    if found > containers.MAX_PACKET_BYTES:
        raise AlertError("bad_schema", f"a record takes at least {found:.1e} bytes")
    return found


def named_types(node: Any, found: dict[str, Any]) -> dict[str, Any]:
    """``found``, and the types that a schema names, by their names."""
    if isinstance(node, list):
        for branch in node:
            named_types(branch, found)
    elif isinstance(node, dict):
        if "name" in node:
            found[node["name"]] = node
        for field in node.get("fields", ()):
            named_types(field["type"], found)
        named_types(node.get("items", node.get("values")), found)
    return found


def _record(kind: Any, named: _Named) -> Mapping[str, Any] | None:
    """The record that a field holds, directly, by name or as a branch of a union."""
    if isinstance(kind, list):
        return next((r for r in (_record(branch, named) for branch in kind) if r), None)
    if isinstance(kind, str):
        return _record(named[kind], named) if kind in named else None
    return kind if isinstance(kind, dict) and kind["type"] == "record" else None


def _inner(kind: Any, named: _Named) -> dict[str, Any]:
    record = _record(kind, named)
    return fields_of(record) if record else {}


def fields_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Types of a record's fields by their names, in order.

    Raises
    ------
    AlertError
        ``bad_schema`` if two have one name: which of them is meant, only Python's reader says.
    """
    fields = {field["name"]: field["type"] for field in record["fields"]}
    if len(fields) < len(record["fields"]):
        raise AlertError("bad_schema", "two fields have one name")
    return fields


def plain(node: Any) -> Any:
    """Schema without what the library that parsed it has added."""
    if isinstance(node, list):
        return [plain(branch) for branch in node]
    if not isinstance(node, dict):
        return node
    kept = ("type", "name", "fields", "items", "values", "symbols", "size")
    return {k: plain(v) if k != "symbols" else v for k, v in node.items() if k in kept}
