"""Tables from files, whatever the format: CSV, FITS, VOTable, Parquet.

Columns become Arrow columns with nulls (masked values, NaN, empty text) and a unit
each; `catalogs.angles` makes degrees of positions.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import astropy.table
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalogs.units import conversion, parquet_units
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray

# In lower case, best first.
RA_NAMES = (
    *("ra", "raj2000", "ra_j2000", "ra_deg", "ra_icrs", "radeg", "_ra", "ra(j2000)", "r.a."),
    *("rajd", "raj", "ramean", "_raj2000"),
)
DEC_NAMES = (
    *("dec", "dej2000", "decj2000", "dec_j2000", "dec_deg", "de_icrs", "dec_icrs", "decdeg"),
    *("_de", "_dec", "decl", "declination", "dec(j2000)", "dec.", "decjd", "decj", "decmean"),
    *("de", "_dej2000", "_decj2000"),
)
_CSV: Mapping[str, Any] = {
    "skipinitialspace": True,
    "na_values": ["", "null", "None", "nan", "NaN", "--"],
    # The first column is a column, also where rows are longer than the header.
    "index_col": False,
    # Whole numbers stay what they are, to the last digit, where some are missing.
    "dtype_backend": "numpy_nullable",
}
_NO_TEXT = frozenset({"<na>", "n/a", "nan", "none", "null"})
# What catalogues write for no value, beside what is too large to be one. Of 99 only the
# meaning of the column says whether it is a mark.
_MARKS = np.array([-999, -999.9, -9999, -9999.9, -99999, -999999, 9999, 99999, 999999])
_TOO_LARGE = 1e19
# VOTables are read whole, and take 2.4 times (text) or 10 times (binary) their size in memory:
# measured with 400,000 rows of ten numbers and a name. What the data are is said at the start.
_MOST_VOTABLE_MEMORY = 5e9
_VOTABLE_TIMES = {True: 10.0, False: 2.4}
_VOTABLE_HEAD = 1_000_000
# Text has no control characters but blanks and ends of lines.
_NO_TEXT_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_TEXT_HEAD, _TEXT_BLOCK = 4096, 1 << 24


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one file with their units (empty: the file does not say)."""

    columns: pa.Table
    units: Mapping[str, str]
    sha256: str

    def find(self, names: Iterable[str]) -> str | None:
        """First of ``names`` that is a column, whatever its case."""
        by_lower = {c.lower(): c for c in reversed(self.columns.column_names)}
        return next((by_lower[n.lower()] for n in names if n.lower() in by_lower), None)


