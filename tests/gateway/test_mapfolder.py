from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from crossmatch.errors import NoticeError, RegionError
from crossmatch.model import Circle, MultiOrderMap, Notice
from gateway.mapfolder import find_map
from gateway.understand import SkymapFile, placed

URL = "https://gracedb.example/api/S1a/files/bayestar.multiorder.fits,1"
CIRCLE = Circle(ra_deg=10.0, dec_deg=20.0, radius_deg=1.0, containment=0.9)


def notice(**changed: Any) -> Notice:
    fields: dict[str, Any] = {
        "feed": "lvk",
        "mission": "LVK",
        "instrument": "",
        "kind": "cbc",
        "notice_id": "S1a-1",
        "event_id": "lvk/S1a",
        "trigger_id": "S1a",
        "messenger": "gw",
        "role": "observation",
        "alert_type": "initial",
        "issued": datetime(2024, 1, 12, tzinfo=UTC),
        "order": 1,
        "trigger_time": datetime(2024, 1, 12, tzinfo=UTC),
        "localization": None,
        "sha256": "0" * 64,
        "skymap_url": URL,
    }
    return Notice(**fields | changed)


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def a_map() -> bytes:
    """All of the sky in 12 cells."""
    table = Table({"UNIQ": np.arange(4, 16), "PROBDENSITY": np.full(12, 1 / (4 * np.pi))})
    table.meta.update({"ORDERING": "NUNIQ", "COORDSYS": "C", "MOCORDER": 0})
    file = io.BytesIO()
    table.write(file, format="fits")
    return file.getvalue()


ORDER = (
    "S1a/bayestar.multiorder.fits,1",
    "S1a_bayestar.multiorder.fits,1",
    "S1a-bayestar.multiorder.fits,1",
    "S1a/bayestar.multiorder.fits",
    "S1a_bayestar.multiorder.fits",
    "S1a-bayestar.multiorder.fits",
    "S1a.multiorder.fits",
    "S1a.fits",
    "S1a.fits.gz",
)


@pytest.mark.parametrize("number", range(len(ORDER)))
def test_names_count_in_their_order(tmp_path: Path, number: int) -> None:
    put(tmp_path, *ORDER[number:])
    assert find_map(tmp_path, notice()) == SkymapFile(ORDER[number].encode(), "folder")


@pytest.mark.parametrize("name", ["bayestar.multiorder.fits", "S1ab.fits", "S1b_bayestar.fits"])
def test_map_without_the_name_of_the_event_is_nobodys(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    assert find_map(tmp_path, notice()) is None


def test_address_with_the_name_of_the_event_needs_no_more(tmp_path: Path) -> None:
    put(tmp_path, "GRB220617A_IPN_map.fits.gz")
    asked = notice(trigger_id="GRB220617A", skymap_url="http://x/GRB220617A_IPN_map.fits.gz?a=b")
    found = find_map(tmp_path, asked)
    assert found is not None
    assert found.fits == b"GRB220617A_IPN_map.fits.gz"


@pytest.mark.parametrize(
    ("event", "url"),
    [
        ("..", "http://x/secret.fits"),
        ("../secret.fits", "http://x/"),
        ("S1a", "http://x/a%2F..%2F..%2Fsecret.fits"),
        ("", "http://x/secret.fits"),
        ("S1a", None),
    ],
)
def test_nothing_outside_the_folder_is_found(tmp_path: Path, event: str, url: str | None) -> None:
    put(tmp_path, "secret.fits", "maps/other.fits")
    assert find_map(tmp_path / "maps", notice(trigger_id=event, skymap_url=url)) is None


def test_no_folder_no_map() -> None:
    assert find_map(None, notice()) is None


def test_file_that_cannot_be_read_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "S1a.fits")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(NoticeError, match="Permission denied") as caught:
        find_map(tmp_path, notice())
    assert caught.value.reason == "map_not_read"


def test_map_of_the_folder_stands_in_place_of_a_circle(tmp_path: Path) -> None:
    (tmp_path / "S1a.fits").write_bytes(a_map())
    found = placed(notice(localization=CIRCLE), partial(find_map, tmp_path))
    assert isinstance(found.localization, MultiOrderMap)
    assert found.skymap_fits == a_map()
    assert found.map_origin == "folder"


def test_own_map_comes_first() -> None:
    found = placed(notice(skymap_fits=a_map()), lambda _: pytest.fail("asked"))
    assert isinstance(found.localization, MultiOrderMap)
    assert found.map_origin == "embedded"


@pytest.mark.parametrize("changed", [{"skymap_url": None}, {"alert_type": "retraction"}])
def test_others_stay_as_they_came(changed: dict[str, Any]) -> None:
    given = notice(localization=CIRCLE, **changed)
    assert placed(given, lambda _: pytest.fail("asked")) is given
    assert placed(notice(localization=CIRCLE), lambda _: None).localization is CIRCLE


def test_what_is_no_map_is_a_reason(tmp_path: Path) -> None:
    put(tmp_path, "S1a.fits")
    with pytest.raises(RegionError):
        placed(notice(), partial(find_map, tmp_path))
