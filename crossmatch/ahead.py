"""Pairs found ahead, against regions that stood a moment before, and what they are now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crossmatch import tablefiles
from crossmatch.index import RegionIndex
from crossmatch.match import Pairs, match
from crossmatch.model import FloatArray, IntArray, Region
from crossmatch.sky import ipix29
from crossmatch.tables import Tables

ROWS = pa.list_(pa.int32())
"""Regions of one alert, by their rows."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The regions of an index at a moment; later changes of the index leave it as it is.

    Parameters
    ----------
    tables : Tables
    regions : sequence of Region
        By row of the tables.
    """

    tables: Tables
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, index: RegionIndex) -> View:
        """View of this moment."""
        return cls(index.tables, index.regions)

    def save(self, folder: Path) -> None:
        """Write the tables, for `RegionIndex.load` in other processes."""
        others = {row: self.regions[row] for row in self.tables.others}
        tablefiles.save(self.tables, others, folder)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Which regions of a view hold alerts.

    Parameters
    ----------
    rows : (n,) array of lists of int32
        Of each alert the rows of its regions, in ascending order; null where nobody looked.
    view : View
    """

    rows: pa.ListArray
    view: View

    def take(self, alerts: pa.Array) -> Found:
        """The same of some of the alerts, by their numbers."""
        return Found(self.rows.take(alerts), self.view)


def rows_of(pairs: Pairs, count: int) -> pa.ListArray:
    """Rows of the regions of each of ``count`` alerts, (count,) lists of int32."""
    ends = np.searchsorted(pairs.alert_row, np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(pairs.region_row.astype(np.int32)))


def match_found(
    time_jd: FloatArray, ra_deg: FloatArray, dec_deg: FloatArray, index: RegionIndex, found: Found
) -> Pairs:
    """The pairs that :func:`crossmatch.match.match` gives, of which some are already found.

    Only what nobody looked for is: regions that came after the view, and alerts of which
    ``found`` has nothing.

    Parameters
    ----------
    time_jd, ra_deg, dec_deg : (n,) float64
        Exposures, JD UTC; ICRS degrees.
    index : RegionIndex
        Of this moment.
    found : Found
        Of these n alerts.

    Returns
    -------
    Pairs
        Sorted by alert, then region, as of ``index``.
    """
    time, ra, dec = (np.asarray(a, np.float64) for a in (time_jd, ra_deg, dec_deg))
    now = {id(region): row for row, region in enumerate(index.regions)}
    new_row = np.array([now.get(id(r), -1) for r in found.view.regions], np.int64)
    alerts, rows = _pairs(found)
    rows = new_row[rows]
    parts = [(alerts[rows >= 0], rows[rows >= 0])]
    looked = np.asarray(found.rows.is_valid())
    came = np.setdiff1d(np.arange(len(index)), new_row)
    if len(came):
        mine, later = np.flatnonzero(looked), RegionIndex.build([index.region(r) for r in came])
        pairs = match(time[mine], ra[mine], dec[mine], later)
        parts.append((mine[pairs.alert_row], came[pairs.region_row]))
    left = np.flatnonzero(~looked)
    if len(left):
        pairs = match(time[left], ra[left], dec[left], index)
        parts.append((left[pairs.alert_row], pairs.region_row))
    alert_row, region_row = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((region_row, alert_row))
    return Pairs(
        alert_row[order], region_row[order], (time, ra, dec, ipix29(ra, dec)), index.tables
    )


def _pairs(found: Found) -> tuple[IntArray, IntArray]:
    """Alerts and rows of the view, each (p,)."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(found.rows), 0))
    rows = np.asarray(found.rows.flatten(), np.int64)
    return np.repeat(np.arange(len(lengths)), lengths), rows
