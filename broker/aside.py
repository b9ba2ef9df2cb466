"""Events that are over leave the memory, and come back when something of them is heard.

Putting an event aside changes no answer: a notice about it, an alert of its window, however
late, a verdict on one of its counterparts or what a catalogue answers about one brings it back as
it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from broker.coldstore import ColdStore, Family
from broker.events import Events
from broker.families import OpenFamily, names_of
from broker.groups import Group, GroupKey, Groups
from broker.regioncodec import RegionRecord
from crossmatch.counterpart import counterpart_id
from crossmatch.model import FloatArray, Region
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict
from crossmatch.versions import Name

_RULES = "rules "


@dataclass(frozen=True, slots=True)
class Closed:
    """A family that is to be put aside, the regions it had in force, and its groups' keys."""

    family: Family
    regions: tuple[Region, ...]
    keys: tuple[GroupKey, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A family that came back, and by which rules it was judged last."""

    records: list[RegionRecord]
    groups: dict[GroupKey, Group]
    rules: str


class Aside:
    """What was put aside.

    Parameters
    ----------
    store : ColdStore
    decode : callable
        From a message of ``mm.regionlog`` to its record.
    """

    def __init__(self, store: ColdStore, decode: Callable[[bytes], RegionRecord]) -> None:
        self._store = store
        self._decode = decode
        self._count = store.count()

    def restore(self, committed_step: int) -> None:
        """Go back to how things stood after a step."""
        self._store.restore(committed_step)
        self._count = self._store.count()

    def count(self) -> int:
        """Number of families that are put aside."""
        return self._count

    def without_closed(self, messages: Iterable[bytes]) -> list[bytes]:
        """Messages of ``mm.regionlog`` whose events were not put aside."""
        closed = self._store.record_digests()
        return [m for m in messages if hashlib.sha256(m).digest() not in closed]

    def close(
        self,
        events: Events,
        groups: Groups,
        before_jd: float,
        owed: Set[Name],
        limit: int,
        rules: str,
    ) -> list[Closed]:
        """Let ``events`` forget what ended before a moment and owes no search."""
        closed: list[Closed] = []
        for family in events.families.ended(before_jd):
            if len(closed) >= limit:
                break
            names = events.events_of(family)
            if owed.isdisjoint(names):
                keys = tuple(key for name in names for key in groups.of_event(name))
                kept = _family(family, {key: groups[key] for key in keys}, rules)
                closed.append(Closed(kept, tuple(events.forget(family)), keys))
        return closed

    def put(self, closed: Sequence[Closed], step: int) -> None:
        """Keep what was closed in a step."""
        if closed:
            self._store.put([one.family for one in closed], step)
            self._count += len(closed)

    def take(
        self,
        records: Sequence[RegionRecord],
        alerts: pa.Table,
        verdicts: Sequence[Verdict],
        answers: Sequence[Answer],
        step: int,
    ) -> list[Taken]:
        """Families of which a batch speaks: by a name, an exposure in a window, a counterpart."""
        names = {name for record in records for name in names_of(record)}
        names |= {_object(verdict.counterpart_id) for verdict in verdicts}
        names |= {_object(answer.counterpart_id) for answer in answers}
        # The survey may give another time with an alert that it takes back.
        taken_back = alerts.filter(pc.field("withdrawn")).select(["survey", "object_id"])
        names |= {_object(counterpart_id(**row)) for row in taken_back.to_pylist()}
        ids = set(self._store.find(sorted(names))) if names else set()
        for start_jd, end_jd in _spans(alerts["time_jd"].to_numpy(), self._store.latest_end_jd()):
            ids |= set(self._store.between(start_jd, end_jd))
        taken = self._store.take(sorted(ids), step) if ids else []
        self._count -= len(taken)
        return [self._taken(family) for family in taken]

    def _taken(self, family: Family) -> Taken:
        groups = {
            GroupKey.from_json(one["key"]): Group.from_json(one["group"]) for one in family.groups
        }
        rules = next(n for n in family.names if n.startswith(_RULES))
        records = [self._decode(raw) for raw in family.records]
        return Taken(records, groups, rules.removeprefix(_RULES))


def _spans(time_jd: FloatArray, latest_jd: float) -> list[tuple[float, float]]:
    """First and last exposure of each day up to a moment.

    Day by day: one alert of years ago must not bring all back that was since.
    """
    times = np.sort(time_jd[time_jd <= latest_jd])
    if not len(times):
        return []
    parts = np.split(times, np.flatnonzero(np.diff(np.floor(times))) + 1)
    return [(float(part[0]), float(part[-1])) for part in parts]


def _family(family: OpenFamily, groups: Mapping[GroupKey, Group], rules: str) -> Family:
    objects = {_object(key.counterpart_id) for key in groups}
    return Family(
        names=frozenset(family.names | objects | {_RULES + rules}),
        start_jd=family.start_jd,
        end_jd=family.end_jd,
        records=tuple(family.records),
        groups=tuple({"key": k.to_json(), "group": g.to_json()} for k, g in groups.items()),
    )


def _object(counterpart: str) -> str:
    return f"object {counterpart}"
