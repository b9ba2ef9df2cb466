"""ZTF and LSST alert fields to one slim set of columns with units.

Whoever reads packets, in the JVM or in Python, delivers tables of *native* leaves,
named as the survey names them; the rules that turn them into
`crossmatch.columns.ALERT_SCHEMA` stand here once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import erfa
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crossmatch.columns import ALERT_FIELDS, ALERT_SCHEMA
from crossmatch.errors import AlertError
from crossmatch.model import BoolArray, FloatArray

# fmt: off
_ZTF_TYPES: dict[str, pa.DataType] = {
    "objectId": pa.string(), "candid": pa.int64(), "schemavsn": pa.string(), "jd": pa.float64(),
    "fid": pa.int32(), "ra": pa.float64(), "dec": pa.float64(), "magpsf": pa.float64(),
    "sigmapsf": pa.float64(), "diffmaglim": pa.float64(), "isdiffpos": pa.string(),
    "rb": pa.float64(), "drb": pa.float64(), "nbad": pa.int32(), "magdiff": pa.float64(),
    "jdstarthist": pa.float64(), "ndethist": pa.int32(), "ssdistnr": pa.float64(),
    "ssnamenr": pa.string(), "distpsnr1": pa.float64(), "sgscore1": pa.float64(),
    "srmag1": pa.float64(), "neargaia": pa.float64(), "maggaia": pa.float64(),
}
_LSST_TYPES: dict[str, pa.DataType] = {
    "diaSourceId": pa.int64(), "diaObjectId": pa.int64(), "ssObjectId": pa.int64(),
    "midpointMjdTai": pa.float64(), "ra": pa.float64(), "dec": pa.float64(),
    "raErr": pa.float64(), "decErr": pa.float64(), "band": pa.string(), "psfFlux": pa.float64(),
    "psfFluxErr": pa.float64(), "snr": pa.float64(), "reliability": pa.float64(),
    "isNegative": pa.bool_(), "timeWithdrawnMjdTai": pa.float64(),
    "firstDiaSourceMjdTai": pa.float64(), "nDiaSources": pa.int32(),
}
# fmt: on
ZTF_NATIVE: tuple[str, ...] = tuple(_ZTF_TYPES)
LSST_NATIVE: tuple[str, ...] = tuple(_LSST_TYPES)
SURVEYS = ("ztf", "lsst")

_ZTF_NUMBERS = {
    "mag": "magpsf",
    "mag_error": "sigmapsf",
    "limiting_mag": "diffmaglim",
    "real_bogus": "rb",
    "deep_real_bogus": "drb",
    "mag_difference": "magdiff",
    "moving_distance_arcsec": "ssdistnr",
    "ps1_distance_arcsec": "distpsnr1",
    "ps1_star_score": "sgscore1",
    "ps1_mag": "srmag1",
    "gaia_distance_arcsec": "neargaia",
    "gaia_mag": "maggaia",
}

_SOURCE = [
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
]
NATIVE_SCHEMAS: dict[str, pa.Schema] = {
    "ztf": pa.schema([pa.field(n, t) for n, t in _ZTF_TYPES.items()] + _SOURCE),
    "lsst": pa.schema([pa.field(n, t) for n, t in _LSST_TYPES.items()] + _SOURCE),
}

AB_ZERO_POINT_NJY = 31.4
_SIGMA_TO_MAG = 2.5 / np.log(10)
_LIMIT_SIGMA = 5.0
_JD_MINUS_MJD = 2400000.5
# 2000 to 2100: an alert outside has a broken clock or another time scale (Unix seconds, MJD).
_JD_RANGE = (2451544.5, 2488069.5)
# ZTF writes -999, and -99999 in forced photometry, for "no value"; no field kept here goes so low.
SENTINEL_BELOW = -99.0
"""Numbers of ZTF's that are not above this one stand for no value."""

_ZTF_FILTERS = pa.array(["g", "r", "i"])
_LSST_BANDS = pa.array(["u", "g", "r", "i", "z", "y"])
_TRUE_TEXTS = pa.array(["t", "1", "true", "1.0"])
FALSE_TEXTS = pa.array(["f", "0", "false", "0.0", "-1"])
_NULL_TEXTS = pa.array(["null", "none", "nan", ""])


