"""What becomes of a notice: raw bytes kept, then region, retraction, or a reason why not.

No reactor and no Kafka here: a :class:`Sink` keeps what comes out, in memory for tests,
in Kafka for the service (:mod:`gateway.listener.service`). Everything that a private feed
brings goes, besides the topics that only the gateway reads, to those of its streams alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from broker import topics
from broker.codec import iso
from broker.ledger import UNKNOWN_FEED, night_of_arrival
from crossmatch.errors import ConfigError, NoticeError, ServiceError
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
    TooLarge,
    headers_of,
    wanted_key,
)
from gateway.listener.regionlog import RegionLog, slim
from gateway.listener.results import (
    Result,
    Task,
    as_rejected,
    cut,
    kept_private,
    lacks_map,
    letter,
    parts,
    report_of,
    show,
    stored_in,
)
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.logs import EventLog
from gateway.reports import Observer
from gateway.understand import SkymapFile, Understood

log = EventLog("listen")

_REMEMBERED = 100_000
# Outcomes after which the same bytes by the same door need not be read again.
_KNOWN = ("region", "no_position", "retraction", "duplicate")

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


class NoticePipeline:
    """Takes notices in and says what each became. For one thread; :meth:`store` may have another.

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
    recall : callable
        What was written to the log of regions so far: read again when a batch was refused.
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
        recall: Callable[[], Iterable[bytes]] = lambda: (),
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
        self._recall = recall
        self._observers = list(observers)
        self._now = now
        self._log = RegionLog(store)
        self.next_notice = progress.next_notice
        self.next_retry = progress.next_retry
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
        kept = self.store(arrivals)
        stored()
        return self.work(kept)

    def store(self, arrivals: Sequence[Arrival]) -> list[tuple[Arrival, int]]:
        """Keep the raw bytes; arrivals as they were stored, and where, for :meth:`work`.

        Of what Kafka does not take, the beginning. Another thread than that of the rest may
        do this, if it hands over what it stored in that order.
        """
        return stored_in(self._sink, arrivals)

    def work(self, kept: Sequence[tuple[Arrival, int]]) -> list[str]:
        """Work through what was stored; one outcome an arrival, in order."""
        outcomes = [""] * len(kept)
        # What is committed must leave nothing behind it that was stored before.
        order = sorted(range(len(kept)), key=lambda number: kept[number][1])
        for part in parts(order, lambda number: len(kept[number][0].raw)):
            done = self.resume([kept[number] for number in part])
            for number, outcome in zip(part, done, strict=True):
                outcomes[number] = outcome
        return outcomes

    def resume(self, arrivals: Sequence[tuple[Arrival, int]]) -> list[str]:
        """Work through notices that are stored at these offsets of the notices topic."""
        if not arrivals:
            return []
        return self._run([Task(*pair) for pair in arrivals], "received")

    def release(self, feed: str, held: Iterable[Held]) -> int:
        """Work through messages that waited while ``feed`` was paused; their number.

        What is committed is not released again, whatever happens then.
        """
        count = 0
        for part in parts(held, lambda one: len(one.arrival.raw)):
            tasks = [Task(o.arrival, o.notice_offset, feed, o.held_offset) for o in part]
            self._run(tasks, "released")
            count += len(part)
        return count

    def give_up(self, key: str) -> None:
        """Wait no longer for the map with this marker key."""
        if key in self.wanted:
            batch = self._batch()
            batch.held = dict(self.held)
            self._clear(key, batch)
            batch.totals = self.totals
            self._sink.commit(batch)

    def forget_repeats(self) -> None:
        """Read repeats anew: other feeds may be in force, and other people see them."""
        self._repeats.clear()

    def restore(self, values: Iterable[bytes]) -> int:
        """Take in what earlier runs wrote to the log of regions; the number of records."""
        return self._log.restore(values, self._book, self._now())

    def _run(self, tasks: Sequence[Task], origin: str) -> list[str]:
        """Work through what is committed together, or one by one if Kafka refuses all of it."""
        before = self.next_notice, dict(self.held), dict(self.wanted)
        try:
            return self._work(tasks, origin)
        except TooLarge as error:
            self.next_notice, self.held, self.wanted = before
            self._start_anew()
            if len(tasks) > 1:
                return [outcome for task in tasks for outcome in self._run([task], origin)]
            # Not read again: whatever came of it was too much, and it must not come for ever.
            (task,) = tasks
            return self._work([task._replace(arrival=cut(task.arrival, error))], origin)

    def _start_anew(self) -> None:
        """Know of the events what is in the log of regions: nothing of a batch that was refused."""
        self._book, self._log = EventBook(), RegionLog(self._store)
        self.restore(self._recall())
        self.forget_repeats()

    def _batch(self) -> Batch:
        return Batch(self.next_notice, next_retry=self.next_retry, moment=iso(self._now()))

    def _go_past(self, task: Task) -> None:
        self.next_retry = max(self.next_retry, task.arrival.retry + 1)
        if task.feed:
            waiting = self.held.get(task.feed, HeldPlace()).waiting
            self.held[task.feed] = HeldPlace(task.held_offset + 1, max(waiting - 1, 0))
        else:
            self.next_notice = max(self.next_notice, task.offset + 1)

    def _work(self, tasks: Sequence[Task], origin: str) -> list[str]:
        for task in tasks:
            self._go_past(task)
        batch = self._batch()
        results = []
        for task in tasks:
            result = self._outcome(task.arrival, task.offset, batch)
            results.append(result)
            batch.outcomes.append(result.outcome)
            night = night_of_arrival(task.arrival.received)
            batch.count(night, result.found.feed or UNKNOWN_FEED, origin, result.outcome)
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

    def _outcome(self, arrival: Arrival, offset: int, batch: Batch) -> Result:
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
            if outcome in _KNOWN and not lacks_map(found):
                self._repeats[door] = found.feed
                if len(self._repeats) > _REMEMBERED:
                    self._repeats.popitem(last=False)
        wanted = self.wanted.get(arrival.answers)
        if outcome not in ("rejected", "held"):
            # A file that will not do may be a better one later, and so may the machine.
            self._clear(arrival.answers, batch)
        return Result(arrival, outcome, found, wanted)

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
            if found.notice is not None and lacks_map(found):
                skymap = self._find_map(found.notice)
                if skymap is not None:
                    found = self._understood(arrival, skymap)
            return found
        except ServiceError:
            raise
        except Exception as error:
            return as_rejected(found, error, arrival)

    def _understood(self, arrival: Arrival, skymap: SkymapFile | None) -> Understood:
        found = self._understand(
            arrival.raw,
            topic=arrival.topic,
            feed=arrival.feed,
            skymap=skymap,
            audience=arrival.streams,
        )
        return kept_private(found, arrival.streams)

    def _settled(
        self, found: Understood, arrival: Arrival, offset: int, batch: Batch
    ) -> tuple[Understood, str]:
        """What a message is after all, and its outcome."""
        try:
            return found, self._settle(found, arrival, offset, batch)
        except ServiceError:
            raise
        except Exception as error:
            found = as_rejected(found, error, arrival)
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
            log.info("notice", outcome="ignored", feed=found.feed, reason=found.reason)
            show(found, arrival, batch)
            return "ignored"
        notice = found.notice
        assert notice is not None
        expires = None if found.region is None else found.region.expires
        decision = self._book.accept(slim(notice), received=arrival.received, expires=expires)
        if decision.outcome == "region" and found.region is not None:
            self._log.region(
                notice, replace(found.region, version=decision.version), arrival, batch
            )
            self._log.last_word(decision, batch)
        elif decision.outcome == "retraction":
            self._log.retraction(notice, arrival, batch)
            self._log.last_word(decision, batch)
        if decision.outcome != "duplicate":
            show(found, arrival, batch)
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
            **({"reason": found.reason} if found.reason else {}),
        )
        return decision.outcome

    def _ask_for_map(
        self, found: Understood, notice: Notice, arrival: Arrival, offset: int, batch: Batch
    ) -> None:
        if self._want is None or not lacks_map(found) or not notice.skymap_url:
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
        value = letter(arrival, "paused", f"the feed {found.feed} is paused", found.streams)
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
        value = letter(arrival, error.reason, error.detail, found.streams)
        names = {topics.DEAD_LETTER, *topics.seen_by(topics.DEAD_LETTER, found.streams)}
        # With what the letter itself has no place for: whose door it was, should it be sent again.
        batch.add(sorted(names), b"notice", value, headers_of(arrival))

    def _tell(self, results: Iterable[Result]) -> None:
        finished = self._now()
        for result in results if self._observers else ():
            report = report_of(result, finished)
            for observer in self._observers:
                try:
                    observer(report)
                except Exception:
                    # What is only told must not stop what is done.
                    log.error("observer_failed", exc_info=True, observer=type(observer).__name__)
