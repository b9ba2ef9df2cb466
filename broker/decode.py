"""Alert packets to native columns in Spark's JVM, reading only the prefix that matching needs.

A container with one record in one block *is itself* one Avro record (magic, header, sync
marker, count, size, body), and so is a message in the Confluent wire format (five
bytes, body): Spark reads both without a copy. Which layout the body has is told by
the schema in a container's header (`broker.layouts`) or by a message's schema id. A packet
with a schema that is not known here, with a codec, or with several records
takes the way through Python.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as sf
from pyspark.sql.avro.functions import from_avro

from broker import containers, layouts
from broker.layouts import KnownText, Layout
from broker.surveys import NATIVE_SCHEMAS

JVM, PYTHON = "jvm", "python"
_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_MESSAGE_START_BYTES = 5
_ADDRESS = 3  # topic, partition and offset end NATIVE_SCHEMAS
_SPARK = {
    pa.string(): "string",
    pa.int64(): "bigint",
    pa.int32(): "int",
    pa.float64(): "double",
    pa.bool_(): "boolean",
}
# What a packet is: the number of the layout that reads it, or one of these.
_FOR_PYTHON, _BROKEN = -2, -1
_WHOLE, _SEVERAL, _DAMAGED = 0, 1, 2


def ztf_packet(value: Column, schemas: Sequence[str] = ()) -> Column:
    """Struct of the native leaves of ZTF packets, ``route`` and ``schema_id``.

    Parameters
    ----------
    value : Column
        Packets, binary: Avro object containers.
    schemas : sequence of str
        Texts of writers' schemas, exactly as in the packets' header (`writer_schema`): ZTF
        has sent three different ones that all call themselves 3.3.

    Returns
    -------
    Column
        Fields named and typed as `broker.surveys.NATIVE_SCHEMAS`, without the address. ``route``
        is ``jvm``, or ``python`` for a packet that is to be fetched and read there; then all
        leaves are null. A broken packet has route ``jvm`` and nulls. ``schema_id`` is null.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves`` if one of ``schemas`` is no alert schema of the survey.
    """
    return _packet("ztf", value, {}, [layouts.known_text("ztf", text) for text in schemas])


def lsst_packet(
    value: Column, schemas: Mapping[int, str], container_schemas: Sequence[str] = ()
) -> Column:
    """Struct of the native leaves of LSST packets, ``route`` and ``schema_id``, as `ztf_packet`.

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
    ``schema_id`` is the number of a message's schema where the JVM does not read it.

    The wire format has no length. A message must have as many bytes behind the last field
    needed as what is left of a record takes at least; one that was cut further behind, in a light
    curve or cut-out, is read as a good one. Only reading all of it would tell, which costs many
    times what the needed part does; Kafka's own checksums cover what happens on the way.
    """
    messages = {number: layouts.layout_of("lsst", text) for number, text in schemas.items()}
    texts = [layouts.known_text("lsst", text) for text in container_schemas]
    return _packet("lsst", value, messages, texts)


def check_schema(survey: str, text: str) -> None:
    """Raise unless packets with this schema can be read in the JVM.

    Raises
    ------
    AlertError
        ``bad_schema``, ``no_leaves``.
    """
    layouts.known_text(survey, text)


def writer_schema(value: bytes) -> str | None:
    """Text of the schema in a container's header; None if ``value`` is not a container.

    Give it to `ztf_packet` so that later packets of this writer are read in the JVM.
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


# Columns ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Start:
    """The first bytes of containers up to the schema, and what may follow.

    The checksummed part, ``begin`` to ``end``, is the schema and the rest of the header
    before the sync marker; ``layouts`` has the layout's number by its CRC-32.
    """

    begin: int
    end: int
    layouts: dict[int, int]


def _starts(texts: Sequence[KnownText], numbers: Sequence[int]) -> dict[bytes, _Start]:
    """Starts of containers with these schemas; ZTF writes both orders of the two keys."""
    starts: dict[bytes, _Start] = {}
    codec, schema = b"\x14avro.codec\x08null", b"\x16avro.schema"
    for text, number in zip(texts, numbers, strict=True):
        for before, after in ((b"", codec + b"\x00"), (codec, b"\x00")):
            start = _MAGIC + b"\x04" + before + schema + _varint(text.length)
            end = len(start) + text.length + len(after)
            known = starts.setdefault(start, _Start(len(start), end, {}))
            # A CRC can be continued without the bytes that it was made of.
            known.layouts[zlib.crc32(after, text.crc32)] = number
    return starts


