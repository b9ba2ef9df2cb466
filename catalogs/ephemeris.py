"""From a table of positions by time to segments: where each object is between its times.

Rows are put aside by object, as other catalogues are by pixel: the hash of an object's name
takes the place of the pixel, so that a part of all hashes holds whole objects and fits in
memory. Part after part is sorted by time and becomes segments, which go on like sources.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from catalogs import hats
from catalogs.batches import DEC, PIXEL_COLUMN, RA, Batch, Source
from catalogs.checks import Positions, refuse_text
from catalogs.kinds import Kind, Scale
from catalogs.roles import Roles
from catalogs.runs import Runs
from catalogs.segments import EAST, END, NORTH, START
from catalogs.sources import separation_arcsec
from catalogs.tables import Table, measured, numbers, text_of, unit_factor
from catalogs.timecolumns import TIME_NAMES, julian_dates, scale_of
from crossmatch.errors import CatalogError
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import MAX_ORDER, ipix29

# Along the parallel, times the cosine of the declination: SkyBoT, Horizons, MPC's "sky motion".
# MPC's dRA without it is another thing, and has no place here.
RA_RATE_NAMES = ("ra_rate", "dracosdec", "dra*cosd", "dra cos(dec)")
DEC_RATE_NAMES = ("dec_rate", "ddec", "d(dec)/dt")
_RATE_UNIT = "arcsec/h"
_OBJECT, _ROW, _TIME = "_object", "_row", "_time_jd"
_HASHES = 12 << 2 * MAX_ORDER
_HALF_A_DAY = 0.5
# Of a table that is no larger the first wrong row is told, of a larger one that of any part.
_FEW = 100_000
# Times are written to the second. A float of a Julian date resolves 40 microseconds.
_SAME_DAYS = 0.5 / 86_400
# MPC writes right ascensions to a tenth of a second of time.
_SAME_ARCSEC = 1.5
_FASTEST_DEG_DAY = 60.0
# SkyBoT has -1 for what has no number.
_NO_NUMBER = frozenset({"-1", "0"})


@dataclass(frozen=True, slots=True)
class Columns:
    """What columns of a table of positions by time are for.

    ``objects``: the first that has a value says which object a row is of. ``rates``: along
    right ascension times the cosine of the declination, and along declination.
    """

    objects: tuple[str, ...]
    time: str
    scale: Scale
    rates: tuple[str, str] | None

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them."""
        return (*self.objects, self.time, *(self.rates or ()))


def columns_of(
    path: Path, head: Table, asked_object: str | None, asked_time: str | None, scale: Scale | None
) -> Columns:
    """Columns as asked for, or by their usual names.

    Raises
    ------
    CatalogError
        ``no_such_column``, ``no_time_column``, ``no_object_column``.
    """
    names = head.columns.column_names
    known = ", ".join(names[:40])
    for asked in (asked_object, asked_time):
        if asked is not None and asked not in names:
            raise CatalogError("no_such_column", f"{path} has no column {asked}: {known}")
    time = asked_time or head.find(TIME_NAMES)
    if time is None:
        raise CatalogError(
            "no_time_column",
            f"{path}: no column is the time; `mmgateway catalogs add` takes --time: {known}",
        )
    objects = (asked_object,) if asked_object else Roles.of(Kind.minor_planets, names).names
    if not objects:
        raise CatalogError(
            "no_object_column",
            f"{path}: no column says which object a row is of; `mmgateway catalogs add` takes"
            f" --id: {known}",
        )
    east, north = head.find(RA_RATE_NAMES), head.find(DEC_RATE_NAMES)
    rates = (east, north) if east and north else None
    return Columns(objects, time, scale or scale_of(time), rates)


