"""From single notices to events: versions, repeats, retractions, in any order of arrival.

What holds for an event depends on the set of notices known, never on the order
in which they came: each is ranked by ``Notice.order``, ties by identifier and digest.

- Versions count the localised notices of an event from 1, as the mission issued them.
- A retraction withdraws every notice of the event issued before it, and each
  notice it cites whenever that was issued.
- A localised notice that supersedes others withdraws exactly these, of whichever event and
  whenever they were issued, and not its own event.
- A later localised notice, not itself cited, puts the event in force again; one without a
  position does not.
- Test notices and real ones with the same event id are strangers, and so are those that
  different private streams see: a test never retracts or replaces the real event, a private
  notice never the public one, nor the reverse. A real retraction withdraws tests too.
- A notice that is placed anew by its sky map is one more version, after itself without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from crossmatch.model import Notice, Role
from crossmatch.versions import Name, Rank, Statement, Versions, World, world_of
from gateway.feeds.message import Ignored

KEPT = timedelta(days=60)
TESTS_KEPT = timedelta(days=7)
LONGEST_WINDOW = timedelta(days=366)
"""A notice whose window would close later than this after it came is not kept longer for it."""

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
    ``forgotten`` versions came before those here: the first of ``versions`` has the number
    after them. ``retracted`` is also an event of which all was superseded by another's notice.
    """

    event_id: str
    versions: tuple[Notice, ...]
    current: Notice | None
    version: int
    retracted: bool
    withdrawn: tuple[bool, ...] = ()
    world: World = (False, ())
    forgotten: int = 0


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
    return notice.sha256, notice.skymap_sha256, world_of(notice.role, notice.streams)


@dataclass(slots=True)
class _Entry:
    """A notice of the book: how long it is kept, and its rank if it is a version."""

    keep: datetime
    rank: Rank | None


@dataclass(slots=True)
class _Event:
    """What is known of an event besides its versions: all its notices, as they came.

    ``is_told_of`` says whether there was more than retractions.
    """

    keep: datetime
    entries: dict[Identity, _Entry] = field(default_factory=dict)
    is_told_of: bool = False


