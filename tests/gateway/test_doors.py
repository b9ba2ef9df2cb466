"""What the listener asks of whom; the doors themselves are tested in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker import kafka_io
from gateway.config import load
from gateway.feeds.registry import HEARTBEAT, Registry
from gateway.listener import doors
from gateway.listener.doors import Doors, topics_for_others
from tests.gateway.memory import NOW, REGISTRY, private_registry

OURS = "127.0.0.1:9092"


def with_topics(*topics: str, registry: Registry | None = None) -> Registry:
    """A private feed with these topics besides the built-in ones."""
    base = registry or private_registry()
    feeds = tuple(replace(f, topics=topics) if f.name == "own" else f for f in base.feeds)
    return replace(base, feeds=feeds)


class Source:
    """A Kafka source that only notes what it is to hear."""

    heard: dict[str, list[str]]

    def __init__(self, name: str, client: Any, topics: Any, *rest: Any, **facts: Any) -> None:
        Source.heard[name] = list(topics)

    def start(self, failed: Any) -> None:
        """Nothing to read."""

    def subscribe(self, topics: Any) -> None:
        """Nothing to read."""

    def stop(self) -> None:
        """Nothing to end."""


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Topics that are heard, by server."""
    Source.heard = {}
    monkeypatch.setattr(doors, "KafkaSource", Source)
    monkeypatch.setattr(doors, "_gcn_consumer", lambda config, *rest: ("gcn", None))
    monkeypatch.setattr(doors, "_own_consumer", lambda config, *rest: ("own", None))
    monkeypatch.setattr(kafka_io, "ensure_topics", lambda *rest: [])
    return Source.heard


class Worker:
    """Takes nothing."""

    def deliver(self, *arrivals: Any) -> None:
        """Nothing comes."""


def follow(registry: Registry, **environ: str) -> Doors:
    gcn = {"ENABLED": "true", "CLIENT_ID": "nobody", "CLIENT_SECRET": "none"}
    config = load(None, {**{f"MMGATEWAY_GCN__{k}": v for k, v in gcn.items()}, **environ})
    worker: Any = Worker()
    made = Doors(config, OURS, None, worker, lambda: NOW, lambda error: None)
    made.follow(registry)
    return made


def test_names_of_private_topics_stay_here(heard: dict[str, list[str]]) -> None:
    registry = with_topics("own.alerts", "gcn.notices.own", "igwn.own", "igwn.gwalert")
    follow(registry)
    asked = set(heard["gcn"])
    assert "own.alerts" not in asked
    assert {"gcn.notices.own", "igwn.own", "igwn.gwalert", HEARTBEAT} <= asked
    assert set(REGISTRY.topics()) <= asked
    assert "own.alerts" in heard["own"]


def test_name_that_a_public_feed_has_too_is_no_secret() -> None:
    public = replace(REGISTRY.feed("fermi_gbm"), name="public", topics=("survey.alerts",))
    base = private_registry()
    registry = with_topics(
        "survey.alerts",
        "own.alerts",
        registry=replace(
            base,
            feeds=(*base.feeds, public),
            parsers={**base.parsers, "public": base.parsers["fermi_gbm"]},
        ),
    )
    asked = topics_for_others(registry)
    assert "survey.alerts" in asked
    assert "own.alerts" not in asked


def test_topics_that_the_operator_lists_are_asked_for(heard: dict[str, list[str]]) -> None:
    follow(with_topics("own.alerts"), MMGATEWAY_GCN__TOPICS='["own.alerts"]')
    assert heard["gcn"] == ["own.alerts", HEARTBEAT]


def test_our_own_kafka_is_asked_for_all(heard: dict[str, list[str]]) -> None:
    follow(with_topics("own.alerts"), MMGATEWAY_GCN__BOOTSTRAP=OURS)
    assert "own.alerts" in heard["gcn"]
    assert "own" not in heard


@pytest.mark.parametrize(
    ("topics", "environ", "told"),
    [
        (("own.alerts",), {"KAFKA__BOOTSTRAP": "kafka.example.org:9092"}, True),
        (("own.alerts",), {"KAFKA__BOOTSTRAP": OURS, "GCN__BOOTSTRAP": OURS}, False),
        (("own.alerts",), {}, False),
        (("gcn.notices.own",), {"KAFKA__BOOTSTRAP": "kafka.example.org:9092"}, False),
        (("gcn.notices.own",), {"KAFKA__BOOTSTRAP": OURS, "GCN__ENABLED": "false"}, True),
        ((), {"KAFKA__BOOTSTRAP": "kafka.example.org:9092"}, False),
    ],
)
def test_private_feed_that_is_heard_nowhere_is_told(
    heard: dict[str, list[str]], topics: tuple[str, ...], environ: dict[str, str], told: bool
) -> None:
    made = follow(with_topics(*topics), **{f"MMGATEWAY_{k}": v for k, v in environ.items()})
    assert list(made.broken()) == (["own"] if told else [])
    if told:
        assert "write [transport] kafka =" in made.broken()["own"]
    made.follow(with_topics())
    assert made.broken() == {}


@pytest.mark.parametrize("gcn", [OURS, ""])
def test_topics_of_our_own_kafka_are_there_before_they_are_asked_for(
    heard: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, gcn: str
) -> None:
    missing = ["own.alerts", "own.alerts"]
    calls: list[set[str]] = []

    def ensure(bootstrap: str, properties: Any, specs: Any) -> list[str]:
        assert not heard
        calls.append({spec.name for spec in specs})
        return missing and [missing.pop()]

    monkeypatch.setattr(kafka_io, "ensure_topics", ensure)
    follow(with_topics("own.alerts"), MMGATEWAY_GCN__BOOTSTRAP=gcn)
    assert len(calls) == 3
    assert "own.alerts" in calls[-1]


def test_no_topics_are_made_on_the_kafka_of_others(
    heard: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ensure(*rest: Any) -> list[str]:
        raise AssertionError("a topic was made")

    monkeypatch.setattr(kafka_io, "ensure_topics", ensure)
    follow(with_topics("own.alerts"), MMGATEWAY_KAFKA__BOOTSTRAP=OURS)
