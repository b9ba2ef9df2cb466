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
from broker.groups import Counted, Group, GroupKey, Groups
from broker.judge import Matches
from broker.ledger import night_of_arrival
from broker.lookups import AnswerStore
from broker.tally import Tally
from crossmatch.candidate import WITHHELD, Assessed, Context, EventDistance, Versions, assess
from crossmatch.chains import Chain
from crossmatch.counterpart import (
    Counterpart,
    MatchedAlert,
    counterpart_of,
    in_order,
    sameness,
)
from crossmatch.model import FloatArray, MultiOrderMap
from crossmatch.region import distance_at
from crossmatch.remote import Answer, Answers, Remote
from crossmatch.times import datetime_from_jd
from crossmatch.verdicts import Verdict, holding

Lookup: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray], Sequence[Context]]
"""From right ascension, declination and Julian date of positions to what is near them."""
Verdicts: TypeAlias = Mapping[str, Mapping[str, Verdict]]
"""By counterpart, then by their ids."""


def no_lookup(ra_deg: FloatArray, *_: FloatArray) -> Sequence[Context]:
    """A look-up without catalogues."""
    return [Context()] * len(ra_deg)


Held: TypeAlias = tuple[InForce, Sequence[MatchedAlert]]
"""How the event of a group stands, and the group's alerts."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate made ahead of a step, and from what."""

    standing: InForce
    alerts: Sequence[MatchedAlert]
    verdict: Verdict | None
    answers: Sequence[Answer]
    context: Context
    made: Assessed

    def holds(self, held: Held, verdict: Verdict | None, answers: Sequence[Answer]) -> bool:
        """Whether it would be made again so; regions are not compared, but known again."""
        standing, alerts = held
        same = self.standing is standing and self.verdict == verdict and self.alerts == alerts
        return same and self.answers == answers


Drafts: TypeAlias = Mapping[GroupKey, Draft]


