"""Roles of columns under the names that published catalogues give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catalogs.checks import position_columns
from catalogs.kinds import Kind
from catalogs.roles import Roles
from catalogs.tables import read_table
from crossmatch.errors import CatalogError

GLADE_PLUS = (
    "GLADE+ PGC GWGC HyperLEDA 2MASS WISExSCOS SDSS-DR16Q Type RAJ2000 DEJ2000 Bmag e_Bmag f_Bmag"
    " BMAG Jmag e_Jmag Hmag e_Hmag Kmag e_Kmag W1mag e_W1mag W2mag e_W2mag f_W1mag Bjmag e_Bjmag"
    " zhelio zcmb f_zcmb e_z e_zhelio dL e_dL f_dL M* e_M* f_M* logRate e_logRate"
)
NED_LVS = (
    "objname ra dec objtype z z_unc z_tech z_qual z_refcode ziDist DistMpc DistMpc_unc"
    " DistMpc_method ebv m_FUV m_FUV_unc m_J m_J_unc m_Ks m_Ks_unc m_W1 tMASSphot Mstar ET_flag"
)
TNS = (
    "objid name_prefix name ra declination redshift typeid type reporting_groupid reporting_group"
    " source_groupid source_group discoverydate discoverymag discmagfilter filter reporters"
    " time_received internal_names Discovery_ADS_bibcode Class_ADS_bibcodes creationdate"
    " lastmodified"
)
HEADERS: dict[str, tuple[Kind, str, tuple[str, str], dict[str, str]]] = {
    "Gaia DR3, archive": (
        Kind.stars,
        "solution_id designation source_id ref_epoch ra ra_error dec dec_error parallax"
        " parallax_error pm pmra pmra_error pmdec pmdec_error ruwe phot_g_mean_mag",
        ("ra", "dec"),
        {
            **{"name": "designation", "magnitude": "phot_g_mean_mag"},
            **{"parallax_mas": "parallax", "parallax_error_mas": "parallax_error"},
            **{"pmra_mas_yr": "pmra", "pmra_error_mas_yr": "pmra_error"},
            **{"pmdec_mas_yr": "pmdec", "pmdec_error_mas_yr": "pmdec_error"},
        },
    ),
    "Gaia DR3, VizieR": (
        Kind.stars,
        "RA_ICRS DE_ICRS Source e_RA_ICRS e_DE_ICRS Plx e_Plx PM pmRA e_pmRA pmDE e_pmDE RUWE Gmag",
        ("RA_ICRS", "DE_ICRS"),
        {
            **{"name": "Source", "magnitude": "Gmag"},
            **{"parallax_mas": "Plx", "parallax_error_mas": "e_Plx"},
            **{"pmra_mas_yr": "pmRA", "pmra_error_mas_yr": "e_pmRA"},
            **{"pmdec_mas_yr": "pmDE", "pmdec_error_mas_yr": "e_pmDE"},
        },
    ),
    "Pan-STARRS 1": (
        Kind.galaxies,
        "objID raMean decMean nDetections gMeanPSFMag rMeanPSFMag rMeanKronMag iMeanPSFMag",
        ("raMean", "decMean"),
        {"name": "objID", "magnitude": "rMeanKronMag"},
    ),
    "GLADE+, VizieR": (
        Kind.galaxies,
        GLADE_PLUS,
        ("RAJ2000", "DEJ2000"),
        {
            **{"name": "GWGC", "type": "Type", "magnitude": "Bmag", "redshift": "zhelio"},
            **{"distance_mpc": "dL"},
        },
    ),
    "NED-LVS": (
        Kind.galaxies,
        NED_LVS,
        ("ra", "dec"),
        {
            **{"name": "objname", "type": "objtype", "magnitude": "m_J", "redshift": "z"},
            **{"distance_mpc": "DistMpc"},
        },
    ),
    "TNS": (
        Kind.transients,
        TNS,
        ("ra", "declination"),
        {"name": "name", "type": "type", "magnitude": "discoverymag", "redshift": "redshift"},
    ),
    "Milliquas": (
        Kind.agn,
        "RA DEC NAME TYPE RMAG BMAG COMMENT R B Z CITE ZCITE RXPCT QPCT XNAME RNAME LOBE1 LOBE2",
        ("RA", "DEC"),
        {"name": "NAME", "type": "TYPE", "magnitude": "RMAG", "redshift": "Z"},
    ),
    "4LAC": (
        Kind.agn,
        "Source_Name DataRelease RAJ2000 DEJ2000 GLON GLAT Signif_Avg Flux1000 CLASS ASSOC1"
        " RA_Counterpart DEC_Counterpart Redshift SED_class",
        ("RAJ2000", "DEJ2000"),
        {"name": "Source_Name", "type": "CLASS", "redshift": "Redshift"},
    ),
    "VSX": (
        Kind.variables,
        "OID n_OID Name V Type l_max max u_max n_max f_min l_min min u_min n_min Period Sp RAJ2000"
        " DEJ2000",
        ("RAJ2000", "DEJ2000"),
        {"name": "Name", "type": "Type", "magnitude": "max"},
    ),
    "ASAS-SN": (
        Kind.variables,
        "source_id asassn_name other_names raj2000 dej2000 l b mean_vmag amplitude period"
        " variable_type",
        ("raj2000", "dej2000"),
        {"name": "asassn_name", "type": "variable_type", "magnitude": "mean_vmag"},
    ),
    "ATNF": (
        Kind.other,
        "NAME JNAME RAJ DECJ RAJD DECJD P0 P1 DM S1400 DIST TYPE",
        ("RAJD", "DECJD"),
        {"name": "NAME", "type": "TYPE"},
    ),
    "SIMBAD": (
        Kind.stars,
        "main_id ra dec coo_err_maj otype rvz_redshift plx_value plx_err pmra pmdec",
        ("ra", "dec"),
        {
            **{"name": "main_id", "type": "otype", "redshift": "rvz_redshift"},
            **{"parallax_mas": "plx_value", "parallax_error_mas": "plx_err"},
            **{"pmra_mas_yr": "pmra", "pmdec_mas_yr": "pmdec"},
        },
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_columns_of_published_catalogues_are_known(tmp_path: Path, name: str) -> None:
    kind, header, position, roles = HEADERS[name]
    columns = header.split()
    path = tmp_path / "a.csv"
    path.write_text(",".join(columns) + "\n" + ",".join(["1"] * len(columns)) + "\n")
    found = position_columns(path, read_table(path), None, None, None)
    assert (found.ra, found.dec) == position
    assert Roles.of(kind, columns).columns == roles


def test_galaxies_take_an_r_magnitude_before_all_others() -> None:
    columns = ["mag", "phot_g_mean_mag", "magb", "dered_mag_r", "magk"]
    roles = Roles.of(Kind.galaxies, columns)
    assert (roles.columns["magnitude"], roles.remarks) == ("dered_mag_r", ())
    assert Roles.of(Kind.stars, columns).columns["magnitude"] == "mag"


def test_it_is_said_when_the_magnitude_of_galaxies_is_not_r() -> None:
    (remark,) = Roles.of(Kind.galaxies, ["magb", "magk"]).remarks
    assert remark == "P_cc from magb, which is not known to be an r magnitude"


def test_values_in_other_units_have_a_factor() -> None:
    units = {"plx": "arcsec", "dL": "kpc", "z": "", "rmag": "mag"}
    stars, galaxies = (Roles.of(kind, units, units) for kind in (Kind.stars, Kind.galaxies))
    assert stars.factors == {"parallax_mas": pytest.approx(1000)}
    assert galaxies.factors == {"distance_mpc": pytest.approx(1e-3)}
    assert galaxies.remarks == ("dL: kpc, told in Mpc",)


@pytest.mark.parametrize(
    ("column", "unit", "remark"),
    [
        ("z", "km / s", "z: km / s is no redshift, not used"),
        ("mag_r", "Jy", "mag_r: Jy is no magnitude, not used"),
        ("dist", "mag", "dist: mag is no distance, not used"),
    ],
)
def test_another_quantity_has_no_role_and_the_next_column_has(
    column: str, unit: str, remark: str
) -> None:
    roles = Roles.of(Kind.galaxies, [column], {column: unit})
    assert (roles.columns, roles.remarks, roles.wrong) == ({}, (remark,), ())
    other = {"z": "zhelio", "mag_r": "rmag", "dist": "dl"}[column]
    found = Roles.of(Kind.galaxies, [column, other], {column: unit})
    assert list(found.columns.values()) == [other]


@pytest.mark.parametrize(
    ("kind", "column", "unit", "expected"),
    [
        (Kind.stars, "parallax", "mag", "mas"),
        (Kind.stars, "pmra_error", "km / s", "mas/yr"),
        (Kind.galaxies, "distmpc", "furlongs", "Mpc"),
    ],
)
def test_a_unit_that_cannot_be_converted_is_refused_where_it_matters(
    kind: Kind, column: str, unit: str, expected: str
) -> None:
    known: dict[str, Any] = {column: unit}
    with pytest.raises(CatalogError) as caught:
        Roles.of(kind, known, known).refuse_wrong("a.fits")
    assert caught.value.reason == "wrong_unit"
    assert caught.value.detail == f"a.fits: column {column} is in {unit!r}, expected {expected}"
    Roles.of(Kind.other, known, known).refuse_wrong("a.fits")


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ("ra dec u g r i z", {"magnitude": "r"}),
        ("ra dec g r z redshift", {"magnitude": "r", "redshift": "redshift"}),
        ("ra dec U G R I Z", {"magnitude": "R"}),
        ("ra dec u g r i z magr", {"magnitude": "magr"}),
        ("ra dec r z", {"redshift": "z"}),
        ("ra dec g r i", {"magnitude": "r"}),
        ("ra dec U B V R I z", {"redshift": "z"}),
        ("ra dec gmag rmag imag zmag z", {"magnitude": "rmag", "redshift": "z"}),
    ],
)
def test_z_is_a_magnitude_beside_others_in_such_bands(columns: str, roles: dict[str, str]) -> None:
    found = Roles.of(Kind.galaxies, columns.split())
    assert {r: c for r, c in found.columns.items() if r in ("magnitude", "redshift")} == roles
    said = [remark for remark in found.remarks if "a magnitude beside" in remark]
    z = [c for c in columns.split() if c in "zZ" and roles.get("redshift") != c]
    assert [remark[0] for remark in said] == z
    assert not any("P_cc" in remark for remark in found.remarks)
