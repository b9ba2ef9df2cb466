"""Private feeds in the pipeline: what they bring stays with their streams, and changes no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker import topics
from crossmatch.errors import NoticeError
from gateway.feeds.registry import Registry
from gateway.listener.maps import Wanted
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sources import Arrival
from gateway.understand import Understood
from tests.gateway.memory import (
    REGISTRY,
    Direct,
    Mapped,
    MemorySink,
    arrival,
    gbm,
    private_registry,
    sample,
)
from tests.gateway.test_pipeline import pipeline_of

PRIVATE = "mm.private.ourteam."
OPERATORS = {topics.REGION_LOG, topics.DEAD_LETTER, topics.HELD}


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def pipeline(sink: MemorySink, tmp_path: Path) -> NoticePipeline:
    return pipeline_of(sink, tmp_path, direct=Direct(private_registry()))


def own(raw: bytes, **facts: object) -> object:
    return arrival(raw, feed="own", **facts)


def test_private_notice_goes_to_its_stream_alone(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    raw = sample("gbm_final.xml")
    assert pipeline.take([own(raw)]) == ["region"]
    assert sink.names() == {topics.REGION_LOG, f"{PRIVATE}regions", f"{PRIVATE}notices"}
    assert sink.values(f"{PRIVATE}notices") == [raw]
    (region,) = sink.regions(f"{PRIVATE}regions")
    assert region["streams"] == ["ourteam"]
    assert region["event_id"].startswith("ourteam:")
    assert sink.values(topics.REGION_LOG) == sink.values(f"{PRIVATE}regions")


@pytest.mark.parametrize("raw", [b"{", b"", b"GIF", sample("wxt.json")])
def test_nothing_of_a_private_feed_leaks_when_it_is_rejected(
    pipeline: NoticePipeline, sink: MemorySink, raw: bytes
) -> None:
    assert pipeline.take([own(raw)]) == ["rejected"]
    assert sink.names() == {topics.DEAD_LETTER, f"{PRIVATE}deadletter"}
    assert [r["streams"] for r in sink.letters()] == [["ourteam"]]


def test_what_its_source_refused_is_private_too(pipeline: NoticePipeline, sink: MemorySink) -> None:
    refused = NoticeError("missing_role", "no role")
    assert pipeline.take([own(sample("gbm_final.xml"), refused=refused)]) == ["rejected"]
    assert sink.names() == {topics.DEAD_LETTER, f"{PRIVATE}deadletter"}


@pytest.mark.parametrize("private_first", [True, False])
def test_same_bytes_by_a_public_and_a_private_door_are_both_worked_through(
    pipeline: NoticePipeline, sink: MemorySink, private_first: bool
) -> None:
    raw = sample("gbm_final.xml")
    doors = [own(raw), arrival(raw)]
    doors = doors if private_first else doors[::-1]
    assert pipeline.take([*doors, *doors]) == ["region", "region", "duplicate", "duplicate"]
    assert [r["version"] for r in sink.regions()] == [1, 1]
    assert len(sink.values(topics.REGIONS)) == len(sink.values(f"{PRIVATE}regions")) == 1


def test_private_versions_do_not_count_for_the_public_event(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    pipeline.take([own(gbm(1, 10)), own(gbm(2, 20)), arrival(gbm(3, 30))])
    (public,) = sink.regions(topics.REGIONS)
    assert public["version"] == 1
    assert [r["version"] for r in sink.regions(f"{PRIVATE}regions")] == [1, 2]


def test_shifted_number_of_a_private_version_is_said_to_its_stream_alone(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    pipeline.take([own(gbm(2, 40)), own(gbm(1, 10))])
    assert [r["version"] for r in sink.regions(f"{PRIVATE}regions")] == [1, 1, 2]
    assert sink.values(topics.REGIONS) == []


def test_restart_keeps_public_and_private_apart(sink: MemorySink, tmp_path: Path) -> None:
    direct = Direct(private_registry())
    pipeline_of(sink, tmp_path, direct=direct).take([own(gbm(1, 10))])
    second = pipeline_of(sink, tmp_path, direct=direct)
    assert second.restore(sink.values(topics.REGION_LOG)) == 1
    assert second.take([own(gbm(1, 10)), arrival(gbm(1, 10))]) == ["duplicate", "region"]


def test_message_of_a_feed_whose_file_is_gone_is_kept_for_the_operators(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    assert pipeline.take([arrival(sample("gbm_final.xml"), feed="gone")]) == ["rejected"]
    assert sink.names() == {topics.DEAD_LETTER}
    assert [r["reason"] for r in sink.letters()] == ["no_feed"]


def test_private_map_has_a_marker_of_its_own(sink: MemorySink, tmp_path: Path) -> None:
    asked: list[Wanted] = []
    pipeline = pipeline_of(sink, tmp_path, direct=Mapped(private_registry()), want=asked.append)
    raw = sample("gbm_final.xml")
    pipeline.take([own(raw), arrival(raw)])
    (private, public) = pipeline.wanted
    assert private == f"{public}/ourteam"
    assert [(w.feed, w.streams) for w in asked] == [("own", ("ourteam",)), ("fermi_gbm", ())]
    assert sink.names() - OPERATORS == {
        topics.REGIONS, f"{PRIVATE}regions", f"{PRIVATE}notices",
    }  # fmt: skip


def heard(raw: bytes, **facts: object) -> Arrival:
    """By the topic of a private feed, as the listener marks it when it comes."""
    return arrival(raw, topic="own.topic", streams=("ourteam",), **facts)


RECORD = sample("wxt.json")


@pytest.mark.parametrize("raw", [RECORD, b'{"ra": 1, "dec": 2}', b"{", sample("gbm_final.xml")])
@pytest.mark.parametrize("registry", [REGISTRY, private_registry("einstein_probe")])
def test_what_was_heard_in_private_is_never_public(
    sink: MemorySink, tmp_path: Path, raw: bytes, registry: Registry
) -> None:
    """Whatever it looks like, and though the feed file is gone by the time it is read."""
    pipeline_of(sink, tmp_path, direct=Direct(registry)).take([heard(raw)])
    assert (
        not sink.names()
        - OPERATORS
        - {f"{PRIVATE}{name}" for name in ("regions", "notices", "deadletter")}
    )
    if sink.letters():
        assert sink.letters() == sink.letters(f"{PRIVATE}deadletter")
        assert [r["streams"] for r in sink.letters()] == [["ourteam"]]
    assert [r["streams"] for r in sink.regions()] in ([], [["ourteam"]])


def test_reader_that_forgets_the_audience_makes_nothing_public(
    sink: MemorySink, tmp_path: Path
) -> None:
    class Forgets(Direct):
        def understand(self, raw: bytes, **facts: object) -> Understood:
            return super().understand(raw)

    pipeline = pipeline_of(sink, tmp_path, direct=Forgets())
    assert pipeline.take([heard(RECORD)]) == ["rejected"]
    assert sink.names() == {topics.DEAD_LETTER, f"{PRIVATE}deadletter"}
    assert [r["reason"] for r in sink.letters()] == ["no_feed"]


def test_message_of_a_removed_feed_is_kept_for_its_streams(
    sink: MemorySink, tmp_path: Path
) -> None:
    pipeline = pipeline_of(sink, tmp_path)
    pipeline.take([arrival(RECORD, feed="gone", streams=("ourteam",))])
    assert sink.names() == {topics.DEAD_LETTER, f"{PRIVATE}deadletter"}


def test_feed_that_is_made_public_later_does_not_publish_what_waited(
    sink: MemorySink, tmp_path: Path
) -> None:
    private = private_registry()
    direct = Direct(replace(private, paused=frozenset({"own"})))
    pipeline = pipeline_of(sink, tmp_path, direct=direct)
    assert pipeline.take([own(gbm(1, 10))]) == ["held"]
    (waiting,) = sink.held("own", 0)
    assert waiting.arrival.streams == ("ourteam",)
    public = tuple(replace(f, streams=()) for f in private.feeds)
    direct.replace(replace(private, feeds=public))
    pipeline.release("own", sink.held("own", 0))
    assert sink.batches[-1].outcomes == ["rejected"]
    assert topics.REGIONS not in sink.names()
    assert [r["streams"] for r in sink.letters(f"{PRIVATE}deadletter")] == [["ourteam"]]
