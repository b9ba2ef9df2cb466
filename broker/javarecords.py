"""Layouts as Java: straight code without a loop over fields, written into ``PacketReader.java``.

A record of Rubin's has a hundred nullable numbers, and a packet a dozen such records. Code in
which each field is a statement passes over one in half a nanosecond; a loop that asks a table what
comes next takes four times as long. Nothing of a schema but numbers comes into the code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from broker import layouts
from broker.layouts import Layout
from crossmatch.errors import AlertError

_SCALED = ("psfFlux", "psfFluxErr")
_FIXED_BYTES = {"boolean": 1, "float": 4, "double": 8}
ADVANCE = "p = afterVarint(b, p);"
_BROKEN = "throw Broken.PACKET;"
_ARGUMENTS = "byte[] b, int p, int end, Object[] read"
# What is larger is checked against the packet's end at once.
_SMALL_BYTES = 64
# Java machines leave methods of more than 8,000 bytes of code to the interpreter; with more than
# 65,535 they are none, and a class has room for some ten thousand methods. A schema of Rubin's
# takes 20,000 characters.
_METHOD_CHARACTERS = 8_000
_INNER_CHARACTERS = 400
_MAX_STATEMENT_CHARACTERS = 32_000
_MAX_CHARACTERS = 200_000


def java_methods(survey: str, known: Sequence[Layout]) -> str:
    """Methods of a reader: ``read(layout, b, p, end, read)`` and those that it calls.

    ``read`` fills the slots, one for each of `broker.layouts.leaves`, from a record that begins at
    ``p`` of ``b``, and returns where it ends, which may be behind ``end``.

    Raises
    ------
    AlertError
        ``bad_schema`` if a layout is of no type known, or too long.
    """
    slots = {leaf.place: i for i, leaf in enumerate(layouts.leaves(survey))}
    return reading(known, lambda layout, methods: Records(layout, slots, methods))


def reading(known: Sequence[Layout], records: Callable[[Layout, list[str]], Records]) -> str:
    """The same, with ``records`` of a layout that add their methods to a list."""
    methods: list[str] = []
    cases = []
    for i, layout in enumerate(known):
        entry = records(layout, methods).entry()
        cases.append(f"case {i}: return {entry}(b, p, end, read);")
    methods.append(
        f"private static int read(int layout, {_ARGUMENTS}) {{ switch (layout) {{\n"
        + "\n".join(cases)
        + f"\ndefault: {_BROKEN} }} }}"
    )
    return "\n".join(methods)


def description(
    survey: str,
    known: Sequence[Layout],
    messages: Mapping[int, Layout],
    texts: Sequence[tuple[str, Layout]],
) -> bytes:
    """What ``PacketReader.of`` takes: columns, layouts, and which packets they are for.

    Parameters
    ----------
    survey : str
    known : sequence of Layout
        As given to `java_methods`.
    messages : mapping
        Layout by the number of a schema in Confluent's wire format.
    texts : sequence
        Schemas as they stand in containers' headers, with their layouts.
    """
    leaves = layouts.leaves(survey)
    names = [field.name for field in layouts.native_fields(survey)]
    parts = [_ints(0, len(leaves), len(names))]
    for name in names:
        slots = [i for i, leaf in enumerate(leaves) if leaf.native == name]
        parts.append(_ints(int(name in _SCALED), len(slots), *slots))
    return b"".join(parts) + _packets_of(known, messages, texts)


def whole_description(
    slots: int,
    known: Sequence[Layout],
    messages: Mapping[int, Layout],
    texts: Sequence[tuple[str, Layout]],
) -> bytes:
    """The same for a reader that gives its slots as they are, of whole records only."""
    return _ints(1, slots, 0) + _packets_of(known, messages, texts)


def _packets_of(
    known: Sequence[Layout],
    messages: Mapping[int, Layout],
    texts: Sequence[tuple[str, Layout]],
) -> bytes:
    parts = [_ints(len(known))]
    parts += [struct.pack(">di", layout.flux_scale, layout.rest_bytes) for layout in known]
    places = list(known)
    # The wire format has an unsigned number, Java has none.
    ids = [(number ^ 1 << 31) - (1 << 31) for number in messages]
    parts.append(_ints(len(ids), *ids))
    parts.append(_ints(len(ids), *map(places.index, messages.values())))
    parts.append(_ints(len(texts)))
    for text, _ in texts:
        data = text.encode()
        parts += [_ints(len(data)), data]
    parts.append(_ints(len(texts), *(places.index(layout) for _, layout in texts)))
    return b"".join(parts)


class Records:
    """Statements for the types of one layout; ``methods`` takes the methods they call.

    ``slots`` has where in ``read`` what stands at a place in the record is put.
    """

    _PASS_TEXT = "p = afterBytes(b, p, end);"
    _COUNT = "items(b, p, end)"
    # A block whose count is negative says how many bytes it has.
    _SIZED_BLOCK = "if (n < 0) { p = afterBytes(b, p, end); continue; }"

    def __init__(
        self, layout: Layout, slots: Mapping[tuple[str, ...], int], methods: list[str]
    ) -> None:
        self._layout = layout
        self._named = layouts.named_types(layout.writer, {})
        self._slots = slots
        self._methods = methods
        self._skipping: dict[str, str] = {}
        self._characters = 0

    def entry(self) -> str:
        """Name of the method that reads a record."""
        return self._method(self._read(self._layout.writer, self._layout.reader, ()))

    def _read(self, written: Any, wanted: Any, place: tuple[str, ...]) -> list[str]:
        """Statements that read what the reader's schema wants at a place, and skip the rest."""
        if isinstance(written, list):
            return [self._union(written, [self._read(kind, wanted, place) for kind in written])]
        written = self._resolved(written)
        if isinstance(wanted, list):
            (wanted,) = (kind for kind in wanted if kind != "null")
        if written == "null":
            return []
        if isinstance(wanted, str):
            return self._leaf(_kind(written), wanted, f"read[{self._slots[place]}]")
        if _kind(written) != "record":
            return self._skip(written)
        return self._fields(written, wanted, place)

    def _fields(self, written: Any, wanted: Any, place: tuple[str, ...]) -> list[str]:
        fields = {
            name: field
            for field in wanted["fields"]
            for name in (*field.get("aliases", ()), field["name"])
        }
        code = []
        for field in written["fields"]:
            if field["name"] in fields:
                found = fields[field["name"]]
                code += self._read(field["type"], found["type"], (*place, found["name"]))
            else:
                code += self._skip(field["type"])
        return code

    def _leaf(self, written: str, wanted: str, slot: str) -> list[str]:
        return _leaf(written, wanted, slot)

    def _skip(self, written: Any) -> list[str]:
        """Statements that pass over a type."""
        if isinstance(written, list):
            return [self._union(written, [self._skip(kind) for kind in written])]
        written = self._resolved(written)
        match _kind(written):
            case "null":
                return []
            case "boolean" | "float" | "double" as kind:
                return [_pass(_FIXED_BYTES[kind])]
            case "fixed":
                return [_pass(written["size"])]
            case "int" | "long":
                return [ADVANCE]
            case "enum":
                return self._pass_enum(written)
            case "bytes":
                return ["p = afterBytes(b, p, end);"]
            case "string":
                return [self._PASS_TEXT]
            case "record":
                return [self._skip_record(written)]
            case "array":
                return [self._items(self._skip(written["items"]))]
            case "map":
                return [self._items([self._PASS_TEXT, *self._skip(written["values"])])]
            case kind:
                raise AlertError("bad_schema", f"a type {str(kind)[:80]}")

    def _pass_enum(self, _written: Mapping[str, Any]) -> list[str]:
        return [ADVANCE]

    def _skip_record(self, record: Mapping[str, Any]) -> str:
        """Records of one type have one method, wherever they stand."""
        name = record["name"]
        if name not in self._skipping:
            code = [line for field in record["fields"] for line in self._skip(field["type"])]
            self._skipping[name] = self._method(code)
        return call(self._skipping[name])

    def _union(self, written: Sequence[Any], branches: Sequence[list[str]]) -> str:
        codes = [self._inner(code) for code in branches]
        if len(written) == 2 and "null" in written:
            null = list(written).index("null")
            # The usual case without a number made of bytes: a null branch is a byte, 0 or 2.
            something, other = codes[1 - null], 2 * null
            return (
                f"if (b[p++] == {2 - other}) {{ {something} }}"
                f" else if (b[p - 1] != {other}) {{ {_BROKEN} }}"
            )
        cases = "".join(f"case {i}: {code} break;" for i, code in enumerate(codes))
        method = self._method(
            [f"int branch = branch(b, p, {len(codes)}); {ADVANCE} switch (branch) {{ {cases} }}"]
        )
        return call(method)

    def _items(self, item: list[str]) -> str:
        return call(self._method([self._blocks(self._COUNT, self._inner(item))]))

    def _blocks(self, count: str, item: str) -> str:
        """A loop over the blocks of an array or map, and over the items of each."""
        return (
            f"for (long n = {count}; ; n = {count}) {{"
            f" {ADVANCE} if (n == 0) {{ break; }} {self._SIZED_BLOCK}"
            f" for (; n > 0; n--) {{ {item} }} }}"
        )

    def _inner(self, code: list[str]) -> str:
        """A block inside a statement; a long one is a method of its own."""
        text = " ".join(code)
        return text if len(text) <= _INNER_CHARACTERS else call(self._method(code))

    def _method(self, code: list[str]) -> str:
        """Name of a new method with these statements, of which each may be one of several."""
        pieces = list(_pieces(code))
        if len(pieces) > 1:
            code = [call(self._method(piece)) for piece in pieces]
        name = f"m{len(self._methods)}"
        text = f"private static int {name}({_ARGUMENTS}) {{\n" + "\n".join(code) + "\nreturn p; }"
        self._characters += len(text)
        if self._characters > _MAX_CHARACTERS:
            raise AlertError("bad_schema", "too many fields before the last one needed")
        self._methods.append(text)
        return name

    def _resolved(self, written: Any) -> Any:
        known = isinstance(written, str) and written in self._named
        return self._named[written] if known else written


