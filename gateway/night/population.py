"""What the survey sees: objects on a realistic sky, and their detections in each exposure.

All columns are NumPy arrays. A class of objects has its own distribution on the sky,
brightness, sign, real-bogus scores, nearest catalogue source and history.

Kept out on purpose, so that the replay's outcome has one reason: new transients in the
fields of follow-up (but AT2017gfo and one unrelated supernova); and persistent real
sources that are not stars near the invented Swift burst and IceCube track.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossmatch.model import BoolArray, FloatArray, IntArray
from gateway.night.facts import FILTERS, decoy, facts, julian_date, kilonova_magnitude, light_curve
from gateway.night.maps import antenna_power, unit_vectors
from gateway.night.sky import (
    Exposures,
    Fields,
    ecliptic_coordinates,
    exposures,
    galactic_coordinates,
    target_fields,
)
from gateway.night.sky import (
    fields as sky_fields,
)

STAR, AGN, OLD_SN, NEW_SN, ASTEROID, BOGUS, YOUNG_SN, EARLY_SN, KILONOVA = range(9)
CLASS_NAMES = (
    "variable star",
    "active galaxy",
    "known supernova",
    "new supernova",
    "minor body",
    "bogus",
    "unrelated young supernova",
    "new supernova of the early watch",
    "AT2017gfo",
)
# Shares of the alerts; ZTF's public stream is of this kind (Patterson et al. 2019, PASP 131,
# 018001, for the volume; the split is ours). New supernovae: a few dozen a night.
_SHARES = {STAR: 0.47, AGN: 0.11, OLD_SN: 0.03, NEW_SN: 0.0015, ASTEROID: 0.16, BOGUS: 0.2285}
_SINGLE = (ASTEROID, BOGUS)
_N_EARLY_SN = 24
# Persistent real sources keep this far from the invented events, degrees.
_CLEAR_DEG = {"swift_bat": 0.5, "icecube_gold": 3.0}
_NEW = (NEW_SN, YOUNG_SN, EARLY_SN, KILONOVA)


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Sources, one row each.

    Attributes
    ----------
    kind : (n,) int64
        Class number.
    ra_deg, dec_deg : (n,) float64
    field : (n,) int64
    mag : (n,) float64
        Typical magnitude of the difference in r, AB.
    color : (n,) float64
        g - r of the difference; r - i is half of it.
    scatter : (n,) float64
        Standard deviation of the magnitude between exposures.
    slope : (n,) float64
        mag/day, negative for rising.
    negative : (n,) float64
        Probability of a negative subtraction.
    prior : (n,) int64
        Detections before the replay.
    start_jd : (n,) float64
        First of these; NaN when there is none.
    """

    kind: IntArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    field: IntArray
    mag: FloatArray
    color: FloatArray
    scatter: FloatArray
    slope: FloatArray
    negative: FloatArray
    prior: IntArray
    start_jd: FloatArray

    def __len__(self) -> int:
        return len(self.kind)

    def rows(self, chosen: IntArray | BoolArray) -> Objects:
        """Some of the objects."""
        return Objects(*(getattr(self, f.name)[chosen] for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """Objects, exposures, and which object was detected in which exposure.

    ``object`` and ``exposure`` are (n,) row numbers, in order of exposure; ``mag`` is the
    measured magnitude, ``sigma`` its error, ``positive`` the sign of the subtraction;
    ``nth`` counts the detections of the object in the replay from 0.
    """

    objects: Objects
    exposures: Exposures
    grid: Fields
    object: IntArray
    exposure: IntArray
    mag: FloatArray
    sigma: FloatArray
    positive: BoolArray
    nth: IntArray


def night(n: int, seed: int) -> Night:
    """Exactly ``n`` detections; equal seeds give equal nights.

    Raises
    ------
    ValueError
        When ``n`` is too small for AT2017gfo and its company (about 300).
    """
    rng = np.random.default_rng([seed, 170817])
    plan, grid = exposures(), sky_fields()
    objects, pairs = _special(rng, plan, grid)
    rest = n - len(pairs.object)
    if rest < 0:
        raise ValueError(f"{n} alerts are fewer than the {len(pairs.object)} that must be there")
    wanted = {kind: int(share * rest) for kind, share in _SHARES.items()}
    wanted[BOGUS] += rest - sum(wanted.values())
    groups, found = [objects], [pairs]
    base = len(objects)
    for kind, count in wanted.items():
        more, seen = _class(kind, count, rng, plan, grid)
        groups.append(more)
        found.append(seen.shifted(base))
        base += len(more)
    everything = Objects(
        *(np.concatenate([getattr(g, f.name) for g in groups]) for f in fields(Objects))
    )
    return _assembled(everything, _joined(found), plan, grid)


@dataclass(frozen=True, slots=True, eq=False)
class _Detections:
    object: IntArray
    exposure: IntArray
    mag: FloatArray
    sigma: FloatArray
    positive: BoolArray

    def shifted(self, base: int) -> _Detections:
        return _Detections(self.object + base, self.exposure, self.mag, self.sigma, self.positive)

    def rows(self, chosen: IntArray | BoolArray) -> _Detections:
        return _Detections(*(getattr(self, f.name)[chosen] for f in fields(self)))


def _joined(found: list[_Detections]) -> _Detections:
    return _Detections(
        *(np.concatenate([getattr(d, f.name) for d in found]) for f in fields(_Detections))
    )


def _assembled(objects: Objects, seen: _Detections, plan: Exposures, grid: Fields) -> Night:
    seen = seen.rows(np.lexsort((seen.object, seen.exposure)))
    by_object = np.argsort(seen.object, kind="stable")
    sorted_object = seen.object[by_object]
    first = np.searchsorted(sorted_object, sorted_object, side="left")
    nth = np.empty(len(by_object), dtype=np.int64)
    nth[by_object] = np.arange(len(by_object)) - first
    return Night(objects, plan, grid, seen.object, seen.exposure, seen.mag, seen.sigma,
                 seen.positive, nth)  # fmt: skip


def _positions(
    kind: int, count: int, rng: np.random.Generator, grid: Fields, visited: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Positions in the fields ``visited``, drawn with the density of the class on the sky."""
    ra_parts: list[FloatArray] = []
    dec_parts: list[FloatArray] = []
    have = 0
    while have < count:
        tried = max(1000, 4 * (count - have))
        west, east, south, north = grid.corners(rng.choice(visited, size=tried))
        ra = rng.uniform(west, east)
        dec = np.degrees(
            np.arcsin(rng.uniform(np.sin(np.radians(south)), np.sin(np.radians(north))))
        )
        keep = rng.uniform(size=tried) < _sky_density(kind, ra, dec)
        if kind in (AGN, OLD_SN, NEW_SN):
            keep &= ~near_decoy(ra, dec)
        ra_parts.append(ra[keep])
        dec_parts.append(dec[keep])
        have += int(keep.sum())
    return np.concatenate(ra_parts)[:count], np.concatenate(dec_parts)[:count]


def _sky_density(kind: int, ra: FloatArray, dec: FloatArray) -> FloatArray:
    """(n,) density of the class relative to its maximum."""
    longitude, latitude = galactic_coordinates(ra, dec)
    height = np.abs(latitude)
    density: FloatArray
    if kind == STAR:
        # A disk, a bulge, and the halo's few.
        inward = np.minimum(longitude, 360 - longitude)
        density = (
            0.06 + 0.5 * np.exp(-height / 9) + 0.44 * np.exp(-np.hypot(inward / 22, height / 11))
        )
    elif kind == ASTEROID:
        density = 0.02 + 0.98 * np.exp(-0.5 * (ecliptic_coordinates(ra, dec)[1] / 9) ** 2)
    elif kind == BOGUS:
        # Crowded fields subtract badly.
        density = 0.35 + 0.65 * np.exp(-height / 12)
    else:
        # Dust hides what lies behind the plane.
        density = np.where(height > 5, 10 ** (-0.4 * 0.15 / np.sin(np.radians(height + 1))), 0.0)
    return density


def near_decoy(ra_deg: FloatArray, dec_deg: FloatArray) -> BoolArray:
    """(n,) whether positions lie in the circles kept free around the invented events."""
    near = np.zeros(len(ra_deg), dtype=np.bool_)
    vectors = unit_vectors(ra_deg, dec_deg)
    for kind, radius in _CLEAR_DEG.items():
        centre = decoy(kind)
        axis = unit_vectors(np.array(centre["ra"]), np.array(centre["dec"]))
        near |= vectors @ axis > np.cos(np.radians(radius))
    return near


def _class(
    kind: int, count: int, rng: np.random.Generator, plan: Exposures, grid: Fields
) -> tuple[Objects, _Detections]:
    """Objects of one class with exactly ``count`` detections."""
    allowed = np.unique(plan.field)
    if kind == NEW_SN:
        allowed = np.setdiff1d(allowed, target_fields(grid)[:14])
    if kind in _SINGLE:
        return _single(kind, count, rng, plan, grid)
    groups: list[Objects] = []
    found: list[_Detections] = []
    have, base = 0, 0
    while have < count:
        size = (count - have) // 2 + 50
        ra, dec = _positions(kind, size, rng, grid, allowed)
        objects = _draw(kind, ra, dec, rng, plan, grid)
        seen = _observe(objects, rng, plan)
        groups.append(objects)
        found.append(seen.shifted(base))
        base += size
        have += len(seen.object)
    seen = _joined(found)
    seen = seen.rows(np.argsort(seen.object, kind="stable")[:count])
    every = Objects(
        *(np.concatenate([getattr(g, f.name) for g in groups]) for f in fields(Objects))
    )
    used, renumbered = np.unique(seen.object, return_inverse=True)
    return every.rows(used), _Detections(
        renumbered.astype(np.int64), seen.exposure, seen.mag, seen.sigma, seen.positive
    )


def _single(
    kind: int, count: int, rng: np.random.Generator, plan: Exposures, grid: Fields
) -> tuple[Objects, _Detections]:
    """Objects seen once: what moves or is no object does not come back to its place."""
    allowed = np.unique(plan.field)
    ra, dec = _positions(kind, count, rng, grid, allowed)
    objects = _draw(kind, ra, dec, rng, plan, grid)
    start, end, order = _visits(plan, grid)
    field = objects.field
    pick = start[field] + (rng.uniform(size=count) * (end[field] - start[field])).astype(np.int64)
    exposure = order[pick]
    limit = plan.limit[exposure]
    mag = np.minimum(objects.mag, limit - rng.uniform(0.05, 0.6, size=count))
    return objects, _Detections(
        np.arange(count, dtype=np.int64),
        exposure,
        mag,
        _sigma(mag, limit),
        rng.uniform(size=count) >= objects.negative,
    )


def _visits(plan: Exposures, grid: Fields) -> tuple[IntArray, IntArray, IntArray]:
    """Per field, the slice [start, end) of ``order`` that lists its exposures in time."""
    order = np.argsort(plan.field, kind="stable")
    numbers = np.arange(len(grid.ra_deg))
    sorted_field = plan.field[order]
    return (
        np.searchsorted(sorted_field, numbers, side="left"),
        np.searchsorted(sorted_field, numbers, side="right"),
        order,
    )


def _observe(objects: Objects, rng: np.random.Generator, plan: Exposures) -> _Detections:
    """Detections of ``objects`` in every exposure of their fields."""
    start, end, order = _visits(plan, sky_fields())
    count = end[objects.field] - start[objects.field]
    row = np.repeat(np.arange(len(objects), dtype=np.int64), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    exposure = order[start[objects.field[row]] + within]
    limit, fid = plan.limit[exposure], plan.fid[exposure]
    days = plan.jd[exposure] - plan.jd[0]
    true = (
        objects.mag[row]
        + objects.color[row] * np.array([0.0, 1.0, 0.0, -0.5])[fid]
        + objects.slope[row] * days
        + objects.scatter[row] * rng.normal(size=len(row))
    )
    sigma = _sigma(true, limit)
    mag = true + sigma * rng.normal(size=len(row))
    # One exposure in fourteen falls on a gap between detectors or a masked star.
    seen = (mag < limit - 0.05) & (rng.uniform(size=len(row)) > 0.07)
    flips = rng.uniform(size=len(row)) < 0.1
    positive = (rng.uniform(size=len(objects)) >= objects.negative)[row]
    positive = np.where(flips & (objects.negative[row] > 0), ~positive, positive)
    return _Detections(row, exposure, mag, sigma, positive).rows(seen)


def _sigma(mag: FloatArray, limit: FloatArray) -> FloatArray:
    """Error of a magnitude when ``limit`` is 5 sigma, with a floor of 0.02."""
    return np.asarray(np.hypot(0.02, 0.2171 * 10 ** (0.4 * (np.minimum(mag, limit) - limit))))


def _draw(
    kind: int,
    ra: FloatArray,
    dec: FloatArray,
    rng: np.random.Generator,
    plan: Exposures,
    grid: Fields,
) -> Objects:
    """Properties of objects of one class at given positions."""
    n = len(ra)
    first = plan.jd[0]
    # Counts of alerts rise towards the limit.
    faint = 20.7 - rng.exponential({STAR: 1.5, ASTEROID: 0.9, BOGUS: 0.8}.get(kind, 0.8), size=n)
    zero, none = np.zeros(n), np.full(n, np.nan)
    columns: dict[str, Any] = {
        "mag": np.clip(faint, 12.5, 20.6),
        "color": rng.normal(0.5, 0.3, size=n),
        "scatter": zero,
        "slope": zero,
        "negative": zero,
        "prior": np.zeros(n, dtype=np.int64),
        "start_jd": none,
    }
    if kind in (STAR, AGN):
        prior = np.ceil(rng.lognormal(3.0 if kind == STAR else 2.6, 1.1, size=n))
        columns |= {
            "scatter": rng.uniform(0.1, 0.5, size=n) if kind == STAR else np.full(n, 0.08),
            "negative": np.full(n, 0.47 if kind == STAR else 0.4),
            "prior": prior.astype(np.int64),
            "start_jd": first - rng.uniform(35, 1000, size=n),
        }
    elif kind == OLD_SN:
        age = rng.uniform(4, 90, size=n)
        columns |= {
            "mag": np.clip(20.2 - rng.exponential(0.8, size=n), 15.5, 20.3),
            "scatter": np.full(n, 0.03),
            "slope": np.where(age < 15, -0.06, 0.03),
            "prior": np.ceil(age / 3 * rng.uniform(0.8, 2, size=n)).astype(np.int64),
            "start_jd": first - age,
        }
    elif kind in _NEW:
        columns |= {
            "mag": rng.uniform(19.3, 20.0, size=n),
            "color": rng.normal(0.0, 0.1, size=n),
            "scatter": np.full(n, 0.02),
            "slope": rng.uniform(-0.25, -0.1, size=n),
        }
    elif kind == BOGUS:
        # What recurs comes from bright stars, and has recurred for long.
        recurs = rng.uniform(size=n) < 0.3
        columns |= {
            "negative": np.full(n, 0.5),
            "prior": np.where(recurs, rng.integers(2, 60, size=n), 0),
            "start_jd": np.where(recurs, first - rng.uniform(35, 900, size=n), np.nan),
        }
    field = grid.of(ra, dec)
    return Objects(np.full(n, kind, dtype=np.int64), ra, dec, field, **columns)


def _special(
    rng: np.random.Generator, plan: Exposures, grid: Fields
) -> tuple[Objects, _Detections]:
    """AT2017gfo, the unrelated supernova, and the new supernovae of the early watch."""
    source, other = facts()["kilonova"], facts()["young_supernova"]
    merger = julian_date(facts()["merger"]["time"])
    young = _draw(YOUNG_SN, np.array([other["ra"]]), np.array([other["dec"]]), rng, plan, grid)
    young.mag[:] = 19.55
    # The early watch looks where the one detector was sensitive.
    early = np.unique(plan.field[plan.early])
    power = antenna_power(unit_vectors(grid.ra_deg[early], grid.dec_deg[early]), merger)
    heard = early[np.argsort(-power)[: len(early) * 2 // 3]]
    ra, dec = _positions(EARLY_SN, 4 * _N_EARLY_SN, rng, grid, heard)
    away = ~near_decoy(ra, dec)
    ra, dec = ra[away][:_N_EARLY_SN], dec[away][:_N_EARLY_SN]
    found = _draw(EARLY_SN, ra, dec, rng, plan, grid)
    found.mag[:] = rng.uniform(19.0, 19.4, size=_N_EARLY_SN)
    gfo = _draw(KILONOVA, np.array([source["ra"]]), np.array([source["dec"]]), rng, plan, grid)
    ordinary = Objects(
        *(np.concatenate([getattr(g, f.name) for g in (young, found)]) for f in fields(Objects))
    )
    bright = _kilonova_detections(rng, plan, int(gfo.field[0]), merger)
    objects = Objects(
        *(np.concatenate([getattr(g, f.name) for g in (gfo, ordinary)]) for f in fields(Objects))
    )
    return objects, _joined([bright, _observe(ordinary, rng, plan).shifted(1)])


def _kilonova_detections(
    rng: np.random.Generator, plan: Exposures, field: int, merger: float
) -> _Detections:
    """AT2017gfo as row 0: its light curve at the exposures of its field."""
    exposure = np.flatnonzero(plan.field == field)
    days = plan.jd[exposure] - merger
    true = np.empty(len(exposure))
    for fid, name in enumerate(FILTERS, start=1):
        here = plan.fid[exposure] == fid
        true[here] = kilonova_magnitude(days[here], name)
    limit = plan.limit[exposure]
    sigma = _sigma(true, limit)
    # Drawn to half of the error: the replay shows the published curve, not one bad night.
    mag = true + 0.5 * sigma * rng.normal(size=len(true))
    everywhere = np.zeros(len(true), dtype=np.int64)
    seen = (true < limit - 0.1) & (days > light_curve("i")[0, 0] - 0.1)
    found = _Detections(everywhere, exposure, mag, sigma, np.ones(len(true), dtype=np.bool_))
    return found.rows(seen)


def names(objects: Objects, seed: int) -> NDArray[np.bytes_]:
    """(n,) twelve-character names, ZTF's form; the specials have those of the facts."""
    count = len(objects)
    # Letters b to z first: the names of the facts begin with a.
    span = 25 * 26**6
    rng = np.random.default_rng([seed, 12])
    number = (int(rng.integers(span)) + np.arange(count, dtype=np.int64) * 2_971_215_073) % span
    number += 26**6
    letters = np.empty((count, 7), dtype=np.uint8)
    for place in range(6, -1, -1):
        number, letter = np.divmod(number, 26)
        letters[:, place] = letter + ord("a")
    text = np.hstack(
        [np.broadcast_to(np.frombuffer(b"ZTF17", dtype=np.uint8), (count, 5)), letters]
    )
    found = np.ascontiguousarray(text).view("S12").ravel()
    for kind, key in ((KILONOVA, "kilonova"), (YOUNG_SN, "young_supernova")):
        found[objects.kind == kind] = facts()[key]["object_id"].encode("ascii")
    return found
