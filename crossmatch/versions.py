"""Versions of an event: which one is in force. One rule for the listener and the matcher.

A retraction takes back every version of its event issued before it, and each notice that it
names whenever that was issued; of an event that it names likewise. A localised notice that
supersedes others takes back these alone, of whichever event. Both hold whatever came first,
and what fell stays down. Of what stands the highest in precedence is in force.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

Order: TypeAlias = tuple[float, int, int]
"""(issue time, rank of the kind, serial number) as the mission says, whatever came first here."""

Rank: TypeAlias = tuple[Order, str, str, str]
"""Order, identifier, digests of the sky map and of the notice: two notices of one moment are
ordered too, and one that was placed anew by its map, when that could be had, follows itself
as it was without the map (whose digest is empty)."""

Precedence: TypeAlias = tuple[int, float, int, str, str, str]


def precedence(rank: Rank) -> Precedence:
    """Sorts the versions of an event: kind, then issue time, then serial number.

    A mission's final position outranks a flight position that is sent once more hours later
    (as Fermi does when the data of a burst are played back), and UVOT's outranks XRT's.

    Examples
    --------
    >>> final, flight = ((1.0, 3, 0), "final", "", ""), ((2.0, 1, 9), "flight", "", "")
    >>> max([final, flight], key=precedence)[1]
    'final'
    """
    (issued, kind, serial), *rest = rank
    name, skymap, notice = rest
    return kind, issued, serial, name, skymap, notice


World: TypeAlias = tuple[bool, tuple[str, ...]]
"""Whether an event is anything but an observation, and the private streams that see it. Events
of one name in two worlds are strangers: a test never touches a real event, nor a private one
what everybody knows."""


def world_of(role: str, streams: Iterable[str]) -> World:
    """World of a notice or region.

    Examples
    --------
    >>> world_of("test", ["b", "a"])
    (True, ('a', 'b'))
    """
    return role != "observation", tuple(sorted(streams))


def reach(world: World) -> tuple[World, ...]:
    """Worlds in which ``world`` retracts and supersedes: what is real takes tests back too.

    Examples
    --------
    >>> reach((False, ("a",)))
    ((False, ('a',)), (True, ('a',)))
    >>> reach((True, ()))
    ((True, ()),)
    """
    is_test, streams = world
    return (world,) if is_test else (world, (True, streams))


@dataclass(frozen=True, slots=True)
class Statement:
    """What one notice says of versions, its own and those of others.

    Parameters
    ----------
    event_id : str
    world : World
    rank : Rank
    retraction : bool
        Whether it takes its event back.
    retracts : tuple of str
        What it names: notices, or events when a mission retracts by event. A notice that is
        no retraction supersedes these.
    """

    event_id: str
    world: World
    rank: Rank
    retraction: bool = False
    retracts: tuple[str, ...] = ()


def taken_back(said: Statement) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of events of which all up to the statement falls, and of notices that fall anyway.

    A notice that supersedes others takes back these alone, whatever their event and their
    order, and never itself. What it took back does not return when it falls in its turn.

    Examples
    --------
    >>> rank = (1.0, 0, 1), "b", "", ""
    >>> taken_back(Statement("E", (False, ()), rank, retraction=True, retracts=("a",)))
    (('E', 'a'), ('a',))
    >>> taken_back(Statement("E", (False, ()), rank, retracts=("a", "b")))
    ((), ('a',))
    """
    if said.retraction:
        return tuple(dict.fromkeys((said.event_id, *said.retracts))), said.retracts
    _, own, *_ = said.rank
    return (), tuple(name for name in said.retracts if name != own)


