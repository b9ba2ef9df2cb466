"""What a local catalogue says of positions, by what its sources are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from catalogs.kinds import Kind
from catalogs.local import LocalCatalog
from catalogs.roles import TEXTS
from catalogs.sources import Pairs
from catalogs.stored import StoredCatalog
from catalogs.tables import measured, names_of, numbers, texts
from crossmatch.model import FloatArray
from crossmatch.neighbours import MOST_P_CC, SIGNIFICANT, Neighbour, chance_coincidence

Catalog: TypeAlias = LocalCatalog | StoredCatalog

# Catalogues write 99 or 0 where they have no value. NaN is in no interval.
_PLAUSIBLE = {"magnitude": (-5.0, 50.0), "redshift": (-0.1, 30.0), "distance_mpc": (0.0, np.inf)}
_YEAR = {"parallax": "", "pmra": "_yr", "pmdec": "_yr"}
# In the order of the fields of `Neighbour`, after its texts.
_FIGURES = ("magnitude", "redshift", "distance_mpc", "parallax_sigma", "motion_sigma", "p_cc")
MOST_HOSTS = 3
"""Galaxies that are told of a position: the most likely hosts."""


def neighbours(
    catalog: Catalog, ra_deg: FloatArray, dec_deg: FloatArray, time_jd: FloatArray | None
) -> Iterator[tuple[int, list[Neighbour], float]]:
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
    nearest_arcsec : float
        Separation of the nearest source, which need not be among them.
    """
    if catalog.kind in (Kind.stars, Kind.galaxies):
        pairs = catalog.within(ra_deg, dec_deg, time_jd=time_jd)
    else:
        nearest = catalog.closest(ra_deg, dec_deg, time_jd=time_jd)
        some = np.flatnonzero(nearest.row >= 0)
        pairs = Pairs(some, nearest.row[some], nearest.separation_arcsec[some])
    # Pairs are sorted by position and then separation.
    away = pairs.separation_arcsec[np.flatnonzero(np.diff(pairs.position, prepend=-1))]
    pairs = _best(catalog, pairs)
    for (place, found), arcsec in zip(
        _by_position(described(catalog, pairs), pairs), away.tolist(), strict=True
    ):
        yield place, found, arcsec


def described(catalog: Catalog, pairs: Pairs) -> list[Neighbour]:
    """Sources of pairs with what the catalogue's columns say of them, (p,)."""
    if not len(pairs.row):
        return []
    columns, names = catalog.roles.columns, catalog.roles.names
    table = catalog.columns(sorted({*columns.values(), *names}), pairs.row)
    told: dict[str, list[Any]] = {"name": names_of(table, names, len(pairs.row))}
    if "type" in columns:
        told["type"] = texts(table[columns["type"]])
    told |= {role: _plain(values) for role, values in _figures(catalog, table, pairs).items()}
    nothing: list[Any] = [None] * len(pairs.row)
    fields = [told.get(role, nothing) for role in (*TEXTS, *_FIGURES)]
    kind, name = str(catalog.kind), catalog.name
    away = pairs.separation_arcsec.tolist()
    return [Neighbour(name, kind, *row) for row in zip(away, *fields, strict=True)]


def _best(catalog: Catalog, pairs: Pairs) -> Pairs:
    """Those of a position that are told of, the best first.

    Of stars the nearest significant one, else the nearest. Of galaxies those that may be the
    host, with the lowest P_cc first and those without one after them by separation; then what
    is near by chance. Found in arrays, since a crowded catalogue has hundreds near a position.
    """
    most = MOST_HOSTS if catalog.kind is Kind.galaxies else 1
    if catalog.kind not in (Kind.stars, Kind.galaxies) or not len(pairs.row):
        return pairs
    columns = {r: c for r, c in catalog.roles.columns.items() if r not in TEXTS}
    table = catalog.columns(sorted(set(columns.values())), pairs.row)
    figures = _figures(catalog, table, pairs)
    nothing = np.full(len(pairs.row), np.nan)
    if catalog.kind is Kind.galaxies:
        p_cc = figures.get("p_cc", nothing)
        # NaN goes last.
        rank: list[Any] = [p_cc, p_cc > MOST_P_CC]
    else:
        sigmas = [figures.get(name, nothing) for name in ("parallax_sigma", "motion_sigma")]
        rank = [1.0 - (np.fmax(*sigmas) >= SIGNIFICANT)]
    order = np.lexsort((pairs.row, pairs.separation_arcsec, *rank, pairs.position))
    position = pairs.position[order]
    number = np.arange(len(order)) - np.searchsorted(position, position)
    order = order[number < most]
    return Pairs(pairs.position[order], pairs.row[order], pairs.separation_arcsec[order])


def _figures(catalog: Catalog, table: pa.Table, pairs: Pairs) -> dict[str, FloatArray]:
    """Numbers of `Neighbour` as far as the catalogue has them, NaN where it has none."""
    columns = catalog.roles.columns
    factors = catalog.roles.factors
    values = {
        r: _numbers(table[c], r, factors.get(r, 1.0)) for r, c in columns.items() if r not in TEXTS
    }
    if catalog.kind is Kind.galaxies and "magnitude" in values:
        values["p_cc"] = chance_coincidence(pairs.separation_arcsec, values["magnitude"])
    values |= _sigmas(values)
    return {role: values[role] for role in _FIGURES if role in values}


def _by_position(found: list[Neighbour], pairs: Pairs) -> Iterator[tuple[int, list[Neighbour]]]:
    position, first = np.unique(pairs.position, return_index=True)
    ends = np.append(first, len(found))
    for place, low, high in zip(position.tolist(), ends[:-1], ends[1:], strict=True):
        yield place, found[low:high]


def _numbers(column: pa.ChunkedArray, role: str, factor: float) -> FloatArray:
    """Values that may be true in the unit of the role, NaN for the others and for none."""
    values = measured(numbers(column)) * factor
    low, high = _PLAUSIBLE.get(role, (-np.inf, np.inf))
    true = (low < values) & (values < high)
    if role == "magnitude":
        # A galaxy as bright as that would be nobody's by chance, and every transient's host.
        true &= values != 0
    return np.where(true, values, np.nan)


def _plain(values: FloatArray) -> list[float | None]:
    """Numbers, None for what is not there."""
    found: list[float | None] = values.tolist()
    for row in np.flatnonzero(np.isnan(values)).tolist():
        found[row] = None
    return found


def _sigmas(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Parallax, and length of the proper motion without correlations, in units of the error."""

    def ratio(name: str) -> FloatArray | None:
        value, error = values.get(f"{name}_mas{_YEAR[name]}"), values.get(_error(name))
        if value is None or error is None:
            return None
        return value / np.where(error > 0, error, np.nan)

    found = {}
    with np.errstate(over="ignore"):
        parallax, east, north = (ratio(name) for name in _YEAR)
        if parallax is not None:
            found["parallax_sigma"] = parallax
        if east is not None and north is not None:
            found["motion_sigma"] = np.hypot(east, north)
    # An error next to nothing is none.
    return {name: np.where(np.isfinite(sigma), sigma, np.nan) for name, sigma in found.items()}


def _error(name: str) -> str:
    return f"{name}_error_mas{_YEAR[name]}"
