"""What becomes of a notice: raw bytes kept, then region, retraction, or a reason why not.

No reactor and no Kafka here: a :class:`Sink` keeps what comes out, in memory for tests,
in Kafka for the service (:mod:`gateway.listener.service`). Everything that a private feed
brings goes, besides the topics that only the gateway reads, to those of its streams alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from broker import topics
from broker.codec import encode_dead_letter, iso
from crossmatch.errors import ConfigError, NoticeError, Rejected, ServiceError
from crossmatch.model import Notice
from gateway.intake import EventBook
from gateway.listener.maps import Wanted
from gateway.listener.outbox import (
    NOTICE_OFFSET,
    Batch,
    Held,
    HeldPlace,
    Progress,
    Sink,
    headers_of,
    wanted_key,
)
from gateway.listener.regionlog import RegionLog, slim
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.logs import EventLog
from gateway.reports import NoticeReport, Observer
from gateway.understand import SkymapFile, Understood

log = EventLog("listen")

_PART = 64
_PART_BYTES = 2**20
_REMEMBERED = 100_000
# Outcomes after which the same bytes by the same door need not be read again.
_KNOWN = ("region", "no_position", "retraction", "duplicate")
_T = TypeVar("_T")

# Bytes, the map that was fetched for them, and the door: by another one they may be private.
_Door = tuple[str, str, str, str, tuple[str, ...]]


class Understand(Protocol):
    """Reads one message (:meth:`gateway.listener.sandbox.Sandbox.understand`)."""

    def __call__(
        self,
        raw: bytes,
        *,
        topic: str = "",
        feed: str = "",
        skymap: SkymapFile | None = None,
        heed_pause: bool = True,
        audience: tuple[str, ...] = (),
    ) -> Understood:
        """What the message is."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one arrival; ``wanted`` is the map that it brought."""

    arrival: Arrival
    outcome: str
    found: Understood
    wanted: Wanted | None = None


