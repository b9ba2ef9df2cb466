"""From matched alerts to statements about candidates: the only place that makes them.

A group is one object within one event (:mod:`broker.groups`). Its candidate is a function of
the group's set of alerts and of the region in force, so the last statement does not depend on
the order in which alerts and regions arrived; a statement is made only when the candidate
changes. What is said last is kept in the group; nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker import topics
from broker.groups import Group, GroupKey

STATEMENT_COLUMNS = frozenset(
    {
        "candidate_id",
        "record_number",
        "alert_type",
        "state",
        "reason",
        "cause",
        "changed",
        "supersedes",
        "alert_datetime",
        "stream",
    }
)
"""What belongs to a statement, not to the candidate that it tells of."""

_MATTERS: Mapping[str, tuple[str, ...]] = {
    "region": (
        "event_version",
        "ref_ID",
        "notice_sha256",
        "skymap_sha256",
        "event_area_90",
        "event_trigger_time",
        "significant",
        "expires",
    ),
    "joint_events": ("joint_events",),
    "position": ("ra", "dec"),
    "alerts": ("alert_id", "n_alerts", "n_detections", "first_detection", "last_detection"),
    "brightness": ("mag", "filter", "fade_rate", "rise_rate", "color", "last_nondetection_time"),
    "host": (
        *("host_name", "host_distance", "host_offset", "nearby"),
        *("looked_up", "catalog_versions"),
    ),
    "tier": ("tier",),
    "score": ("score",),
    "verdict": (
        "verdict",
        "verdict_effect",
        "verdict_time",
        "verdict_note",
        "verdict_reference",
        "verdict_author",
    ),
    "selection": ("cuts_version", "code_version"),
}
"""What a statement may say to have changed, and the columns that show it."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a statement is made: a reason of our list, and the notice, alert or verdict behind it."""

    reason: str
    cause: str


def revised(
    key: GroupKey, group: Group, columns: Mapping[str, Any], why: Why, moment: str
) -> dict[str, Any] | None:
    """Next statement about ``group`` given its candidate ``columns``; None if nothing changed.

    The statement becomes ``group.last``.
    """
    last = group.last
    if last is not None and group.in_force and _same(last, columns):
        return None
    number = 1 if last is None else last["record_number"] + 1
    statement = {
        **columns,
        "candidate_id": _candidate_id(key, number),
        "record_number": number,
        "alert_type": "initial" if last is None else "update",
        "state": "in_force",
        "reason": why.reason,
        "cause": why.cause,
        "changed": [] if last is None else _changed(last, columns),
        "supersedes": None if last is None else last["candidate_id"],
        "alert_datetime": moment,
        "stream": _topics_of(columns)[0],
    }
    group.last = statement
    return statement


def withdrawn(key: GroupKey, group: Group, why: Why, moment: str) -> dict[str, Any] | None:
    """Statement that withdraws the candidate of ``group``; None if none is in force.

    It repeats what was said last, so that a robot that reads only this one knows the object.
    """
    group.alerts.clear()
    return withheld(key, group, why, moment)


def withheld(key: GroupKey, group: Group, why: Why, moment: str) -> dict[str, Any] | None:
    """As :func:`withdrawn`, but the alerts stay: the candidate may be told again."""
    last = group.last
    if last is None or not group.in_force:
        return None
    number = last["record_number"] + 1
    statement = last | {
        "candidate_id": _candidate_id(key, number),
        "record_number": number,
        "alert_type": "retraction",
        "state": "withdrawn",
        "reason": why.reason,
        "cause": why.cause,
        "changed": ["state"],
        "supersedes": last["candidate_id"],
        "alert_datetime": moment,
    }
    group.last = statement
    return statement


def copies(statement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``statement`` as it goes to each of its topics: one that is public, or private ones only."""
    return [{**statement, "stream": topic} for topic in _topics_of(statement)]


def _topics_of(columns: Mapping[str, Any]) -> tuple[str, ...]:
    topic = topics.candidates(columns["messenger"], columns["role"])
    return topics.seen_by(topic, columns["streams"])


def ranked(statements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Latest statement of each candidate with its ``rank`` among those in force of its event.

    Best first within each event; withdrawn ones come last and have no rank.
    """
    latest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for statement in statements:
        key = (statement["event_id"], statement["counterpart_id"])
        if key not in latest or statement["record_number"] > latest[key]["record_number"]:
            latest[key] = statement
    rows = sorted(
        latest.values(),
        key=lambda s: (s["event_id"], s["state"] != "in_force", -s["score"], s["counterpart_id"]),
    )
    ranks: dict[str, int] = {}
    result = []
    for row in rows:
        rank = None
        if row["state"] == "in_force":
            rank = ranks[row["event_id"]] = ranks.get(row["event_id"], 0) + 1
        result.append({**row, "rank": rank})
    return result


def _candidate_id(key: GroupKey, number: int) -> str:
    name = f"{key.counterpart_id}.{key.event_id}.{number}"
    return f"{name}.test" if key.is_test else name


def _changed(last: Mapping[str, Any], columns: Mapping[str, Any]) -> list[str]:
    """What differs from the statement before, by name; ``state`` when that one withdrew it."""
    found = [
        matter
        for matter, names in _MATTERS.items()
        if any(last.get(name) != columns.get(name) for name in names)
    ]
    again = ["state"] if last["state"] != "in_force" else []
    # Columns that follow from others, such as factors and separations, change with them.
    return [*again, *found] or ["details"]


def _same(last: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    return all(
        last.get(name) == value for name, value in columns.items() if name not in STATEMENT_COLUMNS
    )
