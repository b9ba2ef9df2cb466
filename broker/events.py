"""Which region of each event is in force, whatever the order in which records arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.codec import RegionRecord
from crossmatch.model import Region
from crossmatch.versions import Order, Rank, in_force


@dataclass(frozen=True, slots=True)
class Change:
    """An event whose region in force is another one than before, and the record that did it."""

    event_id: str
    before: Region | None
    after: Region | None
    cause: RegionRecord


_Key = tuple[str, bool]
"""Event and whether it is a test: one of a real event's name must not touch it."""


@dataclass(slots=True)
class _World:
    """What retractions name: events, up to an order, and single notices."""

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
        self._worlds = {False: _World(), True: _World()}

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events whose region in force changed, one change each."""
        before: dict[_Key, Region | None] = {}
        cause: dict[_Key, RegionRecord] = {}
        for record in records:
            is_test = record.fields["role"] != "observation"
            if is_test and not self._include_tests:
                continue
            for key in self._touched(record, is_test):
                before.setdefault(key, self._in_force(key))
                cause[key] = record
            self._enter(record, is_test)
        changes = []
        for key, old in before.items():
            new = self._in_force(key)
            if new is not old:
                changes.append(Change(key[0], old, new, cause[key]))
        return changes

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        found = (self._in_force(key) for key in sorted(self._versions))
        return [region for region in found if region is not None]

    def region(self, event_id: str) -> Region | None:
        """Region in force of one event."""
        return self._in_force((event_id, False)) or self._in_force((event_id, True))

    def _touched(self, record: RegionRecord, is_test: bool) -> set[_Key]:
        """Events that a record may change."""
        keys = {(record.event_id, is_test)}
        if record.alert_type == "retraction":
            for world in _worlds_of(is_test):
                for name in (record.event_id, *record.retracts):
                    keys.add((name, world))
                    keys |= {(event, world) for event in self._events_of.get((name, world), ())}
        return keys

    def _enter(self, record: RegionRecord, is_test: bool) -> None:
        if record.alert_type == "retraction":
            for world in _worlds_of(is_test):
                until = self._worlds[world].until
                for name in (record.event_id, *record.retracts):
                    until[name] = max(until.get(name, record.order), record.order)
                self._worlds[world].cited.update(record.retracts)
        elif record.region is not None:
            key = (record.event_id, is_test)
            rank = (record.order, record.notice_id, record.skymap_sha256, record.notice_sha256)
            self._versions.setdefault(key, {})[rank] = record.region
            self._events_of.setdefault((record.notice_id, is_test), set()).add(record.event_id)

    def _in_force(self, key: _Key) -> Region | None:
        versions = self._versions.get(key, {})
        world = self._worlds[key[1]]
        rank = in_force(list(versions), world.until.get(key[0]), world.cited)
        return None if rank is None else versions[rank]


def _worlds_of(is_test: bool) -> tuple[bool, ...]:
    """Where a retraction works: a test's only among tests."""
    return (True,) if is_test else (False, True)
