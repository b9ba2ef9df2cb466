"""The archive of candidate statements, which `broker.statementlog` fills: how it is kept tidy."""

from __future__ import annotations

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
        Folder of the table.
    schema : pyarrow.Schema
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._table = DeltaFolder(path, schema)

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
