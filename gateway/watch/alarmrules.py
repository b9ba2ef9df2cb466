"""What is wrong with the feeds at one moment: the rules, pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gateway.config import Alarms
from gateway.feeds.spec import Feed
from gateway.watch.records import DAY, Health
from gateway.watch.verdicts import age, heard_until, utc, verdicts

AlarmKind = Literal[
    "feed_silent",
    "heartbeat_missing",
    "credentials_idle",
    "feed_broken",
    "map_given_up",
    "unknown_messages",
    "source_away",
    "packets_dropped",
    "packets_refused",
    "packets_unreadable",
    "packets_not_copied",
    "chore_failed",
]

GCN_BEAT_SECONDS = 1.0
MISSING_SECONDS = 60.0
"""A heartbeat is missing after this, or after five beats where they are slower."""
_FIRST_BEAT_SECONDS = 180.0
AWAY_SECONDS = 300.0
TOLD_SECONDS = float(DAY)
"""How long what happened at one moment (a map given up, an unknown message) stays an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that is wrong now.

    Parameters
    ----------
    kind, subject : str
        Together they name it: ``feed_silent`` of ``fermi_gbm``.
    sentence : str
        For people.
    since : datetime
        UTC.
    data : mapping
        More for programs; plain JSON values.
    """

    kind: AlarmKind
    subject: str
    sentence: str
    since: datetime
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the alarm, the same as long as it is in force."""
        return f"{self.kind}/{self.subject}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "sentence": self.sentence,
            "since": self.since.isoformat(),
            "data": dict(self.data),
        }


def alarms_in_force(
    health: Health,
    feeds: Sequence[Feed],
    settings: Alarms,
    now: datetime,
    paused: Collection[str] = (),
) -> list[Alarm]:
    """Everything that is wrong, sorted by kind and subject.

    Parameters
    ----------
    health : Health
    feeds : sequence of Feed
    settings : Alarms
    now : datetime
        UTC. Credentials lapse also while nobody listens; the rest is judged as of the time
        up to which somebody did.
    paused : collection of str
        Feeds that are not expected to be heard.
    """
    at = heard_until(health, now.timestamp())
    found = [
        *_silent(health, feeds, now, at, paused),
        *_beats(health, feeds, at, paused),
        *_credentials(health, settings, now.timestamp()),
        *_away(health, at),
        *_troubles(health, at),
    ]
    return sorted(found, key=lambda a: a.key)


def _silent(
    health: Health, feeds: Sequence[Feed], now: datetime, at: float, paused: Collection[str]
) -> list[Alarm]:
    found = []
    for verdict in verdicts(health, feeds, now, paused):
        if verdict.state != "silent":
            continue
        record = health.feeds.get(verdict.feed)
        last = None if record is None else record.last
        since = utc(last if last is not None else health.started or at)
        data = {
            "last_heard": None if last is None else utc(last).isoformat(),
            "usual_per_day": verdict.usual_per_day,
            "silent_after_hours": verdict.silent_after_hours,
        }
        sentence = f"{verdict.feed} is {verdict.sentence}"
        found.append(
            Alarm(
                kind="feed_silent", subject=verdict.feed, sentence=sentence, since=since, data=data
            )
        )
    return found


def _beats(
    health: Health, feeds: Sequence[Feed], at: float, paused: Collection[str]
) -> list[Alarm]:
    """Heartbeats that stopped: of servers, and of feeds that say how often they come."""
    beating = {f.name: f for f in feeds if f.enabled and f.heartbeat_seconds is not None}
    lasts: dict[str, float] = {}
    found = []
    for name, beat in health.beats.items():
        source, _, topic = name.rpartition(" ")
        server = source.partition(":")[2]
        owner = _feed_of(beat.feed, topic, server, beating.values())
        if owner is not None:
            lasts[owner] = max(lasts.get(owner, 0.0), beat.last)
        elif server in health.opened and not beat.feed:
            what = f"no heartbeat on {topic} of {source}"
            found += _missing(health, name, what, beat.last, GCN_BEAT_SECONDS, at)
    for name, feed in beating.items():
        record = health.feeds.get(name)
        heard = None if record is None else record.last
        # A message shows as well as a heartbeat that the line is alive.
        last = max(lasts.get(name, 0.0), heard or 0.0)
        if name not in paused and (last or health.started):
            every = feed.heartbeat_seconds or GCN_BEAT_SECONDS
            what = f"neither heartbeat nor message of the feed {name}"
            found += _missing(health, name, what, last, every, at)
    return found


