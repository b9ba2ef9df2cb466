"""Archived alerts that a region would have matched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from broker.archive import AlertArchive
from crossmatch.chains import chains_with
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import ConfigError
from crossmatch.model import Circle, Notice, Region
from crossmatch.region import make_region
from crossmatch.times import jd_from_datetime
from gateway import config
from gateway.offline.archived import archive_of, archived_matches, parse_since

TRIGGER = datetime(2024, 1, 12, 3, tzinfo=UTC)
CUTS = config.load(environ={}).cuts


def region() -> Region:
    notice = Notice(
        feed="x", mission="M", instrument="", kind="k", notice_id="n", event_id="X_1",
        trigger_id="1", messenger="grb", role="observation", alert_type="initial",
        issued=TRIGGER, order=(0.0, 0, 0), trigger_time=TRIGGER,
        localization=Circle(45.0, 41.0, 1.0, 0.9), sha256="0" * 64,
    )  # fmt: skip
    return make_region(notice, 1, chains_with({}))


def alert(number: int, **changed: Any) -> dict[str, Any]:
    """A good alert a day after the trigger, in the middle of the region."""
    known = dict.fromkeys(ALERT_SCHEMA.names) | {
        "survey": "ztf", "object_id": f"ZTF{number}", "alert_id": number, "ra_deg": 45.0,
        "dec_deg": 41.0, "time_jd": jd_from_datetime(TRIGGER) + 1, "filter": "g", "mag": 18.0,
        "positive": True, "real_bogus": 0.9, "topic": "t", "partition": 0, "offset": number,
    }  # fmt: skip
    return known | changed


def archive(state: Path, *batches: list[dict[str, Any]]) -> AlertArchive:
    for number, batch in enumerate(batches):
        table = pa.Table.from_pylist(batch, schema=ALERT_SCHEMA)
        AlertArchive(state / "alerts").append(table, number)
    found = archive_of(state)
    assert found is not None
    return found


def test_matches_are_those_of_place_time_and_quality(tmp_path: Path) -> None:
    jd = jd_from_datetime(TRIGGER)
    kept = archive(
        tmp_path,
        [alert(1, dec_deg=41.5), alert(2, dec_deg=44.0), alert(3, time_jd=jd + 30)],
        [alert(4), alert(5, time_jd=jd - 1), alert(6, positive=False), alert(7, time_jd=jd + 5)],
    )

    searched = archived_matches(kept, region(), CUTS, TRIGGER - timedelta(days=100))
    found = searched.matches

    assert (searched.looked_at, searched.in_window) == (7, 5)
    assert (searched.in_region, searched.cut) == (4, 1)
    # The likeliest place first.
    assert [m["alert_id"] for m in found] == [4, 7, 1]
    first, _, last = found
    assert first["object_id"] == "ZTF4"
    assert first["separation_deg"] == pytest.approx(0.0, abs=1e-6)
    assert first["time_offset_days"] == pytest.approx(1.0, abs=1e-6)
    assert first["time_utc"] == "2024-01-13T03:00:00.000Z"
    # A Fisher distribution of 1 degree at 90 %: within r lies 1 - 0.1 ** r**2, on the plane.
    assert last["credible_level"] == pytest.approx(1 - 0.1**0.25, abs=1e-3)


def test_only_alerts_since_then_are_listed(tmp_path: Path) -> None:
    jd = jd_from_datetime(TRIGGER)
    kept = archive(tmp_path, [alert(1), alert(2, time_jd=jd + 3)])
    searched = archived_matches(kept, region(), CUTS, TRIGGER + timedelta(days=2))
    assert [m["alert_id"] for m in searched.matches] == [2]
    assert (searched.looked_at, searched.in_window, searched.in_region) == (1, 1, 1)


def test_a_window_that_is_over_has_none(tmp_path: Path) -> None:
    kept = archive(tmp_path, [alert(1), alert(2, time_jd=jd_from_datetime(TRIGGER) + 500)])
    searched = archived_matches(kept, region(), CUTS, TRIGGER + timedelta(days=400))
    assert (searched.looked_at, searched.in_window, searched.in_region) == (1, 0, 0)
    assert searched.matches == []


def test_where_nothing_was_archived_there_is_no_archive(tmp_path: Path) -> None:
    assert archive_of(tmp_path) is None
    (tmp_path / "alerts").mkdir()
    assert archive_of(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-12", datetime(2024, 1, 12, tzinfo=UTC)),
        ("2024-01-12T06:30", datetime(2024, 1, 12, 6, 30, tzinfo=UTC)),
        ("2024-01-12T06:30+02:00", datetime(2024, 1, 12, 4, 30, tzinfo=UTC)),
        ("7d", TRIGGER - timedelta(days=7)),
        ("90min", TRIGGER - timedelta(minutes=90)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert parse_since(text, TRIGGER) == moment


@pytest.mark.parametrize("text", ["yesterday", "7 fortnights", "-3d", "99999999999d", ""])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match="7d"):
        parse_since(text, TRIGGER)
