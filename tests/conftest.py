"""Fixtures for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real notices, maps, alerts and catalogues that may lie beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data not tested: there is no ../shared/data beside this checkout")
    return SHARED_DATA
