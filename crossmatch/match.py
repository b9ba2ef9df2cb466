"""Alerts meet regions: arrays in, pairs out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmatch.index import RegionIndex
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.sky import ipix29, separation_of_vectors_deg, unit_vectors
from crossmatch.tables import Columns, Hits, Tables

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
    alerts : (3, n) float64
        Time (JD UTC), right ascension, declination of the input.
    regions : Columns
        Of the index.
    """

    alert_row: IntArray
    region_row: IntArray
    credible_level: FloatArray
    density_per_sr: FloatArray
    alerts: tuple[FloatArray, FloatArray, FloatArray]
    regions: Columns

    def __len__(self) -> int:
        return len(self.alert_row)

    def __getitem__(self, which: BoolArray | IntArray | slice) -> Pairs:
        return Pairs(
            self.alert_row[which],
            self.region_row[which],
            self.credible_level[which],
            self.density_per_sr[which],
            self.alerts,
            self.regions,
        )

    # Of few pairs anybody asks these: they are computed when somebody does.

    @property
    def separation_deg(self) -> FloatArray:
        """From the region's best position, (p,) float64."""
        _, ra, dec = self.alerts
        here = unit_vectors(ra[self.alert_row], dec[self.alert_row]).T
        return separation_of_vectors_deg(here, self.regions.best_vector[:, self.region_row])

    @property
    def time_offset_days(self) -> FloatArray:
        """Alert minus trigger, (p,) float64."""
        return self.alerts[0][self.alert_row] - self.regions.trigger_jd[self.region_row]


def match(
    time_jd: FloatArray, ra_deg: FloatArray, dec_deg: FloatArray, index: RegionIndex | Tables
) -> Pairs:
    """All pairs of an alert and a region that holds it in place and time.

    Parameters
    ----------
    time_jd : (n,) float64
        Exposures, JD UTC.
    ra_deg, dec_deg : (n,) float64
        ICRS degrees.
    index : RegionIndex or Tables

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
    tables = index if isinstance(index, Tables) else index.tables
    parts = [
        _match_chunk(time[i : i + _CHUNK], ra[i : i + _CHUNK], dec[i : i + _CHUNK], tables, i)
        for i in range(0, max(len(time), 1), _CHUNK)
    ]
    alert, row, level, density = (
        parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    )
    return Pairs(alert, row, level, density, (time, ra, dec), tables.columns)


def _match_chunk(
    time: FloatArray, ra: FloatArray, dec: FloatArray, tables: Tables, first_row: int
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Alert, region, level and density of the pairs of some alerts."""
    pixels = ipix29(ra, dec)
    hits = _timely(tables.hits(pixels), time, tables.columns)
    density, level = tables.evaluate(ra, dec, pixels, hits.alert, hits.row)
    inside = level <= tables.columns.level[hits.row]
    # Places are those among all hits: what is not inside leaves gaps, which close here.
    n_places = int(hits.count.sum())
    of_place = np.full(n_places, -1)
    of_place[hits.place[inside]] = np.flatnonzero(inside)
    order = of_place[of_place >= 0]
    return (
        hits.alert[order] + first_row,
        hits.row[order].astype(np.int64),
        level[order],
        density[order],
    )


def _timely(hits: Hits, time: FloatArray, regions: Columns) -> Hits:
    """The hits whose alert lies in the window of its region."""
    if not len(hits.row):
        return hits
    starts, ends, trigger = regions.window_start_days, regions.window_end_days, regions.trigger_jd
    # Rounding keeps the order: what holds for the first and the last alert holds for all.
    always = (starts < time.min() - trigger) & (time.max() - trigger <= ends)
    if always.all():
        return hits
    offset = time[hits.alert] - trigger[hits.row]
    timely = (starts[hits.row] < offset) & (offset <= ends[hits.row])
    return Hits(hits.count, hits.alert[timely], hits.row[timely], hits.place[timely])
