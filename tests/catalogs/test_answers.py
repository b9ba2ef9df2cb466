"""What a catalogue says of positions, by what its sources are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from catalogs.answers import MOST_HOSTS, described, neighbours
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.stored import StoredCatalog
from crossmatch.neighbours import Neighbour

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def catalog(tmp_path: Path, text: str, kind: Kind, radius: float | None = None) -> StoredCatalog:
    path = tmp_path / "c.csv"
    path.write_text(text)
    store = Store(tmp_path / "store")
    store.add(path, Wanted(name="c", kind=kind, radius_arcsec=radius), NOW)
    return store.open("c")


def near(found: StoredCatalog, ra: list[float], dec: list[float]) -> dict[int, list[Neighbour]]:
    return {place: told for place, told, _ in neighbours(found, np.array(ra), np.array(dec), None)}


def test_the_nearest_significant_star_goes_before_a_nearer_source(tmp_path: Path) -> None:
    text = (
        "source_id,ra,dec,parallax,parallax_error,pmra,pmdec,pmra_error,pmdec_error\n"
        "1,10,0.0001,0.1,0.2,0.1,0.1,0.2,0.2\n"
        "2,10,0.0002,5,0.2,,,,\n"
        "3,10,0.0003,0.1,0.2,30,40,1,1\n"
        "4,20,0.0003,,,,,,\n"
    )
    found = near(catalog(tmp_path, text, Kind.stars), [10.0, 15.0, 20.0], [0.0, 0.0, 0.0])
    assert list(found) == [0, 2]
    (star,), (other,) = found[0], found[2]
    assert (star.name, star.parallax_sigma, star.motion_sigma) == ("2", 25.0, None)
    assert star.is_star
    assert (other.name, other.is_star) == ("4", False)


def test_an_error_next_to_nothing_is_none(tmp_path: Path) -> None:
    """Sigmas stand in candidates: they are numbers, or not known."""
    text = (
        "source_id,ra,dec,parallax,parallax_error,pmra,pmdec,pmra_error,pmdec_error\n"
        "1,10,0.0001,5,1e-310,3,4,1e-308,1\n"
        "2,10,0.0002,5,0.2,,,,\n"
        "3,20,0.0001,5,1e-310,3,4,1,1\n"
    )
    found = near(catalog(tmp_path, text, Kind.stars), [10.0, 20.0], [0.0, 0.0])
    assert [(star.name, star.significance) for (star,) in found.values()] == [
        ("2", 25.0),
        ("3", 5.0),
    ]


def test_hosts_are_the_likeliest_galaxies(tmp_path: Path) -> None:
    text = (
        "name,ra,dec,distmpc,mag\nfaint,10,0.001,,21\nbright,10,0.01,40.7,11\n"
        "a,10,0.002,-999,20\nb,10,0.003,5,\nfar,10,0.02,5,1\n"
    )
    (hosts,) = near(catalog(tmp_path, text, Kind.galaxies), [10.0], [0.0]).values()
    assert len(hosts) == MOST_HOSTS
    assert [h.name for h in hosts] == ["bright", "faint", "a"]
    assert [h.distance_mpc for h in hosts] == [40.7, None, None]
    assert hosts[0].p_cc == pytest.approx(0.00084, rel=0.2)


def test_many_near_many_positions_are_ranked_each_for_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        f"g{i},{10 + i % 7 + rng.uniform(0, 0.01)},{rng.uniform(0, 0.01)},{rng.uniform(14, 22)}"
        for i in range(300)
    ]
    rows[3::5] = [row.rpartition(",")[0] + "," for row in rows[3::5]]
    found = catalog(tmp_path, "\n".join(["name,ra,dec,mag", *rows]), Kind.galaxies)
    ra, dec = 10 + np.arange(7.0), np.full(7, 0.005)
    pairs = found.within(ra, dec)
    every = described(found, pairs)
    answers = list(neighbours(found, ra, dec, None))
    assert [position for position, *_ in answers] == list(range(7))
    for position, hosts, nearest_arcsec in answers:
        mine = [every[i] for i in np.flatnonzero(pairs.position == position)]
        assert len(mine) > 20
        assert nearest_arcsec == min(g.separation_arcsec for g in mine)
        mine.sort(key=lambda g: (g.p_cc is None, g.p_cc or 0.0, g.separation_arcsec))
        mine.sort(key=lambda g: (g.p_cc or 0.0) > 0.1)
        assert hosts == mine[:MOST_HOSTS]


def test_what_is_near_by_chance_keeps_no_other_from_being_the_host(tmp_path: Path) -> None:
    rows = [f"faint{i},10,{0.015 + i / 1e4},22" for i in range(MOST_HOSTS)]
    text = "\n".join(["name,ra,dec,mag", *rows, "dark,10,0.016,"])
    (found,) = near(catalog(tmp_path, text, Kind.galaxies), [10.0], [0.0]).values()
    assert [one.name for one in found] == ["dark", "faint0", "faint1"]
    assert (found[1].p_cc or 0.0) > 0.9


@pytest.mark.parametrize("kind", [Kind.agn, Kind.variables, Kind.transients, Kind.other])
def test_of_everything_else_the_nearest_is_told(tmp_path: Path, kind: Kind) -> None:
    text = "name,ra,dec,type,z\none,10,0.0002,QSO,0.5\ntwo,10,0.0001,BL Lac,\n"
    (found,) = near(catalog(tmp_path, text, kind), [10.0], [0.0])[0]
    assert (found.name, found.type, found.redshift) == ("two", "BL Lac", None)
    assert found.kind == kind
    assert found.parallax_sigma is None


def test_marks_of_no_value_are_no_values(tmp_path: Path) -> None:
    text = "name,ra,dec,distmpc,z,mag\none,10,0,-999,-999,99.9\n"
    ((found,),) = near(catalog(tmp_path, text, Kind.galaxies), [10.0], [0.0]).values()
    assert found == Neighbour("c", "galaxies", 0.0, name="one")


@pytest.mark.parametrize("mark", ["0", "-9999", "-999", "99", "99.9", "1e20", "inf"])
def test_a_mark_for_no_magnitude_makes_no_host(tmp_path: Path, mark: str) -> None:
    text = f"name,ra,dec,mag\nmarked,10,0.0005,{mark}\ntrue,10,0.001,15\n"
    (hosts,) = near(catalog(tmp_path, text, Kind.galaxies), [10.0], [0.0]).values()
    assert [(h.name, h.magnitude) for h in hosts] == [("true", 15.0), ("marked", None)]
    assert hosts[1].p_cc is None


def test_a_mark_for_no_motion_makes_no_star(tmp_path: Path) -> None:
    text = (
        "source_id,ra,dec,parallax,parallax_error,pmra,pmdec,pmra_error,pmdec_error\n"
        "1,10,0,1e20,0.1,-9999,-9999,0.1,0.1\n"
    )
    ((found,),) = near(catalog(tmp_path, text, Kind.stars), [10.0], [0.0]).values()
    assert (found.parallax_sigma, found.motion_sigma, found.is_star) == (None, None, False)


def test_names_come_from_the_next_column_where_one_has_none(tmp_path: Path) -> None:
    text = (
        "ra,dec,GWGC,PGC,HyperLEDA,2MASS\n"
        "10,0,b'NGC0253',b'2789',b'NGC0253',b'00473313-2517196'\n"
        "20,0,b'---',b'<NA>',b'ESO474-026',b'00470752-2422143'\n"
        "30,0,b'---',b'<NA>',\"b'---'\",b'00494172-2503029'\n"
        "40,0,null,None,nan,--\n"
    )
    found = near(catalog(tmp_path, text, Kind.galaxies), [10.0, 20.0, 30.0, 40.0], [0.0] * 4)
    names = [one.name for (one,) in found.values()]
    assert names == ["NGC0253", "ESO474-026", "00494172-2503029", None]


def test_nothing_near_and_no_known_columns(tmp_path: Path) -> None:
    found = catalog(tmp_path, "ra,dec\n1,1\n", Kind.galaxies)
    assert near(found, [50.0], [50.0]) == {}
    assert near(found, [], []) == {}
    assert near(found, [1.0], [1.0])[0] == [Neighbour("c", "galaxies", 0.0)]


@pytest.mark.parametrize("suffix", ["fits", "vot", "parquet"])
def test_figures_are_told_in_their_units(tmp_path: Path, suffix: str) -> None:
    store = Store(tmp_path / "store")
    place = {"ra": [10.0] * u.deg, "dec": [0.0] * u.deg}
    files = {
        Kind.galaxies: {
            "dist": [40700.0] * u.kpc,
            "rmag": [12.0] * u.mag,
            "z": [2935] * u.km / u.s,
        },
        Kind.stars: {
            **{"parallax": [0.02] * u.arcsec, "parallax_error": [2.0] * u.mas},
            **{"pmra": [0.03] * u.arcsec / u.yr, "pmra_error": [10.0] * u.mas / u.yr},
            **{"pmdec": [0.0] * u.mas / u.yr, "pmdec_error": [10.0] * u.mas / u.yr},
        },
    }
    found = {}
    for kind, columns in files.items():
        path = tmp_path / f"{kind}.{suffix}"
        Table({**place, **columns}).write(path, format="votable" if suffix == "vot" else None)
        store.add(path, Wanted(name=str(kind), kind=kind), NOW)
        ((found[kind],),) = near(store.open(str(kind)), [10.0], [0.0]).values()
    galaxy, star = found[Kind.galaxies], found[Kind.stars]
    assert galaxy.distance_mpc == pytest.approx(40.7)
    assert (galaxy.magnitude, galaxy.redshift) == (12.0, None)
    assert (star.parallax_sigma, star.motion_sigma) == pytest.approx((10.0, 3.0))


def test_marks_are_marks_in_the_unit_of_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    Table({"ra": [10.0], "dec": [0.0], "dist": [-999.0] * u.kpc}).write(tmp_path / "a.fits")
    store.add(tmp_path / "a.fits", Wanted(name="c", kind=Kind.galaxies), NOW)
    ((galaxy,),) = near(store.open("c"), [10.0], [0.0]).values()
    assert galaxy.distance_mpc is None
