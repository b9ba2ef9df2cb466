"""Health of the feeds: what was heard, what is usual, and whether the silence is.

:class:`FeedHealth` is the :class:`gateway.reports.Observer` of the pipeline. In the listener::

    health = FeedHealth(snapshot_path(state), now)      # reads the last snapshot back
    health(report)                         # in the pipeline's thread: counts only, writes nothing
    health.beat("kafka:kafka.gcn.nasa.gov", "gcn.heartbeat", when)  # if beats pass the pipeline by
    health.opened(server, credentials=True)     # once a source is started, under its name
    health.contact(server, when)                # whenever it answered, from any thread
    health.lost(server, detail, when)           # when it is away; the next contact ends that
    health.note_held(counts)                    # messages of paused feeds that wait
    health.note_waiting(fetcher.waiting)
    health.note_broken({file or feed: sentence})    # all of them, each time
    health.map_given_up(wanted, reason, when); health.map_came(wanted)
    health.save()                          # from a timer (gateway.alarms.Watch does)

Everybody else reads the snapshot, ``<state>/feeds/health.json``, by :func:`read_health`.
:func:`verdicts` and what it uses are pure.
"""

from __future__ import annotations

import heapq
import math
import statistics
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gateway.feeds.spec import Feed
from gateway.healthrecord import (
    DAY,
    HOUR,
    KEPT_OUTAGES,
    KEPT_TROUBLES,
    SLOT,
    BeatRecord,
    FeedRecord,
    Health,
    ServerRecord,
    Trouble,
    UnknownRecord,
    health_from_json,
)
from gateway.logs import EventLog
from gateway.maps import Waiting, Wanted
from gateway.reports import NoticeReport
from gateway.runfiles import read_json, write_json

log = EventLog("listen")

State = Literal["ok", "silent", "quiet", "never_heard", "paused", "off"]

# A latency beyond this is that of an archive being read, not of a message under way.
_LONGEST_LATENCY = 7 * DAY
# A snapshot is written every few seconds: one older than this is of a listener that stopped.
_LISTENING = 120.0
_SHORT_OUTAGE = 15.0

SILENT_PROBABILITY = 1e-3
QUIET_PROBABILITY = 1e-2
GUARD = 1.5
"""A silence must be this much longer than the longest that is usual."""
MIN_SLOTS = 10
"""Fewer arrivals, each ten minutes or more from the next, say nothing of what is usual."""
MAX_THRESHOLD_DAYS = 60.0
"""A feed so rare that silence would be told only after this has no verdict."""
_MEDIAN_DAYS = 14
_WINDOW_DAYS = 90


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
                "url": w.address or w.wanted.url,
                "since": w.wanted.since,
                "tries": w.tries,
                "next_try": w.next_try.isoformat(),
                "last_reason": w.last_reason,
            }
            for w in waiting
        ]
        with self._lock:
            self._health.waiting = rows[:1000]

    def note_broken(self, broken: Mapping[str, str]) -> None:
        """What is wrong with feed files, by feed or file; empty when all is well."""
        with self._lock:
            self._health.broken = dict(broken)

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
        write_json(self._path, record)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedVerdict:
    """How a feed is.

    Parameters
    ----------
    feed : str
    state : str
        ``ok``; ``quiet``: longer silent than usual, but that happens; ``silent``: something
        is wrong; ``never_heard``; ``paused`` and ``off``: by the operator.
    sentence : str
    usual_per_day : float, optional
        Messages; None while too little is known.
    silent_after_hours : float, optional
        The silence that would be told.
    """

    feed: str
    state: State
    sentence: str
    usual_per_day: float | None = None
    silent_after_hours: float | None = None


def verdicts(
    health: Health, feeds: Sequence[Feed], now: datetime, paused: Collection[str] = ()
) -> list[FeedVerdict]:
    """How each feed is, as far as somebody listened.

    Parameters
    ----------
    health : Health
    feeds : sequence of Feed
    now : datetime
        UTC. After a snapshot grew old nobody listened, and silence is not counted.
    paused : collection of str
        Names of feeds whose messages are held.
    """
    at = heard_until(health, now.timestamp())
    return [_verdict(health, feed, at, feed.name in paused) for feed in feeds]


def heard_until(health: Health, now: float) -> float:
    """Up to when silence means something."""
    if health.written is None or now - health.written <= _LISTENING:
        return now
    return health.written


def usual_per_day(health: Health, record: FeedRecord) -> float | None:
    """Messages a day: the median of the last whole days, or the mean where that is nothing."""
    return _usual(health, record, record.days)


