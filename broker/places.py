"""Rows of a table that lie in sky ranges, read from the files and row groups that touch them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from broker.tables import ROW_GROUP_ROWS, DeltaFolder, Files, numpy_column
from crossmatch import sky
from crossmatch.model import BoolArray, IntArray


def rows_inside(
    table: DeltaFolder, files: Files, ranges: IntArray, where: pc.Expression, schema: pa.Schema
) -> pa.Table:
    """Rows inside order-29 ranges for which an expression holds.

    Parameters
    ----------
    table : DeltaFolder
        With a column ``ipix29``.
    files : Files
        Where to look.
    ranges : (m, 2) int64
        Sorted, disjoint, half-open order-29 NESTED ranges.
    where : pyarrow.compute.Expression
    schema : pyarrow.Schema
        The columns to give.
    """
    if len(ranges) == 0 or len(files) == 0:
        return schema.empty_table()
    low, high = files.bounds("ipix29")
    unknown = np.ma.getmaskarray(low) | np.ma.getmaskarray(high)
    files = files.where(unknown | touched(ranges, low.filled(0), high.filled(0)))
    groups: list[Sequence[int] | None] = [None] * len(files)
    large = files.rows > ROW_GROUP_ROWS
    fragments = table.dataset(files.where(large)).get_fragments()
    for i, fragment in zip(np.flatnonzero(large), fragments, strict=True):
        groups[i] = _row_groups(fragment, ranges)
    some = np.array([chosen is None or len(chosen) > 0 for chosen in groups], dtype=bool)
    dataset = table.dataset(files.where(some), [groups[i] for i in np.flatnonzero(some)])
    pixel = pc.field("ipix29")
    span = (pixel >= int(ranges[0, 0])) & (pixel < int(ranges[-1, 1]))
    rows = dataset.to_table(columns=[*schema.names, "ipix29"], filter=where & span)
    inside = sky.contains(ranges, numpy_column(rows, "ipix29"))
    return rows.filter(pa.array(inside)).select(schema.names).cast(schema)


def touched(ranges: IntArray, low: IntArray, high: IntArray) -> BoolArray:
    """Which intervals [``low``, ``high``], both ends included, touch any of the ranges."""
    # The first range that ends behind the lower end begins at or before the upper one.
    at = np.searchsorted(ranges[:, 1], low, side="right")
    begins = np.append(ranges[:, 0], np.iinfo(np.int64).max)
    return np.asarray(begins[at] <= high)


def _row_groups(fragment: pads.ParquetFileFragment, ranges: IntArray) -> list[int]:
    metadata = fragment.metadata
    at = fragment.physical_schema.get_field_index("ipix29")
    known = [metadata.row_group(i).column(at).statistics for i in range(metadata.num_row_groups)]
    if any(one is None or not one.has_min_max for one in known):
        return list(range(len(known)))
    low = np.array([one.min for one in known], dtype=np.int64)
    high = np.array([one.max for one in known], dtype=np.int64)
    return np.flatnonzero(touched(ranges, low, high)).tolist()
