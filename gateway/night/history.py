"""What each packet tells of the 30 days before it: earlier detections and limits.

Every field was visited before the replay; whether an object was detected then, and how
bright, follows from a hash of object and visit, so all packets of an object agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmatch.model import BoolArray, FloatArray, IntArray
from gateway.night import packets
from gateway.night.facts import facts
from gateway.night.packets import Column
from gateway.night.population import (
    AGN,
    BOGUS,
    EARLY_SN,
    NEW_SN,
    OLD_SN,
    STAR,
    YOUNG_SN,
    Night,
)
from gateway.night.sky import GREEN, RED, Exposures, Fields, target_fields

DAYS = 30.0
MOST_ENTRIES = 28
_MJD_EPOCH_JD = 2400000.5
# Share of earlier visits in which a source of the class was detected.
_DETECTED = {STAR: 0.35, AGN: 0.3, OLD_SN: 0.8, BOGUS: 0.1}


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """All visits of all fields, before and in the replay, by field and time.

    ``exposure`` is the row among the replay's exposures, or -1; ``start`` has the first
    visit of each field; ``detection`` maps object * exposures + exposure to a detection.
    """

    jd: FloatArray
    fid: IntArray
    limit: FloatArray
    exposure: IntArray
    start: IntArray
    place: IntArray
    key: IntArray
    key_row: IntArray
    seed: int

    @classmethod
    def of(cls, sky: Night, seed: int) -> History:
        """The visits of a night's fields and an index of its detections."""
        plan = sky.exposures
        jd, field, fid, limit = _earlier_visits(sky.grid, plan, seed)
        n = len(plan.jd)
        every = {
            "jd": np.concatenate([jd, plan.jd]),
            "fid": np.concatenate([fid, plan.fid]),
            "limit": np.concatenate([limit, plan.limit]),
            "exposure": np.concatenate([np.full(len(jd), -1), np.arange(n)]),
        }
        fields = np.concatenate([field, plan.field])
        order = np.lexsort((every["jd"], fields))
        exposure = every["exposure"][order].astype(np.int64)
        place = np.empty(n, dtype=np.int64)
        place[exposure[exposure >= 0]] = np.flatnonzero(exposure >= 0)
        key = sky.object * n + sky.exposure
        by_key = np.argsort(key)
        return cls(
            jd=every["jd"][order],
            fid=every["fid"][order].astype(np.int64),
            limit=every["limit"][order],
            exposure=exposure,
            start=np.searchsorted(fields[order], np.arange(len(sky.grid.ra_deg))),
            place=place,
            key=key[by_key],
            key_row=by_key,
            seed=seed,
        )


def _earlier_visits(
    grid: Fields, plan: Exposures, seed: int
) -> tuple[FloatArray, IntArray, IntArray, FloatArray]:
    """Visits in g and r every third night or so of the month before the replay.

    The fields of the three-detector map stood low in the west and were last seen 16 days
    before AT2017gfo, when ATLAS saw them last, at its limit.
    """
    rng = np.random.default_rng([seed, 11])
    source = facts()["kilonova"]
    wanted = np.unique(plan.field)
    first = np.array([plan.jd[plan.field == f].min() for f in wanted])
    last = first - rng.integers(2, 5, size=len(wanted))
    west = np.isin(wanted, target_fields(grid)[:14])
    last[west] = source["last_limit_mjd"] + _MJD_EPOCH_JD
    nights = np.arange(9) * 3
    jd = last[:, None, None] - nights[None, :, None] + np.array([0.0, -0.021])[None, None, :]
    limit = np.array([20.7, 20.9]) - np.abs(rng.normal(0, 0.25, size=jd.shape))
    limit[west, 0, :] = source["last_limit_mag"]
    fid = np.broadcast_to(np.array([RED, GREEN]), jd.shape)
    field = np.broadcast_to(wanted[:, None, None], jd.shape)
    recent = (jd > plan.jd[0] - DAYS - 2).ravel()
    return (
        jd.ravel()[recent],
        field.ravel()[recent],
        fid.ravel()[recent].astype(np.int64),
        limit.ravel()[recent],
    )


def _uniform(object_number: IntArray, visit: IntArray, salt: int) -> FloatArray:
    """(n,) numbers in [0, 1) that depend on object and visit alone (splitmix64)."""
    mixed = object_number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += visit.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(salt)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) / 2.0**53)


def entries(
    history: History, sky: Night, rows: IntArray, numbers: IntArray, fixed: dict[str, FloatArray]
) -> tuple[bytes, IntArray, IntArray]:
    """Encoded ``prv_candidates`` of some alerts.

    Returns
    -------
    bytes
        All entries, alert by alert, oldest first.
    (n + 1,) int64
        Offset of each alert's entries.
    (n,) int64
        Number of its entries.
    """
    place = history.place[sky.exposure[rows]]
    begin = history.start[sky.exposures.field[sky.exposure[rows]]]
    begin = np.maximum(begin, place - MOST_ENTRIES)
    counts = place - begin
    alert = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(alert)) - np.repeat(np.cumsum(counts) - counts, counts)
    visit = begin[alert] + within
    told = history.jd[visit] > sky.exposures.jd[sky.exposure[rows]][alert] - DAYS
    told &= ~_in_a_gap(history, sky, sky.object[rows][alert], visit)
    alert, visit = alert[told], visit[told]
    counts = np.bincount(alert, minlength=len(rows)).astype(np.int64)
    columns = _columns(history, sky, sky.object[rows][alert], visit, numbers, fixed)
    data, ends = packets.encode(packets.slots("prv_candidate"), columns, len(alert))
    edges = np.concatenate([[0], np.cumsum(counts)])
    return data, ends[edges], counts


