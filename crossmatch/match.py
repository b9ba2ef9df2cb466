"""Alerts meet regions: arrays in, pairs out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crossmatch.index import RegionIndex
from crossmatch.model import BoolArray, FloatArray, IntArray
from crossmatch.pairkeys import KeyArray, doubtful, parted, parted_all
from crossmatch.sky import ipix29, separation_of_vectors_deg, unit_vectors
from crossmatch.tables import Columns, Tables

# Alerts taken at a time: the arrays of millions of pairs would leave the caches.
_CHUNK = 32_768
# Pairs evaluated at a time: the more, the nearer to each other lie their cells.
_PAIRS = 250_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Alerts inside regions, sorted by alert, then region.

    What is known of each pair is computed when somebody asks: of few of many pairs anybody
    does.

    Parameters
    ----------
    alert_row, region_row : (p,) int64
        Rows of the input and of the index.
    alerts : four (n,) arrays
        Time (JD UTC), right ascension, declination (degrees) and pixel of the input.
    tables : Tables
        Of the index.
    """

    alert_row: IntArray
    region_row: IntArray
    alerts: tuple[FloatArray, FloatArray, FloatArray, IntArray]
    tables: Tables

    def __len__(self) -> int:
        return len(self.alert_row)

    def __getitem__(self, which: BoolArray | IntArray | slice) -> Pairs:
        return Pairs(self.alert_row[which], self.region_row[which], self.alerts, self.tables)

    @property
    def credible_level(self) -> FloatArray:
        """Smallest level of the region's localisation that holds the alert, (p,) float64."""
        return self._evaluated[1]

    @property
    def density_per_sr(self) -> FloatArray:
        """Probability per steradian there, (p,) float64."""
        return self._evaluated[0]

    @property
    def separation_deg(self) -> FloatArray:
        """From the region's best position, (p,) float64."""
        _, ra, dec, _ = self.alerts
        here = unit_vectors(ra[self.alert_row], dec[self.alert_row]).T
        best = self.tables.columns.best_vector[:, self.region_row]
        return separation_of_vectors_deg(here, best)

    @property
    def time_offset_days(self) -> FloatArray:
        """Alert minus trigger, (p,) float64."""
        trigger = self.tables.columns.trigger_jd
        return self.alerts[0][self.alert_row] - trigger[self.region_row]

    @cached_property
    def _evaluated(self) -> tuple[FloatArray, FloatArray]:
        _, ra, dec, pixels = self.alerts
        density, level = np.empty(len(self)), np.empty(len(self))
        for begin in range(0, len(self), _PAIRS):
            some = slice(begin, begin + _PAIRS)
            density[some], level[some] = self.tables.evaluate(
                ra, dec, pixels, self.alert_row[some], self.region_row[some]
            )
        return density, level


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
        If a position or a time is not one, or there are not as many of each.
    """
    time, ra, dec = (np.asarray(a, np.float64) for a in (time_jd, ra_deg, dec_deg))
    if not len(time) == len(ra) == len(dec):
        raise ValueError(f"{len(time)} times, {len(ra)} right ascensions, {len(dec)} declinations")
    if len(time) and not (np.isfinite(time.min()) and np.isfinite(time.max())):
        raise ValueError("a time is not finite")
    tables = index if isinstance(index, Tables) else index.tables
    pixels = np.empty(len(time), np.int64)
    parts = []
    for begin in range(0, max(len(time), 1), _CHUNK):
        some = slice(begin, begin + _CHUNK)
        pixels[some] = ipix29(ra[some], dec[some])
        parts.append(_keys(time[some], ra[some], dec[some], pixels[some], tables))
    return Pairs(*parted_all(parts, _CHUNK), (time, ra, dec, pixels), tables)


def _keys(
    time: FloatArray, ra: FloatArray, dec: FloatArray, pixels: IntArray, tables: Tables
) -> KeyArray:
    """Keys of the pairs of some alerts, in order."""
    # In order of place neighbours ask for what lies together in memory.
    by_place = np.argsort(pixels)
    keys = _timely(time, tables.hits(pixels[by_place], by_place), tables.columns)
    asked = np.flatnonzero(doubtful(keys))
    if len(asked):
        out = tables.outside(ra, dec, pixels, *parted(keys[asked]))
        keys = np.delete(keys, asked[out])
    keys.sort()
    return keys


def _timely(time: FloatArray, keys: KeyArray, regions: Columns) -> KeyArray:
    """The pairs whose alert lies in the window of its region."""
    if not len(keys):
        return keys
    starts, ends, trigger = regions.window_start_days, regions.window_end_days, regions.trigger_jd
    # Rounding keeps the order: what holds for the first and the last alert holds for all.
    always = (starts < time.min() - trigger) & (time.max() - trigger <= ends)
    if always.all():
        return keys
    alert, row = parted(keys)
    offset = time[alert] - trigger[row]
    return keys[(starts[row] < offset) & (offset <= ends[row])]
