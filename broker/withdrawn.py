"""Alerts that their surveys took back: they hide those of the same number."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from broker.ids import ALL_BATCHES, Numbered, by_survey
from broker.tables import DeltaFolder, Files, numpy_column, rows_by
from crossmatch.model import BoolArray, IntArray


class Withdrawn:
    """Alerts that surveys took back, as far as the files were looked at.

    Parameters
    ----------
    table : DeltaFolder
    """

    def __init__(self, table: DeltaFolder) -> None:
        self._table = table
        self._looked_at: set[str] = set()
        self._surveys: dict[str, Numbered] = {}
        self._lock = threading.Lock()

    def refresh(self, files: Files) -> None:
        """Look at files that are new; the log tells of most that they have none."""
        with self._lock:
            new = np.array([path not in self._looked_at for path in files.path], dtype=bool)
            if not new.any():
                return
            some = files.where(new & _any_true(files, "withdrawn"))
            columns = ["survey", "alert_id", "batch_id"]
            rows = self._table.dataset(some).to_table(
                columns=columns, filter=pc.field("withdrawn").is_valid() & pc.field("withdrawn")
            )
            self._take(rows)
            self._looked_at = set(files.path)

    def add(self, rows: pa.Table) -> None:
        """Take in rows that were appended."""
        with self._lock:
            self._take(rows.filter(pc.fill_null(rows["withdrawn"], False)))

    def _take(self, rows: pa.Table) -> None:
        for survey, (ids, batches) in by_survey(rows).items():
            self._surveys.setdefault(survey, Numbered()).add(ids, batches)

    def holds(self, survey: str, ids: IntArray, before_batch: int) -> BoolArray:
        """Which of a survey's numbers were taken back in batches below ``before_batch``."""
        with self._lock:
            known = self._surveys.get(survey)
            return np.zeros(len(ids), bool) if known is None else known.holds(ids, before_batch)

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows whose numbers were not taken back."""
        keep = np.ones(rows.num_rows, dtype=bool)
        ids = numpy_column(rows, "alert_id")
        for survey, mine in rows_by(rows["survey"]) if self._surveys else ():
            keep[mine] = ~self.holds(survey, ids[mine], ALL_BATCHES)
        return rows if keep.all() else rows.filter(pa.array(keep))


def _any_true(files: Files, column: str) -> BoolArray:
    """Files that may have a true value: the log knows nothing of those written long ago."""
    _, largest = files.bounds(column)
    name = f"null_count.{column}"
    nulls = (
        files.statistics[name].fill_null(-1).to_numpy()
        if name in files.statistics.column_names
        else -1
    )
    return np.asarray(np.ma.filled(largest != 0, True) & (nulls != files.rows))
