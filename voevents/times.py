"""Times as notices write them, to timezone-aware UTC."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

import erfa

from crossmatch.errors import NoticeError

TIME_SYSTEMS = ("UTC", "TDB", "TT", "TAI", "GPS")
FIRST_YEAR, LAST_YEAR = 1990, 2099

_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,18}))?"
    r"\s*(Z|z|UTC|TDB|TT|TAI|GPS|[+-][0-9]{2}:?[0-9]{2})?"
)
_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_TJD_0 = datetime(1968, 5, 24, tzinfo=UTC)


def parse_time(text: str, system: str = "UTC") -> datetime:
    """UTC of an ISO 8601 date and time.

    Parameters
    ----------
    text : str
        ``2024-01-12T17:37:25.12``, with ``Z``, an offset or the name of a time
        system after it, or nothing. A leap second (``:60``) becomes the first
        instant of the next minute, as POSIX counts.
    system : str
        Time system when the text names none: UTC, TDB, TT, TAI or GPS.

    Raises
    ------
    NoticeError
        ``bad_time``: not such a text, no such day, or a year outside 1990 to 2099.

    Examples
    --------
    >>> parse_time("2016-12-31T23:59:60Z").isoformat()
    '2017-01-01T00:00:00+00:00'
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise NoticeError("bad_time", f"{text[:60]!r} is not an ISO 8601 date and time")
    year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
    fraction, suffix = match[7], match[8] or ""
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise NoticeError("bad_time", f"{text[:60]!r}: {error}") from error
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise NoticeError("bad_time", f"{text[:60]!r} lies outside {FIRST_YEAR}..{LAST_YEAR}")
    if leap:
        moment += timedelta(seconds=1)
    elif fraction:
        moment += timedelta(microseconds=round(int(fraction) * 10 ** (6 - len(fraction))))
    if suffix[:1] in ("+", "-"):
        sign = -1 if suffix[0] == "-" else 1
        offset = sign * timedelta(hours=int(suffix[1:3]), minutes=int(suffix[-2:]))
        if abs(offset) >= timedelta(hours=24):
            raise NoticeError("bad_time", f"{text[:60]!r}: offset of a day or more")
        return moment.replace(tzinfo=timezone(offset)).astimezone(UTC)
    if suffix.upper() == "Z":
        return moment
    return _to_utc(moment, suffix or system)


def truncated_julian_time(day: float | None, second: float | None) -> datetime | None:
    """UTC of a truncated Julian day (JD - 2440000.5) and a second of that day.

    None if one is missing, the second lies outside the day, or the year outside 1990 to 2099.

    Examples
    --------
    >>> truncated_julian_time(19853, 55156.449).isoformat()
    '2022-10-01T15:19:16.449000+00:00'
    """
    if day is None or second is None or not 0 <= second < 86401 or not 0 <= day < 100_000:
        return None
    moment = _TJD_0 + timedelta(days=math.floor(day), seconds=second)
    return moment if FIRST_YEAR <= moment.year <= LAST_YEAR else None


def _to_utc(moment: datetime, system: str) -> datetime:
    """UTC of a clock reading; TDB - TT by its main term (Astronomical Almanac), good to 0.03 ms."""
    if system == "UTC":
        return moment
    if system == "GPS":
        tai = moment + timedelta(seconds=19)
    elif system == "TAI":
        tai = moment
    else:
        tai = moment - timedelta(seconds=32.184)
        if system == "TDB":
            days = (moment - _J2000) / timedelta(days=1)
            anomaly = math.radians(357.53 + 0.98560028 * days)
            tai -= timedelta(seconds=0.001658 * math.sin(anomaly))
    utc = tai - timedelta(seconds=_tai_minus_utc(tai.year, tai.month))
    # Just after a leap second the offset of the earlier month holds.
    return tai - timedelta(seconds=_tai_minus_utc(utc.year, utc.month))


@lru_cache(maxsize=4096)
def _tai_minus_utc(year: int, month: int) -> float:
    offset = 0.0
    for row in erfa.leap_seconds.get():
        if (int(row["year"]), int(row["month"])) <= (year, month):
            offset = float(row["tai_utc"])
    return offset
