"""Levels and densities of real maps: what the index says beside a plain second way.

The second way reads the file with astropy and does what ``ligo.skymap`` does: cells by
falling density, those of equal density by falling UNIQ, probabilities added up.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.model import FloatArray, IntArray, Region
from crossmatch.skymap import read_skymap

MAPS = (
    "GRB220617A_IPN_map_hpx.fits.gz",
    "GW190425_bayestar.fits.gz",
    "GW190814_LALInference.v1.fits.gz",
    "MS220722v_bayestar.multiorder.fits",
    "S240112e_initial.multiorder.fits",
    "S240112y_initial.multiorder.fits",
    "S240114aj_initial.multiorder.fits",
    "S240114aj_update_0.multiorder.fits",
)


@cache
def multi_order(path: Path) -> tuple[IntArray, FloatArray]:
    """UNIQ and probability per steradian of a file; equal siblings of flat maps are one cell."""
    with fits.open(path) as hdus:
        table, header = hdus[1].data, hdus[1].header
        if "UNIQ" in table.names:
            return table["UNIQ"].astype(np.int64), table["PROBDENSITY"].astype(np.float64)
        values = table[table.names[0]].ravel().astype(np.float64)
    if header["ORDERING"].strip() == "RING":
        values = healpy.reorder(values, r2n=True)
    nside = healpy.npix2nside(len(values))
    values = values * len(values) / (4 * np.pi)
    uniq, density = [], []
    while True:
        four = values.reshape(-1, 4)
        alike = (four == four[:, :1]).all(axis=1) & (nside > 1)
        left = np.flatnonzero(~np.repeat(alike, 4) & ~np.isnan(values))
        uniq.append(left + 4 * nside**2)
        density.append(values[left])
        if not alike.any():
            return np.concatenate(uniq), np.concatenate(density)
        values, nside = np.where(alike, four[:, 0], np.nan), nside // 2


def plainly(path: Path, ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Density per steradian and credible level at positions."""
    uniq, density = multi_order(path)
    order = np.searchsorted(4 ** np.arange(1, 31), uniq, side="right") - 1
    rank = np.lexsort((uniq, density))[::-1]
    level = np.empty(len(uniq))
    level[rank] = np.cumsum((density * np.pi / (3 * 4.0**order))[rank])
    found = np.full((2, len(ra)), np.nan)
    for k in np.unique(order).tolist():
        here = np.flatnonzero(order == k)
        here = here[np.argsort(uniq[here])]
        wanted = healpy.ang2pix(1 << k, ra, dec, nest=True, lonlat=True) + 4 * 4**k
        at = np.minimum(np.searchsorted(uniq[here], wanted), len(here) - 1)
        held = uniq[here[at]] == wanted
        found[:, held] = density[here[at[held]]], level[here[at[held]]]
    assert np.isfinite(found).all()
    return found[0], found[1]


def positions(path: Path) -> tuple[FloatArray, FloatArray]:
    """All over the sky, and twice as many where the map is high."""
    uniq, density = multi_order(path)
    best = uniq[np.argsort(density)[-2000:]]
    places = []
    for cell in best.tolist():
        k = (cell.bit_length() - 3) // 2
        places.append(healpy.pix2ang(1 << k, cell - 4 * 4**k, nest=True, lonlat=True))
    rng = np.random.default_rng(3)
    high = np.array(places).T + rng.normal(size=(2, len(places))) * 0.5
    ra = np.concatenate([rng.uniform(0, 360, 1000), high[0] % 360])
    dec = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1, 1, 1000))), high[1]])
    return ra, np.clip(dec, -90, 90)


@pytest.mark.realdata
@pytest.mark.parametrize("name", MAPS)
def test_levels_and_densities_are_those_of_a_plain_sum(
    shared_data: Path, region_of: Callable[..., Region], name: str
) -> None:
    path = shared_data / "skymaps" / name
    ra, dec = positions(path)
    density, level = plainly(path, ra, dec)
    region = region_of(read_skymap(path.read_bytes()), level=0.999)
    pairs = match(np.full(len(ra), 2460325.0 + 1), ra, dec, RegionIndex.build([region]))
    clear = np.abs(level - 0.999) > 1e-6
    inside = np.isin(np.arange(len(ra)), pairs.alert_row)
    assert np.array_equal(inside[clear], (level <= 0.999)[clear])
    assert inside.sum() > 40
    assert pairs.credible_level == pytest.approx(level[pairs.alert_row], abs=1e-6)
    assert pairs.density_per_sr == pytest.approx(density[pairs.alert_row], rel=1e-6)


@pytest.mark.realdata
@pytest.mark.parametrize("name", MAPS)
def test_levels_and_densities_are_those_of_ligo_skymap(
    shared_data: Path, region_of: Callable[..., Region], name: str
) -> None:
    peer = pytest.importorskip("ligo.skymap.postprocess.crossmatch")
    path = shared_data / "skymaps" / name
    ra, dec = (values[-300:] for values in positions(path))
    uniq, density = multi_order(path)
    table = Table({"UNIQ": uniq, "PROBDENSITY": density / u.sr})
    expected = peer.crossmatch(table, SkyCoord(ra * u.deg, dec * u.deg))
    region = region_of(read_skymap(path.read_bytes()), level=0.999)
    pairs = match(np.full(len(ra), 2460325.0 + 1), ra, dec, RegionIndex.build([region]))
    row = pairs.alert_row
    assert len(row) > 20
    assert pairs.credible_level == pytest.approx(expected.searched_prob[row], abs=1e-6)
    assert pairs.density_per_sr == pytest.approx(expected.probdensity[row], rel=1e-6)


@pytest.mark.realdata
def test_no_map_is_left_out(shared_data: Path) -> None:
    assert sorted(p.name for p in (shared_data / "skymaps").glob("*.fits*")) == list(MAPS)