def _packet(
    survey: str, value: Column, messages: Mapping[int, Layout], texts: Sequence[KnownText]
) -> Column:
    """Struct of leaves, ``route`` and ``schema_id``.

    Each step is evaluated once (`_let`); so is ``value``, of which Spark otherwise makes
    a copy wherever an expression mentions it: a dozen times 80 kB.
    """
    return _let(value, lambda value: _packet_of(survey, value, messages, texts))


def _packet_of(
    survey: str, value: Column, messages: Mapping[int, Layout], texts: Sequence[KnownText]
) -> Column:
    contained: list[Layout] = []
    for text in texts:
        if text.layout not in contained:
            contained.append(text.layout)
    starts = _starts(texts, [len(messages) + contained.index(t.layout) for t in texts])
    records = [_read_record(value, _message(x), x) for x in messages.values()]
    records += [_read_record(value, _container(x), x) for x in contained]
    scales = [x.flux_scale for x in (*messages.values(), *contained)]

    def packet(kind: Column) -> Column:
        number = kind.getField("number")
        if not records:
            return _struct(survey, kind, number == _FOR_PYTHON, None, None)
        cases = [(number == i, record) for i, record in enumerate(records)]
        return _let(_first(cases), lambda record: checked(kind, record))

    def checked(kind: Column, record: Column) -> Column:
        number = kind.getField("number")
        factors = sf.array(*map(sf.lit, scales))[number] if set(scales) != {1.0} else None

        def leaves(blocks: Column) -> Column:
            for_python = (number == _FOR_PYTHON) | (blocks == _SEVERAL)
            return _let(
                sf.when(blocks == _WHOLE, record.getField("body")),
                lambda body: _struct(survey, kind, for_python, body, factors),
            )

        return _let(_blocks(value, kind.getField("header_bytes"), record), leaves)

    return _let(_kind(value, list(messages), starts), packet)


def _let(value: Column, then: Callable[[Column], Column]) -> Column:
    """``then(value)`` with ``value`` evaluated, and written into the plan, only once.

    Spark itself finds common subexpressions, but not below a condition; without this a plan
    for ZTF had five megabytes and took seconds to make.
    """
    return sf.transform(sf.array(value), then)[0]


def _first(cases: Sequence[tuple[Column, Column]]) -> Column:
    (condition, result), *others = cases
    return reduce(lambda chain, case: chain.when(*case), others, sf.when(condition, result))


def _kind(value: Column, ids: Sequence[int], starts: Mapping[bytes, _Start]) -> Column:
    """Struct of the layout's ``number``; ``header_bytes``, 0 for a message; ``schema_id``."""
    is_container, is_message = (value.startswith(sf.lit(x)) for x in (_MAGIC, b"\x00"))
    cases = [
        (value.startswith(sf.lit(b"\x00" + schema_id.to_bytes(4, "big"))), _kind_of(sf.lit(number)))
        for number, schema_id in enumerate(ids)
    ]
    if starts:
        known = _let(_start_number(value, starts), lambda i: _by_header(value, i, starts))
        cases.append((is_container, known))
    schema_id = sf.conv(sf.hex(sf.substring(value, 2, 4)), 16, 10).cast("bigint")
    with_body = is_message & (sf.octet_length(value) > _MESSAGE_START_BYTES)
    cases.append((with_body, _kind_of(sf.lit(_FOR_PYTHON), schema_id=schema_id)))
    cases.append((is_container | is_message, _kind_of(sf.lit(_FOR_PYTHON))))
    return _first(cases).otherwise(_kind_of(sf.lit(_BROKEN)))


def _kind_of(
    number: Column, header_bytes: Column | None = None, schema_id: Column | None = None
) -> Column:
    header_bytes = sf.lit(0) if header_bytes is None else header_bytes
    schema_id = sf.lit(None).cast("bigint") if schema_id is None else schema_id
    return sf.struct(
        number.alias("number"), header_bytes.alias("header_bytes"), schema_id.alias("schema_id")
    )


def _start_number(value: Column, starts: Mapping[bytes, _Start]) -> Column:
    """Position in ``starts`` of the one that ``value`` begins with, or null."""
    lookups = []
    for length in sorted({len(start) for start in starts}):
        known = {start: i for i, start in enumerate(starts) if len(start) == length}
        lookups.append(_lookup(known, sf.substring(value, 1, length)))
    return sf.coalesce(*lookups)


