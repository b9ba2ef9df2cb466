"""Pairs of alerts and regions in files that pass a selection, by what files can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from crossmatch.cuts import AlertColumns
from crossmatch.errors import ConfigError
from crossmatch.facts import error_radius_deg
from crossmatch.match import Pairs
from crossmatch.model import BoolArray, FloatArray, Region
from crossmatch.selections import Selection
from crossmatch.times import jd_from_datetime

SIMBAD = "cdsxmatch"
"""Column of Fink's files: type of the Simbad object within 1 arcsec, ``Unknown`` if there is none,
``Fail`` and a reason if nobody knows."""
_SIMBAD_ARCSEC = 1.0


def check_selection(selection: Selection) -> None:
    """Raise ConfigError for a cut that files of alerts cannot answer."""
    for step in selection.steps:
        needs = step.about.needs
        parameters = dict(step.parameters)
        asks_simbad = parameters.get("catalog") == "simbad"
        if needs not in ("alert", "event") and not asks_simbad:
            raise ConfigError(
                f"--selection {selection.name}: {step.cut} needs what files do not tell ({needs}):"
                " it can be demanded by a chain of a running gateway"
            )
        if asks_simbad and parameters["radius_arcsec"] != _SIMBAD_ARCSEC:
            raise ConfigError(
                f"--selection {selection.name}: {step.name} asks for"
                f" {parameters['radius_arcsec']:g} arcsec around Simbad's objects, files tell"
                f" ({SIMBAD}) of {_SIMBAD_ARCSEC:g} alone: give it radius_arcsec ="
                f" {_SIMBAD_ARCSEC:g}"
            )


def simbad_arcsec(native: pa.Table, alerts: pa.Table) -> FloatArray:
    """Distance from Simbad as far as Fink's column tells it, for alerts among native rows, (n,).

    0 where there is an object within 1 arcsec, infinite where there is none, NaN where it is
    not known. Both tables have ``offset``, which ascends in ``native``.
    """
    if SIMBAD not in native.column_names:
        return np.full(alerts.num_rows, np.nan)
    rows = np.searchsorted(native["offset"].to_numpy(), alerts["offset"].to_numpy())
    types = np.array([text or "" for text in native[SIMBAD].to_pylist()], np.str_)[rows]
    unknown = (types == "") | np.char.startswith(types, "Fail")
    return np.select([unknown, types == "Unknown"], [np.nan, np.inf], 0.0)


def select_pairs(
    selection: Selection,
    alerts: pa.Table,
    simbad: FloatArray,
    pairs: Pairs,
    regions: Sequence[Region],
) -> tuple[BoolArray, Counter[str]]:
    """Which pairs pass, (m,) bool, and how many each cut removed first.

    Parameters
    ----------
    selection : Selection
    alerts : (n,) table
        With the columns of `crossmatch.columns.ALERT_FIELDS`.
    simbad : (n,) float64
        As of `simbad_arcsec`.
    pairs : Pairs
    regions : sequence of Region
    """
    column = _PairColumns(alerts, simbad, pairs, regions)
    keep = np.ones(len(pairs), np.bool_)
    removed: Counter[str] = Counter()
    for step in selection.steps:
        made = np.array([step.concerns(region.mission) for region in regions], np.bool_)
        fails = keep & made[pairs.region_row] & step.fails(column)
        removed[step.name] = int(fails.sum())
        keep &= ~fails
    return keep, removed


class _PairColumns:
    def __init__(
        self, alerts: pa.Table, simbad: FloatArray, pairs: Pairs, regions: Sequence[Region]
    ) -> None:
        self._alerts = AlertColumns(alerts)
        self._rows = pairs.alert_row
        trigger = np.array([jd_from_datetime(region.trigger_time) for region in regions])
        radius = np.array([error_radius_deg(region) for region in regions])
        first = self._alerts("first_detection_jd")[pairs.alert_row]
        self._own = {
            "offset_days": pairs.time_offset_days,
            "first_offset_days": first - trigger[pairs.region_row],
            "separation_deg": pairs.separation_deg,
            "error_radius_deg": radius[pairs.region_row],
            "credible_level": pairs.credible_level,
            "near.simbad": simbad[pairs.alert_row],
        }

    def __call__(self, name: str) -> FloatArray:
        own = self._own.get(name)
        return self._alerts(name)[self._rows] if own is None else own
