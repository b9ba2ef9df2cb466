"""External coincidences of gravitational waves: the event's own map, or the combined one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from crossmatch import sky
from crossmatch.model import MultiOrderMap, Notice
from crossmatch.region import credible_level
from crossmatch.skymap import write_skymap
from tests.gateway.reading import notice, read, with_files

GW = json.loads((Path(__file__).parents[1] / "data/notices/gwalert.json").read_bytes())


def skymap(ra_deg: float, dec_deg: float) -> tuple[bytes, MultiOrderMap]:
    cell = 4 ** (29 - 6)
    start = sky.ipix29(np.array([ra_deg]), np.array([dec_deg])) // cell * cell
    one = MultiOrderMap(start, start + cell, np.array([1 / (cell * sky.PIXEL_SR)]))
    return write_skymap(one, {"DISTMEAN": 40.0, "DISTSTD": 8.0}), one


def coincident(**coincidence: Any) -> dict[str, Any]:
    own, together = skymap(100.0, 10.0)[0], skymap(200.0, -20.0)[0]
    event = {**GW["event"], "skymap": base64.b64encode(own).decode()}
    combined = base64.b64encode(together).decode()
    coinc = {"observatory": "Fermi", "combined_skymap": combined, **coincidence}
    return {**GW, "event": event, "external_coinc": coinc}


def holds(found: Notice, ra_deg: float, dec_deg: float) -> bool:
    assert isinstance(found.localization, MultiOrderMap)
    return bool(credible_level(found.localization, ra_deg, dec_deg)[0] <= 1) and bool(
        found.localization.start[0]
        <= sky.ipix29(np.array([ra_deg]), np.array([dec_deg]))[0]
        < found.localization.end[0]
    )


def test_a_chance_coincidence_does_not_move_the_event() -> None:
    found = notice(coincident())
    assert holds(found, 100.0, 10.0)
    assert found.details["external_combined_skymap"] == "embedded"
    assert "skymap" not in found.details
    assert (found.distance_mpc, found.distance_error_mpc) == (40.0, 8.0)


def test_combined_map_by_choice(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "gateway/feeds/missions/lvk.toml"
    text = source.read_text("utf-8")
    chosen = text.replace('combined_map = "false"', 'combined_map = "true"')
    assert chosen != text
    registry = with_files(tmp_path, lvk=chosen)
    found = notice(coincident(), registry)
    assert holds(found, 200.0, -20.0)
    assert found.details["skymap"] == "combined"
    alone = notice(coincident(combined_skymap=None), registry)
    assert holds(alone, 100.0, 10.0)
    assert "skymap" not in alone.details
    broken = read(json.dumps(coincident(combined_skymap="?")).encode(), registry)
    assert broken.reason == "bad_skymap"
