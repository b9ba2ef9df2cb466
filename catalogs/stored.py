"""A catalogue as it lies in the store: memory-mapped, and looked up at any epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from catalogs.indexfiles import COLUMNS, FAST_MAS_YR
from catalogs.kinds import Kind
from catalogs.motions import unused_motions
from catalogs.roles import Roles
from catalogs.segments import Segments
from catalogs.sources import (
    Matches,
    Pairs,
    Sources,
    closest_of,
    mapped,
    separation_arcsec,
)
from crossmatch.errors import CatalogError
from crossmatch.model import BoolArray, FloatArray, IntArray

FACTS = "catalog.json"
_PLACES = ("ra", "dec", "ipix29", "offsets")
_MAS_PER_DEG = 3.6e6
_J2000_JD = 2451545.0
_DAYS_PER_YEAR = 365.25


def julian_year(time_jd: FloatArray) -> FloatArray:
    """Julian years of Julian dates."""
    return np.asarray(2000.0 + (time_jd - _J2000_JD) / _DAYS_PER_YEAR, np.float64)


@dataclass(frozen=True, slots=True)
class _Motion:
    """Proper motions of the sources, memory-mapped, and those that move fast.

    ``epoch`` is None where all sources have ``first_epoch``. ``fast`` are rows of the
    catalogue, ascending; ``near`` their places.
    """

    pmra: FloatArray
    pmdec: FloatArray
    epoch: FloatArray | None
    first_epoch: float
    last_epoch: float
    fast: IntArray
    near: Sources
    fastest_mas_yr: float


@dataclass(frozen=True, eq=False)
class StoredCatalog:
    """One version of a catalogue, its files mapped into memory.

    Processes that open the same version share its pages; pickled, it is the name of its
    folder.

    Parameters
    ----------
    folder : Path
        Of this version.
    facts : mapping
        What `catalogs.ingest.ingest` wrote.
    sources : Sources
    """

    folder: Path
    facts: Mapping[str, Any]
    sources: Sources
    motion: _Motion | None = field(repr=False, default=None)
    segments: Segments | None = field(repr=False, default=None)

    @classmethod
    def open(cls, folder: Path) -> StoredCatalog:
        """Catalogue in a folder of the store.

        Raises
        ------
        CatalogError
            ``not_a_catalog``, when a file is missing or is not what it should be.
        """
        try:
            facts = json.loads((folder / FACTS).read_text("utf-8"))
            index = folder / "index"
            ra, dec, ipix29, offsets = (mapped(index, n) for n in _PLACES)
            sources = Sources(ra, dec, ipix29, offsets, facts["order"])
            if len(sources) != facts["rows"] or len(offsets) != 12 * 4 ** facts["order"] + 1:
                raise ValueError(f"{len(sources)} sources, {facts['rows']} were added")
            motion = None if facts["fastest_mas_yr"] is None else _motion(index, facts, sources)
            moves = facts.get("segments") is not None
            segments = Segments.open(index, sources) if moves else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CatalogError(
                "not_a_catalog", f"{folder}: {type(error).__name__}: {error}; add it again"
            ) from error
        found = cls(folder, facts, sources, motion, segments)
        # Mapped now: the folder may be removed while the catalogue is in use.
        _ = found._batches
        return found

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return StoredCatalog.open, (self.folder,)

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def name(self) -> str:
        """As it was added."""
        return str(self.facts["name"])

    @property
    def version(self) -> str:
        """Digest of the content, 12 digits."""
        return str(self.facts["version"])

    @cached_property
    def kind(self) -> Kind:
        """What its sources are."""
        return Kind(self.facts["kind"])

    @property
    def radius_arcsec(self) -> float:
        """Of look-ups."""
        return float(self.facts["radius_arcsec"])

    @cached_property
    def roles(self) -> Roles:
        """Which column means what, and how its unit is converted."""
        found = Roles.of(self.kind, self.facts["columns"], self.facts["units"])
        ways = self.facts.get("segments")
        if ways is None:
            return found
        # What tells objects apart is what they are called.
        names = tuple(ways["object_columns"])
        return replace(found, columns={**found.columns, "name": names[0]}, names=names)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not as the names of columns say, for people."""
        return (*self.roles.remarks, *self.roles.wrong, *unused_motions(self.facts))

    @property
    def covers_jd(self) -> tuple[float, float] | None:
        """First and last time, UTC, of a table of positions by time; None of other catalogues."""
        ways = self.facts.get("segments")
        return None if ways is None else (float(ways["first_jd"]), float(ways["last_jd"]))

    def covers(self, time_jd: FloatArray) -> BoolArray:
        """Whether it can tell what is near at times, (n,): not before its first or after its last.

        Of catalogues without positions by time that is always.
        """
        if self.covers_jd is None:
            return np.ones(len(time_jd), np.bool_)
        first, last = self.covers_jd
        return (first <= time_jd) & (time_jd <= last)

    def padding_arcsec(self, years: float) -> float:
        """By how much the fastest source moves in so many years: the search is wider by it."""
        return abs(years) * float(self.facts["fastest_mas_yr"] or 0.0) / 1000

    def within(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        radius_arcsec: float | None = None,
        time_jd: FloatArray | None = None,
    ) -> Pairs:
        """All sources within a radius (included), where they are at the time of each position.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS.
        radius_arcsec : float, optional
            The catalogue's, if not given.
        time_jd : (n,) float64, optional
            Without it, or without proper motions, sources are where the catalogue has them.

        Raises
        ------
        CatalogError
            ``no_time``, where minor planets are asked for without one.
        """
        radius = self.radius_arcsec if radius_arcsec is None else radius_arcsec
        if self.segments is not None:
            if time_jd is None:
                raise CatalogError("no_time", f"{self.name}: minor planets are where at what time?")
            time_jd = np.asarray(time_jd, np.float64)
            return self.segments.within(ra_deg, dec_deg, radius, time_jd)
        motion = self.motion
        if time_jd is None or motion is None or len(ra_deg) == 0:
            return self.sources.within(ra_deg, dec_deg, radius)
        year = julian_year(np.asarray(time_jd, np.float64))
        years = max(year.max() - motion.first_epoch, motion.last_epoch - year.min(), 0.0)
        slow = min(FAST_MAS_YR, motion.fastest_mas_yr)
        pairs = self.sources.within(ra_deg, dec_deg, radius + years * slow / 1000)
        position, row = pairs.position, pairs.row
        if len(motion.fast):
            rank = np.minimum(np.searchsorted(motion.fast, row), len(motion.fast) - 1)
            some = motion.fast[rank] != row
            more = motion.near.within(ra_deg, dec_deg, radius + self.padding_arcsec(years))
            position = np.concatenate([position[some], more.position])
            row = np.concatenate([row[some], motion.fast[more.row]])
        ra, dec = self._moved(motion, row, year[position])
        away = separation_arcsec(ra_deg[position], dec_deg[position], ra, dec)
        near = np.flatnonzero(away <= radius)
        position, row, away = position[near], row[near], away[near]
        order = np.lexsort((row, away, position))
        return Pairs(position[order], row[order], away[order])

    def closest(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        radius_arcsec: float | None = None,
        time_jd: FloatArray | None = None,
    ) -> Matches:
        """The nearest source of each position; see :meth:`within`."""
        if self.segments is None and (time_jd is None or self.motion is None):
            radius = self.radius_arcsec if radius_arcsec is None else radius_arcsec
            return self.sources.closest(ra_deg, dec_deg, radius)
        return closest_of(self.within(ra_deg, dec_deg, radius_arcsec, time_jd), len(ra_deg))

    def columns(self, names: Sequence[str], rows: IntArray) -> pa.Table:
        """Columns at rows, in the order of ``rows``; (n,) each.

        Raises
        ------
        CatalogError
            ``no_such_column``.
        """
        batches, starts = self._batches
        schema = batches[0].schema
        missing = [n for n in names if n not in schema.names]
        if missing:
            raise CatalogError("no_such_column", f"{self.name} has no {missing[0]}")
        fields = pa.schema([schema.field(n) for n in names])
        if len(rows) == 0:
            return fields.empty_table()
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        number = np.searchsorted(starts, wanted, side="right") - 1
        cuts = np.flatnonzero(np.r_[True, np.diff(number) > 0, True])
        parts = []
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            batch = batches[number[low]].select(list(names))
            parts.append(batch.take(pa.array(wanted[low:high] - starts[number[low]])))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(parts, fields).take(pa.array(back))

    @cached_property
    def _batches(self) -> tuple[list[pa.RecordBatch], IntArray]:
        """Mapped parts of the columns, and the row with which each begins."""
        path = self.folder / "index" / COLUMNS
        try:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_file(source)
                parts = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise CatalogError("not_a_catalog", f"{path}: {error}; add it again") from error
        counts = np.array([part.num_rows for part in parts], np.int64)
        return parts, np.asarray(np.cumsum(counts) - counts, np.int64)

    def _moved(
        self, motion: _Motion, row: IntArray, year: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Where sources are in a year: straight on the plane that touches the sky at them."""
        epoch = motion.first_epoch if motion.epoch is None else motion.epoch[row]
        step = np.radians((year - epoch) / _MAS_PER_DEG)
        ra, dec = np.radians(self.sources.ra_deg[row]), np.radians(self.sources.dec_deg[row])
        east, north = step * motion.pmra[row], step * motion.pmdec[row]
        # Along the meridian, and up from the equator's plane.
        out = np.cos(dec) - north * np.sin(dec)
        up = np.sin(dec) + north * np.cos(dec)
        x, y = out * np.cos(ra) - east * np.sin(ra), out * np.sin(ra) + east * np.cos(ra)
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(up, np.hypot(x, y)))


def _motion(folder: Path, facts: Mapping[str, Any], sources: Sources) -> _Motion:
    first, last = (float(year) for year in facts["epochs"])
    fast = mapped(folder, "fast")
    return _Motion(
        pmra=mapped(folder, "pmra"),
        pmdec=mapped(folder, "pmdec"),
        epoch=None if first == last else mapped(folder, "epoch"),
        first_epoch=first,
        last_epoch=last,
        fast=fast,
        near=Sources.of(sources.ra_deg[fast], sources.dec_deg[fast], sources.ipix29[fast]),
        fastest_mas_yr=float(facts["fastest_mas_yr"]),
    )
