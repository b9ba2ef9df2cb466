"""Host galaxies from the shipped sample and from a real catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from catalogs.hosts import HOST_SCHEMA, host_candidates, nearby_galaxies
from catalogs.local import LocalCatalog


def test_at2017gfo_lies_in_ngc_4993() -> None:
    hosts = host_candidates(nearby_galaxies(), np.array([197.45035]), np.array([-23.38148]))

    assert hosts.schema == HOST_SCHEMA
    assert hosts["host_name"].to_pylist() == ["NGC 4993"]
    assert hosts["host_distance_mpc"].to_pylist() == [40.7]
    assert hosts["host_offset_arcsec"].to_pylist() == pytest.approx([10.1], abs=0.2)


def test_far_from_any_galaxy_everything_is_null() -> None:
    hosts = host_candidates(nearby_galaxies(), np.array([100.0, 101.0]), np.array([0.0, 1.0]))

    assert [c.null_count for c in hosts.columns] == [2, 2, 2]


def test_a_catalogue_without_distances_still_names_the_galaxy(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("name,ra,dec\nNGC 1,1.816,27.708\n")

    hosts = host_candidates(LocalCatalog.load("g", path), np.array([1.816]), np.array([27.708]))

    assert hosts.to_pylist() == [
        {"host_name": "NGC 1", "host_distance_mpc": None, "host_offset_arcsec": 0.0}
    ]


def test_marks_of_no_value_are_neither_names_nor_distances(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        "pgc,hyperleda,ra,dec,dist\nb'<NA>',b'NGC0253',10,20,-999\n12,---,30,40,3.5\n---,,50,60,99\n"
    )
    places = np.array([[10.0, 30.0, 50.0], [20.0, 40.0, 60.0]])

    hosts = host_candidates(LocalCatalog.load("g", path), *places)

    assert hosts["host_name"].to_pylist() == ["NGC0253", "12", None]
    assert hosts["host_distance_mpc"].to_pylist() == [None, 3.5, 99.0]


@pytest.mark.parametrize("suffix", ["fits", "parquet"])
def test_distances_are_converted_to_mpc(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    Table({"ra": [10.0], "dec": [20.0], "dist": [3500.0] * u.kpc}).write(path)

    hosts = host_candidates(LocalCatalog.load("g", path), np.array([10.0]), np.array([20.0]))

    assert hosts["host_distance_mpc"].to_pylist() == pytest.approx([3.5])


def test_the_sample_holds_a_dozen_galaxies_with_sources() -> None:
    table = nearby_galaxies().table

    assert table.num_rows >= 12
    assert table["source"].null_count == 0
    assert all(0.1 < d < 50 for d in table["distance_mpc"].to_pylist())


@pytest.mark.realdata
def test_the_sample_agrees_with_a_real_galaxy_catalogue(shared_data: Path) -> None:
    glade = LocalCatalog.load("glade", shared_data / "catalogs" / "glade_S190814bv_region.csv")
    sample = nearby_galaxies()
    row = sample.table["name"].to_pylist().index("NGC 253")

    hosts = host_candidates(glade, sample.ra_deg[[row]], sample.dec_deg[[row]])

    assert hosts["host_offset_arcsec"].to_pylist()[0] < 5
    assert hosts["host_distance_mpc"].to_pylist() == pytest.approx([3.5], abs=0.5)
