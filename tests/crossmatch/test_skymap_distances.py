"""Distances of a sky map: what is no estimate never gets out as a number."""

from __future__ import annotations

import numpy as np
import pytest

from crossmatch import sky
from crossmatch.model import MultiOrderMap
from crossmatch.region import distance_at
from crossmatch.skymap import read_skymap, write_skymap

N = 12 * 4**2
SIZE = sky.N_PIX // N
START = np.arange(N) * SIZE


def read_with(mu: float, sigma: float, norm: float) -> MultiOrderMap:
    """A map whose first cell says this, all others 100 +- 20 Mpc."""
    columns = [np.full(N, value) for value in (100.0, 20.0, 1e-4)]
    for column, value in zip(columns, (mu, sigma, norm), strict=True):
        column[0] = value
    density = np.full(N, 1 / (4 * np.pi))
    return read_skymap(write_skymap(MultiOrderMap(START, START + SIZE, density, *columns), {}))


def at_first_and_second(skymap: MultiOrderMap) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = sky.cell_centres(skymap.start[:2], skymap.end[:2])
    found = distance_at(skymap, ra, dec)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("mu", "sigma", "norm"),
    [
        (np.inf, 1.0, 0.0), (-np.inf, 1.0, 0.0), (np.nan, 1.0, 0.0), (100.0, np.inf, 0.0),
        (100.0, np.nan, 1e-4), (100.0, 0.0, 1e-4), (100.0, -5.0, 1e-4), (100.0, 20.0, np.nan),
        (100.0, 20.0, np.inf), (100.0, 20.0, -1.0), (1e308, 1e308, 1.0), (-1e308, 1e-300, 1.0),
        (100.0, 1e-300, 1.0),
    ],
)  # fmt: skip
def test_a_cell_without_an_estimate_gives_none(mu: float, sigma: float, norm: float) -> None:
    skymap = read_with(mu, sigma, norm)
    mean, deviation = at_first_and_second(skymap)

    assert np.isnan([mean[0], deviation[0]]).all()
    assert 50 < mean[1] < 150
    assert 0 < deviation[1] < 40
    assert skymap.distmu is not None
    assert skymap.distsigma is not None
    assert (skymap.distmu[0], skymap.distsigma[0]) == (np.inf, 1.0)


@pytest.mark.parametrize(
    ("mu", "sigma"), [(-3000.0, 900.0), (1e6, 1e-3), (-1e6, 1e-3), (1e-3, 1e6)]
)
def test_what_is_an_estimate_gives_finite_numbers(mu: float, sigma: float) -> None:
    mean, deviation = at_first_and_second(read_with(mu, sigma, 1e-4))

    assert np.isfinite([mean, deviation]).all()
    assert mean[0] > 0
