"""The facts of the night, read from ``facts.toml``; every entry there names its source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np

from crossmatch.model import FloatArray

FILTERS = ("g", "r", "i")
_UNIX_EPOCH_JD = 2440587.5


@cache
def facts() -> Mapping[str, Any]:
    """The whole table, as ``tomllib`` reads it. Do not change the lists inside."""
    text = resources.files("gateway.night").joinpath("facts.toml").read_text("utf-8")
    return MappingProxyType(tomllib.loads(text))


def decoy(kind: str) -> Mapping[str, Any]:
    """The invented event of one kind: swift_bat, icecube_gold, lvk_mock or lvk_retracted."""
    found: Mapping[str, Any]
    (found,) = (d for d in facts()["decoys"] if d["kind"] == kind)
    return found


def burst_position(kind: str) -> Mapping[str, Any]:
    """One of the positions of GRB 170817A: flight, ground or final."""
    found: Mapping[str, Any]
    (found,) = (p for p in facts()["burst"]["positions"] if p["kind"] == kind)
    return found


def wave_map(alert_type: str) -> Mapping[str, Any]:
    """What was sent of GW170817 as PRELIMINARY, INITIAL or UPDATE."""
    found: Mapping[str, Any]
    (found,) = (m for m in facts()["wave"]["maps"] if m["alert_type"] == alert_type)
    return found


def julian_date(when: datetime) -> float:
    """Julian date (UTC) of ``when``."""
    return when.timestamp() / 86400 + _UNIX_EPOCH_JD


def unix_seconds(jd: FloatArray) -> FloatArray:
    """(n,) Unix time in seconds of (n,) Julian dates (UTC)."""
    return (np.asarray(jd, dtype=np.float64) - _UNIX_EPOCH_JD) * 86400


def light_curve(name: str) -> FloatArray:
    """(n, 3) days after the merger, AB magnitude and its error of AT2017gfo in filter g, r or i."""
    column = 1 + 2 * FILTERS.index(name)
    rows = facts()["kilonova"]["light_curve"]["rows"]
    kept = [(r[0], r[column], r[column + 1]) for r in rows if len(r) > column]
    return np.array(kept, dtype=np.float64)


def kilonova_magnitude(days: FloatArray, name: str) -> FloatArray:
    """(n,) AB magnitudes of AT2017gfo at (n,) days after the merger, linear between epochs.

    Outside the table the nearest epoch holds.
    """
    table = light_curve(name)
    return np.interp(np.asarray(days, dtype=np.float64), table[:, 0], table[:, 1])
