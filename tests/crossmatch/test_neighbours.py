"""Neighbours: what makes a star, chance coincidence, and which galaxy is the host."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmatch.neighbours import (
    MOST_P_CC,
    Neighbour,
    chance_coincidence,
    host_at,
    likely_hosts,
    nearest_by_kind,
)


@pytest.mark.parametrize(
    ("parallax", "motion", "star"),
    [(None, None, False), (2.9, 2.9, False), (3.0, None, True), (None, 8.0, True), (-9, 1, False)],
)
def test_a_star_has_a_significant_parallax_or_motion(
    parallax: float | None, motion: float | None, star: bool
) -> None:
    assert Neighbour("g", "stars", 1, parallax_sigma=parallax, motion_sigma=motion).is_star is star


def test_the_significance_is_that_of_the_clearer_one() -> None:
    assert Neighbour("g", "stars", 1, parallax_sigma=-4.0, motion_sigma=2.0).significance == 2.0
    assert Neighbour("g", "stars", 1, parallax_sigma=7.0).significance == 7.0
    assert Neighbour("g", "stars", 1).significance is None


SOURCES = st.builds(
    Neighbour,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["stars", "agn", "variables"]),
    st.sampled_from([0.0, 0.5, 1.0]),
    parallax_sigma=st.sampled_from([None, 2.0, 9.0]),
)


@given(st.lists(SOURCES))
def test_of_each_kind_the_nearest_counts_and_of_stars_the_nearest_that_is_one(
    found: list[Neighbour],
) -> None:
    expected = {}
    for kind in ("stars", "agn", "variables"):
        mine = [one for one in found if one.kind == kind and (kind != "stars" or one.is_star)]
        if mine:
            expected[kind] = min(mine, key=lambda one: one.separation_arcsec)
    nearest = nearest_by_kind(found)
    assert {one.kind: one for one in nearest} == expected
    assert len(nearest) == len(expected)


def test_chance_coincidence_is_that_of_the_paper() -> None:
    # Berger 2010: sigma(<= m) of galaxies brighter than 24 mag, a square arcsecond.
    density = 10**-2.44 / (0.33 * math.log(10))
    away, magnitude = np.array([1.0, 5.0, 0.0, 1e4, 1.0]), np.array([24, 22, 20, 24.0, np.nan])
    found = chance_coincidence(away, magnitude)
    assert found[0] == pytest.approx(1 - math.exp(-math.pi * density))
    assert found[1] == pytest.approx(0.0788, abs=1e-4)
    assert found[2:4].tolist() == pytest.approx([0.0, 1.0])
    assert np.isnan(found[4])


@pytest.mark.parametrize(
    ("mean", "sigma", "name"),
    [(None, None, "far"), (40.0, 10.0, "near"), (400.0, 10.0, "far"), (40.0, 0.0, "far"),
     (4000.0, 1.0, "unknown")],
)  # fmt: skip
def test_the_host_is_one_that_the_events_distance_allows(
    mean: float | None, sigma: float | None, name: str
) -> None:
    hosts = [
        Neighbour("g", "galaxies", away, name=galaxy, distance_mpc=mpc)
        for galaxy, mpc, away in (("far", 380.0, 1.0), ("unknown", None, 2.0), ("near", 50.0, 9.0))
    ]
    assert host_at(hosts, mean, sigma).name == name


def galaxy(name: str, away: float, p_cc: float | None) -> Neighbour:
    return Neighbour("g", "galaxies", away, name=name, p_cc=p_cc)


def test_hosts_are_galaxies_that_are_hardly_near_by_chance_and_those_of_which_it_is_unknown() -> (
    None
):
    found = [
        galaxy("unknown", 5.0, None), galaxy("chance", 1.0, MOST_P_CC * 1.01),
        galaxy("edge", 9.0, MOST_P_CC), galaxy("first", 8.0, 0.0), galaxy("second", 7.0, 0.0),
        galaxy("nearer", 4.0, None), galaxy("as near", 4.0, None),
    ]  # fmt: skip
    names = [one.name for one in likely_hosts(found)]
    assert names == ["first", "second", "edge", "nearer", "as near", "unknown"]
    assert likely_hosts(found[1:2]) == ()


def test_the_text_names_what_is_known() -> None:
    star = Neighbour("gaia", "stars", 0.314, name="1", magnitude=18.0, parallax_sigma=12.0)
    assert star.text() == "gaia: stars, 0.31 arcsec, 1, mag 18, parallax 12 sigma"
    assert Neighbour("tde", "transients", 1.0).text() == "tde: transients, 1.00 arcsec"
    host = Neighbour("g", "galaxies", 10, name="NGC 4993", distance_mpc=40.7, p_cc=0.0012345)
    assert host.text() == "g: galaxies, 10.00 arcsec, NGC 4993, 40.7 Mpc, p_cc 0.001234"