def _leaf(written: Any, wanted: str, slot: str) -> list[str]:
    """Statements that read a value, as the type that it is promoted to."""
    match written, wanted:
        case "boolean", "boolean":
            return [f"{slot} = Boolean.valueOf(b[p++] == 1);"]
        case "string" | "bytes", "string":
            return [f"{slot} = string(b, p, end);", "p = afterBytes(b, p, end);"]
        case "float", "double":
            return [f"{slot} = Double.valueOf(float32(b, p));", "p += 4;"]
        case "double", "double":
            return [f"{slot} = Double.valueOf(float64(b, p));", "p += 8;"]
        case "int", "int":
            return [f"{slot} = Integer.valueOf(int32(b, p));", ADVANCE]
        case "int" | "long", "long" | "double":
            number = "int32(b, p)" if written == "int" else "varint(b, p)"
            java = "Long" if wanted == "long" else "Double"
            return [f"{slot} = {java}.valueOf(({wanted}) {number});", ADVANCE]
    raise AlertError("bad_schema", f"a {wanted} is written as {str(written)[:80]}")


def _pieces(code: list[str]) -> Iterator[list[str]]:
    """Statements in groups that are not too long."""
    piece: list[str] = []
    for line in code:
        if len(line) > _MAX_STATEMENT_CHARACTERS:
            raise AlertError("bad_schema", "a union of too many types")
        if piece and sum(map(len, piece)) + len(line) > _METHOD_CHARACTERS:
            yield piece
            piece = []
        piece.append(line)
    yield piece


def _pass(size: Any) -> str:
    if not isinstance(size, int) or not 0 <= size < 1 << 31:
        raise AlertError("bad_schema", f"a field of {str(size)[:80]} bytes")
    return f"p += {size};" if size <= _SMALL_BYTES else f"p = after(p, {size}, end);"


def call(method: str) -> str:
    """The statement that calls one of the methods."""
    return f"p = {method}(b, p, end, read);"


def _kind(written: Any) -> Any:
    return written["type"] if isinstance(written, dict) else written


def _ints(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}i", *numbers)
