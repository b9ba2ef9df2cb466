"""Files of sky maps by their hash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from crossmatch.errors import RegionError, ServiceError
from gateway.listener.skymaps import SkymapStore


def test_sky_map_is_kept_once_under_its_hash(tmp_path: Path) -> None:
    store = SkymapStore(tmp_path)
    digest = hashlib.sha256(b"map").hexdigest()
    assert store.put(b"map") == store.put(b"map") == f"skymaps/{digest}.fits"
    assert [p.name for p in (tmp_path / "skymaps").iterdir()] == [f"{digest}.fits"]
    assert store.get(digest) == b"map"


def test_sky_map_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "state" / SkymapStore(tmp_path / "state").put(b"map")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_sky_map_that_is_gone_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="map_missing"):
        SkymapStore(tmp_path).get("0" * 64)


def test_sky_map_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "skymaps").write_text("a file where the folder should be")
    with pytest.raises(ServiceError, match="cannot be written"):
        SkymapStore(tmp_path).put(b"map")
