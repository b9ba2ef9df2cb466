"""One burst that several missions saw: which events are one, how it is called, where it lies.

Two missions that trigger within a minute of one another, with regions that overlap, saw one
burst: some 300 bursts a year make a chance coincidence of place and minute rare (a burst
within 60 s of another one by chance: once in 900). Subthreshold triggers and known sources
are too many for that and stay events of their own, as do other messengers, of which a
coincidence is a result and not a premise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crossmatch.model import IntArray, Region
from crossmatch.region import cover_ranges
from crossmatch.sky import intersection

CHAINS = frozenset({"grb", "xray"})
SECONDS = 60.0
"""Longest time between triggers of one burst: missions trigger on different parts of it."""


def may_be_joint(region: Region) -> bool:
    """Whether other missions' events may be the same as this one."""
    return region.chain in CHAINS


def are_joint(one: Region, other: Region) -> bool:
    """Whether two missions' regions, of one world, are of one burst.

    Parameters
    ----------
    one, other : Region
        In force, of different events. Regions of one mission are two bursts.
    """
    return _may_be_one(one, other) and len(intersection(_cover(one), _cover(other))) > 0


def _may_be_one(one: Region, other: Region) -> bool:
    """Whether two regions are joint but for their places."""
    if not (may_be_joint(one) and may_be_joint(other)) or one.mission == other.mission:
        return False
    return abs(_seconds(one, other)) <= SECONDS


def components(regions: Sequence[Region]) -> list[list[Region]]:
    """Regions that are joint, directly or by others between them; each list in stable order."""
    ordered = sorted(regions, key=_by_trigger)
    # Of each region the earliest one that it is joint with, itself at first.
    root = list(range(len(ordered)))
    covers: dict[int, IntArray] = {}
    open_from = 0
    for i, region in enumerate(ordered):
        while _seconds(ordered[open_from], region) > SECONDS:
            open_from += 1
        for j in range(open_from, i):
            if _root(root, i) != _root(root, j) and _are_joint(ordered, covers, i, j):
                low, high = sorted((_root(root, i), _root(root, j)))
                root[high] = low
    found: dict[int, list[Region]] = {}
    for i, region in enumerate(ordered):
        found.setdefault(_root(root, i), []).append(region)
    return list(found.values())


def _root(root: Sequence[int], i: int) -> int:
    while root[i] != i:
        i = root[i]
    return i


def _are_joint(regions: Sequence[Region], covers: dict[int, IntArray], i: int, j: int) -> bool:
    """As `are_joint`, with covers that are made once."""
    if not _may_be_one(regions[i], regions[j]):
        return False
    for k in (i, j):
        if k not in covers:
            covers[k] = _cover(regions[k])
    return len(intersection(covers[i], covers[j])) > 0


def joint_name(members: Iterable[Region]) -> str:
    """Name of the event: that of the mission that triggered first."""
    return min(members, key=_by_trigger).event_id


def leading(members: Iterable[Region]) -> Region:
    """The region of the event: the smallest, for each of them holds the one true place."""
    return min(members, key=lambda r: (r.area90_deg2, r.event_id))


def minutes(region: Region) -> tuple[int, ...]:
    """Two regions that may be joint by their time have one of these numbers in common.

    Examples
    --------
    Triggers at 59 s and 61 s after an epoch: ``(0, 1)`` and ``(1, 2)``.
    """
    number = int(region.trigger_time.timestamp() // SECONDS)
    return (number, number + 1)


def _seconds(one: Region, other: Region) -> float:
    return (other.trigger_time - one.trigger_time).total_seconds()


def _by_trigger(region: Region) -> tuple[float, str]:
    return region.trigger_time.timestamp(), region.event_id


def _cover(region: Region) -> IntArray:
    return cover_ranges(region.localization, region.level)
