"""Many small files of a night become few: sorted by place, in row groups that prune."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc

from broker.tables import ROW_GROUP_ROWS, DeltaFolder, Files, NewFile
from crossmatch.model import BoolArray, IntArray

FILE_ROWS = 32 * ROW_GROUP_ROWS
"""Rows of a file: what a rewrite holds in memory at a time, about 250 MB."""

MIN_SMALL_FILES = 16
QUIET = timedelta(hours=1)
"""A night to which nothing was added for so long is sorted as a whole."""

_SORTED = "sorted-"


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a round of tidying did: partitions rewritten, files before and after, files deleted."""

    nights: tuple[str, ...]
    files_before: int
    files_after: int
    deleted: int


def tidy_partition(
    table: DeltaFolder, partition: str, by: str, now: datetime, *, whole: bool = False
) -> bool:
    """Rewrite files of a partition where that pays; whether anything was rewritten.

    Parameters
    ----------
    table : DeltaFolder
        It must be held `alone`.
    partition : str
    by : str
        The integer column to sort by.
    now : datetime
    whole : bool
        Sort the whole partition even if rows still come in.
    """
    files = table.files().of(partition)
    if is_sorted(files, by):
        return False
    quiet = now.timestamp() * 1000 - int(files.modified_ms.max()) >= QUIET / timedelta(
        milliseconds=1
    )
    small = files.where(files.rows < FILE_ROWS)
    if not (whole or quiet):
        if len(small) < MIN_SMALL_FILES:
            return False
        _rewrite(table, small, by, now)
        return True
    if int(files.rows.sum()) > FILE_ROWS and len(small) >= MIN_SMALL_FILES:
        # Sorted runs first, each small file read once: then a part is a few row groups of each.
        for begin in _runs(small.rows):
            _rewrite(table, small.where(begin), by, now)
        files = table.files().of(partition)
    _rewrite(table, files, by, now)
    return True


def is_sorted(files: Files, by: str) -> bool:
    """Whether a partition is as good as it gets: sorted files, none overlapping another."""
    if len(files) <= 1 and int(files.rows.sum()) <= ROW_GROUP_ROWS:
        return True
    ours = all(path.rpartition("/")[2].startswith(_SORTED) for path in files.path)
    low, high = files.bounds(by)
    if not ours or np.ma.is_masked(low) or np.ma.is_masked(high):
        return False
    if len(files) > 1 and len(files) > 2 * -(-int(files.rows.sum()) // FILE_ROWS):
        return False
    order = np.argsort(low)
    return bool((high[order][:-1] < low[order][1:]).all())


def _runs(rows: IntArray) -> list[BoolArray]:
    """Files in groups of about `FILE_ROWS` rows, as masks."""
    group = np.cumsum(rows) // FILE_ROWS
    return [group == g for g in np.unique(group)]


def _rewrite(table: DeltaFolder, files: Files, by: str, now: datetime) -> None:
    new: list[NewFile] = []
    try:
        for low, high in _parts(table, files, by):
            some = files.where(files.may_hold(by, low, high - 1))
            where = (pc.field(by) >= low) & (pc.field(by) < high)
            # One thread: the live path goes on beside it.
            rows = table.dataset(some).to_table(filter=where, use_threads=False)
            if rows.num_rows:
                new += table.write_files(rows.sort_by(by), _SORTED)
    except BaseException:
        table.discard(new)
        raise
    table.replace(files, new, now)


def _parts(table: DeltaFolder, files: Files, by: str) -> list[tuple[int, int]]:
    """Half-open intervals of the column with at most about `FILE_ROWS` rows each."""
    least, most = -(2**63), 2**63 - 1
    count = -(-int(files.rows.sum()) // FILE_ROWS)
    if count <= 1:
        return [(least, most)]
    values = table.dataset(files).to_table(columns=[by])[by].to_numpy()
    at = np.arange(1, count) * len(values) // count
    inner = np.unique(np.partition(values, at)[at]).tolist()
    edges = [least, *inner, most]
    return list(pairwise(edges))
