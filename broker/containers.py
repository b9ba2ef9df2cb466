"""Avro from outside, read within bounds: object containers and the Confluent wire format.

`fastavro` trusts what it reads: a schema may ask for 2**60 values of no bytes, nest
itself, or hold a compressed gigabyte. Here the schema is checked first and every
length is bounded, so that a hostile packet ends as an `AlertError`.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import fastavro
import pyarrow as pa

from crossmatch.errors import AlertError

MAX_PACKET_BYTES = 16 << 20
_MAX_SCHEMA_BYTES = 4 << 20
_MAX_BLOCK_BYTES = 64 << 20
_XZ_MEMORY_BYTES = 256 << 20
_MAX_HEADER_ENTRIES = 1000
_MAX_SCHEMA_DEPTH = 40
_MAGIC = b"Obj\x01"
_CONFLUENT_HEADER_BYTES = 5
_PRIMITIVES = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})

Record = dict[str, Any]


def is_container(value: bytes) -> bool:
    """Whether ``value`` begins as an Avro object container does."""
    return value[:4] == _MAGIC


def decode(value: bytes, schemas: Mapping[int, str]) -> list[Record]:
    """Records of one message: a container of any codec, or one record in Confluent's format.

    Parameters
    ----------
    value : bytes
        At most `MAX_PACKET_BYTES`.
    schemas : mapping
        Schema JSON by the registry's number, for the Confluent wire format.

    Raises
    ------
    AlertError
        ``empty``, ``too_large``, ``not_avro``, ``unknown_schema_id``, ``truncated``,
        ``absurd_length``, ``bad_schema``, ``unsupported_codec``, ``malformed``,
        ``trailing_bytes``.
    """
    if not value:
        raise AlertError("empty", "a message of no bytes")
    if len(value) > MAX_PACKET_BYTES:
        raise AlertError("too_large", f"{len(value)} bytes, at most {MAX_PACKET_BYTES}")
    if is_container(value):
        return list(read_container(io.BytesIO(value)))
    if value[0] != 0 or len(value) <= _CONFLUENT_HEADER_BYTES:
        raise AlertError(
            "not_avro", f"starts with {value[:5].hex()}: no container, no Confluent header"
        )
    number = int.from_bytes(value[1:_CONFLUENT_HEADER_BYTES], "big")
    if number not in schemas:
        known = ", ".join(map(str, sorted(schemas))) or "none"
        raise AlertError("unknown_schema_id", f"schema {number} is not at hand; known: {known}")
    return _decode_block(value[_CONFLUENT_HEADER_BYTES:], 1, checked_schema(schemas[number]))


def read_container(file: BinaryIO) -> Iterator[Record]:
    """Records of an Avro object container, block by block.

    Raises
    ------
    AlertError
        As `decode`; records before the fault have been given by then.
    """
    found = header(file)
    sync = _exactly(file, 16, "sync marker")
    schema = checked_schema(found.get("avro.schema", b"").decode("utf-8", "replace"))
    codec = found.get("avro.codec", b"null").decode("ascii", "replace")
    while first := file.read(1):
        count = _long(file, first)
        block = _sized(file, _MAX_BLOCK_BYTES, "block")
        if _exactly(file, 16, "sync marker") != sync:
            raise AlertError("malformed", "a block does not end with the sync marker")
        body = _decompress(codec, block)
        # Every record takes a byte at least: see checked_schema.
        if not 0 <= count <= len(body):
            raise AlertError("absurd_length", f"{count} records in {len(body)} bytes")
        yield from _decode_block(body, count, schema)


def _decode_block(body: bytes, count: int, schema: Any) -> list[Record]:
    stream = io.BytesIO(body)
    try:
        records = [fastavro.schemaless_reader(stream, schema, None) for _ in range(count)]
    except EOFError as error:
        # Its text names an object by its address, which is another one each time.
        raise AlertError(
            "truncated", f"the record goes on behind the end of its {len(body)} bytes"
        ) from error
    except Exception as error:
        # What fastavro raises on wrong bytes is no closed list: any of it means "malformed".
        raise AlertError("malformed", f"{type(error).__name__}: {error}") from error
    rest = len(body) - stream.tell()
    if rest:
        raise AlertError("trailing_bytes", f"{rest} bytes after the last record")
    return records  # type: ignore[return-value]


def header(file: BinaryIO) -> dict[str, bytes]:
    """What the header of an Avro object container says, up to its sync marker.

    Raises
    ------
    AlertError
        ``not_avro``, ``absurd_length``, ``malformed``, ``truncated``.
    """
    if file.read(4) != _MAGIC:
        raise AlertError("not_avro", "not an Avro object container")
    found: dict[str, bytes] = {}
    while count := _long(file):
        if count < 0:
            count = -count
            _long(file)
        if count + len(found) > _MAX_HEADER_ENTRIES:
            raise AlertError("absurd_length", f"{count} entries in the container's header")
        for _ in range(count):
            key = _sized(file, 1024, "header key").decode("utf-8", "replace")
            found[key] = _sized(file, _MAX_SCHEMA_BYTES, f"header value {key[:40]}")
    return found


def _long(file: BinaryIO, first: bytes = b"") -> int:
    """One zig-zag variable-length integer."""
    value = shift = 0
    byte = first or file.read(1)
    while byte:
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
        if shift > 63:
            raise AlertError("malformed", "an integer longer than 64 bits")
        byte = file.read(1)
    raise AlertError("truncated", "ends inside an integer")


def _sized(file: BinaryIO, limit: int, what: str) -> bytes:
    length = _long(file)
    if not 0 <= length <= limit:
        raise AlertError("absurd_length", f"{what} of {length} bytes, at most {limit}")
    return _exactly(file, length, what)


def _exactly(file: BinaryIO, length: int, what: str) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise AlertError("truncated", f"{what}: {len(data)} of {length} bytes")
    return data


def _decompress(codec: str, block: bytes) -> bytes:
    if codec == "null":
        return block
    try:
        body = _inflate(codec, block)
    except AlertError:
        raise
    except (zlib.error, lzma.LZMAError, OSError, pa.ArrowException, ValueError) as error:
        raise AlertError("malformed", f"{codec} block: {error}") from error
    if len(body) > _MAX_BLOCK_BYTES:
        raise AlertError("absurd_length", f"a block larger than {_MAX_BLOCK_BYTES} bytes inside")
    return body


def _inflate(codec: str, block: bytes) -> bytes:
    """At most one byte more than a block may have."""
    limit = _MAX_BLOCK_BYTES + 1
    if codec == "deflate":
        return zlib.decompressobj(wbits=-15).decompress(block, limit)
    if codec == "bzip2":
        return bz2.BZ2Decompressor().decompress(block, limit)
    if codec == "xz":
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES).decompress(block, limit)
    if codec == "zstandard":
        with pa.CompressedInputStream(pa.BufferReader(block), "zstd") as stream:
            return bytes(stream.read(limit))
    if codec == "snappy":
        return _unsnap(block, limit)
    raise AlertError("unsupported_codec", f"{codec[:40]!r}")


def _unsnap(block: bytes, limit: int) -> bytes:
    # Avro appends a CRC-32 of the plain bytes; snappy itself begins with their number.
    packed, checksum = block[:-4], block[-4:]
    size = shift = 0
    for byte in packed[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if size >= limit:
        raise AlertError("absurd_length", f"a snappy block of {size} bytes")
    body = bytes(pa.Codec("snappy").decompress(packed, size, asbytes=True))
    if zlib.crc32(body).to_bytes(4, "big") != checksum:
        raise AlertError("malformed", "snappy block: wrong checksum")
    return body


@lru_cache(maxsize=64)
def checked_schema(text: str) -> Any:
    """Avro schema, parsed for `fastavro`, that cannot ask for more than its bytes hold.

    Logical types are dropped (numbers stay numbers). Recursive types and types that
    take no bytes outside a union are refused.

    Raises
    ------
    AlertError
        ``bad_schema``.
    """
    try:
        return fastavro.parse_schema(_clean(json.loads(text), "", {}, 0))
    except AlertError:
        raise
    except Exception as error:
        raise AlertError("bad_schema", f"{type(error).__name__}: {str(error)[:200]}") from error


def _clean(node: Any, namespace: str, known: dict[str, bool], depth: int) -> Any:
    """Copy of a schema without logical types; ``known`` has the names, True once complete."""
    if depth > _MAX_SCHEMA_DEPTH:
        raise AlertError("bad_schema", f"nested deeper than {_MAX_SCHEMA_DEPTH}")
    if isinstance(node, list):
        return [b if b == "null" else _clean(b, namespace, known, depth + 1) for b in node]
    if isinstance(node, str):
        return _clean_name(node, namespace, known)
    if not isinstance(node, dict) or "type" not in node:
        raise AlertError("bad_schema", f"not a type: {str(node)[:80]}")
    kind = node["type"]
    if kind == "array":
        return {"type": kind, "items": _clean(node["items"], namespace, known, depth + 1)}
    if kind == "map":
        return {"type": kind, "values": _clean(node["values"], namespace, known, depth + 1)}
    if kind not in ("record", "enum", "fixed"):
        return _clean(kind, namespace, known, depth + 1)
    name = _full_name(str(node["name"]), str(node.get("namespace") or namespace))
    inner = name.rpartition(".")[0]
    known[name] = False
    clean = {"type": kind, "name": name}
    if kind == "record":
        clean["fields"] = [_clean_field(f, inner, known, depth + 1) for f in node["fields"]]
    elif kind == "enum":
        clean["symbols"] = node["symbols"]
    else:
        clean["size"] = node["size"]
        if type(node["size"]) is not int or node["size"] < 0:
            raise AlertError("bad_schema", f"{name} has a size of {str(node['size'])[:80]}")
    if not clean.get("fields", clean.get("symbols", clean.get("size"))):
        raise AlertError("bad_schema", f"{name} takes no bytes")
    known[name] = True
    return clean


def _clean_field(field: Any, namespace: str, known: dict[str, bool], depth: int) -> Any:
    return {"name": field["name"], "type": _clean(field["type"], namespace, known, depth)}


def _clean_name(name: str, namespace: str, known: Mapping[str, bool]) -> str:
    if name in _PRIMITIVES:
        return name
    for candidate in (_full_name(name, namespace), name):
        if candidate in known:
            if not known[candidate]:
                raise AlertError("bad_schema", f"{candidate} contains itself")
            return candidate
    raise AlertError("bad_schema", f"{name[:80]!r} is not a type that takes bytes")


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def with_parts(path: Path) -> str:
    """Schema JSON of ``path`` with the named types that lie in files beside it put in place.

    Raises
    ------
    AlertError
        ``bad_schema``.
    """
    try:
        whole = fastavro.schema.load_schema(str(path), _write_hint=False)
    except Exception as error:
        raise AlertError("bad_schema", f"{path}: {type(error).__name__}: {error}") from error
    return json.dumps(_clean(whole, "", {}, 0))
