from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.feeds.spec import Feed
from gateway.listener.maps import Waiting, Wanted
from gateway.reports import NoticeReport
from gateway.watch.health import FeedHealth, read_health, snapshot_path
from gateway.watch.records import FeedRecord, Health, health_from_json, percentile
from gateway.watch.verdicts import (
    FeedVerdict,
    age,
    heard_until,
    silent_after,
    usual_per_day,
    verdicts,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86400.0


class Clock:
    def __init__(self, time: datetime = T0) -> None:
        self.time = time

    def __call__(self) -> datetime:
        return self.time


def report(at: datetime, **changed: Any) -> NoticeReport:
    given: dict[str, Any] = {
        "feed": "gbm",
        "source": "kafka:gcn",
        "topic": "t",
        "outcome": "region",
        "reason": "",
        "received": at,
        "finished": at + timedelta(seconds=0.5),
    }
    return NoticeReport(**{**given, **changed})


def feed(name: str = "gbm", **changed: Any) -> Feed:
    given: dict[str, Any] = {
        "name": name,
        "title": name,
        "mission": "M",
        "instrument": "I",
        "messenger": "grb",
        "format": "json",
    }
    return Feed(**{**given, **changed})


def heard_at(path: Path, days: Any, **changed: Any) -> FeedHealth:
    """Health of a feed that was heard at these days after T0, and listened to ever since T0."""
    clock = Clock()
    health = FeedHealth(path, clock)
    for day in days:
        clock.time = T0 + timedelta(days=float(day))
        health(report(clock.time, **changed))
    return health


def verdict(health: FeedHealth, day: float, **changed: Any) -> FeedVerdict:
    now = T0 + timedelta(days=day)
    snapshot = health.snapshot()
    snapshot.written = now.timestamp()
    return verdicts(snapshot, [feed(**changed)], now)[0]


def path_in(folder: Path) -> Path:
    return snapshot_path(folder)


def test_counts_by_outcome_and_time(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    health(report(T0))
    health(report(T0 + timedelta(hours=2), outcome="duplicate"))
    health(report(T0 + timedelta(hours=30), outcome="rejected", reason="broken_xml"))
    record = health.snapshot().feeds["gbm"]
    assert record.outcomes == {"region": 1, "duplicate": 1, "rejected": 1}
    assert (record.heard, record.first, record.last) == (
        3,
        T0.timestamp(),
        (T0 + timedelta(hours=30)).timestamp(),
    )
    assert record.last_region == T0.timestamp() + 0.5
    assert record.recent((T0 + timedelta(hours=30)).timestamp()) == 1
    assert record.recent((T0 + timedelta(hours=30)).timestamp(), hours=31) == 3


def test_history_is_bounded(tmp_path: Path) -> None:
    record = heard_at(path_in(tmp_path), range(0, 500)).snapshot().feeds["gbm"]
    assert len(record.hours) == 14
    assert len(record.days) == len(record.slots) == 400
    assert len(record.gaps) == 200
    assert {len(v) for v in record.latencies.values()} == {0, 300}


def test_latencies(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    for n in range(1, 101):
        at = T0 + timedelta(seconds=n)
        health(
            report(
                at,
                trigger_time=at - timedelta(seconds=10 * n),
                issued=at - timedelta(seconds=n),
                finished=at + timedelta(milliseconds=n),
            )
        )
    found = health.snapshot().feeds["gbm"].latencies
    assert [percentile(found["event_received"], q) for q in (0.5, 0.9, 0.99)] == [500, 900, 990]
    assert percentile(found["issued_received"], 0.5) == 50
    assert percentile(found["received_region"], 0.99) == 0.099


def test_archives_and_copies_have_no_latency(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    health(report(T0, trigger_time=T0 - timedelta(days=3000), outcome="no_position"))
    health(report(T0, trigger_time=T0 - timedelta(seconds=9), outcome="duplicate"))
    assert not any(health.snapshot().feeds["gbm"].latencies.values())


def test_snapshot_survives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    path = path_in(tmp_path)
    health = FeedHealth(path, clock)
    health.opened("gcn", credentials=True)
    health(report(T0, trigger_time=T0 - timedelta(seconds=9)))
    health(report(T0, feed="", outcome="rejected", reason="no_feed", topic="new.topic"))
    health.beat("kafka:gcn", "gcn.heartbeat", T0)
    health.note_held({"a": 3, "b": 0})
    health.map_given_up(wanted(), "map_not_there", T0)
    assert health.save()
    before = read_health(path)
    clock.time += timedelta(days=2)
    after = FeedHealth(path, clock).snapshot()
    assert before is not None
    assert (after.feeds, after.servers, after.beats) == (before.feeds, before.servers, before.beats)
    assert (after.held, after.unknown) == ({"a": 3}, before.unknown)
    assert after.maps_given_up == before.maps_given_up
    assert after.outages == [(T0.timestamp(), clock.time.timestamp())]
    assert after.listened(T0.timestamp() - 5, clock.time.timestamp()) == 5


def test_snapshot_is_written_every_few_seconds_at_most(tmp_path: Path) -> None:
    clock = Clock()
    health = FeedHealth(path_in(tmp_path), clock)
    assert health.save()
    clock.time += timedelta(seconds=4)
    assert not health.save()
    assert health.save(at_once=True)
    clock.time += timedelta(seconds=5)
    assert health.save()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"feeds": {"a": {"x": 1}}}', '{"feeds": 5}'])
def test_damaged_snapshot_is_begun_anew(tmp_path: Path, text: str) -> None:
    path = path_in(tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    assert read_health(path) is None
    assert FeedHealth(path, Clock()).snapshot().feeds == {}


def test_snapshot_of_a_later_version_can_be_read() -> None:
    record = {**Health().as_json(), "new_key": 1}
    assert health_from_json(json.loads(json.dumps(record))) == Health()


def wanted(**changed: Any) -> Wanted:
    given: dict[str, Any] = {
        "url": "https://x.example/a.fits",
        "notice_offset": 1,
        "notice_sha256": "a",
        "event_id": "S1a",
        "feed": "lvk",
        "since": T0.isoformat(),
    }
    return Wanted(**{**given, **changed})


def test_servers_and_what_becomes_of_them(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    health.opened("gcn", credentials=True)
    health.contact("nobody", T0)
    health.lost("gcn", "connection refused", T0)
    health.lost("gcn", "timed out", T0 + timedelta(minutes=1))
    server = health.snapshot().servers["gcn"]
    assert (server.lost_since, server.detail) == (T0.timestamp(), "timed out")
    health(report(T0 + timedelta(minutes=2)))
    server = health.snapshot().servers["gcn"]
    assert (server.lost_since, server.detail) == (None, "")
    assert server.last == (T0 + timedelta(minutes=2)).timestamp()
    assert list(health.snapshot().servers) == ["gcn"]


def test_map_that_came_later_is_no_message(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    health(report(T0, outcome="no_position", trigger_time=T0 - timedelta(seconds=5)))
    later = T0 + timedelta(hours=2)
    health(report(later, source="map:gracedb.ligo.org", trigger_time=T0))
    record = health.snapshot().feeds["gbm"]
    assert (record.heard, record.last) == (1, T0.timestamp())
    assert record.last_region == later.timestamp() + 0.5
    assert list(record.latencies["event_received"]) == [5.0]


def test_held_messages_count_once(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    times = [T0 + timedelta(minutes=n) for n in range(3)]
    for at in times:
        health(report(at, outcome="held", reason="paused"))
    for at in times[:2]:
        health(report(at, finished=T0 + timedelta(days=1)))
    record = health.snapshot().feeds["gbm"]
    assert (record.outcomes, record.heard) == ({"held": 1, "region": 2}, 3)
    assert not record.latencies["received_region"]
    health(report(times[2], finished=T0 + timedelta(days=1)))
    health(report(T0 + timedelta(days=1)))
    assert health.snapshot().feeds["gbm"].outcomes == {"held": 0, "region": 4}


def test_heartbeats_are_no_messages_of_a_feed(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    beat = {"outcome": "ignored", "reason": "heartbeat", "topic": "gcn.heartbeat"}
    health(report(T0, feed="", **beat))
    snapshot = health.snapshot()
    assert snapshot.feeds == {}
    assert list(snapshot.beats) == ["kafka:gcn gcn.heartbeat"]


def test_maps_that_wait(tmp_path: Path) -> None:
    health = FeedHealth(path_in(tmp_path), Clock())
    health.note_waiting([Waiting(wanted=wanted(), tries=2, next_try=T0)])
    (row,) = health.snapshot().waiting
    assert (row["event_id"], row["url"], row["tries"]) == ("S1a", "https://x.example/a.fits", 2)


def test_nothing_is_usual_before_there_is_a_verdict(tmp_path: Path) -> None:
    """Two messages in a second are not a hundred thousand a day."""
    health = heard_at(path_in(tmp_path), [0, 0.2 / DAY])
    for changed in ({}, {"max_silence_hours": 1.0}):
        assert verdict(health, 1, **changed).usual_per_day is None
    assert verdict(health, 1, max_silence_hours=1.0).state == "silent"


def test_regular_feed_that_stops_is_silent(tmp_path: Path) -> None:
    """Two arrivals a day: by Poisson silent after ln(1000)/2 = 3.5 days."""
    health = heard_at(path_in(tmp_path), np.arange(0, 20, 0.5))
    assert verdict(health, 19.6).state == "ok"
    assert verdict(health, 21).usual_per_day == 2
    assert verdict(health, 19.5 + 2.2).state == "ok"
    assert verdict(health, 19.5 + 2.4).state == "quiet"
    assert verdict(health, 19.5 + 3.4).state == "quiet"
    found = verdict(health, 19.5 + 3.5)
    assert found.state == "silent"
    assert found.silent_after_hours == pytest.approx(np.log(1000) / 2 * 24)
    assert "silent for 3.5 d" in found.sentence


def test_copies_do_not_make_a_feed_look_busy(tmp_path: Path) -> None:
    days = np.repeat(np.arange(0.0, 20), 100) + np.tile(np.arange(100) / DAY, 20)
    health = heard_at(path_in(tmp_path), days)
    found = verdict(health, 24)
    assert (found.state, found.usual_per_day) == ("quiet", 100)
    assert found.silent_after_hours == pytest.approx(np.log(1000) * 24, rel=0.02)


def test_fast_feed_is_told_within_hours(tmp_path: Path) -> None:
    health = heard_at(path_in(tmp_path), np.arange(0, 4, 1 / 1440))
    found = verdict(health, 4.0)
    assert found.silent_after_hours == pytest.approx(np.log(1000) / 144 * 24, rel=0.01)
    assert verdict(health, 4.0 + 1.3 / 24).state == "silent"


def test_clusters_need_a_longer_silence(tmp_path: Path) -> None:
    """Ten arrivals on every fifth day: two a day by rate, but it is used to pausing."""
    days = [5 * n + k / 24 for n in range(12) for k in range(10)]
    health = heard_at(path_in(tmp_path), days)
    last = days[-1]
    assert verdict(health, last + 5).state != "silent"
    found = verdict(health, last + 8)
    assert found.state == "silent"
    assert found.silent_after_hours == pytest.approx(1.5 * (5 * 24 - 9))


def test_one_outage_does_not_become_usual(tmp_path: Path) -> None:
    days = [*np.arange(0, 10, 0.25), *np.arange(30, 40, 0.25)]
    found = verdict(heard_at(path_in(tmp_path), days), 40)
    assert found.silent_after_hours == pytest.approx(np.log(1000) / 4 * 24, rel=0.01)


def test_while_nobody_listened_no_feed_was_silent(tmp_path: Path) -> None:
    path = path_in(tmp_path)
    health = heard_at(path, np.arange(0, 20, 0.5))
    health.save(at_once=True)
    clock = Clock(T0 + timedelta(days=40))
    again = FeedHealth(path, clock)
    assert verdict(again, 41).state == "ok"
    assert verdict(again, 44).state == "silent"


def test_old_snapshot_says_how_it_was_then(tmp_path: Path) -> None:
    snapshot = heard_at(path_in(tmp_path), np.arange(0, 20, 0.5)).snapshot()
    assert verdicts(snapshot, [feed()], T0 + timedelta(days=100))[0].state == "ok"
    assert snapshot.written is not None
    assert heard_until(snapshot, snapshot.written + 100) == snapshot.written + 100
    assert heard_until(snapshot, snapshot.written + 1000) == snapshot.written


@pytest.mark.parametrize("days", [[0.0], [0.0, 3.0, 9.0], list(np.arange(0, 0.5, 0.01))])
def test_too_few_to_judge(tmp_path: Path, days: list[float]) -> None:
    found = verdict(heard_at(path_in(tmp_path), days), 300)
    assert (found.state, found.silent_after_hours) == ("ok", None)
    assert "too few" in found.sentence


def test_rare_feed_is_not_judged_by_an_absurd_threshold(tmp_path: Path) -> None:
    found = verdict(heard_at(path_in(tmp_path), np.arange(0, 380, 20)), 1000)
    assert (found.state, found.silent_after_hours) == ("ok", None)


def test_operator_knows_better_than_the_past(tmp_path: Path) -> None:
    health = heard_at(path_in(tmp_path), np.arange(0, 20, 0.5))
    assert verdict(health, 19.6, max_silence_hours=2.0).state == "silent"
    assert verdict(health, 25.0, max_silence_hours=200.0).state != "silent"
    rare = heard_at(path_in(tmp_path / "rare"), [0.0])
    assert verdict(rare, 1.1, max_silence_hours=24.0).state == "silent"


def test_feed_that_was_never_heard(tmp_path: Path) -> None:
    health = heard_at(path_in(tmp_path), [])
    assert verdict(health, 400).state == "never_heard"
    assert verdict(health, 0.9, max_silence_hours=24.0).state == "never_heard"
    assert verdict(health, 1.1, max_silence_hours=24.0).state == "silent"


def test_paused_and_switched_off_feeds_may_be_silent(tmp_path: Path) -> None:
    health = heard_at(path_in(tmp_path), np.arange(0, 20, 0.5))
    health.note_held({"gbm": 3})
    snapshot = health.snapshot()
    now = T0 + timedelta(days=60)
    (paused,) = verdicts(snapshot, [feed()], now, {"gbm"})
    assert (paused.state, paused.sentence[:9]) == ("paused", "paused; 3")
    assert verdicts(snapshot, [feed(enabled=False)], now)[0].state == "off"


@pytest.mark.parametrize("rate", [0.5, 2.0, 30.0, 300.0])
def test_random_feeds_are_seldom_called_silent(tmp_path: Path, rate: float) -> None:
    """Over 200 days of Poisson arrivals a gap beyond the limit comes by chance, not often."""
    rng = np.random.default_rng(int(rate * 10))
    days = np.cumsum(rng.exponential(1 / rate, int(200 * rate)))
    health = FeedHealth(path_in(tmp_path), Clock())
    alarms = 0
    record = FeedRecord()
    for number, day in enumerate(days):
        at = T0.timestamp() + day * DAY
        if record.last is not None and (number % max(1, int(rate)) == 0 or at - record.last > DAY):
            limit = silent_after(health.snapshot(), record)
            alarms += limit is not None and at - record.last > limit
        record.hear(at, "region", None if record.last is None else at - record.last)
    assert alarms <= 2


def test_usual_rate_is_the_median_of_whole_days(tmp_path: Path) -> None:
    days = [d + k / 48 for d in range(15) for k in range(2 if d != 7 else 40)]
    snapshot = heard_at(path_in(tmp_path), days).snapshot()
    record = snapshot.feeds["gbm"]
    assert usual_per_day(snapshot, record) == 2


def test_usual_rate_of_a_rare_feed_is_the_mean(tmp_path: Path) -> None:
    snapshot = heard_at(path_in(tmp_path), np.arange(0, 61, 5)).snapshot()
    record = snapshot.feeds["gbm"]
    assert usual_per_day(snapshot, record) == pytest.approx(0.2)


def test_ages() -> None:
    assert [age(s) for s in (0, 119, 120, 3599, 3600, DAY, 2 * DAY)] == [
        "0 s",
        "119 s",
        "2.0 min",
        "60.0 min",
        "1.0 h",
        "24.0 h",
        "2.0 d",
    ]
