"""Groups: the matched alerts of one object within one event, and what was last said of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from broker import jsontext
from broker.ledger import TOLD_PREFIX
from crossmatch.counterpart import MatchedAlert, counterpart_id, sameness
from crossmatch.lightcurve import Detection
from crossmatch.versions import Name, World


class GroupKey(NamedTuple):
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
    def event(self) -> Name:
        """The event, by name and world."""
        return self.event_id, self.world

    @property
    def counterpart_id(self) -> str:
        """The object, as candidates name it."""
        return counterpart_id(self.survey, self.object_id)

    @property
    def text(self) -> str:
        """Key of the group in the state topic."""
        if not self.is_test and not self.streams:
            return f"{self.event_id}/{self.survey}/{self.object_id}"
        # Ends in a bracket, as no object does: whatever an event is called, keys differ.
        return json.dumps(list(self.to_json().values()))

    def to_json(self) -> dict[str, Any]:
        """Plain values for the state topic."""
        return {
            "event_id": self.event_id,
            "survey": self.survey,
            "object_id": self.object_id,
            "is_test": self.is_test,
            "streams": list(self.streams),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroupKey:
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "streams": tuple(data.get("streams", ()))})


class Counted(NamedTuple):
    """As what the ledger counts a candidate now: of which night, how it stands to what its chain
    demands (None: nothing is demanded), and its tier (None: it is not told)."""

    night: str
    standing: str | None
    tier: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The counts in which it is one."""
        judged = () if self.standing is None else ("judged", self.standing)
        return judged if self.tier is None else (*judged, f"{TOLD_PREFIX}{self.tier}")


@dataclass(slots=True)
class Group:
    """Matched alerts of one object within one event, and what was last said about it.

    ``not_looked_up`` are the catalogues that have not answered about it yet.
    """

    alerts: dict[int, MatchedAlert] = field(default_factory=dict)
    not_looked_up: tuple[str, ...] = ()
    last: dict[str, Any] | None = None
    counted: Counted | None = None

    @property
    def standing(self) -> str | None:
        """How its candidate stands to what the chain demands, as it was last counted."""
        return None if self.counted is None else self.counted.standing

    @property
    def in_force(self) -> bool:
        """Whether the last statement stands."""
        return self.last is not None and self.last["state"] == "in_force"

    @property
    def tier(self) -> str | None:
        """Tier of the candidate that stands; None if none does."""
        return None if self.last is None or not self.in_force else str(self.last["tier"])

    def to_json(self, packets: Packets | None = None) -> dict[str, Any]:
        """Plain values for the state topic; a point that several packets repeat stands once.

        With ``packets``, what other groups of the object have too is JSON already.
        """
        held = list(self.alerts.values())
        found, points = _packets(held) if packets is None else packets(held)
        alerts = [
            {
                **packet,
                "credible_level": a.credible_level,
                "density_per_sr": a.density_per_sr,
                "separation_deg": a.separation_deg,
            }
            for packet, a in zip(found, held, strict=True)
        ]
        return {
            "alerts": alerts,
            "points": points,
            "context": {"not_looked_up": self.not_looked_up},
            "last": self.last,
            **({} if self.counted is None else {"counted": list(self.counted)}),
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
        return cls(
            alerts={a.alert["alert_id"]: a for a in alerts},
            not_looked_up=tuple(data["context"].get("not_looked_up", ())),
            last=data["last"],
            counted=Counted(*data["counted"]) if "counted" in data else None,
        )


class Packets:
    """JSON of the alerts of objects, made once for all groups that hold the same ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[list[dict[str, Any]], Any]] = {}

    def __call__(self, held: Sequence[MatchedAlert]) -> tuple[list[dict[str, Any]], Any]:
        """A part for each alert, and the points of all light curves."""
        same = sameness(held)
        if same not in self._known:
            packets, points = _packets(held)
            for packet in packets:
                packet["alert"] = jsontext.fragment(packet["alert"])
            self._known[same] = packets, jsontext.fragment(points)
        return self._known[same]


def _packets(held: Sequence[MatchedAlert]) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    points: dict[Detection, int] = {}
    packets = [
        {
            "alert": dict(a.alert),
            "history": [points.setdefault(p, len(points)) for p in a.history],
            "sha256": a.sha256,
        }
        for a in held
    ]
    return packets, [list(p) for p in points]


class Groups(MutableMapping[GroupKey, Group]):
    """Groups by key; those of one event and of one object are found without looking at all."""

    def __init__(self, groups: Mapping[GroupKey, Group] | None = None) -> None:
        self._groups: dict[GroupKey, Group] = {}
        self._of_event: defaultdict[Name, set[GroupKey]] = defaultdict(set)
        self._of_counterpart: defaultdict[str, set[GroupKey]] = defaultdict(set)
        for key, group in (groups or {}).items():
            self[key] = group

    def __getitem__(self, key: GroupKey) -> Group:
        return self._groups[key]

    def __setitem__(self, key: GroupKey, group: Group) -> None:
        self._groups[key] = group
        self._of_event[key.event].add(key)
        self._of_counterpart[key.counterpart_id].add(key)

    def __delitem__(self, key: GroupKey) -> None:
        del self._groups[key]
        places: tuple[tuple[dict[Any, set[GroupKey]], Any], ...] = (
            (self._of_event, key.event),
            (self._of_counterpart, key.counterpart_id),
        )
        for index, name in places:
            index[name].discard(key)
            if not index[name]:
                del index[name]

    def __contains__(self, key: object) -> bool:
        # A mapping's own asks for the value, and catches what is raised for each new group.
        return key in self._groups

    def __iter__(self) -> Iterator[GroupKey]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def of_event(self, event: Name) -> list[GroupKey]:
        """Keys of the groups of one event, ordered."""
        return sorted(self._of_event.get(event, ()))

    def of_counterpart(self, counterpart: str) -> list[GroupKey]:
        """Keys of the groups of one object, by its counterpart id, ordered."""
        return sorted(self._of_counterpart.get(counterpart, ()))

    def of_object(self, survey: str, object_id: str) -> list[GroupKey]:
        """Keys of the groups of one object, ordered."""
        return self.of_counterpart(counterpart_id(survey, object_id))
