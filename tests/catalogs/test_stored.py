"""Stored catalogues: sources that move, processes that share them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u

from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW, WANTED, moving, table, write


def test_a_pickled_catalogue_is_the_name_of_its_folder(store: Store, tmp_path: Path) -> None:
    store.add(write(tmp_path / "a.csv", table(2000)), WANTED, NOW)
    found = store.open("test")
    data = pickle.dumps(found)
    assert len(data) < 1000
    assert pickle.loads(data).sources.ra_deg.tolist() == found.sources.ra_deg.tolist()


@pytest.mark.parametrize("epochs", [[2016.0] * 4, [2016.0, 2015.5, 2000.0, 1991.25]])
def test_sources_are_found_where_they_are_at_the_time(
    store: Store, tmp_path: Path, epochs: list[float]
) -> None:
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    path = moving(tmp_path / "a.parquet", epochs)
    store.add(path, Wanted(name="test", kind=Kind.stars), NOW)
    found = store.open("test")
    given = pq.read_table(path)
    pm = [[v or 0.0 for v in given[name].to_pylist()] for name in ("pmra", "pmdec")]
    time = Time(2026.2, format="jyear", scale="tcb")
    # At ten parsecs nothing but the motion across the sky matters.
    there = SkyCoord(
        given["ra"].to_numpy() * u.deg, given["dec"].to_numpy() * u.deg,
        pm_ra_cosdec=pm[0] * u.mas / u.yr, pm_dec=pm[1] * u.mas / u.yr,
        obstime=Time(epochs, format="jyear", scale="tcb"), distance=10 * u.pc,
    ).apply_space_motion(new_obstime=time)  # fmt: skip
    jd = np.full(4, 2451545.0 + 26.2 * 365.25)
    now = found.closest(there.ra.deg, there.dec.deg, time_jd=jd)
    assert (now.row >= 0).all()
    assert (now.separation_arcsec < 0.01).all()
    still = found.closest(there.ra.deg, there.dec.deg)
    assert (still.row >= 0).tolist() == [False, False, False, True]
    assert found.padding_arcsec(10.0) == pytest.approx(103.9, abs=0.1)


def test_a_given_epoch_makes_up_for_a_missing_column(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ra,dec,pm_ra,pm_dec\n10,0,3600,0\n")
    assert store.add(path, WANTED, NOW).facts["motion"] is None
    added = store.add(path, Wanted(name="test", epoch=2000.0), NOW)
    assert added.facts["motion"] == ["pm_ra", "pm_dec", 2000.0]
    jd = np.array([2451545.0 + 365.25])
    found = store.open("test").closest(np.array([10.001]), np.array([0.0]), time_jd=jd)
    assert found.separation_arcsec[0] == pytest.approx(0.0, abs=1e-5)


def test_a_store_opens_only_what_is_whole(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="not_a_catalog"):
        StoredCatalog.open(tmp_path)