class RejectedRow(NamedTuple):
    """Why one native row cannot be an alert."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Normalised:
    """What `normalise` made of a native table: good rows in order, and the others."""

    alerts: pa.Table
    rejected: list[RejectedRow]


def normalise(survey: str, native: pa.Table) -> Normalised:
    """Native rows as slim alerts, and the rows that cannot be alerts with the reason.

    Parameters
    ----------
    survey : {"ztf", "lsst"}
        Which survey's names the columns have.
    native : (n,) table
        Columns of `ZTF_NATIVE` or `LSST_NATIVE` and ``topic``, ``partition``, ``offset``.
        A missing column counts as null; other columns are ignored.

    Returns
    -------
    Normalised
        ``alerts`` has `crossmatch.columns.ALERT_SCHEMA`; ``rejected`` holds
        (row in ``native``, reason, detail), in order of rows. Reasons: ``null_required``,
        ``time_out_of_range``, ``ra_out_of_range``, ``dec_out_of_range``.

    Raises
    ------
    AlertError
        ``unknown_survey``; ``wrong_type`` when a whole column has another type.

    Notes
    -----
    Times are JD UTC: ZTF gives the start of the exposure, LSST its midpoint (MJD TAI).
    Right ascensions lie in [0, 360), declinations in [-90, 90] degrees. ``withdrawn`` is never
    null: ZTF and older LSST schemas have no word for it.
    """
    if survey not in NATIVE_SCHEMAS:
        raise AlertError("unknown_survey", f"{survey!r} is not one of {', '.join(SURVEYS)}")
    rows = native.num_rows
    leaves = _leaves(native, NATIVE_SCHEMAS[survey])
    columns = _ztf_columns(leaves) if survey == "ztf" else _lsst_columns(leaves)
    columns["survey"] = pa.repeat(pa.scalar(survey), rows)
    for field in ALERT_SCHEMA:
        if field.name not in columns:
            columns[field.name] = leaves.get(field.name, pa.nulls(rows, field.type))
    rejected = _rejections(columns)
    table = pa.table({f.name: columns[f.name] for f in ALERT_FIELDS})
    if rejected:
        keep = np.ones(rows, dtype=np.bool_)
        keep[[r.row for r in rejected]] = False
        table = table.filter(pa.array(keep))
    return Normalised(table.cast(ALERT_SCHEMA).combine_chunks(), rejected)


def tai_mjd_to_utc_jd(mjd_tai: FloatArray) -> FloatArray:
    """Julian dates (UTC) of modified Julian dates (TAI), by the published leap seconds.

    Parameters
    ----------
    mjd_tai : (n,) float64
        From 1972 on; NaN stays NaN.

    Returns
    -------
    (n,) float64
        Within a day that ends in a leap second the clock is not stretched, so that
        second itself reads as the first of the next day.
    """
    start_mjd_tai, offset_days = _leap_seconds()
    index = np.searchsorted(start_mjd_tai, mjd_tai, side="right") - 1
    utc: FloatArray = mjd_tai - offset_days[np.clip(index, 0, None)] + _JD_MINUS_MJD
    return utc


@cache
def _leap_seconds() -> tuple[FloatArray, FloatArray]:
    """From when on (MJD TAI) UTC is behind TAI by how many days."""
    table = erfa.leap_seconds.get()
    # Before 1972 UTC ran at another rate; no survey here is that old.
    table = table[table["year"] >= 1972]
    _, start_mjd = erfa.cal2jd(table["year"], table["month"], 1)
    offset_days = table["tai_utc"] / 86400.0
    return start_mjd + offset_days, offset_days


def ab_magnitude(flux_njy: FloatArray) -> FloatArray:
    """AB magnitudes of the absolute values of fluxes in nJy; NaN for zero and for NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mag = AB_ZERO_POINT_NJY - 2.5 * np.log10(np.abs(flux_njy))
    return np.where(np.isfinite(mag), mag, np.nan)