def silent_after(health: Health, record: FeedRecord) -> float | None:
    """Seconds of silence, while somebody listens, after which a feed counts as silent.

    Notes
    -----
    Arrivals are counted once in ten minutes, so that copies and the notices of one burst
    are one. At their usual rate r a silence t has the probability exp(-r t) if they come
    as Poisson has it: t = -ln(1e-3)/r. Real feeds come in clusters; so it must also exceed
    1.5 times the second-longest of the latest 200 gaps: an outage does not become usual
    by having happened once. None when fewer than ten arrivals or less than a day are
    known, or when it would take more than 60 days.
    """
    return _silence(health, record, SILENT_PROBABILITY, GUARD)


def _silence(health: Health, record: FeedRecord, probability: float, guard: float) -> float | None:
    if record.first is None or record.last is None or record.last - record.first < DAY:
        return None
    if sum(record.slots.values()) < MIN_SLOTS:
        return None
    rate = _usual(health, record, record.slots)
    if not rate:
        return None
    usual_gap = min(heapq.nlargest(2, record.gaps), default=SLOT)
    seconds = max(-math.log(probability) / rate * DAY, guard * usual_gap)
    return seconds if seconds <= MAX_THRESHOLD_DAYS * DAY else None


def _usual(health: Health, record: FeedRecord, counts: Mapping[int, int]) -> float | None:
    if record.first is None or record.last is None:
        return None
    # The silence in question must not make itself usual: what counts ends with the last arrival.
    last_day = int(record.last // DAY)
    first_day = max(int(record.first // DAY), last_day - _WINDOW_DAYS)
    whole = range(max(first_day + 1, last_day - _MEDIAN_DAYS), last_day)
    heard_whole = [d for d in whole if health.listened(d * DAY, (d + 1) * DAY) > 0.9 * DAY]
    if len(heard_whole) >= 3:
        median = statistics.median(counts.get(d, 0) for d in heard_whole)
        if median >= 1:
            return float(median)
    begin = max(record.first, first_day * DAY)
    days = health.listened(begin, record.last) / DAY
    total = sum(n for d, n in counts.items() if d >= first_day)
    return (total - 1) / days if days > 0 and total > 1 else None


def _verdict(health: Health, feed: Feed, at: float, paused: bool) -> FeedVerdict:
    record = health.feeds.get(feed.name)
    if not feed.enabled:
        return FeedVerdict(feed=feed.name, state="off", sentence="switched off in its file")
    if paused:
        held = health.held.get(feed.name, 0)
        sentence = f"paused; {held} messages wait for: mmgateway feeds enable {feed.name}"
        return FeedVerdict(feed=feed.name, state="paused", sentence=sentence)
    if record is None or record.last is None:
        return _never(health, feed, at)
    usual = usual_per_day(health, record)
    gap = health.listened(record.last, at)
    limit = silent_after(health, record)
    soft = _silence(health, record, QUIET_PROBABILITY, 1.0)
    own = feed.max_silence_hours
    if own is not None:
        # The operator knows better than the past.
        limit = own * HOUR
        soft = min(soft, limit) if soft is not None else None
    state: State = "ok"
    sentence = f"heard {age(gap)} ago"
    if limit is not None and gap > limit:
        state = "silent"
        why = f"max_silence_hours is {own:g}" if own is not None else _why(usual, limit)
        sentence = f"silent for {age(gap)}; {why}"
    elif soft is not None and gap > soft:
        state = "quiet"
        sentence = f"heard {age(gap)} ago, longer than usual"
    elif limit is None:
        sentence += (
            f"; {record.heard} messages so far are too few, or too rare, to say what is usual"
        )
    hours = None if limit is None else limit / HOUR
    return FeedVerdict(
        feed=feed.name,
        state=state,
        sentence=sentence,
        usual_per_day=usual,
        silent_after_hours=hours,
    )


def _never(health: Health, feed: Feed, at: float) -> FeedVerdict:
    """Verdict of a feed that was not heard once: silent only where its file sets a limit."""
    own = feed.max_silence_hours
    since = min((a for a in (health.started, *(b for b, _ in health.outages)) if a), default=at)
    waited = health.listened(since, at)
    if own is not None and waited > own * HOUR:
        sentence = f"never heard, and max_silence_hours is {own:g}"
        return FeedVerdict(
            feed=feed.name, state="silent", sentence=sentence, silent_after_hours=own
        )
    return FeedVerdict(feed=feed.name, state="never_heard", sentence="never heard so far")


def _why(usual: float | None, limit: float) -> str:
    rate = "" if usual is None else f"usually {usual:.2g} messages a day, "
    return f"{rate}one was due within {age(limit)}"


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


def utc(seconds: float) -> datetime:
    """Moment of a record."""
    return datetime.fromtimestamp(seconds, UTC)


def age(seconds: float) -> str:
    """A span in words, one number and a unit.

    Examples
    --------
    >>> age(42), age(5400), age(200000)
    ('42 s', '1.5 h', '2.3 d')
    """
    for unit, size in (("d", DAY), ("h", HOUR), ("min", 60)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
