"""Which region of each event is in force, whatever the order in which records arrive.

A mission's notices about its event are versions (`crossmatch.versions`). Events of several
missions may be one (`crossmatch.joint`): that one bears the name of the earliest and has the
smallest of their regions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from broker.families import Families, OpenFamily
from broker.regioncodec import RegionRecord
from crossmatch import joint
from crossmatch.model import Region
from crossmatch.versions import Name, Statement, Versions, World, world_of


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """An event as it stands: its region, under the event's name, and whose events it joins.

    ``members`` are the names that the missions gave it, one or more.
    """

    region: Region
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """An event that stands otherwise than before, and the record that did it.

    ``merged`` says of an event that is gone that its mission's region still stands, under the
    name of another mission's event.
    """

    event_id: str
    world: World
    before: InForce | None
    after: InForce | None
    cause: RegionRecord
    merged: bool = False

    @property
    def same_place(self) -> bool:
        """Whether the event's region holds what it held; members or its description changed."""
        if self.before is None or self.after is None:
            return False
        was, now = self.before.region, self.after.region
        return _same_localization(was, now) and (was.level, was.window, was.trigger_time) == (
            now.level,
            now.window,
            now.trigger_time,
        )


class Events:
    """Versions and retractions of all open events.

    Parameters
    ----------
    include_tests : bool
        Whether test, mock and injected events are matched at all (to topics of their own).
    """

    def __init__(self, include_tests: bool = False) -> None:
        self._include_tests = include_tests
        self._versions: Versions[Region] = Versions()
        self._standing: dict[Name, InForce] = {}
        # The event that a mission's event is part of.
        self._joint_of: dict[Name, Name] = {}
        self._at_minute: defaultdict[tuple[int, World], set[Name]] = defaultdict(set)
        self.families = Families()

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events that stand otherwise now, one change each."""
        before: dict[Name, Region | None] = {}
        cause: dict[Name, RegionRecord] = {}
        for record in records:
            said = _statement(record)
            # What is not matched stays with what it bears on, should it be wanted one day.
            self.families.add(record)
            is_test, _ = said.world
            if is_test and not self._include_tests:
                continue
            for key in self._versions.touched(said):
                before.setdefault(key, self._versions.current(key))
                cause[key] = record
            self._versions.enter(said, record.region)
        changed = {k: cause[k] for k, old in before.items() if self._versions.current(k) is not old}
        for key in changed:
            self._place(key, before[key], self._versions.current(key))
        return self._changes(changed)

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        return [self._standing[key].region for key in sorted(self._standing)]

    def standing(self, event_id: str, world: World) -> InForce | None:
        """How one event stands."""
        return self._standing.get((event_id, world))

    def region(self, event_id: str, world: World) -> Region | None:
        """Region in force of one event."""
        found = self._standing.get((event_id, world))
        return None if found is None else found.region

    def events_of(self, family: OpenFamily) -> list[Name]:
        """Events, by the names of missions, of which a family has records."""
        found = {(r.event_id, _statement(r).world): None for r in family.records.values()}
        return list(found)

    def forget(self, family: OpenFamily) -> list[Region]:
        """Let go of a family; the regions that were in force of its events."""
        regions = []
        for key in self.events_of(family):
            self._place(key, self._versions.current(key), None)
            self._joint_of.pop(key, None)
            found = self._standing.pop(key, None)
            if found is not None:
                regions.append(found.region)
        statements = [_statement(record) for record in family.records.values()]
        for key in self.events_of(family):
            self._versions.forget_event(key)
        for said in statements:
            for name in self._versions.names(said):
                self._versions.forget_withdrawal(name)
        self.families.remove(family)
        return regions

    def _place(self, key: Name, old: Region | None, new: Region | None) -> None:
        """Note at which minutes a mission's event may be one with others."""
        _, world = key
        for region, is_new in ((old, False), (new, True)):
            if region is None or not joint.may_be_joint(region):
                continue
            for minute in joint.minutes(region):
                here = self._at_minute[minute, world]
                here.add(key) if is_new else here.discard(key)
                if not here:
                    del self._at_minute[minute, world]

    def _changes(self, causes: dict[Name, RegionRecord]) -> list[Change]:
        """Join anew what the changed events of missions are, or were, part of."""
        members = self._affected(causes)
        was_in = {key: self._joint_name(key) for key in members}
        old = {name: self._standing.pop(name, None) for name in dict.fromkeys(was_in.values())}
        for key in members:
            self._joint_of.pop(key, None)
        new = self._joined(members)
        changes = []
        for name in dict.fromkeys((*old, *new)):
            was, now = old.get(name), new.get(name)
            if was is not None and now is not None and _same(was, now):
                self._standing[name] = was
                continue
            if now is not None:
                self._standing[name] = now
            if was is None and now is None:
                continue
            near = _near(name, (was, now), [(old, was_in), (new, self._joint_of)])
            cause = next(causes[key] for key in (*near, *causes) if key in causes)
            merged = now is None and self._versions.current(name) is not None
            changes.append(Change(*name, was, now, cause, merged))
        return changes

    def _joint_name(self, key: Name) -> Name:
        return self._joint_of.get(key, key)

    def _affected(self, causes: Iterable[Name]) -> list[Name]:
        """Events of missions that may be joined otherwise than before, ordered."""
        found: set[Name] = set()
        for key in causes:
            found |= self._members(key)
            region = self._versions.current(key)
            if region is not None and joint.may_be_joint(region):
                for minute in joint.minutes(region):
                    for neighbour in self._at_minute.get((minute, key[1]), ()):
                        found |= self._members(neighbour)
        return sorted(found)

    def _members(self, key: Name) -> set[Name]:
        name = self._joint_name(key)
        standing = self._standing.get(name)
        _, world = key
        return {key, *((m, world) for m in (() if standing is None else standing.members))}

    def _joined(self, members: Iterable[Name]) -> dict[Name, InForce]:
        """How the events stand that these events of missions make."""
        by_world: defaultdict[World, list[Region]] = defaultdict(list)
        for key in members:
            region = self._versions.current(key)
            if region is not None:
                by_world[key[1]].append(region)
        found: dict[Name, InForce] = {}
        for world, regions in by_world.items():
            for group in joint.components(regions):
                name = joint.joint_name(group), world
                leading = joint.leading(group)
                if leading.event_id != name[0]:
                    leading = replace(leading, event_id=name[0])
                found[name] = InForce(leading, tuple(sorted(r.event_id for r in group)))
                for region in group:
                    self._joint_of[region.event_id, world] = name
        return found


