"""How the driver gives tables of regions to workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.ahead import Ahead
from broker.sources import Sources
from crossmatch.ahead import View
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ServiceError
from crossmatch.index import RegionIndex
from crossmatch.region import make_region

from .conftest import CUTS, notice

SOURCES = Sources(bootstrap="", properties={}, ztf=("alerts.ztf",), lsst=())


@pytest.fixture
def index() -> RegionIndex:
    return RegionIndex.build([region(1)])


def region(number: int):
    return make_region(notice(f"E{number}", 1, 40.0 * number, 10.0, 5.0), 1, DEFAULT_CHAINS)


def test_tables_are_written_when_regions_changed_and_those_before_go(
    index: RegionIndex, tmp_path: Path
) -> None:
    folder = tmp_path / "regions"
    (folder / "of a run before").mkdir(parents=True)
    ahead = Ahead(CUTS, SOURCES, folder)

    first = ahead._ship(View.of(index))
    assert len(first.tables()) == 1
    assert ahead._ship(View.of(index)) is first
    index.add(region(2))
    second = ahead._ship(View.of(index))

    assert len(second.tables()) == 2
    assert [str(path) for path in folder.iterdir()] == [second.folder]


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(
    index: RegionIndex, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ahead = Ahead(CUTS, SOURCES, tmp_path / "file" / "regions")

    with pytest.raises(ServiceError, match="regions/1: cannot be written"):
        ahead._ship(View.of(index))
