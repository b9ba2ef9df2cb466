"""What is said of groups that changed: catalogues are asked, candidates made, statements told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from broker import fold
from broker.events import Events
from broker.fold import Why
from broker.groups import Group, GroupKey, Groups
from crossmatch.candidate import Context, EventDistance, Versions, assess
from crossmatch.chains import Chain
from crossmatch.model import FloatArray, MultiOrderMap
from crossmatch.region import distance_at
from crossmatch.verdicts import Verdict, holding
from crossmatch.versions import Name

Lookup: TypeAlias = Callable[[FloatArray, FloatArray], Sequence[Context]]
Verdicts: TypeAlias = Mapping[str, Mapping[str, Verdict]]
"""By counterpart, then by their ids."""


def no_lookup(ra_deg: FloatArray, _: FloatArray) -> Sequence[Context]:
    """A look-up without catalogues."""
    return [Context()] * len(ra_deg)


class Teller:
    """Makes the statements about groups.

    Parameters
    ----------
    events : Events
    chains : mapping of str to Chain
    versions : Versions
    lookup : callable
        Catalogue answers by position.
    """

    def __init__(
        self, events: Events, chains: Mapping[str, Chain], versions: Versions, lookup: Lookup
    ) -> None:
        self._events = events
        self._chains = chains
        self._versions = versions
        self._lookup = lookup

    def tell(
        self,
        touched: Mapping[GroupKey, Why],
        groups: Groups,
        verdicts: Verdicts,
        moment: str,
    ) -> list[dict[str, Any]]:
        """Statements about the touched groups of which there is something new to say.

        Groups without alerts are withdrawn first, so that who reads along hears of what
        falls before what rises.
        """
        statements = []
        for key in sorted((k for k in touched if not groups[k].alerts), key=_order):
            said = fold.withdrawn(key, groups[key], touched[key], moment)
            statements += [said] if said else []
        keys = sorted((k for k in touched if groups[k].alerts), key=_order)
        for key, columns in zip(keys, self._columns(keys, groups, verdicts), strict=True):
            said = fold.revised(key, groups[key], columns, touched[key], moment)
            statements += [said] if said else []
        return statements

    def _columns(
        self, keys: Sequence[GroupKey], groups: Groups, verdicts: Verdicts
    ) -> list[dict[str, Any]]:
        if not keys:
            return []
        places = np.array([_place(groups[k]) for k in keys], dtype=np.float64)
        contexts = self._lookup(places[:, 0], places[:, 1])
        distances = self._distances(keys, places)
        found = []
        for key, context, distance in zip(keys, contexts, distances, strict=True):
            groups[key].context = context
            standing = self._events.standing(*key.event)
            assert standing is not None, "a group with alerts has a region in force"
            columns = assess(
                standing.region,
                self._chains[standing.region.chain],
                list(groups[key].alerts.values()),
                context,
                distance,
                self._versions,
                verdict=_holding(verdicts, key, standing.members),
                joint_events=standing.members if len(standing.members) > 1 else (),
            )
            found.append(columns)
        return found

    def _distances(self, keys: Sequence[GroupKey], places: FloatArray) -> list[EventDistance]:
        found = [EventDistance()] * len(keys)
        by_event: dict[Name, list[int]] = {}
        for i, key in enumerate(keys):
            by_event.setdefault(key.event, []).append(i)
        for event, rows in by_event.items():
            region = self._events.region(*event)
            if region is None or not isinstance(region.localization, MultiOrderMap):
                continue
            at = distance_at(region.localization, places[rows, 0], places[rows, 1])
            if at is None:
                continue
            for row, mean, sigma in zip(rows, *at, strict=True):
                if np.isfinite(mean) and np.isfinite(sigma):
                    found[row] = EventDistance(float(mean), float(sigma))
        return found


def _order(key: GroupKey) -> tuple[object, ...]:
    """That of keys themselves, which takes five times as long to compare."""
    return key.event_id, key.survey, key.object_id, key.is_test, key.streams


def _holding(verdicts: Verdicts, key: GroupKey, members: Sequence[str]) -> Verdict | None:
    """The verdict on an object that holds for an event, under whichever mission's name of it."""
    given = verdicts.get(key.counterpart_id, {}).values()
    if not given:
        return None
    mine = [replace(v, event_id="") for v in given if v.event_id in ("", *members)]
    return holding(mine, key.event_id)


def _place(group: Group) -> tuple[float, float]:
    latest = max(group.alerts.values(), key=lambda a: (a.alert["time_jd"], a.alert["alert_id"]))
    return latest.alert["ra_deg"], latest.alert["dec_deg"]