def _near(
    name: Name,
    stands: Iterable[InForce | None],
    joined: Iterable[tuple[Mapping[Name, InForce | None], Mapping[Name, Name]]],
) -> list[Name]:
    """Events of missions that may be why one stands otherwise, itself first.

    They are its members, and those of the events that these were and are part of.
    """
    world = name[1]
    found = [name, *((m, world) for one in stands if one is not None for m in one.members)]
    for standing, joint_of in joined:
        for key in list(found):
            other = standing.get(joint_of.get(key, key))
            found += [(m, world) for m in (() if other is None else other.members)]
    return found


def _same(was: InForce, now: InForce) -> bool:
    if was.members != now.members or not _same_localization(was.region, now.region):
        return False
    return replace(was.region, localization=now.region.localization) == now.region


def _same_localization(one: Region, other: Region) -> bool:
    if one.skymap_sha256 or other.skymap_sha256:
        # A map that was read once more is another object.
        return one.skymap_sha256 == other.skymap_sha256
    return one.localization == other.localization


def _statement(record: RegionRecord) -> Statement:
    return Statement(
        event_id=record.event_id,
        world=world_of(record.fields["role"], record.streams),
        rank=(record.order, record.notice_id, record.skymap_sha256, record.notice_sha256),
        retraction=record.alert_type == "retraction",
        retracts=record.retracts,
    )
