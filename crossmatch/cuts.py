"""Quality cuts on packet fields, each with a name and a count of what it removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crossmatch.model import BoolArray, FloatArray

CUT_NAMES = ("not_positive", "real_bogus", "bad_pixels", "mag_difference", "moving", "star")
CUT_COLUMNS = (
    "positive",
    "real_bogus",
    "deep_real_bogus",
    "n_bad",
    "mag_difference",
    "moving_distance_arcsec",
    "ps1_distance_arcsec",
    "ps1_star_score",
)
"""Columns of an alert that any of the cuts looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Thresholds of the quality cuts; the defaults stand in ``gateway/defaults.toml``.

    ``max_mag_difference`` is ``None`` when that cut is not made.
    """

    enabled: bool
    min_real_bogus: float
    min_deep_real_bogus: float
    max_bad_pixels: int
    max_mag_difference: float | None
    require_positive: bool
    moving_radius_arcsec: float
    min_star_score: float
    star_radius_arcsec: float


@dataclass(frozen=True, slots=True, eq=False)
class CutResult:
    """What the cuts left: ``keep`` (n,) bool, and by name which each removed first, (n,) bool."""

    keep: BoolArray
    by_name: dict[str, BoolArray]

    @property
    def removed(self) -> dict[str, int]:
        """How many each cut removed first."""
        return {name: int(rows.sum()) for name, rows in self.by_name.items()}


def apply_cuts(alerts: pa.Table, cuts: Cuts) -> CutResult:
    """Which alerts pass all cuts; each one that fails is counted under the first it fails.

    Parameters
    ----------
    alerts : pyarrow.Table
        With the columns of ``crossmatch.columns.ALERT_FIELDS``. A missing value never fails.
    cuts : Cuts

    Returns
    -------
    CutResult
        ``by_name`` has every name of ``CUT_NAMES``, in order; n = kept + removed.

    Notes
    -----
    ``real_bogus``: one of the two scores must reach its minimum, where there is any.
    ``moving``: a known minor body within the radius. ``star``: a PS1 source within the
    radius whose star score is above the minimum.
    """
    keep = np.ones(alerts.num_rows, np.bool_)
    by_name = {name: np.zeros(alerts.num_rows, np.bool_) for name in CUT_NAMES}
    if cuts.enabled:
        for name, fails in _failures(alerts, cuts):
            by_name[name] = keep & fails
            keep &= ~fails
    return CutResult(keep, by_name)


def _failures(alerts: pa.Table, cuts: Cuts) -> Iterator[tuple[str, BoolArray]]:
    """Name and failing rows of each cut; comparisons with NaN are false: missing passes."""
    if cuts.require_positive:
        yield "not_positive", _values(alerts, "positive") == 0
    score, deep = _values(alerts, "real_bogus"), _values(alerts, "deep_real_bogus")
    poor = (score < cuts.min_real_bogus) | (deep < cuts.min_deep_real_bogus)
    good = (score >= cuts.min_real_bogus) | (deep >= cuts.min_deep_real_bogus)
    yield "real_bogus", poor & ~good
    yield "bad_pixels", _values(alerts, "n_bad") > cuts.max_bad_pixels
    if cuts.max_mag_difference is not None:
        difference = np.abs(_values(alerts, "mag_difference"))
        yield "mag_difference", difference >= cuts.max_mag_difference
    yield "moving", _values(alerts, "moving_distance_arcsec") <= cuts.moving_radius_arcsec
    near = _values(alerts, "ps1_distance_arcsec") <= cuts.star_radius_arcsec
    yield "star", near & (_values(alerts, "ps1_star_score") > cuts.min_star_score)


def _values(alerts: pa.Table, name: str) -> FloatArray:
    """Column as float64, NaN where there is no value."""
    column = pc.cast(alerts.column(name), pa.float64())
    return np.asarray(column.to_numpy(), np.float64)
