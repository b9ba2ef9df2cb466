"""Partitions and margins of a HATS collection."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs import hats
from catalogs.store import Store
from crossmatch.sky import separation_deg
from tests.catalogs.catalogfiles import NOW, WANTED, table, write

real = hats.partitions


def test_partitions_hold_each_source_once_and_margins_the_others_near_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many sources along the border between base pixels, and some anywhere.
    rng = np.random.default_rng(3)
    given = table(4000)
    given["ra"][:2000] = (90.0 + rng.normal(0, 20, 2000) / 3600) % 360
    given["dec"][:2000] = rng.uniform(45, 80, 2000)
    monkeypatch.setattr(
        hats, "partitions", lambda counts, _: real(np.where(counts > 0, counts * 4000, 0), 1.0)
    )
    store.add(write(tmp_path / "a.parquet", given), WANTED, NOW)
    found = store.open("test")
    parts, extra = ({f: pq.read_table(f, partitioning=None) for f in found.folder.glob(
        f"{name}/dataset/*/*/*.parquet")} for name in ("test", "test_margin"))  # fmt: skip
    assert len(parts) > 12
    ids = np.concatenate([t["source_id"].to_numpy() for t in parts.values()])
    assert sorted(ids.tolist()) == sorted(given["source_id"].tolist())
    assert sum(t.num_rows for t in extra.values()) == found.facts["margin_rows"] > 100
    mine = {str(f).split("dataset")[1]: t for f, t in extra.items()}
    for file, part in parts.items():
        others = pa.concat_tables([t for f, t in parts.items() if f != file])
        away = 3600 * separation_deg(
            part["ra"].to_numpy()[:, None], part["dec"].to_numpy()[:, None],
            others["ra"].to_numpy()[None], others["dec"].to_numpy()[None],
        )  # fmt: skip
        wanted = set(others["source_id"].to_numpy()[(away <= hats.MARGIN_ARCSEC).any(axis=0)])
        margin = mine.get(str(file).split("dataset")[1])
        has = set() if margin is None else set(margin["source_id"].to_pylist())
        assert wanted <= has
        assert not has & set(part["source_id"].to_pylist())
        assert margin is None or (np.diff(margin["_healpix_29"].to_numpy()) >= 0).all()


def test_partitions_are_bounded_and_cover_all_sources() -> None:
    counts = np.zeros(12 * 4**hats.HISTOGRAM_ORDER, np.int64)
    counts[5], counts[70_000], counts[-1] = 3_000_000, 10, 400_000
    counts[1000:3000] = 900
    parts = real(counts, 100.0)
    held = [int(counts[p.start >> 40 : p.end >> 40].sum()) for p in parts]
    assert sum(held) == counts.sum()
    assert all(h <= 1_000_000 or p.order == 9 for h, p in zip(held, parts, strict=True))
    assert all(a.end <= b.start for a, b in itertools.pairwise(parts))


def test_the_hats_package_reads_what_we_write(store: Store, tmp_path: Path) -> None:
    package = pytest.importorskip("hats", reason="the hats package is not installed")
    from hats.io.validation import is_valid_catalog

    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    folder = store.open("test").folder
    assert is_valid_catalog(folder, strict=True)
    read = package.read_hats(folder)
    assert read.main_catalog.catalog_info.total_rows == 300
    assert read.main_catalog.catalog_info.ra_column == "ra"
