"""Alert packets to native columns in Spark's JVM, reading only the prefix that matching needs.

An Avro record is sequential and has no trailer: a writer's schema cut after the last
field needed decodes just that prefix. A container with one record in one block *is
itself* one Avro record (magic, header, sync marker, count, size, body), and so is a
message in the Confluent wire format (five bytes, body); Spark reads both without a copy.

What is read is decided by the exact schema that the writer used: ZTF has sent at least
three layouts that all call themselves 3.3, and a wrong one decodes to wrong numbers
without an error. A packet with a schema that is not known here, with a codec, or
with several records takes the way through Python.
"""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql.avro.functions import from_avro

from broker import containers, packets
from broker.surveys import NATIVE_SCHEMAS
from crossmatch.errors import AlertError, ServiceError

JVM, PYTHON = "jvm", "python"
_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
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
_SPARK = {
    pa.string(): "string",
    pa.int64(): "bigint",
    pa.int32(): "int",
    pa.float64(): "double",
    pa.bool_(): "boolean",
}
_HEADER_LEAVES: dict[str, Any] = {
    "meta": {"type": "map", "values": "bytes"},
    "sync": {"type": "fixed", "name": "mmgateway.sync", "size": _SYNC_BYTES},
    "n": "long",
    "size": "long",
}
# Only ELAsTiCC's simulated packets, whose fluxes have another zero point, have this field.
_ELASTICC_SIGN = "hostgal_zphot_q10"
_Named = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Leaf:
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
    """

    writer: Mapping[str, Any]
    reader: Mapping[str, Any]
    flux_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class _KnownText:
    """A schema as it stands in a container's header, known by its length and CRC-32."""

    length: int
    crc32: int
    layout: Layout

    @property
    def key(self) -> int:
        """Both in one number."""
        return int(_key(self.length, self.crc32))


def ztf_columns(value: Column, schemas: Sequence[str] = ()) -> list[Column]:
    """Fields of `ztf_packet` as columns of their own; select them without a condition around."""
    return _unpacked("ztf", ztf_packet(value, schemas))


def lsst_columns(
    value: Column, schemas: Mapping[int, str], container_schemas: Sequence[str] = ()
) -> list[Column]:
    """Fields of `lsst_packet` as columns of their own; select them without a condition around."""
    return _unpacked("lsst", lsst_packet(value, schemas, container_schemas))


def _unpacked(survey: str, packet: Column) -> list[Column]:
    names = [*NATIVE_SCHEMAS[survey].names[:-_ADDRESS], "raw", "route"]
    return [packet.getField(name).alias(name) for name in names]


def ztf_packet(value: Column, schemas: Sequence[str] = ()) -> Column:
    """Struct of the native leaves of ZTF packets, ``raw`` and ``route``.

    Parameters
    ----------
    value : Column
        Packets, binary: Avro object containers.
    schemas : sequence of str
        Texts of writers' schemas to be read in the JVM besides those that ZTF has sent,
        exactly as in the packets' header (`writer_schema`).

    Returns
    -------
    Column
        Fields named and typed as `broker.surveys.NATIVE_SCHEMAS`, without the address. ``route``
        is ``jvm`` or ``python``; in the latter case all leaves are null and ``raw`` has the
        packet. A broken packet has route ``jvm`` and nulls.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves`` if one of ``schemas`` is no alert schema of the survey.
    """
    texts = [*_ztf_texts(), *(_known_text("ztf", text) for text in schemas)]
    return _packet("ztf", value, {}, texts)


