"""Rows of catalogue files some at a time, so that files larger than memory can be read."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import astropy.table
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from catalogs.tables import (
    Table,
    arrow_columns,
    clean,
    csv_parts,
    is_text,
    read_table,
    refuse_binary,
)
from catalogs.units import parquet_units
from crossmatch.errors import CatalogError

BATCH_ROWS = 500_000
PIXEL_COLUMN, RA, DEC = "_healpix_29", "_ra_deg", "_dec_deg"
_PARTITION_COLUMNS = (PIXEL_COLUMN, "Norder", "Dir", "Npix")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a catalogue file.

    ``first_row`` is the number of the first in its ``file``, from 1, and ``done`` the part of
    the whole that was read with it, in [0, 1].
    """

    rows: Table
    file: Path
    first_row: int
    done: float


@dataclass(frozen=True, slots=True)
class Source:
    """A catalogue to be read: what it is, its files, and what it says of itself.

    ``kind`` is csv, fits, votable, parquet or hats; ``ra`` and ``dec`` name the position
    columns where a HATS catalogue states them, ``types`` what columns are in all batches, and
    ``units`` those that are stated for all files together.
    """

    path: Path
    kind: str
    files: tuple[Path, ...]
    ra: str | None = None
    dec: str | None = None
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def settled(self, advance: Callable[[float], None]) -> Source:
        """The same, its columns of one type in all batches.

        A CSV file says only at its end what its columns are, and is read for it: what is text
        in one place is text everywhere. ``advance`` is told the part that is done.
        """
        if self.kind != "csv":
            return self
        for path in self.files:
            with path.open("rb") as file:
                refuse_binary(file, path)
        schemas = []
        for batch in self.batches():
            schemas.append(_schema(batch.rows.columns))
            advance(batch.done)
        return replace(self, types=_types(schemas))

    def batches(self, columns: Sequence[str] = (), rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """All rows in order, about ``rows`` at a time; some ``columns``, or all.

        Parquet, FITS and CSV are read in parts; a VOTable is read whole.

        Raises
        ------
        CatalogError
            ``not_a_table`` and the file with the row after which it cannot be read;
            ``mixed_types`` for a column that is one thing here and another there.
        """
        texts = [name for name, kind in self.types.items() if is_text(kind)]
        for number, file in enumerate(self.files):
            last = 0
            try:
                parts = (
                    _from_csv(file, columns, rows, texts)
                    if self.kind == "csv"
                    else _READERS[self.kind](file, columns, rows)
                )
                for first, part, of in parts:
                    last = first + part.columns.num_rows - 1
                    table = _cast(part.columns, self.types, f"{file}: rows {first} to {last}")
                    done = (number + last / max(of, 1)) / len(self.files)
                    units = {**self.units, **part.units}
                    yield Batch(replace(part, columns=table, units=units), file, first, done)
            except CatalogError:
                raise
            # Each reader has its own errors; each means that the file is not what it seems.
            except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, EOFError) as error:
                what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise CatalogError(
                    "not_a_table", f"{file}: cannot be read after row {last}: {what}"
                ) from error


