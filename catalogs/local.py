"""Local catalogues: nearest source to each of many positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalogs.batches import Batch
from catalogs.checks import Positions, position_columns, refuse_text
from catalogs.kinds import RADIUS_ARCSEC, Kind
from catalogs.roles import TEXTS, Roles
from catalogs.sources import Matches, Pairs, Sources
from catalogs.tables import read_table
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray
from crossmatch.sky import ipix29


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
    units : mapping of str to str
        Of columns, for those that state one.
    kind : Kind
        What its sources are.
    roles : Roles
        Which column means what.
    """

    name: str
    version: str
    ra_deg: FloatArray
    dec_deg: FloatArray
    ipix29: IntArray
    table: pa.Table
    skipped: int = 0
    units: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = Kind.other
    roles: Roles = field(init=False, repr=False)
    sources: Sources = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sources = Sources.of(self.ra_deg, self.dec_deg, self.ipix29)
        object.__setattr__(self, "sources", sources)
        roles = Roles.of(self.kind, self.table.column_names, self.units)
        object.__setattr__(self, "roles", roles)

    @classmethod
    def load(
        cls,
        name: str,
        path: Path,
        *,
        kind: Kind = Kind.other,
        ra: str | None = None,
        dec: str | None = None,
        skip: bool = False,
    ) -> LocalCatalog:
        """Catalogue from a CSV, FITS, VOTable or Parquet file, checked like one that is added.

        Parameters
        ----------
        kind : Kind
            What its sources are.
        ra, dec : str, optional
            Columns with the position; without, the usual names are looked for.
        skip : bool
            Leave rows without a position out, instead of refusing the file.

        Raises
        ------
        CatalogError
            ``no_such_file``, ``unreadable``, ``not_a_table``, and those of `catalogs.checks`.
        """
        source = read_table(path)
        rows = Batch(source, path, 1, 1.0)
        roles = Roles.of(kind, source.columns.column_names, source.units)
        refuse_text(rows, [c for role, c in roles.columns.items() if role not in TEXTS])
        places = Positions(position_columns(path, source, ra, dec, None), skip=skip)
        there, ra_deg, dec_deg = places.of(rows)
        places.refuse_odd_units(path)
        pixels = ipix29(ra_deg, dec_deg)
        order = np.argsort(pixels, kind="stable")
        return cls(
            name=name,
            version=source.sha256[:12],
            ra_deg=ra_deg[order],
            dec_deg=dec_deg[order],
            ipix29=pixels[order],
            table=source.columns.take(pa.array(there[order])),
            skipped=places.skipped,
            units=source.units,
            kind=kind,
        )

    def __len__(self) -> int:
        return len(self.ipix29)

    @property
    def radius_arcsec(self) -> float:
        """Of look-ups."""
        return RADIUS_ARCSEC[self.kind]

    def within(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        radius_arcsec: float | None = None,
        time_jd: FloatArray | None = None,
    ) -> Pairs:
        """All sources within a radius (included) of each position; see :meth:`closest`."""
        radius = self.radius_arcsec if radius_arcsec is None else radius_arcsec
        return self.sources.within(ra_deg, dec_deg, radius)

    def closest(
        self,
        ra_deg: FloatArray,
        dec_deg: FloatArray,
        radius_arcsec: float | None = None,
        time_jd: FloatArray | None = None,
    ) -> Matches:
        """Nearest source within a radius (included) of each position.

        Parameters
        ----------
        ra_deg, dec_deg : (n,) float64
            ICRS, finite.
        radius_arcsec : float, optional
            Positive; up to degrees, though meant for arcseconds. That of its kind, if not given.
        time_jd : (n,) float64, optional
            Not looked at: sources are where the file has them.

        Returns
        -------
        Matches
            (n,) each. Of equally near sources the first in the catalogue.
        """
        radius = self.radius_arcsec if radius_arcsec is None else radius_arcsec
        return self.sources.closest(ra_deg, dec_deg, radius)

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
