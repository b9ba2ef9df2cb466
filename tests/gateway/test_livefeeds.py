"""Feeds that change while the listener runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from crossmatch.errors import ConfigError, ServiceError
from gateway.feeds.registry import Registry
from gateway.feeds.store import FeedStore, Loaded, Problem
from gateway.listener import livefeeds
from gateway.listener.livefeeds import LiveFeeds, streams_of
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.worker import Worker
from tests.gateway.memory import NOW, REGISTRY, Direct, MemorySink, arrival, gbm, private_registry
from tests.gateway.test_pipeline import pipeline_of

PAUSED = replace(REGISTRY, paused=frozenset({"fermi_gbm"}))


@dataclass
class Store:
    """Feed files in memory."""

    loaded: Loaded
    looks: int = 0
    new: Loaded | None = None

    def why_paused(self, name: str) -> None:
        """Nothing: only people pause these."""

    def changed(self) -> bool:
        return self.new is not None

    def load(self) -> Loaded:
        assert self.new is not None
        self.loaded, self.new = self.new, None
        return self.loaded


@dataclass
class Sources:
    """Sources that only note what they are told."""

    events: list[tuple[str, Registry]] = field(default_factory=list)
    away: str = ""

    def prepare(self, registry: Registry) -> None:
        self._note("prepare", registry)

    def follow(self, registry: Registry) -> None:
        self._note("follow", registry)

    def _note(self, name: str, registry: Registry) -> None:
        if name == self.away:
            raise ServiceError("Kafka is away")
        self.events.append((name, registry))


@dataclass
class Stage:
    """A pipeline with feeds that the tests change."""

    sink: MemorySink
    direct: Direct
    pipeline: NoticePipeline
    store: Store
    feeds: LiveFeeds
    worker: Worker
    sources: Sources = field(default_factory=Sources)

    def change(self, registry: Registry, *problems: Problem) -> bool:
        self.store.new = Loaded(registry, problems)
        return self.feeds.look(self.worker, self.sources)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    sink, direct = MemorySink(), Direct(PAUSED)
    pipeline = pipeline_of(sink, tmp_path, direct=direct)
    store: Any = Store(Loaded(PAUSED))
    feeds = LiveFeeds(store, store.loaded, direct, pipeline, sink.held)
    worker = Worker(pipeline, lambda error: None)
    worker.start()
    yield Stage(sink, direct, pipeline, store, feeds, worker)
    worker.stop()


def test_nothing_changed_nothing_done(stage: Stage) -> None:
    assert stage.feeds.look(stage.worker, stage.sources) is False
    assert stage.sources.events == []


def test_held_messages_are_released_when_the_feed_is_on_again(stage: Stage) -> None:
    stage.worker.deliver([arrival(gbm(1, 10))])
    assert stage.change(REGISTRY)
    assert [r["version"] for r in stage.sink.regions()] == [1]
    assert stage.direct.registry is REGISTRY
    assert [name for name, _ in stage.sources.events] == ["prepare", "follow"]


def test_held_messages_of_a_feed_that_is_off_or_gone_go_on_waiting(stage: Stage) -> None:
    stage.worker.deliver([arrival(gbm(1, 10))])
    off = tuple(replace(f, enabled=f.name != "fermi_gbm") for f in REGISTRY.feeds)
    assert stage.change(replace(REGISTRY, feeds=off))
    gone = tuple(f for f in REGISTRY.feeds if f.name != "fermi_gbm")
    assert stage.change(replace(REGISTRY, feeds=gone))
    assert stage.pipeline.held["fermi_gbm"].waiting == 1
    assert stage.change(REGISTRY)
    assert stage.pipeline.held["fermi_gbm"].waiting == 0


def test_released_at_the_start_when_the_feed_was_enabled_meanwhile(
    stage: Stage, tmp_path: Path
) -> None:
    stage.worker.deliver([arrival(gbm(1, 10))])
    stage.worker.stop()
    pipeline = pipeline_of(stage.sink, tmp_path, direct=Direct())
    store: Any = Store(Loaded(REGISTRY))
    assert LiveFeeds(store, store.loaded, Direct(), pipeline, stage.sink.held).release() == 1
    assert pipeline.totals["released"] == 1


def test_private_streams_are_those_of_the_feeds_in_force(stage: Stage) -> None:
    assert streams_of(stage.feeds.registry) == ()
    stage.change(private_registry())
    assert stage.feeds.audience("own") == ("ourteam",)
    assert streams_of(stage.feeds.registry) == ("ourteam",)


def test_repeat_is_read_anew_with_other_feeds(stage: Stage) -> None:
    """What was everybody's may be private now: the quick memory of repeats must not answer."""
    stage.change(REGISTRY)
    stage.worker.deliver([arrival(gbm(1, 10))])
    feeds = tuple(
        replace(f, streams=("ourteam",)) if f.name == "fermi_gbm" else f for f in REGISTRY.feeds
    )
    stage.change(replace(REGISTRY, feeds=feeds))
    stage.worker.deliver([arrival(gbm(1, 10))])
    stage.worker.stop()
    assert [r["streams"] for r in stage.sink.regions()] == [[], ["ourteam"]]