class Teller:
    """Makes the statements about groups.

    Parameters
    ----------
    events : Events
    chains : mapping of str to Chain
    versions : Versions
    lookup : callable
        Catalogue answers by position.
    remote : Remote
        Catalogues that answer later.
    answers : AnswerStore
        What they answered so far.
    """

    def __init__(
        self,
        events: Events,
        chains: Mapping[str, Chain],
        versions: Versions,
        lookup: Lookup,
        remote: Remote,
        answers: AnswerStore,
    ) -> None:
        self._events = events
        self._chains = chains
        self._versions = versions
        self._lookup = lookup
        self._remote = remote
        self._answers = answers

    def draft(self, found: Matches, verdicts: Verdicts) -> Drafts:
        """Candidates of what was found, made while others take steps.

        A step that takes the alerts in uses those that still hold then: usually all.
        """
        standings = {key: self._events.standing(*key.event) for key in found}
        held = {
            key: (standing, list({a.alert["alert_id"]: a for a in found[key]}.values()))
            for key, standing in standings.items()
            if standing is not None
        }
        return dict(self._drafted(held, verdicts, self._answers_about(held)))

    def tell(
        self,
        touched: Mapping[GroupKey, Why],
        groups: Groups,
        verdicts: Verdicts,
        moment: str,
        drafts: Drafts,
        tally: Tally,
    ) -> list[dict[str, Any]]:
        """Statements about the touched groups of which there is something new to say.

        Groups without alerts, and those whose candidate fails what its chain demands, are
        withdrawn first, so that who reads along hears of what falls before what rises.
        """
        statements = []
        for key in sorted(k for k in touched if not groups[k].alerts):
            said = fold.withdrawn(key, groups[key], touched[key], moment)
            statements += [said] if said else []
        keys = sorted(k for k in touched if groups[k].alerts)
        held = {key: (self._standing(key), list(groups[key].alerts.values())) for key in keys}
        answers = self._answers_about(held)
        made = {
            key: drafts[key] for key in keys if _holds(drafts, key, held[key], verdicts, answers)
        }
        left = {key: one for key, one in held.items() if key not in made}
        made |= self._drafted(left, verdicts, answers)
        for key in keys:
            groups[key].not_looked_up = made[key].context.not_looked_up
        for key in (k for k in keys if made[k].made.withheld):
            cut = str(made[key].made.standing).removeprefix(WITHHELD)
            why = Why("failed_selection", f"cut {cut}")
            said = fold.withheld(key, groups[key], why, moment)
            statements += [said] if said else []
        for key in (k for k in keys if not made[k].made.withheld):
            said = fold.revised(key, groups[key], made[key].made.columns, touched[key], moment)
            statements += [said] if said else []
        for key in touched:
            _count(groups[key], made[key].made.standing if key in made else None, tally)
        return statements

    def _answers_about(self, held: Mapping[GroupKey, Held]) -> Answers:
        """What catalogues elsewhere answered about the objects of groups."""
        if not self._remote.catalogs:
            return {}
        return self._answers.of({key.counterpart_id for key in held})

    def _drafted(
        self, held: Mapping[GroupKey, Held], verdicts: Verdicts, answers: Answers
    ) -> Iterator[tuple[GroupKey, Draft]]:
        """Candidates; catalogues are asked for all of them at once."""
        if not held:
            return
        ordered = {key: in_order(alerts) for key, (_, alerts) in held.items()}
        # One object lies in many regions; what its alerts and its place tell is the same for all.
        object_of = {key: sameness(alerts) for key, alerts in ordered.items()}
        objects = {object_of[key]: alerts for key, alerts in ordered.items()}
        known = dict(zip(objects, self._known(list(objects.values()), answers), strict=True))
        distances = _distances(
            [standing for standing, _ in held.values()],
            np.array([_place(alerts) for alerts in ordered.values()]),
        )
        for (key, (standing, alerts)), distance in zip(held.items(), distances, strict=True):
            counterpart, context = known[object_of[key]]
            verdict = _holding(verdicts, key, standing.members)
            made = assess(
                standing.region,
                self._chains[standing.region.chain],
                ordered[key],
                context,
                distance,
                self._versions,
                verdict=verdict,
                joint_events=standing.members if len(standing.members) > 1 else (),
                counterpart=counterpart,
            )
            told = answers.get(key.counterpart_id, ())
            yield key, Draft(standing, alerts, verdict, told, context, made)

    def _known(
        self, objects: Sequence[Sequence[MatchedAlert]], answers: Answers
    ) -> Iterator[tuple[Counterpart, Context]]:
        places = np.array([_place(ordered) for ordered in objects])
        times = np.array([ordered[-1].alert["time_jd"] for ordered in objects])
        contexts = self._lookup(places[:, 0], places[:, 1], times)
        for ordered, context in zip(objects, contexts, strict=True):
            counterpart = counterpart_of(ordered)
            told = answers.get(counterpart.columns["counterpart_id"], ())
            yield counterpart, self._remote.joined(context, told, *_place(ordered))

    def _standing(self, key: GroupKey) -> InForce:
        standing = self._events.standing(*key.event)
        assert standing is not None, "a group with alerts has a region in force"
        return standing


def _count(group: Group, standing: str | None, tally: Tally) -> None:
    """Count a candidate as what it is now, and no longer as what it was.

    Both in the night of its first alert when it was counted first: so the sums of a night are
    candidates, each once, and never fall below 0.
    """
    before, now = group.counted, None
    if group.alerts:
        night = _night(group) if before is None else before.night
        now = Counted(night, standing, group.tier)
    if now != before:
        for one, n in ((before, -1), (now, 1)):
            if one is not None:
                for name in one.names:
                    tally.add(name, one.night, "", n)
    group.counted = now


def _night(group: Group) -> str:
    first_jd = min(one.alert["time_jd"] for one in group.alerts.values())
    return night_of_arrival(datetime_from_jd(first_jd))


def _holds(drafts: Drafts, key: GroupKey, held: Held, verdicts: Verdicts, answers: Answers) -> bool:
    draft = drafts.get(key)
    if draft is None:
        return False
    verdict = _holding(verdicts, key, held[0].members)
    return draft.holds(held, verdict, answers.get(key.counterpart_id, ()))


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


def _place(ordered: Sequence[MatchedAlert]) -> tuple[float, float]:
    latest = ordered[-1].alert
    return latest["ra_deg"], latest["dec_deg"]