def segment_runs(
    source: Source,
    columns: Columns,
    places: Positions,
    read: Sequence[str],
    stored: Sequence[str],
    figures: Sequence[str],
    max_gap_hours: float,
    folder: Path,
    advance: Callable[[str, float], None],
) -> tuple[Runs, dict[str, Any]]:
    """Segments by the pixel of their middle, and what there is to tell of them.

    Parameters
    ----------
    read, stored : sequence of str
        Columns to read, and those that go on with the segment that begins with their row.
    figures : sequence of str
        Columns that must be numbers.
    max_gap_hours : float
        Between times farther apart nothing is known.
    folder : Path
        To be made inside of: ``objects``, which is gone afterwards, and ``runs``.

    Raises
    ------
    CatalogError
        ``no_object``, ``not_a_time``, ``not_a_number``, ``two_places``, ``too_fast``,
        ``lone_position`` with row and object, and those of `catalogs.checks.Positions`.
    """
    origin = _Origin()
    checked = _checked(source.batches(read), figures)
    rows = _by_object(checked, columns, places, stored, folder / "objects", origin, advance)
    places.refuse_odd_units(source.path)
    if rows.rows == 0:
        raise CatalogError("empty", f"{source.path}: no rows with a position")
    (folder / "runs").mkdir()
    runs, objects = Runs(folder / "runs"), 0
    parts = [(0, _HASHES)]
    if rows.rows > _FEW:
        parts = [(p.start, p.end) for p in hats.partitions(rows.counts, rows.bytes / rows.rows)]
    for number, (first, after) in enumerate(parts):
        ways = _Ways.of(rows.between(first, after), origin)
        objects += ways.objects
        runs.add(ways.segments(max_gap_hours / 24, stored))
        advance("joining", (number + 1) / len(parts))
    rows.remove()
    told = {
        "objects": objects,
        "max_gap_hours": max_gap_hours,
        "object_columns": list(columns.objects),
        "time_column": columns.time,
        "scale": str(columns.scale),
        "rate_columns": list(columns.rates or ()),
    }
    return runs, told


def _checked(batches: Iterable[Batch], figures: Sequence[str]) -> Iterator[Batch]:
    """The same batches; text in columns that must be numbers is refused."""
    for batch in batches:
        refuse_text(batch, figures)
        yield batch


def _by_object(
    batches: Iterable[Batch],
    columns: Columns,
    places: Positions,
    stored: Sequence[str],
    folder: Path,
    origin: _Origin,
    advance: Callable[[str, float], None],
) -> Runs:
    """First pass: every row checked and put aside by its object."""
    folder.mkdir(parents=True)
    runs = Runs(folder)
    for batch in batches:
        rows, ra, dec = places.of(batch)
        objects, keys = _objects(batch, rows, columns.objects)
        east, north = _rates(batch, rows, columns.rates)
        own = {
            PIXEL_COLUMN: keys,
            _OBJECT: objects,
            _ROW: origin.numbers(batch)[rows],
            _TIME: julian_dates(batch, rows, columns.time, columns.scale),
            **{RA: ra, DEC: dec, EAST: east, NORTH: north},
        }
        kept = batch.rows.columns.select(list(stored)).take(pa.array(rows))
        runs.add(pa.table({**own, **{name: kept[name] for name in stored}}))
        advance("reading", batch.done)
    return runs


def _objects(batch: Batch, rows: IntArray, columns: Sequence[str]) -> tuple[pa.Array, IntArray]:
    """Which object each row is of, and a hash of that in the range of order-29 pixels."""
    found = pa.nulls(len(rows), pa.string())
    for name in columns:
        texts = batch.rows.columns[name].take(pa.array(rows)).cast(pa.string())
        words = texts.combine_chunks().dictionary_encode()
        plain = [_object(word) for word in words.dictionary.to_pylist()]
        found = pc.coalesce(found, pa.array(plain, pa.string()).take(words.indices))
        if not found.null_count:
            break
    if found.null_count:
        row = batch.first_row + int(rows[pc.index(found.is_null(), True).as_py()])
        raise CatalogError(
            "no_object", f"{batch.file}: row {row}, column {columns[0]}: no name of an object"
        )
    words = found.dictionary_encode()
    hashes = pd.util.hash_array(np.array(words.dictionary.to_pylist(), object), categorize=False)
    return found, (hashes % np.uint64(_HASHES)).astype(np.int64)[words.indices.to_numpy()]


