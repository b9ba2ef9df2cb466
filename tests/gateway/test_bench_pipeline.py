"""``mmgateway bench pipeline``: its regions, its plain job, and how rates are told."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from broker import packets, surveys
from broker.commit import Committed
from broker.judge import Judge
from broker.steps import Outcome
from broker.told import no_lookup
from broker.writer import Marker
from crossmatch.index import RegionIndex
from crossmatch.shapes import shape_of
from gateway.bench import (
    alertpackets,
    pipeline,
    pipeline_costs,
    pipeline_jobs,
    pipeline_plain,
    pipeline_world,
    sky30,
)
from gateway.bench.measure import OURS
from gateway.cli import app
from gateway.config import load

CUTS = load(None, environ={}).cuts


@pytest.fixture(scope="module")
def late():
    return [record.region for record in pipeline_world.regions(150, seed=3)]


def test_regions_are_circles_and_maps_whose_windows_hold_the_night(late):
    held = {
        kind: [shape_of(r.localization).area_deg2(r.level) for r in late if r.messenger == kind]
        for kind in ("grb", "gw")
    }
    assert (len(held["grb"]), len(held["gw"])) == (120, 30)
    assert all(8 < area < 2500 for area in held["gw"])
    night = sky30.night(sky30.sources(1000, 1), pipeline_world.NIGHT, 1000, 1)["time_jd"].to_numpy()
    columns = RegionIndex.build(late).tables.columns
    since = night[:, None] - columns.trigger_jd
    assert (since > columns.window_start_days).all()
    assert (since <= columns.window_end_days).all()


def test_the_plain_job_matches_what_the_join_matches(late):
    rows = sky30.night(sky30.sources(4000, 1), pipeline_world.NIGHT, 4000, 1)
    judge, index = Judge(CUTS), RegionIndex.build(late)
    good = rows.filter(judge.cut(rows).keep)
    pairs = judge.pairs(good, index)
    expected = {
        (late[region].event_id, good["object_id"][alert].as_py())
        for alert, region in zip(pairs.alert_row, pairs.region_row, strict=True)
    }
    shapes = [(region, shape_of(region.localization)) for region in late]

    found = set()
    for packet in alertpackets.ztf_of(good, stamp_bytes=0):
        found |= set(pipeline_plain.plain_matches(packet, shapes, CUTS))

    assert len(expected) > 20
    assert found == expected


def test_packets_of_lsst_are_matched_as_those_of_ztf_are(late):
    rows = pipeline_world.named(sky30.night(sky30.sources(4000, 1), 10, 4000, 1), "lsst")
    sizes = pipeline.Sizes(stamp_bytes=0, survey="lsst")
    judge, index = Judge(CUTS), RegionIndex.build(late)
    good = rows.filter(judge.cut(rows).keep)
    pairs = judge.pairs(good, index)
    expected = {
        (late[region].event_id, good["object_id"][alert].as_py())
        for alert, region in zip(pairs.alert_row, pairs.region_row, strict=True)
    }
    shapes = [(region, shape_of(region.localization)) for region in late]
    bad = rows.filter(~judge.cut(rows).keep).slice(0, 200)

    found = set()
    for packet in pipeline_world.packets_of(good, sizes, CUTS):
        assert 2_000 < len(packet) < 4_000
        found |= set(pipeline_plain.plain_matches(packet, shapes, CUTS, "lsst"))

    assert len(expected) > 20
    assert found == expected
    for packet in pipeline_world.packets_of(bad, sizes, CUTS):
        assert not list(pipeline_plain.plain_matches(packet, shapes, CUTS, "lsst"))


def test_what_is_near_is_looked_up_in_catalogues_of_five_kinds(tmp_path):
    lookup = pipeline_world.lookup_of(tmp_path, pipeline.Sizes(sources=1000))
    (context,) = lookup(np.array([10.0]), np.array([-5.0]), np.array([2461346.5]))
    assert context.looked_up == ("galaxies", "stars", "agn", "variables", "transients")
    assert pipeline_world.lookup_of(tmp_path, pipeline.Sizes(sources=0)) is no_lookup


def test_a_rate_leaves_the_first_batch_out():
    run = pipeline_jobs.Run()
    run.batches = [(100.0, 50), (101.0, 40), (104.0, 60)]
    assert run.alerts == 150
    assert run.per_s == pytest.approx(25.0)


def test_a_rate_leaves_out_the_few_alerts_that_come_after_the_full_batches():
    run = pipeline_jobs.Run(batches=[(100.0, 60), (101.0, 60), (104.0, 60), (106.0, 2)])
    assert run.per_s == pytest.approx(30.0)


def test_rows_tell_our_part_of_each_rate():
    row = pipeline._row(
        "other", [10.0, 20.0, 40.0], [8.0, 18.0, 20.0], 82e3, pipeline.Sizes(), None
    )
    assert (row.case, row.subject) == ("82 kB, 1,000 regions", "other")
    assert row.facts["alerts_per_s"] == 20
    assert row.facts["our_part_of_its_rate"] == 0.8
    assert (row.facts["least"], row.facts["most"]) == (0.5, 0.9)


def committed(alerts: int, step: float, publish: float, statements: int = 0) -> Committed:
    ledger = {"received": alerts, "statements": statements}
    outcome = Outcome("alerts", 1, 1, "", [], {}, {}, ledger, [])
    return Committed(outcome, Marker(1, "", 0), step, publish)


def test_costs_are_those_of_an_alert_after_the_first_batch():
    now = iter([1.0, 4.0, 10.0, 15.0])
    costs = pipeline_costs.Costs(clock=lambda: next(now))
    for decoded, archive, join, done in (
        (9.0, 5.0, 5.0, committed(7, 8.0, 1.0)),
        (2.0, 0.5, 0.25, committed(10, 3.0, 1.5)),
    ):
        costs.decoded(decoded)
        costs.watch.seconds.update({"archive": archive, "cuts and join": join})
        costs.committed(done)

    assert costs.per_alert() == pytest.approx({
        "hand-over": 0.2,
        "columns": 0.05,
        "archive": 0.05,
        "cuts and join": 0.025,
        "whole packets of matches": 0.0,
        "candidates": 0.225,
        "publishing": 0.15,
    })  # fmt: skip


def test_a_run_of_one_batch_tells_no_costs():
    costs = pipeline_costs.Costs()
    costs.decoded(1.0)
    costs.committed(committed(5, 1.0, 1.0))
    assert costs.per_alert() == {}


def test_what_the_matcher_hands_over_is_told_without_reading_and_decoding():
    rest = dict.fromkeys(pipeline_costs.STEPS[3:], 0.5)
    steps = pipeline_costs.split(
        [{"hand-over": 6.0} | rest, {"hand-over": 4.0} | rest], [1.0, 2.0, 3.0], [4.0, 5.0, 1.0]
    )
    assert tuple(steps) == pipeline_costs.STEPS
    assert steps["reading"] == [1.0, 2.0, 3.0]
    assert steps["decoding in the JVM"] == [2.0, 3.0, -1.0]
    assert steps["hand-over"] == [2.0, 0.0]


def test_a_step_whose_cost_is_no_more_than_noise_is_told_so_and_has_no_row():
    taken = {"reading": [4e-6, 6e-6], "decoding in the JVM": [-1e-6, 3e-6]}
    (row,) = pipeline._split(taken, 3e3, pipeline.Sizes(packets=100))
    assert (row.subject, row.ratio_to_ours) == ("reading", 1.0)
    assert row.compared.endswith(". Decoding in the JVM: not measurable, -1 to 3 µs")


def test_alerts_of_a_batch_are_those_that_spark_has_planned(tmp_path):
    (tmp_path / "offsets").mkdir()
    topics = {pipeline_world.TOPIC: {"0": 30, "1": 29}, "mm.regionlog": {"0": 5}}
    (tmp_path / "offsets" / "2").write_text("v1\n{}\n" + json.dumps(topics))
    assert pipeline_jobs.planned(tmp_path, 2) == 59


def test_statements_of_an_alert_are_those_after_the_first_batch():
    costs = pipeline_costs.Costs()
    assert costs.statements_per_alert() == 0.0
    for alerts, statements in ((10, 10), (20, 4), (20, 6)):
        costs.decoded(1.0)
        costs.committed(committed(alerts, 1.0, 1.0, statements))
    assert costs.statements_per_alert() == 0.25


def test_our_row_tells_how_many_statements_an_alert_made():
    batches = [(0.0, 5), (1.0, 5)]
    runs = {
        OURS: [pipeline_jobs.Run(batches=batches, statements=0.25)],
        pipeline_costs.COUNTING: [pipeline_jobs.Run(batches=batches)],
    }
    ours, other = pipeline.rates(runs, 3e3, pipeline.Sizes(), True)
    assert ours.facts["statements_per_alert"] == 0.25
    assert "statements_per_alert" not in other.facts


def test_rows_tell_rates_and_the_part_of_each_step():
    def run(per_s: float, costs: dict[str, float] | None = None) -> pipeline_jobs.Run:
        batches = [(0.0, 5), (1.0, per_s)]
        return pipeline_jobs.Run(batches=batches, costs=costs or {})

    costs = {"hand-over": 0.6} | dict.fromkeys(pipeline_costs.STEPS[3:], 0.1)
    runs = {
        OURS: [run(5, costs)],
        pipeline_costs.DECODING: [run(2)],
        pipeline_costs.COUNTING: [run(10)],
    }
    sizes = pipeline.Sizes(packets=100)

    assert [r.per_s for r in pipeline.rates(runs, 3e3, sizes, True)] == pytest.approx([5, 2, 10])
    split = {r.subject: r for r in pipeline.steps(runs, 3e3, sizes)}
    assert tuple(split) == pipeline_costs.STEPS
    assert {r.case for r in split.values()} == {"cost by step, 3 kB, 1,000 regions"}
    assert sum(r.ratio_to_ours for r in split.values()) == pytest.approx(1.0)
    assert split["decoding in the JVM"].us_per_item == pytest.approx(0.4e6)
    assert split["hand-over"].us_per_item == pytest.approx(0.1e6)


@pytest.mark.parametrize("equal", [True, False])
def test_the_command_fails_when_matches_differ(monkeypatch, equal):
    def cases(work, sizes, tell):
        assert work.is_dir()
        assert (sizes.packets, sizes.regions, sizes.runs) == (2000, 100, 1)
        return [pipeline._row(OURS, [10.0], [10.0], 82e3, sizes, equal)]

    monkeypatch.setattr(pipeline, "cases", cases)
    done = CliRunner().invoke(app, ["bench", "pipeline", "--small", "--json"])

    assert done.exit_code == (0 if equal else 1)
    assert json.loads(done.stdout.splitlines()[0])["equal"] is equal


def test_slim_alerts_say_the_same_again_as_packets():
    rows = sky30.night(sky30.sources(1000, 2), 3, 1000, 2)
    native = [
        packets.native_row(packets.decode_packet(packet, "ztf", {})[0], "ztf")
        | {"topic": "alerts.ztf", "partition": 0, "offset": offset}
        for offset, packet in enumerate(alertpackets.ztf_of(rows, stamp_bytes=100))
    ]
    table = pa.Table.from_pylist(native, schema=surveys.NATIVE_SCHEMAS["ztf"])

    read = surveys.normalise("ztf", table).alerts

    for name in set(rows.column_names) - {"withdrawn", "schema_version", "topic", "offset"}:
        assert read[name].to_pylist() == rows[name].to_pylist(), name
