"""Straight ways of moving objects, memory-mapped: which pass near a position at its time.

A segment is a piece of a great circle that is run through at one speed. It lies in the index
where its middle is, so that a search must reach by half of the longest segment beyond the
radius. Those that count within half a day are picked out when it is first asked for, and
searched apart by their lengths: a comet does not widen the search for others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.sources import Pairs, Sources, mapped, separation_arcsec
from crossmatch.model import FloatArray, IntArray

START, END, EAST, NORTH = "_start_jd", "_end_jd", "_east", "_north"
"""Columns of segments: from when to before when, and degrees a day at the middle."""
ARRAYS = {START: "start", END: "end", EAST: "east", NORTH: "north"}
"""Files of an index with these columns."""
# Nights of a table that covers a month are searched one by one.
_SLOTS_A_DAY = 2
_MOST_SLOTS = 32
# Longest half-lengths of those that are searched together, degrees. In a day's step an asteroid
# of the main belt moves by a quarter of a degree.
_LENGTHS_DEG = 180.0 / 2.0 ** np.arange(14, -1, -1)
# The middle is rounded, and so is the separation from it.
_ROUNDING_ARCSEC = 1e-3


class SegmentFacts:
    """What there is to tell of all segments."""

    def __init__(self) -> None:
        self._first, self._last = np.inf, -np.inf

    def take(self, rows: pa.Table) -> None:
        """Rows with the columns of segments."""
        self._first = min(self._first, float(rows[START].to_numpy().min()))
        self._last = max(self._last, float(rows[END].to_numpy().max()))

    def told(self) -> dict[str, float]:
        """First and last time, Julian dates."""
        # The last segment of all counts to before the number after its last time.
        return {"first_jd": self._first, "last_jd": float(np.nextafter(self._last, 0.0))}


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Segments of about one length: rows of the catalogue, and where their middles are."""

    reach_arcsec: float
    rows: IntArray
    near: Sources


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Segments in the order of the pixels of their middles.

    Parameters
    ----------
    sources : Sources
        Their middles.
    start_jd, end_jd : (n,) float64
        UTC; a segment counts from its start to before its end.
    east, north : (n,) float64
        Motion at the middle in degrees a day, ``east`` along the parallel: times the cosine
        of the declination.
    """

    sources: Sources
    start_jd: FloatArray
    end_jd: FloatArray
    east: FloatArray
    north: FloatArray
    _slots: dict[int, tuple[_Group, ...]] = field(default_factory=dict, init=False, repr=False)
    # Threads that look up at once must not throw out one slot both.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @classmethod
    def open(cls, folder: Path, sources: Sources) -> Segments:
        """Segments of an index."""
        start, end, east, north = (mapped(folder, name) for name in ARRAYS.values())
        return cls(sources, start, end, east, north)

    def within(
        self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float, time_jd: FloatArray
    ) -> Pairs:
        """All objects that are within a radius (included) of each position at its time.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS.
        radius_arcsec : float
        time_jd : (n,) float64
            Julian dates, UTC.

        Returns
        -------
        Pairs
            Rows are segments; sorted by position, separation and row.
        """
        nothing = np.empty(0, np.int64), np.empty(0, np.int64)
        found = [nothing, *self._passing(ra_deg, dec_deg, radius_arcsec, time_jd)]
        position, row = (np.concatenate(part) for part in zip(*found, strict=True))
        away = separation_arcsec(
            ra_deg[position], dec_deg[position], *self.places(row, time_jd[position])
        )
        near = np.flatnonzero(away <= radius_arcsec)
        position, row, away = position[near], row[near], away[near]
        order = np.lexsort((row, away, position))
        return Pairs(position[order], row[order], away[order])

    def places(self, row: IntArray, time_jd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Right ascension and declination of segments at times, degrees, (n,) each."""
        ra, dec = np.radians(self.sources.ra_deg[row]), np.radians(self.sources.dec_deg[row])
        days = time_jd - (self.start_jd[row] + self.end_jd[row]) / 2
        east, north = np.radians(days * self.east[row]), np.radians(days * self.north[row])
        angle = np.hypot(east, north)
        # Sine over angle, which is one where nothing moves; NumPy has it with a pi.
        ratio = np.sinc(angle / np.pi)
        along, east, north = np.cos(angle), east * ratio, north * ratio
        # On the meridian, and up from the equator's plane.
        out = along * np.cos(dec) - north * np.sin(dec)
        up = along * np.sin(dec) + north * np.cos(dec)
        x, y = out * np.cos(ra) - east * np.sin(ra), out * np.sin(ra) + east * np.cos(ra)
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(up, np.hypot(x, y)))

    def _passing(
        self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float, time_jd: FloatArray
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Positions and segments that count at their times and may be near enough."""
        slots = np.floor(time_jd * _SLOTS_A_DAY).astype(np.int64)
        for slot in np.unique(slots).tolist():
            some = np.flatnonzero(slots == slot)
            ra, dec = ra_deg[some], dec_deg[some]
            for group in self._groups(slot):
                pairs = group.near.within(ra, dec, radius_arcsec + group.reach_arcsec)
                position, row = some[pairs.position], group.rows[pairs.row]
                time = time_jd[position]
                then = (self.start_jd[row] <= time) & (time < self.end_jd[row])
                yield position[then], row[then]

    def _groups(self, slot: int) -> tuple[_Group, ...]:
        """Segments that count at some time of a slot, by their lengths."""
        with self._lock:
            found = self._slots.get(slot)
            if found is None:
                while len(self._slots) >= _MOST_SLOTS:
                    del self._slots[next(iter(self._slots))]
                found = self._slots[slot] = tuple(self._grouped(slot))
            return found

    def _grouped(self, slot: int) -> Iterator[_Group]:
        first, after = slot / _SLOTS_A_DAY, (slot + 1) / _SLOTS_A_DAY
        rows = np.flatnonzero((self.start_jd < after) & (self.end_jd > first))
        days = self.end_jd[rows] - self.start_jd[rows]
        half_deg = np.hypot(self.east[rows], self.north[rows]) * days / 2
        group_of = np.searchsorted(_LENGTHS_DEG, half_deg)
        places = self.sources
        for number in np.unique(group_of):
            some = rows[group_of == number]
            near = Sources.of(places.ra_deg[some], places.dec_deg[some], places.ipix29[some])
            longest = float(half_deg[group_of == number].max())
            yield _Group(3600 * longest + _ROUNDING_ARCSEC, some, near)
