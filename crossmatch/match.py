"""Alerts meet regions: arrays in, pairs out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmatch.index import RegionIndex
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import ipix29, separation_of_vectors_deg, unit_vectors

# Alerts taken at a time: the arrays of millions of pairs would leave the caches.
_CHUNK = 100_000


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
    parts = [
        _match_chunk(time[i : i + _CHUNK], ra[i : i + _CHUNK], dec[i : i + _CHUNK], index, i)
        for i in range(0, max(len(time), 1), _CHUNK)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _match_chunk(
    time: FloatArray, ra: FloatArray, dec: FloatArray, index: RegionIndex, first_row: int
) -> Pairs:
    regions = index.columns
    pixels = ipix29(ra, dec)
    alert, row = index.lookup(pixels)
    offset = time[alert] - regions.trigger_jd[row]
    timely = (regions.window_start_days[row] < offset) & (offset <= regions.window_end_days[row])
    alert, row, offset = alert[timely], row[timely], offset[timely]
    density, level = index.evaluate(ra[alert], dec[alert], pixels[alert], row)
    inside = level <= regions.level[row]
    alert, row = alert[inside], row[inside]
    here = np.ascontiguousarray(unit_vectors(ra, dec).T)
    separation = separation_of_vectors_deg(here[:, alert], regions.best_vector[:, row])
    return Pairs(alert + first_row, row, level[inside], density[inside], separation, offset[inside])


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Pairs.__dataclass_fields__
        )
    )
