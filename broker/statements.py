"""The archive of candidate statements: a Delta table that any reader opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from broker.compaction import MIN_SMALL_FILES, Tidied
from broker.tables import DeltaFolder
from crossmatch.errors import ServiceError


class CandidateArchive:
    """Every candidate statement, as a Delta table that any reader opens.

    Parameters
    ----------
    path : Path
        Folder of the table; made at the first append.
    schema : pyarrow.Schema
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._schema = schema
        self._table = DeltaFolder(path, schema)
        self._last: int | None = None

    def append(self, statements: Sequence[dict[str, object]], batch_id: int) -> None:
        """Add the statements of a batch; a batch that is already there is not added again."""
        if not statements or self.last_batch() >= batch_id:
            return
        rows = pa.Table.from_pylist(list(statements), schema=self._schema)
        self._table.append(rows, batch_id)
        self._last = batch_id

    def last_batch(self) -> int:
        """Newest batch in the table; -1 when there is none."""
        if self._last is None:
            self._last = self._table.last_version()
        return self._last

    def rows(self) -> list[dict[str, object]]:
        """All statements, in the order in which they were made."""
        files = self._table.files()
        order = [("alert_datetime", "ascending"), ("candidate_id", "ascending")]
        rows = self._table.dataset(files).to_table()
        known = [key for key in order if key[0] in rows.column_names]
        found: list[dict[str, object]] = (
            rows.sort_by(known).to_pylist() if known else rows.to_pylist()
        )
        return found

    def tidy(self) -> Tidied:
        """Make few files of many, cut the log short, delete what nobody reads any more.

        Raises
        ------
        ServiceError
            When another process is at it, or the disk refuses.
        """
        before = len(self._table.files())
        if before == 0:
            return Tidied((), 0, 0, 0)
        with self._table.alone():
            if before >= MIN_SMALL_FILES:
                try:
                    DeltaTable(str(self.path)).optimize.compact()
                except (DeltaError, OSError) as error:
                    raise ServiceError(f"{self.path} was not compacted: {error}") from error
            deleted = self._table.clean()
        return Tidied((), before, len(self._table.files()), deleted)
