"""What catalogues are of, and the columns that say so under the names they usually have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

PMRA_NAMES = ("pmra", "pm_ra", "pm_ra_cosdec", "pmra_cosdec")
PMDEC_NAMES = ("pmdec", "pm_dec", "pmde", "pm_de")
EPOCH_NAMES = ("ref_epoch",)
ID_NAMES = ("source_id", "sourceid", "sourceidentifier")


class Kind(StrEnum):
    """What the sources of a catalogue are."""

    stars = "stars"
    galaxies = "galaxies"
    agn = "agn"
    variables = "variables"
    transients = "transients"
    other = "other"


RADIUS_ARCSEC: Mapping[Kind, float] = {
    # A host's light reaches farther than any error of a position.
    Kind.galaxies: 60.0,
    # Positions of X-ray and gamma-ray sources are worse than optical ones.
    Kind.agn: 3.0,
    Kind.transients: 2.0,
    Kind.stars: 1.5,
    Kind.variables: 1.5,
    Kind.other: 1.5,
}
"""Radius of a look-up, unless the catalogue was added with another."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    "name": (
        *("name", "galaxy", "objname", "source_name", "main_id", "designation", "source_id"),
        *("3hsp source name", "gwgc", "hyperleda", "pgc", "2mass", "objid", "id"),
    ),
    "type": ("type", "vartype", "var_type", "class", "otype", "obj_type", "objtype", "source"),
    "distance_mpc": ("distance_mpc", "distmpc", "dist_mpc", "d_mpc", "dist"),
    "redshift": ("redshift", "z", "z_best", "zbest"),
    "magnitude": (
        *("magnitude", "mag", "phot_g_mean_mag", "magr", "rmag", "mag_r", "magb", "btc", "bmag"),
        *("magj", "magk"),
    ),
    "parallax_mas": ("parallax", "plx"),
    "parallax_error_mas": ("parallax_error", "e_plx", "parallax_err"),
    "pmra_mas_yr": PMRA_NAMES,
    "pmra_error_mas_yr": ("pmra_error", "e_pmra", "pm_ra_error"),
    "pmdec_mas_yr": PMDEC_NAMES,
    "pmdec_error_mas_yr": ("pmdec_error", "e_pmde", "e_pmdec", "pm_dec_error"),
}
_OF_ALL = ("name", "type", "magnitude", "redshift")
_OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    Kind.galaxies: ("distance_mpc",),
    Kind.stars: tuple(n for n in _NAMES if n.endswith(("_mas", "_mas_yr"))),
}
TEXTS = ("name", "type")


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column of a catalogue has which meaning, for those that it has.

    ``names`` are all columns with names, best first: where one has none, the next may.
    """

    columns: Mapping[str, str]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: Kind, columns: Iterable[str]) -> Roles:
        """Roles of ``columns`` in a catalogue of that kind, best names first."""
        by_lower: dict[str, str] = {}
        for column in columns:
            by_lower.setdefault(column.lower(), column)
        found = {}
        for role in (*_OF_ALL, *_OF_KIND.get(kind, ())):
            name = next((by_lower[n] for n in _NAMES[role] if n in by_lower), None)
            if name is not None:
                found[role] = name
        return cls(found, tuple(by_lower[n] for n in _NAMES["name"] if n in by_lower))
