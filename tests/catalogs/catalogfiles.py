"""Small catalogues as files, and what the tests of catalogues ask of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Store
from crossmatch.errors import CatalogError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = Wanted(name="test", kind=Kind.other)


def table(n: int = 300, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "source_id": np.arange(n) + 1000,
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
        "mag": rng.uniform(10, 20, n),
        "name": [f"s{i}" for i in range(n)],
    }


def write(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        pa.table(columns).to_pandas().to_csv(path, index=False)
    else:
        kind = {".fits": "fits", ".vot": "votable"}[path.suffix]
        astropy.table.Table(columns).write(path, format=kind)
    return path


def refused(store: Store, path: Path, **changed: Any) -> CatalogError:
    """The error of adding a file; nothing of it is seen afterwards."""
    with pytest.raises(CatalogError) as caught:
        store.add(path, Wanted(**{"name": "test", **changed}), NOW)
    assert store.names() == []
    assert not store.root.exists() or list(store.root.rglob("*")) == []
    return caught.value


def moving(path: Path, epochs: Any) -> Path:
    columns = {
        "ra": [269.452, 10.0, 359.9999, 100.0],
        "dec": [4.693, 89.9995, 0.0, 20.0],
        # Barnard's star; a fast one at the pole; one that crosses RA 0; one without motion.
        "pmra": [-801.6, 900.0, 500.0, None],
        "pmdec": [10362.4, -400.0, 0.0, None],
        "ref_epoch": epochs,
    }
    pq.write_table(pa.table(columns), path)
    return path
