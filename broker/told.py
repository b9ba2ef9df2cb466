"""What is said of groups that changed: catalogues are asked, candidates made, statements told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from broker import fold
from broker.events import Events, InForce
from broker.fold import Why
from broker.groups import GroupKey, Groups
from broker.judge import Matches
from crossmatch.candidate import Context, EventDistance, MatchedAlert, Versions, assess
from crossmatch.chains import Chain
from crossmatch.model import FloatArray, MultiOrderMap
from crossmatch.region import distance_at
from crossmatch.verdicts import Verdict, holding

Lookup: TypeAlias = Callable[[FloatArray, FloatArray], Sequence[Context]]
Verdicts: TypeAlias = Mapping[str, Mapping[str, Verdict]]
"""By counterpart, then by their ids."""


def no_lookup(ra_deg: FloatArray, _: FloatArray) -> Sequence[Context]:
    """A look-up without catalogues."""
    return [Context()] * len(ra_deg)


@dataclass(frozen=True, slots=True)
class Basis:
    """All that the candidate of a group follows from."""

    standing: InForce
    alerts: Sequence[MatchedAlert]
    context: Context
    distance: EventDistance
    verdict: Verdict | None

    def is_that_of(self, other: Basis) -> bool:
        """Whether the candidates are the same; regions are not compared, but known again."""
        return (
            self.standing is other.standing
            and self.context == other.context
            and self.distance == other.distance
            and self.verdict == other.verdict
            and self.alerts == other.alerts
        )


Drafts: TypeAlias = Mapping[GroupKey, tuple[Basis, dict[str, Any]]]
"""Candidates made ahead of a step, and from what."""


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

    def draft(self, found: Matches, verdicts: Verdicts) -> Drafts:
        """Candidates of what was found, made while others take steps.

        A step that takes the alerts in uses those that still hold then: usually all.
        """
        standings = {key: self._events.standing(*key.event) for key in found}
        groups = {
            key: (standing, list({a.alert["alert_id"]: a for a in found[key]}.values()))
            for key, standing in standings.items()
            if standing is not None
        }
        return {key: (basis, self._assessed(basis)) for key, basis in self._bases(groups, verdicts)}

    def tell(
        self,
        touched: Mapping[GroupKey, Why],
        groups: Groups,
        verdicts: Verdicts,
        moment: str,
        drafts: Drafts,
    ) -> list[dict[str, Any]]:
        """Statements about the touched groups of which there is something new to say.

        Groups without alerts are withdrawn first, so that who reads along hears of what
        falls before what rises.
        """
        statements = []
        for key in sorted(k for k in touched if not groups[k].alerts):
            said = fold.withdrawn(key, groups[key], touched[key], moment)
            statements += [said] if said else []
        keys = sorted(k for k in touched if groups[k].alerts)
        now = {key: (self._standing(key), list(groups[key].alerts.values())) for key in keys}
        for key, basis in self._bases(now, verdicts):
            groups[key].context = basis.context
            drafted, columns = drafts.get(key, (None, {}))
            if drafted is None or not drafted.is_that_of(basis):
                columns = self._assessed(basis)
            said = fold.revised(key, groups[key], columns, touched[key], moment)
            statements += [said] if said else []
        return statements

    def _bases(
        self,
        groups: Mapping[GroupKey, tuple[InForce, Sequence[MatchedAlert]]],
        verdicts: Verdicts,
    ) -> Iterator[tuple[GroupKey, Basis]]:
        """What candidates follow from; catalogues are asked for all of them at once."""
        if not groups:
            return
        places = np.array([_place(alerts) for _, alerts in groups.values()], dtype=np.float64)
        contexts = self._lookup(places[:, 0], places[:, 1])
        distances = _distances([standing for standing, _ in groups.values()], places)
        for (key, (standing, alerts)), context, distance in zip(
            groups.items(), contexts, distances, strict=True
        ):
            verdict = _holding(verdicts, key, standing.members)
            yield key, Basis(standing, alerts, context, distance, verdict)

    def _assessed(self, basis: Basis) -> dict[str, Any]:
        region, members = basis.standing.region, basis.standing.members
        return assess(
            region,
            self._chains[region.chain],
            basis.alerts,
            basis.context,
            basis.distance,
            self._versions,
            verdict=basis.verdict,
            joint_events=members if len(members) > 1 else (),
        )

    def _standing(self, key: GroupKey) -> InForce:
        standing = self._events.standing(*key.event)
        assert standing is not None, "a group with alerts has a region in force"
        return standing


def _distances(standings: Sequence[InForce], places: FloatArray) -> list[EventDistance]:
    """Distance of each object's event, in its direction."""
    found = [EventDistance()] * len(standings)
    rows_of: defaultdict[int, list[int]] = defaultdict(list)
    for row, standing in enumerate(standings):
        rows_of[id(standing)].append(row)
    for rows in rows_of.values():
        place = standings[rows[0]].region.localization
        if not isinstance(place, MultiOrderMap):
            continue
        at = distance_at(place, places[rows, 0], places[rows, 1])
        if at is None:
            continue
        for row, mean, sigma in zip(rows, *at, strict=True):
            if np.isfinite(mean) and np.isfinite(sigma):
                found[row] = EventDistance(float(mean), float(sigma))
    return found


def _holding(verdicts: Verdicts, key: GroupKey, members: Sequence[str]) -> Verdict | None:
    """The verdict on an object that holds for an event, under whichever mission's name of it."""
    given = tuple(verdicts.get(key.counterpart_id, {}).values())
    if not given:
        return None
    mine = [replace(v, event_id="") for v in given if v.event_id in ("", *members)]
    return holding(mine, key.event_id)


def _place(alerts: Sequence[MatchedAlert]) -> tuple[float, float]:
    latest = max(alerts, key=lambda a: (a.alert["time_jd"], a.alert["alert_id"])).alert
    return latest["ra_deg"], latest["dec_deg"]
