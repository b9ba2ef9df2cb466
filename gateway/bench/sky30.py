"""Nights of a survey for the benches: alerts of a realistic sky, night after night.

Where stars, galaxies and minor bodies stand, how often each class is detected, how it
scores: as in ZTF's public stream, so that the cuts take away what they take away there.
All is made with NumPy from a seed; the same seed gives the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from broker.archive import ARCHIVE_SCHEMA, STATISTICS, AlertArchive, night_of
from broker.compaction import FILE_ROWS
from broker.tables import DeltaFolder
from crossmatch import sky
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.times import datetime_from_jd
from gateway.bench.sky30_classes import SOUTH_DEG, magnitudes, neighbours, positions
from gateway.night.alerts import image_numbers
from gateway.night.population import AGN, ASTEROID, BOGUS, NEW_SN, OLD_SN, STAR
from gateway.night.sky import fields

FIRST_JD = 2461346.5
"""Midnight UTC before the first night: 1 November 2026."""
SURVEY = "ztf"
TOPIC = "alerts.ztf"
# Of what is made: nights on disk of another one are not used.
_VERSION = 3
# Right ascensions seen in a night, east and west of what culminates at midnight.
_REACH_DEG = 80.0
_DUSK = 0.11
_CADENCE = 41 / 86400
# A survey of this depth sees a few thousand supernovae a night.
_SHARES = {STAR: 0.50, AGN: 0.09, OLD_SN: 0.007, NEW_SN: 0.0015, ASTEROID: 0.16, BOGUS: 0.2415}
# Minor bodies this bright have orbits, nearly all of them.
_KNOWN_BODIES = 0.97
_SINGLE = (ASTEROID, BOGUS)
_LASTING = tuple(kind for kind in _SHARES if kind not in _SINGLE)
# Sources for each alert of a night: a source is then seen about eight times in a month.
_SOURCES = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What stays on the sky, ordered by field.

    All (n,): class, position (ICRS, deg), magnitude in r (AB), first detection (JD UTC),
    distance (arcsec) and star score of the nearest PS1 source. ``first`` (f + 1,) has the
    row of the first source of each field.
    """

    kind: IntArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    mag: FloatArray
    start_jd: FloatArray
    ps1_distance_arcsec: FloatArray
    ps1_star_score: FloatArray
    first: IntArray


def sources(alerts: int, seed: int) -> Sources:
    """The sky of a survey that sends ``alerts`` alerts a night."""
    rng = np.random.default_rng([seed, 1])
    lasting = sum(_SHARES[kind] for kind in _LASTING)
    counts = {k: max(1, int(_SOURCES * alerts * _SHARES[k] / lasting)) for k in _LASTING}
    kind: IntArray = np.repeat(np.array(_LASTING), list(counts.values()))
    parts = [positions(k, n, rng, 0.0, 180.0) for k, n in counts.items()]
    ra, dec = (np.concatenate(part) for part in zip(*parts, strict=True))
    grid = fields()
    # Within a field in random order: neighbours in a row are none on the sky.
    shuffled = rng.permutation(len(kind))
    field = grid.of(ra, dec)
    order = shuffled[np.argsort(field[shuffled], kind="stable")]
    kind, ra, dec, field = kind[order], ra[order], dec[order], field[order]
    first = np.searchsorted(field, np.arange(len(grid.ra_deg) + 1))
    age = np.where(kind == OLD_SN, rng.uniform(4, 90, len(kind)), rng.uniform(35, 1000, len(kind)))
    age = np.where(kind == NEW_SN, -rng.uniform(0, 30, len(kind)), age)
    distance, score = neighbours(kind, rng)
    return Sources(kind, ra, dec, magnitudes(kind, rng), FIRST_JD - age, distance, score, first)


def night(sky_of: Sources, number: int, alerts: int, seed: int) -> pa.Table:
    """Exactly ``alerts`` alerts of one night, in the order in which they were exposed.

    Parameters
    ----------
    sky_of : Sources
        From :func:`sources` with the same number and seed.
    number : int
        Nights since the first one, from 0.

    Returns
    -------
    pyarrow.Table
        With ``ALERT_SCHEMA``.
    """
    rng = np.random.default_rng([seed, 2, number])
    plan = _plan(number)
    source, at = _seen(sky_of, plan, alerts, rng)
    lone = _lone(alerts - len(source), plan, number, rng)
    rows = _joined(sky_of, source, at, lone, rng)
    order = np.argsort(rows.exposure, kind="stable")
    ordered = _Rows(*(getattr(rows, f.name)[order] for f in dataclass_fields(_Rows)))
    return _table(ordered, plan, number, alerts, rng)


def stored(
    folder: Path,
    nights: int,
    alerts: int,
    seed: int,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> AlertArchive:
    """An archive of these nights as it is when they were tidied; what is there stays.

    Parameters
    ----------
    folder : Path
        Archives of other numbers and seeds are beside one another in it.
    nights, alerts : int
        All of them are of batch 0, and no batch is noted as the last one: a matcher may
        begin with this archive.
    advance : callable
        Told how many nights are there, and how many there will be.
    """
    path = folder / f"nights-{nights}x{alerts}-seed{seed}-v{_VERSION}" / "alerts"
    table = DeltaFolder(path, ARCHIVE_SCHEMA, "night", STATISTICS)
    done = len(set(table.files().partition))
    if done == 0:
        table.append(ARCHIVE_SCHEMA.empty_table(), -1)
    if done < nights:
        sky_of = sources(alerts, seed)
        now = datetime_from_jd(FIRST_JD + nights + 1)
        for number in range(done, nights):
            advance(number, nights)
            rows = _by_place(night(sky_of, number, alerts, seed))
            parts = [rows.slice(at, FILE_ROWS) for at in range(0, rows.num_rows, FILE_ROWS)]
            new = [file for part in parts for file in table.write_files(part, "sorted-")]
            table.replace(table.files().of(""), new, now)
    advance(nights, nights)
    return AlertArchive(path)


def _by_place(alerts: pa.Table) -> pa.Table:
    """Alerts as rows of the archive, of batch 0, ordered by place."""
    place = sky.ipix29(alerts["ra_deg"].to_numpy(), alerts["dec_deg"].to_numpy())
    columns = {"ipix29": place, "batch_id": np.zeros(len(place), np.int64)}
    rows = alerts.append_column("night", night_of(alerts["time_jd"]))
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values))
    rows = rows.take(pa.array(np.argsort(place, kind="stable")))
    return rows.select(ARCHIVE_SCHEMA.names).cast(ARCHIVE_SCHEMA)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Exposures of a night in order: (e,) start (JD UTC), field, filter (1 g, 2 r)."""

    jd: FloatArray
    field: IntArray
    filter: IntArray
    middle_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Detections, all (n,); ``source`` is the row of what stays on the sky, -1 for what is new."""

    source: IntArray
    kind: IntArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    exposure: IntArray
    mag: FloatArray
    start_jd: FloatArray
    ps1_distance_arcsec: FloatArray
    ps1_star_score: FloatArray


def _plan(number: int) -> _Plan:
    """Every field that is up, once in g and an hour or so later in r, from west to east."""
    grid = fields()
    middle = (35.0 + number) % 360
    off = (grid.ra_deg - middle + 180) % 360 - 180
    up = np.flatnonzero((grid.dec_deg > SOUTH_DEG + 4) & (np.abs(off) < _REACH_DEG))
    up = up[np.argsort(off[up], kind="stable")]
    field, colour = [], []
    for block in np.array_split(up, 6):
        field += [block, block]
        colour += [np.full(len(block), 1), np.full(len(block), 2)]
    which = np.concatenate(field)
    jd: FloatArray = FIRST_JD + number + _DUSK + _CADENCE * np.arange(len(which), dtype=np.float64)
    return _Plan(jd, which, np.concatenate(colour), middle)


def _seen(
    sky_of: Sources, plan: _Plan, alerts: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Sources that are detected, and in which exposures; (n,) each, n about 0.61 of ``alerts``."""
    begin, end = sky_of.first[plan.field], sky_of.first[plan.field + 1]
    row = sky.expand(begin, end)
    exposure = np.repeat(np.arange(len(plan.jd)), end - begin)
    wanted = alerts * sum(_SHARES[kind] for kind in _LASTING)
    there = sky_of.start_jd[row] <= plan.jd[exposure]
    found = there & (rng.random(len(row)) < wanted / max(int(there.sum()), 1))
    picked = np.flatnonzero(found)[:alerts]
    return row[picked], exposure[picked]


def _lone(
    count: int, plan: _Plan, number: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """What is seen once: class, position and exposure of minor bodies and bogus detections."""
    bodies = int(count * _SHARES[ASTEROID] / sum(_SHARES[kind] for kind in _SINGLE))
    kind = np.repeat(np.array(_SINGLE), [bodies, count - bodies])
    grid = fields()
    seen = np.zeros(len(grid.ra_deg), np.bool_)
    seen[plan.field] = True
    ra, dec = np.empty(count), np.empty(count)
    for which in _SINGLE:
        here = np.flatnonzero(kind == which)
        ra[here], dec[here] = positions(
            which, len(here), rng, plan.middle_deg, _REACH_DEG + 8, within=seen
        )
    by_field = np.argsort(plan.field, kind="stable")
    first = np.searchsorted(plan.field[by_field], grid.of(ra, dec))
    # Each field has two exposures.
    return kind, ra, dec, by_field[first + rng.integers(0, 2, count)]


def _joined(
    sky_of: Sources,
    source: IntArray,
    exposure: IntArray,
    lone: tuple[IntArray, FloatArray, FloatArray, IntArray],
    rng: np.random.Generator,
) -> _Rows:
    """Lasting and lone detections, one after the other."""
    kind, ra, dec, at = lone
    n = len(kind)
    distance, score = neighbours(kind, rng)
    noise = 0.1 / 3600
    jitter = rng.normal(0, noise, len(source)) / np.cos(np.radians(sky_of.dec_deg[source]))
    north = np.clip(sky_of.dec_deg[source] + rng.normal(0, noise, len(source)), -90, 90)
    return _Rows(
        source=np.concatenate([source, np.full(n, -1)]),
        kind=np.concatenate([sky_of.kind[source], kind]),
        ra_deg=np.concatenate([sky_of.ra_deg[source] + jitter, ra]) % 360,
        dec_deg=np.concatenate([north, dec]),
        exposure=np.concatenate([exposure, at]),
        mag=np.concatenate([sky_of.mag[source], magnitudes(kind, rng)]),
        start_jd=np.concatenate([sky_of.start_jd[source], np.full(n, np.nan)]),
        ps1_distance_arcsec=np.concatenate([sky_of.ps1_distance_arcsec[source], distance]),
        ps1_star_score=np.concatenate([sky_of.ps1_star_score[source], score]),
    )


def _table(
    rows: _Rows, plan: _Plan, number: int, alerts: int, rng: np.random.Generator
) -> pa.Table:
    """Rows in order of exposure as slim alerts."""
    n, exposure = len(rows.kind), rows.exposure
    jd = plan.jd[exposure]
    limit = 20.9 - 0.3 * rng.random(len(plan.jd))[exposure]
    mag = np.minimum(rows.mag + rng.normal(0, 0.15, n), limit - rng.uniform(0.05, 0.6, n))
    since = np.where(np.isnan(rows.start_jd), jd, rows.start_jd)
    columns = {
        "survey": pa.repeat(SURVEY, n),
        "object_id": _object_ids(rows.source, number, alerts),
        "alert_id": _alert_ids(jd, exposure),
        "time_jd": jd,
        "ra_deg": rows.ra_deg,
        "dec_deg": rows.dec_deg,
        "filter": pa.array(["g", "r"]).take(pa.array(plan.filter[exposure] - 1)),
        "mag": _short(mag),
        "mag_error": _short(np.hypot(0.02, 0.2171 * 10 ** (0.4 * (mag - limit)))),
        "limiting_mag": _short(limit),
        "first_detection_jd": since,
        "n_detections": 1 + (np.maximum(jd - since, 0) / 4).astype(np.int32),
        "schema_version": pa.repeat("3.3", n),
        "topic": pa.repeat(TOPIC, n),
        "partition": np.zeros(n, np.int32),
        "offset": number * alerts + np.arange(n),
    }
    columns |= _scores(rows.kind, rng) | _companions(rows, mag, rng)
    arrays = []
    for field in ALERT_SCHEMA:
        values = columns.get(field.name, pa.nulls(n, field.type))
        arrays.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
    return pa.table(arrays, schema=ALERT_SCHEMA)


def _scores(kind: IntArray, rng: np.random.Generator) -> dict[str, Any]:
    """What tells a source from an artefact."""
    n, bogus = len(kind), kind == BOGUS
    negative = np.select([kind == STAR, kind == AGN, bogus], [0.47, 0.4, 0.5])
    rb = np.where(bogus, rng.beta(2.0, 6.0, n), rng.beta(9.0, 2.2, n))
    drb = np.where(bogus, rng.beta(0.4, 5.0, n), 1 - rng.beta(0.6, 12.0, n))
    bad = np.where(bogus & (rng.random(n) < 0.3), rng.integers(1, 5, n), 0)
    return {
        "positive": rng.random(n) >= negative,
        "real_bogus": _short(rb),
        "deep_real_bogus": _short(drb),
        "n_bad": bad.astype(np.int32),
        "mag_difference": _short(rng.normal(0, np.where(bogus, 0.5, 0.07), n)),
    }


def _companions(rows: _Rows, mag: FloatArray, rng: np.random.Generator) -> dict[str, Any]:
    """Minor bodies and catalogue sources next to the detections."""
    n = len(mag)
    moves = (rows.kind == ASTEROID) & (rng.random(n) < _KNOWN_BODIES)
    name = rng.integers(1000, 600_000, n).astype("U6")
    distance = rows.ps1_distance_arcsec
    gaia = np.where(rows.kind == STAR, distance, rng.rayleigh(18.0, n))
    return {
        "moving_distance_arcsec": _short(rng.rayleigh(0.4, n), moves),
        "moving_name": pa.array(name, mask=~moves, type=pa.string()),
        "ps1_distance_arcsec": _short(distance),
        "ps1_star_score": _short(rows.ps1_star_score),
        "ps1_mag": _short(np.clip(mag - rng.uniform(0.2, 2.5, n), 11, 22)),
        "gaia_distance_arcsec": _short(gaia),
        "gaia_mag": _short(np.clip(mag - rng.uniform(0, 2, n), 11, 21)),
    }


def _alert_ids(jd: FloatArray, exposure: IntArray) -> IntArray:
    """ZTF's numbers: time of the exposure, channel, place among the channel's alerts."""
    serial = np.arange(len(jd)) - np.searchsorted(exposure, exposure)
    _, image = image_numbers(jd, serial % 64)
    return np.asarray(image * 1_000_000 + 15_000 + serial // 64)


def _object_ids(number: IntArray, night_number: int, alerts: int) -> pa.Array:
    """Names like ZTF26abcdefg; those seen once count on from all that stays."""
    new = number < 0
    base = int(4 * _SOURCES * alerts) + night_number * alerts
    rest = np.where(new, base + np.cumsum(new), number)
    text = np.empty((len(number), 12), np.uint8)
    text[:, :5] = np.frombuffer(b"ZTF26", np.uint8)
    for place in range(11, 4, -1):
        rest, letter = np.divmod(rest, 26)
        text[:, place] = letter + ord("a")
    ends = np.arange(len(number) + 1, dtype=np.int32) * 12
    return pa.StringArray.from_buffers(len(number), pa.py_buffer(ends), pa.py_buffer(text))


def _short(values: FloatArray, valid: BoolArray | None = None) -> pa.Array:
    """float64 with the precision of the packets' float32; null where not ``valid``."""
    rounded = values.astype(np.float32).astype(np.float64)
    return pa.array(rounded, mask=None if valid is None else ~valid)
