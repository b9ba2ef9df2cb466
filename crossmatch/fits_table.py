"""The part of FITS that sky maps use: one binary table, to and from bytes.

Sky maps come from the network, so every size in a header is checked against the
bytes that are there before anything is allocated, and whatever is wrong becomes a
``RegionError``. (FITS standard 4.0: sections 4.1 and 4.2, cards; 7.3, binary tables.)
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmatch.errors import RegionError

Value: TypeAlias = str | int | float | bool
Header: TypeAlias = dict[str, Value]

_BLOCK = 2880
_CARD = 80
_MAX_HEADER_BLOCKS = 1000
_MAX_WIDTH = 1 << 20  # of the rows of a table that has none
_GZIP = b"\x1f\x8b"
# Each member costs a copy of what follows: a file of empty members would take minutes.
_MAX_MEMBERS = 64
# Bytes of one element, and the NumPy type of those that we read.
_SIZES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16}
_SIZES |= {"P": 8, "Q": 16}
_TYPES = {"B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_TFORM = re.compile(r"(\d{0,10})([LXBIJKAEDCMPQ])")


def decompressed(data: bytes, max_bytes: int) -> bytes:
    """Bytes of a file that may be gzipped, of at most ``max_bytes``.

    Raises
    ------
    RegionError
        ``skymap_too_large``, or ``gzip_invalid`` (damaged or cut off).
    """
    if not data.startswith(_GZIP):
        if len(data) > max_bytes:
            raise RegionError("skymap_too_large", f"more than {max_bytes} bytes")
        return data
    parts: list[bytes] = []
    size = 0
    rest = data
    members = 0
    while rest.startswith(_GZIP):  # a gzip file may have several members
        members += 1
        if members > _MAX_MEMBERS:
            raise RegionError("gzip_invalid", f"more than {_MAX_MEMBERS} gzip members")
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                part = member.decompress(rest, max_bytes - size + 1)
            except zlib.error as error:
                raise RegionError("gzip_invalid", str(error)) from error
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise RegionError(
                    "skymap_too_large", f"more than {max_bytes} bytes when decompressed"
                )
            if not part and not member.eof and not member.unconsumed_tail:
                raise RegionError("gzip_invalid", "the compressed data end too early")
            rest = member.unconsumed_tail
        rest = member.unused_data
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Table:
    """A binary table in place: its header, and its columns on demand."""

    header: Header
    columns: Mapping[str, int]
    _data: bytes
    _offset: int

    def column(self, name: str) -> NDArray[Any]:
        """Values of a column, one row after another, in native byte order, (rows * repeat,).

        Integers keep their type (unsigned ones are stored with an offset of 2**63 and the
        like, which is undone); scaled columns become float64.
        """
        number = self.columns[name]
        repeat, code = _form(self.header, number)
        if code not in _TYPES:
            raise RegionError("fits_invalid", f"column {name} has no numbers (type {code})")
        start = sum(_width(self.header, n) for n in range(1, number))
        row = np.dtype(
            {
                "names": ["x"],
                "formats": [(_TYPES[code], (repeat,))],
                "offsets": [start],
                "itemsize": int(self.header["NAXIS1"]),
            }
        )
        rows = int(self.header["NAXIS2"])
        raw = np.frombuffer(self._data, row, count=rows, offset=self._offset)["x"].reshape(-1)
        values = raw.astype(raw.dtype.newbyteorder("="))
        return _scaled(values, code, self.header, number)


def _scaled(values: NDArray[Any], code: str, header: Header, number: int) -> NDArray[Any]:
    scale, zero = header.get(f"TSCAL{number}", 1), header.get(f"TZERO{number}", 0)
    if not isinstance(scale, int | float) or not isinstance(zero, int | float):
        raise RegionError("fits_invalid", f"TSCAL{number} or TZERO{number} is not a number")
    if scale == 1 and zero == 0:
        return values
    bits = 8 * values.dtype.itemsize
    if code in "IJK" and scale == 1 and zero == 2 ** (bits - 1):
        unsigned = values.view(f"u{bits // 8}")
        return np.asarray(unsigned ^ unsigned.dtype.type(1 << (bits - 1)))
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float64) * scale + zero


def read_table(data: bytes) -> Table:
    """First binary table of an uncompressed FITS file.

    The header of the table has what the primary header adds (``OBJECT`` and the like).

    Raises
    ------
    RegionError
        ``not_fits``, ``fits_truncated``, ``fits_invalid`` or ``no_table``.
    """
    if not data.startswith(b"SIMPLE  ="):
        raise RegionError("not_fits", "the data do not begin with SIMPLE, as FITS does")
    primary: Header = {}
    offset = 0
    while offset < len(data):
        header, offset = _read_header(data, offset)
        size = _data_size(header)
        if header.get("XTENSION") == "BINTABLE":
            columns = _columns(header)
            width, rows = _count(header, "NAXIS1"), _count(header, "NAXIS2")
            if offset + width * max(rows, 1) > len(data) and (rows or width > _MAX_WIDTH):
                raise RegionError("fits_truncated", "the table is longer than the file")
            return Table({**primary, **header}, columns, data, offset)
        primary = primary or header
        offset += -(-size // _BLOCK) * _BLOCK
    raise RegionError("no_table", "there is no binary table")


def _read_header(data: bytes, offset: int) -> tuple[Header, int]:
    header: Header = {}
    for _ in range(_MAX_HEADER_BLOCKS):
        block = data[offset : offset + _BLOCK]
        if len(block) < _BLOCK:
            raise RegionError("fits_truncated", "the file ends within a header")
        offset += _BLOCK
        for card in _cards(block):
            if card.rstrip() == "END":
                return header, offset
            if card[8:10] == "= ":
                value = _value(card[10:])
                if value is not None:
                    header.setdefault(card[:8].rstrip(), value)
    raise RegionError("fits_invalid", f"a header of more than {_MAX_HEADER_BLOCKS} blocks")


def _cards(block: bytes) -> Iterator[str]:
    # Standard headers are ASCII; a stray byte in a comment should not cost the map.
    text = block.decode("latin-1")
    return (text[i : i + _CARD] for i in range(0, _BLOCK, _CARD))


def _value(field: str) -> Value | None:
    """Value of a card; None where there is none or it is no number, text or truth value."""
    field = field.strip()
    if field.startswith("'"):
        match = re.match(r"'((?:[^']|'')*)'", field)
        return match[1].replace("''", "'").rstrip() if match else None
    word = field.partition("/")[0].strip()
    if word in ("T", "F"):
        return word == "T"
    if re.fullmatch(r"[+-]?\d{1,30}", word):
        return int(word)
    try:
        return float(word.replace("D", "E"))
    except ValueError:
        return None


def _count(header: Header, key: str, default: int | None = None) -> int:
    value = header.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RegionError("fits_invalid", f"{key} is {value!r}")
    return value


def _data_size(header: Header) -> int:
    n_axes = _count(header, "NAXIS")
    if n_axes > 999:
        raise RegionError("fits_invalid", f"NAXIS is {n_axes}")
    if n_axes == 0:
        return 0
    elements = math.prod(_count(header, f"NAXIS{i + 1}") for i in range(n_axes))
    bitpix = header.get("BITPIX")
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise RegionError("fits_invalid", f"BITPIX is {bitpix!r}")
    groups = _count(header, "GCOUNT", 1)
    return abs(int(bitpix)) // 8 * groups * (_count(header, "PCOUNT", 0) + elements)


def _columns(header: Header) -> dict[str, int]:
    """Numbers of the columns by their names in capitals."""
    if _count(header, "NAXIS") != 2 or _count(header, "TFIELDS") > 999:
        raise RegionError("fits_invalid", "the header does not describe a table")
    if _count(header, "NAXIS1") == 0:
        raise RegionError("fits_invalid", "the rows of the table are empty")
    numbers = range(1, _count(header, "TFIELDS") + 1)
    if sum(_width(header, n) for n in numbers) != _count(header, "NAXIS1"):
        raise RegionError("fits_invalid", "the columns do not fill a row")
    return {str(header.get(f"TTYPE{n}", "")).strip().upper(): n for n in reversed(numbers)}


def _form(header: Header, number: int) -> tuple[int, str]:
    match = _TFORM.match(str(header.get(f"TFORM{number}", "")).strip())
    if match is None:
        raise RegionError("fits_invalid", f"TFORM{number} is {header.get(f'TFORM{number}')!r}")
    return int(match[1] or 1), match[2]


def _width(header: Header, number: int) -> int:
    repeat, code = _form(header, number)
    return (repeat + 7) // 8 if code == "X" else repeat * _SIZES[code]


def write_table(
    columns: Sequence[tuple[str, str, NDArray[Any]]], header: Mapping[str, Value]
) -> bytes:
    """FITS file with one binary table; equal input gives equal bytes.

    Parameters
    ----------
    columns : sequence of (name, unit, values)
        Values (n,), int64 or float64; an empty unit is left out.
    header : mapping
        Further cards of the table, in order.
    """
    formats = {"i": ("K", ">i8"), "f": ("D", ">f8")}
    rows = np.zeros(
        len(columns[0][2]), [(name, formats[v.dtype.kind][1]) for name, _, v in columns]
    )
    for name, _, values in columns:
        rows[name] = values
    cards: dict[str, Value] = {
        "XTENSION": "BINTABLE",
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": rows.dtype.itemsize,
        "NAXIS2": len(rows),
        "PCOUNT": 0,
        "GCOUNT": 1,
        "TFIELDS": len(columns),
    }
    for i, (name, unit, values) in enumerate(columns, start=1):
        cards |= {f"TTYPE{i}": name, f"TFORM{i}": formats[values.dtype.kind][0]}
        if unit:
            cards[f"TUNIT{i}"] = unit
    body = rows.tobytes()
    primary: dict[str, Value] = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    padding = b"\0" * (-len(body) % _BLOCK)
    return _header_bytes(primary) + _header_bytes(cards | dict(header)) + body + padding


def _header_bytes(cards: Mapping[str, Value]) -> bytes:
    text = "".join(_card(key, value) for key, value in cards.items()) + f"{'END':<80}"
    return text.ljust(-(-len(text) // _BLOCK) * _BLOCK).encode("ascii")


def _card(key: str, value: Value) -> str:
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}", key):
        raise ValueError(f"{key!r} is not a FITS keyword")
    if isinstance(value, bool):
        shown = f"{'T' if value else 'F':>20}"
    elif isinstance(value, int):
        shown = f"{value:>20}"
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}: a FITS header has no such number")
        number = repr(value).upper()
        shown = f"{number if 'E' in number or '.' in number else number + '.0':>20}"
    else:
        quoted = value.replace("'", "''")
        shown = f"'{quoted:<8}'"
    card = f"{key:<8}= {shown}"
    if len(card) > _CARD or not card.isascii() or not card.isprintable():
        raise ValueError(f"{key}: the value does not fit a FITS card")
    return card.ljust(_CARD)
