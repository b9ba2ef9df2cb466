"""The worker: one thread, batches and calls in order."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.intake import EventBook
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.listener.worker import Worker
from gateway.understand import Understood
from tests.gateway.memory import Direct, MemorySink, arrival, sample


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def pipeline(sink: MemorySink, tmp_path: Path) -> NoticePipeline:
    return NoticePipeline(Direct().understand, EventBook(), sink, SkymapStore(tmp_path))


def test_worker_hands_each_source_its_own_outcomes(pipeline: NoticePipeline) -> None:
    failures: list[Exception] = []
    worker = Worker(pipeline, failures.append)
    told: list[Any] = []
    worker.deliver([arrival(sample("wxt.json")), arrival(b"{")], done=told.append)
    worker.deliver([arrival(sample("wxt.json"))], done=told.append)
    worker.start()
    worker.stop()
    assert told == [["region", "rejected"], ["duplicate"]]
    assert failures == []


def test_worker_reports_why_it_ended(pipeline: NoticePipeline, sink: MemorySink) -> None:
    sink.full = True
    failures: list[Exception] = []
    worker = Worker(pipeline, failures.append)
    worker.deliver([arrival(b"{")])
    worker.start()
    worker.stop()
    assert [str(f) for f in failures] == ["no space left"]


def test_call_runs_between_what_came_before_and_after(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    worker = Worker(pipeline, lambda error: None)
    worker.deliver([arrival(b"{")])
    future = worker.call(lambda: pipeline.totals["received"])
    worker.deliver([arrival(b"[")])
    worker.start()
    assert future.result(10) == 1
    worker.stop()
    assert len(sink.stored) == 2


def test_a_receipt_does_not_wait_for_what_is_being_read(sink: MemorySink, tmp_path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Direct):
        def understand(self, raw: bytes, **facts: Any) -> Understood:
            if raw == b"{":
                reading.set()
                assert go_on.wait(10)
            return super().understand(raw, **facts)

    failures: list[Exception] = []
    pipeline = NoticePipeline(Slow().understand, EventBook(), sink, SkymapStore(tmp_path))
    worker = Worker(pipeline, failures.append)
    worker.start()
    try:
        worker.deliver([arrival(b"{")])
        assert reading.wait(10)
        stored, done = threading.Event(), threading.Event()
        worker.deliver([arrival(sample("wxt.json"))], stored.set, lambda _: done.set())
        assert worker.offer(arrival(b"["), lambda: None)
        assert stored.wait(10)
        assert not done.is_set()
        assert sink.batches == []
    finally:
        go_on.set()
        worker.stop()
    assert failures == []
    assert [o for b in sink.batches for o in b.outcomes] == ["rejected", "region", "rejected"]
    assert [b.next_notice for b in sink.batches] == [1, 3]


def test_too_much_that_waits_is_refused_until_there_is_room(
    pipeline: NoticePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.listener.worker._WAITING", 2)
    worker = Worker(pipeline, lambda error: None)
    taken = [worker.offer(arrival(b"{"), lambda: None) for _ in range(3)]
    worker.start()
    worker.deliver([arrival(b"{")])
    worker.stop()
    assert taken == [True, True, False]
    assert pipeline.totals["received"] == 3
    assert not worker.offer(arrival(b"{"), lambda: None)


def test_calls_are_cancelled_when_the_thread_has_ended(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    sink.full = True
    worker = Worker(pipeline, lambda error: None)
    worker.deliver([arrival(b"{")])
    waiting = worker.call(lambda: 1)
    worker.start()
    worker.stop()
    assert waiting.cancelled()
    assert worker.call(lambda: 1).cancelled()


def test_error_of_a_call_ends_the_thread_and_is_told(pipeline: NoticePipeline) -> None:
    failures: list[Exception] = []
    worker = Worker(pipeline, failures.append)

    def fail() -> Any:
        raise ZeroDivisionError

    future = worker.call(fail)
    worker.start()
    worker.stop()
    assert isinstance(future.exception(0), ZeroDivisionError)
    assert [type(f) for f in failures] == [ZeroDivisionError]


def test_door_is_asked_before_an_arrival_waits(pipeline: NoticePipeline, sink: MemorySink) -> None:
    def heard(one: Arrival) -> Arrival:
        return replace(one, streams=("ourteam",))

    worker = Worker(pipeline, lambda error: None, heard)
    worker.deliver([arrival(b"{")])
    assert worker.offer(arrival(b"["), lambda: None)
    worker.start()
    worker.stop()
    assert [a.streams for a in sink.stored] == [("ourteam",)] * 2
