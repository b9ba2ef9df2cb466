"""The engine's promise: any order, same answer; everything is accounted for."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import ledger
from broker.engine import Batch
from broker.fold import STATEMENT_COLUMNS
from broker.groups import Group
from crossmatch.candidate import Context
from crossmatch.neighbours import Neighbour

from .conftest import MemoryArchive, alert, alerts, engine_of, notice, record
from .runner import Runner

NONE = alerts([])
BAD = {("ra_out_of_range", "alerts.ztf"): 2}


def test_an_alert_inside_a_region_becomes_a_candidate(new_engine):
    engine = new_engine()
    engine.step(Batch(0, NONE, [record(notice("E1", 1, 150.0, 2.0, 5.0))]))

    (statement,) = engine.step(Batch(1, alerts([alert(1, 150.5, 2.5)]))).statements

    assert statement["alert_type"] == "initial"
    assert statement["candidate_id"] == "MM-ZTF-ZTF240000000.E1.1"
    assert statement["stream"] == "mm.candidates.grb"
    assert statement["time_offset_last"] == pytest.approx(86400, abs=0.01)
    assert 0 < statement["credible_level"] < 0.1


def test_a_region_that_comes_late_finds_the_archived_alerts(runner):
    runner.step(alerts([alert(1, 150.5, 2.5), alert(11, 30.0, 2.5)]))

    assert runner.step(NONE, [record(notice("E1", 1, 150.0, 2.0, 5.0))]) == []
    (statement,) = runner.search()

    assert statement["id"] == "ZTF240000000"
    assert (statement["reason"], statement["cause"]) == ("found_in_archive", "ivo://test/E1#1")


def test_a_revised_region_withdraws_what_it_no_longer_holds_and_says_why(new_engine):
    engine = new_engine()
    rows = alerts([alert(1, 150.0, 2.0), alert(11, 154.0, 2.0)])
    engine.step(Batch(0, rows, [record(notice("E1", 1, 150.0, 2.0, 8.0))]))

    outcome = engine.step(Batch(1, NONE, [record(notice("E1", 2, 150.0, 2.0, 1.0), 2)]))

    said = {s["id"]: (s["alert_type"], s["state"], s["reason"]) for s in outcome.statements}
    assert said["ZTF240000001"] == ("retraction", "withdrawn", "outside_revised_region")
    assert said["ZTF240000000"] == ("update", "in_force", "region_revised")


def test_a_retraction_withdraws_every_candidate_of_the_event_and_of_no_other(new_engine):
    engine = new_engine()
    regions = [record(notice(e, 1, 150.0, 2.0, 5.0)) for e in ("E1", "E2")]
    engine.step(Batch(0, alerts([alert(1, 150.0, 2.0)]), regions))

    taken_back = record(notice("E1", 3, 0, 0, 1, alert_type="retraction", localization=None))
    outcome = engine.step(Batch(1, NONE, [taken_back]))

    assert [(s["event_id"], s["state"]) for s in outcome.statements] == [("E1", "withdrawn")]
    assert {key.event_id for key, group in engine.groups.items() if group.in_force} == {"E2"}


def test_nothing_is_said_when_nothing_changed(new_engine):
    engine = new_engine()
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))
    engine.step(Batch(0, alerts([alert(1, 150.0, 2.0)]), [region]))

    assert engine.step(Batch(1, NONE, [region])).statements == []
    again = engine.step(Batch(2, alerts([alert(1, 150.0, 2.0)])))
    assert again.statements == []
    assert again.ledger == {"received": 1, "duplicate": 1}


def test_numbers_are_a_surveys_own(new_engine):
    rows = alerts([alert(1, 150.0, 2.0), alert(1, 150.0, 2.0, survey="lsst")])
    engine = new_engine()
    assert engine.step(Batch(0, rows)).ledger == {"received": 2, "unmatched": 2}
    assert engine.step(Batch(1, rows)).ledger == {"received": 2, "duplicate": 2}


def test_test_events_are_not_matched_unless_asked_and_then_go_to_their_own_topic(new_engine):
    mock = record(notice("M1", 1, 150.0, 2.0, 5.0, role="test"))
    rows = alerts([alert(1, 150.0, 2.0)])

    assert new_engine().step(Batch(0, rows, [mock])).statements == []
    (statement,) = new_engine(include_tests=True).step(Batch(0, rows, [mock])).statements
    assert statement["stream"] == "mm.candidates.grb.test"
    assert (statement["role"], statement["alert_tense"]) == ("test", "test")


def test_a_batch_played_again_after_a_crash_gives_the_same(new_engine):
    archive = MemoryArchive()
    batch = Batch(0, alerts([alert(1, 150.0, 2.0)]), [record(notice("E1", 1, 150.0, 2.0, 5.0))])

    first = new_engine(archive).step(batch)
    again = new_engine(archive).step(batch)

    assert again.statements == first.statements
    assert again.ledger == first.ledger


def test_the_ledger_names_what_each_cut_removed_and_adds_up(new_engine):
    rows = alerts(
        [
            alert(1, 150.0, 2.0),
            alert(11, 10.0, 2.0),
            alert(21, 150.0, 2.0, positive=False),
            alert(31, 150.0, 2.0, real_bogus=0.1),
            alert(41, 150.0, 2.0, moving_distance_arcsec=1.0),
        ]
    )
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))

    outcome = new_engine().step(Batch(0, rows, [region], BAD))
    counts = outcome.ledger

    assert counts["received"] == 7
    assert counts["rejected.ra_out_of_range"] == 2
    assert counts["matched"] == counts["unmatched"] == 1
    assert sum(n for name, n in counts.items() if name.startswith("cut.")) == 3
    assert ledger.alert_hole(counts) == 0
    entry = {"kind": "alerts", "counts": counts, "parts": outcome.parts}
    assert ledger.part_holes(entry) == {}
    # Of what could not be read nobody knows the night; a candidate is of no feed.
    assert [(p["night"], p["feed"]) for p in outcome.parts] == [
        ("", "alerts.ztf"),
        ("2024-03-01", ""),
        ("2024-03-01", "alerts.ztf"),
    ]
    assert outcome.parts[1]["counts"] == {f"told.{outcome.statements[0]['tier']}": 1}


def test_catalogue_answers_stand_in_the_candidate(new_engine):
    def lookup(ra, dec, time_jd):
        assert time_jd.tolist() == [alert(1, 150.0, 2.0)["time_jd"]] * len(ra)
        host = Neighbour("galaxies", "galaxies", 5.0, name="NGC 1", distance_mpc=40.0)
        return [Context(("galaxies",), hosts=(host,)) for _ in ra]

    engine = new_engine(lookup=lookup)
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))
    (statement,) = engine.step(Batch(0, alerts([alert(1, 150.0, 2.0)]), [region])).statements

    assert statement["host_name"] == "NGC 1"
    assert statement["looked_up"] == "galaxies"
    assert statement["absolute_magnitude"] == pytest.approx(18 - 33.01, abs=0.01)


def test_groups_survive_the_state_topic(new_engine):
    engine = new_engine()
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))
    engine.step(Batch(0, alerts([alert(1, 150.0, 2.0)]), [region]))

    stored = {
        key: Group.from_json(json.loads(json.dumps(group.to_json(), allow_nan=False)))
        for key, group in engine.groups.items()
    }
    other = new_engine()
    other.restore([region], stored)

    assert other.groups == engine.groups
    assert other.step(Batch(1, NONE, [region])).statements == []


_SKY = [(150.0 + 0.7 * i, 2.0 + 0.3 * (i % 5)) for i in range(-6, 7)]
_ALERTS = [alert(10 * i + k, *_SKY[i], days=0.3 * k) for i in range(len(_SKY)) for k in range(1, 3)]
_NOTICES = [
    *(notice("E1", n, 150.0 + n, 2.0, 6.0 - n) for n in (1, 2, 3)),
    *(notice("E2", n, 148.0, 2.0, 3.0 * n) for n in (1, 2)),
    notice("E3", 1, 150.0, 2.0, 4.0),
    notice("E3", 2, 0, 0, 1, alert_type="retraction", localization=None),
]
_INPUTS = [("alert", a) for a in _ALERTS] + [("notice", n) for n in _NOTICES]


def _played(inputs: list, cuts: set[int]) -> Runner:
    """A matcher that was fed ``inputs`` in their order, a new batch wherever ``cuts`` says."""
    runner = Runner(lambda archive, aside: engine_of(archive, aside=aside))
    rows, records = [], []
    for i, (kind, item) in enumerate([*inputs, ("end", None)]):
        if i in cuts or kind == "end":
            runner.step(alerts(rows), records)
            rows, records = [], []
        if kind == "alert":
            rows.append(item)
        elif kind == "notice":
            records.append(record(item))
    runner.search()
    return runner


def _last(runner: Runner) -> dict:
    """Candidates in force as their statements have it, without the history of the telling."""
    return {
        key: {name: value for name, value in s.items() if name not in STATEMENT_COLUMNS}
        for key, s in runner.in_force().items()
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    order=st.permutations(_INPUTS),
    repeats=st.lists(st.sampled_from(_INPUTS), max_size=6),
    cuts=st.sets(st.integers(0, len(_INPUTS) + 5), max_size=12),
)
def test_any_order_repeats_and_batching_end_in_the_same_candidates(order, repeats, cuts):
    truth = _played(_INPUTS[::-1], set())
    assert truth.in_force(), "the scene has matches"

    runner = _played([*order, *repeats], cuts)

    assert _last(runner) == _last(truth)
    assert ledger.alert_hole(runner.counts) == 0
    ids = [s["candidate_id"] for s in runner.kafka.statements]
    assert len(ids) == len(set(ids)), "each statement is made once"


def test_statements_hold_no_nan(new_engine):
    engine = new_engine()
    row = alert(1, 150.0, 2.0, mag=None, mag_error=None, filter=None, first_detection_jd=None)
    region = record(notice("E1", 1, 150.0, 2.0, 5.0))
    (statement,) = engine.step(Batch(0, alerts([row]), [region])).statements
    numbers = [v for v in statement.values() if isinstance(v, float)]
    assert np.isfinite(numbers).all()
    assert pa.array([statement["mag"]], pa.float64()).null_count == 1
