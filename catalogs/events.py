"""Tables of bursts or gravitational-wave events as notices, for searches in archived alerts."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from astropy.time import Time

from catalogs.angles import positions
from catalogs.tables import Table, numbers, read_table, texts, unit_factor
from crossmatch.errors import CatalogError
from crossmatch.model import Circle, FloatArray, Messenger, Notice, SystematicTerm

_SUFFIXES = (".csv", ".fits", ".parquet")
_TIME_FORMATS = {"mjd": "mjd", "jd": "jd", "gps": "gps", "iso": "isot"}
_CLOCK_NAME = re.compile(r"(\d{2})(\d{2})(\d{2})")
_CLOCK_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?)")
# What a catalogue writes for times that it does not know.
_YEARS = (1967, 2100)

Systematic = tuple[tuple[datetime | None, tuple[SystematicTerm, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventColumns:
    """How the columns of a table become notices; see ``catalogs/data/event_tables.toml``."""

    id: str
    name: tuple[str, ...]
    time: tuple[str, ...]
    time_format: str
    messenger: Messenger
    mission: str
    instrument: str = ""
    ra: tuple[str, ...] = ()
    dec: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    error_unit: str = "deg"
    zero_error_deg: float | None = None
    containment: float = 0.9
    systematic: Systematic = ()
    systematic_from_deg: float = 0.0
    systematic_included: bool = False
    far: tuple[str, ...] = ()
    far_unit: str = "Hz"
    distance: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A row that cannot be an event, and why."""

    row: int
    name: str
    reason: str
    detail: str


class Events(NamedTuple):
    """Notices of a table, in its order, and its other rows."""

    notices: list[Notice]
    rejected: list[RejectedEvent]


def known_tables() -> tuple[EventColumns, ...]:
    """Mappings that are shipped, in the order in which they are tried."""
    text = (resources.files("catalogs") / "data" / "event_tables.toml").read_text("utf-8")
    return tuple(event_columns(t) for t in tomllib.loads(text)["table"])


def event_columns(mapping: Mapping[str, Any]) -> EventColumns:
    """Mapping of columns from plain values, as in ``catalogs/data/event_tables.toml``.

    Raises
    ------
    CatalogError
        ``bad_mapping``.
    """
    values = dict(mapping)
    for key in ("name", "time", "ra", "dec", "error", "far", "distance", "requires"):
        found = values.get(key, ())
        values[key] = (found,) if isinstance(found, str) else tuple(found)
    values.setdefault("id", "table")
    _refuse_keys(values)
    try:
        values["systematic"] = tuple(
            (
                datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None,
                tuple(SystematicTerm(float(r), float(w)) for r, w in terms),
            )
            for until, terms in values.get("systematic", ())
        )
        columns = EventColumns(**values)
    except (TypeError, ValueError) as error:
        raise CatalogError("bad_mapping", str(error)) from error
    if columns.time_format not in (*_TIME_FORMATS, "clock"):
        raise CatalogError("bad_mapping", f"time_format {columns.time_format!r}")
    if columns.messenger not in get_args(Messenger):
        raise CatalogError("bad_mapping", f"messenger {columns.messenger!r}")
    return columns


def _refuse_keys(values: Mapping[str, Any]) -> None:
    """Raise CatalogError ``bad_mapping`` unless there is what must be, and nothing unknown."""
    known = {f.name: f.default is MISSING for f in fields(EventColumns)}
    needed = [name for name, must in known.items() if must and values.get(name, ()) == ()]
    if needed:
        raise CatalogError("bad_mapping", f"the mapping of columns lacks {', '.join(needed)}")
    odd = sorted(values.keys() - known.keys())
    if odd:
        raise CatalogError(
            "bad_mapping", f"{', '.join(odd)}: not known; a mapping may have {', '.join(known)}"
        )


