"""Archived alerts as they were at any step: those of its batch, and what a search found then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from broker.archive import ARCHIVE_SCHEMA, night_of
from broker.owed import span_of
from broker.places import rows_inside
from broker.tables import DeltaFolder, numpy_column
from crossmatch import sky
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.errors import ServiceError
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import BoolArray, IntArray, Region

READ_SCHEMA = pa.schema([*ALERT_SCHEMA, ARCHIVE_SCHEMA.field("batch_id")])
_ROWS = 50_000
_NEVER = 2**62


@dataclass(frozen=True, eq=False)
class Alerts:
    """Alerts of some regions, of all batches, ordered by batch.

    Parameters
    ----------
    rows : pyarrow.Table
        ``READ_SCHEMA``. Also alerts that a survey took back, under ``withdrawn``.
    batch_ids, alert_ids : (n,) int64
    nights : (n,) str
    withdrawn : (n,) bool
        Rows that take an alert back.
    taken_back_in : (n,) int64
        First batch that took the row's alert back; above all batches if none did.
    """

    rows: pa.Table
    batch_ids: IntArray
    alert_ids: IntArray
    nights: np.ndarray[tuple[int], np.dtype[np.str_]]
    withdrawn: BoolArray
    taken_back_in: IntArray

    @classmethod
    def of(cls, rows: pa.Table) -> Alerts:
        """Of rows in any order."""
        order = [(n, "ascending") for n in ("batch_id", "topic", "partition", "offset", "alert_id")]
        rows = rows.sort_by(order).combine_chunks()
        batch_ids = np.asarray(numpy_column(rows, "batch_id"), dtype=np.int64)
        withdrawn = np.asarray(rows["withdrawn"].fill_null(False), dtype=np.bool_)
        return cls(
            rows,
            batch_ids,
            np.asarray(numpy_column(rows, "alert_id"), dtype=np.int64),
            np.array(night_of(rows["time_jd"]).to_pylist(), dtype=np.str_),
            withdrawn,
            _taken_back_in(_names(rows), batch_ids, withdrawn),
        )

    def batches(self) -> frozenset[int]:
        """Batches that brought any of them."""
        return frozenset(self.batch_ids.tolist())

    def batch(self, batch_id: int) -> pa.Table:
        """Alerts of one batch, with the columns of an alert."""
        low, high = np.searchsorted(self.batch_ids, [batch_id, batch_id + 1])
        return self.rows.slice(int(low), int(high - low)).select(ALERT_SCHEMA.names)

    def found(
        self,
        after: str,
        until: str,
        before_batch: int,
        last_batch: int,
        through: tuple[str, int, int] | None = None,
    ) -> pa.Table:
        """What a search of the nights after ``after`` and up to ``until`` had to choose from.

        Parameters
        ----------
        before_batch : int
            Alerts of batches below this one.
        last_batch : int
            The last one of that time: alerts that were taken back in it or before are hidden.
        through : (str, int, int), optional
            A further night, and the number and batch of its last alert that was looked at.
        """
        inside = (self.nights > after) & (self.nights <= until)
        if through is not None:
            night, alert_id, batch_id = through
            early = self.alert_ids < alert_id
            early |= (self.alert_ids == alert_id) & (self.batch_ids <= batch_id)
            inside |= (self.nights == night) & early
        inside &= self.batch_ids < before_batch
        inside &= self.taken_back_in > last_batch
        return self.rows.filter(pa.array(inside))


class PastAlerts:
    """The archive of alerts, read beside a matcher that goes on writing it.

    Parameters
    ----------
    path : Path
        Folder of the Delta table.

    Raises
    ------
    ServiceError
        When there is none.
    """

    def __init__(self, path: Path) -> None:
        self._table = DeltaFolder(path, ARCHIVE_SCHEMA, "night")
        if not path.is_dir() or self._table.last_version() < 0:
            raise ServiceError(
                f"there is no archive of alerts in {path} yet; 'mmgateway match' makes it,"
                " 'mmgateway up' starts that"
            )
        self._taken_back: pa.Table | None = None

    def of(self, regions: Sequence[Region], cuts: Cuts, last_batch: int) -> Alerts:
        """Alerts up to a batch that pass the cuts and lie in any of the regions.

        Also those that were taken back, and the rows that take them back, wherever they lie.
        Read night by night: what no region holds is not kept.
        """
        index = RegionIndex.build(list(regions))
        found = [part for part in self._inside(regions, index, cuts, last_batch) if part.num_rows]
        rows = pa.concat_tables([READ_SCHEMA.empty_table(), *found])
        return Alerts.of(pa.concat_tables([rows, self._that_take_back(rows, last_batch)]))

    def _inside(
        self, regions: Sequence[Region], index: RegionIndex, cuts: Cuts, last_batch: int
    ) -> Iterator[pa.Table]:
        if not regions:
            return
        ranges = sky.union(*(index.shape(i).cover(r.level) for i, r in enumerate(regions)))
        spans = [span_of(region) for region in regions]
        start, end = min(s[0] for s in spans), max(s[1] for s in spans)
        files = self._table.files()
        files = files.where(files.may_hold("time_jd", start, end))
        where = (
            (pc.field("time_jd") > start)
            & (pc.field("time_jd") <= end)
            & (pc.field("batch_id") <= last_batch)
        )
        for night in sorted(set(files.partition)):
            rows = rows_inside(self._table, files.of(night), ranges, where, READ_SCHEMA)
            # Those that take an alert back are found by their numbers.
            rows = rows.filter(pc.invert(pc.fill_null(rows["withdrawn"], False)))
            for at in range(0, rows.num_rows, _ROWS):
                part = rows.slice(at, _ROWS)
                part = part.filter(pa.array(apply_cuts(part, cuts).keep))
                time_jd, ra, dec = (
                    part[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg")
                )
                inside = np.unique(match(time_jd, ra, dec, index).alert_row)
                yield part.take(pa.array(inside))

    def _that_take_back(self, rows: pa.Table, last_batch: int) -> pa.Table:
        """Rows that take any of ``rows`` back."""
        if self._taken_back is None:
            # One for ten thousand alerts, if any: read once.
            self._taken_back = self._table.dataset(self._table.files()).to_table(
                columns=READ_SCHEMA.names, filter=pc.field("withdrawn")
            )
        ours, theirs = set(_names(rows)), self._taken_back
        mine = np.array([name in ours for name in _names(theirs)], dtype=np.bool_)
        mine &= numpy_column(theirs, "batch_id") <= last_batch
        return theirs.filter(pa.array(mine)).cast(READ_SCHEMA)


def _names(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["survey"].to_pylist(), rows["alert_id"].to_pylist(), strict=True))


def _taken_back_in(
    names: Sequence[tuple[str, int]], batch_ids: IntArray, withdrawn: BoolArray
) -> IntArray:
    first: dict[tuple[str, int], int] = {}
    for i in np.flatnonzero(withdrawn).tolist():
        # In the order of the batches.
        first.setdefault(names[i], int(batch_ids[i]))
    return np.array([first.get(name, _NEVER) for name in names], dtype=np.int64)