def _by_header(value: Column, start: Column, starts: Mapping[bytes, _Start]) -> Column:
    all_starts = list(starts.values())
    begin = sf.array(*(sf.lit(x.begin) for x in all_starts))[start]
    end = sf.array(*(sf.lit(x.end) for x in all_starts))[start]
    # 25 kB for each ZTF packet, in a few microseconds.
    checksum = sf.crc32(sf.substring(value, begin + 1, end - begin))
    known = {
        (i << 32) + crc32: number
        for i, x in enumerate(all_starts)
        for crc32, number in x.layouts.items()
    }
    number = _lookup(known, start.cast("bigint") * (1 << 32) + checksum)
    return _kind_of(sf.coalesce(number, sf.lit(_FOR_PYTHON)), sf.coalesce(end, sf.lit(0)))


def _lookup(known: Mapping[Any, int], key: Column) -> Column:
    keys = [sf.lit(x) if isinstance(x, bytes) else sf.lit(x).cast("bigint") for x in known]
    pairs = zip(keys, map(sf.lit, known.values()), strict=True)
    return sf.create_map(*(x for pair in pairs for x in pair))[key]


def _blocks(value: Column, header_bytes: Column, record: Column) -> Column:
    """Whether a record is whole and alone, or there are several, or it is broken."""
    count, size = record.getField("n"), record.getField("size")
    sizes = [(size < 1 << (7 * n - 1), sf.lit(n)) for n in range(1, 5)]
    size_bytes = _first(sizes).otherwise(sf.lit(5))
    rest = sf.octet_length(value) - (header_bytes + 1 + size_bytes + size + 2 * _SYNC_BYTES)
    ends_right = sf.substring(value, header_bytes + 1, sf.lit(_SYNC_BYTES)) == sf.substring(
        value, -_SYNC_BYTES, _SYNC_BYTES
    )
    # Nearly all packets are of the first cases; the others are not evaluated for them.
    cases = [
        (header_bytes == 0, sf.lit(_WHOLE)),
        ((count == 1) & (rest == 0) & ends_right, sf.lit(_WHOLE)),
        ((count > 1) | ((count == 1) & (size >= 0) & (rest > 0)), sf.lit(_SEVERAL)),
    ]
    return _first(cases).otherwise(sf.lit(_DAMAGED))


def _struct(
    survey: str, kind: Column, for_python: Column, body: Column | None, scale: Column | None
) -> Column:
    return sf.struct(
        *(_leaf_column(survey, field, body, scale) for field in _fields_of(survey)),
        sf.when(for_python, PYTHON).otherwise(JVM).alias("route"),
        kind.getField("schema_id").alias("schema_id"),
    )


def _leaf_column(survey: str, field: pa.Field, body: Column | None, scale: Column | None) -> Column:
    if body is None:
        return sf.lit(None).cast(_SPARK[field.type]).alias(field.name)
    places = [leaf.place for leaf in layouts.leaves(survey) if leaf.native == field.name]
    found = [reduce(Column.getField, place, body) for place in places]
    column = found[0] if len(found) == 1 else sf.coalesce(*found)
    if scale is not None and field.name in ("psfFlux", "psfFluxErr"):
        column = column * scale
    if pa.types.is_string(field.type):
        # Damaged text would end the driver when it is made a Python string; null is a value.
        column = sf.try_validate_utf8(column)
    return column.alias(field.name)


def _fields_of(survey: str) -> list[pa.Field]:
    return list(NATIVE_SCHEMAS[survey])[:-_ADDRESS]


# Avro schemas -------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    """A length as Avro writes it."""
    number, encoded = number << 1, b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def _message(layout: Layout) -> list[dict[str, Any]]:
    rest = [_fixed("rest", layout.rest_bytes)] if layout.rest_bytes else []
    head = _fixed("head", _MESSAGE_START_BYTES)
    return [head, {"name": "body", "type": layout.writer}, *rest]


def _container(layout: Layout) -> list[dict[str, Any]]:
    return [
        _fixed("magic", len(_MAGIC)),
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        _fixed("sync", _SYNC_BYTES),
        {"name": "n", "type": "long"},
        {"name": "size", "type": "long"},
        {"name": "body", "type": layout.writer},
    ]


def _fixed(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "type": {"type": "fixed", "name": f"mmgateway.{name}", "size": size}}


def _read_record(value: Column, written: list[dict[str, Any]], layout: Layout) -> Column:
    """Struct of ``n``, ``size`` (null for a message) and ``body``; of nulls if it is broken."""
    long = {"type": ["null", "long"], "default": None}
    read: list[dict[str, Any]] = [
        {"name": "n", **long},
        {"name": "size", **long},
        {"name": "body", "type": layout.reader},
    ]
    schemas = [
        json.dumps({"type": "record", "name": "mmgateway.packet", "fields": fields})
        for fields in (written, read)
    ]
    return from_avro(value, schemas[0], {"avroSchema": schemas[1], "mode": "PERMISSIVE"})
