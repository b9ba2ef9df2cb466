"""From matched alerts to statements about candidates: pure, and the only place that makes them.

A group is one object within one event. Its candidate is a function of the group's set
of alerts and of the region in force, so the last statement does not depend on the order
in which alerts and regions arrived; a statement is made only when the candidate changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from broker import topics
from crossmatch.candidate import Context, MatchedAlert, counterpart_id
from crossmatch.lightcurve import Detection
from crossmatch.versions import World

_STATEMENT_COLUMNS = frozenset(
    {
        "candidate_id",
        "record_number",
        "alert_type",
        "state",
        "reason",
        "supersedes",
        "alert_datetime",
        "stream",
    }
)


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """One object within one event; events of one name in two worlds are two events."""

    event_id: str
    survey: str
    object_id: str
    is_test: bool = False
    streams: tuple[str, ...] = ()

    @property
    def world(self) -> World:
        """World of the event."""
        return self.is_test, self.streams

    @property
    def text(self) -> str:
        """Key of the group in the state topic."""
        if not self.is_test and not self.streams:
            return f"{self.event_id}/{self.survey}/{self.object_id}"
        # Ends in a bracket, as no object does: whatever an event is called, keys differ.
        return json.dumps(list(self.to_json().values()))

    def to_json(self) -> dict[str, Any]:
        """Plain values for the state topic."""
        return asdict(self) | {"streams": list(self.streams)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroupKey:
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "streams": tuple(data.get("streams", ()))})


@dataclass(slots=True)
class Group:
    """Matched alerts of one object within one event, and what was last said about it."""

    alerts: dict[int, MatchedAlert] = field(default_factory=dict)
    context: Context = field(default_factory=Context)
    last: dict[str, Any] | None = None

    @property
    def in_force(self) -> bool:
        """Whether the last statement stands."""
        return self.last is not None and self.last["state"] == "in_force"

    def to_json(self) -> dict[str, Any]:
        """Plain values for the state topic; a point that several packets repeat stands once."""
        points: dict[Detection, int] = {}
        alerts = [
            {
                "alert": dict(a.alert),
                "credible_level": a.credible_level,
                "density_per_sr": a.density_per_sr,
                "separation_deg": a.separation_deg,
                "history": [points.setdefault(p, len(points)) for p in a.history],
                "sha256": a.sha256,
            }
            for a in self.alerts.values()
        ]
        return {
            "alerts": alerts,
            "points": [astuple(p) for p in points],
            "context": asdict(self.context),
            "last": self.last,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Group:
        """The inverse of :meth:`to_json`."""
        points = [Detection(*p) for p in data["points"]]
        alerts = [
            MatchedAlert(
                alert=a["alert"],
                credible_level=a["credible_level"],
                density_per_sr=a["density_per_sr"],
                separation_deg=a["separation_deg"],
                history=tuple(points[i] for i in a["history"]),
                sha256=a["sha256"],
            )
            for a in data["alerts"]
        ]
        context: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data["context"].items()
        }
        return cls(
            alerts={a.alert["alert_id"]: a for a in alerts},
            context=Context(**context),
            last=data["last"],
        )


def revised(
    key: GroupKey, group: Group, columns: Mapping[str, Any], reason: str, moment: str
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
        "reason": reason,
        "supersedes": None if last is None else last["candidate_id"],
        "alert_datetime": moment,
        "stream": _topics_of(columns)[0],
    }
    group.last = statement
    return statement


def withdrawn(key: GroupKey, group: Group, reason: str, moment: str) -> dict[str, Any] | None:
    """Statement that withdraws the candidate of ``group``; None if none is in force.

    It repeats what was said last, so that a robot that reads only this one knows the object.
    """
    last = group.last
    group.alerts.clear()
    if last is None or not group.in_force:
        return None
    number = last["record_number"] + 1
    statement = last | {
        "candidate_id": _candidate_id(key, number),
        "record_number": number,
        "alert_type": "retraction",
        "state": "withdrawn",
        "reason": reason,
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
    name = f"{counterpart_id(key.survey, key.object_id)}.{key.event_id}.{number}"
    return f"{name}.test" if key.is_test else name


def _same(last: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    return all(
        last.get(name) == value for name, value in columns.items() if name not in _STATEMENT_COLUMNS
    )