def _feed_of(name: str, topic: str, server: str, beating: Iterable[Feed]) -> str | None:
    """Feed with heartbeats of its own that a beat belongs to."""
    for feed in beating:
        if feed.name == name or topic in feed.topics or (server and server == feed.transport.kafka):
            return feed.name
    return None


def _missing(
    health: Health, subject: str, what: str, last: float, every: float, at: float
) -> list[Alarm]:
    limit = max(MISSING_SECONDS, 5 * every)
    if health.started is not None and last < health.started:
        # Joining a consumer group takes its time.
        limit = max(limit, _FIRST_BEAT_SECONDS)
        last = last or health.started
    gap = health.listened(last, at)
    if gap <= limit:
        return []
    sentence = f"{what} for {age(gap)}"
    return [Alarm(kind="heartbeat_missing", subject=subject, sentence=sentence, since=utc(last))]


def _credentials(health: Health, settings: Alarms, now: float) -> list[Alarm]:
    found = []
    for name in health.opened:
        server = health.servers.get(name)
        if server is None or not server.credentials or server.last is None:
            continue
        idle_days = (now - server.last) / DAY
        if idle_days <= settings.credentials_days:
            continue
        sentence = (
            f"no contact with {name} for {age(now - server.last)}; credentials that are idle for 30"
            " days are disabled: run 'mmgateway up listen', or get new ones at"
            " https://gcn.nasa.gov/quickstart"
        )
        data = {"idle_days": round(idle_days, 1)}
        since = utc(server.last)
        found.append(
            Alarm(kind="credentials_idle", subject=name, sentence=sentence, since=since, data=data)
        )
    return found


def _away(health: Health, at: float) -> list[Alarm]:
    found = []
    for name in health.opened:
        server = health.servers.get(name)
        if server is None or server.lost_since is None:
            continue
        if at - server.lost_since > AWAY_SECONDS:
            since = utc(server.lost_since)
            why = f": {server.detail}" if server.detail else ""
            sentence = f"{name} has been away since {since:%Y-%m-%d %H:%M:%S} UTC{why}"
            found.append(Alarm(kind="source_away", subject=name, sentence=sentence, since=since))
    return found


def _troubles(health: Health, at: float) -> list[Alarm]:
    broken = dict(health.broken)
    for name, sentence in health.doors.items():
        broken[name] = f"{broken[name]}; {sentence}" if name in broken else sentence
    found = [
        Alarm(kind="feed_broken", subject=name, sentence=sentence, since=utc(at))
        for name, sentence in broken.items()
    ]
    for event, trouble in health.maps_given_up.items():
        if at - trouble.at <= TOLD_SECONDS:
            since = utc(trouble.at)
            found.append(
                Alarm(
                    kind="map_given_up",
                    subject=event,
                    sentence=trouble.sentence,
                    since=since,
                    data=trouble.data,
                )
            )
    for where, unknown in health.unknown.items():
        if at - unknown.last <= TOLD_SECONDS:
            sentence = (
                f"{unknown.count} messages by {where} that no feed understands;"
                " 'mmgateway feeds suggest' proposes feeds for them"
            )
            found.append(
                Alarm(
                    kind="unknown_messages",
                    subject=where,
                    sentence=sentence,
                    since=utc(unknown.first),
                    data={"count": unknown.count},
                )
            )
    return found
