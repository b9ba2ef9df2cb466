"""Values as missions write them, in the units, frames and clocks that a feed file names."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import erfa

from crossmatch.errors import NoticeError
from gateway.feeds.paths import is_like
from voevents.times import FIRST_YEAR, LAST_YEAR, parse_time

if TYPE_CHECKING:
    from gateway.feeds.spec import Feed

_TRIGGER = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9._:+-]{0,119}")
ERROR_UNITS = {
    "deg": 1.0,
    "arcmin": 1 / 60,
    "arcsec": 1 / 3600,
    "mas": 1 / 3.6e6,
    "rad": math.degrees(1.0),
}
FRAMES = ("icrs", "fk5", "galactic")
RATE_UNITS = {"Hz": 1.0, "per_year": 1 / (365.25 * 86400)}
# Sums of rounded terms may exceed 1 by a few units in the last place.
_ROUNDING = 1e-6
_TRUE = ("true", "1", "yes")
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


def number_in(text: str | None) -> float | None:
    """A finite number in a text where anything may stand; ``None`` without one."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_true(value: Any) -> bool:
    """Whether a mission says yes: ``true``, ``1`` or ``yes``, also as one of a list."""
    if isinstance(value, str):
        return value.strip().lower() in _TRUE
    return any(is_like(value, text) for text in _TRUE)


def rate_hz(rate: float | None, unit: str) -> float | None:
    """A false-alarm rate in Hz; ``None`` for a negative one, which stands for none."""
    return None if rate is None or rate < 0 else rate * RATE_UNITS[unit]


def probability(value: float | None) -> float | None:
    """``value`` if it is a probability, but for rounding, else ``None``."""
    if value is None or not -_ROUNDING <= value <= 1 + _ROUNDING:
        return None
    return min(max(value, 0.0), 1.0)


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


def angle_to_icrs(lon_deg: float, lat_deg: float, angle_deg: float, frame: str) -> float:
    """Position angle, from north through east, of a direction that ``frame`` counts from its north.

    Examples
    --------
    >>> round(angle_to_icrs(0.0, 0.0, 0.0, "galactic"), 1)
    -58.6
    """
    if frame != "galactic":
        return angle_deg
    lon, lat = math.radians(lon_deg), math.radians(lat_deg)
    _, pole_lat = erfa.icrs2g(0.0, math.pi / 2)
    pole_lon, _ = erfa.icrs2g(0.0, math.pi / 2)
    # Bearing of the celestial pole, seen from the position, in the galactic frame.
    east = math.sin(pole_lon - lon) * math.cos(pole_lat)
    north = math.cos(lat) * math.sin(pole_lat)
    north -= math.sin(lat) * math.cos(pole_lat) * math.cos(pole_lon - lon)
    return angle_deg - math.degrees(math.atan2(east, north))


def plain_number(text: str) -> str:
    """Digits without leading zeros, anything else as it is: 010205 and 10205 are one trigger."""
    return str(int(text)) if re.fullmatch(r"-?[0-9]{1,30}", text) else text


def event_name(feed: Feed, trigger_id: str) -> str:
    """Id of the event that a feed's trigger is."""
    return f"{feed.prefix}_{trigger_id}" if feed.prefix else trigger_id


def is_mock(feed: Feed, trigger_id: str, otherwise: str = "") -> bool:
    """Whether triggers so named are tests; ``otherwise`` is the pattern of a feed that has none."""
    pattern = feed.test_triggers or otherwise
    return bool(pattern and re.match(pattern, trigger_id))


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
