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


@dataclass(slots=True)
class _Versions:
    regions: dict[Order, Region] = field(default_factory=dict)
    retracted: Order | None = None

    def in_force(self) -> Region | None:
        newest = max(self.regions, default=None)
        if newest is None or (self.retracted is not None and self.retracted >= newest):
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
        self._events: dict[str, _Versions] = {}

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events whose region in force changed, one change each."""
        before: dict[str, Region | None] = {}
        cause: dict[str, RegionRecord] = {}
        for record in records:
            if record.fields["role"] != "observation" and not self._include_tests:
                continue
            versions = self._events.setdefault(record.event_id, _Versions())
            before.setdefault(record.event_id, versions.in_force())
            cause[record.event_id] = record
            if record.alert_type == "retraction":
                versions.retracted = max(versions.retracted or record.order, record.order)
            elif record.region is not None:
                versions.regions[record.order] = record.region
        changes = []
        for event_id, old in before.items():
            new = self._events[event_id].in_force()
            if new is not old:
                changes.append(Change(event_id, old, new, cause[event_id]))
        return changes

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        found = (self._events[name].in_force() for name in sorted(self._events))
        return [region for region in found if region is not None]

    def region(self, event_id: str) -> Region | None:
        """Region in force of one event."""
        versions = self._events.get(event_id)
        return None if versions is None else versions.in_force()
