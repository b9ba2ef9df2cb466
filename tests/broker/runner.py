"""The matcher in memory: what is committed, what a reader sees, and what survives a crash."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from broker.aside import Aside
from broker.coldsqlite import SqliteColdStore
from broker.engine import Batch, Engine, Outcome
from broker.groups import Group, GroupKey
from broker.owed import OwedSearch
from broker.regioncodec import RegionRecord
from broker.search import work_off
from broker.worker import regions_of
from crossmatch.ahead import Found
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict

from .conftest import MemoryArchive, decode


@dataclass
class Committed:
    """What Kafka holds: the state topic as texts, the logs, and the statements in their order."""

    state: dict[str, str] = field(default_factory=dict)
    records: list[RegionRecord] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    lookups: list[Answer] = field(default_factory=list)
    statements: list[dict] = field(default_factory=list)
    entries: list[dict] = field(default_factory=list)
    step: int = -1
    batch_id: int = -1


class Crash(Exception):
    """The process ended before its transaction was committed."""


class Runner:
    """One matcher on an in-memory archive and Kafka.

    ``new_engine`` makes an engine from an archive and from where events are put aside. With
    ``ahead`` the alerts of every second batch were looked up before, against the regions that
    stood a step before the last one.
    """

    def __init__(self, new_engine: Callable[[MemoryArchive, Aside], Engine]) -> None:
        self.new_engine = new_engine
        self.archive = MemoryArchive()
        self.cold = SqliteColdStore(None)
        self.kafka = Committed()
        self.ahead = False
        self.engine = self._start()
        self._view = self.engine.view

    def restart(self) -> None:
        """Begin anew from what was committed."""
        self.engine = self._start()

    def step(
        self,
        alerts,
        records: Sequence[RegionRecord] = (),
        verdicts: Sequence[Verdict] = (),
        lookups: Sequence[Answer] = (),
        *,
        crash: bool = False,
    ) -> list[dict]:
        """A batch; with ``crash`` the process ends between its work and its commit, and is
        started again, and the batch is played once more, as Spark does."""
        number = self.kafka.batch_id + 1
        found = self._found(alerts) if self.ahead and number % 2 else None
        batch = Batch(number, alerts, records, verdicts=verdicts, lookups=lookups, found=found)
        self._view = self.engine.view
        if crash:
            self.engine.step(batch)
            self.restart()
        before = len(self.kafka.statements)
        self._commit(self.engine.step(batch))
        self.kafka.records += records
        self.kafka.verdicts += verdicts
        self.kafka.lookups += lookups
        self.kafka.batch_id = number
        return self.kafka.statements[before:]

    def search(
        self,
        parts: int | None = None,
        *,
        meanwhile: Callable[[], object] | None = None,
        at: int = 1,
        crash: bool = False,
    ) -> list[dict]:
        """Do owed searches: all, or only some parts of them.

        ``meanwhile`` is done before the engine is called for the ``at``-th time after the
        first part was planned: when that one was searched and before what it found is taken
        in, or later. With ``crash`` the process ends when the first part was taken in and
        not committed.
        """
        before, left, calls = len(self.kafka.statements), parts, 0

        def over() -> bool:
            return left is not None and left <= 0

        def commit(take: Callable[[], Outcome | None]) -> Outcome | None:
            nonlocal left, calls
            calls += 1
            # The first call plans, the second one takes in what was found.
            if calls == 1 + at and meanwhile is not None:
                meanwhile()
            outcome = take()
            if calls == 2 and crash:
                raise Crash
            if outcome is not None:
                left = None if left is None else left - 1
                self._commit(outcome)
            return outcome

        # Each look at the clock is ten seconds later: every night is a part of its own.
        ticks = count()
        try:
            work_off(self.engine, self.archive, commit, over, lambda: 10.0 * next(ticks))
        except Crash:
            self.restart()
        return self.kafka.statements[before:]

    def play(self, alerts, records=(), verdicts=()) -> list[dict]:
        """A batch and all the searches that are owed after it."""
        return self.step(alerts, records, verdicts) + self.search()

    def reselect(
        self,
        new_engine: Callable[[MemoryArchive, Aside], Engine],
        *,
        crash_after: int | None = None,
    ) -> list[dict]:
        """Begin anew with another selection, each event a step.

        With ``crash_after`` the process ends in the step after so many of them, and judges
        all once more when it was started again.
        """
        self.new_engine = new_engine
        self.restart()
        before = len(self.kafka.statements)
        if crash_after is not None:
            for event in self.engine.open_events()[:crash_after]:
                self._commit(self.engine.reselect([event]))
            self.engine.reselect()
            self.restart()
        for event in self.engine.open_events():
            self._commit(self.engine.reselect([event]))
        return self.kafka.statements[before:]

    def close(self, before_jd: float, *, crash: bool = False) -> None:
        """Put aside what is over."""
        outcome = self.engine.close_ended(before_jd)
        if crash:
            self.restart()
        elif outcome is not None:
            self._commit(outcome)

    @property
    def counts(self) -> Counter:
        """All counts of the ledger."""
        total: Counter = Counter()
        for entry in self.kafka.entries:
            total.update(entry["counts"])
        return total

    def in_force(self) -> dict[tuple, dict]:
        """Latest statements of candidates in force, by event, world and object."""
        latest = {
            (s["event_id"], s["role"], tuple(s["streams"]), s["id"]): s
            for s in self.kafka.statements
        }
        return {key: s for key, s in latest.items() if s["state"] == "in_force"}

    def _found(self, alerts) -> Found:
        rows = regions_of(alerts, self.engine.judge.cuts, self._view.tables)
        return Found(rows, self._view)

    def _commit(self, outcome: Outcome) -> None:
        assert outcome.step == self.kafka.step + 1
        kafka = self.kafka
        kafka.step = outcome.step
        kafka.statements += outcome.statements
        told = {"kind": outcome.kind, "counts": outcome.ledger, "parts": outcome.parts}
        kafka.entries.append(told | {"step": outcome.step, "search": list(outcome.search)})
        for key, group in outcome.groups.items():
            value = None if group is None else {"key": key.to_json(), "group": group.to_json()}
            self._keep(key.text, value)
        for name, search in outcome.searches.items():
            self._keep(name, None if search is None else search.to_json())

    def _keep(self, name: str, value: dict | None) -> None:
        if value is None:
            self.kafka.state.pop(name, None)
        else:
            self.kafka.state[name] = json.dumps(value, allow_nan=False)

    def _start(self) -> Engine:
        aside = Aside(self.cold, decode)
        aside.restore(self.kafka.step)
        engine = self.new_engine(self.archive, aside)
        state = {name: json.loads(text) for name, text in self.kafka.state.items()}
        groups = {
            GroupKey.from_json(v["key"]): Group.from_json(v["group"])
            for v in state.values()
            if "group" in v
        }
        searches = [OwedSearch.from_json(v) for v in state.values() if "before_batch" in v]
        engine.answers.add(self.kafka.lookups, self.kafka.step)
        raws = aside.without_closed([r.raw for r in self.kafka.records])
        engine.restore(
            [decode(raw) for raw in raws],
            groups,
            searches,
            self.kafka.verdicts,
            self.kafka.step,
            self.kafka.batch_id,
        )
        return engine
