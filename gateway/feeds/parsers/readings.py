"""Values as missions write them, in the units, frames and clocks that a feed file names."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import erfa

from crossmatch.errors import NoticeError
from voevents.times import FIRST_YEAR, LAST_YEAR, parse_time

_TRIGGER = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9._:+-]{0,119}")
ERROR_UNITS = {
    "deg": 1.0,
    "arcmin": 1 / 60,
    "arcsec": 1 / 3600,
    "mas": 1 / 3.6e6,
    "rad": math.degrees(1.0),
}
FRAMES = ("icrs", "fk5", "galactic")
TIME_FORMATS = ("iso", "unix", "unix_ms", "gps", "jd", "mjd", "tjd")

_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = {
    "jd": (datetime(2000, 1, 1, 12, tzinfo=UTC), 2451545.0),
    "mjd": (datetime(2000, 1, 1, tzinfo=UTC), 51544.0),
    "tjd": (datetime(2000, 1, 1, tzinfo=UTC), 11544.0),
}
_SECONDS = {
    "unix": (_UNIX, 1.0),
    "unix_ms": (_UNIX, 1e-3),
    "gps": (datetime(1980, 1, 6, tzinfo=UTC), 1.0),
}
_SEXAGESIMAL = re.compile(
    r"([+-]?)([0-9]{1,3})[:hd ]\s*([0-9]{1,2})[:m' ]\s*([0-9]{1,2}(?:\.[0-9]{1,12})?)[s\"]?"
)


def number_from(value: Any, name: str) -> float | None:
    """A finite number, also one written as text; ``None`` when absent or empty.

    Raises
    ------
    NoticeError
        ``bad_field``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise NoticeError("bad_field", f"{name} is {str(value)[:60]!r}; expected a number")
    return number


def angle_from(value: Any, name: str, *, hours: bool) -> float | None:
    """Degrees of a number of degrees or of a sexagesimal text (``13:41:16.7``).

    Parameters
    ----------
    hours : bool
        Whether a sexagesimal text counts hours, as right ascensions do.

    Raises
    ------
    NoticeError
        ``bad_field``.

    Examples
    --------
    >>> angle_from("01:30:00", "ra", hours=True), angle_from("-0:30:00", "dec", hours=False)
    (22.5, -0.5)
    """
    match = _SEXAGESIMAL.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return number_from(value, name)
    whole, minutes, seconds = int(match[2]), int(match[3]), float(match[4])
    if minutes >= 60 or seconds >= 60:
        raise NoticeError("bad_field", f"{name} is {value[:60]!r}; expected less than 60")
    degrees = (whole + minutes / 60 + seconds / 3600) * (15 if hours else 1)
    return -degrees if match[1] == "-" else degrees


def time_from(value: Any, name: str, time_format: str, time_system: str) -> datetime | None:
    """UTC of a time in one of ``TIME_FORMATS``; ``None`` when absent or empty.

    ``gps`` counts the seconds since 6 January 1980 of the GPS clock; days (``jd``,
    ``mjd``, ``tjd`` = JD - 2440000.5) are those of ``time_system``.

    Raises
    ------
    NoticeError
        ``bad_time``, ``bad_field``.

    Examples
    --------
    >>> time_from("1126259462.4", "time", "gps", "UTC").isoformat()
    '2015-09-14T09:50:45.400000+00:00'
    """
    if value is None or value == "":
        return None
    if time_format == "iso":
        if not isinstance(value, str):
            raise NoticeError("bad_time", f"{name} is {str(value)[:60]!r}; expected ISO 8601")
        return parse_time(value, time_system)
    number = number_from(value, name)
    if number is None:
        return None
    try:
        if time_format in _DAYS:
            epoch, offset = _DAYS[time_format]
            moment = epoch + timedelta(days=number - offset)
        else:
            epoch, scale = _SECONDS[time_format]
            moment = epoch + timedelta(seconds=number * scale)
    except OverflowError as error:
        raise NoticeError("bad_time", f"{name} is {number:g}: no such day") from error
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise NoticeError("bad_time", f"{name} {number:g} lies outside {FIRST_YEAR}..{LAST_YEAR}")
    if time_format in ("unix", "unix_ms"):
        return moment
    return parse_time(
        moment.replace(tzinfo=None).isoformat(timespec="microseconds"),
        "GPS" if time_format == "gps" else time_system,
    )


def icrs_from(lon_deg: float, lat_deg: float, frame: str) -> tuple[float, float]:
    """ICRS degrees of a position; FK5 is taken as ICRS (they differ by less than 0.03 arcsec)."""
    if frame != "galactic":
        return lon_deg, lat_deg
    ra, dec = erfa.g2icrs(math.radians(lon_deg), math.radians(lat_deg))
    return math.degrees(ra) % 360.0, math.degrees(dec)


def checked_trigger(text: str) -> str:
    """``text`` if it can name an event on topics, in files and in IVOIDs.

    Raises
    ------
    NoticeError
        ``bad_trigger_id``: other than 1 to 120 letters, digits and ``._:+-``.
    """
    if not _TRIGGER.fullmatch(text):
        raise NoticeError(
            "bad_trigger_id", f"{text[:60]!r}; expected 1 to 120 letters, digits and ._:+-"
        )
    return text
