"""What one arrival became, as a value: rejections, letters, reports; and arrivals in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, TypeVar

from broker import topics
from broker.codec import encode_dead_letter
from crossmatch.errors import NoticeError, Rejected
from gateway.listener.maps import Wanted
from gateway.listener.outbox import Batch, Sink, TooLarge, headers_of
from gateway.listener.sources import KEPT_BYTES, Arrival
from gateway.logs import EventLog
from gateway.reports import NoticeReport
from gateway.understand import Understood

log = EventLog("listen")

_PART = 64
_PART_BYTES = 2**20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one arrival; ``wanted`` is the map that it brought."""

    arrival: Arrival
    outcome: str
    found: Understood
    wanted: Wanted | None = None


class Task(NamedTuple):
    """An arrival, where its bytes lie, and of one that waited: its feed and where it did."""

    arrival: Arrival
    offset: int
    feed: str = ""
    held_offset: int = -1


def as_rejected(found: Understood, error: Exception, arrival: Arrival) -> Understood:
    """``found`` as a rejection. A fault of ours costs one notice, not the service, and is seen."""
    if not isinstance(error, Rejected):
        log.error("parser_failed", exc_info=True, source=arrival.source, topic=arrival.topic)
        error = NoticeError("parser_failed", f"{type(error).__name__}: {error}")
    return replace(found, outcome="rejected", region=None, rejected=error)


def kept_private(found: Understood, streams: tuple[str, ...]) -> Understood:
    """``found`` for none but ``streams``, to whom its door belongs; empty: to everybody."""
    if not streams or (found.streams and set(found.streams) <= set(streams)):
        return found
    if found.outcome not in ("ignored", "rejected"):
        why = f"it came for {', '.join(streams)} alone, and the feed {found.feed} is for others"
        error = NoticeError("no_feed", why)
        found = Understood("rejected", found.feed, found.feed_version, rejected=error)
    return replace(found, streams=streams)


def lacks_map(found: Understood) -> bool:
    """Whether there is a map elsewhere that would place the notice, better or at all."""
    notice = found.notice
    return (
        notice is not None
        and found.outcome in ("region", "no_position")
        and notice.role in ("observation", "test")
        and bool(notice.skymap_url)
        and notice.skymap_fits is None
        and not notice.skymap_sha256
    )


def show(found: Understood, arrival: Arrival, batch: Batch) -> None:
    """The message itself, to the private streams that may see it; its map came without it."""
    if found.streams and not arrival.skymap:
        names = topics.seen_by(topics.NOTICES, found.streams)
        batch.add(names, found.feed.encode(), arrival.raw, headers_of(arrival))


def letter(arrival: Arrival, reason: str, detail: str, streams: tuple[str, ...]) -> bytes:
    """A message that was not taken, with the reason."""
    return encode_dead_letter(
        reason=reason,
        detail=detail,
        source=arrival.source,
        topic=arrival.topic,
        partition=arrival.partition,
        offset=arrival.offset,
        raw=arrival.raw,
        received=arrival.received,
        streams=streams,
    )


def stored_in(sink: Sink, arrivals: Sequence[Arrival]) -> list[tuple[Arrival, int]]:
    """Arrivals as they were stored, and where: of what Kafka does not take, the beginning."""
    try:
        return list(zip(arrivals, sink.store(arrivals), strict=True))
    except TooLarge as refused:
        return [
            (arrival, refused.stored[number])
            if number in refused.stored
            else _stored_alone(sink, arrival)
            for number, arrival in enumerate(arrivals)
        ]


def _stored_alone(sink: Sink, arrival: Arrival) -> tuple[Arrival, int]:
    # Messages are sent together, so that a small one is refused with its neighbour.
    try:
        return arrival, sink.store([arrival])[0]
    except TooLarge as error:
        short = cut(arrival, error)
        return short, sink.store([short])[0]


def cut(arrival: Arrival, error: TooLarge) -> Arrival:
    """The beginning of an arrival that Kafka does not take, or not what came of it."""
    detail = f"{error}; {len(arrival.raw)} bytes came"
    return replace(
        arrival, raw=arrival.raw[:KEPT_BYTES], refused=NoticeError("too_large_for_kafka", detail)
    )


def report_of(result: Result, finished: datetime) -> NoticeReport:
    """What observers are told."""
    found, arrival, notice = result.found, result.arrival, result.found.notice
    unknown = result.outcome == "rejected" and not found.feed
    return NoticeReport(
        feed=found.feed,
        source=arrival.source,
        topic=arrival.topic,
        outcome=result.outcome,
        reason="" if result.outcome == "duplicate" else found.reason,
        received=arrival.received,
        finished=finished,
        issued=None if notice is None else notice.issued,
        trigger_time=None if notice is None else notice.trigger_time,
        event_id="" if notice is None else notice.event_id,
        kind="" if notice is None else notice.kind,
        role="" if notice is None else notice.role,
        raw=arrival.raw if unknown else b"",
    )


def parts(items: Iterable[_T], size_of: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Arrivals in parts that are committed together: small notices by the dozen, for speed,
    those with sky maps nearly alone, so that none waits for the maps of others.
    """
    part: list[_T] = []
    size = 0
    for item in items:
        part.append(item)
        size += size_of(item)
        if size >= _PART_BYTES or len(part) >= _PART:
            yield part
            part, size = [], 0
    if part:
        yield part
