"""Steps of the broker: alerts, regions, verdicts and answers of catalogues in, statements out.

No Spark and no Kafka here: the live query, the in-memory runner of the tests and the
replay of an archive call the same methods. Each method that gives an :class:`Outcome` is a
step; what it changed counts when its outcome was committed, in one transaction, and a
process that could not commit ends and begins again from what was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa

from broker.archive import night_of
from broker.aside import Aside
from broker.awaited import Awaited
from broker.events import Change, Events
from broker.fold import Why
from broker.fresh import count, is_withdrawn, sort_out
from broker.groups import Group, GroupKey, Groups
from broker.judge import Judge, Matches, PacketSource, no_packets
from broker.lookups import AnswerStore, MemoryAnswers
from broker.owed import OwedSearch, owed_by
from broker.regioncodec import RegionRecord
from broker.steps import Archive, Batch, Kind, Outcome, Turn
from broker.told import Drafts, Lookup, Teller, no_lookup
from crossmatch.ahead import Found, View
from crossmatch.candidate import Versions
from crossmatch.chains import Chain
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import Cuts
from crossmatch.index import RegionIndex
from crossmatch.model import BoolArray, Region
from crossmatch.remote import NOWHERE, Answer, Remote
from crossmatch.times import iso_utc, jd_from_datetime
from crossmatch.verdicts import Verdict
from crossmatch.versions import Name, world_of

__all__ = ["Batch", "Engine", "Outcome"]
_FUTURE_DAYS = 1.0
"""The clock of the alerts does not follow an exposure this far ahead of ours."""


class Engine:
    """Events, groups, owed searches and the index of one broker.

    Parameters
    ----------
    chains : mapping of str to Chain
    cuts : Cuts
    versions : Versions
    archive : Archive
    now : callable
        The clock for ``alert_datetime``.
    packets, lookup : callable
        What whole packets tell; catalogue answers by position.
    include_tests : bool
        Whether test events are matched.
    aside : Aside, optional
        Where events go when they are over; without it they stay.
    remote : Remote
        Catalogues elsewhere, whose answers come later.
    answers : AnswerStore, optional
        Their answers; in memory by default.
    """

    def __init__(
        self,
        *,
        chains: Mapping[str, Chain],
        cuts: Cuts,
        versions: Versions,
        archive: Archive,
        now: Callable[[], datetime],
        packets: PacketSource = no_packets,
        lookup: Lookup = no_lookup,
        include_tests: bool = False,
        aside: Aside | None = None,
        remote: Remote = NOWHERE,
        answers: AnswerStore | None = None,
    ) -> None:
        self.chains = chains
        self.judge = Judge(cuts, packets)
        self.events = Events(include_tests)
        self.groups = Groups()
        self.searches: dict[Name, OwedSearch] = {}
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.step_number = 0
        """Of the next step."""
        self.clock_jd = -np.inf
        """Exposure of the latest alert."""
        self.archived = -1
        """Last batch of which the archive got alerts."""
        self._versions = versions
        tests = ("tests",) if include_tests else ()
        elsewhere = (remote.rule,) if remote.catalogs else ()
        self.rules = " ".join((versions.cuts, *versions.catalogs, *elsewhere, *tests))
        """By what everything open is judged: cuts and chains, catalogues, whether tests count."""
        self.selection = f"{self.rules} {versions.code}"
        """The rules and the code: what a step needs to be done once more."""
        self._archive = archive
        self._now = now
        self.answers: AnswerStore = MemoryAnswers() if answers is None else answers
        self.awaited = Awaited(remote)
        """What has to be asked elsewhere."""
        self._remote = remote
        self._teller = Teller(self.events, chains, versions, lookup, remote, self.answers)
        self._aside = aside
        self._index = RegionIndex.build([])
        self.view = View.of(self._index)
        """Regions after the last step, for any thread."""
        self._last_batch = -1
        # Taken back while searches were under way that may have read the alerts before.
        self._taken_back: set[tuple[str, int]] = set()

    def restore(
        self,
        records: Iterable[RegionRecord],
        groups: Mapping[GroupKey, Group],
        searches: Iterable[OwedSearch] = (),
        verdicts: Iterable[Verdict] = (),
        step: int = -1,
        batch_id: int = -1,
    ) -> None:
        """State as after the last committed step, of that number.

        Of the region records those of events that were put aside are left out. The answers
        of catalogues are those of the store.
        """
        self.events.apply(records)
        self.groups = Groups(groups)
        for key, group in self.groups.items():
            self.awaited.note(key, group)
        self.searches = {search.event: search for search in searches}
        self._learn(verdicts)
        self.step_number, self._last_batch = step + 1, batch_id
        self._index = RegionIndex.build(self.events.in_force())
        self.view = View.of(self._index)

    def step(self, batch: Batch) -> Outcome:
        """Take a batch in.

        The batch's alerts meet all regions in force after its records. A region that came
        with it is owed a search of the alerts of earlier batches. So each pair of alert and
        region version is found by one of the two paths.
        """
        turn = self._turn("alerts", batch.batch_id)
        nights = night_of(batch.alerts["time_jd"])
        self._take_up(batch, turn)
        self._heed_verdicts(batch.verdicts, turn)
        self._heed_answers(batch.lookups, turn)
        for change in self.events.apply(batch.records):
            self._heed(change, turn)
        seen = self._archive.seen(batch.alerts, batch.batch_id)
        new = sort_out(batch, nights, seen, turn.tally)
        self._tick(batch.alerts, new)
        self._archive.append(batch.alerts.filter(pa.array(new)), batch.batch_id)
        if new.any():
            self.archived = batch.batch_id
        taken_back = is_withdrawn(batch.alerts)
        self._take_back(batch.alerts.filter(pa.array(new & taken_back)), turn)
        self._match(batch.alerts, nights, new & ~taken_back, batch.found, turn)
        self._last_batch = batch.batch_id
        return self._finish(turn)

    def draft(self, found: Matches) -> Drafts:
        """Candidates of what searches found, for :meth:`take_found`; others may take steps."""
        return self._teller.draft(found, self.verdicts)

    def take_found(
        self,
        searches: Sequence[OwedSearch],
        found: Matches,
        until: str,
        drafts: Drafts | None = None,
        *,
        is_last: bool,
        through: tuple[str, int, int] | None = None,
        objects: tuple[str, str] | None = None,
        more: bool = False,
    ) -> Outcome | None:
        """Take in what searches found in the nights up to ``until``.

        Of a night that is not yet done, ``through`` says how far: the night, and the last
        alert's number and batch in the order of both. Where it is more than a step holds,
        ``objects`` are the first and the last group of this one, by their texts; with ``more``
        to come the searches stay where they were, and who begins anew finds all of it again.
        ``drafts`` spare the step the making of candidates that follow from what was found alone.

        What was found for a region of which another version has come meanwhile is dropped,
        for that one owes a search of its own; None if nothing is left.
        """
        owed = {s.event: s for s in searches if self.searches.get(s.event) is s}
        if not owed:
            return None
        turn = self._turn("search", self._last_batch)
        turn.drafts = drafts or {}
        n = dict.fromkeys(owed, 0)
        for key, alerts in found.items():
            region = self.events.region(*key.event)
            if key.event in owed and region is not None:
                why = Why("found_in_archive", region.notice_id)
                n[key.event] += self._add(key, alerts, why, turn)
        turn.tally.add_total("found", sum(n.values()))
        for event, search in owed.items():
            now = replace(
                search, until=search.until if more else until, found=search.found + n[event]
            )
            self._progress(now, turn, is_last and not more)
        told = [search.told(until, through, objects, n[event]) for event, search in owed.items()]
        return replace(self._finish(turn), search=told)

    def open_events(self) -> list[Name]:
        """Events of which there is a region, a group or a search, ordered."""
        events = {(r.event_id, world_of(r.role, r.streams)) for r in self.events.in_force()}
        return sorted(events | {key.event for key in self.groups} | set(self.searches))

    def reselect(self, events: Sequence[Name] | None = None) -> Outcome:
        """Judge events anew, as after a change of cuts, chains or catalogues; by default all."""
        turn = self._turn("selection", self._last_batch)
        for event in self.open_events() if events is None else events:
            self._select_anew(event, self._last_batch + 1, turn)
        return self._finish(turn)

    def _select_anew(self, event: Name, before_batch: int, turn: Turn) -> None:
        """Judge an event anew; it may be none any more, as when tests are not wanted now."""
        cause = f"selection {self._versions.cuts}"
        region = self.events.region(*event)
        self._rejudge(event, region, Why("failed_cut", cause), turn)
        for key in self.groups.of_event(event):
            turn.touched.setdefault(key, Why("selection_changed", cause))
        if region is not None:
            self._owe(owed_by(region, before_batch), turn)
        elif event in self.searches:
            self._progress(self.searches[event], turn, is_last=True)

    def close_ended(self, before_jd: float, limit: int = 200) -> Outcome | None:
        """Put events aside of which all windows closed before a moment; the first few.

        None if there is none.
        """
        if self._aside is None:
            return None
        owed = {name for search in self.searches.values() for name in self._names(search)}
        owed |= self.awaited.events()
        closed = self._aside.close(self.events, self.groups, before_jd, owed, limit, self.rules)
        if not closed:
            return None
        self._aside.put(closed, self.step_number)
        turn = self._turn("close", self._last_batch)
        for one in closed:
            self._forget(one.regions)
            for key in one.keys:
                del self.groups[key]
                self.awaited.forget(key)
                turn.groups[key] = None
        turn.tally.add_total("events_closed", len(closed))
        return self._finish(turn)

    @property
    def put_aside(self) -> int:
        """How many families of events are put aside."""
        return 0 if self._aside is None else self._aside.count()

    def _forget(self, regions: Sequence[Region]) -> None:
        gone = set(map(id, regions))
        self._index.discard(lambda region: id(region) in gone)

    def plan(self, search: OwedSearch) -> Region | None:
        """Region that a search is for; None if it is no longer owed."""
        owed = self.searches.get(search.event) is search
        return self.events.region(*search.event) if owed else None

    def _turn(self, kind: Kind, batch_id: int) -> Turn:
        return Turn(kind, batch_id, iso_utc(self._now()))

    def _names(self, search: OwedSearch) -> list[Name]:
        standing = self.events.standing(*search.event)
        members = () if standing is None else standing.members
        return [search.event, *((member, search.world) for member in members)]

    def _take_up(self, batch: Batch, turn: Turn) -> None:
        """Bring back what was put aside and is spoken of after all."""
        if self._aside is None:
            return
        for taken in self._aside.take(
            batch.records, batch.alerts, batch.verdicts, batch.lookups, self.step_number
        ):
            for key, group in taken.groups.items():
                self.groups[key] = turn.groups[key] = group
                self.awaited.note(key, group)
            events = {key.event for key in taken.groups}
            for change in self.events.apply(taken.records):
                if change.after is not None:
                    self._index.add(change.after.region)
                    events.add((change.event_id, change.world))
            if taken.rules != self.rules:
                # What was open when the rules changed was judged anew then.
                for event in sorted(events):
                    self._select_anew(event, turn.batch_id, turn)

    def _learn(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            # The first message of an id counts: a repeat says the same.
            known = self.verdicts.setdefault(verdict.counterpart_id, {})
            known.setdefault(verdict.verdict_id, verdict)

    def _heed_verdicts(self, verdicts: Sequence[Verdict], turn: Turn) -> None:
        self._learn(verdicts)
        for verdict in verdicts:
            for key in self.groups.of_counterpart(verdict.counterpart_id):
                turn.touched[key] = Why("verdict", verdict.verdict_id)

    def _heed_answers(self, answers: Sequence[Answer], turn: Turn) -> None:
        self.answers.add(answers, self.step_number)
        if answers:
            turn.tally.add_total("lookups", len(answers))
        for answer in answers:
            if answer.catalog in self._remote.catalogs:
                why = Why("looked_up", f"{answer.catalog}@{answer.version}")
                for key in self.groups.of_counterpart(answer.counterpart_id):
                    if self.groups[key].alerts:
                        turn.touched.setdefault(key, why)

    def _heed(self, change: Change, turn: Turn) -> None:
        """Judge the groups of an event anew that stands otherwise; owe a search if it stands."""
        event, before, after = (change.event_id, change.world), change.before, change.after
        cause = change.cause.notice_id
        if before is not None:
            self._index.discard(lambda region: region is before.region)
        if after is not None:
            self._index.add(after.region)
        if before is not None and after is not None and change.same_place:
            reason = "region_revised" if before.members == after.members else "event_joined"
            for key in self.groups.of_event(event):
                turn.touched.setdefault(key, Why(reason, cause))
            return
        gone = "outside_revised_region"
        if after is None:
            gone = "event_merged" if change.merged else "event_retracted"
        region = None if after is None else after.region
        self._rejudge(event, region, Why(gone, cause), turn)
        for key in self.groups.of_event(event):
            turn.touched.setdefault(key, Why("region_revised", cause))
        if region is not None:
            self._owe(owed_by(region, turn.batch_id), turn)
        elif event in self.searches:
            self._progress(self.searches[event], turn, is_last=True)

    def _rejudge(self, event: Name, region: Region | None, gone: Why, turn: Turn) -> None:
        """Keep of the groups of an event what the region holds; the emptied ones are told why."""
        mine = {key: self.groups[key] for key in self.groups.of_event(event)}
        kept = self.judge.again(mine, region)
        for key, group in mine.items():
            had = bool(group.alerts)
            group.alerts = {a.alert["alert_id"]: a for a in kept.get(key, ())}
            turn.groups[key] = group
            if had and not group.alerts:
                turn.touched[key] = gone

    def _owe(self, search: OwedSearch, turn: Turn) -> None:
        self.searches[search.event] = turn.searches[search.key] = search

    def _progress(self, search: OwedSearch, turn: Turn, is_last: bool) -> None:
        if is_last:
            del self.searches[search.event]
            turn.searches[search.key] = None
            if not self.searches:
                self._taken_back.clear()
        else:
            self._owe(search, turn)

    def _tick(self, alerts: pa.Table, fresh: BoolArray) -> None:
        times = alerts["time_jd"].to_numpy()[fresh]
        latest = jd_from_datetime(self._now()) + _FUTURE_DAYS
        times = times[times <= latest]
        if len(times):
            self.clock_jd = max(self.clock_jd, float(times.max()))

    def _take_back(self, withdrawn: pa.Table, turn: Turn) -> None:
        """Remove alerts from their groups that their survey takes back.

        The object is not looked at: a survey may have given the source to another one since.
        """
        gone: dict[str, set[int]] = {}
        for alert in withdrawn.select(["survey", "alert_id"]).to_pylist():
            gone.setdefault(alert["survey"], set()).add(alert["alert_id"])
            if self.searches:
                self._taken_back.add((alert["survey"], alert["alert_id"]))
        for key, group in self.groups.items() if gone else ():
            found = sorted(gone.get(key.survey, set()).intersection(group.alerts))
            if found:
                for alert_id in found:
                    del group.alerts[alert_id]
                why = Why("alert_withdrawn", f"{key.survey} {found[-1]}")
                turn.touched[key] = turn.touched.get(key, why) if group.alerts else why

    def _match(
        self,
        alerts: pa.Table,
        nights: pa.Array,
        which: BoolArray,
        found: Found | None,
        turn: Turn,
    ) -> None:
        """Join live alerts with all regions in force."""
        chosen = pa.array(np.flatnonzero(which))
        rows, nights, feeds = alerts.take(chosen), nights.take(chosen), alerts["topic"].take(chosen)
        cut = self.judge.cut(rows)
        for name, removed in cut.by_name.items():
            count(f"cut.{name}", nights, feeds, removed, turn.tally)
        good = pa.array(np.flatnonzero(cut.keep))
        rows, nights, feeds = rows.take(good), nights.take(good), feeds.take(good)
        if found is not None:
            found = found.take(chosen.take(good))
        pairs = self.judge.pairs(rows, self._index, found)
        matched = np.zeros(rows.num_rows, np.bool_)
        matched[pairs.alert_row] = True
        count("matched", nights, feeds, matched, turn.tally)
        count("unmatched", nights, feeds, ~matched, turn.tally)
        turn.tally.add_total("pairs", len(pairs))
        for key, members in self.judge.grouped(rows, pairs, self._index).items():
            latest = max(members, key=lambda a: (a.alert["time_jd"], a.alert["alert_id"]))
            cause = f"{key.survey} {latest.alert['alert_id']}"
            self._add(key, members, Why("new_alert", cause), turn)

    def _add(self, key: GroupKey, found: Sequence[MatchedAlert], why: Why, turn: Turn) -> int:
        """Put alerts into their group; how many were not there yet."""
        if key not in self.groups:
            self.groups[key] = Group()
        group = self.groups[key]
        new = [
            a
            for a in found
            if a.alert["alert_id"] not in group.alerts
            and (key.survey, a.alert["alert_id"]) not in self._taken_back
        ]
        was_empty = not group.alerts
        group.alerts |= {a.alert["alert_id"]: a for a in new}
        if new and was_empty:
            # Also when it was emptied a moment ago, in this very step.
            name = "new_candidate" if why.reason == "new_alert" else why.reason
            turn.touched[key] = Why(name, why.cause)
        elif new:
            turn.touched.setdefault(key, why)
        if not group.alerts and group.last is None:
            del self.groups[key]
        return len(new)

    def _finish(self, turn: Turn) -> Outcome:
        statements = self._teller.tell(
            turn.touched, self.groups, self.verdicts, turn.moment, turn.drafts, turn.tally
        )
        for key in turn.touched:
            group = turn.groups[key] = self.groups[key]
            self.awaited.note(key, group)
            if not group.alerts and group.last is None:
                # It was never told, and there is nothing to tell any more.
                del self.groups[key]
                turn.groups[key] = None
        self.view = View.of(self._index)
        if statements:
            turn.tally.add_total("statements", len(statements))
        outcome = Outcome(
            kind=turn.kind,
            step=self.step_number,
            batch_id=turn.batch_id,
            moment=turn.moment,
            statements=statements,
            groups=turn.groups,
            searches=turn.searches,
            ledger=turn.tally.counts(),
            parts=turn.tally.parts(),
        )
        self.step_number += 1
        return outcome
