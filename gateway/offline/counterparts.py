"""Statements about candidates, grouped: one counterpart with its events and their histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crossmatch.errors import ConfigError
from crossmatch.model import TIERS, Tier
from gateway.near import did_you_mean

Statement = Mapping[str, Any]

ONE_SOURCE = timedelta(seconds=60)
"""Triggers this near may have one source in nature, of whatever messengers.

A rule for people, who need not say then for which of the events a verdict holds. Which
triggers of missions become one event is another matter (`crossmatch.joint.SECONDS`), though
a minute happens to do for both.
"""

MOST_NAMES = 1000
"""Names that are looked through for one that was meant: more would take seconds."""


@dataclass(frozen=True, slots=True)
class Track:
    """One object within one event: all that was stated, or the latest statement alone.

    ``statements`` are ordered by their numbers and are at least one.
    """

    statements: tuple[Statement, ...]

    @property
    def latest(self) -> Statement:
        """The statement that holds."""
        return self.statements[-1]

    @property
    def event_id(self) -> str:
        """The event."""
        return str(self.latest["event_id"])

    @property
    def in_force(self) -> bool:
        """Whether the object is a candidate of the event now."""
        return bool(self.latest["state"] == "in_force")

    def expired(self, now: datetime) -> bool:
        """Whether the window of the event has closed: no alert can join it any more."""
        expires = self.latest["expires"]
        return bool(expires) and datetime.fromisoformat(expires) <= now

    @property
    def event_names(self) -> tuple[str, ...]:
        """Every name by which the event may be asked for: ours, the mission's, other missions'."""
        joint = self.latest.get("joint_events") or ()
        return tuple(dict.fromkeys((self.event_id, str(self.latest["event_name"]), *joint)))

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Larger is better: in force, by tier, by score."""
        latest = self.latest
        return self.in_force, TIERS.index(latest["tier"]), float(latest["score"])


