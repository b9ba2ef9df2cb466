"""What a stored catalogue says of positions, by what its sources are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from catalogs.kinds import TEXTS, Kind
from catalogs.sources import Pairs
from catalogs.stored import StoredCatalog
from catalogs.tables import numbers, texts
from crossmatch.model import FloatArray
from crossmatch.neighbours import Neighbour, chance_coincidence, ranked_hosts

# Catalogues write -999, 99 or 0 where they have no value. NaN is in no interval.
_PLAUSIBLE = {"magnitude": (-5.0, 50.0), "redshift": (-0.1, 30.0), "distance_mpc": (0.0, np.inf)}
MOST_HOSTS = 3
"""Galaxies that are told of a position: the most likely hosts."""


def neighbours(
    catalog: StoredCatalog, ra_deg: FloatArray, dec_deg: FloatArray, time_jd: FloatArray | None
) -> Iterator[tuple[int, list[Neighbour]]]:
    """What lies near those positions that have something near, best first.

    Of stars the nearest whose parallax or proper motion is significant, or else the nearest;
    of galaxies the most likely hosts; of everything else the nearest.

    Parameters
    ----------
    ra_deg, dec_deg : (n,) float64
        ICRS.
    time_jd : (n,) float64 or None
        When; sources with proper motion are looked for where they are then.

    Yields
    ------
    position : int
        Ascending.
    found : list of Neighbour
        At least one.
    """
    if catalog.kind in (Kind.stars, Kind.galaxies):
        pairs = catalog.within(ra_deg, dec_deg, time_jd=time_jd)
    else:
        nearest = catalog.closest(ra_deg, dec_deg, time_jd=time_jd)
        some = np.flatnonzero(nearest.row >= 0)
        pairs = Pairs(some, nearest.row[some], nearest.separation_arcsec[some])
    for position, found in _by_position(described(catalog, pairs), pairs):
        if catalog.kind is Kind.galaxies:
            yield position, ranked_hosts(found)[:MOST_HOSTS]
        else:
            yield position, [next((star for star in found if star.is_star), found[0])]


def described(catalog: StoredCatalog, pairs: Pairs) -> list[Neighbour]:
    """Sources of pairs with what the catalogue's columns say of them, (p,)."""
    if not len(pairs.row):
        return []
    columns = catalog.roles.columns
    table = catalog.columns(sorted(set(columns.values())), pairs.row)
    values = {role: _values(table[name], role) for role, name in columns.items()}
    away = pairs.separation_arcsec.tolist()
    kind, name = str(catalog.kind), catalog.name
    found = []
    for i, separation in enumerate(away):
        row = {role: column[i] for role, column in values.items()}
        magnitude = row.get("magnitude")
        found.append(
            Neighbour(
                catalog=name,
                kind=kind,
                separation_arcsec=separation,
                name=row.get("name"),
                type=row.get("type"),
                magnitude=magnitude,
                redshift=row.get("redshift"),
                distance_mpc=row.get("distance_mpc"),
                parallax_sigma=_ratio(row.get("parallax_mas"), row.get("parallax_error_mas")),
                motion_sigma=_motion_sigma(row),
                p_cc=chance_coincidence(separation, magnitude)
                if catalog.kind is Kind.galaxies and magnitude is not None
                else None,
            )
        )
    return found


def _by_position(found: list[Neighbour], pairs: Pairs) -> Iterator[tuple[int, list[Neighbour]]]:
    position, first = np.unique(pairs.position, return_index=True)
    ends = np.append(first, len(found))
    for place, low, high in zip(position.tolist(), ends[:-1], ends[1:], strict=True):
        yield place, found[low:high]


def _values(column: pa.ChunkedArray, role: str) -> list[Any]:
    """Plain values, None for what is not there."""
    if role in TEXTS:
        return texts(column)
    low, high = _PLAUSIBLE.get(role, (-np.inf, np.inf))
    return [v if low < v < high else None for v in numbers(column).tolist()]


def _ratio(value: float | None, error: float | None) -> float | None:
    return None if value is None or not error or error <= 0 else value / error


def _motion_sigma(row: Mapping[str, Any]) -> float | None:
    """Length of the proper motion in units of its error, correlations left aside."""
    east = _ratio(row.get("pmra_mas_yr"), row.get("pmra_error_mas_yr"))
    north = _ratio(row.get("pmdec_mas_yr"), row.get("pmdec_error_mas_yr"))
    return None if east is None or north is None else float(np.hypot(east, north))
