"""What is remembered of the feeds' health, and its form in a file.

Everything is bounded: hours for 14 days, days for 400, the last few hundred latencies
and gaps. Times are Unix seconds (UTC) here, so that a snapshot is plain JSON.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HOUR = 3600
DAY = 86400
SLOT = 600
"""Seconds: what comes within one such slot counts once for the usual rate, so that 100 copies
of a notice, or the four notices of one burst, do not make a feed look busy."""
KEPT_HOURS = 14 * 24
KEPT_DAYS = 400
KEPT_LATENCIES = 300
KEPT_GAPS = 200
KEPT_OUTAGES = 100
KEPT_TROUBLES = 50
LATENCIES = ("event_received", "issued_received", "received_region")


def _latencies() -> dict[str, deque[float]]:
    return {name: deque(maxlen=KEPT_LATENCIES) for name in LATENCIES}


@dataclass(slots=True)
class FeedRecord:
    """What one feed did.

    Parameters
    ----------
    outcomes : dict
        How many messages ended as ``region``, ``rejected``, ``duplicate``, …; ``held``: those
        that still wait. A second version by a map that came later is no message.
    first, last, last_region : float, optional
        When it was heard for the first and the last time; when it last gave a region.
    hours, days, slots : dict
        Messages by hour and by day since 1970, and slots with any message by day.
    gaps : deque of float
        Seconds of silence, while we listened, before the latest messages; those within a
        slot are left out.
    latencies : dict of deque of float
        Seconds, by the names of ``LATENCIES``.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    first: float | None = None
    last: float | None = None
    last_region: float | None = None
    hours: dict[int, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_GAPS))
    latencies: dict[str, deque[float]] = field(default_factory=_latencies)

    @property
    def heard(self) -> int:
        """All messages ever."""
        return sum(self.outcomes.values())

    def hear(self, at: float, outcome: str, gap: float | None) -> None:
        """Count one message; ``gap`` is the silence before it, if it was not the first."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        hour, day = int(at // HOUR), int(at // DAY)
        if self.last is None or at // SLOT != self.last // SLOT:
            _count(self.slots, day, KEPT_DAYS)
        if gap is not None and gap > SLOT:
            self.gaps.append(round(gap, 1))
        _count(self.hours, hour, KEPT_HOURS)
        _count(self.days, day, KEPT_DAYS)
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def recent(self, now: float, hours: int = 24) -> int:
        """Messages of the last ``hours`` hours, whole hours of the clock."""
        begin = now // HOUR - hours
        return sum(n for hour, n in self.hours.items() if hour > begin)


@dataclass(slots=True)
class ServerRecord:
    """A server we hear: last contact, whether it asks for credentials, trouble and since when."""

    last: float | None = None
    credentials: bool = False
    lost_since: float | None = None
    detail: str = ""


@dataclass(slots=True)
class BeatRecord:
    """Heartbeats on one topic of one source; ``feed`` is empty for those of a whole server."""

    last: float
    feed: str = ""


@dataclass(slots=True)
class UnknownRecord:
    """Messages of one topic or source that no feed understands."""

    count: int
    first: float
    last: float


@dataclass(slots=True)
class Trouble:
    """Something that happened at one moment and is told for a while."""

    at: float
    sentence: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Health:
    """Everything that is known of the feeds' health.

    Parameters
    ----------
    written : float, optional
        When this was so.
    started : float, optional
        Since when the listener runs that wrote it.
    outages : list of (float, float)
        When nobody listened.
    feeds : dict
        Records by name; the empty name has messages that no feed knows.
    servers, beats : dict
        By server; by ``<source> <topic>``.
    opened : list of str
        Servers that this run of the listener asked for.
    held : dict
        Messages of paused feeds that wait.
    waiting : list of dict
        Maps that are not there yet: ``event_id``, ``feed``, ``url``, ``since``, ``tries``,
        ``next_try``, ``last_reason``.
    broken : dict
        What is wrong with a feed file, by feed or file.
    doors : dict
        What is wrong with the own source of a feed, by feed.
    maps_given_up : dict
        By event.
    unknown : dict
        Messages that no feed knows, by topic or source.
    """

    written: float | None = None
    started: float | None = None
    outages: list[tuple[float, float]] = field(default_factory=list)
    feeds: dict[str, FeedRecord] = field(default_factory=dict)
    servers: dict[str, ServerRecord] = field(default_factory=dict)
    beats: dict[str, BeatRecord] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    doors: dict[str, str] = field(default_factory=dict)
    maps_given_up: dict[str, Trouble] = field(default_factory=dict)
    unknown: dict[str, UnknownRecord] = field(default_factory=dict)

    def listened(self, begin: float, end: float) -> float:
        """Seconds between two moments during which somebody listened."""
        deaf = sum(max(0.0, min(end, b) - max(begin, a)) for a, b in self.outages)
        return max(0.0, end - begin - deaf)

    def as_json(self) -> dict[str, Any]:
        """Values for JSON that do not change when this record does."""
        return _plain(self)  # type: ignore[no-any-return]


def health_from_json(record: Mapping[str, Any]) -> Health:
    """Health of a snapshot; keys that are not known are left out.

    Raises
    ------
    ValueError, TypeError, KeyError
        When a value is not what it should be.
    """
    known = {f.name: record[f.name] for f in dataclasses.fields(Health) if f.name in record}
    health = Health(**known)
    health.outages = [(float(a), float(b)) for a, b in health.outages]
    health.feeds = {name: _feed(r) for name, r in health.feeds.items()}
    health.servers = {name: ServerRecord(**r) for name, r in record.get("servers", {}).items()}
    health.beats = {name: BeatRecord(**r) for name, r in record.get("beats", {}).items()}
    health.unknown = {name: UnknownRecord(**r) for name, r in record.get("unknown", {}).items()}
    troubles = record.get("maps_given_up", {})
    health.maps_given_up = {name: Trouble(**r) for name, r in troubles.items()}
    return health


def _feed(record: Any) -> FeedRecord:
    values = dict(record)
    for name in ("hours", "days", "slots"):
        values[name] = {int(k): int(n) for k, n in values.get(name, {}).items()}
    values["gaps"] = deque(map(float, values.get("gaps", ())), maxlen=KEPT_GAPS)
    latencies = _latencies()
    for name, found in values.get("latencies", {}).items():
        if name in latencies:
            latencies[name].extend(map(float, found))
    values["latencies"] = latencies
    return FeedRecord(**values)


def _plain(value: Any) -> Any:
    """Independent plain values; numbers as keys stay, JSON makes texts of them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        # The counts by hour and day are long: those are copied as they are.
        if isinstance(next(iter(value.values()), None), int | float):
            return dict(value)
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, deque | list) else value


def _count(counts: dict[int, int], key: int, kept: int) -> None:
    """Count one at ``key``, and forget keys more than ``kept`` before it."""
    if key not in counts:
        for old in [k for k in counts if k <= key - kept]:
            del counts[old]
        counts[key] = 0
    counts[key] += 1


def percentile(values: Iterable[float], share: float) -> float | None:
    """Value below which ``share`` of them lie (nearest rank); None of none.

    Examples
    --------
    >>> percentile([3.0, 1.0, 2.0], 0.5), percentile([], 0.5)
    (2.0, None)
    """
    found = sorted(values)
    if not found:
        return None
    return found[max(0, math.ceil(share * len(found)) - 1)]
