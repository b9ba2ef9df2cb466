"""Sorted runs on disk: how a catalogue larger than memory is put in the order of its pixels.

Each batch is sorted and written as one Arrow file; what lies in a pixel is then a slice
of each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.batches import PIXEL_COLUMN
from catalogs.hats import HISTOGRAM_ORDER
from catalogs.sources import counts_of
from crossmatch.model import IntArray


class Runs:
    """Batches of rows, each sorted by pixel and kept in a file of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._schemas: list[pa.Schema] = []
        self.counts: IntArray = np.zeros(12 * 4**HISTOGRAM_ORDER, np.int64)
        self.rows = self.bytes = 0

    def add(self, table: pa.Table) -> None:
        """Take rows with `PIXEL_COLUMN` among their columns, in any order."""
        pixels = table[PIXEL_COLUMN].to_numpy()
        order = np.argsort(pixels, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        path = self._folder / f"{len(self._files)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self._files.append(path)
        self._schemas.append(table.schema)
        self.rows += table.num_rows
        self.bytes += table.nbytes
        self.counts += counts_of(pixels, HISTOGRAM_ORDER)

    @property
    def schema(self) -> pa.Schema:
        """Columns of all runs; what is number here and text there is text."""
        return unified(self._schemas)

    def between(self, start: int, end: int, schema: pa.Schema) -> pa.Table:
        """Rows whose order-29 pixel is in ``[start, end)``, sorted by it.

        Rows of one pixel stay in the order in which they came.
        """
        parts = []
        for path in self._files:
            # Mapped each time anew: what was read of it does not stay in memory.
            table, pixels = _mapped(path)
            low, high = np.searchsorted(pixels, [start, end])
            if low < high:
                parts.append(table.slice(low, high - low).cast(table_schema(table, schema)))
        whole = pa.concat_tables(parts, promote_options="permissive").select(schema.names)
        order = np.argsort(whole[PIXEL_COLUMN].to_numpy(), kind="stable")
        return whole.cast(schema).take(pa.array(order)).combine_chunks()

    def remove(self) -> None:
        """Remove the files and their folder."""
        for path in self._files:
            path.unlink()
        self._folder.rmdir()


def table_schema(table: pa.Table, schema: pa.Schema) -> pa.Schema:
    """The part of ``schema`` that a table has, in the table's order."""
    return pa.schema([schema.field(name) for name in table.column_names])


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema that all others can be cast to, columns in the order of the first."""
    fields: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kind = fields.get(field.name, field.type)
            fields[field.name] = _either(kind, field.type)
    return pa.schema(list(fields.items()))


def _either(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    schemas = [pa.schema([("c", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("c").type
    except pa.ArrowTypeError:
        return pa.string()


def _mapped(path: Path) -> tuple[pa.Table, IntArray]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return table, table[PIXEL_COLUMN].to_numpy()
