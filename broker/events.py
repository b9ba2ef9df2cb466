"""Which region of each event is in force, whatever the order in which records arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.codec import RegionRecord
from crossmatch.model import Region
from crossmatch.versions import Order, Rank, World, in_force, reach, world_of


@dataclass(frozen=True, slots=True)
class Change:
    """An event whose region in force is another one than before, and the record that did it."""

    event_id: str
    world: World
    before: Region | None
    after: Region | None
    cause: RegionRecord


_Key = tuple[str, World]
"""Event and its world: one of the same name in another world is another event."""


@dataclass(slots=True)
class _Retracted:
    """What the retractions of a world name: events, up to an order, and single notices."""

    until: dict[str, Order] = field(default_factory=dict)
    cited: set[str] = field(default_factory=set)


class Events:
    """Versions and retractions of all events; which is in force says `crossmatch.versions`.

    Parameters
    ----------
    include_tests : bool
        Whether test, mock and injected events are matched at all (to topics of their own).
    """

    def __init__(self, include_tests: bool = False) -> None:
        self._include_tests = include_tests
        self._versions: dict[_Key, dict[Rank, Region]] = {}
        self._events_of: dict[_Key, set[str]] = {}
        self._retracted: dict[World, _Retracted] = {}

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events whose region in force changed, one change each."""
        before: dict[_Key, Region | None] = {}
        cause: dict[_Key, RegionRecord] = {}
        for record in records:
            world = world_of(record.fields["role"], record.streams)
            is_test, _ = world
            if is_test and not self._include_tests:
                continue
            for key in self._touched(record, world):
                before.setdefault(key, self._in_force(key))
                cause[key] = record
            self._enter(record, world)
        changes = []
        for key, old in before.items():
            new = self._in_force(key)
            if new is not old:
                changes.append(Change(*key, old, new, cause[key]))
        return changes

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        found = (self._in_force(key) for key in sorted(self._versions))
        return [region for region in found if region is not None]

    def region(self, event_id: str, world: World) -> Region | None:
        """Region in force of one event."""
        return self._in_force((event_id, world))

    def _touched(self, record: RegionRecord, world: World) -> set[_Key]:
        """Events that a record may change."""
        keys = {(record.event_id, world)}
        if record.alert_type == "retraction":
            for there in reach(world):
                for name in (record.event_id, *record.retracts):
                    keys.add((name, there))
                    keys |= {(event, there) for event in self._events_of.get((name, there), ())}
        return keys

    def _enter(self, record: RegionRecord, world: World) -> None:
        if record.alert_type == "retraction":
            for there in reach(world):
                retracted = self._retracted.setdefault(there, _Retracted())
                for name in (record.event_id, *record.retracts):
                    until = retracted.until.get(name, record.order)
                    retracted.until[name] = max(until, record.order)
                retracted.cited.update(record.retracts)
        elif record.region is not None:
            key = (record.event_id, world)
            rank = (record.order, record.notice_id, record.skymap_sha256, record.notice_sha256)
            self._versions.setdefault(key, {})[rank] = record.region
            self._events_of.setdefault((record.notice_id, world), set()).add(record.event_id)

    def _in_force(self, key: _Key) -> Region | None:
        event_id, world = key
        versions = self._versions.get(key, {})
        retracted = self._retracted.get(world, _Retracted())
        rank = in_force(list(versions), retracted.until.get(event_id), retracted.cited)
        return None if rank is None else versions[rank]