def lsst_packet(
    value: Column, schemas: Mapping[int, str], container_schemas: Sequence[str] = ()
) -> Column:
    """Struct of the native leaves of LSST packets, ``raw`` and ``route``, as `ztf_packet`.

    Parameters
    ----------
    value : Column
        Packets, binary: Confluent wire format or Avro object containers.
    schemas : mapping
        Self-contained schema JSON by registry id, for the Confluent wire format.
    container_schemas : sequence of str
        Texts of schemas in the headers of containers to be read in the JVM.

    Notes
    -----
    The wire format has no length: a message that was cut behind the last field needed is
    read as a good one.
    """
    layouts = {number: _layout("lsst", text) for number, text in schemas.items()}
    texts = [_known_text("lsst", text) for text in container_schemas]
    return _packet("lsst", value, layouts, texts)


def writer_schema(value: bytes) -> str | None:
    """Text of the schema in a container's header; None if ``value`` is not a container.

    Give it to `ztf_columns` so that later packets of this writer are read in the JVM.
    """
    if not containers.is_container(value):
        return None
    marker = b"\x16avro.schema"
    start = value.find(marker)
    if start < 0:
        return None
    length, shift, at = 0, 0, start + len(marker)
    while at < len(value):
        length |= (value[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if value[at - 1] < 0x80:
            break
    text = value[at : at + (length >> 1)]
    return text.decode("utf-8", "replace") if len(text) == length >> 1 else None


def check_schema(survey: str, text: str) -> None:
    """Raise AlertError when packets with this writer's schema cannot be read in the JVM."""
    _known_text(survey, text)


def lsst_schema_folder(path: Path) -> dict[int, str]:
    """Self-contained LSST schemas by registry id (100 x major + minor) from ``v*_*/*.avsc``.

    Raises
    ------
    AlertError
        As `broker.packets.read_lsst_schemas`.
    """
    return packets.read_lsst_schemas(path)


def lsst_schema_registry(
    address: str, ids: Sequence[int], timeout_seconds: float = 10.0
) -> dict[int, str]:
    """Schemas by id from a Confluent schema registry, ``GET <address>/schemas/ids/<id>``.

    Parameters
    ----------
    address : str
        http or https, without the trailing path.
    ids : sequence of int
        Those to ask for; an empty one asks for all that the registry has.

    Raises
    ------
    ServiceError
        If the registry does not answer, or answers with something else.
    """
    if not address.startswith(("http://", "https://")):
        raise ServiceError(f"schema registry {address}: an address starts with http:// or https://")
    base = address.rstrip("/")
    if not ids:
        ids = sorted({int(entry["id"]) for entry in _get_json(f"{base}/schemas", timeout_seconds)})
    schemas = {}
    for number in ids:
        answer = _get_json(f"{base}/schemas/ids/{number}", timeout_seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise ServiceError(f"{base}/schemas/ids/{number}: no schema in the answer")
        if answer.get("references"):
            raise ServiceError(f"{base}/schemas/ids/{number}: a schema in parts is not supported")
        schemas[number] = answer["schema"]
    return schemas


def _get_json(url: str, timeout_seconds: float) -> Any:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            return json.loads(answer.read(16 << 20))
    except urllib.error.HTTPError as error:
        raise ServiceError(f"{url}: HTTP status {error.code}") from error
    except (OSError, ValueError) as error:
        raise ServiceError(f"{url}: {error}") from error


# Columns ------------------------------------------------------------------------------------

# What a packet is: the number of the layout that reads it, or one of these.
_FOR_PYTHON, _BROKEN = -2, -1


def _packet(
    survey: str, value: Column, layouts: Mapping[int, Layout], texts: Sequence[_KnownText]
) -> Column:
    """Struct of leaves, ``raw`` and ``route``; each step is evaluated once (`_let`)."""
    distinct: list[Layout] = []
    for known in texts:
        if known.layout not in distinct:
            distinct.append(known.layout)
    numbers = {t.key: len(layouts) + distinct.index(t.layout) for t in texts}
    kinds = [
        (value.startswith(sf.lit(b"\x00" + schema_id.to_bytes(4, "big"))), sf.lit(number))
        for number, schema_id in enumerate(layouts)
    ]
    kinds += [
        (value.startswith(sf.lit(_MAGIC)), _let(_header(value), _container_kind(value, numbers))),
        (value.startswith(sf.lit(b"\x00")), sf.lit(_FOR_PYTHON)),
    ]
    kind = _first(kinds).otherwise(sf.lit(_BROKEN))
    cases = [(_body(value, _message(x), x), x) for x in layouts.values()]
    cases += [(_body(value, _container(x), x), x) for x in distinct]

    def packet(kind: Column) -> Column:
        def struct(body: Column) -> Column:
            for_python = kind == _FOR_PYTHON
            return sf.struct(
                *_leaf_columns(survey, body, kind, [layout for _, layout in cases]),
                sf.when(for_python, value).alias("raw"),
                sf.when(for_python, PYTHON).otherwise(JVM).alias("route"),
            )

        if not cases:
            return struct(sf.lit(None))
        return _let(_first([(kind == i, body) for i, (body, _) in enumerate(cases)]), struct)

    return _let(kind, packet)


def _let(value: Column, then: Callable[[Column], Column]) -> Column:
    """``then(value)`` with ``value`` evaluated, and written into the plan, only once.

    Spark itself finds common subexpressions, but not below a condition; without this a plan
    for ZTF had five megabytes and took 20 s to make.
    """
    return sf.transform(sf.array(value), then).getItem(0)


def _first(cases: Sequence[tuple[Column, Column]]) -> Column:
    (condition, result), *others = cases
    return reduce(lambda chain, case: chain.when(*case), others, sf.when(condition, result))


def _leaf_columns(
    survey: str, body: Column, kind: Column, layouts: Sequence[Layout]
) -> list[Column]:
    scaled = [i for i, layout in enumerate(layouts) if layout.flux_scale != 1.0]
    columns = []
    for field in list(NATIVE_SCHEMAS[survey])[:-_ADDRESS]:
        places = [leaf.place for leaf in _leaves(survey) if leaf.native == field.name]
        column = sf.lit(None)
        if layouts:
            column = sf.coalesce(*(reduce(Column.getField, place, body) for place in places))
        if scaled and field.name in ("psfFlux", "psfFluxErr"):
            factor = sf.when(kind.isin(scaled), layouts[scaled[0]].flux_scale).otherwise(1.0)
            column = column * factor
        columns.append(column.cast(_SPARK[field.type]).alias(field.name))
    return columns


def _header(value: Column) -> Column:
    """A container's header, and the count and size of its first block."""
    return _from_avro(value, _container_fields([]), _fields(_HEADER_LEAVES))


def _container_kind(value: Column, numbers: Mapping[int, int]) -> Callable[[Column], Column]:
    """From the decoded header to the number of the layout, by the schema's length and CRC-32."""

    def kind(header: Column) -> Column:
        meta, count, size = (header.getField(n) for n in ("meta", "n", "size"))
        text, codec = meta.getItem("avro.schema"), meta.getItem("avro.codec")
        length = sf.octet_length(text)
        # Some writers leave the codec out for "null". With further entries, or with entries in
        # several blocks, the length is another one: that takes the way through Python.
        entries = sf.when(codec.isNull(), 1).otherwise(2)
        is_plain = (sf.size(meta) == entries) & (sf.coalesce(codec, sf.lit(b"null")) == b"null")
        before_block = (
            sf.lit(len(_MAGIC) + 1 + 1 + 11 + 1 + _SYNC_BYTES)
            + (_varint_bytes(length) + length)
            + sf.when(codec.isNull(), 0).otherwise(1 + 10 + 1 + 4)
        )
        block = 1 + _varint_bytes(size) + size + _SYNC_BYTES
        excess = sf.octet_length(value) - before_block - block
        at_end = sf.substring(value, -_SYNC_BYTES, _SYNC_BYTES) == header.getField("sync")
        is_one_block = is_plain & (count == 1) & (excess == 0)
        too_short = is_plain & (excess < 0)
        return (
            sf.when(count.isNull() | (count < 0) | too_short, _BROKEN)
            .when(is_one_block & ~at_end, _BROKEN)
            .when(is_one_block, _number_of(_key(length, sf.crc32(text)), numbers))
            .otherwise(_FOR_PYTHON)
        )

    return kind


def _key(length: Any, crc32: Any) -> Any:
    return length * (1 << 32) + crc32


def _number_of(key: Column, numbers: Mapping[int, int]) -> Column:
    if not numbers:
        return sf.lit(_FOR_PYTHON)
    pairs = [sf.lit(x) for pair in numbers.items() for x in pair]
    return sf.coalesce(sf.create_map(*pairs).getItem(key), sf.lit(_FOR_PYTHON))


def _varint_bytes(number: Column) -> Column:
    """Bytes that Avro needs for a number from 0 to 2**34."""
    sizes = [(number < 1 << (7 * n - 1), sf.lit(n)) for n in range(1, 5)]
    return _first(sizes).otherwise(sf.lit(5))


# Avro schemas -------------------------------------------------------------------------------


def _message(layout: Layout) -> list[dict[str, Any]]:
    head = {"type": "fixed", "name": "mmgateway.head", "size": 5}
    return [{"name": "head", "type": head}, {"name": "body", "type": layout.writer}]


def _container(layout: Layout) -> list[dict[str, Any]]:
    return _container_fields([{"name": "body", "type": layout.writer}])


def _container_fields(body: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": "magic", "type": {"type": "fixed", "name": "mmgateway.magic", "size": 4}},
        *_fields(_HEADER_LEAVES),
        *body,
    ]


def _fields(types: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def _body(value: Column, written: list[dict[str, Any]], layout: Layout) -> Column:
    read = _from_avro(value, written, [{"name": "body", "type": layout.reader}])
    return read.getField("body")


def _from_avro(value: Column, written: list[dict[str, Any]], read: list[dict[str, Any]]) -> Column:
    schemas = [
        json.dumps({"type": "record", "name": "mmgateway.packet", "fields": fields})
        for fields in (written, read)
    ]
    # PERMISSIVE gives a struct of nulls for what does not decode.
    return from_avro(value, schemas[0], {"avroSchema": schemas[1], "mode": "PERMISSIVE"})


@cache
def _leaves(survey: str) -> tuple[_Leaf, ...]:
    """Leaves of a survey; several names in one struct are one leaf, the later ones older."""
    leaves = []
    for field in list(NATIVE_SCHEMAS[survey])[:-_ADDRESS]:
        by_struct: dict[tuple[str, ...], list[str]] = {}
        for *parents, name in packets._PLACES[survey][field.name]:
            by_struct.setdefault(tuple(parents), []).append(name)
        leaves += [
            _Leaf(field.name, (*parents, names[0]), tuple(names[1:]), _AVRO[field.type])
            for parents, names in by_struct.items()
        ]
    return tuple(leaves)


@cache
def _ztf_texts() -> tuple[_KnownText, ...]:
    """The schemas that ZTF has sent."""
    file = resources.files("broker").joinpath("schemas/ztf_layouts.toml")
    known = []
    for entry in tomllib.loads(file.read_text("utf-8"))["layouts"]:
        inner = _plain_fields(entry["candidate"], {})
        candidate = {"type": "record", "name": "ztf.candidate", "fields": inner}
        fields = _plain_fields(entry["alert"], candidate)
        layout = _cut("ztf", {"type": "record", "name": "ztf.alert", "fields": fields})
        known += [_KnownText(length, crc32, layout) for length, crc32 in entry["texts"]]
    return tuple(known)


def _plain_fields(text: str, candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = []
    for item in text.split():
        name, _, kind = item.partition(":")
        kinds = kind.split("|")
        fields.append({"name": name, "type": kinds if len(kinds) > 1 else kind or candidate})
    return fields


def _known_text(survey: str, text: str) -> _KnownText:
    data = text.encode()
    return _KnownText(len(data), zlib.crc32(data), _layout(survey, text))


def _layout(survey: str, text: str) -> Layout:
    return _cut(survey, containers.checked_schema(text))


def _cut(survey: str, schema: Mapping[str, Any]) -> Layout:
    """Prefix of a writer's schema, and the reader's schema that takes the leaves from it."""
    if schema.get("type") != "record":
        raise AlertError("bad_schema", "an alert schema is a record")
    written = {f["name"]: f["type"] for f in schema["fields"]}
    named = _named_types(schema, {})
    tree: dict[str, list[_Leaf]] = {}
    for leaf in _leaves(survey):
        tree.setdefault(leaf.place[0], []).append(leaf)
    wanted = [i for i, name in enumerate(written) if name in tree]
    if not wanted:
        raise AlertError("no_leaves", f"the schema has no field of a {survey} alert")
    kept = [{"name": n, "type": _plain(t)} for n, t in list(written.items())[: wanted[-1] + 1]]
    last = kept[-1]
    last["type"] = _cut_inside(last["type"], tree[last["name"]])
    reader = [_read(name, leaves, written.get(name), named) for name, leaves in tree.items()]
    simulated = survey == "lsst" and _ELASTICC_SIGN in _inner(written.get("diaObject"), named)
    return Layout(
        {"type": "record", "name": schema["name"], "fields": kept},
        {"type": "record", "name": schema["name"], "fields": reader},
        packets._ELASTICC_TO_NJY if simulated else 1.0,
    )


def _read(name: str, leaves: Sequence[_Leaf], written: Any, named: _Named) -> dict[str, Any]:
    """Field of the reader's schema: a leaf, or a struct of leaves; null where not written."""
    if leaves[0].place == (name,):
        return _read_leaf(leaves[0], {} if written is None else {name: written})
    record = _record(written, named)
    inner = _inner(written, named)
    struct = {
        "type": "record",
        # Avro matches records by name; only where there is none may it be any.
        "name": record["name"] if record else f"mmgateway.{name}",
        "fields": [_read_leaf(leaf, inner) for leaf in leaves],
    }
    return {"name": name, "type": ["null", struct], "default": None}


def _read_leaf(leaf: _Leaf, written: Mapping[str, Any]) -> dict[str, Any]:
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


def _cut_inside(kind: Any, leaves: Sequence[_Leaf]) -> Any:
    """The last type of a prefix without its fields behind the last leaf; nothing follows it."""
    if isinstance(kind, list):
        return [_cut_inside(branch, leaves) for branch in kind]
    if not isinstance(kind, dict) or kind["type"] != "record":
        return kind
    names = {name for leaf in leaves for name in (leaf.place[-1], *leaf.older)}
    wanted = [i for i, field in enumerate(kind["fields"]) if field["name"] in names]
    return kind | {"fields": kind["fields"][: wanted[-1] + 1]} if wanted else kind


def _named_types(node: Any, found: dict[str, Any]) -> dict[str, Any]:
    if isinstance(node, list):
        for branch in node:
            _named_types(branch, found)
    elif isinstance(node, dict):
        if "name" in node:
            found[node["name"]] = node
        for field in node.get("fields", ()):
            _named_types(field["type"], found)
        _named_types(node.get("items", node.get("values")), found)
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
    return {f["name"]: f["type"] for f in record["fields"]} if record else {}


def _plain(node: Any) -> Any:
    """Schema without what the library that parsed it has added."""
    if isinstance(node, list):
        return [_plain(branch) for branch in node]
    if not isinstance(node, dict):
        return node
    kept = ("type", "name", "fields", "items", "values", "symbols", "size")
    return {k: _plain(v) if k != "symbols" else v for k, v in node.items() if k in kept}