def read_events(path: Path, mapping: Mapping[str, Any] | EventColumns | None = None) -> Events:
    """Events of a table in CSV, FITS, VOTable or Parquet as notices.

    Parameters
    ----------
    path : Path
    mapping : optional
        Which columns hold what; without, the shipped mappings are tried by column names.

    Returns
    -------
    Events
        One notice a row, without positions where the table has none; rows rejected
        with ``null_required``, ``ra_out_of_range``, ``dec_out_of_range``,
        ``time_out_of_range``, ``no_error_radius`` (zero or missing: never a circle of a
        guessed size), ``error_out_of_range``.

    Raises
    ------
    CatalogError
        ``no_such_file``, ``unreadable``, ``not_a_table``, ``unknown_columns``,
        ``bad_mapping``, ``wrong_unit``, ``not_a_position``, ``mixed_positions``.
    """
    table = read_table(path)
    if isinstance(mapping, EventColumns):
        columns = mapping
    else:
        columns = event_columns(mapping) if mapping is not None else _recognised(table, path)
    return _Reader(table, columns, path).read()


def is_event_table(path: Path) -> bool:
    """Whether the first bytes or the suffix are those of a table; a VOTable has no suffix."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"PAR1" or head[:9] == b"SIMPLE  =":
        return True
    return b"<VOTABLE" in head or path.suffix.lower() in _SUFFIXES


def _recognised(table: Table, path: Path) -> EventColumns:
    for columns in known_tables():
        if all(table.find((name,)) for name in columns.requires):
            return columns
    found = ", ".join(table.columns.column_names[:10])
    raise CatalogError("unknown_columns", f"{path} has {found}; give a mapping of its columns")


class _Reader:
    """One table on its way to notices."""

    def __init__(self, table: Table, columns: EventColumns, path: Path) -> None:
        self._table = table
        self._columns = columns
        self._path, self._file = path, path.name
        self._rejected: list[RejectedEvent] = []
        self._names = texts(self._column("name"))

    def read(self) -> Events:
        """Notices and rejected rows."""
        places = self._places()
        times = self._times()
        far, distance = self._numbers("far"), self._numbers("distance")
        if self._columns.far_unit == "1/yr":
            far = far / (365.25 * 86400)
        notices = []
        for row, name in enumerate(self._names):
            try:
                notice = self._notice(
                    row, name, times[row], None if places is None else places[row]
                )
            except CatalogError as error:
                self._rejected.append(RejectedEvent(row, name or "", error.reason, error.detail))
                continue
            known_far, known_distance = _known(far[row]), _known(distance[row])
            notices.append(replace(notice, far_hz=known_far, distance_mpc=known_distance))
        return Events(notices, self._rejected)

    def _find(self, what: str) -> str | None:
        names: tuple[str, ...] = getattr(self._columns, what)
        found = self._table.find(names)
        if names and found is None and what in ("name", "time", "ra", "dec"):
            known = ", ".join(self._table.columns.column_names[:10])
            raise CatalogError("bad_mapping", f"{what}: no column {names[0]!r}; there are {known}")
        return found

    def _column(self, what: str) -> pa.ChunkedArray:
        name = self._find(what)
        if name is None:
            raise CatalogError("bad_mapping", f"the mapping does not name a column for {what}")
        return self._table.columns[name]

    def _numbers(self, what: str) -> FloatArray:
        name = self._find(what)
        if name is None:
            return np.full(len(self._names), np.nan)
        return numbers(self._table.columns[name])

    def _places(self) -> FloatArray | None:
        """Right ascension, declination and error in degrees, (n, 3); None without positions."""
        ra, dec, error = (self._find(what) for what in ("ra", "dec", "error"))
        if ra is None or dec is None:
            return None
        radius = self._numbers("error")
        if error is not None:
            radius = radius * unit_factor(self._table, error, "deg", self._columns.error_unit)
        return np.column_stack([*positions(self._table, ra, dec, self._path), radius])

    def _times(self) -> list[datetime | None]:
        column = self._column("time")
        kind = self._columns.time_format
        if kind == "clock":
            return [_clock(n, t) for n, t in zip(self._names, texts(column), strict=True)]
        if kind == "iso":
            return [_iso(t) for t in texts(column)]
        values = numbers(column)
        result: list[datetime | None] = [None] * len(values)
        good = np.flatnonzero(np.isfinite(values))
        with warnings.catch_warnings():
            # "Dubious year": what is out of range is rejected below.
            warnings.simplefilter("ignore")
            for row, time in zip(good.tolist(), _times(values[good], kind), strict=True):
                result[row] = time
        return result

    def _notice(
        self, row: int, name: str | None, time: datetime | None, place: FloatArray | None
    ) -> Notice:
        if name is None or time is None:
            what = "name" if name is None else "time"
            raise CatalogError("null_required", f"no {what}")
        if not _YEARS[0] <= time.year < _YEARS[1]:
            raise CatalogError("time_out_of_range", time.isoformat())
        circle = None if place is None else self._circle(place, time)
        columns = self._columns
        facts = [self._file, row, name, time.isoformat(), None if place is None else place.tolist()]
        return Notice(
            feed=f"catalog_{columns.id}",
            mission=columns.mission,
            instrument=columns.instrument,
            kind="catalog",
            notice_id=f"{self._file}#{name}",
            event_id=name,
            trigger_id=name,
            messenger=columns.messenger,
            role="observation",
            alert_type="initial",
            # A catalogue does not say when an event was announced: as if at once.
            issued=time,
            order=(time.timestamp(), 0, row),
            trigger_time=time,
            localization=circle,
            sha256=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
            skymap_url=None if circle is not None else f"{name}.fits",
            no_position_reason="" if circle is not None else "the table has no positions",
            details={"systematic_included": "true"} if self._included(circle) else {},
        )

    def _included(self, circle: Circle | None) -> bool:
        # A small error in a table with systematics is that of a better instrument.
        return self._columns.systematic_included or (
            circle is not None and bool(self._columns.systematic) and not circle.systematic
        )

    def _circle(self, place: FloatArray, time: datetime) -> Circle:
        ra, dec, radius = place.tolist()
        if not np.isfinite(ra) or not np.isfinite(dec):
            raise CatalogError("null_required", "no position")
        if not 0 <= ra < 360:
            raise CatalogError("ra_out_of_range", f"{ra}, expected [0, 360) degrees")
        if not -90 <= dec <= 90:
            raise CatalogError("dec_out_of_range", f"{dec}, expected [-90, 90] degrees")
        if radius == 0 and self._columns.zero_error_deg is not None:
            radius = self._columns.zero_error_deg
        if not np.isfinite(radius) or radius == 0:
            raise CatalogError("no_error_radius", "the row gives no error of the position")
        if not 0 < radius <= 180:
            raise CatalogError("error_out_of_range", f"{radius}, expected (0, 180] degrees")
        terms: tuple[SystematicTerm, ...] = ()
        if radius >= self._columns.systematic_from_deg:
            ages = (t for until, t in self._columns.systematic if until is None or time < until)
            terms = next(ages, ())
        return Circle(ra, dec, radius, self._columns.containment, terms)


def _times(values: FloatArray, kind: str) -> list[datetime]:
    # The scale of GPS seconds is their own; the others are UTC.
    time = Time(values, format=kind) if kind == "gps" else Time(values, format=kind, scale="utc")
    return [t.replace(tzinfo=UTC) for t in np.atleast_1d(time.utc.to_datetime()).tolist()]


def _iso(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        # Not a time: the row has none.
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _clock(name: str | None, text: str | None) -> datetime | None:
    """Date of a burst's name (YYMMDD) and time of day."""
    date, clock = _CLOCK_NAME.search(name or ""), _CLOCK_TIME.match(text or "")
    if date is None or clock is None:
        return None
    year, month, day = (int(g) for g in date.groups())
    second = float(clock[3])
    try:
        return datetime(
            year + (1900 if year > 66 else 2000),
            month,
            day,
            int(clock[1]),
            int(clock[2]),
            int(second),
            round(second % 1 * 1e6) % 1_000_000,
            tzinfo=UTC,
        )
    except ValueError:
        # No such date or time: the row has none.
        return None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) and value > 0 else None
