"""Delta tables that the driver writes and everybody reads: what all of ours have in common.

A table is appended to exactly once a step (the step is the transaction version of our
application), read by snapshot, and kept tidy: many small files become few, files that no
snapshot of the last hour names are deleted, the log is cut short.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from broker import deltalog
from broker.datafiles import ROW_GROUP_ROWS, Files, NewFile, listed, write_file
from crossmatch.errors import ServiceError
from crossmatch.model import IntArray

__all__ = [
    "ROW_GROUP_ROWS", "DeltaFolder", "Files", "NewFile", "numpy_column", "rows_by", "split_by",
]  # fmt: skip

_APP = "mmgateway-match"
_COMPACTION = "mmgateway-compact"
READERS_HOURS = 1
"""A file that was replaced is kept this long for readers that hold a list with it."""

_SETTINGS = {
    # Each night brings tens of thousands of commits: nobody travels back through them.
    "delta.logRetentionDuration": "interval 2 days",
    "delta.deletedFileRetentionDuration": "interval 2 hours",
}
_REOPEN_SECONDS = 3600.0
_NO_CHECKPOINT = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_FORMAT = pads.ParquetFileFormat()
_FILESYSTEM = pafs.LocalFileSystem()


class DeltaFolder:
    """A Delta table in a folder; made at the first append.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
        Of the rows as they are written. Columns that an older table lacks are added to it,
        and read as null from its files.
    partition_by : str, optional
        A text column: one folder for each of its values.
    statistics : sequence of str
        Columns whose smallest and largest value go to the log. Without any: as Delta does.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        partition_by: str | None = None,
        statistics: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.schema = schema
        self.partition_by = partition_by
        self.statistics = tuple(statistics)
        self._settings = dict(_SETTINGS)
        if statistics:
            self._settings["delta.dataSkippingStatsColumns"] = ",".join(statistics)
        # Readers have a handle of their own: a search in another thread never delays an append.
        self._writer = _Handle(path)
        self._reader = _Handle(path)
        self._up_to_date = False
        self._written = -1
        self._listed: tuple[int, Files] | None = None
        self._listing = threading.Lock()

    def last_version(self) -> int:
        """The step that was appended last; -1 when there is none."""
        table = self._reader.fresh()
        version = None if table is None else table.transaction_version(_APP)
        return -1 if version is None else int(version)

    def append(self, rows: pa.Table, version: int) -> None:
        """Add rows as the step ``version``.

        Raises
        ------
        ServiceError
            When the disk refuses.
        """
        try:
            with self._writer.lock:
                table = self._writer.opened()
                if table is None or not self._up_to_date or not deltalog.is_plain(table):
                    self._append_with_library(table, rows, version)
                else:
                    self._append_to_log(table, rows, version)
                self._up_to_date = True
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the archive {self.path} cannot be written: {error}") from error

    def _append_with_library(self, table: DeltaTable | None, rows: pa.Table, version: int) -> None:
        """The first append of a process: makes the table or brings it up to date."""
        steps = CommitProperties(app_transactions=[Transaction(_APP, version)])
        if table is None:
            write_deltalake(
                str(self.path),
                rows,
                mode="append",
                partition_by=[self.partition_by] if self.partition_by else None,
                configuration=self._settings,
                commit_properties=steps,
            )
            return
        merge = not self._up_to_date and self._brought_up_to_date(table)
        write_deltalake(
            table,
            rows,
            mode="append",
            schema_mode="merge" if merge else None,
            commit_properties=steps,
            # It takes as long as ten appends: `clean` makes it.
            post_commithook_properties=_NO_CHECKPOINT,
        )

    def _append_to_log(self, table: DeltaTable, rows: pa.Table, version: int) -> None:
        log = self.path / "_delta_log"
        known = max(self._written, table.version())
        if not deltalog.entry(log, known).exists():
            # The log was cut behind it: others were at work for long.
            table = self._writer.fresh() or table
            known = table.version()
        new = self.write_files(rows, "part-")
        adds = [
            deltalog.add_action(f.path, f.partition, self.path / f.path, f.statistics) for f in new
        ]
        try:
            moment = int(time.time() * 1000)
            self._written = deltalog.append(log, known, adds, _APP, version, moment)
        except BaseException:
            self.discard(new)
            raise

    def write_files(self, rows: pa.Table, prefix: str) -> list[NewFile]:
        """Write rows beside the table, a file for each partition; they are not yet part of it."""
        key = self.partition_by
        return [
            write_file(self.path, some, key, value, prefix, self.statistics)
            for value, some in (split_by(rows, key) if key else [("", rows)])
        ]

    def discard(self, new: Sequence[NewFile]) -> None:
        """Delete files that did not become part of the table."""
        for file in new:
            (self.path / file.path).unlink(missing_ok=True)

    def _brought_up_to_date(self, table: DeltaTable) -> bool:
        """Give a table of an earlier version our settings; whether it lacks columns."""
        known = table.metadata().configuration
        missing = {k: v for k, v in self._settings.items() if known.get(k) != v}
        if missing:
            table.alter.set_table_properties(missing)
        return bool(set(self.schema.names) - {f.name for f in table.schema().fields})

    def files(self) -> Files:
        """Data files of the newest snapshot; none when there is no table yet."""
        with self._listing:
            table = self._reader.fresh()
            if table is None:
                return listed(pa.table({}), None)
            version = table.version()
            if self._listed is None or self._listed[0] != version:
                actions = pa.table(table.get_add_actions(flatten=True))
                self._listed = (version, listed(actions, self.partition_by))
            return self._listed[1]

    def dataset(
        self, files: Files, row_groups: Sequence[Sequence[int] | None] | None = None
    ) -> pads.FileSystemDataset:
        """The rows of some files, or of some row groups of each (None: all of them)."""
        chosen = row_groups or [None] * len(files)
        fragments = [
            _FORMAT.make_fragment(
                str(self.path / path),
                _FILESYSTEM,
                partition_expression=self._partition(partition),
                row_groups=groups,
            )
            for path, partition, groups in zip(files.path, files.partition, chosen, strict=True)
        ]
        return pads.FileSystemDataset(fragments, self.schema, _FORMAT, _FILESYSTEM)

    def _partition(self, value: str) -> pads.Expression | None:
        return pads.field(self.partition_by) == value if self.partition_by else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one thread or process rewrites files at a time; appends go on meanwhile.

        Raises
        ------
        ServiceError
            When another one is at it.
        """
        with (self.path / "_compaction.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ServiceError(
                    f"the archive {self.path} is being compacted by another process or thread"
                ) from error
            yield

    def replace(self, old: Files, new: Sequence[NewFile], now: datetime) -> None:
        """Put files with the same rows in the place of ``old``; call it while `alone`.

        Raises
        ------
        ServiceError
            When somebody else replaced files meanwhile, or the disk refuses. The new files
            are deleted then.
        """
        moment = int(now.timestamp() * 1000)
        key = self.partition_by
        try:
            table = DeltaTable(str(self.path))
            gone = [
                RemoveAction(path, False, moment, int(size), {key: part} if key else {})
                for path, part, size in zip(old.path, old.partition, old.size, strict=True)
            ]
            added = [
                AddAction(
                    path=file.path,
                    size=os.path.getsize(self.path / file.path),
                    partition_values=file.partition,
                    modification_time=moment,
                    data_change=False,
                    stats=file.statistics,
                )
                for file in new
            ]
            # Two rewrites from one version conflict by this transaction of theirs.
            step = (table.transaction_version(_COMPACTION) or 0) + 1
            table.create_write_transaction(
                [*gone, *added],
                "append",
                table.schema(),
                [key] if key else None,
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(_COMPACTION, step)]
                ),
            )
        except (DeltaError, OSError) as error:
            self.discard(new)
            raise ServiceError(f"the archive {self.path} was not compacted: {error}") from error

    def clean(self) -> int:
        """Cut the log short and delete files that no snapshot of the last hour has; how many.

        Raises
        ------
        ServiceError
            When the disk refuses.
        """
        try:
            table = DeltaTable(str(self.path))
            table.create_checkpoint()
            table.cleanup_metadata()
            # Also those that a process left behind which died before it committed them.
            vacuum = partial(
                table.vacuum, READERS_HOURS, enforce_retention_duration=False, full=True
            )
            return len(vacuum(dry_run=False)) if vacuum(dry_run=True) else 0
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the archive {self.path} cannot be tidied: {error}") from error


class _Handle:
    """One open table: brought up to date when it is used, opened anew once in a while."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self._path = path
        self._table: DeltaTable | None = None
        self._opened = 0.0

    def fresh(self) -> DeltaTable | None:
        """The newest version; None when there is no table yet."""
        return self.opened(update=True)

    def opened(self, *, update: bool = False) -> DeltaTable | None:
        """Some version of the last hour; None when there is no table yet."""
        with self.lock:
            moment = time.monotonic()
            try:
                # The log behind a table that was long not used may be gone.
                if self._table is not None and moment - self._opened < _REOPEN_SECONDS:
                    if update:
                        self._table.update_incremental()
                    return self._table
                self._table = DeltaTable(str(self._path))
            except TableNotFoundError:
                return None
            except (DeltaError, OSError) as error:
                raise ServiceError(f"the archive {self._path} cannot be read: {error}") from error
            self._opened = moment
            return self._table


def split_by(rows: pa.Table, column: str) -> list[tuple[str, pa.Table]]:
    """The rows of each value of a text column that has few."""
    values = pc.unique(rows[column]).to_pylist()
    if len(values) == 1:
        return [(values[0], rows)]
    return [(value, rows.filter(pc.equal(rows[column], value))) for value in values]


def rows_by(column: pa.ChunkedArray) -> list[tuple[str, IntArray]]:
    """Row numbers of each value of a text column that has few."""
    values = pc.unique(column).to_pylist()
    return [(v, np.flatnonzero(np.asarray(pc.equal(column, v)))) for v in values]


def numpy_column(table: pa.Table, column: str) -> Any:
    """A column as one array."""
    return table[column].combine_chunks().to_numpy(zero_copy_only=False)
