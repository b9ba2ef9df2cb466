"""What several tests of the gateway begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.feeds.store import FeedStore
from tests.gateway.feedfiles import Clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> FeedStore:
    return FeedStore([folder], tmp_path / "state", Clock())
