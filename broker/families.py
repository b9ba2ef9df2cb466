"""Which region records bear on one another, so that they are put aside together.

Records are linked by names: the event, the notice, what a notice takes back, and, of bursts
that several missions may have seen, the minutes of the trigger. Neither worlds nor names of
events and of notices are told apart here: a family that is too large costs a little memory,
one that is too small the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from broker.codec import from_iso
from broker.owed import span_of
from broker.regioncodec import RegionRecord
from crossmatch import joint
from crossmatch.times import jd_from_datetime


def names_of(record: RegionRecord) -> frozenset[str]:
    """What links a record to others."""
    names = {f"name {n}" for n in (record.event_id, record.notice_id, *record.retracts)}
    if record.region is not None and joint.may_be_joint(record.region):
        names |= {f"minute {minute}" for minute in joint.minutes(record.region)}
    return frozenset(names)


def span_jd(record: RegionRecord) -> tuple[float, float]:
    """When alerts may match what a record says, JD UTC; a retraction: when it was issued."""
    if record.region is None:
        issued = jd_from_datetime(from_iso(record.fields["issued"]))
        return issued, issued
    return span_of(record.region)


@dataclass(slots=True)
class OpenFamily:
    """Records in memory that bear on one another."""

    names: set[str] = field(default_factory=set)
    records: dict[bytes, RegionRecord] = field(default_factory=dict)
    start_jd: float = math.inf
    end_jd: float = -math.inf

    def add(self, record: RegionRecord) -> None:
        """Take a record in; one that is here already is not kept twice."""
        self.names |= names_of(record)
        # Of two versions of one rank the later one counts, also when it is a repeat.
        self.records.pop(record.raw, None)
        self.records[record.raw] = record
        start, end = span_jd(record)
        self.start_jd, self.end_jd = min(self.start_jd, start), max(self.end_jd, end)


class Families:
    """Families in memory, by name."""

    def __init__(self) -> None:
        self._of_name: dict[str, OpenFamily] = {}

    def __iter__(self) -> Iterator[OpenFamily]:
        return iter({id(family): family for family in self._of_name.values()}.values())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, record: RegionRecord) -> None:
        """Take a record in; families that it links become one."""
        names = names_of(record)
        family = self._merged(names)
        family.add(record)
        for name in family.names:
            self._of_name[name] = family

    def remove(self, family: OpenFamily) -> None:
        """Let a family go."""
        for name in family.names:
            del self._of_name[name]

    def ended(self, before_jd: float) -> list[OpenFamily]:
        """Families of which all windows closed before a moment, in the order of their ends."""
        return sorted((f for f in self if f.end_jd < before_jd), key=lambda f: f.end_jd)

    def _merged(self, names: Iterable[str]) -> OpenFamily:
        found = {id(f): f for n in names if (f := self._of_name.get(n)) is not None}
        merged = OpenFamily()
        if found:
            # The largest stays, the others go into it.
            merged, *others = sorted(found.values(), key=lambda f: -len(f.records))
            for other in others:
                merged.names |= other.names
                merged.records |= other.records
                merged.start_jd = min(merged.start_jd, other.start_jd)
                merged.end_jd = max(merged.end_jd, other.end_jd)
        return merged
