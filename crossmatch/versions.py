"""Versions of an event: which one is in force. One rule for the listener and the matcher."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TypeAlias

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
    """Worlds in which a retraction of ``world`` works: a real one takes tests back too.

    Examples
    --------
    >>> reach((False, ("a",)))
    ((False, ('a',)), (True, ('a',)))
    >>> reach((True, ()))
    ((True, ()),)
    """
    is_test, streams = world
    return (world,) if is_test else (world, (True, streams))


def withdrawn(ranks: Sequence[Rank], until: Order | None, cited: Container[str]) -> list[bool]:
    """Which versions no longer stand.

    Parameters
    ----------
    ranks : sequence of Rank
    until : Order, optional
        Of the newest retraction of the event: it takes back all versions up to it.
    cited : container of str
        Identifiers of notices that a retraction names, whatever their order.
    """
    return [name in cited or (until is not None and order <= until) for order, name, *_ in ranks]


def in_force(ranks: Sequence[Rank], until: Order | None, cited: Container[str]) -> Rank | None:
    """The version that was not withdrawn and goes before the others; None if there is none.

    Examples
    --------
    >>> first, second = ((1.0, 0, 1), "a", "", ""), ((2.0, 0, 2), "b", "", "")
    >>> in_force([second, first], None, ())[1]
    'b'
    >>> in_force([second, first], None, {"b"})[1]
    'a'
    >>> in_force([second, first], (2.0, 0, 2), ()) is None
    True
    """
    gone = withdrawn(ranks, until, cited)
    standing = (r for r, is_gone in zip(ranks, gone, strict=True) if not is_gone)
    return max(standing, key=precedence, default=None)
