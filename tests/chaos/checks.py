"""The verdict: what is in force, what was said, what robots got, and whether the counts add up.

Functions of what was read at the end; none of them asks the gateway anything.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker import topics
from broker.kafka_io import Record
from broker.ledger import alert_hole, notice_hole
from voevents.build import candidate_ivoid
from voevents.vtp.packets import guessed_ivoid

from .truth import Answer, InForce

LEVEL = 1e-9
Statement = Mapping[str, Any]
_BROADCAST = re.compile(r"event=event_broadcast ivoid=(\S+) subscribers=(\d+)")


@dataclass(frozen=True)
class Check:
    """One thing that must hold: whether it does, and a sentence about it."""

    name: str
    ok: bool
    detail: str


def _check(name: str, faults: Sequence[str], good: str) -> Check:
    if not faults:
        return Check(name, True, good)
    return Check(name, False, f"{len(faults)} faults: " + "; ".join(faults[:5]))


def in_force(statements: Iterable[Statement]) -> Answer:
    """Candidates whose latest statement stands."""
    latest: dict[tuple[str, str], Statement] = {}
    for one in statements:
        key = (one["event_id"], one["id"])
        if key not in latest or one["record_number"] > latest[key]["record_number"]:
            latest[key] = one
    return {
        key: InForce(one["n_alerts"], one["alert_id"], one["credible_level"])
        for key, one in latest.items()
        if one["state"] == "in_force"
    }


def check_answer(statements: Iterable[Statement], expected: Answer) -> Check:
    """Candidates in force equal the batch answer."""
    found = in_force(statements)
    faults = [f"lost {key}" for key in expected.keys() - found.keys()]
    faults += [f"too many: {key}" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        if not _same(found[key], expected[key]):
            faults.append(f"{key} is {found[key]} instead of {expected[key]}")
    events = len({event for event, _ in expected})
    return _check(
        "in force as the batch answer", faults, f"{len(expected)} candidates of {events} events"
    )


def _same(one: InForce, other: InForce) -> bool:
    apart = abs(one.credible_level - other.credible_level)
    return (one.n_alerts, one.alert_id) == (other.n_alerts, other.alert_id) and apart <= LEVEL


def check_statements(statements: Sequence[Statement]) -> Check:
    """Each statement is there once, and each candidate's history is a chain without a gap."""
    faults = []
    counts = Counter((one["stream"], one["candidate_id"]) for one in statements)
    faults += [f"{n} times {name}" for (_, name), n in counts.items() if n > 1]
    histories: dict[tuple[str, str, str], list[Statement]] = defaultdict(list)
    for one in statements:
        histories[(one["stream"], one["event_id"], one["counterpart_id"])].append(one)
    for key, history in histories.items():
        numbers = [one["record_number"] for one in history]
        if numbers != list(range(1, len(history) + 1)):
            faults.append(f"{key} has the numbers {numbers}")
        before = [None, *(one["candidate_id"] for one in history[:-1])]
        if [one["supersedes"] for one in history] != before:
            faults.append(f"{key}: what supersedes what is no chain")
        kinds = [one["alert_type"] for one in history]
        if kinds[0] != "initial" or "initial" in kinds[1:]:
            faults.append(f"{key} has the kinds {kinds}")
    good = f"{len(statements)} statements about {len(histories)} candidates, each once"
    return _check("statements once, in chains", faults, good)


def check_reader(live: Sequence[Record], final: Sequence[Record], what: str) -> Check:
    """A consumer that read all the time was given what lies there at the end, once."""
    was, lies = Counter((r.topic, r.offset) for r in live), {(r.topic, r.offset) for r in final}
    faults = [f"given {n} times: {place}" for place, n in was.items() if n > 1]
    faults += [f"never given: {place}" for place in lies - was.keys()]
    faults += [f"given but not there: {place}" for place in was.keys() - lies]
    return _check(f"read_committed all along, {what}", faults, f"{len(final)} messages, each once")


def check_voevents(statements: Sequence[Statement], voevents: Sequence[Record], ivo: str) -> Check:
    """One VOEvent for each statement; no IVOID twice."""
    ivoids = Counter(dict(r.headers)["ivoid"].decode() for r in voevents)
    said = {candidate_ivoid(one, ivo) for one in statements}
    faults = [f"{n} times {ivoid}" for ivoid, n in ivoids.items() if n > 1]
    faults += [f"no VOEvent {ivoid}" for ivoid in said - ivoids.keys()]
    faults += [f"nobody said {ivoid}" for ivoid in ivoids.keys() - said]
    return _check("VOEvents one per statement", faults, f"{len(voevents)} IVOIDs, each once")


