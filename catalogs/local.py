"""Local catalogues: nearest source to each of many positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa

from catalogs.tables import DEC_NAMES, RA_NAMES, positions, read_table
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray
from crossmatch.sky import MAX_ORDER, ipix29

_ARCSEC_PER_RAD = np.degrees(1.0) * 3600.0
# A pixel and its neighbours hold every disc around a place in the pixel whose radius is at most
# the pixels' smallest width; 1/4 of the mean width is safely below it, near the poles too.
_WIDTHS_PER_RADIUS = 4.0
_MEAN_WIDTH_ORDER_0_ARCSEC = np.sqrt(4 * np.pi / 12) * _ARCSEC_PER_RAD
# Positions looked up at a time: bounds the memory of a crowded catalogue.
_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Matches:
    """Nearest source of each position.

    ``row`` (n,) int64 is the row in the catalogue, -1 where nothing lies within the
    radius; ``separation_arcsec`` (n,) float64 is infinite there.
    """

    row: IntArray
    separation_arcsec: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LocalCatalog:
    """A catalogue in memory, sorted by place on the sky.

    Parameters
    ----------
    name : str
        As the configuration calls it.
    version : str
        First 12 digits of the file's SHA-256.
    ra_deg, dec_deg : (n,) float64
        ICRS, in order of ``ipix29``.
    ipix29 : (n,) int64
        Order-29 NESTED pixels, ascending.
    table : (n,) table
        All columns of the file, in the same order.
    skipped : int
        Rows of the file without a position.
    """

    name: str
    version: str
    ra_deg: FloatArray
    dec_deg: FloatArray
    ipix29: IntArray
    table: pa.Table
    skipped: int = 0

    @classmethod
    def load(
        cls, name: str, path: Path, *, ra: str | None = None, dec: str | None = None
    ) -> LocalCatalog:
        """Catalogue from a CSV, FITS, VOTable or Parquet file.

        Parameters
        ----------
        ra, dec : str, optional
            Columns with the position; without, the usual names are looked for.

        Raises
        ------
        CatalogError
            ``no_such_file``, ``unreadable``, ``not_a_table``, ``no_position_columns``,
            ``wrong_unit``, ``not_a_position``, ``out_of_range``.
        """
        source = read_table(path)
        ra_column = source.find((ra,) if ra else RA_NAMES)
        dec_column = source.find((dec,) if dec else DEC_NAMES)
        if ra_column is None or dec_column is None:
            known = ", ".join(source.columns.column_names[:12])
            raise CatalogError("no_position_columns", f"{path} has {known}; name ra and dec")
        ra_deg, dec_deg = positions(source, ra_column, dec_column)
        rows = np.flatnonzero(np.isfinite(ra_deg) & np.isfinite(dec_deg))
        ra_deg, dec_deg = ra_deg[rows] % 360.0, dec_deg[rows]
        if (np.abs(dec_deg) > 90).any():
            raise CatalogError("out_of_range", f"{path}: {dec_column} outside [-90, 90] degrees")
        pixels = ipix29(ra_deg, dec_deg)
        order = np.argsort(pixels, kind="stable")
        return cls(
            name=name,
            version=source.sha256[:12],
            ra_deg=ra_deg[order],
            dec_deg=dec_deg[order],
            ipix29=pixels[order],
            table=source.columns.take(pa.array(rows[order])),
            skipped=source.columns.num_rows - len(rows),
        )

    def __len__(self) -> int:
        return len(self.ipix29)

    def nearest(self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float) -> Matches:
        """Nearest source within ``radius_arcsec`` (included) of each position.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS, finite.
        radius_arcsec : float
            Positive; up to degrees, though meant for arcseconds.

        Returns
        -------
        Matches
            (n,) each. Of equally near sources the first in the catalogue.
        """
        ra_deg, dec_deg = np.atleast_1d(ra_deg), np.atleast_1d(dec_deg)
        row = np.full(len(ra_deg), -1, dtype=np.int64)
        separation = np.full(len(ra_deg), np.inf)
        for start in range(0, len(ra_deg) if len(self) else 0, _CHUNK):
            part = slice(start, start + _CHUNK)
            row[part], separation[part] = self._nearest(ra_deg[part], dec_deg[part], radius_arcsec)
        return Matches(row, separation)

    def columns(self, names: Sequence[str], rows: IntArray) -> pa.Table:
        """Columns ``names`` at ``rows``; all null where the row is -1.

        Raises
        ------
        CatalogError
            ``no_such_column``.
        """
        missing = [n for n in names if n not in self.table.column_names]
        if missing:
            raise CatalogError(
                "no_such_column",
                f"{self.name} has no {missing[0]}; it has {', '.join(self.table.column_names)}",
            )
        return self.table.select(list(names)).take(pa.array(rows, mask=rows < 0))

    def _nearest(
        self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float
    ) -> tuple[IntArray, FloatArray]:
        position, source = self._near(ra_deg, dec_deg, radius_arcsec)
        difference = (
            _vectors(ra_deg, dec_deg)[position] - _vectors(self.ra_deg, self.dec_deg)[source]
        )
        half_chord = np.minimum(np.sqrt((difference**2).sum(axis=1)) / 2, 1.0)
        separation = 2 * np.arcsin(half_chord) * _ARCSEC_PER_RAD
        best = np.lexsort((source, separation, position))
        best = best[separation[best] <= radius_arcsec]
        found, first = np.unique(position[best], return_index=True)
        row = np.full(len(ra_deg), -1, dtype=np.int64)
        nearest = np.full(len(ra_deg), np.inf)
        row[found], nearest[found] = source[best][first], separation[best][first]
        return row, nearest

    def _near(
        self, ra_deg: FloatArray, dec_deg: FloatArray, radius_arcsec: float
    ) -> tuple[IntArray, IntArray]:
        """Pairs (position, source) in the same or neighbouring pixels about the radius's size."""
        width = _WIDTHS_PER_RADIUS * radius_arcsec
        order = int(np.floor(np.log2(_MEAN_WIDTH_ORDER_0_ARCSEC / width)))
        if order < 0:
            pairs = np.indices((len(ra_deg), len(self)), dtype=np.int64)
            return pairs[0].ravel(), pairs[1].ravel()
        order = min(order, MAX_ORDER)
        nside = 1 << order
        own = healpy.ang2pix(nside, ra_deg, dec_deg, nest=True, lonlat=True)
        cells = np.vstack([healpy.get_all_neighbours(nside, own, nest=True), own[np.newaxis]])
        # Where only seven neighbours exist the eighth is -1; at order 0 one may come twice.
        cells = np.sort(cells, axis=0)
        cells[1:][cells[1:] == cells[:-1]] = -1
        cell, position = cells.ravel(), np.tile(np.arange(len(ra_deg)), len(cells))
        cell, position = cell[cell >= 0], position[cell >= 0]
        shift = 2 * (MAX_ORDER - order)
        low = np.searchsorted(self.ipix29, cell << shift)
        count = np.searchsorted(self.ipix29, (cell + 1) << shift) - low
        source = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(position, count), source + np.repeat(low, count)


def _vectors(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
