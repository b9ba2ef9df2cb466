"""What the gateway's own topics hold of its past: steps, notices by families, verdicts, answers.

The ledger has one entry for each step of the matcher, in the same transaction as what the step
said, with the offsets of what it took in. From these, the archive and the configuration every
step can be done once more.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from broker import topics
from broker.codec import decode, from_iso
from broker.ledger import MATCHER_KINDS
from broker.lookuplog import decode_answer
from broker.verdictlog import decode_verdict
from crossmatch import joint
from crossmatch.errors import Rejected, ServiceError
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict
from gateway.offline.evidence import Topics

_DAYS_UNKNOWN = 1.0


@dataclass(frozen=True, slots=True)
class Search:
    """How far a search of the archive had come before a step, and came in it.

    ``through`` says how far in the night that was not yet done: the night, and the last alert's
    number and batch. ``objects`` are the first and the last group that the step took of all that
    was found, in the order of their texts; without them it took all.
    """

    event_id: str
    is_test: bool
    streams: tuple[str, ...]
    after: str
    until: str
    before_batch: int
    through: tuple[str, int, int] | None = None
    objects: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A committed step of the matcher, from the ledger.

    ``regions``, ``verdicts`` and ``lookups`` are half-open spans of offsets of
    ``mm.regionlog``, ``mm.verdicts`` and ``mm.lookups``.
    """

    kind: str
    number: int
    batch_id: int
    moment: datetime
    regions: tuple[int, int]
    verdicts: tuple[int, int]
    searches: tuple[Search, ...]
    selection: str
    lookups: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Family:
    """Region messages that bear on one another, by offset; what they are about.

    ``first`` is the earliest trigger. ``size`` is the largest product of area (deg**2) and
    length of window (days) among them: how many alerts may lie in it.
    """

    offsets: list[int] = field(default_factory=list)
    events: set[str] = field(default_factory=set)
    first: datetime | None = None
    size: float = 0.0


def read_steps(kafka: Topics) -> list[Step]:
    """All steps of the matcher, in their order.

    Raises
    ------
    ServiceError
        When there are none, some are missing, or they are of a version that did not yet say
        what a step took in.
    """
    found: dict[int, Step] = {}
    if topics.LEDGER in kafka.names():
        for message in kafka.read(topics.LEDGER):
            step = _step(message.value, message.offset)
            if step is not None:
                found[step.number] = step
    if not found:
        raise ServiceError(
            f"{topics.LEDGER} has no step of the matcher yet; 'mmgateway up' starts it"
        )
    missing = sorted(set(range(max(found) + 1)) - set(found))
    if missing:
        raise ServiceError(
            f"{topics.LEDGER} lacks {len(missing)} steps of the matcher, first step {missing[0]}:"
            " what they did cannot be done once more. Kafka must keep this topic for ever"
        )
    return [found[number] for number in sorted(found)]


def read_verdicts(kafka: Topics) -> dict[int, Verdict]:
    """Verdicts by offset; messages that are none are left out, as the matcher does."""
    found = {}
    if topics.VERDICTS in kafka.names():
        for message in kafka.read(topics.VERDICTS):
            try:
                found[message.offset] = decode_verdict(message.value)
            except Rejected:
                continue
    return found


def read_answers(kafka: Topics) -> dict[int, Answer]:
    """Answers of catalogues by offset; messages that are none are left out, as the matcher does."""
    found = {}
    if topics.LOOKUPS in kafka.names():
        for message in kafka.read(topics.LOOKUPS):
            try:
                found[message.offset] = decode_answer(message.value)
            except Rejected:
                continue
    return found


def read_families(kafka: Topics, end: int) -> list[Family]:
    """Families of the region messages before an offset.

    Messages are linked by the names of events and of notices, by what they take back, and,
    where missions may have seen one burst, by the minutes of the trigger: as the matcher does
    when it puts events aside (`broker.families`), but without reading the sky maps.
    """
    book = _Families()
    for message in kafka.read(topics.REGION_LOG):
        if message.offset >= end:
            break
        try:
            book.add(message.offset, decode(message.value))
        except (Rejected, KeyError, TypeError, ValueError, AttributeError):
            # Made a dead letter when it came; the matcher never saw it.
            continue
    return book.families()


def chosen(families: Iterable[Family], start: datetime, end: datetime) -> list[Family]:
    """Families of which the first trigger lies in [start, end), in the order of the triggers."""
    mine = [f for f in families if f.first is not None and start <= f.first < end]
    return sorted(mine, key=lambda f: (f.first, f.offsets[0]))


