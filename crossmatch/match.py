"""Alerts meet regions: arrays in, pairs out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmatch.index import RegionIndex
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import ipix29, separation_deg
from crossmatch.times import jd_from_datetime


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Alerts inside regions, sorted by alert, then region.

    Parameters
    ----------
    alert_row, region_row : (p,) int64
        Rows of the input and of the index.
    credible_level : (p,) float64
        Smallest level of the region's localisation that holds the alert.
    density_per_sr : (p,) float64
        Probability per steradian there.
    separation_deg : (p,) float64
        From the region's best position.
    time_offset_days : (p,) float64
        Alert minus trigger.
    """

    alert_row: IntArray
    region_row: IntArray
    credible_level: FloatArray
    density_per_sr: FloatArray
    separation_deg: FloatArray
    time_offset_days: FloatArray

    def __len__(self) -> int:
        return len(self.alert_row)

    def __getitem__(self, which: BoolArray | IntArray | slice) -> Pairs:
        return Pairs(
            self.alert_row[which],
            self.region_row[which],
            self.credible_level[which],
            self.density_per_sr[which],
            self.separation_deg[which],
            self.time_offset_days[which],
        )


def match(
    time_jd: FloatArray, ra_deg: FloatArray, dec_deg: FloatArray, index: RegionIndex
) -> Pairs:
    """All pairs of an alert and a region that holds it in place and time.

    Parameters
    ----------
    time_jd : (n,) float64
        Exposures, JD UTC.
    ra_deg, dec_deg : (n,) float64
        ICRS degrees.
    index : RegionIndex

    Returns
    -------
    Pairs
        With credible level <= the region's level and window start < time offset <=
        window end. The result depends on the alerts and the regions alone, not on
        how they are cut into batches.

    Raises
    ------
    ValueError
        If a position is not one.
    """
    time, ra, dec = (np.asarray(a, np.float64) for a in (time_jd, ra_deg, dec_deg))
    pixels = ipix29(ra, dec)
    alert, row = index.lookup(pixels)
    regions = index.regions
    trigger = np.array([jd_from_datetime(r.trigger_time) for r in regions], np.float64)
    start = np.array([r.window.start_days for r in regions], np.float64)
    end = np.array([r.window.end_days for r in regions], np.float64)
    offset = time[alert] - trigger[row]
    timely = (start[row] < offset) & (offset <= end[row])
    alert, row, offset = alert[timely], row[timely], offset[timely]
    density, level, separation = _evaluate(ra[alert], dec[alert], pixels[alert], row, index)
    allowed = np.array([r.level for r in regions], np.float64)
    pairs = Pairs(alert, row, level, density, separation, offset)
    return pairs[level <= allowed[row]]


def _evaluate(
    ra: FloatArray, dec: FloatArray, pixels: IntArray, row: IntArray, index: RegionIndex
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Density, level and separation of each pair, region by region."""
    density, level, separation = np.empty(len(row)), np.empty(len(row)), np.empty(len(row))
    by_region = np.argsort(row, kind="stable")
    bounds = np.flatnonzero(np.diff(row[by_region])) + 1
    for group in np.split(by_region, bounds) if len(row) else []:
        shape = index.shape(int(row[group[0]]))
        density[group], level[group] = shape.at(ra[group], dec[group], pixels[group])
        separation[group] = separation_deg(*shape.best_deg, ra[group], dec[group])
    return density, level, separation