def test_parser_that_cannot_be_used_leaves_the_old_feeds_in_force(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(registry: Registry) -> None:
        raise ConfigError("a parser must be a function")

    monkeypatch.setattr(stage.direct, "replace", refuse)
    assert stage.change(REGISTRY) is False
    assert stage.feeds.registry is PAUSED
    # What was closed for the new feeds is opened again for the old ones.
    assert stage.sources.events == [("prepare", REGISTRY), ("follow", PAUSED)]
    assert "a parser must be a function" in stage.feeds.broken["feeds"]
    assert stage.feeds.look(stage.worker, stage.sources) is False
    assert len(stage.sources.events) == 2
    stage.worker.deliver([arrival(gbm(1, 10))])
    stage.worker.stop()
    assert stage.sink.batches[-1].outcomes == ["held"]


def test_problem_is_told_once_and_again_after_it_was_mended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Log:
        def __getattr__(self, level: str) -> Any:
            return lambda event, **facts: event == "feed_broken" and told.append(facts["detail"])

    monkeypatch.setattr(livefeeds, "log", Log())
    problem = Problem(Path("a.toml"), "a.toml: no such key", "a")
    for problems in ((problem,), (problem,), (), (problem,)):
        stage.change(REGISTRY, *problems)
    assert told == ["a.toml: no such key"] * 2
    assert stage.feeds.broken == {"a": "a.toml: no such key"}


def test_door_says_who_may_see_what_comes_by_it(stage: Stage) -> None:
    """Also when the file of the feed is gone, or asks for nothing private any more."""
    stage.change(private_registry())
    by_topic, by_feed = arrival(b"x", topic="own.topic"), arrival(b"x", topic="t", feed="own")
    assert [stage.feeds.heard(a).streams for a in (by_topic, by_feed)] == [("ourteam",)] * 2
    assert stage.feeds.heard(arrival(b"x", topic="t")).streams == ()
    assert stage.feeds.heard(arrival(b"x", topic="own.topic", feed="fermi_gbm")).streams == ()
    kept = stage.feeds.heard(arrival(b"x", topic="own.topic", streams=("other",)))
    assert kept.streams == ("other", "ourteam")
    gone = {"own": ("ourteam",)}
    stage.change(replace(REGISTRY, private_feeds=gone))
    assert stage.feeds.heard(by_feed).streams == ("ourteam",)


@pytest.mark.parametrize(
    ("away", "events"),
    [("prepare", ["prepare", "follow"]), ("follow", ["prepare", "follow"])],
)
def test_change_is_taken_up_once_kafka_is_back(stage: Stage, away: str, events: list[str]) -> None:
    stage.worker.deliver([arrival(gbm(1, 10))])
    stage.sources.away = away
    assert stage.change(REGISTRY) is (away == "follow")
    assert stage.feeds.look(stage.worker, stage.sources) is False
    stage.sources.away = ""
    assert stage.feeds.look(stage.worker, stage.sources) is (away == "prepare")
    assert [name for name, _ in stage.sources.events] == events
    assert {registry is REGISTRY for _, registry in stage.sources.events} == {True}
    assert stage.feeds.look(stage.worker, stage.sources) is False
    assert [r["version"] for r in stage.sink.regions()] == [1]
    assert len(stage.sources.events) == 2


def test_look_ends_when_the_worker_has(stage: Stage) -> None:
    stage.worker.stop()
    assert stage.change(REGISTRY) is False
    assert [name for name, _ in stage.sources.events] == ["prepare"]


OWN = """
name = "own"
title = "Own"
mission = "Own"
instrument = "X"
messenger = "grb"
format = "voevent"
ivoids = ["ivo://nasa.gsfc.gcn/Fermi"]
trigger = ["TrigID"]
"""


@pytest.fixture
def given_up(tmp_path: Path) -> Iterator[Stage]:
    """A feed in a file, which the reader has given up and no longer reads."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.toml").write_text(OWN)
    store = FeedStore([folder], tmp_path / "state", lambda: NOW)
    loaded = store.load()
    sink, direct = MemorySink(), Direct(loaded.registry)
    pipeline = pipeline_of(sink, tmp_path, direct=direct)
    feeds = LiveFeeds(store, loaded, direct, pipeline, sink.held)
    worker = Worker(pipeline, lambda error: None)
    worker.start()
    made: Any = Stage(sink, direct, pipeline, store, feeds, worker)  # type: ignore[arg-type]
    feeds.give_up("own", "too slow")
    assert feeds.look(worker, made.sources)
    worker.deliver([arrival(gbm(1, 10))])
    worker.call(lambda: None).result(10)
    assert pipeline.held["own"].waiting == 1
    yield made
    worker.stop()


def test_a_feed_that_was_given_up_is_paused_and_told(given_up: Stage) -> None:
    assert given_up.direct.registry.paused == {"own"}
    assert "paused by the gateway: too slow" in given_up.feeds.broken["own"]
    assert "mmgateway feeds enable own" in given_up.feeds.broken["own"]
    assert not given_up.feeds.look(given_up.worker, given_up.sources)


def test_a_feed_that_was_given_up_is_tried_again_when_it_is_enabled(given_up: Stage) -> None:
    store: Any = given_up.store
    store.switch("own", True)
    assert given_up.feeds.look(given_up.worker, given_up.sources)
    assert given_up.feeds.broken == {}
    assert given_up.pipeline.held["own"].waiting == 0
    assert [r["feed"] for r in given_up.sink.regions()] == ["own"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_feed_that_was_given_up_is_tried_again_when_its_file_changes(
    given_up: Stage, tmp_path: Path, restarted: bool
) -> None:
    store: Any = given_up.store
    feeds = given_up.feeds
    (tmp_path / "mine" / "own.toml").write_text(OWN + "#\n")
    if restarted:
        store = FeedStore([tmp_path / "mine"], tmp_path / "state", lambda: NOW)
        feeds = LiveFeeds(
            store, store.load(), given_up.direct, given_up.pipeline, given_up.sink.held
        )
    assert feeds.look(given_up.worker, given_up.sources)
    assert feeds.broken == {}
    assert given_up.pipeline.held["own"].waiting == 0
    assert [c.action for c in store.history("own")][-2:] == ["changed", "enabled"]


def test_a_feed_that_a_person_paused_is_left_alone(given_up: Stage, tmp_path: Path) -> None:
    store: Any = given_up.store
    store.switch("own", True)
    store.switch("own", False)
    (tmp_path / "mine" / "own.toml").write_text(OWN + "#\n")
    assert given_up.feeds.look(given_up.worker, given_up.sources)
    assert given_up.direct.registry.paused == {"own"}
    assert given_up.feeds.broken == {}
