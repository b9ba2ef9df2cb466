"""Host galaxies from the shipped sample, from files and from a real catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from catalogs.answers import MOST_HOSTS, neighbours
from catalogs.hosts import galaxies_of, nearby_galaxies
from catalogs.local import LocalCatalog
from crossmatch.errors import CatalogError
from crossmatch.neighbours import MOST_P_CC, Neighbour, likely_hosts

AT2017GFO = 197.45035, -23.38148


def near(galaxies: LocalCatalog, ra: float, dec: float) -> list[Neighbour]:
    """Galaxies that are told of a position; none where none is near."""
    found = list(neighbours(galaxies, np.array([ra]), np.array([dec]), None))
    return found[0][1] if found else []


def test_at2017gfo_lies_in_ngc_4993() -> None:
    (host,) = likely_hosts(near(nearby_galaxies(), *AT2017GFO))
    assert (host.name, host.distance_mpc) == ("NGC 4993", 40.7)
    assert host.separation_arcsec == pytest.approx(10.1, abs=0.2)


def test_by_its_magnitude_ngc_4993_is_no_chance_coincidence(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("name,ra,dec,magr\nNGC 4993,197.44879,-23.38389,12.3\n")
    (host,) = likely_hosts(near(galaxies_of("g", path), *AT2017GFO))
    assert host.p_cc is not None
    assert 0 < host.p_cc < MOST_P_CC / 100


def test_far_from_any_galaxy_nothing_is_told() -> None:
    assert near(nearby_galaxies(), 100.0, 0.0) == []


def test_a_file_of_galaxies_is_ranked_as_one_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        "name,ra,dec,z,mag\nnearest,10,0.0005,,22\nchance,10,0.015,0.2,21\nbright,10,0.01,0.01,11\n"
        "dark,10,0.002,,\nfar,10,0.017,,5\n"
    )
    found = near(galaxies_of("g", path), 10.0, 0.0)
    assert [one.name for one in found] == ["bright", "nearest", "dark"]
    assert len(found) == MOST_HOSTS
    assert (found[0].redshift, found[0].p_cc) == (0.01, pytest.approx(0.00084, rel=0.2))
    assert found[2].p_cc is None


def test_a_catalogue_without_distances_still_names_the_galaxy(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("name,ra,dec\nNGC 1,1.816,27.708\n")
    assert near(galaxies_of("g", path), 1.816, 27.708) == [
        Neighbour("g", "galaxies", 0.0, name="NGC 1")
    ]


def test_places_alone_are_told_too(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("ra,dec\n10,20\n10,20.001\n")
    found = near(galaxies_of("g", path), 10.0, 20.0)
    assert [one.separation_arcsec for one in found] == pytest.approx([0.0, 3.6])


def test_marks_of_no_value_are_neither_names_nor_distances(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        "pgc,hyperleda,ra,dec,dist\nb'<NA>',b'NGC0253',10,20,-999\n12,---,30,40,3.5\n---,,50,60,99\n"
    )
    galaxies = galaxies_of("g", path)
    found = [near(galaxies, *at)[0] for at in ((10.0, 20.0), (30.0, 40.0), (50.0, 60.0))]
    assert [one.name for one in found] == ["NGC0253", "12", None]
    assert [one.distance_mpc for one in found] == [None, 3.5, 99.0]


@pytest.mark.parametrize("suffix", ["fits", "parquet"])
def test_distances_are_converted_to_mpc(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    Table({"ra": [10.0], "dec": [20.0], "dist": [3500.0] * u.kpc}).write(path)
    (host,) = near(galaxies_of("g", path), 10.0, 20.0)
    assert host.distance_mpc == pytest.approx(3.5)


def test_a_distance_in_a_unit_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.fits"
    Table({"ra": [10.0], "dec": [20.0], "dist": [3500.0] * u.km / u.s}).write(path)
    with pytest.raises(CatalogError) as error:
        galaxies_of("g", path)
    assert error.value.reason == "wrong_unit"


def test_the_sample_holds_a_dozen_galaxies_with_sources() -> None:
    table = nearby_galaxies().table

    assert table.num_rows >= 12
    assert table["source"].null_count == 0
    assert all(0.1 < d < 50 for d in table["distance_mpc"].to_pylist())


@pytest.mark.realdata
def test_the_sample_agrees_with_a_real_galaxy_catalogue(shared_data: Path) -> None:
    glade = galaxies_of("glade", shared_data / "catalogs" / "glade_S190814bv_region.csv")
    sample = nearby_galaxies()
    row = sample.table["name"].to_pylist().index("NGC 253")

    host = near(glade, sample.ra_deg[row], sample.dec_deg[row])[0]

    assert host.separation_arcsec < 5
    assert host.distance_mpc == pytest.approx(3.5, abs=0.5)
    assert host.p_cc is not None
    assert host.p_cc < 1e-5
