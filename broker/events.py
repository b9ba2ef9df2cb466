"""Which region of each event is in force, whatever the order in which records arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.codec import RegionRecord
from crossmatch.model import Region

Order = tuple[float, int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """An event whose region in force is another one than before, and the record that did it."""

    event_id: str
    before: Region | None
    after: Region | None
    cause: RegionRecord


# Two notices of one moment are ordered by identifier and digest, as the listener orders them.
_Rank = tuple[Order, str, str]


@dataclass(slots=True)
class _Versions:
    regions: dict[_Rank, Region] = field(default_factory=dict)
    retracted: Order | None = None

    def in_force(self) -> Region | None:
        newest = max(self.regions, default=None)
        if newest is None or (self.retracted is not None and self.retracted >= newest[0]):
            return None
        return self.regions[newest]


class Events:
    """Versions and retractions of all events; the newest in the mission's order is in force.

    Parameters
    ----------
    include_tests : bool
        Whether test, mock and injected events are matched at all (to topics of their own).
    """

    def __init__(self, include_tests: bool = False) -> None:
        self._include_tests = include_tests
        # Test events are kept apart: one of a real event's name must not touch it.
        self._events: dict[tuple[str, bool], _Versions] = {}

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events whose region in force changed, one change each."""
        before: dict[tuple[str, bool], Region | None] = {}
        cause: dict[tuple[str, bool], RegionRecord] = {}
        for record in records:
            is_test = record.fields["role"] != "observation"
            if is_test and not self._include_tests:
                continue
            key = (record.event_id, is_test)
            versions = self._events.setdefault(key, _Versions())
            before.setdefault(key, versions.in_force())
            cause[key] = record
            if record.alert_type == "retraction":
                versions.retracted = max(versions.retracted or record.order, record.order)
            elif record.region is not None:
                rank = (record.order, record.notice_id, record.notice_sha256)
                versions.regions[rank] = record.region
        changes = []
        for key, old in before.items():
            new = self._events[key].in_force()
            if new is not old:
                changes.append(Change(key[0], old, new, cause[key]))
        return changes

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        found = (self._events[name].in_force() for name in sorted(self._events))
        return [region for region in found if region is not None]

    def region(self, event_id: str) -> Region | None:
        """Region in force of one event."""
        for is_test in (False, True):
            versions = self._events.get((event_id, is_test))
            found = None if versions is None else versions.in_force()
            if found is not None:
                return found
        return None
