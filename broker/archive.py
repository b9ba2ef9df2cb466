"""The archive of alerts: a Delta table written by the driver, by night.

A night is the UTC date of the exposure minus half a day, so that a night at any site in
the Americas is one folder. Rows carry ``ipix29`` and ``batch_id``; files that were tidied
are sorted by place, so that a region reads few row groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from broker.compaction import Tidied, tidy_partition
from broker.ids import KnownIds, Parts, by_survey
from broker.places import Good, rows_inside
from broker.tables import DeltaFolder, Files, numpy_column, rows_by, split_by
from broker.withdrawn import Withdrawn
from crossmatch import sky
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.model import BoolArray, FloatArray, IntArray

__all__ = [
    "ARCHIVE_SCHEMA",
    "STATISTICS",
    "AlertArchive",
    "NightSummary",
    "Seen",
    "night_of",
]

ARCHIVE_SCHEMA = pa.schema(
    [
        *ALERT_SCHEMA,
        pa.field("ipix29", pa.int64(), nullable=False),
        pa.field("night", pa.string(), nullable=False),
        pa.field("batch_id", pa.int64(), nullable=False),
    ]
)
_READ_SCHEMA = pa.schema([*ALERT_SCHEMA, ARCHIVE_SCHEMA.field("batch_id")])
STATISTICS = ("survey", "alert_id", "time_jd", "withdrawn", "ipix29", "batch_id")
_ALL_BATCHES = 2**62
_HISTORY_RADIUS_DEG = 10 / 3600
"""Detections of one object lie within 2 arcsec, those of an extended one a little farther."""


def night_of(time_jd: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Night of each exposure as ``YYYY-MM-DD``: Julian dates change at noon UTC."""
    # A batch has one night or two: their names are made once.
    days, number = np.unique(_days(np.asarray(time_jd, dtype=np.float64)), return_inverse=True)
    names = np.datetime_as_string(days.astype("datetime64[D]"))
    return pa.array(names, type=pa.string()).take(pa.array(number))


def _days(time_jd: FloatArray) -> IntArray:
    days: IntArray = np.floor(time_jd - 2440587.5 - 0.5).astype("int64")
    return days


@dataclass(frozen=True, slots=True)
class Seen:
    """Which alerts are archived already: (n,) bool arrays, a row each."""

    same_night: BoolArray
    other_night: BoolArray
    withdrawn: BoolArray


@dataclass(frozen=True, slots=True)
class NightSummary:
    """What the archive holds of one night."""

    night: str
    rows: int
    files: int
    bytes: int


