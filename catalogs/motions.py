"""Proper motions of the rows of a catalogue file, each checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from catalogs.batches import Batch
from catalogs.checks import refuse_values
from catalogs.roles import PMDEC_NAMES, PMRA_NAMES
from catalogs.tables import measured, numbers, unit_factor
from crossmatch.model import FloatArray, IntArray

PMRA, PMDEC, EPOCH = "_pmra", "_pmdec", "_epoch"
# Barnard's star, the fastest, has 10,400. One row beyond all stars would widen every search.
_FASTEST_MAS_YR = 15_000.0


def motions(batch: Batch, columns: tuple[str, str, float | str], rows: IntArray) -> dict[str, Any]:
    """Proper motion in mas/yr, along right ascension times the cosine, and Julian years.

    What has no motion that is known, in both directions, stays where it is.

    Parameters
    ----------
    columns : (str, str, float or str)
        With the motion along right ascension and along declination, and the Julian year of
        all positions or the column that has it.
    rows : (n,) int64
        Their numbers in the batch, from 0.

    Returns
    -------
    dict
        `PMRA`, `PMDEC` and `EPOCH`, (n,) each.
    """
    *names, epoch = columns
    east, north = (_speed(batch, str(name), rows) for name in names)
    known = np.isfinite(east) & np.isfinite(north)
    found: dict[str, Any] = {
        own: np.where(known, values, 0.0).astype(np.float32)
        for own, values in ((PMRA, east), (PMDEC, north))
    }
    if not isinstance(epoch, str):
        found[EPOCH] = np.full(len(rows), epoch)
        return found
    years = numbers(batch.rows.columns[epoch])[rows]
    moves = (found[PMRA] != 0) | (found[PMDEC] != 0)
    bad = moves & ~((years > 1800) & (years < 2200))
    refuse_values(batch, rows, bad, epoch, years, "no Julian year of our time")
    found[EPOCH] = np.where(moves, years, 2000.0)
    return found


def unused_motions(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What there is to say of proper motions that a stored catalogue has and does not use."""
    by_lower = {name.lower(): name for name in facts["columns"]}
    found = [
        next((by_lower[name] for name in names if name in by_lower), None)
        for names in (PMRA_NAMES, PMDEC_NAMES)
    ]
    if facts["motion"] or facts.get("segments") or None in found:
        return ()
    names = " and ".join(map(str, found))
    return (
        f"{names}: not used, since the epoch of the positions is not known: add it with --epoch",
    )


def _speed(batch: Batch, column: str, rows: IntArray) -> FloatArray:
    """One component of the proper motion in mas/yr, NaN where it is not known."""
    factor = unit_factor(batch.rows, column, "mas/yr")
    values = measured(numbers(batch.rows.columns[column])[rows]) * factor
    fast = np.abs(values) > _FASTEST_MAS_YR
    refuse_values(batch, rows, fast, column, values, "faster than any star, in mas/yr")
    return values
