"""Whether a feed's silence is usual: pure rules on what is remembered of it."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from gateway.feeds.spec import Feed
from gateway.watch.records import DAY, HOUR, SLOT, FeedRecord, Health

State = Literal["ok", "silent", "quiet", "never_heard", "paused", "off"]

# A snapshot is written every few seconds: one older than this is of a listener that stopped.
_LISTENING = 120.0
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
    gap = health.listened(record.last, at)
    limit = silent_after(health, record)
    # A rate of which nothing can be concluded is no rate: two messages in a second are not
    # a hundred thousand a day.
    usual = None if limit is None else usual_per_day(health, record)
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
