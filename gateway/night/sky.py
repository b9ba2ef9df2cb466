"""What can be seen: Sun, altitude, fields, and the survey's exposures of these nights.

The survey has ZTF's packet format, not its site: it stands at Cerro Pachón, from where the
field of AT2017gfo was 47 degrees high at dusk (6 at Palomar). Chile had daylight from the
merger to the three-detector map; a small early watch at Siding Spring, where it was night,
sends some 8 % of the alerts, so that the one-detector map has something to match which the
next one excludes. Four evenings of follow-up around that map end the replay.

Positions are good to a few arcminutes, which is enough to plan with; no ephemeris file
or table of Earth orientation is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmatch.model import BoolArray, FloatArray, IntArray
from gateway.night.facts import facts
from gateway.night.maps import sidereal_angle_deg, unit_vectors

MIN_ALTITUDE_DEG = 30.0
NAUTICAL_DEG = -12.0
# Side of ZTF's field of view; the grid overlaps nowhere and leaves no gaps.
FIELD_DEG = 6.86
SECOND = 1 / 86400
_CADENCE = 41 * SECOND
_OBLIQUITY = np.radians(23.4393)
_GALACTIC_POLE = (192.85948, 27.12825)
_GALACTIC_NODE = 122.93192
GREEN, RED, INFRARED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Site:
    """A place on Earth, degrees, east and north positive."""

    name: str
    longitude_deg: float
    latitude_deg: float


def site(key: str) -> Site:
    """The ``main`` or ``early`` site of the facts."""
    entry = facts()["survey"][key]
    return Site(entry["name"], entry["longitude"], entry["latitude"])


def sun_position(jd: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination of the Sun, degrees, at Julian dates ``jd``.

    Low-precision formula of the Astronomical Almanac, section C: 0.01 deg until 2050.
    """
    days = np.asarray(jd, dtype=np.float64) - 2451545.0
    mean = np.radians(357.528 + 0.9856003 * days)
    longitude = np.radians(
        280.460 + 0.9856474 * days + 1.915 * np.sin(mean) + 0.020 * np.sin(2 * mean)
    )
    ra = np.arctan2(np.cos(_OBLIQUITY) * np.sin(longitude), np.cos(longitude))
    return np.degrees(ra) % 360, np.degrees(np.arcsin(np.sin(_OBLIQUITY) * np.sin(longitude)))


def altitude_deg(
    place: Site, jd: FloatArray | float, ra_deg: FloatArray, dec_deg: FloatArray
) -> FloatArray:
    """Altitude above the horizon, without refraction; the arguments broadcast."""
    hour_angle = np.radians(sidereal_angle_deg(jd) + place.longitude_deg - np.asarray(ra_deg))
    latitude, dec = np.radians(place.latitude_deg), np.radians(dec_deg)
    sine = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(hour_angle)
    altitude: FloatArray = np.degrees(np.arcsin(np.clip(sine, -1, 1)))
    return altitude


def sun_altitude_deg(place: Site, jd: FloatArray) -> FloatArray:
    """Altitude of the Sun."""
    return altitude_deg(place, jd, *sun_position(jd))


