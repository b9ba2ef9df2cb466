from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crossmatch.errors import ConfigError
from gateway.config import Alarms
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed, Transport
from gateway.listener.maps import Wanted
from gateway.reports import NoticeReport
from gateway.watch.alarms import (
    Alarm,
    Announcer,
    Watch,
    alarms_in_force,
    alarms_path,
    post_json,
    run_command,
)
from gateway.watch.health import FeedHealth, snapshot_path
from gateway.watch.records import Health

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GCN = "kafka.gcn.nasa.gov"


class Clock:
    def __init__(self) -> None:
        self.time = T0

    def __call__(self) -> datetime:
        return self.time


def settings(**changed: Any) -> Alarms:
    given: dict[str, Any] = {
        "topic": True,
        "command": (),
        "webhook": "",
        "credentials_days": 25.0,
    }
    return Alarms(**{**given, **changed})


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


def report(at: datetime, **changed: Any) -> NoticeReport:
    given: dict[str, Any] = {
        "feed": "gbm",
        "source": f"kafka:{GCN}",
        "topic": "t",
        "outcome": "region",
        "reason": "",
        "received": at,
        "finished": at,
    }
    return NoticeReport(**{**given, **changed})


def health_in(folder: Path) -> tuple[FeedHealth, Clock]:
    clock = Clock()
    health = FeedHealth(snapshot_path(folder), clock)
    health.opened(GCN, credentials=True)
    return health, clock


def keys(
    health: FeedHealth, clock: Clock, after: timedelta, feeds: Sequence[Feed] = ()
) -> list[str]:
    clock.time = T0 + after
    found = alarms_in_force(health.snapshot(), feeds, settings(), clock.time)
    return [a.key for a in found]


def test_nothing_known_nothing_wrong() -> None:
    assert alarms_in_force(Health(), [feed()], settings(), T0) == []


