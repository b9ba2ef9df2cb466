"""The feeds' own sources: opened, ended and tried again as the feed files say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from crossmatch.errors import ConfigError, ServiceError
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed, Transport
from gateway.listener import transports
from gateway.listener.sources import Arrival
from gateway.listener.transports import Persistent, Transports, with_environment
from gateway.runfiles import wait_until
from tests.gateway.memory import NOW, private_registry


def registry_with(transport: Transport, **facts: Any) -> Registry:
    base = private_registry()
    feeds = tuple(replace(f, transport=transport, **facts) if f.name == "own" else f
                  for f in base.feeds)  # fmt: skip
    return replace(base, feeds=feeds)


@dataclass
class Reactor:
    """Runs at once what other threads ask for."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: N802
        function(*arguments)


@dataclass
class Subscription:
    """A VTP subscription that is only noted."""

    host: str
    port: int
    feed: str
    events: list[str] = field(default_factory=list)
    connected: bool = False

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")


@dataclass
class Stage:
    """Transports with everything around them in memory."""

    made: list[Subscription] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def subscriber(self, host: str, port: int, feed: str) -> Subscription:
        self.made.append(Subscription(host, port, feed))
        return self.made[-1]

    def deliver(self, arrivals: Any, stored: Any = None, done: Any = None) -> None:
        self.arrivals.extend(arrivals)
        if done is not None:
            done(["region"] * len(arrivals))
        self.came.set()

    def transports(self, **options: Any) -> Transports:
        return Transports(
            self.deliver, lambda: NOW, 0.01, Reactor(), self.subscriber, environ={}, **options
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was logged."""
    said: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def __getattr__(self, level: str) -> Callable[..., None]:
            return lambda event, **facts: said.append((event, facts))

    monkeypatch.setattr(transports, "log", Log())
    return said


def test_variables_of_the_environment_stand_for_secrets() -> None:
    given = {"sasl.username": "me", "sasl.password": "$TEAM-${TEAM}-$$5"}
    assert with_environment(given, {"TEAM": "s"}, "f.toml") == {
        "sasl.username": "me",
        "sasl.password": "s-s-$5",
    }


def test_missing_variable_is_a_sentence_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"f\.toml.*NOWHERE is not set"):
        with_environment({"sasl.password": "$NOWHERE"}, {}, "f.toml")


def test_missing_variable_is_a_problem_of_that_feed_only(
    stage: Stage, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    transport = Transport(
        kafka="127.0.0.1:1", properties={"sasl.password": "$NOWHERE"}, vtp="127.0.0.1:8099"
    )
    running = stage.transports()
    running.open(registry_with(transport))
    assert list(running.broken()) == ["own"]
    assert "the environment variable NOWHERE is not set" in running.broken()["own"]
    running.close()
    assert running.broken() == {}
    told = [facts for event, facts in lines if event == "transport_unusable"]
    assert [(t["feed"], "NOWHERE is not set" in t["detail"]) for t in told] == [("own", True)]
    assert stage.made[0].events == ["start", "stop"]


def test_vtp_subscription_follows_the_feed_file(stage: Stage) -> None:
    running = stage.transports()
    first = registry_with(Transport(vtp="127.0.0.1:8099"))
    running.open(first)
    running.open(first)
    running.drop(first)
    assert [(s.host, s.port, s.feed, s.events) for s in stage.made] == [
        ("127.0.0.1", 8099, "own", ["start"])
    ]
    second = registry_with(Transport(vtp="127.0.0.1:8100"))
    running.drop(second)
    running.open(second)
    assert [(s.port, s.events) for s in stage.made] == [
        (8099, ["start", "stop"]),
        (8100, ["start"]),
    ]
    off = registry_with(Transport(vtp="127.0.0.1:8100"), enabled=False)
    running.drop(off)
    running.open(off)
    assert stage.made[-1].events == ["start", "stop"]
    assert len(stage.made) == 2


def test_connection_is_told(stage: Stage) -> None:
    said: list[tuple[str, str]] = []

    class Links:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda server, *rest, **facts: said.append((name, server))

    links: Any = Links()
    running = stage.transports(link=links)
    running.open(registry_with(Transport(vtp="127.0.0.1:8099")))
    running.tell(links)
    stage.made[0].connected = True
    running.tell(links)
    assert said == [(name, "127.0.0.1:8099") for name in ("opened", "lost", "contact")]


def test_paused_feed_is_still_heard(stage: Stage) -> None:
    running = stage.transports()
    running.open(registry_with(Transport(vtp="127.0.0.1:8099")))
    paused = replace(registry_with(Transport(vtp="127.0.0.1:8099")), paused=frozenset({"own"}))
    running.drop(paused)
    assert stage.made[0].events == ["start"]


def test_address_that_is_none_is_told(
    stage: Stage, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    running = stage.transports()
    running.open(registry_with(Transport(vtp="nowhere")))
    assert lines[0][0] == "transport_unusable"
    assert "'nowhere' is not host:port" in lines[0][1]["detail"]
    assert stage.made == []
    assert "'nowhere' is not host:port" in running.broken()["own"]
    mended = registry_with(Transport(vtp="127.0.0.1:8099"))
    running.drop(mended)
    running.open(mended)
    assert running.broken() == {}


def test_folder_that_cannot_be_watched_is_trouble(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "FIRST_PAUSE_SECONDS", 0.001)
    (tmp_path / "file").write_text("where the folder should be")
    running = stage.transports()
    running.open(registry_with(Transport(folder=str(tmp_path / "file"))))
    try:
        assert wait_until(running.broken, 10, 0.01)
        assert "cannot be watched" in running.broken()["own"]
    finally:
        running.close()


def test_folder_of_a_feed_brings_its_messages(stage: Stage, tmp_path: Path) -> None:
    running = stage.transports()
    running.open(registry_with(Transport(folder=str(tmp_path / "in"))))
    try:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / "a.json").write_bytes(b"{}")
        assert stage.came.wait(10)
    finally:
        running.close()
    assert [(a.raw, a.feed, a.source) for a in stage.arrivals] == [(b"{}", "own", "folder:a.json")]


def test_what_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    monkeypatch.setattr(transports, "FIRST_PAUSE_SECONDS", 0.001)
    tries: list[int] = []
    third = threading.Event()

    def run(over: threading.Event) -> None:
        tries.append(1)
        if len(tries) == 3:
            third.set()
            over.wait()
            return
        raise ServiceError("away")

    source = Persistent("own", "kafka", run)
    assert third.wait(10)
    source.end()
    source.join(10)
    pauses = [facts["again_in_seconds"] for event, facts in lines if event == "transport_failed"]
    assert pauses == [0.001, 0.002]


def test_pause_begins_anew_after_a_source_worked_for_long(
    monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    """Failures of a year must not add up; and trouble is over when it works again."""
    monkeypatch.setattr(transports, "FIRST_PAUSE_SECONDS", 0.001)
    clock = [0.0]
    tries: list[int] = []
    last = threading.Event()

    def run(over: threading.Event) -> None:
        tries.append(1)
        if len(tries) == 6:
            last.set()
            over.wait()
            return
        clock[0] += 61.0 if len(tries) == 5 else 0.5
        raise ServiceError("away")

    source = Persistent("own", "folder", run, lambda: clock[0])
    assert last.wait(10)
    pauses = [facts["again_in_seconds"] for event, facts in lines if event == "transport_failed"]
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.001]
    assert source.trouble == ""
    source.end()
    source.join(10)


def test_trouble_is_told_from_the_third_failure_until_it_has_worked_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    monkeypatch.setattr(transports, "FIRST_PAUSE_SECONDS", 0.001)
    clock = [0.0]
    said: list[str] = []
    there = threading.Event()
    last = threading.Event()

    def run(over: threading.Event) -> None:
        there.wait(10)
        said.append(source.trouble)
        if len(said) == 4:
            last.set()
            over.wait()
            return
        raise ServiceError("away")

    source = Persistent("own", "folder", run, lambda: clock[0])
    there.set()
    assert last.wait(10)
    assert said == ["", "", "", "the folder of the feed own fails: away"]
    clock[0] += 61.0
    assert source.trouble == ""
    source.end()
    source.join(10)


def test_feed_without_a_source_of_its_own_opens_nothing(stage: Stage) -> None:
    running = stage.transports()
    running.open(private_registry())
    assert stage.made == []


def test_feed_is_a_feed() -> None:
    """The private copy of the tests is used only where it is named."""
    own = private_registry().feed("own")
    assert isinstance(own, Feed)
    assert own.audience == ("ourteam",)
