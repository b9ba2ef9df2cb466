"""Light curves that packets carry: earlier detections and limits of their object.

`history` takes a whole record, or what the JVM read of one (`broker.curves`): of both it looks
only at `FIELDS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from broker.surveys import (
    SENTINEL_BELOW,
    ab_magnitude,
    plausible_jd,
    tai_mjd_to_utc_jd,
    taken_back,
)
from crossmatch.lightcurve import Detection, merged

# The first ELAsTiCC challenge wrote fluxes with zero point 27.5; nJy have 31.4.
ELASTICC_TO_NJY = 10 ** ((31.4 - 27.5) / 2.5)
# Only ELAsTiCC's simulated packets have this field.
ELASTICC_SIGN = "hostgal_zphot_q10"

_TIMES, _FILTERS = ("midpointMjdTai", "midPointTai"), ("band", "filterName")
_FLUXES, _ERRORS = ("psfFlux", "psFlux"), ("psfFluxErr", "psFluxErr")
_WITHDRAWN, _NOISE = "timeWithdrawnMjdTai", "diaNoise"
_LSST_FIELDS = (*_TIMES, *_FLUXES, *_ERRORS, *_FILTERS, _WITHDRAWN)

FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "ztf": {"prv_candidates": ("jd", "fid", "magpsf", "sigmapsf", "diffmaglim", "isdiffpos")},
    "lsst": {
        "prvDiaSources": _LSST_FIELDS,
        "prvDiaForcedSources": _LSST_FIELDS,
        "prvDiaNondetectionLimits": (*_LSST_FIELDS, _NOISE),
        "diaObject": (ELASTICC_SIGN,),
    },
}
"""What is looked at: arrays of records, and ``diaObject``, a record that has or lacks a field."""

_ZTF_FILTERS: dict[float, str] = {1: "g", 2: "r", 3: "i"}
_FORCED_SIGMA = 5.0


def history(record: Mapping[str, Any], survey: str) -> list[Detection]:
    """Earlier detections and limits that a packet carries, in order of time.

    ZTF: ``prv_candidates``. LSST: ``prvDiaSources``, then ``prvDiaForcedSources``
    (below 5 sigma a limit) and ``prvDiaNondetectionLimits``. The alert itself is not
    among them; one exposure counts once. Entries without filter or a time of this century are
    left out, and those that the survey took back.
    """
    points = _ztf_points(record) if survey == "ztf" else _lsst_points(record)
    if not points:
        return []
    plausible = plausible_jd(np.array([p.time_jd for p in points])).tolist()
    return merged(p for p, good in zip(points, plausible, strict=True) if good and p.filter)


def has_old_flux(record: Mapping[str, Any]) -> bool:
    """Whether fluxes of a packet of LSST have ELAsTiCC's zero point."""
    found = record.get("diaObject")
    return isinstance(found, Mapping) and ELASTICC_SIGN in found


def _entries(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Records of an array; a writer's schema may have anything else there."""
    found = record.get(name)
    return (x for x in (found if isinstance(found, list) else ()) if isinstance(x, Mapping))


def _ztf_points(record: Mapping[str, Any]) -> list[Detection]:
    found = []
    for entry in _entries(record, "prv_candidates"):
        time_jd = _ztf_number(entry.get("jd"))
        if time_jd is None:
            continue
        mag = _ztf_number(entry.get("magpsf"))
        found.append(
            Detection(
                time_jd,
                _ZTF_FILTERS.get(_number(entry.get("fid")) or 0, ""),
                mag,
                None if mag is None else _ztf_number(entry.get("sigmapsf")),
                _ztf_number(entry.get("diffmaglim")),
                str(entry.get("isdiffpos")).lower() in ("t", "1", "true", "none"),
            )
        )
    return found


_Measured = tuple[float, float, float, str, bool]


def _lsst_points(record: Mapping[str, Any]) -> list[Detection]:
    measured, withdrawn_at = [], []
    for entry, detected in _lsst_entries(record):
        one = _measured(entry, detected=detected)
        if one is not None:
            measured.append(one)
            withdrawn_at.append(_number(entry.get(_WITHDRAWN)) or 0.0)
    if not measured:
        return []
    stands = (~taken_back(np.array(withdrawn_at))).tolist()
    scale = ELASTICC_TO_NJY if has_old_flux(record) else 1.0
    times = tai_mjd_to_utc_jd(np.array([m[0] for m in measured])).tolist()
    mags = ab_magnitude(np.array([m[1] for m in measured]) * scale).tolist()
    limits = ab_magnitude(np.array([_FORCED_SIGMA * m[2] for m in measured]) * scale).tolist()
    found = []
    for one, time_jd, mag, limit, good in zip(measured, times, mags, limits, stands, strict=True):
        _, flux, error, band, detected = one
        if not good:
            continue
        if flux != 0 and (detected or abs(flux) >= _FORCED_SIGMA * error):
            mag_error = 2.5 / math.log(10) * error / abs(flux)
            found.append(Detection(time_jd, band, mag, mag_error, limit, flux > 0))
        else:
            found.append(Detection(time_jd, band, None, None, limit, True))
    return found


def _lsst_entries(record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Entries of all arrays, and whether each is a detection however faint."""
    for entry in _entries(record, "prvDiaSources"):
        yield entry, True
    for entry in _entries(record, "prvDiaForcedSources"):
        yield entry, False
    for entry in _entries(record, "prvDiaNondetectionLimits"):
        yield {**entry, _FLUXES[0]: 0.0, _ERRORS[0]: entry.get(_NOISE)}, False


def _measured(entry: Mapping[str, Any], *, detected: bool) -> _Measured | None:
    """Time (MJD, TAI), flux, its error, filter; None where one of the numbers is missing."""
    time_tai = _number(_first(entry, _TIMES))
    flux = _number(_first(entry, _FLUXES))
    error = _number(_first(entry, _ERRORS))
    if time_tai is None or flux is None or error is None or error <= 0:
        return None
    band = str(_first(entry, _FILTERS) or "")[:1].lower()
    return time_tai, flux, error, band, detected


def _first(entry: Mapping[str, Any], names: tuple[str, str]) -> Any:
    """The value under the first name that has one."""
    found = entry.get(names[0])
    return entry.get(names[1]) if found is None else found


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _ztf_number(value: Any) -> float | None:
    # Of nearly all; what is no number, or not finite, fails one of the two comparisons.
    if type(value) is float and SENTINEL_BELOW <= value < math.inf:
        return value
    number = _number(value)
    return None if number is None or number < SENTINEL_BELOW else number