def eras(steps: Sequence[Step], families: Iterable[Family]) -> list[tuple[Step, list[Family]]]:
    """Families by the selection under which they were heard of first.

    Returns
    -------
    list of (Step, list of Family)
        Of each run of steps of one selection that had any: its first step, and the families
        that began in it, in the order given.
    """
    ends = [step.regions[1] for step in steps]
    first: list[int] = []
    for i, step in enumerate(steps):
        same = i > 0 and step.selection == steps[i - 1].selection
        first.append(first[-1] if same else i)
    found: dict[int, list[Family]] = {}
    for family in families:
        begun = bisect_right(ends, family.offsets[0])
        found.setdefault(first[begun], []).append(family)
    return [(steps[i], found[i]) for i in sorted(found)]


def _step(value: bytes, offset: int) -> Step | None:
    try:
        entry: dict[str, Any] = json.loads(value)
        if entry["kind"] not in MATCHER_KINDS:
            return None
    except (ValueError, KeyError, TypeError):
        # The ledger's own check names such a message; it is no step of ours.
        return None
    try:
        return Step(
            kind=entry["kind"],
            number=entry["step"],
            batch_id=entry["batch_id"],
            moment=datetime.fromisoformat(entry["moment"]),
            regions=_span(entry["regions"]),
            verdicts=_span(entry["verdicts"]),
            searches=tuple(_search(one) for one in entry["searches"]),
            selection=entry["selection"],
            # Entries of earlier versions have none: nothing was asked then.
            lookups=_span(entry.get("lookups", (0, 0))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceError(
            f"{topics.LEDGER} message {offset} does not say what step {entry.get('step')} took in"
            f" ({error!r}): it is of an earlier version of the gateway, and cannot be done again"
        ) from error


def _span(found: Sequence[int]) -> tuple[int, int]:
    begin, end = found
    return int(begin), int(end)


def _search(found: Mapping[str, Any]) -> Search:
    through, objects = found.get("through"), found.get("objects")
    return Search(
        event_id=found["event_id"],
        is_test=found["is_test"],
        streams=tuple(found["streams"]),
        after=found["after"],
        until=found["until"],
        before_batch=found["before_batch"],
        through=None if through is None else (through[0], through[1], through[2]),
        objects=None if objects is None else (objects[0], objects[1]),
    )


class _Families:
    """Joins messages by their names."""

    def __init__(self) -> None:
        self._of_name: dict[str, Family] = {}
        self._names_of: dict[int, set[str]] = {}

    def add(self, offset: int, fields: Mapping[str, Any]) -> None:
        names = _names(fields)
        family = self._merged({id(f): f for n in names if (f := self._of_name.get(n))})
        self._names_of.setdefault(id(family), set()).update(names)
        for name in names:
            self._of_name[name] = family
        family.offsets.append(offset)
        family.events.add(fields["event_id"])
        trigger = fields["trigger_time"]
        if trigger and fields["shape"] != "none":
            moment = from_iso(trigger)
            family.first = moment if family.first is None else min(family.first, moment)
        family.size = max(family.size, _size(fields))

    def families(self) -> list[Family]:
        found = {id(family): family for family in self._of_name.values()}
        for family in found.values():
            family.offsets.sort()
        return list(found.values())

    def _merged(self, parts: Mapping[int, Family]) -> Family:
        if not parts:
            return Family()
        family, *others = sorted(parts.values(), key=lambda f: -len(f.offsets))
        for other in others:
            names = self._names_of.pop(id(other))
            self._names_of[id(family)] |= names
            self._of_name.update(dict.fromkeys(names, family))
            family.offsets += other.offsets
            family.events |= other.events
            firsts = [f for f in (family.first, other.first) if f is not None]
            family.first = min(firsts, default=None)
            family.size = max(family.size, other.size)
        return family


def _names(fields: Mapping[str, Any]) -> set[str]:
    names = {f"name {n}" for n in (fields["event_id"], fields["notice_id"], *fields["retracts"])}
    if fields["chain"] in joint.CHAINS and fields["shape"] != "none":
        minute = int(from_iso(fields["trigger_time"]).timestamp() // joint.SECONDS)
        names |= {f"minute {minute}", f"minute {minute + 1}"}
    return names


def _size(fields: Mapping[str, Any]) -> float:
    if fields["shape"] == "none":
        return 0.0
    start, end = fields["window_days"]
    return float(fields["area90_deg2"] * (end - start))