def _object(word: str | None) -> str | None:
    text = text_of(word)
    return None if text in _NO_NUMBER else text


def _rates(
    batch: Batch, rows: IntArray, columns: tuple[str, str] | None
) -> tuple[FloatArray, FloatArray]:
    """Motion east and north in degrees a day, NaN where one of them is not known."""
    if columns is None:
        return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    east, north = (
        measured(numbers(batch.rows.columns[name])[rows])
        * unit_factor(batch.rows, name, "deg/day", _RATE_UNIT)
        for name in columns
    )
    return east + 0 * north, north + 0 * east


class _Origin:
    """Numbers of all rows, and where in which file each of them is."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._batches: list[tuple[Path, int]] = []
        self._count = 0

    def numbers(self, batch: Batch) -> IntArray:
        """Numbers of the rows of the next batch."""
        self._starts.append(self._count)
        self._batches.append((batch.file, batch.first_row))
        self._count += batch.rows.columns.num_rows
        return np.arange(self._starts[-1], self._count)

    def place(self, number: int) -> tuple[Path, int]:
        """File and row of a number."""
        at = bisect_right(self._starts, number) - 1
        file, first = self._batches[at]
        return file, first + number - self._starts[at]


@dataclass(frozen=True, slots=True)
class _Ways:
    """Rows of whole objects by object and time, each object and time once.

    ``next_days`` (n - 1,) are the days from a row to the next, infinite to another object's.
    """

    rows: pa.Table
    origin: _Origin
    time_jd: FloatArray
    next_days: FloatArray
    objects: int

    @classmethod
    def of(cls, rows: pa.Table, origin: _Origin) -> _Ways:
        """Sorted; what is there twice is taken once.

        Raises
        ------
        CatalogError
            ``two_places``, where an object is at two places at one time.
        """
        words = rows[_OBJECT].combine_chunks().dictionary_encode()
        code, time = words.indices.to_numpy(), rows[_TIME].to_numpy()
        order = np.lexsort((rows[_ROW].to_numpy(), time, code))
        rows, code, time = rows.take(pa.array(order)), code[order], time[order]
        again = np.r_[False, (np.diff(code) == 0) & (np.diff(time) <= _SAME_DAYS)]
        ra, dec = rows[RA].to_numpy(), rows[DEC].to_numpy()
        away = np.r_[0.0, separation_arcsec(ra[1:], dec[1:], ra[:-1], dec[:-1])]
        once = cls(rows, origin, time, np.empty(0), 0)
        wrong = once.first(again & (away > _SAME_ARCSEC))
        if wrong is not None:
            raise CatalogError(
                "two_places",
                f"{once.place(wrong)} is {away[wrong]:.1f} arcsec from where row"
                f" {once.row(wrong - 1)} has it at the same time",
            )
        if again.any():
            rows, code, time = rows.filter(pa.array(~again)), code[~again], time[~again]
        days = np.where(np.diff(code) == 0, np.diff(time), np.inf)
        return cls(rows, origin, time, days, len(words.dictionary))

    def segments(self, max_gap_days: float, stored: Sequence[str]) -> pa.Table:
        """Segments with the stored columns of the rows with which they begin.

        Raises
        ------
        CatalogError
            ``too_fast``, ``lone_position``.
        """
        joined = self.next_days <= max_gap_days
        first = np.flatnonzero(joined)
        last = np.r_[~joined, True][first + 1]
        alone = np.flatnonzero(~(np.r_[joined, False] | np.r_[False, joined]))
        parts = [self._between(first, last), self._around(alone)]
        own = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        own = {PIXEL_COLUMN: ipix29(own[RA], own[DEC]), **own}
        kept = self.rows.select(list(stored)).take(pa.array(np.r_[first, alone]))
        return pa.table({**own, **{name: kept[name] for name in stored}})

    def first(self, bad: BoolArray) -> int | None:
        """Index of the bad row that comes first in the file; None: there is none."""
        some = np.flatnonzero(bad)
        return int(some[np.argmin(self.rows[_ROW].to_numpy()[some])]) if some.size else None

    def place(self, index: int) -> str:
        """File, row and object."""
        file, row = self.origin.place(self.rows[_ROW][index].as_py())
        return f"{file}: row {row}: {self.rows[_OBJECT][index]}"

    def row(self, index: int) -> int:
        """Row of the file."""
        return self.origin.place(self.rows[_ROW][index].as_py())[1]

    def _between(self, first: IntArray, last: BoolArray) -> dict[str, FloatArray]:
        """Segments from rows to the next ones; ``last``: no other one follows."""
        ra, dec = (np.radians(self.rows[name].to_numpy()) for name in (RA, DEC))
        place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
        days = self.next_days[first]
        middle = place[:, first] + place[:, first + 1]
        way = place[:, first + 1] - place[:, first]
        chord = np.sqrt((way**2).sum(axis=0))
        speed = np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1.0))) / days
        fast = np.zeros(len(self.time_jd))
        fast[first] = speed
        wrong = self.first(fast > _FASTEST_DEG_DAY)
        if wrong is not None:
            raise CatalogError(
                "too_fast",
                f"{self.place(wrong)} moves {fast[wrong]:.4g} degrees a day to row"
                f" {self.row(wrong + 1)}, and nothing moves more than {_FASTEST_DEG_DAY:g}",
            )
        x, y, z = middle
        ra, dec = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
        # The way between two places is at right angles to the middle of them.
        east = way[1] * np.cos(ra) - way[0] * np.sin(ra)
        north = way[2] * np.cos(dec) - (way[0] * np.cos(ra) + way[1] * np.sin(ra)) * np.sin(dec)
        rate = np.divide(speed, chord, out=np.zeros_like(speed), where=chord > 0)
        end = self.time_jd[first + 1]
        return {
            RA: np.degrees(ra) % 360.0,
            DEC: np.degrees(dec),
            START: self.time_jd[first],
            # Of segments that meet the later one counts. Where none follows, the object is
            # known at its last time too.
            END: np.where(last, np.nextafter(end, np.inf), end),
            EAST: east * rate,
            NORTH: north * rate,
        }

    def _around(self, alone: IntArray) -> dict[str, FloatArray]:
        """Segments half a day before and after rows, which must have rates."""
        east, north = (self.rows[name].to_numpy() for name in (EAST, NORTH))
        speed = np.zeros(len(self.time_jd))
        speed[alone] = np.hypot(east, north)[alone]
        wrong = self.first(np.isnan(speed))
        if wrong is not None:
            raise CatalogError(
                "lone_position",
                f"{self.place(wrong)} has no other time near enough (`mmgateway catalogs add"
                " --max-gap` says how near) and no rates: where is it before and after?",
            )
        wrong = self.first(speed > _FASTEST_DEG_DAY)
        if wrong is not None:
            raise CatalogError(
                "too_fast",
                f"{self.place(wrong)} moves {speed[wrong]:.4g} degrees a day by its rates, and"
                f" nothing moves more than {_FASTEST_DEG_DAY:g}",
            )
        return {
            RA: self.rows[RA].to_numpy()[alone],
            DEC: self.rows[DEC].to_numpy()[alone],
            START: self.time_jd[alone] - _HALF_A_DAY,
            END: np.nextafter(self.time_jd[alone] + _HALF_A_DAY, np.inf),
            EAST: east[alone],
            NORTH: north[alone],
        }
