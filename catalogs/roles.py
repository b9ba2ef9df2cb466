"""The columns of catalogues that have a meaning, under the names they usually have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from catalogs.kinds import Kind
from catalogs.units import conversion
from crossmatch.errors import CatalogError

PMRA_NAMES = ("pmra", "pm_ra", "pm_ra_cosdec", "pmra_cosdec")
PMDEC_NAMES = ("pmdec", "pm_dec", "pmde", "pm_de")
EPOCH_NAMES = ("ref_epoch",)
ID_NAMES = ("source_id", "sourceid", "sourceidentifier")

# Galaxies as wholes before their cores: 2MASS-like totals, SDSS and Pan-STARRS by model, PSF.
_R_NAMES = (
    *("magr", "rmag", "mag_r", "r_mag", "dered_mag_r", "cmodelmag_r", "modelmag_r"),
    *("petromag_r", "mag_auto_r", "rmeankronmag", "rkronmag", "r_petro", "rmeanpsfmag"),
    *("rpsfmag", "rmag_psf", "r_psf"),
)
_ANY_NAMES = ("magnitude", "mag", "phot_g_mean_mag")
_OTHER_NAMES = (
    *("gmag", "g_mag", "vmag", "v_mag", "magb", "btc", "bmag", "b_mag", "bjmag", "imag"),
    *("magj", "jmag", "m_j", "magk", "kmag", "m_ks"),
)
_NAMES: Mapping[str, tuple[str, ...]] = {
    "name": (
        *("name", "galaxy", "objname", "source_name", "main_id", "asassn_name", "designation"),
        *("source_id", "3hsp source name", "gwgc", "hyperleda", "pgc", "2mass", "_2mass", "jname"),
        *("psrj", "objid", "id", "glade+", "glade_"),
    ),
    "type": (
        *("type", "vartype", "var_type", "variable_type", "class", "otype", "obj_type"),
        *("objtype", "broad_type"),
    ),
    "distance_mpc": ("distance_mpc", "distmpc", "dist_mpc", "d_mpc", "dist", "dl", "d_l"),
    "redshift": (
        *("redshift", "z", "z_best", "zbest", "zhelio", "z_helio", "zcmb", "z_cmb"),
        *("rvz_redshift", "z_value"),
    ),
    "magnitude": (*_ANY_NAMES, *_R_NAMES, *_OTHER_NAMES),
    "parallax_mas": ("parallax", "plx", "plx_value"),
    "parallax_error_mas": ("parallax_error", "e_plx", "parallax_err", "plx_err", "plx_error"),
    "pmra_mas_yr": PMRA_NAMES,
    "pmra_error_mas_yr": ("pmra_error", "e_pmra", "pm_ra_error", "pmra_err"),
    "pmdec_mas_yr": PMDEC_NAMES,
    "pmdec_error_mas_yr": ("pmdec_error", "e_pmde", "e_pmdec", "pm_dec_error", "pmdec_err"),
}
_NAMES_OF_KIND: Mapping[tuple[Kind, str], tuple[str, ...]] = {
    # The chance of coincidence wants r magnitudes.
    (Kind.galaxies, "magnitude"): (*_R_NAMES, *_ANY_NAMES, *_OTHER_NAMES),
    # Maximum light, as VSX and the GCVS at VizieR have it.
    (Kind.variables, "magnitude"): (*_NAMES["magnitude"], "mean_vmag", "max", "magmax"),
    (Kind.transients, "magnitude"): (*_NAMES["magnitude"], "discoverymag"),
    # Gaia at VizieR has its identifiers there; lists of variables what a star is.
    (Kind.stars, "name"): (*_NAMES["name"], "source"),
    (Kind.variables, "type"): (*_NAMES["type"], "source"),
    # Names in tables of MPC, Horizons and SkyBoT that mean other things elsewhere.
    (Kind.minor_planets, "name"): (
        *("name", "targetname", "target_name", "objname", "object", "object_name", "target"),
        *("designation", "provisional_designation", "desig", "provid", "ssnamenr"),
        *("number", "num", "objid", "id"),
    ),
    (Kind.minor_planets, "magnitude"): (
        *("magnitude", "mag", "v", "vmag", "mag_v", "magv", "mv", "v_mag", "apmag"),
        *("tmag", "nmag"),
    ),
}
_OF_ALL = ("name", "type", "magnitude", "redshift")
_OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    Kind.galaxies: ("distance_mpc",),
    Kind.stars: tuple(n for n in _NAMES if n.endswith(("_mas", "_mas_yr"))),
}
TEXTS = ("name", "type")
_ENDINGS = {"_mas_yr": "mas/yr", "_mas": "mas", "_mpc": "Mpc"}
_UNITS = {role: unit for role in _NAMES for end, unit in _ENDINGS.items() if role.endswith(end)}
_UNITS |= {"magnitude": "mag", "redshift": ""}
_WHAT = {"magnitude": "magnitude", "redshift": "redshift", "distance_mpc": "distance"}


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column of a catalogue has which meaning, for those that it has.

    ``names`` are all columns with names, best first: where one has none, the next may.
    ``factors`` are what to multiply values with, by role, where their unit is another than the
    role's. ``remarks`` tell people what is not as the names of columns say, and ``wrong`` of
    columns whose unit makes the catalogue useless.
    """

    columns: Mapping[str, str]
    names: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, kind: Kind, columns: Iterable[str], units: Mapping[str, str] | None = None
    ) -> Roles:
        """Roles of ``columns`` in a catalogue of that kind, best names first.

        A column whose unit is that of another quantity has no role: a magnitude in Jy, a
        redshift in km/s, a distance modulus.
        """
        columns = list(columns)
        by_lower: dict[str, str] = {}
        for column in columns:
            by_lower.setdefault(column.lower(), column)
        bands = _bands(columns)
        found: dict[str, str] = {}
        factors: dict[str, float] = {}
        remarks: list[str] = []
        if bands and by_lower.get("z") == bands[-1]:
            # Out of sight of the names of redshifts.
            remarks.append(f"{by_lower.pop('z')}: a magnitude beside {', '.join(bands[:-1])}")
        wrong: list[str] = []
        for role in (*_OF_ALL, *_OF_KIND.get(kind, ())):
            odd, target = [], _UNITS.get(role)
            names = _with_r(column_names(kind, role)) if bands else column_names(kind, role)
            for column in (by_lower[n] for n in names if n in by_lower):
                unit = "" if units is None or target is None else units.get(column, "")
                factor = conversion(unit, target or "")
                if factor is not None:
                    found[role], factors[role] = column, factor
                    break
                if _is_another(role, unit):
                    remarks.append(f"{column}: {unit} is no {_WHAT[role]}, not used")
                else:
                    odd.append(f"column {column} is in {unit!r}, expected {target}")
            else:
                wrong += odd
        converted = {role: factor for role, factor in factors.items() if factor != 1}
        for column, target in ((found[role], _UNITS[role]) for role in converted):
            remarks.append(f"{column}: {(units or {})[column]}, told in {target or 'numbers'}")
        magnitude = found.get("magnitude", "")
        if kind is Kind.galaxies and magnitude and magnitude.lower() not in _with_r(_R_NAMES):
            remarks.append(f"P_cc from {magnitude}, which is not known to be an r magnitude")
        names = tuple(by_lower[n] for n in column_names(kind, "name") if n in by_lower)
        return cls(found, names, converted, tuple(remarks), tuple(wrong))

    @property
    def figures(self) -> tuple[str, ...]:
        """Columns of numbers among them."""
        return tuple(c for role, c in self.columns.items() if role not in TEXTS)

    def refuse_wrong(self, where: object) -> None:
        """Raise CatalogError ``wrong_unit`` for the first column that cannot be converted."""
        if self.wrong:
            raise CatalogError("wrong_unit", f"{where}: {self.wrong[0]}")


def column_names(kind: Kind, role: str) -> tuple[str, ...]:
    """Names of columns with that meaning in catalogues of that kind, best first."""
    return _NAMES_OF_KIND.get((kind, role), _NAMES[role])


def _bands(columns: Collection[str]) -> tuple[str, ...]:
    """Columns that are magnitudes in u, g, r and i, and last the z that belongs to them.

    Two of these make them magnitudes. Capitals need a G: U, B, V, R and I are other bands, and
    beside these a z is a redshift. So it is beside gmag and rmag, whose z would be zmag.
    """
    for bands in ("ugri", "UGRI"):
        some = tuple(band for band in bands if band in columns)
        if len(some) > 1 and (bands.islower() or "G" in some):
            return (*some, "z" if bands.islower() else "Z")
    return ()


def _with_r(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of magnitudes with r after all others that are of r; other names as they are."""
    if _R_NAMES[-1] not in names:
        return names
    after = names.index(_R_NAMES[-1]) + 1
    return (*names[:after], "r", *names[after:])


def _is_another(role: str, unit: str) -> bool:
    """Whether a column is known to be of another quantity, not in a unit that is unknown."""
    if role == "distance_mpc":
        return conversion(unit, "mag") is not None
    return role in _WHAT
