"""The gateway's promise: whatever comes in whatever order, and however often it was killed.

Hypothesis plays alerts, notices, verdicts, answers of catalogues, searches, kills and changes of
the configuration against the in-memory matcher; a few lines of brute force (``model``) say what
must be in force. ``MMGATEWAY_CASES`` sets the number of plays.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from broker import ledger, search
from broker.aside import Aside
from broker.engine import Engine
from broker.regioncodec import RegionRecord
from broker.told import no_lookup
from crossmatch import sky
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS, chains_with
from crossmatch.remote import Answer, Remote
from crossmatch.selections import selections_with
from crossmatch.verdicts import Verdict

from . import model, scene
from .conftest import CUTS, T0, T0_JD, MemoryArchive, alerts
from .runner import Runner
from .scene import Said

CASES = int(os.environ.get("MMGATEWAY_CASES", "2000"))
SELECTIONS = {
    "usual": (CUTS, True),
    "strict": (replace(CUTS, min_real_bogus=0.8), True),
    "loose": (replace(CUTS, min_real_bogus=0.3), False),
    "demanding": (replace(CUTS, min_real_bogus=0.3), True),
}
"""Cuts, and whether test events are matched."""
WANTED = selections_with(
    {
        "near": {"cuts": [{"cut": "credible_level", "max_level": 0.7}, {"cut": "far_from"}]},
        "twice": {"cuts": [{"cut": "two_detections", "min_minutes": 800}]},
    }
)
DEMANDS = {"demands": "near", "silver_demands": "twice"}
REMOTES = {
    "usual": Remote(("simbad",)),
    "strict": Remote(("simbad", "vizier:t"), 0.7),
    "loose": Remote(),
    "demanding": Remote(("simbad",)),
}
"""Catalogues elsewhere that are asked."""
CATALOGS = dict.fromkeys(SELECTIONS, no_lookup) | {"strict": scene.stars}
"""Local ones."""

CHAINS = {
    name: chains_with(dict.fromkeys(DEFAULT_CHAINS, DEMANDS), WANTED)
    if name == "demanding"
    else DEFAULT_CHAINS
    for name in SELECTIONS
}


def engine_with(selection: str):
    cuts, include_tests = SELECTIONS[selection]

    def make(archive: MemoryArchive, aside: Aside) -> Engine:
        return Engine(
            chains=CHAINS[selection],
            cuts=cuts,
            versions=Versions(cuts=selection, code="test"),
            archive=archive,
            now=lambda: T0,
            include_tests=include_tests,
            aside=aside,
            lookup=CATALOGS[selection],
            remote=REMOTES[selection],
        )

    return make


class Play:
    """One play: what was given, and the matcher that it was given to."""

    def __init__(self, sources: tuple[int, ...] = scene.FOCUS[0], selection: str = "usual") -> None:
        self.runner = Runner(engine_with(selection))
        self.runner.ahead = True
        self.selection = selection
        self.sources = sources
        self.rows: list[dict] = []
        self.records: list[RegionRecord] = []
        self.verdicts: list[Verdict] = []
        self.lookups: list[Answer] = []

    def batch(
        self, numbers=(), notices=(), verdicts=(), lookups=(), *, crash: bool = False
    ) -> None:
        """A batch of what the numbers mean."""
        records = [scene.record_of(said_of(number, self.sources)) for number in notices]
        given = [row_of(number, self.rows) for number in numbers]
        given = [row | {"offset": len(self.rows) + i} for i, row in enumerate(given)]
        self.rows += given
        self.records += records
        self.verdicts += verdicts
        self.lookups += lookups
        self.runner.step(alerts(given), records, verdicts, lookups, crash=crash)

    def answer(self, *, crash: bool) -> None:
        """Everything that is awaited is answered."""
        asked = self.runner.engine.awaited.questions()
        answers = [
            Answer(
                q.counterpart_id,
                q.catalog,
                "2024-03-01",
                q.ra_deg,
                q.dec_deg,
                2.0,
                "2024-03-01T03:02:30.000000Z",
                "xmatch",
            )
            for q in asked
        ]
        self.batch((), (), (), answers, crash=crash)
        assert not self.runner.engine.awaited.questions()

    def reselect(self, selection: str, *, crash_after: int | None) -> None:
        if selection != self.selection:
            self.selection = selection
            self.runner.reselect(engine_with(selection), crash_after=crash_after)

    def check(self) -> None:
        """Let the input stop, and compare."""
        self.runner.search()
        assert not self.runner.engine.searches
        assert not [name for name in self.runner.kafka.state if name.startswith("search/")]
        self._check_statements()
        self._check_ledger()
        expected = model.candidates(
            self.rows,
            self.records,
            self.verdicts,
            SELECTIONS,
            self._selections_aside(),
            self.selection,
            self.lookups,
            REMOTES,
            CHAINS,
            CATALOGS,
        )
        self._check_awaited({key: made.columns for key, made in expected.items()})
        last = self._last()
        in_force = {key: s for key, s in last.items() if s["state"] == "in_force"}
        told = {key: made for key, made in expected.items() if not made.withheld}
        assert set(in_force) == set(told)
        for key, made in told.items():
            assert model.content(in_force[key]) == model.content(made.columns)

    def _check_awaited(self, expected: dict[tuple, dict]) -> None:
        """Whose candidate says that it was not looked up is asked about, and nobody else."""
        waiting = {
            (f"MM-{key[2].upper()}-{key[3]}", name.partition(":not_looked_up")[0])
            for key, columns in expected.items()
            for name in columns["looked_up"].split(",")
            # Positions of private streams are not given away.
            if name.endswith(":not_looked_up") and not key[1][1]
        }
        asked = self.runner.engine.awaited.questions()
        assert {(q.counterpart_id, q.catalog) for q in asked} == waiting

    def _last(self) -> dict[tuple, dict]:
        return {_name(s): s for s in self.runner.kafka.statements}

    def _selections_aside(self) -> dict[tuple, str]:
        """By which selection events were judged that lie aside."""
        cold, found = self.runner.cold, {}
        events = sorted({(r.event_id, model.world_of(r)) for r in self.records})
        for number in cold.find({f"name {event}" for event, _ in events}):
            for family in cold.take([number], self.runner.kafka.step + 1):
                (name,) = (n for n in family.names if n.startswith("rules "))
                _, selection, *_ = name.split()
                for other, its_world in events:
                    if f"name {other}" in family.names:
                        found[other, its_world] = selection
        return found

    def _check_statements(self) -> None:
        """Each is made once, and the history of each candidate has no gaps."""
        histories = defaultdict(list)
        for statement in self.runner.kafka.statements:
            histories[_name(statement)].append(statement)
        for said in histories.values():
            assert [s["record_number"] for s in said] == list(range(1, len(said) + 1))
            assert [s["supersedes"] for s in said] == [
                None,
                *(s["candidate_id"] for s in said[:-1]),
            ]
            assert [s["alert_type"] for s in said] == [
                "initial",
                *(_TYPES[s["state"]] for s in said[1:]),
            ]
            for before, after in pairwise(said):
                _check_pair(before, after)
        ids = [(s["candidate_id"], tuple(s["streams"])) for s in self.runner.kafka.statements]
        assert len(ids) == len(set(ids))

    def _check_ledger(self) -> None:
        counts = self.runner.counts
        assert counts["received"] == len(self.rows)
        assert counts["statements"] == len(self.runner.kafka.statements)
        for entry in self.runner.kafka.entries:
            assert ledger.alert_hole(entry["counts"]) == 0
            assert ledger.part_holes(entry) == {}
            assert ledger.candidate_hole(entry["counts"]) == 0
        # Each candidate is counted once, by the tier that it has, however it came to that.
        in_force = Counter(f"told.{s['tier']}" for s in self.runner.in_force().values())
        assert {n: c for n, c in counts.items() if n.startswith("told.") and c} == in_force
        placed = ledger.placed(self.runner.kafka.entries)
        assert all(n >= 0 for some in placed.values() for n in some.values())


def _check_pair(before: dict, after: dict) -> None:
    """Two statements about one candidate, one after the other."""
    same = model.content(before) == model.content(after)
    if after["state"] == "withdrawn":
        assert before["state"] == "in_force", "withdrawn once"
        assert same, "what falls is told as it was"
    elif before["state"] == "in_force":
        assert not same, "nothing is said when nothing changed"
    assert after["changed"], "it says what changed"


_TYPES = {"in_force": "update", "withdrawn": "retraction"}


def _name(s: dict) -> tuple:
    world = s["role"] != "observation", tuple(sorted(s["streams"]))
    return s["event_id"], world, s["survey"], s["id"]


# --- what hypothesis draws -------------------------------------------------------------------

N_ROWS = 2 * len(scene.ALERTS)
_WORLDS = (0, 0, 0, 0, 0, 0, 0, 0, 1, 2)
_KINDS = ("region",) * 9 + ("retraction", "by_event", "by_citation", "superseder")
_RADIXES = (3, 3, len(_KINDS), 3, 3, len(_WORLDS), 3, 2, 3, 3)


def row_of(number: int, given: list[dict]) -> dict:
    """An alert of the pool, or what its survey may say once more of one that was given."""
    if number < len(scene.ALERTS) or not given:
        return scene.ALERTS[number % len(scene.ALERTS)]
    number -= len(scene.ALERTS)
    row = given[number % len(given)] | {"withdrawn": None}
    gone = scene.taken_back(row)
    # The survey may have given the source to another object since.
    return (row, gone, gone | {"object_id": "ELSE"}, scene.other_night(row))[number % 4]


def said_of(number: int, sources: tuple[int, ...]) -> Said:
    """One of all notices that may come of these sources."""
    digits = []
    for radix in _RADIXES:
        number, digit = divmod(number, radix)
        digits.append(digit)
    source, serial, kind, place, radius, world, is_map, earlier, cited, its_serial = digits
    return Said(
        source=sources[source],
        serial=serial + 1,
        kind=_KINDS[kind],
        world=_WORLDS[world],
        place=place,
        radius=radius,
        is_map=is_map == 2 and _KINDS[kind] == "region",
        earlier=bool(earlier) and serial == 2,
        other=(sources[cited], its_serial + 1),
    )


VERDICTS = st.builds(
    scene.verdict_of,
    st.integers(0, scene.N_OBJECTS - 1),
    st.integers(0, 2),
    st.integers(0, 3),
    st.integers(0, len(scene.SOURCES)),
)
ANSWERS = st.builds(
    scene.answer_of,
    st.integers(0, scene.N_OBJECTS - 1),
    st.sampled_from(("simbad", "vizier:t")),
    st.integers(0, 3),
    st.integers(0, 2),
)
ROWS = st.lists(st.integers(0, N_ROWS - 1), max_size=6)
NOTICES = st.lists(st.integers(0, math.prod(_RADIXES) - 1), max_size=3)


class Matcher(RuleBasedStateMachine):
    @initialize(
        rows=ROWS,
        records=NOTICES,
        sources=st.sampled_from(scene.FOCUS),
        selection=st.sampled_from(("usual", "usual", "demanding")),
    )
    def begin(self, rows, records, sources, selection) -> None:
        self.play = Play(sources, selection)
        self.play.batch(rows, records)

    @rule(rows=ROWS, records=NOTICES, crash=st.booleans())
    def batch(self, rows, records, crash) -> None:
        self.play.batch(rows, records, crash=crash)

    @rule(records=NOTICES)
    def notices(self, records) -> None:
        self.play.batch([], records)

    @rule(verdict=VERDICTS, rows=ROWS)
    def verdict(self, verdict, rows) -> None:
        self.play.batch(rows, (), [verdict])

    @rule(answers=st.lists(ANSWERS, min_size=1, max_size=3), rows=ROWS, crash=st.booleans())
    def answers(self, answers, rows, crash) -> None:
        self.play.batch(rows, (), (), answers, crash=crash)

    @rule(crash=st.booleans())
    def answer_everything(self, crash) -> None:
        self.play.answer(crash=crash)

    @rule(answers=st.lists(ANSWERS, max_size=3), at=st.integers(1, 4))
    def search_while_answers_come(self, answers, at) -> None:
        """An answer comes between the making of candidates and the taking in."""
        self.play.runner.search(meanwhile=lambda: self.play.batch((), (), (), answers), at=at)

    @rule(parts=st.integers(1, 3), crash=st.booleans())
    def search(self, parts, crash) -> None:
        self.play.runner.search(parts, crash=crash)

    @rule(rows=ROWS, records=NOTICES, at=st.integers(1, 4))
    def search_meanwhile(self, rows, records, at) -> None:
        """A batch comes between the reading of the archive and the taking in."""
        self.play.runner.search(meanwhile=lambda: self.play.batch(rows, records), at=at)

    @rule()
    def restart(self) -> None:
        self.play.runner.restart()

    @rule(days=st.sampled_from((1.0, 2.0, 400.0)), crash=st.booleans())
    def close(self, days, crash) -> None:
        self.play.runner.close(T0_JD + days, crash=crash)

    @rule()
    def finish_and_close(self) -> None:
        self.play.runner.search()
        self.play.runner.close(T0_JD + 400.0)

    @rule(selection=st.sampled_from(tuple(SELECTIONS)), parts=st.integers(0, 2))
    def reselect(self, selection, parts) -> None:
        """With the process ending after some parts were committed, and beginning once more."""
        self.play.reselect(selection, crash_after=parts or None)

    def teardown(self) -> None:
        self.play.check()


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches commit in the middle of a night, as with millions of alerts.

    Circles, which are few, are covered once.
    """
    monkeypatch.setattr(search, "ENOUGH", 2)
    monkeypatch.setattr(search, "MOST", 4)
    monkeypatch.setattr(search, "ROWS", 3)
    monkeypatch.setattr(sky, "cone_ranges", cache(sky.cone_ranges))


TestMatcher = Matcher.TestCase
TestMatcher.settings = settings(
    max_examples=CASES,
    stateful_step_count=12,
    deadline=None,
    # The same plays always; other ones whenever somebody asks for a number of them.
    derandomize="MMGATEWAY_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