@dataclass(frozen=True, slots=True)
class Counterpart:
    """One object and the events that it belongs to, the best first."""

    counterpart_id: str
    tracks: tuple[Track, ...]

    @property
    def best(self) -> Track:
        """Where it is most promising."""
        return self.tracks[0]

    @property
    def newest(self) -> Statement:
        """The statement with the latest measurement: of one object, whatever the event."""
        return max(
            (t.latest for t in self.tracks),
            key=lambda s: (s["last_detection"], s["alert_datetime"], s["event_id"]),
        )

    def of_event(self, name: str) -> tuple[Track, ...]:
        """The tracks of one event, by any of its names."""
        return tuple(t for t in self.tracks if name in t.event_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which counterparts are asked for.

    ``tier`` is the lowest that counts; ``since`` (ISO 8601 UTC) the oldest statement.
    ``live`` leaves out events whose window has closed ``now``; without ``now`` none has.
    """

    event: str = ""
    tier: Tier = "bronze"
    state: str = "in_force"
    since: str = ""
    live: bool = False
    now: datetime | None = None

    def expired(self, track: Track) -> bool:
        """Whether the window of the track's event has closed."""
        return self.now is not None and track.expired(self.now)

    def wants(self, track: Track) -> bool:
        """Whether a track is what was asked for."""
        latest = track.latest
        return (
            (not self.event or self.event in track.event_names)
            and TIERS.index(latest["tier"]) >= TIERS.index(self.tier)
            and self.state in ("all", latest["state"])
            and latest["alert_datetime"] >= self.since
            and not (self.live and self.expired(track))
        )


def grouped(statements: Iterable[Statement]) -> list[Counterpart]:
    """Counterparts with all their statements, the best first.

    A statement that comes several times, as the copies of private streams do, counts once.
    A test event and a real one of the same name are two events.
    """
    found: dict[str, dict[tuple[str, bool], dict[int, Statement]]] = defaultdict(dict)
    for statement in statements:
        event = statement["event_id"], statement["role"] == "test"
        track = found[statement["counterpart_id"]].setdefault(event, {})
        track.setdefault(statement["record_number"], statement)
    counterparts = [
        _counterpart(name, [Track(tuple(t[n] for n in sorted(t))) for t in tracks.values()])
        for name, tracks in found.items()
    ]
    return sorted(counterparts, key=_order)


def selected(counterparts: Iterable[Counterpart], selection: Selection) -> list[Counterpart]:
    """Counterparts with a track that is asked for, ranked by these tracks, the best first.

    Of the other tracks those in the asked state remain: what else the object belongs to
    matters to whoever observes it. Events whose window has closed come after the others.
    """

    def order(track: Track) -> tuple[Any, ...]:
        return not track.in_force, selection.expired(track), *_track_order(track)

    result = []
    for one in counterparts:
        wanted = [t for t in one.tracks if selection.wants(t)]
        if not wanted:
            continue
        others = [
            t
            for t in one.tracks
            if t not in wanted and selection.state in ("all", t.latest["state"])
        ]
        ranked = sorted(wanted, key=order), sorted(others, key=order)
        result.append(Counterpart(one.counterpart_id, (*ranked[0], *ranked[1])))
    return sorted(result, key=lambda c: (*order(c.best)[:-2], c.counterpart_id))


def find(counterparts: Sequence[Counterpart], name: str) -> Counterpart:
    """The counterpart of that id, or of that survey object.

    Raises
    ------
    ConfigError
        When there is none, or several surveys have an object of that name.
    """
    found = [c for c in counterparts if name in (c.counterpart_id, str(c.newest["id"]))]
    if len(found) == 1:
        return found[0]
    if found:
        ids = " or ".join(c.counterpart_id for c in found)
        raise ConfigError(f"{name} is an object of several surveys: say {ids}")
    raise ConfigError(unknown(name, [c.counterpart_id for c in counterparts]))


def unknown(name: str, known: Iterable[str]) -> str:
    """Sentence about a counterpart that nobody knows, with those that may be meant."""
    whole = name.upper().startswith("MM-")
    names = [k if whole else k.rpartition("-")[2] for k in known]
    folded = [k for k in names if k.lower() == name.lower()]
    hint = f"did you mean {folded[0]}?" if folded else did_you_mean(name, _similar(name, names))
    return f"no candidate is known of {name!r}; " + (
        hint or "'mmgateway candidates list --state all' shows them"
    )


def _similar(name: str, names: Sequence[str]) -> Sequence[str]:
    """``names``, of many those alone that begin as ``name`` does."""
    for ending in (1, 2, 3, 5):
        if len(names) <= MOST_NAMES:
            break
        same = [n for n in names if n.startswith(name[:-ending])]
        if same or ending == 5:
            return same[:MOST_NAMES]
    return names


def find_event(counterpart: Counterpart, name: str) -> Track:
    """The track of one event, by any of its names; real events before tests.

    Raises
    ------
    ConfigError
        When the counterpart does not belong to such an event.
    """
    found = counterpart.of_event(name)
    if found:
        return min(found, key=lambda t: t.latest["role"] == "test")
    events = ", ".join(t.event_id for t in counterpart.tracks)
    raise ConfigError(f"{counterpart.counterpart_id} belongs to no event {name!r}, but to {events}")


def simultaneous(tracks: Sequence[Track]) -> bool:
    """Whether the events may be one event in nature: their triggers lie within a minute.

    A merger gives a gravitational wave and a burst, which are two events here.
    """
    triggers = [datetime.fromisoformat(t.latest["event_trigger_time"]) for t in tracks]
    return not triggers or max(triggers) - min(triggers) <= ONE_SOURCE


def summary(counterpart: Counterpart, now: datetime) -> dict[str, Any]:
    """One counterpart as plain values for JSON: where it is, how bright, and its events.

    It has ``expired`` once the window of the last of its events has closed.
    """
    newest = counterpart.newest
    names = ("survey", "id", "ra", "dec", "mag", "mag_error", "filter", "last_detection")
    return {
        "counterpart_id": counterpart.counterpart_id,
        "tier": counterpart.best.latest["tier"],
        "state": counterpart.best.latest["state"],
        **{name: newest[name] for name in names},
        "verdict": counterpart.best.latest.get("verdict"),
        "expired": all(t.expired(now) for t in counterpart.tracks),
        "events": [_event(t, now) for t in counterpart.tracks],
    }


def _event(track: Track, now: datetime) -> dict[str, Any]:
    latest = track.latest
    names = (
        "event_id", "event_name", "messenger", "role", "state", "tier", "score", "factors",
        "credible_level", "record_number", "candidate_id", "alert_datetime", "reason",
        "expires", "verdict", "verdict_effect", "streams",
    )  # fmt: skip
    return {
        **{name: latest.get(name) for name in names},
        "expired": track.expired(now),
        "joint_events": list(latest.get("joint_events") or ()),
    }


def _counterpart(name: str, tracks: Iterable[Track]) -> Counterpart:
    return Counterpart(name, tuple(sorted(tracks, key=_track_order)))


def _track_order(track: Track) -> tuple[Any, ...]:
    in_force, tier, score = track.rank
    return not in_force, -tier, -score, track.event_id, track.latest["role"]


def _order(counterpart: Counterpart) -> tuple[Any, ...]:
    return *_track_order(counterpart.best)[:3], counterpart.counterpart_id