def check_vtp(
    voevents: Sequence[Record], connections: Sequence[Sequence[bytes]], log: str
) -> Check:
    """What a subscriber got that came back after each broken connection.

    VTP has no replay: what is broadcast while nobody listens is gone for the subscriber, who has
    Kafka for that. So this must hold. (1) What came is byte for byte on the topic and marked for
    VTP. (2) Within one connection nothing is repeated, and between the first and the last that
    came nothing is missing, as TCP keeps the order. (3) What never came was broadcast, by the
    publisher's own log, while nobody was connected, or as the last before its connection broke.
    """
    marked = [r for r in voevents if ("vtp", b"yes") in r.headers]
    number = {r.value: i for i, r in enumerate(marked)}
    faults: list[str] = []
    got: Counter[int] = Counter()
    for connection in connections:
        unknown = sum(event not in number for event in connection)
        faults += [f"{unknown} VOEvents that are not on the topic"] * bool(unknown)
        places = [number[event] for event in connection if event in number]
        if places != list(range(places[0], places[0] + len(places)) if places else []):
            faults.append(f"one connection got the numbers {places[:40]}")
        got.update(places)
    faults += _never_came(marked, got, log)
    repeats = sum(got.values()) - len(got)
    alone = len(marked) - len(got)
    good = (
        f"{len(got)} of {len(marked)} over {len(connections)} connections,"
        f" {repeats} repeated after a break, {alone} sent while none was connected"
    )
    return _check("VTP as it promises", faults, good)


def _never_came(marked: Sequence[Record], got: Mapping[int, int], log: str) -> list[str]:
    broadcast: dict[str, list[bool]] = defaultdict(list)
    lines = log.splitlines()
    for i, line in enumerate(lines):
        if found := _BROADCAST.search(line):
            # The process ended before anything else was broadcast: what it had written to the
            # connection may have died with it.
            following = next((x for x in lines[i + 1 :] if _is_of_process(x)), "")
            excused = found[2] == "0" or "event=publish_started" in following or not following
            broadcast[found[1]].append(excused)
    faults = []
    for i, record in enumerate(marked):
        if i in got:
            continue
        ivoid = guessed_ivoid(record.value)
        if ivoid not in broadcast:
            faults.append(f"never broadcast: {ivoid}")
        elif not any(broadcast[ivoid]):
            faults.append(f"broadcast to a subscriber who did not get it: {ivoid}")
    return faults


def _is_of_process(line: str) -> bool:
    return "event=event_broadcast" in line or "event=publish_started" in line


def check_ledger(
    entries: Sequence[Mapping[str, Any]], alerts: int, distinct: int, notices: int, said: int
) -> Check:
    """Everything that was sent is accounted for, and no step of the matcher is missing.

    Parameters
    ----------
    entries : sequence of mapping
        The ledger, in the order of its topic.
    alerts, distinct : int
        Messages on the alert topic, and how many of them differ.
    notices : int
        Messages on the notices topic.
    said : int
        Statements on the candidate topics.
    """
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    faults = []
    for entry in entries:
        totals[entry["kind"]].update(entry["counts"])
        if entry["kind"] == "alerts" and (hole := alert_hole(entry["counts"])):
            faults.append(f"batch {entry.get('batch_id')} has a hole of {hole}")
    steps = [e.get("step", e.get("batch_id")) for e in entries if _is_step(e)]
    if steps != list(range(steps[0] if steps else 0, (steps[0] if steps else 0) + len(steps))):
        faults.append(f"the steps are not in a row: {steps[-30:]}")
    counted = totals["alerts"]
    statements = sum(totals[kind]["statements"] for kind in totals if kind != "notices")
    expected = [
        ("alerts received", counted["received"], alerts),
        ("alerts that were repeats", counted["duplicate"], alerts - distinct),
        ("alerts lost", counted["lost"], 0),
        ("notices received", totals["notices"]["received"], notices),
        ("hole of the alerts", alert_hole(counted), 0),
        ("hole of the notices", notice_hole(totals["notices"]), 0),
        ("statements", statements, said),
    ]
    if "voevents" in totals:
        made = totals["voevents"]
        expected += [
            ("statements that became VOEvents", made["made"], said),
            ("hole of the VOEvents", made["received"] - made["made"] - made["rejected"], 0),
        ]
    faults += [
        f"{what}: {found} instead of {want}" for what, found, want in expected if found != want
    ]
    good = f"{alerts} alerts ({alerts - distinct} repeats), {notices} notices, {len(steps)} steps"
    return _check("ledger adds up", faults, good)


def _is_step(entry: Mapping[str, Any]) -> bool:
    return entry["kind"] not in ("notices", "voevents")


def check_tables(
    alert_ids: Sequence[int], sent: int, candidate_ids: Sequence[str], said: Sequence[Statement]
) -> list[Check]:
    """The archives hold each alert once and each statement once, and nothing that was not said."""
    repeated = [f"{n} times {name}" for name, n in Counter(alert_ids).items() if n > 1]
    if len(alert_ids) != sent:
        repeated.append(f"{len(alert_ids)} alerts instead of {sent}")
    counts, published = Counter(candidate_ids), {one["candidate_id"] for one in said}
    faults = [f"{n} times {name}" for name, n in counts.items() if n > 1]
    faults += [f"not in the table: {name}" for name in published - counts.keys()]
    faults += [f"never published: {name}" for name in counts.keys() - published]
    return [
        _check("archive of alerts", repeated, f"{sent} alerts, each once"),
        _check("table of candidates", faults, f"{len(candidate_ids)} statements, each once"),
    ]


def ledger_entries(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Entries of the ledger topic."""
    return [json.loads(r.value) for r in records if r.topic == topics.LEDGER]
