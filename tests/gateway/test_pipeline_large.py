"""What Kafka does not take costs the notice that it came of, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker import topics
from broker.ledger import notice_hole
from crossmatch.errors import ServiceError
from gateway.listener.outbox import TooLarge
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sources import KEPT_BYTES
from gateway.topicspecs import topic_specs
from tests.gateway.memory import Direct, MemorySink, arrival, gbm, private_registry
from tests.gateway.test_pipeline import pipeline_of

LARGE = gbm(9, 40).replace(b"<Param ", b"<!-- " + b"x" * 200_000 + b" --><Param ", 1)
"""A good notice of more bytes than the topics of these tests take."""


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


def large_pipeline(sink: MemorySink, folder: Path, direct: Direct | None = None) -> NoticePipeline:
    return pipeline_of(
        sink,
        folder,
        direct=direct or Direct(),
        recall=lambda: sink.values(topics.REGION_LOG),
    )


def test_one_that_is_too_large_is_rejected_and_the_others_go_on(
    sink: MemorySink, tmp_path: Path
) -> None:
    """A private feed shows its messages; the third of five is too large for that."""
    sink.limits["mm.private.ourteam.notices"] = 100_000
    pipeline = large_pipeline(sink, tmp_path, Direct(private_registry()))
    raws = [gbm(1, 10), gbm(2, 20), LARGE, gbm(3, 50), gbm(1, 10)]
    done = pipeline.take([arrival(raw, feed="own", streams=("ourteam",)) for raw in raws])
    assert done == ["region", "region", "rejected", "region", "duplicate"]
    assert [r["version"] for r in sink.regions()] == [1, 2, 3]
    (letter,) = sink.letters()
    assert (letter["reason"], letter["streams"]) == ("too_large_for_kafka", ["ourteam"])
    assert letter["raw"] == LARGE[:KEPT_BYTES]
    assert sink.letters("mm.private.ourteam.deadletter") == [letter]
    assert (pipeline.next_notice, notice_hole(pipeline.totals)) == (5, 0)
    assert dict(pipeline.totals) == {"received": 5, "region": 3, "rejected": 1, "duplicate": 1}
    assert [b.next_notice for b in sink.batches] == [1, 2, 3, 4, 5]


def test_crash_among_the_single_ones_loses_none(sink: MemorySink, tmp_path: Path) -> None:
    sink.limits[topics.DEAD_LETTER] = 100_000
    pipeline = large_pipeline(sink, tmp_path)
    raws = [gbm(1, 10), b"{" + bytes(200_000), gbm(2, 20)]
    offsets = sink.store([arrival(raw) for raw in raws])
    pairs = list(zip(sink.stored, offsets, strict=True))
    commit = sink.commit

    def dying(batch: object) -> None:
        if len(sink.batches) == 2:
            raise ServiceError("Kafka is away")
        commit(batch)  # type: ignore[arg-type]

    sink.commit = dying  # type: ignore[method-assign]
    with pytest.raises(ServiceError):
        pipeline.resume(pairs)
    assert sink.progress().next_notice == 2
    sink.commit = commit  # type: ignore[method-assign]
    second = large_pipeline(sink, tmp_path)
    second.restore(sink.values(topics.REGION_LOG))
    assert second.resume(pairs[second.next_notice :]) == ["region"]
    assert dict(second.totals) == {"received": 3, "region": 2, "rejected": 1}


def test_dead_letter_that_is_too_large_is_cut(sink: MemorySink, tmp_path: Path) -> None:
    sink.limits[topics.DEAD_LETTER] = 100_000
    assert large_pipeline(sink, tmp_path).take([arrival(b"{" + bytes(200_000))]) == ["rejected"]
    assert [r["reason"] for r in sink.letters()] == ["too_large_for_kafka"]


def test_waiting_messages_are_released_past_one_that_is_too_large(
    sink: MemorySink, tmp_path: Path
) -> None:
    own = private_registry()
    direct = Direct(replace(own, paused=frozenset({"own"})))
    pipeline = large_pipeline(sink, tmp_path, direct)
    pipeline.take([arrival(raw, feed="own") for raw in (gbm(1, 10), LARGE, gbm(2, 20))])
    direct.replace(own)
    sink.limits["mm.private.ourteam.notices"] = 100_000
    assert pipeline.release("own", sink.held("own", 0)) == 3
    assert pipeline.held["own"] == sink.progress().held["own"] == (3, 0)
    assert [r["version"] for r in sink.regions()] == [1, 2]
    assert pipeline.totals["rejected"] == 1
    assert notice_hole(pipeline.totals) == 0


def test_bytes_that_kafka_does_not_store_are_stored_in_part(
    sink: MemorySink, tmp_path: Path
) -> None:
    sink.limits[topics.NOTICES] = 100_000
    pipeline = large_pipeline(sink, tmp_path)
    small = [arrival(gbm(number, 10 * number)) for number in (1, 2)]
    done = pipeline.take([arrival(LARGE), small[0], arrival(LARGE), small[1]])
    assert done == ["rejected", "region", "rejected", "region"]
    cut = LARGE[:KEPT_BYTES]
    assert [a.raw for a in sink.stored] == [small[0].raw, cut, cut, small[1].raw]
    assert [r["reason"] for r in sink.letters()] == ["too_large_for_kafka"] * 2
    assert pipeline.next_notice == 4


def test_topics_of_what_strangers_write_take_large_messages() -> None:
    ours = {topics.VOEVENTS, topics.LEDGER, topics.ALARMS, topics.VERDICTS, topics.LOOKUPS}
    small = ours | {"mm.private.ourteam.voevents"}
    specs = topic_specs(streams=["ourteam"])
    assert {s.name for s in specs if "max.message.bytes" not in s.config} == small


def test_where_not_even_the_letter_is_taken_the_service_ends(
    sink: MemorySink, tmp_path: Path
) -> None:
    sink.limits[topics.DEAD_LETTER] = 10
    with pytest.raises(TooLarge):
        large_pipeline(sink, tmp_path).take([arrival(b"{")])
