"""Rows of a table that lie in sky ranges, read from the files and row groups that touch them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from broker.tables import ROW_GROUP_ROWS, DeltaFolder, Files, numpy_column
from crossmatch import sky
from crossmatch.errors import ServiceError
from crossmatch.model import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class Good:
    """Rows that are wanted of those that lie in place: by some columns, which are read first."""

    columns: tuple[str, ...]
    keep: Callable[[pa.Table], BoolArray]


def rows_inside(
    table: DeltaFolder,
    files: Files,
    ranges: IntArray,
    where: pc.Expression,
    schema: pa.Schema,
    by: Sequence[str] = (),
    good: Good | None = None,
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
    by : sequence of str
        The columns that ``where`` speaks of. They are read first, with the places, and the
        others only where these leave rows. Empty: all are read at once.
    good : Good, optional
        What else is asked of rows, with ``by``.
    """
    if len(ranges) == 0 or len(files) == 0:
        return schema.empty_table()
    low, high = files.bounds("ipix29")
    unknown = np.ma.getmaskarray(low) | np.ma.getmaskarray(high)
    files = files.where(unknown | touched(ranges, low.filled(0), high.filled(0)))
    fragments = list(table.dataset(files).get_fragments())
    pieces = _pieces(fragments, files, ranges)
    if not pieces:
        return schema.empty_table()
    if by:
        rows = _in_two(table, fragments, pieces, ranges, where, schema, by, good)
        return rows.select(schema.names).cast(schema)
    pixel = pc.field("ipix29")
    span = (pixel >= int(ranges[0, 0])) & (pixel < int(ranges[-1, 1]))
    dataset = _dataset(table, fragments, pieces)
    rows = dataset.to_table(columns=[*schema.names, "ipix29"], filter=where & span)
    inside = sky.contains(ranges, numpy_column(rows, "ipix29"))
    return rows.filter(pa.array(inside)).select(schema.names).cast(schema)


_ROW = "row in what was read"


def _in_two(
    table: DeltaFolder,
    fragments: Sequence[pads.ParquetFileFragment],
    pieces: Sequence[_Piece],
    ranges: IntArray,
    where: pc.Expression,
    schema: pa.Schema,
    by: Sequence[str],
    good: Good | None,
) -> pa.Table:
    """The same, in two readings: a few columns of all pieces, all columns of a few pieces."""
    few = list(dict.fromkeys([*by, *(() if good is None else good.columns), "ipix29"]))
    first = _dataset(table, fragments, pieces).to_table(columns=few)
    inside = np.flatnonzero(sky.contains(ranges, numpy_column(first, "ipix29")))
    first = first.take(pa.array(inside)).append_column(_ROW, pa.array(inside))
    first = first.filter(where)
    if good is not None:
        first = first.filter(pa.array(good.keep(first)))
    rows = numpy_column(first, _ROW)
    end = np.cumsum([piece.rows for piece in pieces])
    piece_of = np.searchsorted(end, rows, side="right")
    wanted = np.unique(piece_of)
    others = [name for name in schema.names if name not in few]
    if not others or len(wanted) == 0:
        columns = {f.name: first[f.name] if f.name in few else pa.array([], f.type) for f in schema}
        return pa.table(columns)
    some = [pieces[i] for i in wanted]
    lengths = np.array([piece.rows for piece in some])
    shift = np.zeros(len(pieces), dtype=np.int64)
    shift[wanted] = (end[wanted] - lengths) - (np.cumsum(lengths) - lengths)
    second = _dataset(table, fragments, some).to_table(columns=[*others, "ipix29"])
    second = second.take(pa.array(rows - shift[piece_of]))
    if not second["ipix29"].equals(first["ipix29"]):
        raise ServiceError(f"the archive {table.path} was read in two orders; this is a bug")
    for name in (n for n in few if n != "ipix29"):
        second = second.append_column(name, first[name])
    return second


@dataclass(frozen=True, slots=True)
class _Piece:
    """A file, by the number of its fragment, or one row group of it; how many rows that has."""

    file: int
    group: int | None
    rows: int


def _pieces(
    fragments: Sequence[pads.ParquetFileFragment], files: Files, ranges: IntArray
) -> list[_Piece]:
    """Files, and of large ones the row groups, that touch any of the ranges, in order."""
    pieces: list[_Piece] = []
    for i, (fragment, rows) in enumerate(zip(fragments, files.rows.tolist(), strict=True)):
        if rows <= ROW_GROUP_ROWS:
            pieces.append(_Piece(i, None, rows))
            continue
        metadata = fragment.metadata
        pieces += [
            _Piece(i, group, metadata.row_group(group).num_rows)
            for group in _row_groups(fragment, ranges)
        ]
    return pieces


def _dataset(
    table: DeltaFolder, fragments: Sequence[pads.ParquetFileFragment], pieces: Sequence[_Piece]
) -> pads.FileSystemDataset:
    """The pieces, one after another."""
    groups: dict[int, list[int]] = {}
    for piece in pieces:
        mine = groups.setdefault(piece.file, [])
        if piece.group is not None:
            mine.append(piece.group)
    # A fragment that is made with row groups has them in the order of a Python set.
    chosen = [
        fragments[i].subset(row_group_ids=some) if some else fragments[i]
        for i, some in groups.items()
    ]
    one = fragments[0]
    return pads.FileSystemDataset(chosen, table.schema, one.format, one.filesystem)


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