def read_table(path: Path) -> Table:
    """Columns of the first table in a CSV, FITS, VOTable or Parquet file, told by its bytes.

    Raises
    ------
    CatalogError
        ``no_such_file``, ``unreadable``, ``not_a_table``; ``too_large`` for a VOTable that
        would fill the memory.
    """
    try:
        _refuse_large(path)
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise CatalogError("no_such_file", str(path)) from error
    except OSError as error:
        raise CatalogError("unreadable", f"{path}: {error.strerror}") from error
    try:
        columns, units = _parse(raw, path)
    except CatalogError:
        raise
    except Exception as error:
        # Four readers, each with its own errors: any of them means that this is no table.
        raise CatalogError(
            "not_a_table", f"{path}: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if columns.num_columns == 0:
        raise CatalogError("not_a_table", f"{path} has no columns")
    return Table(columns, units, hashlib.sha256(raw).hexdigest())


def _refuse_large(path: Path) -> None:
    """Raise CatalogError for a VOTable that is too large to be read whole."""
    with path.open("rb") as file:
        head, size = file.read(_VOTABLE_HEAD), path.stat().st_size
    if head.lstrip()[:1] != b"<":
        return
    memory = size * _VOTABLE_TIMES[b"<BINARY" in head]
    if memory > _MOST_VOTABLE_MEMORY:
        raise CatalogError(
            "too_large",
            f"{path}: VOTables are read whole, and this one would take {memory / 1e9:.1f} GB of"
            f" memory (at most {_MOST_VOTABLE_MEMORY / 1e9:g}); FITS is read in parts: stilts tcopy"
            f" ifmt=votable in={path} ofmt=fits out={path.with_suffix('.fits')}",
        )


def unit_factor(table: Table, name: str, target: str, default: str = "") -> float:
    """What to multiply column ``name`` with to get ``target`` units.

    Raises
    ------
    CatalogError
        ``wrong_unit`` when the column's unit (``default``, if it has none) cannot be converted.
    """
    unit = table.units.get(name) or default
    factor = conversion(unit, target)
    if factor is None:
        raise CatalogError("wrong_unit", f"{name} is in {unit!r}, expected {target}")
    return factor


def numbers(column: pa.ChunkedArray) -> FloatArray:
    """Column as float64, NaN for null and for text that is no number."""
    if is_text(column.type):
        values = pd.to_numeric(column.to_pandas(), errors="coerce")
        return np.asarray(values, dtype=np.float64)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def not_numbers(column: pa.ChunkedArray) -> IntArray:
    """Rows whose text is no number and no mark of no value either, ascending."""
    if not is_text(column.type):
        return np.empty(0, np.int64)
    odd = np.flatnonzero(np.isnan(numbers(column)) & column.is_valid().to_numpy())
    some = column.take(pa.array(odd)).combine_chunks().dictionary_encode()
    words = np.array([text_of(word) is not None for word in some.dictionary.to_pylist()], bool)
    return odd[words[some.indices.to_numpy()]] if odd.size else odd


def is_text(kind: pa.DataType) -> bool:
    """Whether columns of this type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def texts(column: pa.ChunkedArray) -> list[str | None]:
    """Column as text without blanks around it, None for nothing and the usual words for it."""
    return [text_of(value) for value in column.to_pylist()]


def names_of(table: pa.Table, columns: Sequence[str], rows: int) -> list[str | None]:
    """Name of each of so many rows, from the first of the columns that has one for it."""
    found: list[str | None] = [None] * rows
    for column in columns:
        if None not in found:
            break
        found = [a or b for a, b in zip(found, texts(table[column]), strict=True)]
    return found


def measured(values: FloatArray) -> FloatArray:
    """Values, with NaN for marks of no value: -999, -9999 and so on, infinities, 1e20."""
    marks = np.isin(values, _MARKS) | ~(np.abs(values) < _TOO_LARGE)
    return np.where(marks, np.nan, values)


def text_of(value: Any) -> str | None:
    """A value as text without blanks around it, None for nothing and the usual words for it."""
    if value is None:
        return None
    text = str(value).strip()
    # GLADE and others were written by Python from bytes: b'NGC0253', b'---'.
    if text[:2] in ("b'", 'b"') and len(text) > 2 and text[-1] == text[1]:
        text = text[2:-1].strip()
    return None if not text.strip("-") or text.casefold() in _NO_TEXT else text


def _parse(raw: bytes, path: Path) -> tuple[pa.Table, dict[str, str]]:
    if raw[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(raw))
        return clean(table), parquet_units(table.schema)
    if raw[:9] == b"SIMPLE  =":
        return _from_astropy(raw, "fits")
    if raw.lstrip()[:1] == b"<":
        if b"<VOTABLE" not in raw[:4096]:
            raise CatalogError("not_a_table", f"{path} is XML, but no VOTable")
        return _from_astropy(raw, "votable")
    refuse_binary(io.BytesIO(raw), path)
    return pa.concat_tables(csv_parts(io.BytesIO(raw), len(raw) + 1)), {}


def refuse_binary(stream: BinaryIO, path: Path) -> None:
    """Raise CatalogError ``not_a_table`` for what is no text, though nothing else either.

    pandas ends a value at a NUL byte, and goes on.
    """
    head = stream.read(_TEXT_HEAD)
    found = _NO_TEXT_BYTES.search(head)
    if found is not None:
        raise CatalogError(
            "not_a_table",
            f"{path} is no FITS, VOTable, Parquet or CSV file: byte 0x{found[0].hex()} at"
            f" {found.start()}" + (", as in UTF-16" if head[:2] in _UTF16 else ""),
        )
    at = len(head)
    while block := stream.read(_TEXT_BLOCK):
        if (nul := block.find(b"\0")) >= 0:
            raise CatalogError(
                "not_a_table", f"{path}: a NUL byte at {at + nul}: CSV has none; copy it again"
            )
        at += len(block)


def csv_parts(stream: BinaryIO, rows: int, as_text: Collection[str] = ()) -> Iterator[pa.Table]:
    """Rows of a CSV file in order, so many at a time, cleaned.

    Parameters
    ----------
    stream : binary file
        At its start.
    as_text : collection of str
        Columns that stay text even where it could be numbers.

    Raises
    ------
    ValueError
        Where a row has more fields than the header, with both numbers, or the header a column
        twice.
    """
    # TNS writes the time of its table in a line of its own before the names of the columns.
    lines = [stream.readline() for _ in range(2)]
    start = len(lines[0]) if b"," not in lines[0] and b"," in lines[1] else 0
    stream.seek(start)
    _refuse_odd_head(stream)
    stream.seek(start)
    header = pd.read_csv(stream, nrows=0, **_CSV).columns
    stream.seek(start)
    kinds = {name: str for name in header if str(name).strip() in as_text}
    with pd.read_csv(stream, chunksize=rows, dtype=kinds, low_memory=False, **_CSV) as frames:
        for frame in frames:
            frame.columns = [str(c).strip() for c in frame.columns]
            yield clean(pa.Table.from_pandas(frame, preserve_index=False))


def _refuse_odd_head(stream: BinaryIO) -> None:
    """Look at the header and the first row.

    Of two columns with one name pandas gives the second another one. The length of the first
    row it takes as it is; later ones it compares.
    """
    text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
    try:
        there = (row for row in csv.reader(text, skipinitialspace=True) if row not in ([], [""]))
        first = list(itertools.islice(there, 2))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    finally:
        text.detach()
    names = [name.strip() for name in first[0] if name.strip()] if first else []
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"the header has column {twice[0]!r} twice")
    if first and len(first[-1]) > len(first[0]):
        raise ValueError(f"row 1 has {len(first[1])} fields, the header {len(first[0])}")


def _from_astropy(raw: bytes, kind: str) -> tuple[pa.Table, dict[str, str]]:
    with warnings.catch_warnings():
        # Old files spell units and versions freely; what matters is checked where it is used.
        warnings.simplefilter("ignore")
        table = astropy.table.Table.read(io.BytesIO(raw), format=kind)
    return arrow_columns(table)


def arrow_columns(table: astropy.table.Table) -> tuple[pa.Table, dict[str, str]]:
    """Columns of an astropy table that have one value a row, cleaned, and their units."""
    columns: dict[str, pa.Array] = {}
    units: dict[str, str] = {}
    for name in table.colnames:
        column = table[name]
        if column.ndim != 1:
            continue
        columns[name] = _arrow(column)
        units[name] = "" if column.unit is None else str(column.unit)
    return clean(pa.table(columns)), units


def _arrow(column: Any) -> pa.Array:
    mask = np.asarray(getattr(column, "mask", np.zeros(len(column), bool)), dtype=bool)
    values = np.ma.getdata(np.asarray(column))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind in "OU":
        cells = [
            None
            if m or v is None
            else (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v))
            for v, m in zip(values.tolist(), mask.tolist(), strict=True)
        ]
        return pa.array(cells, pa.string())
    # Arrow wants the machine's byte order; FITS has the other.
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=mask)


def clean(table: pa.Table) -> pa.Table:
    """Dictionary columns as plain ones, NaN as null, blanks around text removed."""
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        elif is_text(column.type):
            column = pc.utf8_trim_whitespace(column)
        columns.append(column)
    return pa.table(columns, names=table.column_names)
