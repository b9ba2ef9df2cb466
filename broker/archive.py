"""The archive of alerts and of candidate statements: Delta tables written by the driver.

``deltalake`` appends slim rows in about 10 ms; Spark, DuckDB and polars read them.
Alerts are partitioned by night (the UTC date of the exposure minus half a day, so that
a night at any site in the Americas is one folder) and carry ``ipix29`` and ``batch_id``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from crossmatch import sky
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import ServiceError
from crossmatch.model import FloatArray, IntArray

_APP = "mmgateway-match"
ARCHIVE_SCHEMA = pa.schema(
    [
        *ALERT_SCHEMA,
        pa.field("ipix29", pa.int64(), nullable=False),
        pa.field("night", pa.string(), nullable=False),
        pa.field("batch_id", pa.int64(), nullable=False),
    ]
)
_READ_COLUMNS = [*ALERT_SCHEMA.names, "ipix29", "batch_id"]


def night_of(time_jd: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Night of each exposure as ``YYYY-MM-DD``: Julian dates change at noon UTC."""
    days = np.floor(np.asarray(time_jd, dtype=np.float64) - 2440587.5 - 0.5).astype("int64")
    return pa.array(np.datetime_as_string(days.astype("datetime64[D]")), type=pa.string())


class AlertArchive:
    """Every accepted alert, by night.

    Parameters
    ----------
    path : Path
        Folder of the Delta table; made at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ids: dict[tuple[str, str], IntArray] = {}
        self._last: int | None = None

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.path))
        except TableNotFoundError:
            return None

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """Add the alerts of a batch; a batch that is already there is not added again.

        Raises
        ------
        ServiceError
            When the disk refuses.
        """
        if alerts.num_rows == 0:
            return
        nights = night_of(alerts["time_jd"])
        self._remember(alerts, nights)
        if self.last_batch() >= batch_id:
            return
        rows = alerts.append_column(
            ARCHIVE_SCHEMA.field("ipix29"),
            pa.array(sky.ipix29(_numpy(alerts, "ra_deg"), _numpy(alerts, "dec_deg"))),
        )
        rows = rows.append_column(ARCHIVE_SCHEMA.field("night"), nights)
        rows = rows.append_column(
            ARCHIVE_SCHEMA.field("batch_id"), pa.array(np.full(alerts.num_rows, batch_id))
        )
        _write(self.path, rows.cast(ARCHIVE_SCHEMA), ["night"], batch_id)
        self._last = batch_id

    def last_batch(self) -> int:
        """Newest batch in the archive; -1 when there is none."""
        if self._last is None:
            table = self._table()
            version = None if table is None else table.transaction_version(_APP)
            self._last = -1 if version is None else version
        return self._last

    def search(
        self, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        """Alerts of earlier batches inside a time span and a superset of sky ranges.

        Parameters
        ----------
        ranges : (m, 2) int64
            Half-open order-29 NESTED ranges.
        start_jd, end_jd : float
            start < time <= end, JD UTC.
        before_batch : int
            Only batches below this one.

        Returns
        -------
        pyarrow.Table
            The columns of ``ALERT_SCHEMA``, and ``batch_id``; ordered by (alert_id, batch_id).
        """
        table = self._table()
        if table is None or len(ranges) == 0:
            return _READ_SCHEMA.empty_table()
        times = (pc.field("time_jd") > start_jd) & (pc.field("time_jd") <= end_jd)
        nights = night_of(pa.array([start_jd, end_jd]))
        where = (
            times
            & (pc.field("night") >= nights[0])
            & (pc.field("night") <= nights[1])
            & (pc.field("batch_id") < before_batch)
        )
        span = (pc.field("ipix29") >= int(ranges[0, 0])) & (pc.field("ipix29") < int(ranges[-1, 1]))
        rows = self._dataset(table).to_table(columns=_READ_COLUMNS, filter=where & span)
        inside = sky.contains(ranges, _numpy(rows, "ipix29"))
        rows = rows.filter(pa.array(inside)).drop_columns(["ipix29"])
        return rows.sort_by([("alert_id", "ascending"), ("batch_id", "ascending")])

    def count_between(self, start_jd: float, end_jd: float) -> int:
        """Number of alerts of all batches and places with start < time <= end, JD UTC."""
        table = self._table()
        if table is None:
            return 0
        nights = night_of(pa.array([start_jd, end_jd]))
        where = (
            (pc.field("time_jd") > start_jd)
            & (pc.field("time_jd") <= end_jd)
            & (pc.field("night") >= nights[0])
            & (pc.field("night") <= nights[1])
        )
        return int(self._dataset(table).count_rows(filter=where))

    def known_ids(self, survey: str, night: str, before_batch: int) -> IntArray:
        """Alert ids of a survey's night that came in batches below ``before_batch``."""
        key = (survey, night)
        if key not in self._ids:
            self._ids[key] = self._read_ids(survey, night, before_batch)
        return self._ids[key]

    def _read_ids(self, survey: str, night: str, before_batch: int) -> IntArray:
        table = self._table()
        if table is None:
            return np.empty(0, dtype=np.int64)
        where = (
            (pc.field("night") == night)
            & (pc.field("survey") == survey)
            & (pc.field("batch_id") < before_batch)
        )
        rows = self._dataset(table).to_table(columns=["alert_id"], filter=where)
        ids: IntArray = _numpy(rows, "alert_id")
        return ids

    def _remember(self, alerts: pa.Table, nights: pa.Array) -> None:
        surveys, of_row = np.asarray(alerts["survey"]), np.asarray(nights)
        ids = _numpy(alerts, "alert_id")
        for (survey, night), known in self._ids.items():
            new = ids[(surveys == survey) & (of_row == night)]
            if len(new):
                self._ids[(survey, night)] = np.concatenate([known, new])

    def count(self) -> int:
        """Number of alerts."""
        table = self._table()
        return 0 if table is None else self._dataset(table).count_rows()

    def of_object(self, object_id: str) -> pa.Table:
        """All alerts of one object in the order of their exposures."""
        table = self._table()
        if table is None:
            return _READ_SCHEMA.empty_table()
        rows = self._dataset(table).to_table(
            columns=_READ_SCHEMA.names, filter=pc.field("object_id") == object_id
        )
        return rows.sort_by([("time_jd", "ascending"), ("alert_id", "ascending")])

    def positions(self) -> tuple[FloatArray, FloatArray]:
        """Right ascensions and declinations (ICRS, deg) of all alerts."""
        table = self._table()
        if table is None:
            return np.empty(0), np.empty(0)
        rows = self._dataset(table).to_table(columns=["ra_deg", "dec_deg"])
        return _numpy(rows, "ra_deg"), _numpy(rows, "dec_deg")

    def _dataset(self, table: DeltaTable) -> pads.Dataset:
        partitioning = pads.partitioning(pa.schema([("night", pa.string())]), flavor="hive")
        return pads.dataset(
            [str(self.path / name) for name in _files(table)],
            schema=ARCHIVE_SCHEMA,
            format="parquet",
            partitioning=partitioning,
            partition_base_dir=str(self.path),
        )


