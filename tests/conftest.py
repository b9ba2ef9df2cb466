"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# No test is timed, and `make test` tries the same examples wherever it runs. Others are tried with
# HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real notices, maps, alerts and catalogues that may lie beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data not tested: there is no ../shared/data beside this checkout")
    return SHARED_DATA
