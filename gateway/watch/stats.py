"""Numbers of ``mmgateway feeds stats``: the last snapshot, judged with today's feed files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.config import Alarms
from gateway.feeds.store import Loaded
from gateway.watch.alarmrules import Alarm, alarms_in_force
from gateway.watch.records import DAY, LATENCIES, FeedRecord, Health, percentile
from gateway.watch.verdicts import FeedVerdict, utc, verdicts


@dataclass(frozen=True, slots=True)
class FeedStats:
    """One feed: what it did and how it is."""

    verdict: FeedVerdict
    record: FeedRecord
    last_24h: int
    held: int
    waiting: int

    @property
    def outcomes(self) -> dict[str, int]:
        """Messages by what became of them; nothing of which there are none (any more)."""
        return {name: n for name, n in sorted(self.record.outcomes.items()) if n}

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """Plain values for JSON."""
        record = self.record
        today = int(now.timestamp() // DAY)
        return {
            "feed": self.verdict.feed,
            "state": self.verdict.state,
            "sentence": self.verdict.sentence,
            "first_heard": iso(record.first),
            "last_heard": iso(record.last),
            "last_region": iso(record.last_region),
            "last_24h": self.last_24h,
            "usual_per_day": self.verdict.usual_per_day,
            "silent_after_hours": self.verdict.silent_after_hours,
            "heard": record.heard,
            "outcomes": self.outcomes,
            "last_14_days": [record.days.get(today - back, 0) for back in range(13, -1, -1)],
            "latency_seconds": {name: quantiles(record, name) for name in LATENCIES},
            "held": self.held,
            "waiting_maps": self.waiting,
        }


@dataclass(frozen=True, slots=True)
class Stats:
    """All feeds, servers, heartbeats and alarms."""

    health: Health
    now: datetime
    listener: str
    feeds: Sequence[FeedStats]
    alarms: Sequence[Alarm]

    @property
    def age_seconds(self) -> float | None:
        """Age of the snapshot; None when there is none."""
        written = self.health.written
        return None if written is None else max(0.0, self.now.timestamp() - written)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        health, at = self.health, self.now.timestamp()
        return {
            "now": self.now.isoformat(),
            "written": iso(health.written),
            "listener": self.listener,
            "feeds": [f.as_dict(self.now) for f in self.feeds],
            "servers": [
                {
                    "server": name,
                    "last_contact": iso(server.last),
                    "away_since": iso(server.lost_since),
                    "detail": server.detail,
                    "credentials": server.credentials,
                    "idle_days": None
                    if server.last is None
                    else round((at - server.last) / DAY, 2),
                }
                for name, server in servers(health)
            ],
            "heartbeats": [
                {"source": name.rpartition(" ")[0], "topic": name.rpartition(" ")[2]}
                | {"feed": beat.feed, "last": iso(beat.last)}
                for name, beat in sorted(health.beats.items())
            ],
            "waiting_maps": health.waiting,
            "unknown": {
                name: {"count": u.count, "first": iso(u.first), "last": iso(u.last)}
                for name, u in sorted(health.unknown.items())
            },
            "alarms": [a.as_dict() for a in self.alarms],
        }


def feed_stats(
    health: Health, loaded: Loaded, settings: Alarms, now: datetime, listener: str
) -> Stats:
    """What is known of all feeds.

    Parameters
    ----------
    health : Health
        Of the last snapshot. Broken files are taken from ``loaded``, which is newer.
    loaded : Loaded
    settings : Alarms
    now : datetime
        UTC.
    listener : str
        How the listener is, as ``mmgateway status`` says.
    """
    health.broken = {p.feed or p.path.name: p.sentence for p in loaded.problems}
    feeds, paused = loaded.registry.feeds, loaded.registry.paused
    found = []
    for verdict in verdicts(health, feeds, now, paused):
        record = health.feeds.get(verdict.feed, FeedRecord())
        waiting = sum(1 for w in health.waiting if w.get("feed") == verdict.feed)
        found.append(
            FeedStats(
                verdict,
                record,
                record.recent(now.timestamp()),
                health.held.get(verdict.feed, 0),
                waiting,
            )
        )
    found.sort(key=lambda f: f.verdict.feed)
    return Stats(
        health, now, listener, found, alarms_in_force(health, feeds, settings, now, paused)
    )


def servers(health: Health) -> list[tuple[str, Any]]:
    """Servers that the last run of the listener asked for, with their records."""
    return [(n, health.servers[n]) for n in sorted(health.opened) if n in health.servers]


def quantiles(record: FeedRecord, name: str) -> dict[str, float | None]:
    """Median and high quantiles of the latest latencies of one kind, in seconds."""
    values = record.latencies[name]
    return {f"p{round(100 * q)}": percentile(values, q) for q in (0.5, 0.9, 0.99)}


def iso(seconds: float | None) -> str | None:
    """Time of a record as text."""
    return None if seconds is None else utc(seconds).isoformat(timespec="milliseconds")