def taken_back(withdrawn_mjd_tai: FloatArray) -> BoolArray:
    """Whether LSST took sources back, given ``timeWithdrawnMjdTai`` (any shape) of each.

    Sources that stand have null or NaN there (both seen in Rubin's packets); a time that is not
    a positive number is none.
    """
    withdrawn: BoolArray = np.isfinite(withdrawn_mjd_tai) & (withdrawn_mjd_tai > 0)
    return withdrawn


def _leaves(native: pa.Table, schema: pa.Schema) -> dict[str, pa.Array]:
    """Columns of ``schema`` as single arrays of its types; a missing one is all null."""
    leaves = {}
    for field in schema:
        if field.name not in native.column_names:
            leaves[field.name] = pa.nulls(native.num_rows, field.type)
            continue
        column = native[field.name].combine_chunks()
        try:
            # isdiffpos is 't', '1', 1 or true, by schema version: as text it can be compared.
            leaves[field.name] = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise AlertError(
                "wrong_type", f"{field.name} is {column.type}, expected {field.type}"
            ) from error
    return leaves


def _ztf_columns(native: dict[str, pa.Array]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for target, source in _ZTF_NUMBERS.items():
        values = _floats(native[source])
        columns[target] = _nullable(values, np.isfinite(values) & (values > SENTINEL_BELOW))
    # A damaged packet may have any number here; of a time of no calendar nothing can be said.
    first = _floats(native["jdstarthist"])
    columns["first_detection_jd"] = _nullable(first, plausible_jd(first))
    # These keep every value, so that a wrong one is rejected as such and not as missing.
    for target, source in {"time_jd": "jd", "ra_deg": "ra", "dec_deg": "dec"}.items():
        columns[target] = _nullable(_floats(native[source]))
    fid = _floats(native["fid"])
    known = (fid >= 1) & (fid <= 3)
    index = np.where(known, fid - 1, 0).astype(np.int64)
    columns["filter"] = _ZTF_FILTERS.take(pa.array(index, mask=~known))
    columns["object_id"] = _text(native["objectId"])
    columns["alert_id"] = native["candid"]
    columns["schema_version"] = _text(native["schemavsn"])
    columns["moving_name"] = _text(native["ssnamenr"])
    columns["positive"] = _truth(native["isdiffpos"])
    columns["n_bad"] = _counts(native["nbad"])
    columns["n_detections"] = _counts(native["ndethist"])
    columns["withdrawn"] = pa.repeat(pa.scalar(False), len(fid))
    return columns


def _lsst_columns(native: dict[str, pa.Array]) -> dict[str, Any]:
    flux, flux_error = _floats(native["psfFlux"]), _floats(native["psfFluxErr"])
    good_error = np.isfinite(flux_error) & (flux_error > 0)
    mag = ab_magnitude(flux)
    with np.errstate(divide="ignore", invalid="ignore"):
        mag_error = _SIGMA_TO_MAG * flux_error / np.abs(flux)
    time_jd = tai_mjd_to_utc_jd(_floats(native["midpointMjdTai"]))
    first_jd = tai_mjd_to_utc_jd(_floats(native["firstDiaSourceMjdTai"]))
    # The larger axis: the packet's covariance is mostly null.
    error_deg = np.fmax(_floats(native["raErr"]), _floats(native["decErr"]))
    # Older schemas lack isNegative; the sign of the flux says the same.
    by_sign = pa.array(flux > 0, mask=~np.isfinite(flux))
    reliability = _floats(native["reliability"])
    bodies = _identifier(native["ssObjectId"])
    return {
        "object_id": _lsst_object(native),
        # A source with an ssObjectId *is* that body; the packet has no separation for it.
        "moving_name": bodies,
        "moving_distance_arcsec": pc.if_else(pc.is_valid(bodies), 0.0, None),
        "alert_id": native["diaSourceId"],
        "time_jd": _nullable(time_jd, ~np.isnan(time_jd)),
        "ra_deg": _nullable(_floats(native["ra"])),
        "dec_deg": _nullable(_floats(native["dec"])),
        "ra_dec_error_arcsec": _nullable(error_deg * 3600, np.isfinite(error_deg)),
        "filter": _band(native["band"]),
        "mag": _nullable(mag),
        "mag_error": _nullable(mag_error, good_error & np.isfinite(mag)),
        "limiting_mag": _nullable(ab_magnitude(_LIMIT_SIGMA * flux_error), good_error),
        "positive": pc.coalesce(pc.invert(native["isNegative"]), by_sign),
        "real_bogus": _nullable(reliability, np.isfinite(reliability)),
        # Rubin leaves the time of the first source null; of a single one it is known.
        "first_detection_jd": pc.coalesce(
            _nullable(first_jd, plausible_jd(first_jd)),
            _nullable(time_jd, _floats(native["nDiaSources"]) == 1),
        ),
        "n_detections": _counts(native["nDiaSources"]),
        "withdrawn": pa.array(taken_back(_floats(native["timeWithdrawnMjdTai"]))),
    }


def _lsst_object(native: dict[str, pa.Array]) -> pa.Array:
    """Object names as text: ``diaObjectId``, or ``ss<ssObjectId>`` for a known minor body."""
    bodies = pc.binary_join_element_wise("ss", _identifier(native["ssObjectId"]), "")
    return pc.coalesce(_identifier(native["diaObjectId"]), bodies)


def _identifier(column: pa.Array) -> pa.Array:
    # 0 means "none", as null does.
    something = pc.not_equal(column, 0)
    return pc.if_else(something, column, pa.scalar(None, pa.int64())).cast(pa.string())


def _rejections(columns: dict[str, Any]) -> list[RejectedRow]:
    """The first fault of each faulty row."""
    rejected: dict[int, RejectedRow] = {}
    for field in ALERT_FIELDS:
        if field.required:
            missing = np.asarray(pc.is_null(columns[field.name]))
            for row in np.flatnonzero(missing).tolist():
                rejected.setdefault(
                    row, RejectedRow(row, "null_required", f"{field.name} is missing")
                )
    ra, dec, time_jd = (_floats(columns[n]) for n in ("ra_deg", "dec_deg", "time_jd"))
    checks = (
        ("time_out_of_range", time_jd, plausible_jd(time_jd), "JD UTC of the years 2000 to 2099"),
        ("ra_out_of_range", ra, (ra >= 0) & (ra < 360), "[0, 360) degrees"),
        ("dec_out_of_range", dec, (dec >= -90) & (dec <= 90), "[-90, 90] degrees"),
    )
    for reason, values, good, expected in checks:
        for row in np.flatnonzero(~good).tolist():
            detail = f"{values[row]:.10g}, expected {expected}"
            rejected.setdefault(row, RejectedRow(row, reason, detail))
    return [rejected[row] for row in sorted(rejected)]


def plausible_jd(time_jd: FloatArray) -> BoolArray:
    """Whether times (JD, any shape) are of the years 2000 to 2099; not so for NaN."""
    return (time_jd >= _JD_RANGE[0]) & (time_jd < _JD_RANGE[1])


def _floats(column: Any) -> FloatArray:
    """Column as float64, nulls as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _nullable(values: FloatArray, good: BoolArray | None = None) -> pa.Array:
    keep = ~np.isnan(values) if good is None else good
    return pa.array(values, pa.float64(), mask=~keep)


def _counts(column: Any) -> Any:
    return pc.if_else(pc.greater_equal(column, 0), column, pa.scalar(None, pa.int32()))


def _text(column: Any) -> Any:
    """Text without surrounding blanks; the words for "no value" as null."""
    trimmed = pc.utf8_trim_whitespace(column)
    nothing = pc.is_in(pc.utf8_lower(trimmed), value_set=_NULL_TEXTS)
    return pc.if_else(nothing, pa.scalar(None, pa.string()), trimmed)


def _truth(column: Any) -> Any:
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    yes = pc.is_in(text, value_set=_TRUE_TEXTS)
    known = pc.or_(yes, pc.is_in(text, value_set=FALSE_TEXTS))
    return pc.if_else(known, yes, pa.scalar(None, pa.bool_()))


def _band(column: Any) -> Any:
    """Bands in lower case; simulations write ``Y``, Rubin has filter names like ``g_01``."""
    band = pc.utf8_slice_codeunits(pc.utf8_lower(column), 0, 1)
    known = pc.is_in(band, value_set=_LSST_BANDS)
    return pc.if_else(known, band, pa.scalar(None, pa.string()))
