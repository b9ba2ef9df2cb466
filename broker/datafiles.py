"""Data files of a Delta table: what a snapshot lists of them, and how new ones are written."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crossmatch.model import BoolArray, IntArray

ROW_GROUP_ROWS = 16_384
"""Of files that were sorted by place: the least that a search reads of one. With 65,536 a small
circle, an object's history and a region of 1,000 deg² took two to three times as long."""


@dataclass(frozen=True, slots=True)
class Files:
    """Data files of one snapshot: parallel arrays, and the statistics of the log.

    ``statistics`` has columns ``min.<column>`` and ``max.<column>`` as far as they were
    written, with nulls where nothing is known.
    """

    path: tuple[str, ...]
    partition: tuple[str, ...]
    rows: IntArray
    size: IntArray
    modified_ms: IntArray
    statistics: pa.Table

    def __len__(self) -> int:
        return len(self.path)

    def where(self, mask: BoolArray) -> Files:
        """The files for which ``mask`` is true."""
        rows = np.flatnonzero(mask)
        return Files(
            tuple(self.path[i] for i in rows),
            tuple(self.partition[i] for i in rows),
            self.rows[rows],
            self.size[rows],
            self.modified_ms[rows],
            self.statistics.take(pa.array(rows)),
        )

    def of(self, partition: str) -> Files:
        """The files of one partition."""
        return self.where(np.array([p == partition for p in self.partition], dtype=bool))

    def bounds(self, column: str, of: type = int) -> tuple[Any, Any]:
        """Smallest and largest value of each file, as masked arrays: masked where unknown."""
        kind = np.float64 if of is float else np.int64
        found = []
        for side in ("min", "max"):
            name = f"{side}.{column}"
            if name not in self.statistics.column_names:
                found.append(np.ma.array(np.zeros(len(self), dtype=kind), mask=True))
                continue
            values = self.statistics[name].combine_chunks()
            unknown = np.asarray(values.is_null())
            filled = np.where(unknown, 0, values.to_numpy(zero_copy_only=False)).astype(kind)
            found.append(np.ma.array(filled, mask=unknown))
        return found[0], found[1]

    def may_hold(self, column: str, low: float | None, high: float | None) -> BoolArray:
        """Which files may have values in [``low``, ``high``]; where nothing is known: all."""
        smallest, largest = self.bounds(column, int if isinstance(low or high, int) else float)
        keep = np.ones(len(self), dtype=bool)
        if low is not None:
            keep &= np.ma.filled(largest >= low, True)
        if high is not None:
            keep &= np.ma.filled(smallest <= high, True)
        return keep


@dataclass(frozen=True, slots=True)
class NewFile:
    """A data file that was written beside a table: relative path, partition, Delta statistics."""

    path: str
    partition: Mapping[str, str]
    statistics: str


def listed(actions: pa.Table, partition_by: str | None) -> Files:
    """The files of ``get_add_actions(flatten=True)``."""

    def numbers(name: str) -> IntArray:
        if name not in actions.column_names:
            return np.empty(0, dtype=np.int64)
        return np.asarray(actions[name].fill_null(0), dtype=np.int64)

    count = actions.num_rows
    name = f"partition.{partition_by}"
    parts = actions[name].to_pylist() if name in actions.column_names else [""] * count
    kept = [n for n in actions.column_names if n.startswith(("min.", "max.", "null_count."))]
    return Files(
        tuple(actions["path"].to_pylist()) if count else (),
        tuple(parts),
        numbers("num_records"),
        numbers("size_bytes"),
        numbers("modification_time"),
        actions.select(kept) if kept else actions.select([]),
    )


def write_file(
    root: Path,
    rows: pa.Table,
    key: str | None,
    partition: str,
    prefix: str,
    columns: Sequence[str],
) -> NewFile:
    """Write rows of one partition below the folder of a table.

    Parameters
    ----------
    root : Path
    rows : pyarrow.Table
        With the column ``key``, where there is one.
    key : str or None
        The column that the table is partitioned by.
    partition : str
        Its value.
    prefix : str
        The name begins with it.
    columns : sequence of str
        Statistics are made of these.
    """
    folder = root / f"{key}={partition}" if key else root
    folder.mkdir(exist_ok=True)
    # Not by its content: a process that died may have left a file with these rows.
    file = folder / f"{prefix}{uuid.uuid4()}.parquet"
    rows = rows.drop_columns([key]) if key else rows
    with file.open("wb") as out:
        pq.write_table(rows, out, row_group_size=ROW_GROUP_ROWS, compression="zstd")
        out.flush()
        # What it replaces is deleted in an hour.
        os.fsync(out.fileno())
    path = str(file.relative_to(root))
    return NewFile(path, {key: partition} if key else {}, statistics(rows, columns))


def statistics(rows: pa.Table, columns: Sequence[str]) -> str:
    """Statistics of a file as the Delta log has them: JSON."""
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        nulls[name] = rows[name].null_count
        if nulls[name] < rows.num_rows:
            ends = pc.min_max(rows[name]).as_py()
            low[name], high[name] = ends["min"], ends["max"]
    return json.dumps(
        {"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )
