from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app, main
from gateway.config import Alarms
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed
from gateway.feeds.store import Loaded, Problem
from gateway.listener.maps import Waiting, Wanted
from gateway.reports import NoticeReport
from gateway.watch.alarms import alarms_path
from gateway.watch.health import FeedHealth, snapshot_path
from gateway.watch.records import Health
from gateway.watch.stats import feed_stats

GCN = "kafka.gcn.nasa.gov"
FEED = """
name = "ourteam"
title = "Ours"
mission = "Own"
instrument = "camera"
messenger = "grb"
format = "json"
topics = ["own.bursts"]
max_silence_hours = 24
[fields]
"""

runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of our own, and no configuration of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    return tmp_path / "mmgateway-data"


def listened(state: Path, ago: timedelta, heard: timedelta | None = None) -> datetime:
    """The snapshot of a listener that ended some time ago, having heard one burst."""
    at = datetime.now(UTC) - ago
    health = FeedHealth(snapshot_path(state), lambda: at)
    health.opened(GCN, credentials=True)
    health.contact(GCN, at)
    health.beat(f"kafka:{GCN}", "gcn.heartbeat", at)
    received = at - (heard or timedelta())
    health(
        NoticeReport(
            feed="ourteam",
            source=f"kafka:{GCN}",
            topic="own.bursts",
            outcome="region",
            reason="",
            received=received,
            finished=received + timedelta(seconds=0.25),
            trigger_time=received - timedelta(seconds=42),
        )
    )
    health.save(at_once=True)
    return at


def put_feed(state: Path) -> None:
    (state / "feeds").mkdir(parents=True, exist_ok=True)
    (state / "feeds" / "ourteam.toml").write_text(FEED)


def stats(*arguments: str) -> Result:
    return runner.invoke(app, ["feeds", "stats", *arguments])


def stats_json(*arguments: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(stats("--json", *arguments).stdout)
    return record


def test_before_anything_was_heard(place: Path) -> None:
    result = stats()
    assert result.exit_code == 0, result.output
    assert "no listener has run" in result.output
    assert "fermi_gbm" in result.output
    assert stats("--alarms").exit_code == 0


def test_table(place: Path) -> None:
    put_feed(place)
    listened(place, timedelta(seconds=10))
    result = stats()
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("ourteam"))
    assert row.split()[1] == "ok"
    assert "42 s / 42 s" in row
    assert "0.25 s / 0.25 s" in row
    assert f"{GCN}: contact 10 s ago, with credentials" in result.output
    assert "the listener is stopped" in result.output
    assert "No alarm is in force" in result.output


def test_one_feed(place: Path) -> None:
    put_feed(place)
    listened(place, timedelta(seconds=10))
    result = stats("ourteam")
    assert "1 region" in result.output
    assert "24 h" in result.output
    assert "fermi_gbm" not in result.output
    (one,) = stats_json("ourteam")["feeds"]
    assert (one["feed"], one["outcomes"], one["heard"]) == ("ourteam", {"region": 1}, 1)
    assert one["latency_seconds"]["received_region"] == {"p50": 0.25, "p90": 0.25, "p99": 0.25}
    assert sum(one["last_14_days"]) == 1


def test_messages_that_were_released_leave_nothing_behind(place: Path) -> None:
    put_feed(place)
    at = listened(place, timedelta(seconds=10))
    snapshot = snapshot_path(place)
    table = json.loads(snapshot.read_text())
    table["feeds"]["ourteam"]["outcomes"]["held"] = 0
    snapshot.write_text(json.dumps(table))
    assert "0 held" not in stats("ourteam").output
    (one,) = stats_json("ourteam")["feeds"]
    assert one["outcomes"] == {"region": 1}
    assert one["usual_per_day"] is None
    assert "usual a day" not in stats("ourteam").output
    assert at.isoformat(timespec="milliseconds") == one["last_heard"]


def test_unknown_names_are_answered_with_near_ones(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feeds", "stats", "fermi_gmb"]) == 2
    said = capsys.readouterr().err
    assert "did you mean fermi_gbm" in said
    assert "svom" not in said


def test_json_has_everything(place: Path) -> None:
    put_feed(place)
    at = listened(place, timedelta(seconds=10))
    record = stats_json()
    assert record["written"] == at.isoformat(timespec="milliseconds")
    assert record["servers"][0]["server"] == GCN
    assert record["servers"][0]["idle_days"] == 0
    assert record["heartbeats"][0]["topic"] == "gcn.heartbeat"
    assert record["alarms"] == []
    assert {f["feed"]: f["state"] for f in record["feeds"]}["any_voevent"] == "off"


def test_silent_feed_is_an_alarm_for_cron(place: Path) -> None:
    put_feed(place)
    listened(place, timedelta(seconds=10), heard=timedelta(hours=25))
    result = stats("--alarms")
    assert result.exit_code == 1
    assert "feed_silent: ourteam is silent for 25.0 h; max_silence_hours is 24" in result.output
    assert stats().exit_code == 0
    assert [a["kind"] for a in stats_json("--alarms")["alarms"]] == ["feed_silent"]
    assert stats("--alarms", "fermi_gbm").exit_code == 0
    assert main(["feeds", "stats", "--alarms"]) == 1


def test_stopped_listener_makes_no_feed_silent(place: Path) -> None:
    put_feed(place)
    listened(place, timedelta(days=20))
    assert stats("--alarms").exit_code == 0
    assert "As of 20.0 d ago" in stats().output


def test_credentials_lapse_while_the_listener_is_down(place: Path) -> None:
    listened(place, timedelta(days=26))
    result = stats("--alarms")
    assert result.exit_code == 1
    assert f"credentials_idle: no contact with {GCN} for 26.0 d" in result.output


def test_broken_file_is_told(place: Path) -> None:
    (place / "feeds").mkdir(parents=True)
    (place / "feeds" / "bad.toml").write_text("name = 3")
    result = stats("--alarms")
    assert result.exit_code == 1
    assert "feed_broken" in result.output
    assert "bad.toml" in result.output


def test_feed_that_does_not_exist(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feeds", "stats", "nosuch"]) == 2
    assert "no feed is called 'nosuch'" in capsys.readouterr().err


def test_looking_changes_nothing(place: Path) -> None:
    put_feed(place)
    listened(place, timedelta(seconds=10))
    before = sorted(p.name for p in place.rglob("*"))
    stats()
    assert sorted(p.name for p in place.rglob("*")) == before


def test_help_has_examples() -> None:
    result = stats("--help")
    assert "mmgateway feeds stats --alarms" in result.output.replace("\n", " ")


def test_status_hints_at_alarms(place: Path) -> None:
    assert "alarms in force" not in runner.invoke(app, ["status"]).output
    (place / "feeds").mkdir(parents=True)
    alarms_path(place).write_text('{"in_force": [{"kind": "feed_silent"}]}')
    result = runner.invoke(app, ["status"])
    assert (result.exit_code, "alarms in force: 1" in result.output) == (0, True)
    assert json.loads(runner.invoke(app, ["status", "--json"]).stdout)


def test_maps_and_held_messages_are_counted() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    feed = Feed(name="a", title="a", mission="m", instrument="i", messenger="gw", format="json")
    health = Health(written=at.timestamp(), held={"a": 3}, waiting=[{"feed": "a"}, {"feed": "b"}])
    health.doors = {"a": "the folder of the feed a fails"}
    loaded = Loaded(Registry((feed,), {}), (Problem(Path("x.toml"), "bad", ""),))
    settings = Alarms(topic=True, command=(), webhook="", credentials_days=25.0)
    found = feed_stats(health, loaded, settings, at, "running")
    assert (found.feeds[0].held, found.feeds[0].waiting) == (3, 1)
    assert [a.key for a in found.alarms] == ["feed_broken/a", "feed_broken/x.toml"]


def test_waiting_maps_are_listed(place: Path) -> None:
    at = datetime.now(UTC)
    health = FeedHealth(snapshot_path(place), lambda: at)
    wanted = Wanted(
        url="https://x.example/a.fits",
        notice_offset=1,
        notice_sha256="a",
        event_id="S1a",
        feed="lvk",
        since=at.isoformat(),
    )
    waiting = Waiting(wanted=wanted, tries=2, next_try=at, last_reason="map_not_there")
    health.note_waiting([waiting])
    health.save()
    assert "map of S1a: 2 tries (map_not_there)" in stats().output
