"""Notices that come in again by ``mm.retry``: once, whatever dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker import topics
from crossmatch.errors import NoticeError
from gateway.intake import EventBook
from gateway.listener.outbox import Headers, arrival_of, headers_of
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.retry import RetrySource, retry_headers
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from tests.gateway.memory import NOW, Direct, MemorySink, arrival, sample

LATER = NOW.replace(hour=16)


class Message:
    def __init__(self, offset: int, key: bytes, value: bytes, headers: Headers) -> None:
        self._fields = offset, key, value, list(headers)

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return topics.RETRY

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._fields[0]

    def key(self) -> bytes:
        return self._fields[1]

    def value(self) -> bytes:
        return self._fields[2]

    def headers(self) -> Any:
        return self._fields[3]


class Client:
    """As much of a consumer as is used; it reads from where it was assigned."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self.at = -1

    def assign(self, places: Any) -> None:
        (place,) = places
        assert (place.topic, place.partition) == (topics.RETRY, 0)
        self.at = place.offset

    def poll(self, seconds: float) -> Message | None:
        found = [m for m in self._messages if m.offset() >= self.at]
        if found:
            self.at = found[0].offset() + 1
        return found[0] if found else None

    def consume(self, limit: int, seconds: float) -> list[Message]:
        return []


def message(offset: int, first: Arrival, key: bytes = b"notice") -> Message:
    return Message(offset, key, first.raw, retry_headers(first))


def taken(messages: Sequence[Message], start: int = 0) -> list[Arrival]:
    """Arrivals that a source hands over."""
    found: list[Arrival] = []

    def deliver(
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        found.extend(arrivals)
        assert stored is not None
        stored()

    source = RetrySource(Client(messages), start, deliver, lambda: LATER)
    for _ in messages:
        source.step()
    return found


def test_it_is_a_new_arrival_by_the_first_door() -> None:
    first = arrival(b"<x/>", source="vtp:broker", feed="own", streams=("ours",))
    refused = replace(first, refused=NoticeError("not_valid", "why"), answers="map/0f")
    assert taken([message(4, refused)]) == [replace(first, received=LATER, retry=4)]


def test_what_is_for_others_is_left_alone() -> None:
    found = taken([message(0, arrival(b"a"), b"publish"), message(2, arrival(b"b"))])
    assert [(a.raw, a.retry) for a in found] == [(b"b", 2)]


def test_reading_begins_where_it_is_told() -> None:
    found = taken([message(0, arrival(b"a")), message(2, arrival(b"b"))], start=1)
    assert [a.raw for a in found] == [b"b"]


def test_offset_travels_with_the_stored_notice() -> None:
    one = arrival(b"<x/>", retry=7)
    assert arrival_of(one.raw, headers_of(one)) == one


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


def listening(sink: MemorySink, folder: Path) -> NoticePipeline:
    understand = Direct().understand
    return NoticePipeline(
        understand, EventBook(), sink, SkymapStore(folder), sink.progress(), now=lambda: NOW
    )


def test_position_is_committed_with_what_became_of_it(sink: MemorySink, tmp_path: Path) -> None:
    pipeline = listening(sink, tmp_path)
    pipeline.take([arrival(sample("gbm_final.xml"), retry=7)])
    assert (sink.batches[-1].next_retry, pipeline.next_retry) == (8, 8)
    pipeline.take([arrival(b"<x/>")])
    assert sink.batches[-1].next_retry == 8


def test_what_was_stored_and_not_worked_through_is_not_read_again(
    sink: MemorySink, tmp_path: Path
) -> None:
    listening(sink, tmp_path).store([arrival(sample("gbm_final.xml"), retry=7)])
    # Killed here: the next listener first works through what is stored, then opens its doors.
    again = listening(sink, tmp_path)
    again.resume([(one, offset) for offset, one in enumerate(sink.stored)])
    assert again.next_retry == 8


def test_retried_notice_is_received_once_more(sink: MemorySink, tmp_path: Path) -> None:
    pipeline = listening(sink, tmp_path)
    pipeline.take([arrival(b"<x/>")])
    (letter,) = sink.batches[-1].records
    pipeline.take([replace(arrival_of(b"<x/>", letter.headers), received=LATER, retry=0)])
    assert pipeline.totals == {"received": 2, "rejected": 2}
    assert [p["night"] for b in sink.batches for p in b.tally.parts()] == [
        "2026-01-01",
        "2026-01-02",
    ]
