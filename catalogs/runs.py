"""Sorted runs on disk: how a catalogue larger than memory is put in the order of its pixels.

Each batch is sorted and written as one Arrow file; what lies in a pixel is then a slice
of each of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.batches import PIXEL_COLUMN
from catalogs.hats import HISTOGRAM_ORDER
from catalogs.sources import counts_of
from crossmatch.errors import CatalogError
from crossmatch.model import IntArray


class Runs:
    """Batches of rows, each sorted by pixel and kept in a file of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._schema: pa.Schema | None = None
        self.counts: IntArray = np.zeros(12 * 4**HISTOGRAM_ORDER, np.int64)
        self.rows = self.bytes = 0

    def add(self, table: pa.Table) -> None:
        """Take rows with `PIXEL_COLUMN` among their columns, in any order.

        Raises
        ------
        CatalogError
            ``mixed_types`` where a column is of another type than in the rows before.
        """
        schema = self._schema = self._schema or table.schema
        for field in table.schema:
            if field.type != schema.field(field.name).type:
                raise CatalogError(
                    "mixed_types",
                    f"column {field.name}: {field.type}, before {schema.field(field.name).type}",
                )
        pixels = table[PIXEL_COLUMN].to_numpy()
        order = np.argsort(pixels, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        path = self._folder / f"{len(self._files)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self._files.append(path)
        self.rows += table.num_rows
        self.bytes += table.nbytes
        self.counts += counts_of(pixels, HISTOGRAM_ORDER)

    @property
    def schema(self) -> pa.Schema:
        """Columns of all runs."""
        return pa.schema([]) if self._schema is None else self._schema

    def between(self, start: int, end: int) -> pa.Table:
        """Rows whose order-29 pixel is in ``[start, end)``, sorted by it.

        Rows of one pixel stay in the order in which they came.
        """
        parts = []
        for path in self._files:
            # Mapped each time anew: what was read of it does not stay in memory.
            table, pixels = _mapped(path)
            low, high = np.searchsorted(pixels, [start, end])
            if low < high:
                parts.append(table.slice(low, high - low))
        whole = pa.concat_tables(parts)
        order = np.argsort(whole[PIXEL_COLUMN].to_numpy(), kind="stable")
        return whole.take(pa.array(order)).combine_chunks()

    def remove(self) -> None:
        """Remove the files and their folder."""
        for path in self._files:
            path.unlink()
        self._folder.rmdir()


def _mapped(path: Path) -> tuple[pa.Table, IntArray]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return table, table[PIXEL_COLUMN].to_numpy()
