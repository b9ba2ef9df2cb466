"""Candidate host galaxies of transients."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pyarrow as pa

from catalogs.kinds import BUILT_IN, Kind
from catalogs.local import LocalCatalog
from catalogs.roles import Roles
from catalogs.tables import measured, names_of, numbers
from crossmatch.model import FloatArray

HOST_RADIUS_ARCSEC = 60.0
"""Farther galaxies are no hosts."""

HOST_SCHEMA = pa.schema(
    [
        pa.field("host_name", pa.string()),
        pa.field("host_distance_mpc", pa.float64()),
        pa.field("host_offset_arcsec", pa.float64()),
    ]
)


def host_candidates(
    galaxies: LocalCatalog,
    ra_deg: FloatArray,
    dec_deg: FloatArray,
    radius_arcsec: float = HOST_RADIUS_ARCSEC,
) -> pa.Table:
    """Nearest galaxy of each position, its distance and the offset from its centre.

    Parameters
    ----------
    galaxies : LocalCatalog
        With a column for the distance (``distance_mpc``, ``distmpc`` or the like), in Mpc
        unless it states another unit, and one for the name; values that it lacks are null.
    ra_deg, dec_deg : (n,) float64
        ICRS.
    radius_arcsec : float
        Farther galaxies are no hosts.

    Returns
    -------
    (n,) table
        `HOST_SCHEMA`: name, distance (Mpc), offset (arcsec); all null without a galaxy.
    """
    matches = galaxies.nearest(ra_deg, dec_deg, radius_arcsec)
    found = matches.row >= 0
    rows = len(matches.row)
    roles = galaxy_roles(galaxies)
    distance = roles.columns.get("distance_mpc")
    columns = {
        "host_name": pa.nulls(rows, pa.string()),
        "host_distance_mpc": pa.nulls(rows, pa.float64()),
        "host_offset_arcsec": pa.array(matches.separation_arcsec, mask=~found),
    }
    if roles.names:
        names = names_of(galaxies.columns(list(roles.names), matches.row), roles.names, rows)
        columns["host_name"] = pa.array(names, pa.string())
    if distance is not None:
        values = measured(numbers(galaxies.columns([distance], matches.row)[distance]))
        values = values * roles.factors.get("distance_mpc", 1.0)
        columns["host_distance_mpc"] = pa.array(values, mask=~(values > 0))
    return pa.table(columns, schema=HOST_SCHEMA)


def galaxy_roles(catalog: LocalCatalog) -> Roles:
    """Which column means what in a catalogue of galaxies."""
    return Roles.of(Kind.galaxies, catalog.table.column_names, catalog.units)


def nearby_galaxies() -> LocalCatalog:
    """The small sample of well-known nearby galaxies that is shipped with the package."""
    with resources.as_file(resources.files("catalogs") / "data" / f"{BUILT_IN}.csv") as path:
        return LocalCatalog.load(BUILT_IN, Path(path))
