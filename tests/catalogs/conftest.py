"""Fixtures of the tests of catalogues."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store without catalogues."""
    return Store(tmp_path / "store")
