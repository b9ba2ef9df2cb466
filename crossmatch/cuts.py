"""Cuts on alerts before they are matched, each with a name and a count of what it removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crossmatch.cutnames import CUTS
from crossmatch.model import BoolArray, FloatArray
from crossmatch.selections import Selection, Step
from crossmatch.sky import galactic_latitude_deg

CUT_NAMES = ("not_positive", "real_bogus", "bad_pixels", "mag_difference", "moving", "star")
"""Of the selection ``default``, in its order."""
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
"""Columns of an alert that any cut of the selection ``default`` looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Which cuts are made before alerts are matched; the defaults stand in ``defaults.toml``.

    The thresholds are those of the selection ``default``; ``max_mag_difference`` is ``None``
    when that cut is not made. Another ``selection`` takes its place.
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
    selection: Selection | None = None

    @property
    def made(self) -> Selection:
        """The selection that is made, whether by thresholds or by name."""
        return default_selection(self) if self.selection is None else self.selection

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which cuts are counted, in order: of the default those not made too."""
        if self.selection is None:
            return CUT_NAMES
        return tuple(step.name for step in self.selection.steps)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of an alert that the cuts look at."""
        if self.selection is None:
            return CUT_COLUMNS
        wanted = (name for step in self.selection.steps for name in step.about.columns)
        return tuple(dict.fromkeys(wanted))


def default_selection(cuts: Cuts) -> Selection:
    """The selection ``default``: six cuts by the thresholds of ``[cuts]``."""
    steps: list[Step] = []

    def add(cut: str, **parameters: float) -> None:
        name = CUTS[cut].counted_as or cut
        steps.append(Step(name=name, cut=cut, parameters=tuple(parameters.items())))

    if cuts.require_positive:
        add("positive")
    add(
        "real_bogus",
        min_real_bogus=cuts.min_real_bogus,
        min_deep_real_bogus=cuts.min_deep_real_bogus,
    )
    add("bad_pixels", max_bad_pixels=cuts.max_bad_pixels)
    if cuts.max_mag_difference is not None:
        add("mag_difference", max_mag_difference=cuts.max_mag_difference)
    add("moving", radius_arcsec=cuts.moving_radius_arcsec)
    add("star", radius_arcsec=cuts.star_radius_arcsec, min_star_score=cuts.min_star_score)
    return Selection(name="default", steps=tuple(steps), doc="the thresholds of [cuts]")


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
        With ``cuts.columns``, of those in ``crossmatch.columns.ALERT_FIELDS``. In the
        selection ``default`` a missing value never fails.
    cuts : Cuts

    Returns
    -------
    CutResult
        ``by_name`` has all of ``cuts.names``, in order; n = kept + removed.
    """
    n = alerts.num_rows
    keep = np.ones(n, np.bool_)
    by_name = {name: np.zeros(n, np.bool_) for name in cuts.names}
    if cuts.enabled:
        for one in cuts.made.removed(AlertColumns(alerts), n):
            by_name[one.step.name] = one.rows
            keep &= ~one.rows
    return CutResult(keep, by_name)


class AlertColumns:
    """Columns of alerts as tests take them, and those that follow from them; each made once.

    ``detection_span_days`` is from the first detection to the exposure,
    ``galactic_latitude_deg`` that of the position. KeyError for a column that the table lacks.
    """

    def __init__(self, alerts: pa.Table) -> None:
        self._alerts = alerts
        self._made: dict[str, FloatArray] = {}

    def __call__(self, name: str) -> FloatArray:
        """Values of a column, (n,) float64, NaN where there is none."""
        if name not in self._made:
            self._made[name] = self._values(name)
        return self._made[name]

    def _values(self, name: str) -> FloatArray:
        if name == "detection_span_days":
            return self("time_jd") - self("first_detection_jd")
        if name == "galactic_latitude_deg":
            return galactic_latitude_deg(self("ra_deg"), self("dec_deg"))
        column = pc.cast(self._alerts.column(name), pa.float64())
        return np.asarray(column.to_numpy(), np.float64)
