"""The listener's own wiring; its doors and Kafka are tested in tests/integration."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crossmatch.errors import ServiceError
from gateway.config import load
from gateway.listener.maps import Wanted
from gateway.listener.service import Listener
from gateway.listener.sources import Arrival
from tests.gateway.memory import NOW, arrival, gbm

LATER = datetime(2026, 1, 2, 5, tzinfo=UTC)


class Stage(Listener):
    """A listener whose Kafka and worker are in memory."""

    def __init__(self, folder: Path) -> None:
        environ = {"MMGATEWAY_PATHS__STATE": str(folder)}
        super().__init__(load(None, environ), reactor=None, now=lambda: LATER)
        self.stored: dict[int, Arrival] = {}
        self.delivered: list[Arrival] = []
        self.given_up: list[str] = []
        self._sink: Any = self
        self._worker: Any = self
        self.pipeline: Any = self
        self._fetcher: Any = self
        self.away = False
        self.said: list[tuple[str, Any]] = []

    def stored_at(self, offset: int) -> Arrival | None:
        if self.away:
            raise ServiceError("Kafka gave nothing of mm.notices for 30 s")
        return self.stored.get(offset)

    def refuse(self, wanted: Wanted, reason: str, *, patient: bool = False) -> None:
        self.said.append(("refuse", (reason, patient)))

    def settle(self, wanted: Wanted) -> None:
        self.said.append(("settle", wanted))

    def deliver(self, arrivals: list[Arrival]) -> None:
        self.delivered += arrivals

    def call(self, function: Any) -> Future[Any]:
        function()
        return Future()

    def give_up(self, wanted: Any, reason: str = "") -> None:
        if isinstance(wanted, str):
            self.given_up.append(wanted)
        else:
            super().give_up(wanted, reason)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def wanted_of(**facts: Any) -> Wanted:
    values: dict[str, Any] = {
        "url": "https://maps.example.org/a.fits", "notice_offset": 3, "notice_sha256": "0f",
        "event_id": "e", "feed": "fermi_gbm", "since": NOW.isoformat(),
    }  # fmt: skip
    return Wanted(**(values | facts))


def test_fetched_map_brings_its_notice_once_more(stage: Stage, tmp_path: Path) -> None:
    stage.stored[3] = arrival(gbm(1, 10), source="vtp:peer", topic="t", partition=2, offset=5)
    stage.deliver_map(wanted_of(), b"map")
    (again,) = stage.delivered
    assert (again.raw, again.topic, again.offset) == (gbm(1, 10), "t", 5)
    assert (again.source, again.feed, again.received) == (
        "map:maps.example.org",
        "fermi_gbm",
        LATER,
    )
    assert again.answers == "map/0f"
    assert (tmp_path / "skymaps" / f"{again.skymap}.fits").read_bytes() == b"map"


def test_marker_of_a_private_map_is_found_again(stage: Stage) -> None:
    stage.stored[3] = arrival(gbm(1, 10))
    stage.deliver_map(wanted_of(feed="own", streams=("team",)), b"map")
    assert stage.delivered[0].answers == "map/0f/team"
    assert stage.delivered[0].streams == ("team",)


def test_map_whose_notice_is_gone_is_given_up(stage: Stage) -> None:
    stage.deliver_map(wanted_of(), b"map")
    assert (stage.delivered, stage.given_up) == ([], ["map/0f"])
    assert stage.said == [("settle", wanted_of())]


def test_map_waits_while_kafka_is_away(stage: Stage) -> None:
    stage.away = True
    stage.deliver_map(wanted_of(), b"map")
    assert (stage.delivered, stage.given_up) == ([], [])
    assert stage.said == [("refuse", ("kafka_away", True))]


def test_what_came_of_a_map_is_told_to_the_fetcher(stage: Stage) -> None:
    stage.map_answered(wanted_of(), "not_fits")
    stage.map_answered(wanted_of(), "")
    assert stage.said == [("refuse", ("not_fits", False)), ("settle", wanted_of())]
