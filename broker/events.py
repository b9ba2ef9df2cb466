"""Which region of each event is in force, whatever the order in which records arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.codec import RegionRecord
from crossmatch.model import Region
from crossmatch.versions import Name, Statement, Versions, World, world_of


@dataclass(frozen=True, slots=True)
class Change:
    """An event whose region in force is another one than before, and the record that did it."""

    event_id: str
    world: World
    before: Region | None
    after: Region | None
    cause: RegionRecord


class Events:
    """Versions and retractions of all events; which is in force says `crossmatch.versions`.

    Parameters
    ----------
    include_tests : bool
        Whether test, mock and injected events are matched at all (to topics of their own).
    """

    def __init__(self, include_tests: bool = False) -> None:
        self._include_tests = include_tests
        self._versions: Versions[Region] = Versions()

    def apply(self, records: Iterable[RegionRecord]) -> list[Change]:
        """Take records in; the events whose region in force changed, one change each."""
        before: dict[Name, Region | None] = {}
        cause: dict[Name, RegionRecord] = {}
        for record in records:
            said = _statement(record)
            is_test, _ = said.world
            if is_test and not self._include_tests:
                continue
            for key in self._versions.touched(said):
                before.setdefault(key, self._versions.current(key))
                cause[key] = record
            self._versions.enter(said, record.region)
        changes = []
        for key, old in before.items():
            new = self._versions.current(key)
            if new is not old:
                changes.append(Change(*key, old, new, cause[key]))
        return changes

    def in_force(self) -> list[Region]:
        """Regions in force, ordered by event."""
        found = (self._versions.current(key) for key in sorted(self._versions))
        return [region for region in found if region is not None]

    def region(self, event_id: str, world: World) -> Region | None:
        """Region in force of one event."""
        return self._versions.current((event_id, world))


def _statement(record: RegionRecord) -> Statement:
    return Statement(
        event_id=record.event_id,
        world=world_of(record.fields["role"], record.streams),
        rank=(record.order, record.notice_id, record.skymap_sha256, record.notice_sha256),
        retraction=record.alert_type == "retraction",
        retracts=record.retracts,
    )