class NoticePipeline:
    """Takes notices in and says what each became. For one thread.

    Parameters
    ----------
    understand : callable
    book : EventBook
        What is known of each event.
    sink : Sink
    store : SkymapStore
    progress : Progress, optional
        How far earlier runs came.
    audience : callable, optional
        Private streams of a feed, by its name: of what its source refused already.
    find_map : callable, optional
        The map of a notice that only gives an address, if it can be had without waiting.
    want : callable, optional
        Told of maps that must be fetched; None: none is.
    answered : callable
        Told of maps that were fetched and read, and why one will not do; empty if it does.
    observers : sequence of Observer
    now : callable
        UTC, for the reports and for what the book may forget.
    """

    def __init__(
        self,
        understand: Understand,
        book: EventBook,
        sink: Sink,
        store: SkymapStore,
        progress: Progress | None = None,
        *,
        audience: Callable[[str], tuple[str, ...]] = lambda feed: (),
        find_map: Callable[[Notice], SkymapFile | None] = lambda notice: None,
        want: Callable[[Wanted], None] | None = None,
        answered: Callable[[Wanted, str], None] = lambda wanted, reason: None,
        observers: Sequence[Observer] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        progress = progress or Progress()
        self._understand = understand
        self._book = book
        self._sink = sink
        self._store = store
        self._audience = audience
        self._find_map = find_map
        self._want = want
        self._answered = answered
        self._observers = list(observers)
        self._now = now
        self._log = RegionLog(store)
        self.next_notice = progress.next_notice
        self._repeats: OrderedDict[_Door, str] = OrderedDict()
        self.held: dict[str, HeldPlace] = dict(progress.held)
        self.wanted: dict[str, Wanted] = dict(progress.wanted)
        self.totals: Counter[str] = Counter(progress.totals)

    def take(
        self, arrivals: Sequence[Arrival], stored: Callable[[], None] = lambda: None
    ) -> list[str]:
        """Keep the raw bytes, call ``stored``, then work; one outcome an arrival, in order.

        Outcomes are those of ``broker.ledger.NOTICE_OUTCOMES``.

        Raises
        ------
        ServiceError
            If something could not be kept; the bytes that are stored are worked through
            at the next start (:meth:`resume`).
        """
        offsets = self._sink.store(arrivals)
        stored()
        outcomes: list[str] = []
        pairs = list(zip(arrivals, offsets, strict=True))
        for part in _parts(pairs, lambda pair: len(pair[0].raw)):
            outcomes += self.resume(part)
        return outcomes

    def resume(self, arrivals: Sequence[tuple[Arrival, int]]) -> list[str]:
        """Work through notices that are stored at these offsets of the notices topic."""
        if not arrivals:
            return []
        self.next_notice = max(offset for _, offset in arrivals) + 1
        return self._run(arrivals, "received")

    def release(self, feed: str, held: Iterable[Held]) -> int:
        """Work through messages that waited while ``feed`` was paused; their number.

        What is committed is not released again, whatever happens then.
        """
        count = 0
        for part in _parts(held, lambda one: len(one.arrival.raw)):
            waiting = self.held.get(feed, HeldPlace()).waiting
            place = HeldPlace(part[-1].held_offset + 1, max(waiting - len(part), 0))
            self.held[feed] = place
            self._run([(one.arrival, one.notice_offset) for one in part], "released")
            count += len(part)
        return count

    def give_up(self, key: str) -> None:
        """Wait no longer for the map with this marker key."""
        if key in self.wanted:
            batch = Batch(self.next_notice, held=dict(self.held))
            self._clear(key, batch)
            batch.totals = self.totals
            self._sink.commit(batch)

    def forget_repeats(self) -> None:
        """Read repeats anew: other feeds may be in force, and other people see them."""
        self._repeats.clear()

    def restore(self, values: Iterable[bytes]) -> int:
        """Take in what earlier runs wrote to the log of regions; the number of records."""
        return self._log.restore(values, self._book, self._now())

    def _run(self, arrivals: Sequence[tuple[Arrival, int]], origin: str) -> list[str]:
        batch = Batch(self.next_notice)
        results = []
        for arrival, offset in arrivals:
            result = self._outcome(arrival, offset, batch)
            results.append(result)
            batch.outcomes.append(result.outcome)
            batch.counts.update((origin, result.outcome))
        batch.totals = self.totals + batch.counts
        batch.held = dict(self.held)
        self._sink.commit(batch)
        self._log.sweep(self._book, self._now())
        self.totals = batch.totals
        if self._want is not None:
            for wanted in filter(None, batch.markers.values()):
                self._want(wanted)
        for result in results:
            if result.wanted is not None and result.outcome != "held":
                rejected = result.found.rejected
                self._answered(result.wanted, "" if rejected is None else rejected.reason)
        self._tell(results)
        return batch.outcomes

    def _outcome(self, arrival: Arrival, offset: int, batch: Batch) -> _Result:
        door = (
            hashlib.sha256(arrival.raw).hexdigest(),
            arrival.skymap,
            arrival.topic,
            arrival.feed,
            arrival.streams,
        )
        feed = self._repeats.get(door) if arrival.refused is None else None
        if feed is not None:
            # Up to 140 copies of one notice were seen on GCN: do not read its map each time.
            log.info("notice_repeated", source=arrival.source, sha256=door[0])
            found, outcome = Understood("ignored", feed), "duplicate"
        else:
            found = self._read(arrival)
            found, outcome = self._settled(found, arrival, offset, batch)
            if outcome in _KNOWN and not _lacks_map(found):
                self._repeats[door] = found.feed
                if len(self._repeats) > _REMEMBERED:
                    self._repeats.popitem(last=False)
        wanted = self.wanted.get(arrival.answers)
        if outcome not in ("rejected", "held"):
            # A file that will not do may be a better one later, and so may the machine.
            self._clear(arrival.answers, batch)
        return _Result(arrival, outcome, found, wanted)

    def _read(self, arrival: Arrival) -> Understood:
        """What a message is; whatever goes wrong costs this one, and is seen."""
        found = Understood("rejected", arrival.feed, streams=arrival.streams)
        try:
            found = replace(found, streams=self._streams_of(arrival))
            if arrival.refused is not None:
                raise arrival.refused
            skymap = None
            if arrival.skymap:
                skymap = SkymapFile(self._store.get(arrival.skymap), "fetched")
            found = self._understood(arrival, skymap)
            if found.notice is not None and _lacks_map(found):
                skymap = self._find_map(found.notice)
                if skymap is not None:
                    found = self._understood(arrival, skymap)
            return found
        except ServiceError:
            raise
        except Exception as error:
            return _rejected(found, error, arrival)

    def _understood(self, arrival: Arrival, skymap: SkymapFile | None) -> Understood:
        found = self._understand(
            arrival.raw,
            topic=arrival.topic,
            feed=arrival.feed,
            skymap=skymap,
            audience=arrival.streams,
        )
        return _kept_private(found, arrival.streams)

    def _settled(
        self, found: Understood, arrival: Arrival, offset: int, batch: Batch
    ) -> tuple[Understood, str]:
        """What a message is after all, and its outcome."""
        try:
            return found, self._settle(found, arrival, offset, batch)
        except ServiceError:
            raise
        except Exception as error:
            found = _rejected(found, error, arrival)
            return found, self._settle(found, arrival, offset, batch)

    def _streams_of(self, arrival: Arrival) -> tuple[str, ...]:
        """Who may see an arrival of which no more than its door is known."""
        try:
            feed = self._audience(arrival.feed) if arrival.feed else ()
            return tuple(sorted({*arrival.streams, *feed}))
        except ConfigError as error:
            # Its file went away while the message waited.
            raise NoticeError("no_feed", str(error)) from error

    def _settle(self, found: Understood, arrival: Arrival, offset: int, batch: Batch) -> str:
        """Enter a message in the book and the batch; its outcome."""
        if found.outcome == "rejected":
            self._reject(found, arrival, offset, batch)
            return "rejected"
        if found.outcome == "held":
            self._hold(found, arrival, offset, batch)
            return "held"
        if found.outcome == "ignored":
            log.info("notice_ignored", feed=found.feed, reason=found.reason)
            _show(found, arrival, batch)
            return "ignored"
        notice = found.notice
        assert notice is not None
        expires = None if found.region is None else found.region.expires
        decision = self._book.accept(slim(notice), received=arrival.received, expires=expires)
        if decision.outcome == "region" and found.region is not None:
            self._log.region(
                notice, replace(found.region, version=decision.version), arrival, batch
            )
            self._log.renumber(decision, batch)
        elif decision.outcome == "retraction":
            self._log.retraction(notice, arrival, batch)
        if decision.outcome != "duplicate":
            _show(found, arrival, batch)
            self._ask_for_map(found, notice, arrival, offset, batch)
        log.info(
            "notice",
            outcome=decision.outcome,
            feed=notice.feed,
            kind=notice.kind,
            event_id=notice.event_id,
            version=decision.version,
            role=notice.role,
            notice_id=notice.notice_id,
        )
        return decision.outcome

    def _ask_for_map(
        self, found: Understood, notice: Notice, arrival: Arrival, offset: int, batch: Batch
    ) -> None:
        if self._want is None or not _lacks_map(found) or not notice.skymap_url:
            return
        wanted = Wanted(
            url=notice.skymap_url,
            notice_offset=offset,
            notice_sha256=notice.sha256,
            event_id=notice.event_id,
            feed=notice.feed,
            since=iso(arrival.received),
            streams=notice.streams,
        )
        key = wanted_key(wanted)
        if key not in self.wanted:
            self.wanted[key] = batch.markers[key] = wanted

    def _clear(self, key: str, batch: Batch) -> None:
        if self.wanted.pop(key, None) is not None:
            batch.markers[key] = None

    def _hold(self, found: Understood, arrival: Arrival, offset: int, batch: Batch) -> None:
        place = self.held.get(found.feed, HeldPlace())
        self.held[found.feed] = place._replace(waiting=place.waiting + 1)
        private = replace(arrival, streams=found.streams)
        headers = (*headers_of(private), (NOTICE_OFFSET, str(offset).encode()))
        value = _letter(arrival, "paused", f"the feed {found.feed} is paused", found.streams)
        batch.add([topics.HELD], found.feed.encode(), value, headers)
        log.info("notice_held", feed=found.feed, source=arrival.source, offset=offset)

    def _reject(self, found: Understood, arrival: Arrival, offset: int, batch: Batch) -> None:
        error = found.rejected
        assert error is not None
        log.warning(
            "notice_rejected",
            reason=error.reason,
            detail=error.detail,
            feed=found.feed,
            source=arrival.source,
            topic=arrival.topic,
            offset=offset,
        )
        if arrival.answers in self.wanted:
            # Only its map: the notice became what it is without it.
            return
        value = _letter(arrival, error.reason, error.detail, found.streams)
        names = {topics.DEAD_LETTER, *topics.seen_by(topics.DEAD_LETTER, found.streams)}
        batch.add(sorted(names), b"notice", value)

    def _tell(self, results: Iterable[_Result]) -> None:
        finished = self._now()
        for result in results if self._observers else ():
            report = _report(result, finished)
            for observer in self._observers:
                try:
                    observer(report)
                except Exception:
                    # What is only told must not stop what is done.
                    log.error("observer_failed", exc_info=True, observer=type(observer).__name__)


def _rejected(found: Understood, error: Exception, arrival: Arrival) -> Understood:
    """``found`` as a rejection. A fault of ours costs one notice, not the service, and is seen."""
    if not isinstance(error, Rejected):
        log.error("parser_failed", exc_info=True, source=arrival.source, topic=arrival.topic)
        error = NoticeError("parser_failed", f"{type(error).__name__}: {error}")
    return replace(found, outcome="rejected", region=None, rejected=error)


def _kept_private(found: Understood, streams: tuple[str, ...]) -> Understood:
    """``found`` for none but ``streams``, to whom its door belongs; empty: to everybody."""
    if not streams or (found.streams and set(found.streams) <= set(streams)):
        return found
    if found.outcome not in ("ignored", "rejected"):
        why = f"it came for {', '.join(streams)} alone, and the feed {found.feed} is for others"
        error = NoticeError("no_feed", why)
        found = Understood("rejected", found.feed, found.feed_version, rejected=error)
    return replace(found, streams=streams)


def _lacks_map(found: Understood) -> bool:
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


def _show(found: Understood, arrival: Arrival, batch: Batch) -> None:
    """The message itself, to the private streams that may see it; its map came without it."""
    if found.streams and not arrival.skymap:
        names = topics.seen_by(topics.NOTICES, found.streams)
        batch.add(names, found.feed.encode(), arrival.raw, headers_of(arrival))


def _letter(arrival: Arrival, reason: str, detail: str, streams: tuple[str, ...]) -> bytes:
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


def _report(result: _Result, finished: datetime) -> NoticeReport:
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


def _parts(items: Iterable[_T], size_of: Callable[[_T], int]) -> Iterator[list[_T]]:
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
