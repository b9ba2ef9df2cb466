"""From tables of positions by time to segments; what is wrong is told by row and object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from catalogs import batches, ephemeris, hats
from catalogs.answers import neighbours
from catalogs.batches import properties
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.stored import StoredCatalog
from crossmatch.neighbours import Neighbour
from tests.catalogs.catalogfiles import NOW, refused, write
from tests.catalogs.orbits import FOLDER, ORBITS, TIMES

WANTED = Wanted(name="test", kind=Kind.minor_planets)
TWO_DAYS = "name,jd,ra,dec,V\nCeres,2461100.5,10,0,18\nCeres,2461101.5,10.2,0,18.2\n"


def add(store: Store, path: Path, text: str, **changed: Any) -> StoredCatalog:
    path.write_text(text)
    wanted = {"name": "test", "kind": Kind.minor_planets, **changed}
    store.add(path, Wanted(**wanted), NOW)
    return store.open("test")


def at(catalog: StoredCatalog, jd: float, ra: float, dec: float) -> Neighbour | None:
    """What is told of a position at a time."""
    told = list(neighbours(catalog, np.array([ra]), np.array([dec]), np.array([jd])))
    return told[0][1][0] if told else None


@pytest.mark.parametrize("file", ["horizons", "skybot", "mpc"])
def test_what_the_services_write_is_found_where_the_orbit_has_it(store: Store, file: str) -> None:
    added = store.add(FOLDER / f"{file}.csv", WANTED, NOW)
    assert added.facts["segments"]["objects"] == len(ORBITS)
    catalog = store.open("test")
    jd = TIMES[4] + 0.13
    for orbit in ORBITS:
        found = at(catalog, jd, *orbit.place(jd))
        assert found is not None
        assert (found.name, found.magnitude, found.kind) == (orbit.name, 19.1, "minor_planets")
        # A tenth of a second of time is 1.5 arcseconds; the near one's way is not straight.
        assert found.separation_arcsec < (4.0 if orbit.radius < 2 else 1.5)
    assert store.verify("test") == []


def test_positions_with_rates_hold_for_half_a_day(store: Store, tmp_path: Path) -> None:
    text = "name,epoch,ra,dec,RA_rate,DEC_rate\na,2461100.5,10,60,36,-72\nb,61100,20,0,0,0\n"
    catalog = add(store, tmp_path / "a.csv", text)
    # For six hours: 216 arcseconds to the east and 432 to the south.
    way = np.degrees(np.arctan2(216, -432)) * u.deg, np.hypot(216, 432) * u.arcsec
    there = SkyCoord(10 * u.deg, 60 * u.deg).directional_offset_by(*way)
    found = at(catalog, 2461100.75, there.ra.deg, there.dec.deg)
    assert found is not None
    assert found.separation_arcsec == pytest.approx(0, abs=1e-3)
    for days, there in ((-0.5, True), (0.5, True), (-0.501, False), (0.501, False)):
        assert (at(catalog, 2461100.5 + days, 20.0, 0.0) is not None) is there


def test_rates_in_the_unit_that_the_file_states(store: Store, tmp_path: Path) -> None:
    columns = {
        "name": ["a"], "jd": [2461100.5], "ra": [10.0] * u.deg, "dec": [0.0] * u.deg,
        "ra_rate": [1.0] * u.arcsec / u.min, "dec_rate": [0.0] * u.arcsec / u.min,
    }  # fmt: skip
    astropy.table.Table(columns).write(tmp_path / "a.fits")
    store.add(tmp_path / "a.fits", WANTED, NOW)
    found = at(store.open("test"), 2461100.75, 10.1, 0.0)
    assert found is not None
    assert found.separation_arcsec == pytest.approx(0, abs=0.01)


def test_beyond_a_gap_nothing_is_known(store: Store, tmp_path: Path) -> None:
    text = TWO_DAYS + "Ceres,2461103.5,10.6,0,18\nCeres,2461104.5,10.8,0,18\n"
    catalog = add(store, tmp_path / "a.csv", text)
    places = [at(catalog, 2461100.5 + days, 10 + 0.2 * days, 0.0) for days in (0.5, 2, 3.5)]
    assert [place is not None for place in places] == [True, False, True]
    catalog = add(store, tmp_path / "a.csv", text, max_gap_hours=48.0)
    assert at(catalog, 2461102.5, 10.4, 0.0) is not None
    assert len(store.versions("test")) == 2


def test_the_magnitude_is_that_of_the_time_before(store: Store, tmp_path: Path) -> None:
    text = TWO_DAYS + "Ceres,2461102.5,10.4,0,18.4\n"
    catalog = add(store, tmp_path / "a.csv", text)
    found = [at(catalog, 2461100.5 + days, 10 + 0.2 * days, 0) for days in (0.5, 1.0, 1.5, 2.0)]
    assert [one and one.magnitude for one in found] == [18.0, 18.2, 18.2, 18.2]


def test_a_row_that_is_there_twice_counts_once(store: Store, tmp_path: Path) -> None:
    catalog = add(store, tmp_path / "a.csv", TWO_DAYS + "Ceres,2461100.500001,10.0002,0,18\n")
    assert len(catalog) == 1


@pytest.mark.parametrize(
    ("text", "options", "reason", "words"),
    [
        ("name,jd,ra,dec\na,2461100.5,1,2\n", {}, "lone_position", "row 1: a has no other time"),
        (
            TWO_DAYS + "Vesta,2461100.5,1,2,7\nVesta,2461102.1,1,2,7\n",
            {},
            "lone_position",
            "row 3: Vesta has no other time near enough",
        ),
        (TWO_DAYS, {"max_gap_hours": 23.9}, "lone_position", "row 1: Ceres has no other time"),
        (
            TWO_DAYS + "Ceres,2461101.5,10.3,0,18\n",
            {},
            "two_places",
            "row 3: Ceres is 360.0 arcsec from where row 2 has it at the same time",
        ),
        (
            TWO_DAYS + "Ceres,2461101.6,20,0,18\n",
            {},
            "too_fast",
            "row 2: Ceres moves 98 degrees a day to row 3, and nothing moves more than 60",
        ),
        (
            "name,jd,ra,dec,ra_rate,dec_rate\na,2461100.5,1,2,9000,-999\n",
            {},
            "lone_position",
            "row 1: a has no other time",
        ),
        (
            "name,jd,ra,dec,ra_rate,dec_rate\na,2461100.5,1,2,9100,0\n",
            {},
            "too_fast",
            "row 1: a moves 60.67 degrees a day by its rates",
        ),
        ("name,jd,ra,dec\na,61100,1,2\n", {}, "not_a_time", "row 1, column jd: 61100"),
        ("name,mjd,ra,dec\na,2461100.5,1,2\n", {}, "not_a_time", "is a Julian date, and the name"),
        ("name,when,ra,dec\na,2461100.5,1,2\n", {}, "no_time_column", "takes --time: name, when"),
        ("name,jd,ra,dec\na,2461100.5,1,2\n", {"time": "no"}, "no_such_column", "no column no:"),
        ("jd,ra,dec\n2461100.5,1,2\n", {}, "no_object_column", "takes --id: jd, ra, dec"),
        (
            "name,jd,ra,dec\na,2461100.5,1,2\n,2461100.6,1,2\n",
            {},
            "no_object",
            "row 2, column name",
        ),
        ("number,jd,ra,dec\n-1,2461100.5,1,2\n", {}, "no_object", "row 1, column number"),
        ("name,jd,ra,dec\na,2461100.5,1,\n", {}, "no_position", "row 1, column dec: no value"),
        ("name,jd,ra,dec\na,2461100.5,1,91\n", {}, "out_of_range", "row 1, column dec: 91"),
        ("name,jd,ra,dec\n", {}, "empty", "no rows with a position"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_added(
    store: Store, tmp_path: Path, text: str, options: dict[str, Any], reason: str, words: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    error = refused(store, tmp_path / "a.csv", kind=Kind.minor_planets, **options)
    assert error.reason == reason
    assert words in error.detail


def test_rows_are_told_by_their_place_in_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 2))
    rows = [f"{name},{jd},1,2,7\n" for name in ("x", "y") for jd in (2461100.5, 2461101.5)]
    (tmp_path / "a.csv").write_text(TWO_DAYS + "".join(rows[:3]) + ",,1,,7\n" + rows[0])
    error = refused(store, tmp_path / "a.csv", kind=Kind.minor_planets, skip=True)
    assert "a.csv: row 5: y has no other time" in error.detail


def many(n: int) -> dict[str, Any]:
    """Objects with four nights each, in the order of the nights."""
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, n)))
    night = np.repeat(np.arange(4), n)
    return {
        "designation": [f"2026 X{i}" for i in range(n)] * 4,
        "mjd": 61100.0 + night,
        "ra": (np.tile(ra, 4) + 0.2 * night) % 360,
        "dec": np.tile(dec, 4),
        "mag": rng.uniform(15, 20, 4 * n),
    }


def test_parts_of_any_size_give_the_same_version(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", many(3000))
    whole = store.add(path, WANTED, NOW)
    assert whole.facts["rows"] == 9000
    monkeypatch.setattr(batches.Source.batches, "__defaults__", ((), 1300))
    monkeypatch.setattr(ephemeris, "_FEW", 0)
    divided = hats.partitions
    monkeypatch.setattr(hats, "partitions", lambda counts, _: divided(counts, 1e6))
    assert store.add(path, WANTED, NOW).version == whole.version
    catalog = store.open("test")
    there = {path.name for path in catalog.folder.iterdir()}
    assert there == {"catalog.json", "collection.properties", "index", "test", "test_margin"}


def test_what_lies_in_hats_are_the_middles(store: Store, tmp_path: Path) -> None:
    catalog = add(store, tmp_path / "a.csv", TWO_DAYS)
    assert properties(catalog.folder / "test")["hats_col_ra"] == "ra_deg"
    (file,) = (catalog.folder / "test").glob("dataset/**/Npix=*.parquet")
    row = pq.read_table(file).to_pylist()[0]
    assert (row["ra_deg"], row["dec_deg"]) == pytest.approx((10.1, 0.0))
    assert (row["start_jd"], row["end_jd"]) == pytest.approx((2461100.5, 2461101.5))
    assert (row["east"], row["north"]) == pytest.approx((0.2, 0.0))
    assert (row["ra"], row["V"]) == (10.0, 18.0)


def test_objects_and_times_in_columns_of_other_names(store: Store, tmp_path: Path) -> None:
    text = TWO_DAYS.replace("name,jd", "body,when") + "Vesta,2461100.5,30,0,18\n"
    text += "Vesta,2461101.5,30,0,18\n"
    catalog = add(store, tmp_path / "a.csv", text, id="body", time="when", columns=("V",))
    found = at(catalog, 2461101.0, 30.0, 0.0)
    assert found is not None
    assert (found.name, found.magnitude) == ("Vesta", 18.0)
    assert set(catalog.facts["columns"]) == {"body", "when", "ra", "dec", "V"}


def test_times_of_another_clock(store: Store, tmp_path: Path) -> None:
    text = "name,jd,ra,dec\na,2461100.5,10,0\na,2461101.5,40,0\n"
    for scale, away in (("utc", 0.0), ("tt", 86.5)):
        catalog = add(store, tmp_path / "a.csv", text, scale=scale, radius_arcsec=200.0)
        found = at(catalog, 2461101.0, 25.0, 0.0)
        assert found is not None
        # 30 degrees a day for 69.2 seconds.
        assert found.separation_arcsec == pytest.approx(away, abs=0.1)
    assert len(store.versions("test")) == 2


def test_an_identifier_that_comes_in_each_row_is_no_fault(store: Store, tmp_path: Path) -> None:
    text = "source_id,name,jd,ra,dec\n1,a,2461100.5,10,0\n1,a,2461101.5,10.1,0\n"
    assert len(add(store, tmp_path / "a.csv", text)) == 1
