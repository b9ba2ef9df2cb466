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


def follow(registry: Registry, **environ: str) -> None:
    gcn = {"ENABLED": "true", "CLIENT_ID": "nobody", "CLIENT_SECRET": "none"}
    config = load(None, {**{f"MMGATEWAY_GCN__{k}": v for k, v in gcn.items()}, **environ})
    worker: Any = Worker()
    Doors(config, OURS, None, worker, lambda: NOW, lambda error: None).follow(registry)


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