def source_of(path: Path) -> Source:
    """What a path is: a CSV, FITS, VOTable or Parquet file by its first bytes, or HATS.

    Raises
    ------
    CatalogError
        ``no_such_file``, ``unreadable``, ``truncated``, ``compressed``; ``not_hats`` for
        another folder, ``hats_margin``, and ``incomplete`` where files or rows are not those
        that the catalogue says it has.
    """
    if path.is_dir():
        return _hats_source(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            file.seek(0, 2)
            file.seek(max(file.tell() - 4, 0))
            tail = file.read()
    except FileNotFoundError as error:
        raise CatalogError("no_such_file", str(path)) from error
    except OSError as error:
        raise CatalogError("unreadable", f"{path}: {error.strerror}") from error
    if head[:4] == b"PAR1":
        if tail != b"PAR1":
            raise CatalogError("truncated", f"{path}: the Parquet file has no end; copy it again")
        return Source(path, "parquet", (path,))
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        raise CatalogError("compressed", f"{path}: unpack it first")
    if head[:9] == b"SIMPLE  =":
        return Source(path, "fits", (path,))
    if head.lstrip()[:1] == b"<":
        return Source(path, "votable", (path,))
    return Source(path, "csv", (path,))


def properties(folder: Path) -> dict[str, str]:
    """What a HATS folder says of itself; empty where there are no properties.

    HATS 1.0 (IVOA Note), "properties": lines of ``key = value``, in one of these files.
    """
    found: dict[str, str] = {}
    for name in ("collection.properties", "hats.properties", "properties"):
        if (folder / name).is_file():
            for line in (folder / name).read_text("utf-8").splitlines():
                key, equals, value = line.partition("=")
                if equals and not line.lstrip().startswith(("#", "!")):
                    found.setdefault(key.strip(), value.strip().replace("\\:", ":"))
            break
    return found


def _hats_source(path: Path) -> Source:
    told = properties(path)
    primary = told.get("hats_primary_table_url", "")
    if (path / "collection.properties").is_file() and primary:
        return _hats_source(path / primary)
    files = sorted(f for f in path.glob("**/Norder=*/**/*.parquet") if f.is_file())
    if not told or not files:
        raise CatalogError(
            "not_hats", f"{path}: a folder without properties and Norder=…/Dir=…/Npix=….parquet"
        )
    if told.get("dataproduct_type") == "margin":
        whole = told.get("hats_primary_table_url", "the catalogue that it belongs to")
        raise CatalogError(
            "hats_margin", f"{path}: the margin of a catalogue, not a whole one; add {whole}"
        )
    _refuse_missing(path, files)
    rows, schemas = 0, []
    for file in files:
        source_of(file)
        try:
            head = pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            raise CatalogError("not_a_table", f"{file}: {error}") from error
        rows += head.num_rows
        schemas.append(clean(head.schema.to_arrow_schema().empty_table()).schema)
    if (said := told.get("hats_nrows", "")) and said != str(rows):
        raise CatalogError(
            "incomplete",
            f"{path}: {rows} rows in {len(files)} files, properties say {said}; copy it again",
        )
    ra, dec = (told.get(f"hats_col_{name}") or None for name in ("ra", "dec"))
    return Source(path, "hats", tuple(files), ra, dec, _types(schemas), _common_units(path))


def _common_units(path: Path) -> dict[str, str]:
    """Units that a HATS catalogue states once for all its files."""
    file = path / "dataset" / "_common_metadata"
    if not file.is_file():
        return {}
    try:
        return parquet_units(pq.read_schema(file))
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CatalogError("not_hats", f"{file}: {what}") from error


def _refuse_missing(path: Path, files: Sequence[Path]) -> None:
    """Raise CatalogError ``incomplete`` unless the files are those of the listed partitions."""
    listed = _listed(path)
    found = {pixel for file in files if (pixel := _pixel(file.as_posix())) is not None}
    if listed and found != listed:
        odd = min(found ^ listed)
        what = "is listed and missing" if odd in listed else "is there and not listed"
        raise CatalogError(
            "incomplete",
            f"{path}: Norder={odd[0]}, Npix={odd[1]} {what}; {len(found)} partitions are there,"
            f" {len(listed)} listed; copy it again",
        )


def _listed(path: Path) -> set[tuple[int, int]]:
    """Orders and pixels of the partitions as the catalogue lists them; empty: it does not."""
    info, metadata = path / "partition_info.csv", path / "dataset" / "_metadata"
    try:
        if info.is_file():
            with info.open(encoding="utf-8", newline="") as lines:
                return {(int(r["Norder"]), int(r["Npix"])) for r in csv.DictReader(lines)}
        if metadata.is_file():
            told = pq.read_metadata(metadata)
            names = {told.row_group(i).column(0).file_path for i in range(told.num_row_groups)}
            return {pixel for name in names if (pixel := _pixel(name)) is not None}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CatalogError("not_hats", f"{path}: its list of partitions: {what}") from error
    return set()


def _pixel(path: str) -> tuple[int, int] | None:
    """Order and pixel of a partition's file (HATS 1.0: a file, or a folder of several)."""
    found = re.search(r"Norder=(\d+)/(?:Dir=\d+/)?Npix=(\d+)(?=[./])", path)
    return (int(found[1]), int(found[2])) if found else None


def _from_parquet(
    file: Path, columns: Sequence[str], rows: int
) -> Iterator[tuple[int, Table, int]]:
    with pq.ParquetFile(file, memory_map=True) as parquet:
        names = [n for n in parquet.schema_arrow.names if n not in _PARTITION_COLUMNS]
        wanted = _only(names, columns, file)
        units = parquet_units(parquet.schema_arrow)
        first, total = 1, parquet.metadata.num_rows
        for batch in parquet.iter_batches(batch_size=rows, columns=wanted):
            part = clean(pa.Table.from_batches([batch]))
            yield first, Table(part, units, ""), total
            first += batch.num_rows
        if total == 0:
            yield 1, Table(parquet.schema_arrow.empty_table().select(wanted), units, ""), 0


def _from_csv(
    file: Path, columns: Sequence[str], rows: int, as_text: Collection[str]
) -> Iterator[tuple[int, Table, int]]:
    size, first = file.stat().st_size, 1
    with file.open("rb") as stream:
        for part in csv_parts(stream, rows, as_text):
            part = part.select(_only(part.column_names, columns, file))
            last = first + part.num_rows - 1
            # How much there is to come is guessed from how much was read for so many rows.
            of = round(last * size / max(stream.tell(), 1))
            yield first, Table(part, {}, ""), of
            first = last + 1


def _from_fits(file: Path, columns: Sequence[str], rows: int) -> Iterator[tuple[int, Table, int]]:
    with warnings.catch_warnings():
        # Old files spell units and versions freely; what matters is checked where it is used.
        warnings.simplefilter("ignore")
        with fits.open(file, memmap=True) as parts:
            tables = [part for part in parts if isinstance(part, fits.BinTableHDU)]
            if not tables:
                raise CatalogError("not_a_table", f"{file}: a FITS file without a binary table")
            table, total = tables[0], len(tables[0].data)
            for start in range(0, max(total, 1), rows):
                some = fits.BinTableHDU(table.data[start : start + rows], table.header)
                part, units = arrow_columns(astropy.table.Table.read(some))
                part = part.select(_only(part.column_names, columns, file))
                yield start + 1, Table(part, units, ""), total


def _whole(file: Path, columns: Sequence[str], rows: int) -> Iterator[tuple[int, Table, int]]:
    table = read_table(file)
    part = table.columns.select(_only(table.columns.column_names, columns, file))
    for start in range(0, max(part.num_rows, 1), rows):
        yield start + 1, Table(part.slice(start, rows), table.units, ""), part.num_rows


def _only(names: Sequence[str], wanted: Sequence[str], file: Path) -> list[str]:
    if not wanted:
        return list(names)
    missing = [w for w in wanted if w not in names]
    if missing:
        known = ", ".join(names[:40]) + (" …" if len(names) > 40 else "")
        raise CatalogError("no_such_column", f"{file} has no {missing[0]}; it has {known}")
    return list(wanted)


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """One schema that all others can be cast to, columns in the order of the first."""
    fields: dict[str, pa.DataType] = {}
    for schema in schemas:
        for one in schema:
            fields[one.name] = _either(fields.get(one.name, one.type), one.type)
    return pa.schema(list(fields.items()))


def _either(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    schemas = [pa.schema([("c", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("c").type
    except pa.ArrowTypeError:
        return pa.string()


def _schema(table: pa.Table) -> pa.Schema:
    """Columns and their types: null where no row has a value, whatever the reader made of it."""
    columns = zip(table.column_names, table.columns, strict=True)
    return pa.schema([(n, pa.null() if c.null_count == len(c) else c.type) for n, c in columns])


def _types(schemas: Iterable[pa.Schema]) -> dict[str, pa.DataType]:
    """Types for all; a column without any value is one of numbers."""
    return {f.name: pa.float64() if pa.types.is_null(f.type) else f.type for f in unified(schemas)}


def _cast(table: pa.Table, types: Mapping[str, pa.DataType], where: str) -> pa.Table:
    for number, name in enumerate(table.column_names):
        column, kind = table.column(number), types.get(name, table.field(number).type)
        if column.type != kind:
            try:
                table = table.set_column(number, name, column.cast(kind))
            except pa.ArrowException as error:
                raise CatalogError(
                    "mixed_types",
                    f"{where}, column {name}: {column.type}, elsewhere {kind}: {error}",
                ) from error
    return table


_READERS = {
    "parquet": _from_parquet,
    "hats": _from_parquet,
    "fits": _from_fits,
    "votable": _whole,
}
