"""From single notices to events: versions, repeats, retractions, in any order of arrival.

What holds for an event depends on the set of notices known, never on the order
in which they came: each is ranked by ``Notice.order``, ties by identifier and digest.

- Versions count the localised notices of an event from 1, as the mission issued them.
- A retraction withdraws every notice of the event issued before it, and each
  notice it cites whenever that was issued.
- A later localised notice, not itself cited by a retraction, puts the event in
  force again; one without a position does not.
- Test notices and real ones with the same event id are strangers, and so are those that
  different private streams see: a test never retracts or replaces the real event, a private
  notice never the public one, nor the reverse. A real retraction withdraws tests too.
- A notice that is placed anew by its sky map is one more version, after itself without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from crossmatch.model import Notice, Role
from crossmatch.versions import Precedence, Rank, World, precedence, reach, world_of
from crossmatch.versions import withdrawn as withdrawn_of
from gateway.feeds.message import Ignored

# An event's id, or a notice's, and the world it belongs to.
_Key: TypeAlias = tuple[str, World]

Identity: TypeAlias = tuple[str, str, World]
"""Digests of a message and of the map that placed it, and its world: the same counts once."""

Outcome = Literal["region", "no_position", "retraction", "duplicate", "ignored"]


@dataclass(frozen=True, slots=True)
class EventState:
    """What is known of one event.

    ``current`` is the notice in force (``None``: retracted, or never localised) and
    ``version`` its number, 0 without one. ``versions`` are all localised notices,
    version 1 first, retracted ones included; ``withdrawn`` tells of each whether a
    retraction covers it. Events of one id in different worlds are different events:
    ``world`` tells whether it is no observation, and the private streams that see it.
    """

    event_id: str
    versions: tuple[Notice, ...]
    current: Notice | None
    version: int
    retracted: bool
    withdrawn: tuple[bool, ...] = ()
    world: World = (False, ())


@dataclass(frozen=True, slots=True)
class Decision:
    """What accepting one message means.

    Parameters
    ----------
    outcome : str
        ``region``: a localised notice, new to us. It is in force only if it is
        ``current``: an older revision that comes late, or a notice whose
        retraction came first, is not. ``no_position``, ``retraction``,
        ``duplicate`` (these bytes were seen before), ``ignored``.
    notice : Notice or None
        The notice; ``None`` for an ignored message.
    event_id : str
    version : int
        Number of this notice among the event's localised ones known now; 0 if it has no
        position. A late older notice shifts the numbers of newer ones:
        ``state(event_id)`` tells them.
    current : Notice or None
        The notice in force after this one, whichever it is.
    current_version : int
    retracted : bool
        Whether the event stands retracted.
    changed : tuple of str
        Events whose notice in force, its version or their retraction changed, this one or others.
    """

    outcome: Outcome
    notice: Notice | None
    event_id: str
    version: int
    current: Notice | None
    current_version: int
    retracted: bool
    changed: tuple[str, ...]


def is_localised(notice: Notice) -> bool:
    """Whether a region can be made of the notice: a shape, a sky map, or the address of one."""
    if notice.alert_type == "retraction":
        return False
    return not (
        notice.localization is None and notice.skymap_fits is None and not notice.skymap_url
    )


def identity(notice: Notice) -> Identity:
    """What makes a notice the same as another."""
    return notice.sha256, notice.skymap_sha256, _world(notice)


class EventBook:
    """All events of which notices are known. Keeps no clock and no files."""

    def __init__(self) -> None:
        self._seen: set[Identity] = set()
        self._notices: dict[_Key, list[Notice]] = {}
        # Retractions by what they name: an event, or a single notice.
        self._retractions: dict[_Key, list[Notice]] = {}
        self._events_of: dict[_Key, set[str]] = {}

    def accept(self, notice: Notice | Ignored) -> Decision:
        """Enter a notice and say what it means.

        The same bytes, placed by the same map or none, count once in each world; the same
        identifier with other bytes is another notice.
        """
        if isinstance(notice, Ignored):
            return Decision("ignored", None, "", 0, None, 0, False, ())
        if notice.role == "utility":
            return self._decision("ignored", notice, ())
        if identity(notice) in self._seen:
            return self._decision("duplicate", notice, ())
        self._seen.add(identity(notice))
        before = {key: self._state(key) for key in self._touched(notice)}
        self._enter(notice)
        changed = tuple(
            dict.fromkeys(k[0] for k, old in before.items() if _differ(old, self._state(k)))
        )
        if notice.alert_type == "retraction":
            return self._decision("retraction", notice, changed)
        return self._decision("region" if is_localised(notice) else "no_position", notice, changed)

    def state(
        self, event_id: str, role: Role = "observation", streams: tuple[str, ...] = ()
    ) -> EventState:
        """State of an event: of the real one or of the test with that id, public or private."""
        return self._state((event_id, world_of(role, streams)))

    def events(self, role: Role = "observation", streams: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Ids of all events of one world with a notice that is no retraction, sorted."""
        world = world_of(role, streams)
        return tuple(sorted(name for name, where in self._notices if where == world))

    def states(self) -> Iterator[EventState]:
        """States of all events of all worlds with a notice that is no retraction, by id."""
        return (self._state(key) for key in sorted(self._notices))

    def forget(self, issued_before: datetime) -> int:
        """Drop events of which nothing was issued since then; the number dropped.

        Their digests go too, so a repeat from before that time counts as new:
        choose it older than anything a source may still repeat.
        """
        old = [
            key
            for key, notices in self._notices.items()
            if all(n.issued < issued_before for n in (*notices, *self._retractions.get(key, ())))
        ]
        for key in old:
            for notice in self._notices.pop(key):
                self._seen.discard(identity(notice))
                self._events_of.pop((notice.notice_id, key[1]), None)
        for key, retractions in list(self._retractions.items()):
            if key not in self._notices and all(r.issued < issued_before for r in retractions):
                self._seen.difference_update(identity(r) for r in self._retractions.pop(key))
        return len(old)

    def _enter(self, notice: Notice) -> None:
        own = _world(notice)
        if notice.alert_type == "retraction":
            for world in reach(own):
                for name in {notice.event_id, *notice.retracts}:
                    self._retractions.setdefault((name, world), []).append(notice)
            return
        self._notices.setdefault((notice.event_id, own), []).append(notice)
        self._events_of.setdefault((notice.notice_id, own), set()).add(notice.event_id)

    def _touched(self, notice: Notice) -> list[_Key]:
        """Events that entering the notice may change, its own first."""
        own = _world(notice)
        keys = [(notice.event_id, own)]
        if notice.alert_type == "retraction":
            for world in reach(own):
                for name in (notice.event_id, *notice.retracts):
                    keys.append((name, world))
                    keys.extend((e, world) for e in sorted(self._events_of.get((name, world), ())))
        return [k for k in dict.fromkeys(keys) if k == keys[0] or k in self._notices]

    def _versions(self, key: _Key) -> list[Notice]:
        return sorted(filter(is_localised, self._notices.get(key, ())), key=_place)

    def _state(self, key: _Key) -> EventState:
        event_id, world = key
        versions = self._versions(key)
        withdrawn_until = max((r.order for r in self._retractions.get(key, ())), default=None)
        cited = {n.notice_id for n in versions if self._is_cited(n.notice_id, world)}
        withdrawn = tuple(withdrawn_of([_rank(n) for n in versions], withdrawn_until, cited))
        number = max((v for v, gone in enumerate(withdrawn, start=1) if not gone), default=0)
        return EventState(
            event_id=event_id,
            versions=tuple(versions),
            current=versions[number - 1] if number else None,
            version=number,
            retracted=not number and (withdrawn_until is not None or any(withdrawn)),
            withdrawn=withdrawn,
            world=world,
        )

    def _is_cited(self, notice_id: str, world: World) -> bool:
        naming = self._retractions.get((notice_id, world), ())
        return any(notice_id in r.retracts for r in naming)

    def _decision(self, outcome: Outcome, notice: Notice, changed: tuple[str, ...]) -> Decision:
        state = self._state((notice.event_id, _world(notice)))
        known = [identity(n) for n in state.versions]
        own = identity(notice)
        return Decision(
            outcome=outcome,
            notice=notice,
            event_id=notice.event_id,
            version=known.index(own) + 1 if own in known else 0,
            current=state.current,
            current_version=state.version,
            retracted=state.retracted,
            changed=changed,
        )


def _place(notice: Notice) -> Precedence:
    return precedence(_rank(notice))


def _rank(notice: Notice) -> Rank:
    return notice.order, notice.notice_id, notice.skymap_sha256, notice.sha256


def _world(notice: Notice) -> World:
    return world_of(notice.role, notice.streams)


def _differ(old: EventState, new: EventState) -> bool:
    def essence(state: EventState) -> tuple[Identity | None, int, bool]:
        current = None if state.current is None else identity(state.current)
        return (current, state.version, state.retracted)

    return essence(old) != essence(new)