class AlertArchive:
    """Every accepted alert, by night.

    One process appends and asks `seen`; any number of threads and processes read.

    Parameters
    ----------
    path : Path
        Folder of the Delta table; made at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = DeltaFolder(path, ARCHIVE_SCHEMA, "night", STATISTICS)
        self._last: int | None = None
        self._known: KnownIds | None = None
        self._taken_back = Withdrawn(self._table)

    # --- writing -----------------------------------------------------------------------------

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """Add the alerts of a batch; a batch that is already there is not added again.

        Raises
        ------
        ServiceError
            When the disk refuses.
        """
        if alerts.num_rows == 0 or self.last_batch() >= batch_id:
            return
        nights = night_of(alerts["time_jd"])
        rows = alerts.append_column(
            ARCHIVE_SCHEMA.field("ipix29"),
            pa.array(sky.ipix29(numpy_column(alerts, "ra_deg"), numpy_column(alerts, "dec_deg"))),
        )
        rows = rows.append_column(ARCHIVE_SCHEMA.field("night"), nights)
        rows = rows.append_column(
            ARCHIVE_SCHEMA.field("batch_id"), pa.array(np.full(alerts.num_rows, batch_id))
        ).cast(ARCHIVE_SCHEMA)
        self._table.append(rows, batch_id)
        self._last = batch_id
        if self._known is not None:
            taken = rows.select(["night", "survey", "alert_id", "batch_id"])
            self._known.add({night: by_survey(some) for night, some in split_by(taken, "night")})
            self._taken_back.add(rows)

    def last_batch(self) -> int:
        """Newest batch in the archive; -1 when there is none."""
        if self._last is None:
            self._last = self._table.last_version()
        return self._last

    # --- which alerts are there already ------------------------------------------------------

    def seen(self, alerts: pa.Table, before_batch: int) -> Seen:
        """Which alerts the archive has from earlier batches, under the survey's number.

        Parameters
        ----------
        alerts : pyarrow.Table
            ``survey``, ``alert_id`` and ``time_jd``; repeats among themselves do not count.
        before_batch : int
            Only batches below this one.

        Returns
        -------
        Seen
            Whether it is there in the night of its exposure; in any other night; as an
            alert that the survey takes back.
        """
        count = alerts.num_rows
        found = Seen(*(np.zeros(count, dtype=bool) for _ in range(3)))
        if count == 0:
            return found
        known = self._ids()
        ids = numpy_column(alerts, "alert_id")
        days = _days(numpy_column(alerts, "time_jd"))
        for survey, rows in rows_by(alerts["survey"]):
            mine = ids[rows]
            for night, there in known.nights_with(survey, mine, before_batch):
                same = days[rows] == _day(night)
                found.same_night[rows] |= there & same
                found.other_night[rows] |= there & ~same
            found.withdrawn[rows] = self._taken_back.holds(survey, mine, before_batch)
        return found

    def _ids(self) -> KnownIds:
        if self._known is None:
            known = KnownIds(self.path / "_ids", self._read_night)
            files = self._table.files()
            _, newest = files.bounds("batch_id")
            nights: dict[str, int | None] = {}
            for night, batch in zip(files.partition, newest, strict=True):
                before = nights.get(night, -1)
                unknown = before is None or batch is np.ma.masked
                nights[night] = None if unknown else max(before or 0, int(batch))
            known.restore(nights)
            self._taken_back.refresh(files)
            self._known = known
        return self._known

    def _read_night(self, night: str, from_batch: int, before_batch: int) -> Parts:
        files = self._table.files().of(night)
        files = files.where(files.may_hold("batch_id", from_batch, before_batch - 1))
        where = (pc.field("batch_id") >= from_batch) & (pc.field("batch_id") < before_batch)
        columns = ["survey", "alert_id", "batch_id"]
        return by_survey(self._table.dataset(files).to_table(columns=columns, filter=where))

    # --- searching ---------------------------------------------------------------------------

    def nights(self, start_jd: float, end_jd: float) -> list[str]:
        """Nights, ascending, with rows that may lie in start < time <= end (JD UTC)."""
        files = self._table.files()
        files = files.where(files.may_hold("time_jd", float(start_jd), float(end_jd)))
        return [night for night in sorted(set(files.partition)) if _meets(night, start_jd, end_jd)]

    def search_night(
        self,
        night: str,
        ranges: IntArray,
        start_jd: float,
        end_jd: float,
        before_batch: int,
        good: Good | None = None,
    ) -> pa.Table:
        """Alerts of a night in earlier batches inside sky ranges and a span of time.

        Those that the survey takes back, in whatever batch, are left out.

        Parameters
        ----------
        night : str
        ranges : (m, 2) int64
            Sorted, disjoint, half-open order-29 NESTED ranges.
        start_jd, end_jd : float
            start < time <= end, JD UTC.
        before_batch : int
            Only batches below this one.
        good : Good, optional
            What else is asked of alerts: of a million few pass the cuts, and most of what
            is to be read belongs to the others.

        Returns
        -------
        pyarrow.Table
            The columns of ``ALERT_SCHEMA``, and ``batch_id``; ordered by (alert_id, batch_id).
        """
        files = self._table.files()
        return self._search_night(files, night, ranges, start_jd, end_jd, before_batch, good)

    def _search_night(
        self,
        files: Files,
        night: str,
        ranges: IntArray,
        start_jd: float,
        end_jd: float,
        before_batch: int,
        good: Good | None = None,
    ) -> pa.Table:
        self._taken_back.refresh(files)
        files = files.of(night)
        files = files.where(
            files.may_hold("time_jd", float(start_jd), float(end_jd))
            & files.may_hold("batch_id", None, before_batch - 1)
        )
        where = (
            (pc.field("time_jd") > start_jd)
            & (pc.field("time_jd") <= end_jd)
            & (pc.field("batch_id") < before_batch)
        )
        by = ("time_jd", "batch_id")
        rows = rows_inside(self._table, files, ranges, where, _READ_SCHEMA, by, good)
        order = [("alert_id", "ascending"), ("batch_id", "ascending")]
        return self._taken_back.without(rows).sort_by(order)

    def search(
        self, ranges: IntArray, start_jd: float, end_jd: float, before_batch: int
    ) -> pa.Table:
        """Alerts as `search_night` gives them, of all nights, ordered by (alert_id, batch_id)."""
        files = self._table.files()
        found = [
            self._search_night(files, night, ranges, start_jd, end_jd, before_batch)
            for night in self.nights(start_jd, end_jd)
        ]
        rows = pa.concat_tables([_READ_SCHEMA.empty_table(), *found])
        return rows.sort_by([("alert_id", "ascending"), ("batch_id", "ascending")])

    def history(
        self, survey: str, object_id: str, near: tuple[float, float] | None = None
    ) -> pa.Table:
        """All alerts of an object over all nights, in the order of their exposures.

        Its place is that of its newest alert, which is looked for from the newest night
        backwards, or ``near``. The other nights are read there only, within 10 arcsec; those
        of a known minor body, which moves, are read all over the sky.

        Parameters
        ----------
        survey, object_id : str
        near : (float, float), optional
            Right ascension and declination, ICRS deg: saves the search for the place.

        Returns
        -------
        pyarrow.Table
            The columns of ``ALERT_SCHEMA``, and ``batch_id``. Alerts that were taken back are
            there, with ``withdrawn``.
        """
        files = self._table.files()
        mine = (pc.field("object_id") == object_id) & (pc.field("survey") == survey)
        rows = _READ_SCHEMA.empty_table()
        if near is None:
            near, moves = self._place(files, mine)
            if near is None:
                return rows
            if moves:
                rows = self._table.dataset(files).to_table(columns=_READ_SCHEMA.names, filter=mine)
                return _by_time(rows)
        place = sky.cone_ranges(*near, _HISTORY_RADIUS_DEG)
        return _by_time(
            rows_inside(self._table, files, place, mine, _READ_SCHEMA, ("survey", "object_id"))
        )

    def _place(self, files: Files, mine: pc.Expression) -> tuple[tuple[float, float] | None, bool]:
        """Where the newest night has an object, and whether it is a known minor body."""
        columns = ["ra_deg", "dec_deg", "time_jd", "moving_distance_arcsec"]
        for night in sorted(set(files.partition), reverse=True):
            rows = self._table.dataset(files.of(night)).to_table(columns=columns, filter=mine)
            if rows.num_rows:
                newest = rows.sort_by("time_jd").to_pylist()[-1]
                # The survey names the source after the body: no distance from it.
                moves = newest["moving_distance_arcsec"] == 0
                return (newest["ra_deg"], newest["dec_deg"]), moves
        return None, False

    def of_object(self, object_id: str) -> pa.Table:
        """All alerts under an object's name, of any survey, in the order of their exposures."""
        mine = pc.field("object_id") == object_id
        dataset = self._table.dataset(self._table.files())
        return _by_time(dataset.to_table(columns=_READ_SCHEMA.names, filter=mine))

    def batch(self, batch_id: int) -> pa.Table:
        """Alerts of one batch, ordered by (topic, partition, offset): for replays.

        Returns
        -------
        pyarrow.Table
            The columns of ``ALERT_SCHEMA``, and ``batch_id``.
        """
        files = self._table.files()
        files = files.where(files.may_hold("batch_id", batch_id, batch_id))
        where = pc.field("batch_id") == batch_id
        rows = self._table.dataset(files).to_table(columns=_READ_SCHEMA.names, filter=where)
        order = [(name, "ascending") for name in ("topic", "partition", "offset", "alert_id")]
        return rows.cast(_READ_SCHEMA).sort_by(order)

    # --- numbers -----------------------------------------------------------------------------

    def count(self) -> int:
        """Number of rows."""
        return int(self._table.files().rows.sum())

    def count_between(self, start_jd: float, end_jd: float) -> int:
        """Number of alerts of all batches and places with start < time <= end, JD UTC."""
        files = self._table.files()
        files = files.where(files.may_hold("time_jd", float(start_jd), float(end_jd)))
        where = (pc.field("time_jd") > start_jd) & (pc.field("time_jd") <= end_jd)
        return int(self._table.dataset(files).count_rows(filter=where))

    def positions(self) -> tuple[FloatArray, FloatArray]:
        """Right ascensions and declinations (ICRS, deg) of all alerts."""
        rows = self._table.dataset(self._table.files()).to_table(columns=["ra_deg", "dec_deg"])
        return numpy_column(rows, "ra_deg"), numpy_column(rows, "dec_deg")

    def summary(self) -> list[NightSummary]:
        """Rows, files and bytes of each night, ascending."""
        files = self._table.files()
        nights = np.array(files.partition, dtype=str)
        return [
            NightSummary(
                str(night),
                int(files.rows[nights == night].sum()),
                int((nights == night).sum()),
                int(files.size[nights == night].sum()),
            )
            for night in np.unique(nights)
        ]

    # --- order -------------------------------------------------------------------------------

    def compact(self, night: str | None = None, *, now: datetime) -> Tidied:
        """Sort a night as a whole, or all nights: few files, ordered by place.

        Raises
        ------
        ServiceError
            When another process is at it, or the disk refuses.
        """
        return self._tidy(now, night, whole=True)

    def tidy(self, now: datetime) -> Tidied:
        """What is to be done now and then, beside the appends: make few files of many.

        Nights that still grow have their small files merged; those that were quiet for an
        hour are sorted as a whole. The log is cut short, and files go that were replaced an
        hour ago. Numbers of alerts of nights that rest move from memory to files.

        Parameters
        ----------
        now : datetime
            Time of the wall clock: readers have an hour from then.

        Raises
        ------
        ServiceError
            When another process is at it, or the disk refuses.
        """
        return self._tidy(now, None, whole=False)

    def _tidy(self, now: datetime, night: str | None, *, whole: bool) -> Tidied:
        files = self._table.files()
        nights = sorted(set(files.partition)) if night is None else [night]
        if len(files) == 0:
            return Tidied((), 0, 0, 0)
        with self._table.alone():
            done = [n for n in nights if tidy_partition(self._table, n, "ipix29", now, whole=whole)]
            deleted = self._table.clean()
        if self._known is not None:
            self._known.rest()
        return Tidied(tuple(done), len(files), len(self._table.files()), deleted)


def _meets(night: str, start_jd: float, end_jd: float) -> bool:
    first = _day(night) + 2440588.0
    return first <= end_jd and first + 1 > start_jd


def _day(night: str) -> int:
    return int(np.datetime64(night, "D").astype(np.int64))


def _by_time(rows: pa.Table) -> pa.Table:
    order = [("time_jd", "ascending"), ("alert_id", "ascending"), ("batch_id", "ascending")]
    return rows.sort_by(order)
