"""Health of the feeds: what was heard, when, how fast, from which servers.

:class:`FeedHealth` is the :class:`gateway.reports.Observer` of the pipeline. In the
listener::

    health = FeedHealth(snapshot_path(state), now)      # reads the last snapshot back
    health(report)                         # in the pipeline's thread: counts only, writes nothing
    health.beat("kafka:kafka.gcn.nasa.gov", "gcn.heartbeat", when)  # if beats pass the pipeline by
    health.opened(server, credentials=True)     # once a source is started, under its name
    health.contact(server, when)                # whenever it answered, from any thread
    health.lost(server, detail, when)           # when it is away; the next contact ends that
    health.note_held(counts)                    # messages of paused feeds that wait
    health.note_waiting(fetcher.waiting)
    health.note_broken({file or feed: sentence}, {feed: sentence})  # all of them, each time
    health.map_given_up(wanted, reason, when); health.map_came(wanted)
    health.save()                          # from a timer (gateway.watch.alarms.Watch does)

Everybody else reads the snapshot, ``<state>/feeds/health.json``, by :func:`read_health`.
:func:`gateway.watch.verdicts.verdicts` says what it means; it is pure.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from gateway.listener.maps import Waiting, Wanted
from gateway.logs import EventLog
from gateway.reports import NoticeReport
from gateway.runfiles import read_json, write_json
from gateway.watch.records import (
    DAY,
    KEPT_OUTAGES,
    KEPT_TROUBLES,
    BeatRecord,
    FeedRecord,
    Health,
    ServerRecord,
    Trouble,
    UnknownRecord,
    health_from_json,
)
from gateway.watch.verdicts import FeedVerdict, verdicts

__all__ = ["FeedHealth", "FeedVerdict", "read_health", "snapshot_path", "verdicts"]

log = EventLog("listen")

# A latency beyond this is that of an archive being read, not of a message under way.
_LONGEST_LATENCY = 7 * DAY
_SHORT_OUTAGE = 15.0


class FeedHealth:
    """Keeps the health of the feeds up to date and writes it down.

    Parameters
    ----------
    path : Path
        Of the snapshot, see :func:`snapshot_path`.
    now : callable
        UTC.
    every_seconds : float
        At most so often is it written.
    """

    def __init__(
        self, path: Path, now: Callable[[], datetime], *, every_seconds: float = 5.0
    ) -> None:
        self._path = path
        self._now = now
        self._every = every_seconds
        self._lock = threading.Lock()
        self._health = read_health(self._path) or Health()
        at = now().timestamp()
        health = self._health
        if health.written is not None and at - health.written > _SHORT_OUTAGE:
            health.outages = [*health.outages, (health.written, at)][-KEPT_OUTAGES:]
        health.started = at
        # This run says itself whom it hears. What else was so stays so until it is told anew:
        # an alarm must not end because the listener was started again.
        health.opened = []
        health.written = at
        self._saved = -math.inf

    def __call__(self, report: NoticeReport) -> None:
        """Take note of one message; duplicates and tests count as heard."""
        at = report.received.timestamp()
        if report.reason == "heartbeat":
            self.beat(report.source, report.topic, report.received, feed=report.feed)
            return
        with self._lock:
            record = self._health.feeds.setdefault(report.feed, FeedRecord())
            waited = self._was_heard_before(record, report)
            if not waited:
                gap = None if record.last is None else self._health.listened(record.last, at)
                record.hear(at, report.outcome, gap)
            if report.outcome == "region":
                record.last_region = report.finished.timestamp()
            if report.outcome not in ("duplicate", "held") and not waited:
                _add_latencies(record, report)
            if not report.feed and report.reason == "no_feed":
                self._unknown(report.topic or report.source.partition(":")[0], at)
        self.contact(_server(report.source), report.received)

    def beat(self, source: str, topic: str, when: datetime, *, feed: str = "") -> None:
        """A heartbeat came; it is a contact with the server too."""
        with self._lock:
            self._health.beats[f"{source} {topic}"] = BeatRecord(when.timestamp(), feed)
        self.contact(_server(source), when)

    def opened(self, server: str, *, credentials: bool = False) -> None:
        """This run hears a server; ``credentials``: they lapse when they are idle."""
        with self._lock:
            record = self._health.servers.setdefault(server, ServerRecord())
            record.credentials = credentials
            if server not in self._health.opened:
                self._health.opened.append(server)

    def contact(self, server: str, when: datetime) -> None:
        """A server answered; names that were not opened are passed over."""
        with self._lock:
            record = self._health.servers.get(server)
            if record is not None:
                record.last = max(record.last or 0.0, when.timestamp())
                record.lost_since, record.detail = None, ""

    def lost(self, server: str, detail: str, when: datetime) -> None:
        """A server is away, until the next contact."""
        with self._lock:
            record = self._health.servers.setdefault(server, ServerRecord())
            record.lost_since = record.lost_since or when.timestamp()
            record.detail = detail[:300]

    def note_held(self, counts: Mapping[str, int]) -> None:
        """Messages that wait for their paused feed, by feed."""
        with self._lock:
            self._health.held = {name: n for name, n in counts.items() if n}

    def note_waiting(self, waiting: Iterable[Waiting]) -> None:
        """Maps that are not there yet."""
        rows = [
            {
                "event_id": w.wanted.event_id,
                "feed": w.wanted.feed,
                "url": w.wanted.url,
                "since": w.wanted.since,
                "tries": w.tries,
                "next_try": w.next_try.isoformat(),
                "last_reason": w.last_reason,
            }
            for w in waiting
        ]
        with self._lock:
            self._health.waiting = rows[:1000]

    def note_broken(
        self, broken: Mapping[str, str], doors: Mapping[str, str] | None = None
    ) -> None:
        """What is wrong with feed files, by feed or file, and with feeds' own sources, by feed.

        Empty when all is well.
        """
        with self._lock:
            self._health.broken = dict(broken)
            self._health.doors = dict(doors or {})

    def map_given_up(self, wanted: Wanted, reason: str, when: datetime) -> None:
        """A map will not be asked for again."""
        sentence = f"the sky map of {wanted.event_id} was given up ({reason}): {wanted.url}"
        data = {"feed": wanted.feed, "url": wanted.url, "reason": reason}
        with self._lock:
            troubles = self._health.maps_given_up
            troubles.pop(wanted.event_id, None)
            troubles[wanted.event_id] = Trouble(when.timestamp(), sentence, data)
            for event in list(troubles)[:-KEPT_TROUBLES]:
                del troubles[event]

    def map_came(self, wanted: Wanted) -> None:
        """A map of the event is there after all."""
        with self._lock:
            self._health.maps_given_up.pop(wanted.event_id, None)

    def snapshot(self) -> Health:
        """A copy of everything as it is now."""
        with self._lock:
            self._health.written = self._now().timestamp()
            record = self._health.as_json()
        return health_from_json(record)

    def save(self, *, at_once: bool = False) -> bool:
        """Write the snapshot, unless that was just done; whether it was written.

        Raises
        ------
        ServiceError
            If it cannot be written.
        """
        at = self._now().timestamp()
        if not at_once and abs(at - self._saved) < self._every:
            return False
        self._saved = at
        with self._lock:
            self._health.written = at
            record = self._health.as_json()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, record, indent=None)
        return True

    def _was_heard_before(self, record: FeedRecord, report: NoticeReport) -> bool:
        """Whether it is an old message: one whose map came, or whose feed was paused."""
        if report.source.startswith("map:"):
            return True
        held = record.outcomes.get("held", 0)
        if not held or record.last is None or report.received.timestamp() > record.last:
            return False
        if report.outcome == "held":
            return False
        record.outcomes["held"] = held - 1
        record.outcomes[report.outcome] = record.outcomes.get(report.outcome, 0) + 1
        return True

    def _unknown(self, where: str, at: float) -> None:
        known = self._health.unknown
        if where in known:
            known[where].count += 1
            known[where].last = at
        elif len(known) < KEPT_TROUBLES:
            known[where] = UnknownRecord(1, at, at)


def snapshot_path(state: Path) -> Path:
    """File of the snapshot in a state folder."""
    return state / "feeds" / "health.json"


def read_health(path: Path) -> Health | None:
    """The last snapshot; None if there is none that can be read."""
    record = read_json(path)
    if record is None:
        return None
    try:
        return health_from_json(record)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        log.warning("health_not_read", file=path, detail=str(error))
        return None


def _add_latencies(record: FeedRecord, report: NoticeReport) -> None:
    spans = {
        "event_received": (report.trigger_time, report.received),
        "issued_received": (report.issued, report.received),
    }
    if report.outcome == "region":
        spans["received_region"] = (report.received, report.finished)
    for name, (begin, end) in spans.items():
        if begin is not None and abs(seconds := (end - begin).total_seconds()) < _LONGEST_LATENCY:
            record.latencies[name].append(round(seconds, 3))


def _server(source: str) -> str:
    """Name of the server in ``kafka:<server>``."""
    return source.partition(":")[2]