def _rows_in_replay(
    history: History, sky: Night, obj: IntArray, visit: IntArray
) -> tuple[BoolArray, IntArray]:
    """Whether an object was detected in a visit of the replay, and the row of the detection."""
    exposure = history.exposure[visit]
    wanted = obj * len(sky.exposures.jd) + exposure
    at = np.minimum(np.searchsorted(history.key, wanted), len(history.key) - 1)
    found = (exposure >= 0) & (history.key[at] == wanted)
    return found, np.where(found, history.key_row[at], -1)


def _in_a_gap(history: History, sky: Night, obj: IntArray, visit: IntArray) -> BoolArray:
    """Visits of new supernovae that fell between the detectors: no detection, no limit either.

    A limit there would make them look as if they had risen in minutes.
    """
    new = np.isin(sky.objects.kind[obj], (NEW_SN, YOUNG_SN, EARLY_SN))
    found, _ = _rows_in_replay(history, sky, obj, visit)
    return new & (history.exposure[visit] >= 0) & ~found


def _detections(
    history: History, sky: Night, obj: IntArray, visit: IntArray
) -> tuple[BoolArray, FloatArray, FloatArray, BoolArray, IntArray]:
    """Detected or not, magnitude, error, sign, and row among the detections (or -1)."""
    exposure = history.exposure[visit]
    in_replay, row = _rows_in_replay(history, sky, obj, visit)
    kind, limit = sky.objects.kind[obj], history.limit[visit]
    share = np.array([_DETECTED.get(k, 0.0) for k in range(9)])[kind]
    jd, start = history.jd[visit], sky.objects.start_jd[obj]
    old = (exposure < 0) & (sky.objects.prior[obj] > 0) & (jd >= start)
    old &= _uniform(obj, visit, history.seed) < share
    spread = 0.6 * (_uniform(obj, visit, history.seed + 1) - 0.5)
    was = np.where(
        sky.objects.kind[obj] == STAR, sky.objects.mag[obj] + spread, sky.objects.mag[obj]
    )
    old &= was < limit - 0.05
    sigma = np.hypot(0.02, 0.2171 * 10 ** (0.4 * (np.minimum(was, limit) - limit)))
    sign = _uniform(obj, visit, history.seed + 2) >= sky.objects.negative[obj]
    return (
        in_replay | old,
        np.where(in_replay, sky.mag[row], was),
        np.where(in_replay, sky.sigma[row], sigma),
        np.where(in_replay, sky.positive[row], sign),
        row,
    )


def _columns(
    history: History,
    sky: Night,
    obj: IntArray,
    visit: IntArray,
    numbers: IntArray,
    fixed: dict[str, FloatArray],
) -> dict[str, Column]:
    seen, mag, sigma, positive, row = _detections(history, sky, obj, visit)
    jd = history.jd[visit]
    nid = np.floor(jd - 2457754.5).astype(np.int64)
    part = np.floor((jd - 2457754.5 - nid) * 1e5).astype(np.int64)
    pid = (nid * 100_000 + part) * 10_000 + 15
    sign = np.where(positive, 15_000, 10_000)
    candid = np.where(row >= 0, numbers[row], pid * 1_000_000 + sign + obj % 5000)
    ra, dec = sky.objects.ra_deg[obj], sky.objects.dec_deg[obj]

    def where_seen(values: FloatArray | IntArray) -> Column:
        return Column(values, seen)

    return {
        "jd": Column(jd),
        "fid": Column(history.fid[visit]),
        "pid": Column(np.where(row >= 0, numbers[row] // 1_000_000, pid)),
        "diffmaglim": Column(history.limit[visit]),
        "programpi": Column("simulated"),
        "programid": Column(1),
        "candid": where_seen(candid),
        "isdiffpos": Column(np.where(positive, b"t", b"f"), seen),
        "nid": Column(nid),
        "field": Column(sky.objects.field[obj] + 1),
        "ra": where_seen(ra),
        "dec": where_seen(dec),
        "magpsf": where_seen(mag),
        "sigmapsf": where_seen(sigma),
        "magap": where_seen(mag),
        "sigmagap": where_seen(1.4 * sigma),
        "distnr": where_seen(fixed["host"][obj]),
        "magnr": where_seen(fixed["srmag1"][obj]),
        "ranr": where_seen(ra),
        "decnr": where_seen(dec),
        "scorr": where_seen(1.0857 / sigma),
        "magzpsci": Column(26.2),
        "rbversion": Column("t17_f5_c3"),
    }
