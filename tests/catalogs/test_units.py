"""Units: what files state, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from catalogs.batches import source_of
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.tables import read_table
from catalogs.units import conversion, parquet_units
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW


@pytest.mark.parametrize(
    ("unit", "target", "factor"),
    [
        ("", "mas", 1.0),
        ("---", "Mpc", 1.0),
        ("arcsec", "mas", 1000.0),
        ("mas.yr**-1", "mas/yr", 1.0),
        ("mas.yr-1", "mas/yr", 1.0),
        ("arcsec / yr", "mas/yr", 1000.0),
        ("kpc", "Mpc", 1e-3),
        ("pc", "Mpc", 1e-6),
        ("degrees", "deg", 1.0),
        ("mag", "mag", 1.0),
        ("mmag", "mag", 1e-3),
        ("mag(AB)", "mag", 1.0),
        ("AB mag", "mag", 1.0),
        ("Vegamag", "mag", 1.0),
        ("dimensionless", "", 1.0),
        ("%", "", 0.01),
        ("Jy", "mag", None),
        ("mag / arcsec2", "mag", None),
        ("magnetic", "mag", None),
        ("km / s", "", None),
        ("mag", "Mpc", None),
        ("Mpc/h", "Mpc", None),
        ("dimensionless", "mas", None),
        ("furlongs", "Mpc", None),
        ('"', "deg", None),
    ],
)
def test_numbers_are_converted_or_are_another_thing(
    unit: str, target: str, factor: float | None
) -> None:
    found = conversion(unit, target)
    assert found == (None if factor is None else pytest.approx(factor, rel=1e-12))


def by_astropy(path: Path, kind: str) -> Path:
    table = Table({"ra": [10.0], "dec": [20.0], "dist": [400.0], "name": ["a"]})
    table["dist"].unit = u.kpc
    table["ra"].unit = table["dec"].unit = u.deg
    if kind == "parquet":
        table.meta["of"] = [1, 2]
        table.write(path, format=kind)
    else:
        units = {"ra": "deg", "dec": "deg", "dist": "kpc", "name": None}
        table.write(path, format=kind, metadata={n: {"unit": unit} for n, unit in units.items()})
    return path


def of_fields(path: Path) -> Path:
    units = {"ra": "deg", "dec": "deg", "dist": "kpc"}
    fields = [pa.field(n, pa.float64(), metadata={"UNIT": unit}) for n, unit in units.items()]
    pq.write_table(pa.table([[10.0], [20.0], [400.0]], schema=pa.schema(fields)), path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "parquet.votable", ""])
def test_units_of_parquet_wherever_they_are_stated(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.parquet"
    path = by_astropy(path, kind) if kind else of_fields(path)
    expected = {"ra": "deg", "dec": "deg", "dist": "kpc"}
    assert parquet_units(pq.read_schema(path)) == expected
    assert read_table(path).units == expected
    (batch,) = source_of(path).batches()
    assert batch.rows.units == expected


def test_columns_that_astropy_makes_of_others_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    QTable({"plx": [5.0] * u.mas, "z": [0.1]}).write(path, format="parquet")
    assert parquet_units(pq.read_schema(path)) == {"plx": "mas"}


@pytest.mark.parametrize(
    "told",
    [
        {"table_meta_yaml": "datatype: ["},
        {"table_meta_yaml": "!!python/object/apply:os.getcwd []"},
        {"table_meta_yaml": "a: 1"},
        {"table_meta_yaml": "datatype: [1]"},
        {"IVOA.VOTable-Parquet.content": "<VOTABLE><RESOURCE>"},
    ],
)
def test_units_that_cannot_be_read_are_told(
    store: Store, tmp_path: Path, told: dict[str, str]
) -> None:
    table = pa.table({"ra": [10.0], "dec": [20.0]}).replace_schema_metadata(told)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CatalogError) as caught:
        store.add(tmp_path / "a.parquet", Wanted(name="a", kind=Kind.stars), NOW)
    assert caught.value.reason == "not_a_table"


def test_a_votable_of_units_opens_no_address(tmp_path: Path) -> None:
    content = (
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>'
        '<FIELD name="plx" datatype="double" unit="arcsec"/><DATA>'
        '<PARQUET type="VOTable-remote-file"><STREAM href="file:///none/such"/></PARQUET>'
        "</DATA></TABLE></RESOURCE></VOTABLE>"
    )
    schema = pa.schema([("plx", pa.float64())], {"IVOA.VOTable-Parquet.content": content})
    assert parquet_units(schema) == {"plx": "arcsec"}


def test_our_hats_files_say_the_units_of_what_was_added(store: Store, tmp_path: Path) -> None:
    wanted = Wanted(name="a", kind=Kind.galaxies)
    store.add(of_fields(tmp_path / "a.parquet"), wanted, NOW)
    folder = store.open("a").folder / "a"
    store.add(folder, Wanted(name="b", kind=Kind.galaxies), NOW)
    assert store.open("b").roles.factors == {"distance_mpc": 1e-3}
