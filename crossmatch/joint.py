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
    if not (may_be_joint(one) and may_be_joint(other)) or one.mission == other.mission:
        return False
    apart = abs((one.trigger_time - other.trigger_time).total_seconds())
    return apart <= SECONDS and len(intersection(_cover(one), _cover(other))) > 0


def components(regions: Sequence[Region]) -> list[list[Region]]:
    """Regions that are joint, directly or by others between them; each list in stable order."""
    left = sorted(regions, key=_by_trigger)
    found = []
    while left:
        members = [left.pop(0)]
        for member in members:
            linked = [region for region in left if are_joint(member, region)]
            left = [region for region in left if region not in linked]
            members += linked
        found.append(sorted(members, key=_by_trigger))
    return found


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


def _by_trigger(region: Region) -> tuple[float, str]:
    return region.trigger_time.timestamp(), region.event_id


def _cover(region: Region) -> IntArray:
    return cover_ranges(region.localization, region.level)