Name: TypeAlias = tuple[str, World]
"""An event, or a notice, by its id and world."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Event(Generic[_T]):
    """Versions of an event, sorted; ``standing`` are those not yet found to be withdrawn.

    ``forgotten`` counts versions that are no longer here, so that the others keep their numbers.
    """

    places: list[Precedence] = field(default_factory=list)
    items: dict[Precedence, _T] = field(default_factory=dict)
    standing: list[Precedence] = field(default_factory=list)
    forgotten: int = 0


@dataclass(slots=True)
class _Withdrawal:
    """What statements take back of one name: up to an order, or whatever bears it as a notice."""

    until: Order | None = None
    cited: bool = False


class Versions(Generic[_T]):
    """Versions of all events, and what takes them back: the same in any order of statements.

    What was withdrawn never stands again, so that each version is looked at once when it is
    entered and once when it falls: a statement costs the logarithm of the versions of its event.
    """

    def __init__(self) -> None:
        self._events: dict[Name, _Event[_T]] = {}
        # Events that have a notice of this name, with the number of its versions.
        self._events_of: dict[Name, Counter[str]] = {}
        self._withdrawals: dict[Name, _Withdrawal] = {}

    def __iter__(self) -> Iterator[Name]:
        """Events that have versions."""
        return iter(self._events)

    def __contains__(self, name: Name) -> bool:
        """Whether an event or a version of this name is here."""
        return name in self._events or name in self._events_of

    def enter(self, said: Statement, item: _T | None) -> None:
        """Heed a statement; ``item`` is its version, None if it has no place."""
        events, notices = taken_back(said)
        order, *_ = said.rank
        for world in reach(said.world):
            for name in events:
                found = self._withdrawals.setdefault((name, world), _Withdrawal())
                found.until = order if found.until is None else max(found.until, order)
            for name in notices:
                self._withdrawals.setdefault((name, world), _Withdrawal()).cited = True
        if item is not None and not said.retraction:
            self._add((said.event_id, said.world), precedence(said.rank), item)

    def touched(self, said: Statement) -> list[Name]:
        """Events of which a statement may change what is in force, its own first."""
        keys = {(said.event_id, said.world): None}
        for key in self.names(said):
            keys |= dict.fromkeys(self.events_of(key))
        return list(keys)

    def names(self, said: Statement) -> list[Name]:
        """What a statement takes back, in the worlds where it does."""
        events, notices = taken_back(said)
        named = dict.fromkeys((*events, *notices))
        return [(name, world) for world in reach(said.world) for name in named]

    def events_of(self, name: Name) -> list[Name]:
        """The event of this name, and those that have a notice of this name."""
        _, world = name
        return [name, *((event, world) for event in sorted(self._events_of.get(name, ())))]

    def current(self, key: Name) -> _T | None:
        """The version in force: not withdrawn, and before the others by precedence."""
        event = self._events.get(key)
        if event is None:
            return None
        place = self._in_force(key, event)
        return None if place is None else event.items[place]

    def current_number(self, key: Name) -> int:
        """Number of the version in force, from 1; 0 if there is none."""
        event = self._events.get(key)
        place = None if event is None else self._in_force(key, event)
        return 0 if event is None or place is None else _number(event, place)

    def number(self, key: Name, rank: Rank) -> int:
        """Number of a version among those of its event, from 1; 0 if it is not there."""
        event, place = self._events.get(key), precedence(rank)
        return 0 if event is None or place not in event.items else _number(event, place)

    def is_retracted(self, key: Name) -> bool:
        """Whether nothing of an event stands, of which there was something or a retraction."""
        withdrawal = self._withdrawals.get(key)
        is_named = withdrawal is not None and withdrawal.until is not None
        return self.current(key) is None and (is_named or key in self._events)

    def versions(self, key: Name) -> list[tuple[_T, bool]]:
        """All versions of an event in their order, and of each whether it is withdrawn."""
        event = self._events.get(key, _Event[_T]())
        return [(event.items[place], self._is_withdrawn(key, place)) for place in event.places]

    def forgotten(self, key: Name) -> int:
        """Versions of an event that were forgotten: the first one here has the number after it."""
        return self._events[key].forgotten if key in self._events else 0

    def forget_version(self, key: Name, rank: Rank) -> None:
        """Drop one version; the others keep their numbers."""
        event, place = self._events[key], precedence(rank)
        del event.items[place]
        for places in (event.places, event.standing):
            at = bisect_left(places, place)
            if at < len(places) and places[at] == place:
                del places[at]
        event.forgotten += 1
        self._forget_name(key, place)

    def forget_event(self, key: Name) -> None:
        """Drop all versions of an event; what takes it back stays known."""
        event = self._events.pop(key, None)
        for place in () if event is None else event.places:
            self._forget_name(key, place)

    def forget_withdrawal(self, name: Name) -> None:
        """Drop what takes a name back. Nothing of that name may be here.

        Otherwise what fell would stand again.
        """
        assert name not in self, "what bears the name would stand again"
        self._withdrawals.pop(name, None)

    def _add(self, key: Name, place: Precedence, item: _T) -> None:
        event = self._events.setdefault(key, _Event[_T]())
        if place not in event.items:
            insort(event.places, place)
            if not self._is_withdrawn(key, place):
                insort(event.standing, place)
            name, world = _notice_id(place), key[1]
            self._events_of.setdefault((name, world), Counter())[key[0]] += 1
        event.items[place] = item

    def _in_force(self, key: Name, event: _Event[_T]) -> Precedence | None:
        while event.standing and self._is_withdrawn(key, event.standing[-1]):
            event.standing.pop()
        return event.standing[-1] if event.standing else None

    def _is_withdrawn(self, key: Name, place: Precedence) -> bool:
        kind, issued, serial, notice_id, *_ = place
        cited = self._withdrawals.get((notice_id, key[1]))
        if cited is not None and cited.cited:
            return True
        event = self._withdrawals.get(key)
        if event is None or event.until is None:
            return False
        return (issued, kind, serial) <= event.until

    def _forget_name(self, key: Name, place: Precedence) -> None:
        event_id, world = key
        name = (_notice_id(place), world)
        events = self._events_of[name]
        events[event_id] -= 1
        if not events[event_id]:
            del events[event_id]
        if not events:
            del self._events_of[name]


def _notice_id(place: Precedence) -> str:
    return place[3]


def _number(event: _Event[_T], place: Precedence) -> int:
    return event.forgotten + bisect_left(event.places, place) + 1
