"""A matcher on an archive of files and topics in memory, for what does its steps once more."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker import fold, topics
from broker.archive import AlertArchive
from broker.aside import Aside
from broker.codec import encode_candidate
from broker.coldsqlite import SqliteColdStore
from broker.engine import Batch, Engine, Outcome
from broker.groups import Group, GroupKey
from broker.judge import Address, PacketDetail, address_of
from broker.lookuplog import encode_answer
from broker.owed import OwedSearch
from broker.regioncodec import RegionRecord
from broker.search import work_off
from broker.verdictlog import encode_verdict
from broker.writer import Marker, entry_of
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.counterpart import MatchedAlert
from crossmatch.lightcurve import Detection
from crossmatch.remote import Answer
from crossmatch.verdicts import Verdict
from gateway.offline.pastalerts import PastAlerts
from gateway.offline.replayed import Settings
from gateway.offline.reprocess import Past, Verified, World, read_past, verify
from tests.broker import scene
from tests.broker.conftest import CUTS, MAPS, T0, T0_JD, alerts, decode
from tests.gateway.books import MemoryTopics

START, END = T0 - timedelta(days=1), T0 + timedelta(days=10)


def settings(selection: str = "usual", **changed: Any) -> Settings:
    fields: dict[str, Any] = {
        "chains": DEFAULT_CHAINS,
        "cuts": CUTS,
        "versions": Versions(cuts=selection, code="test 1"),
        "lookup": lambda ra, *_: [scene_context(x) for x in ra],
        "include_tests": True,
    }
    return Settings(**(fields | changed))


def scene_context(ra: float) -> Any:
    from crossmatch.candidate import Context
    from crossmatch.neighbours import Neighbour

    if ra > 154:
        return Context(("list",), catalog_versions=("list@1",))
    host = Neighbour("list", "galaxies", 1.5, name=f"host {ra:.3f}", distance_mpc=40.0 + ra / 100)
    return Context(("list",), catalog_versions=("list@1",), hosts=(host,))


class Packets:
    """Whole packets by address: each has a limit before its alert, and a digest."""

    def __init__(self) -> None:
        self.gone: set[Address] = set()

    def details(self, matched: Sequence[MatchedAlert]) -> dict[Address, PacketDetail]:
        found = {}
        for address in {address_of(one.alert) for one in matched} - self.gone:
            at = T0_JD + address[2] / 1000
            limits = (Detection(at - 2, "r", None, None, 20.0), Detection(at, "g", 19.1, 0.1, 20.0))
            found[address] = PacketDetail(
                limits, hashlib.sha256(repr(address).encode()).hexdigest()
            )
        return found


class PastWorld:
    """A gateway's matcher that writes down what it does, as the real one does."""

    def __init__(self, state: Path, now_with: Settings | None = None) -> None:
        self.kafka = MemoryTopics()
        self.settings = now_with or settings()
        self.packets = Packets()
        self._state = state
        self._cold = SqliteColdStore(None)
        self._marker: Marker | None = None
        self._kept: dict[str, str] = {}
        self._records: list[RegionRecord] = []
        self._verdicts: list[Verdict] = []
        self._lookups: list[Answer] = []
        self._rows = 0
        self._clock = T0 + timedelta(days=40)
        for name in (topics.REGION_LOG, topics.VERDICTS, topics.LOOKUPS, topics.LEDGER):
            self.kafka.logs[name] = []
        self.engine = self._start()

    # --- the live side --------------------------------------------------------------------

    def restart(self, now_with: Settings | None = None) -> None:
        """Begin anew from what was committed, with other settings if there are any."""
        before, self.settings = self.settings, now_with or self.settings
        self.engine = self._start()
        if self.settings != before:
            self._commit(self.engine.reselect())

    def batch(
        self,
        rows: Sequence[dict[str, Any]] = (),
        records: Sequence[RegionRecord] = (),
        verdicts: Sequence[Verdict] = (),
        lookups: Sequence[Answer] = (),
        *,
        crash: bool = False,
    ) -> None:
        """A batch; with ``crash`` the process dies before its commit and does it again."""
        given = [row | {"offset": self._rows + i} for i, row in enumerate(rows)]
        number = 0 if self._marker is None else self._marker.batch_id + 1
        batch = Batch(number, alerts(given), records, verdicts=verdicts, lookups=lookups)
        if crash:
            self.engine.step(batch)
            self.restart()
        outcome = self.engine.step(batch)
        self._rows += len(given)
        self._records += records
        self._verdicts += verdicts
        self._lookups += lookups
        for record in records:
            self.kafka.add(topics.REGION_LOG, record.raw, step=1)
        for verdict in verdicts:
            self.kafka.add(topics.VERDICTS, encode_verdict(verdict), step=1)
        for answer in lookups:
            self.kafka.add(topics.LOOKUPS, encode_answer(answer), step=1)
        self._commit(outcome)

    def search(
        self, parts: int | None = None, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Do owed searches, or some parts of them; ``meanwhile`` comes after the first reading."""
        calls = left = 0

        def commit(take: Callable[[], Outcome | None]) -> Outcome | None:
            nonlocal calls, left
            calls += 1
            if calls == 2 and meanwhile is not None:
                meanwhile()
            outcome = take()
            if outcome is not None:
                left += 1
                self._commit(outcome)
            return outcome

        ticks = iter(range(10**6))
        over = (lambda: False) if parts is None else (lambda: left >= parts)
        work_off(self.engine, self.archive, commit, over, lambda: 10.0 * next(ticks))

    def close(self, days: float) -> None:
        """Put aside what is over so long after T0."""
        outcome = self.engine.close_ended(T0_JD + days)
        if outcome is not None:
            self._commit(outcome)

    def _commit(self, outcome: Outcome) -> None:
        before = self._marker or Marker(-1, "", 0)
        self._marker = Marker(
            outcome.batch_id,
            "query",
            len(self._records),
            verdicts_next=len(self._verdicts),
            step=outcome.step,
            selection=self.engine.selection,
            lookups_next=len(self._lookups),
        )
        assert outcome.step == before.step + 1
        for statement in outcome.statements:
            for copy in fold.copies(statement):
                headers = [("event_id", copy["event_id"].encode())]
                key = copy["counterpart_id"].encode()
                self.kafka.add(copy["stream"], encode_candidate(copy), key, headers)
        entry = entry_of(outcome, self._marker, before)
        self.kafka.add(topics.LEDGER, json.dumps(entry).encode())
        for group_key, group in outcome.groups.items():
            value = None
            if group is not None:
                value = {"key": group_key.to_json(), "group": group.to_json()}
            self._keep(group_key.text, value)
        for name, search in outcome.searches.items():
            self._keep(name, None if search is None else search.to_json())

    def _keep(self, name: str, value: dict[str, Any] | None) -> None:
        if value is None:
            self._kept.pop(name, None)
        else:
            self._kept[name] = json.dumps(value)

    def _now(self) -> Any:
        self._clock += timedelta(seconds=1, microseconds=700_400)
        return self._clock

    def _start(self) -> Engine:
        self.archive = AlertArchive(self._state / "alerts")
        step = -1 if self._marker is None else self._marker.step
        aside = Aside(self._cold, decode)
        aside.restore(step)
        engine = Engine(
            chains=self.settings.chains,
            cuts=self.settings.cuts,
            versions=self.settings.versions,
            archive=self.archive,
            now=self._now,
            packets=self.packets.details,
            lookup=self.settings.lookup,
            include_tests=self.settings.include_tests,
            aside=aside,
            remote=self.settings.remote,
        )
        engine.answers.add(self._lookups, step)
        state = [json.loads(text) for text in self._kept.values()]
        groups = {
            GroupKey.from_json(v["key"]): Group.from_json(v["group"]) for v in state if "group" in v
        }
        searches = [OwedSearch.from_json(v) for v in state if "before_batch" in v]
        raws = aside.without_closed([r.raw for r in self._records])
        batch_id = -1 if self._marker is None else self._marker.batch_id
        records = [decode(raw) for raw in raws]
        engine.restore(records, groups, searches, self._verdicts, step, batch_id)
        return engine

    # --- looking back -----------------------------------------------------------------------

    @property
    def world(self) -> World:
        return World(
            self.kafka,
            PastAlerts(self._state / "alerts"),
            lambda sha256, _: MAPS[sha256],
            self.packets.details,
        )

    def past(self) -> Past:
        return read_past(self.kafka, START, END)

    def verified(self, now_with: Settings | None = None, out: Path | None = None) -> Verified:
        return verify(
            self.world, self.past(), now_with or self.settings, out, lambda done, total: None
        )


def play(world: PastWorld, rng: random.Random, steps: int) -> None:
    """Random batches, searches, kills and closings."""
    sources = rng.choice(scene.FOCUS)
    given: list[dict[str, Any]] = []

    def batch(crash: bool = False) -> None:
        rows = [_row(rng, given) for _ in range(rng.randrange(8))]
        given.extend(rows)
        records = [_record(rng, sources) for _ in range(rng.randrange(3))]
        verdicts = [_verdict(rng)] if rng.random() < 0.2 else []
        lookups = [_answer(rng)] if rng.random() < 0.4 else []
        world.batch(rows, records, verdicts, lookups, crash=crash)

    batch()
    for _ in range(steps):
        what = rng.random()
        if what < 0.45:
            batch(crash=rng.random() < 0.2)
        elif what < 0.7:
            world.search(rng.choice((1, 1, 2, None)))
        elif what < 0.8:
            world.search(meanwhile=batch)
        elif what < 0.9:
            world.restart()
        else:
            world.close(rng.choice((1.0, 2.0, 400.0)))
    world.search()


def _row(rng: random.Random, given: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if given and rng.random() < 0.3:
        row = rng.choice(given) | {"withdrawn": None}
        return rng.choice((row, scene.taken_back(row), scene.other_night(row)))
    return rng.choice(scene.ALERTS)


def _record(rng: random.Random, sources: Sequence[int]) -> RegionRecord:
    kind = rng.choice(("region",) * 9 + scene.KINDS[1:])
    said = scene.Said(
        source=rng.choice(sources),
        serial=rng.randrange(1, 4),
        kind=kind,
        world=rng.choice((0, 0, 0, 0, 0, 1, 2)),
        place=rng.randrange(3),
        radius=rng.randrange(3),
        is_map=kind == "region" and rng.random() < 0.3,
        other=(rng.choice(sources), rng.randrange(1, 4)),
    )
    return scene.record_of(said)


def _answer(rng: random.Random) -> Answer:
    thing, minute, shift = (rng.randrange(n) for n in (scene.N_OBJECTS, 4, 3))
    return scene.answer_of(thing, "simbad", minute, shift)


def _verdict(rng: random.Random) -> Verdict:
    return scene.verdict_of(
        rng.randrange(scene.N_OBJECTS), rng.randrange(3), rng.randrange(4), rng.randrange(8)
    )
