"""Statements to files that two runs can compare byte for byte: Avro and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastavro.write import Writer as AvroWriter

from broker.codec import avro_schema, parsed
from crossmatch.columns import CANDIDATE_FIELDS, arrow_schema
from crossmatch.errors import ServiceError

_SYNC = b"mmgateway.v1-all"  # A constant marker: the same statements always give the same bytes.
SCHEMA = arrow_schema(CANDIDATE_FIELDS)


class StatementFiles:
    """``<name>.avro`` and ``<name>.parquet`` in a folder, written part by part.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Files of these names are replaced.
    name : str

    Raises
    ------
    ServiceError
        When the disk refuses.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.paths = (folder / f"{name}.avro", folder / f"{name}.parquet")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Closed in `close`, with what is left to write.
            self._file = self.paths[0].open("wb")
            self._parquet = pq.ParquetWriter(self.paths[1], SCHEMA, compression="zstd")
        except OSError as error:
            raise ServiceError(f"{folder} cannot be written: {error.strerror or error}") from error
        schema = parsed(avro_schema("Candidate", CANDIDATE_FIELDS))
        self._avro: Any = AvroWriter(self._file, schema, codec="deflate", sync_marker=_SYNC)

    def add(self, statements: Sequence[Mapping[str, Any]]) -> None:
        """Write statements behind those that are there."""
        if not statements:
            return
        try:
            for one in statements:
                self._avro.write(one)
            self._parquet.write_table(pa.Table.from_pylist(list(statements), schema=SCHEMA))
        except OSError as error:
            raise ServiceError(f"{self.paths[0].parent} cannot be written: {error}") from error

    def close(self) -> None:
        """Write what is left and close the files."""
        try:
            self._avro.flush()
            self._file.close()
            self._parquet.close()
        except OSError as error:
            raise ServiceError(f"{self.paths[0].parent} cannot be written: {error}") from error

    def __enter__(self) -> StatementFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