def test_silent_feed(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health(report(T0))
    one = [feed(max_silence_hours=2.0)]
    assert keys(health, clock, timedelta(hours=1.9), one) == []
    assert keys(health, clock, timedelta(hours=2.1), one) == ["feed_silent/gbm"]
    found = alarms_in_force(health.snapshot(), one, settings(), clock.time, {"gbm"})
    assert found == []
    (alarm,) = alarms_in_force(health.snapshot(), one, settings(), clock.time)
    assert alarm.since == T0
    assert alarm.sentence == "gbm is silent for 2.1 h; max_silence_hours is 2"


def test_missing_heartbeat(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.beat(f"kafka:{GCN}", "gcn.heartbeat", T0)
    assert keys(health, clock, timedelta(seconds=59)) == []
    missing = [f"heartbeat_missing/kafka:{GCN} gcn.heartbeat"]
    assert keys(health, clock, timedelta(seconds=61)) == missing
    health.beat(f"kafka:{GCN}", "gcn.heartbeat", clock.time)
    assert keys(health, clock, timedelta(seconds=62)) == []


@pytest.mark.parametrize(
    "changed", [{}, {"topics": ("own.beat",)}, {"transport": Transport(kafka=GCN)}]
)
def test_slow_heartbeat_of_a_feed(tmp_path: Path, changed: dict[str, Any]) -> None:
    health, clock = health_in(tmp_path)
    clock.time = T0 + timedelta(seconds=5)
    health.beat(f"kafka:{GCN}", "own.beat", clock.time, feed="" if changed else "own")
    one = [feed("own", heartbeat_seconds=100.0, **changed)]
    assert keys(health, clock, timedelta(seconds=504), one) == []
    assert keys(health, clock, timedelta(seconds=506), one) == ["heartbeat_missing/own"]
    health(report(clock.time, feed="own"))
    assert keys(health, clock, timedelta(seconds=507), one) == []


def test_heartbeat_that_never_came(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    one = [feed("own", heartbeat_seconds=1.0)]
    assert keys(health, clock, timedelta(seconds=170), one) == []
    assert keys(health, clock, timedelta(seconds=190), one) == ["heartbeat_missing/own"]
    assert (
        keys(health, clock, timedelta(days=9), [feed("own", heartbeat_seconds=1.0, enabled=False)])
        == []
    )
    found = alarms_in_force(health.snapshot(), one, settings(), clock.time, {"own"})
    assert found == []


def test_heartbeat_of_a_server_that_is_no_longer_asked(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.beat("kafka:old.example", "beat", T0)
    assert keys(health, clock, timedelta(hours=1)) == []


def test_new_start_has_time_to_hear_the_first_beat(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.beat(f"kafka:{GCN}", "gcn.heartbeat", T0)
    health.save()
    clock.time = T0 + timedelta(hours=5)
    again = FeedHealth(snapshot_path(tmp_path), clock)
    again.opened(GCN, credentials=True)
    assert keys(again, clock, timedelta(hours=5, seconds=170)) == []
    assert len(keys(again, clock, timedelta(hours=5, seconds=190))) == 1


def test_credentials_lapse_even_when_nobody_listens(tmp_path: Path) -> None:
    health, _ = health_in(tmp_path)
    health.contact(GCN, T0)
    snapshot = health.snapshot()
    for days, expected in ((24.9, []), (25.1, [f"credentials_idle/{GCN}"])):
        found = alarms_in_force(snapshot, [], settings(), T0 + timedelta(days=days))
        assert [a.key for a in found] == expected
    assert "disabled" in found[0].sentence
    assert found[0].data == {"idle_days": 25.1}


def test_servers_without_credentials_may_be_idle(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.opened(GCN, credentials=False)
    health.contact(GCN, T0)
    assert keys(health, clock, timedelta(days=300)) == []


def test_server_that_is_away(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.lost(GCN, "connection refused", T0)
    assert keys(health, clock, timedelta(minutes=4)) == []
    assert keys(health, clock, timedelta(minutes=6)) == [f"source_away/{GCN}"]
    health.contact(GCN, clock.time)
    assert keys(health, clock, timedelta(minutes=7)) == []


def test_broken_files(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    health.note_broken({"own.toml": "own.toml: containment: 3 is not inside (0, 1)"})
    assert keys(health, clock, timedelta()) == ["feed_broken/own.toml"]
    doors = {"own.toml": "no such folder", "team": "team.toml: TEAM is not set"}
    health.note_broken({"own.toml": "a word is missing"}, doors)
    assert keys(health, clock, timedelta()) == ["feed_broken/own.toml", "feed_broken/team"]
    health.note_broken({})
    assert keys(health, clock, timedelta()) == []


def test_map_that_was_given_up_is_told_for_a_day(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    wanted = Wanted(
        url="https://x.example/a.fits",
        notice_offset=1,
        notice_sha256="a",
        event_id="S1a",
        feed="lvk",
        since=T0.isoformat(),
    )
    health.map_given_up(wanted, "map_not_there", T0)
    assert keys(health, clock, timedelta(hours=23)) == ["map_given_up/S1a"]
    assert keys(health, clock, timedelta(hours=25)) == []
    clock.time = T0
    health.map_came(wanted)
    assert keys(health, clock, timedelta()) == []


def test_messages_that_no_feed_understands(tmp_path: Path) -> None:
    health, clock = health_in(tmp_path)
    unknown = {"feed": "", "outcome": "rejected", "reason": "no_feed", "topic": "new.topic"}
    health(report(T0, **unknown))
    health(report(T0 + timedelta(hours=20), **unknown))
    health(report(T0, feed="", outcome="rejected", reason="broken_xml"))
    assert keys(health, clock, timedelta(hours=40)) == ["unknown_messages/new.topic"]
    (alarm,) = alarms_in_force(health.snapshot(), [], settings(), clock.time)
    assert alarm.sentence.startswith("2 messages by new.topic")
    assert keys(health, clock, timedelta(hours=45)) == []


ALARM = Alarm(kind="feed_silent", subject="gbm", sentence="gbm is silent", since=T0)
OTHER = Alarm(kind="source_away", subject=GCN, sentence="away", since=T0, data={"a": 1})


class Told:
    """An announcer whose ways out end here."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.topic: list[tuple[str, dict[str, Any]]] = []
        self.commands: list[tuple[Sequence[str], dict[str, Any]]] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.fail: Exception | None = None
        self.announcer = Announcer(
            settings(**changed),
            alarms_path(folder),
            now=lambda: T0,
            produce=self.produce,
            run=self.run,
            post=self.post,
        )

    def produce(self, key: bytes, value: bytes) -> None:
        self.topic.append((key.decode(), json.loads(value)))

    def run(self, command: Sequence[str], value: bytes) -> int:
        self.commands.append((command, json.loads(value)))
        if self.fail is not None:
            raise self.fail
        return 3

    def post(self, address: str, value: bytes) -> None:
        self.posts.append((address, json.loads(value)))
        if self.fail is not None:
            raise self.fail

    def deliver(self) -> None:
        """Let the thread send everything."""
        self.announcer.start()
        self.announcer.stop()


def test_alarm_is_told_once_and_once_more_when_it_is_over(tmp_path: Path) -> None:
    told = Told(tmp_path)
    assert told.announcer.announce([ALARM]) == [("begun", ALARM)]
    assert told.announcer.announce([ALARM]) == []
    assert told.announcer.announce([ALARM, OTHER]) == [("begun", OTHER)]
    assert told.announcer.announce([OTHER]) == [("over", ALARM)]
    told.deliver()
    assert [(key, m["phase"]) for key, m in told.topic] == [
        ("feed_silent/gbm", "begun"),
        (f"source_away/{GCN}", "begun"),
        ("feed_silent/gbm", "over"),
    ]
    assert told.topic[1][1] == {
        "phase": "begun",
        "at": T0.isoformat(),
        "kind": "source_away",
        "subject": GCN,
        "sentence": "away",
        "since": T0.isoformat(),
        "data": {"a": 1},
    }


def test_new_start_does_not_repeat(tmp_path: Path) -> None:
    Told(tmp_path).announcer.announce([ALARM])
    again = Told(tmp_path)
    assert again.announcer.told == [ALARM]
    later = Alarm(kind="feed_silent", subject="gbm", sentence="longer", since=T0)
    assert again.announcer.announce([later]) == []
    assert again.announcer.announce([]) == [("over", ALARM)]
    assert Told(tmp_path).announcer.told == []


@pytest.mark.parametrize("text", ["", "{", '{"in_force": [1]}', '{"in_force": [{"since": 5}]}'])
def test_damaged_memory_tells_again(tmp_path: Path, text: str) -> None:
    path = alarms_path(tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    assert Told(tmp_path).announcer.announce([ALARM]) == [("begun", ALARM)]


def test_all_ways_out(tmp_path: Path) -> None:
    told = Told(tmp_path, command=("tell", "me"), webhook="https://hook.example/secret")
    told.announcer.announce([ALARM])
    told.deliver()
    assert len(told.topic) == 1
    assert [(c, m["subject"]) for c, m in told.commands] == [(("tell", "me"), "gbm")]
    assert [(a, m["subject"]) for a, m in told.posts] == [("https://hook.example/secret", "gbm")]


def test_topic_can_be_switched_off(tmp_path: Path) -> None:
    told = Told(tmp_path, topic=False)
    told.announcer.announce([ALARM])
    told.deliver()
    assert told.topic == []


def test_failures_are_logged_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, propagated: None
) -> None:
    hook = "https://hook.example/secret"
    told = Told(tmp_path, command=("tell",), webhook=hook)
    told.fail = OSError(f"cannot reach {hook}")
    told.announcer.announce([ALARM, OTHER])
    told.deliver()
    lines = [m for m in caplog.messages if "alarm_not_sent" in m]
    assert {way for way in ("command", "webhook") if any(f"to={way}" in m for m in lines)} == {
        "command",
        "webhook",
    }
    assert "secret" not in caplog.text
    assert len(told.topic) == 2


@pytest.fixture
def propagated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have switched on our own handler."""
    import logging

    monkeypatch.setattr(logging.getLogger("mmgateway"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("mmgateway"), "level", logging.INFO)


def test_webhook_is_tried_again(tmp_path: Path) -> None:
    told = Told(tmp_path, webhook="https://hook.example/x")
    waits: list[float] = []

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    told.announcer._over = Over()
    told.fail = OSError("no route")
    told.announcer.send("k", b"{}")
    assert (len(told.posts), waits) == (4, [1.0, 5.0, 30.0])


def test_too_many_wait_and_nobody_is_blocked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, propagated: None
) -> None:
    told = Told(tmp_path)
    many = [Alarm(kind="feed_silent", subject=str(n), sentence="s", since=T0) for n in range(150)]
    assert len(told.announcer.announce(many)) == 150
    assert sum("alarm_not_sent" in m for m in caplog.messages) == 50
    told.deliver()
    assert len(told.topic) == 100


def test_webhook_must_be_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="webhook"):
        Told(tmp_path, webhook="file:///etc/passwd")


def test_command_gets_json_and_its_status_is_known(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read()); sys.exit(7)"
    )
    assert run_command([sys.executable, "-c", script, str(out)], b'{"a": 1}') == 7
    assert out.read_text() == '{"a": 1}'
    with pytest.raises(OSError, match="no-such"):
        run_command([str(tmp_path / "no-such")], b"")


def _server(status: int, got: list[tuple[str, bytes]]) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Content-Type"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return http.server.HTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize("status", [204, 500])
def test_post(status: int) -> None:
    got: list[tuple[str, bytes]] = []
    with _server(status, got) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/x"
        if status == 204:
            post_json(address, b"{}")
        else:
            with pytest.raises(OSError, match="HTTP status 500"):
                post_json(address, b"{}")
        thread.join()
    assert got == [("application/json", b"{}")]


def watch_of(
    folder: Path, refresh: Callable[[], None] = lambda: None
) -> tuple[Watch, FeedHealth, Clock, Told]:
    health, clock = health_in(folder)
    told = Told(folder)
    registry = Registry((feed(max_silence_hours=2.0),), {})
    watch = Watch(health, lambda: registry, settings(), told.announcer, clock, refresh)
    return watch, health, clock, told


def test_watch_tells_and_writes(tmp_path: Path) -> None:
    looks: list[int] = []
    watch, health, clock, _ = watch_of(tmp_path, lambda: looks.append(1))
    health(report(T0))
    assert watch.step(T0) == []
    clock.time = T0 + timedelta(hours=3)
    assert [(p, a.key) for p, a in watch.step(clock.time)] == [("begun", "feed_silent/gbm")]
    assert watch.step(clock.time) == []
    health(report(clock.time))
    assert [(p, a.key) for p, a in watch.step(clock.time)] == [("over", "feed_silent/gbm")]
    assert len(looks) == 4
    assert snapshot_path(tmp_path).is_file()


def test_alarm_goes_on_through_a_restart(tmp_path: Path) -> None:
    watch, health, clock, _ = watch_of(tmp_path)
    health(report(T0))
    clock.time = T0 + timedelta(hours=3)
    watch.step(clock.time)
    watch.stop()
    clock.time += timedelta(hours=1)
    again = FeedHealth(snapshot_path(tmp_path), clock)
    told = Told(tmp_path)
    registry = Registry((feed(max_silence_hours=2.0),), {})
    second = Watch(again, lambda: registry, settings(), told.announcer, clock)
    assert second.step(clock.time) == []
    assert [a.key for a in told.announcer.told] == ["feed_silent/gbm"]


def test_disk_that_is_full_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, propagated: None
) -> None:
    watch, _, _, _ = watch_of(tmp_path)
    (tmp_path / "feeds").write_text("a file where the folder should be")
    assert watch.step(T0) == []
    assert any("watch_failed" in m for m in caplog.messages)


def test_watch_runs_by_itself_and_tells_what_ends_it(tmp_path: Path) -> None:
    ended = threading.Event()
    told: list[Exception] = []

    def refresh() -> None:
        raise RuntimeError("a fault of ours")

    def failed(error: Exception) -> None:
        told.append(error)
        ended.set()

    watch, _, _, _ = watch_of(tmp_path, refresh)
    watch.start(0.01, failed)
    assert ended.wait(5)
    watch.stop()
    assert [str(e) for e in told] == ["a fault of ours"]