_READ_SCHEMA = pa.schema([*ALERT_SCHEMA, ARCHIVE_SCHEMA.field("batch_id")])


def _files(table: DeltaTable) -> Sequence[str]:
    root = table.table_uri.removeprefix("file://").rstrip("/") + "/"
    return [uri.removeprefix("file://").removeprefix(root) for uri in table.file_uris()]


def _numpy(table: pa.Table, column: str) -> Any:
    return table[column].combine_chunks().to_numpy(zero_copy_only=False)


def _write(path: Path, rows: pa.Table, partition_by: list[str] | None, version: int) -> None:
    try:
        write_deltalake(
            str(path),
            rows,
            mode="append",
            partition_by=partition_by,
            commit_properties=CommitProperties(app_transactions=[Transaction(_APP, version)]),
        )
    except (DeltaError, OSError) as error:
        raise ServiceError(f"the archive {path} cannot be written: {error}") from error


class CandidateArchive:
    """Every candidate statement, as a Delta table that any reader opens."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._schema = schema

    def append(self, statements: Sequence[dict[str, object]], batch_id: int) -> None:
        """Add the statements of a batch; a batch that is already there is not added again."""
        if not statements or self.last_batch() >= batch_id:
            return
        rows = pa.Table.from_pylist(list(statements), schema=self._schema)
        _write(self.path, rows, None, batch_id)

    def last_batch(self) -> int:
        """Newest batch in the table; -1 when there is none."""
        try:
            version = DeltaTable(str(self.path)).transaction_version(_APP)
        except TableNotFoundError:
            return -1
        return -1 if version is None else version

    def rows(self) -> list[dict[str, object]]:
        """All statements."""
        try:
            table = DeltaTable(str(self.path))
        except TableNotFoundError:
            return []
        rows: list[dict[str, object]] = table.to_pyarrow_table().to_pylist()
        return rows