def galactic_coordinates(ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Galactic longitude and latitude, degrees."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    pole_ra, pole_dec = np.radians(_GALACTIC_POLE)
    latitude = np.arcsin(
        np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    )
    longitude = np.radians(_GALACTIC_NODE) - np.arctan2(
        np.cos(dec) * np.sin(ra - pole_ra),
        np.sin(dec) * np.cos(pole_dec) - np.cos(dec) * np.sin(pole_dec) * np.cos(ra - pole_ra),
    )
    return np.degrees(longitude) % 360, np.degrees(latitude)


def ecliptic_coordinates(ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ecliptic longitude and latitude, degrees."""
    x, y, z = unit_vectors(np.asarray(ra_deg), np.asarray(dec_deg)).T
    cos, sin = np.cos(_OBLIQUITY), np.sin(_OBLIQUITY)
    longitude = np.arctan2(cos * y + sin * z, x)
    return np.degrees(longitude) % 360, np.degrees(np.arcsin(cos * z - sin * y))


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The survey's grid: bands of declination cut into fields of about 47 square degrees.

    Attributes
    ----------
    ra_deg, dec_deg : (n,) float64
        Centres; the field number is the index.
    band_start, band_count : (b,) int64
        First field and number of fields of each band from south to north.
    """

    ra_deg: FloatArray
    dec_deg: FloatArray
    band_start: IntArray
    band_count: IntArray

    def of(self, ra_deg: FloatArray, dec_deg: FloatArray) -> IntArray:
        """(n,) field numbers of (n,) positions."""
        height = 180 / len(self.band_count)
        band = np.clip(((np.asarray(dec_deg) + 90) / height).astype(np.int64), 0, None)
        band = np.minimum(band, len(self.band_count) - 1)
        count = self.band_count[band]
        step = ((np.asarray(ra_deg) % 360) / 360 * count).astype(np.int64)
        return self.band_start[band] + np.minimum(step, count - 1)

    def corners(self, field: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """(n,) lower and upper right ascension and declination of (n,) fields."""
        height = 180 / len(self.band_count)
        band = np.searchsorted(self.band_start, field, side="right") - 1
        width: FloatArray = np.asarray(360 / self.band_count[band], dtype=np.float64)
        step = field - self.band_start[band]
        south: FloatArray = np.asarray(band * height - 90.0, dtype=np.float64)
        return step * width, (step + 1) * width, south, south + height


def fields() -> Fields:
    """The grid of the whole sky."""
    bands = round(180 / FIELD_DEG)
    middles = -90 + 180 / bands * (np.arange(bands) + 0.5)
    counts = np.maximum(1, np.ceil(360 * np.cos(np.radians(middles)) / FIELD_DEG)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    ra = np.concatenate([(np.arange(c) + 0.5) * 360 / c for c in counts])
    return Fields(ra, np.repeat(middles, counts), starts, counts)


@dataclass(frozen=True, slots=True, eq=False)
class Exposures:
    """Exposures in the order in which they were taken.

    Attributes
    ----------
    jd : (n,) float64
        Start, Julian date UTC.
    field : (n,) int64
    fid : (n,) int64
        Filter as ZTF counts: 1 g, 2 r, 3 i.
    early : (n,) bool
        Taken at the early site.
    limit : (n,) float64
        5 sigma limiting magnitude, AB.
    """

    jd: FloatArray
    field: IntArray
    fid: IntArray
    early: BoolArray
    limit: FloatArray


def _jd(day: int, hour: float) -> float:
    """Julian date of an hour after 0 h UTC on a day of August 2017."""
    return 2457982.5 + (day - 17) + hour / 24


def night_bounds(place: Site, start_jd: float) -> tuple[float, float]:
    """First dusk to dawn after ``start_jd`` (at most a day), Sun lower than 12 degrees."""
    times = start_jd + np.arange(0, 1.5, 1 / 1440)
    dark = sun_altitude_deg(place, times) < NAUTICAL_DEG
    first = int(np.argmax(dark))
    return float(times[first]), float(times[first + int(np.argmin(dark[first:]))])


def exposures() -> Exposures:
    """All exposures of the replay: the early watch, the night, and four nights of follow-up."""
    grid = fields()
    early, main = site("early"), site("main")
    wanted = target_fields(grid)
    target = _target_visits(wanted[:5], _jd(17, 23.55), (INFRARED, RED, GREEN, INFRARED))
    # A small telescope keeps the early watch, hence the slower cadence.
    plan = _pairs(grid, early, np.arange(_jd(17, 12.85), _jd(17, 17.70), 165 * SECOND), 12, True)
    dusk, dawn = night_bounds(main, _jd(17, 20))
    slots = np.arange(dusk, dawn, _CADENCE)
    taken = np.array([time for time, *_ in target])
    free = np.abs(slots[:, None] - taken).min(axis=1) >= _CADENCE
    plan += target
    plan += _pairs(grid, main, slots[free], 30, False, leave_out=tuple(wanted[:5]))
    for day in (18, 19, 20, 21):
        plan += _target_visits(wanted[:14], _jd(day, 23.15), (INFRARED, RED, GREEN))
    plan.sort()
    jd, field, fid, at_early = (np.array(column) for column in zip(*plan, strict=True))
    return Exposures(jd, field, fid, at_early, _limits(grid, jd, field, fid, at_early))


def _limits(
    grid: Fields, jd: FloatArray, field: IntArray, fid: IntArray, early: BoolArray
) -> FloatArray:
    """Depth by filter, less with air mass, less at the small telescope."""
    depth = np.array([0.0, 21.1, 20.9, 20.6])[fid]
    height = np.empty(len(jd))
    for key, here in (("early", early), ("main", ~early)):
        height[here] = altitude_deg(
            site(key), jd[here], grid.ra_deg[field[here]], grid.dec_deg[field[here]]
        )
    airmass = 1 / np.sin(np.radians(np.maximum(height, 10)))
    return depth - 0.25 * (airmass - 1) - 0.4 * early


def target_fields(grid: Fields) -> list[int]:
    """Fields around the three-detector map, that of AT2017gfo first, then by distance.

    Only those that stand high enough until the last exposure of an evening.
    """
    source = facts()["kilonova"]
    entry = next(m for m in facts()["wave"]["maps"] if "peak_ra" in m)
    first = int(grid.of(np.array([source["ra"]]), np.array([source["dec"]]))[0])
    peak = unit_vectors(np.array(entry["peak_ra"]), np.array(entry["peak_dec"]))
    distance = np.arccos(np.clip(unit_vectors(grid.ra_deg, grid.dec_deg) @ peak, -1, 1))
    low = altitude_deg(site("main"), _jd(21, 23.85), grid.ra_deg, grid.dec_deg) < 22
    distance[low] = np.inf
    return [first, *(int(f) for f in np.argsort(distance, kind="stable") if f != first)]


def _target_visits(
    wanted: list[int], start_jd: float, filters: tuple[int, ...]
) -> list[tuple[float, int, int, bool]]:
    """Each field once in each filter, with 16 minutes between the filters."""
    return [
        (start_jd + k * 16 / 1440 + n * _CADENCE, field, fid, False)
        for k, fid in enumerate(filters)
        for n, field in enumerate(wanted)
    ]


def _pairs(
    grid: Fields,
    place: Site,
    slots: FloatArray,
    block: int,
    early: bool,
    leave_out: tuple[int, ...] = (),
) -> list[tuple[float, int, int, bool]]:
    """Blocks of fields, each field in g and then in r, those that set soonest first."""
    plan: list[tuple[float, int, int, bool]] = []
    seen = np.zeros(len(grid.ra_deg), dtype=bool)
    seen[list(leave_out)] = True
    while len(slots) >= 2 * block:
        now, later = slots[0], slots[2 * block - 1]
        high = (altitude_deg(place, now, grid.ra_deg, grid.dec_deg) > MIN_ALTITUDE_DEG) & (
            altitude_deg(place, later, grid.ra_deg, grid.dec_deg) > MIN_ALTITUDE_DEG
        )
        free = np.flatnonzero(high & ~seen)
        turned = sidereal_angle_deg(now) + place.longitude_deg - grid.ra_deg[free]
        west = (turned + 180) % 360 - 180
        chosen = free[np.argsort(-west, kind="stable")][:block]
        if len(chosen) == 0:
            # All that is up has been seen twice: wait for what rises.
            slots = slots[1:]
            continue
        seen[chosen] = True
        # The second visit comes a whole block later, even when fields are few.
        for k, fid in enumerate((GREEN, RED)):
            times = slots[k * block : k * block + len(chosen)]
            plan += [(float(t), int(f), fid, early) for t, f in zip(times, chosen, strict=True)]
        slots = slots[2 * block :]
    return plan