class EventBook:
    """All events of which notices are known. Keeps no clock and no files."""

    def __init__(self) -> None:
        self._versions: Versions[Notice] = Versions()
        self._events: dict[Name, _Event] = {}
        self._event_of: dict[Identity, Name] = {}
        # How long what takes a name back is kept.
        self._withdrawn: dict[Name, datetime] = {}
        self._forgotten: set[Identity] = set()

    def __len__(self) -> int:
        """Notices that are known."""
        return len(self._event_of)

    @property
    def remembered(self) -> int:
        """Events, and names of what was taken back, that are known."""
        return len(self._events) + len(self._withdrawn)

    def accept(
        self,
        notice: Notice | Ignored,
        *,
        received: datetime | None = None,
        expires: datetime | None = None,
    ) -> Decision:
        """Enter a notice and say what it means.

        The same bytes, placed by the same map or none, count once in each world; the same
        identifier with other bytes is another notice.

        Parameters
        ----------
        notice : Notice or Ignored
        received : datetime, optional
            When it came. What was due to be forgotten then is not known any more; without
            it nothing is forgotten.
        expires : datetime, optional
            When the window of its region closes.
        """
        if isinstance(notice, Ignored):
            return Decision("ignored", None, "", 0, None, 0, False, ())
        if notice.role == "utility":
            return self._decision("ignored", notice, ())
        said = _statement(notice)
        if received is not None:
            self._refresh(notice, said, received)
        if identity(notice) in self._event_of:
            return self._decision("duplicate", notice, ())
        own = (notice.event_id, said.world)
        touched = [k for k in self._versions.touched(said) if k == own or self._is_told_of(k)]
        before = {key: self._essence(key) for key in touched}
        self._enter(notice, said, _keep_until(notice, received, expires))
        changed = tuple(dict.fromkeys(k[0] for k, old in before.items() if old != self._essence(k)))
        if said.retraction:
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
        found = filter(self._is_told_of, self._events)
        return tuple(sorted(name for name, where in found if where == world))

    def states(self) -> Iterator[EventState]:
        """States of all events of all worlds with a notice that is no retraction, by id."""
        return (self._state(key) for key in sorted(filter(self._is_told_of, self._events)))

    def forget(self, now: datetime) -> set[Identity]:
        """Drop what is due; what was forgotten since the last call.

        That is only for memory: :meth:`accept` heeds nothing that is due.
        """
        for key in list(self._events):
            self._forget_due(key, now)
        for name in list(self._withdrawn):
            self._forget_withdrawal(name, now)
        forgotten, self._forgotten = self._forgotten, set()
        return forgotten

    def _refresh(self, notice: Notice, said: Statement, now: datetime) -> None:
        """Forget what is due of all that a notice has to do with."""
        names = [(notice.event_id, said.world), (notice.notice_id, said.world)]
        known = self._event_of.get(identity(notice))
        if known is not None:
            names.append(known)
        for name in dict.fromkeys([*names, *self._versions.names(said)]):
            for key in self._versions.events_of(name):
                self._forget_due(key, now)
            self._forget_withdrawal(name, now)

    def _forget_due(self, key: Name, now: datetime) -> None:
        event = self._events.get(key)
        if event is None:
            return
        if event.keep < now:
            self._versions.forget_event(key)
            del self._events[key]
            self._drop(event.entries)
            return
        due: list[Identity] = []
        in_force = self._versions.current(key)
        for known, entry in event.entries.items():
            # As they came, which is nearly as they fall due.
            if entry.keep >= now:
                break
            if in_force is not None and known == identity(in_force):
                continue
            due.append(known)
        for known in due:
            rank = event.entries.pop(known).rank
            if rank is not None:
                self._versions.forget_version(key, rank)
        self._drop(due)

    def _drop(self, identities: Iterable[Identity]) -> None:
        for known in identities:
            del self._event_of[known]
            self._forgotten.add(known)

    def _forget_withdrawal(self, name: Name, now: datetime) -> None:
        """While anything bears the name it stays down."""
        if name in self._withdrawn and self._withdrawn[name] < now and name not in self._versions:
            del self._withdrawn[name]
            self._versions.forget_withdrawal(name)

    def _enter(self, notice: Notice, said: Statement, keep: datetime) -> None:
        key, known = (notice.event_id, said.world), identity(notice)
        for name in self._versions.names(said):
            self._withdrawn[name] = max(keep, self._withdrawn.get(name, keep))
        rank = said.rank if is_localised(notice) else None
        event = self._events.setdefault(key, _Event(keep))
        event.keep = max(event.keep, keep)
        event.entries[known] = _Entry(keep, rank)
        event.is_told_of = event.is_told_of or not said.retraction
        self._event_of[known] = key
        self._forgotten.discard(known)
        self._versions.enter(said, None if rank is None else notice)

    def _is_told_of(self, key: Name) -> bool:
        return key in self._events and self._events[key].is_told_of

    def _essence(self, key: Name) -> tuple[Identity | None, int, bool]:
        """What is in force, its number, and whether the event is retracted."""
        current = self._versions.current(key)
        return (
            None if current is None else identity(current),
            self._versions.current_number(key),
            self._versions.is_retracted(key),
        )

    def _state(self, key: Name) -> EventState:
        event_id, world = key
        versions = self._versions.versions(key)
        return EventState(
            event_id=event_id,
            versions=tuple(notice for notice, _ in versions),
            current=self._versions.current(key),
            version=self._versions.current_number(key),
            retracted=self._versions.is_retracted(key),
            withdrawn=tuple(is_withdrawn for _, is_withdrawn in versions),
            world=world,
            forgotten=self._versions.forgotten(key),
        )

    def _decision(self, outcome: Outcome, notice: Notice, changed: tuple[str, ...]) -> Decision:
        key = (notice.event_id, world_of(notice.role, notice.streams))
        # The same bytes may have been another event, or of another order, to another feed.
        event = self._events.get(key)
        entry = None if event is None else event.entries.get(identity(notice))
        rank = None if entry is None else entry.rank
        return Decision(
            outcome=outcome,
            notice=notice,
            event_id=notice.event_id,
            version=0 if rank is None else self._versions.number(key, rank),
            current=self._versions.current(key),
            current_version=self._versions.current_number(key),
            retracted=self._versions.is_retracted(key),
            changed=changed,
        )


def _statement(notice: Notice) -> Statement:
    """What a notice says of versions; without a position it supersedes nothing.

    No region comes of it, so that the readers of regions would never know.
    """
    is_retraction = notice.alert_type == "retraction"
    return Statement(
        event_id=notice.event_id,
        world=world_of(notice.role, notice.streams),
        rank=(notice.order, notice.notice_id, notice.skymap_sha256, notice.sha256),
        retraction=is_retraction,
        retracts=notice.retracts if is_retraction or is_localised(notice) else (),
    )


def _keep_until(notice: Notice, received: datetime | None, expires: datetime | None) -> datetime:
    came = notice.issued if received is None else received
    if notice.role == "test":
        return came + TESTS_KEPT
    closed = came if expires is None else min(expires, came + LONGEST_WINDOW)
    return max(came, closed) + KEPT
