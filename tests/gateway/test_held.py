"""Paused feeds: their messages wait, and are worked through once when the feed is on again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker import topics
from broker.ledger import notice_hole
from crossmatch.errors import ServiceError
from gateway.listener.pipeline import NoticePipeline
from tests.gateway.memory import (
    REGISTRY,
    Direct,
    MemorySink,
    arrival,
    gbm,
    private_registry,
    sample,
)
from tests.gateway.test_pipeline import pipeline_of

PAUSED = replace(REGISTRY, paused=frozenset({"fermi_gbm"}))
ON = REGISTRY


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def direct() -> Direct:
    return Direct(PAUSED)


@pytest.fixture
def pipeline(sink: MemorySink, direct: Direct, tmp_path: Path) -> NoticePipeline:
    return pipeline_of(sink, tmp_path, direct=direct)


def release(pipeline: NoticePipeline, sink: MemorySink, feed: str = "fermi_gbm") -> int:
    return pipeline.release(feed, sink.held(feed, pipeline.held[feed].next))


def test_message_of_a_paused_feed_waits_and_others_do_not(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    raw = gbm(1, 10)
    assert pipeline.take([arrival(raw), arrival(sample("wxt.json"))]) == ["held", "region"]
    (letter,) = sink.letters(topics.HELD)
    assert (letter["reason"], letter["raw"]) == ("paused", raw)
    assert [r["feed"] for r in sink.regions()] == ["einstein_probe"]
    assert pipeline.held["fermi_gbm"].waiting == 1
    assert notice_hole(pipeline.totals) == 0


def test_released_messages_are_worked_through_in_order(
    pipeline: NoticePipeline, sink: MemorySink, direct: Direct
) -> None:
    pipeline.take([arrival(gbm(n, 10 * n)) for n in (1, 2, 3)])
    direct.replace(ON)
    assert release(pipeline, sink) == 3
    assert [r["version"] for r in sink.regions()] == [1, 2, 3]
    assert dict(pipeline.totals) == {"received": 3, "held": 3, "released": 3, "region": 3}
    assert notice_hole(pipeline.totals) == 0
    assert pipeline.held["fermi_gbm"] == (3, 0)


def test_repeats_that_waited_act_once(
    pipeline: NoticePipeline, sink: MemorySink, direct: Direct
) -> None:
    assert pipeline.take([arrival(gbm(1, 10))] * 3) == ["held"] * 3
    direct.replace(ON)
    release(pipeline, sink)
    assert sink.batches[-1].outcomes == ["region", "duplicate", "duplicate"]


def test_release_goes_on_where_a_crash_ended_it(
    pipeline: NoticePipeline, sink: MemorySink, direct: Direct, tmp_path: Path
) -> None:
    """More than fit in one transaction; the second one fails, and a new process goes on."""
    pipeline.take([arrival(gbm(n, n % 60)) for n in range(100)])
    direct.replace(ON)
    seen = len(sink.batches)

    def dying() -> object:
        for number, one in enumerate(sink.held("fermi_gbm", 0)):
            if number == 70:
                raise ServiceError("Kafka is away")
            yield one

    with pytest.raises(ServiceError):
        pipeline.release("fermi_gbm", dying())
    assert [len(b.outcomes) for b in sink.batches[seen:]] == [64]
    second = pipeline_of(sink, tmp_path, direct=direct)
    second.restore(sink.values(topics.REGION_LOG))
    assert second.held["fermi_gbm"] == (64, 36)
    assert release(second, sink) == 36
    assert len({r["notice_sha256"] for r in sink.regions()}) == 100
    assert second.totals["released"] == second.totals["region"] == 100
    assert notice_hole(second.totals) == 0


def test_feed_paused_again_waits_again(
    pipeline: NoticePipeline, sink: MemorySink, direct: Direct
) -> None:
    pipeline.take([arrival(gbm(1, 10))])
    assert release(pipeline, sink) == 1
    assert sink.batches[-1].outcomes == ["held"]
    assert pipeline.held["fermi_gbm"] == (1, 1)
    direct.replace(ON)
    release(pipeline, sink)
    assert [r["version"] for r in sink.regions()] == [1]
    assert notice_hole(pipeline.totals) == 0


def test_private_messages_wait_in_private(sink: MemorySink, tmp_path: Path) -> None:
    registry = private_registry()
    direct = Direct(replace(registry, paused=frozenset({"own"})))
    pipeline = pipeline_of(sink, tmp_path, direct=direct)
    raw = gbm(1, 10)
    assert pipeline.take([arrival(raw, feed="own"), arrival(raw)]) == ["held", "region"]
    assert sink.names() == {topics.HELD, topics.REGION_LOG, topics.REGIONS}
    direct.replace(registry)
    release(pipeline, sink, "own")
    assert sink.batches[-1].outcomes == ["region"]
    assert sink.values("mm.private.ourteam.notices") == [raw]
