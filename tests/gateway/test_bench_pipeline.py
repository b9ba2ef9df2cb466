"""``mmgateway bench pipeline``: its regions, its plain job, and how rates are told."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from broker import packets, surveys
from broker.judge import Judge
from crossmatch.index import RegionIndex
from crossmatch.shapes import shape_of
from gateway.bench import alertpackets, pipeline, sky30
from gateway.bench.measure import OURS
from gateway.cli import app
from gateway.config import load

CUTS = load(None, environ={}).cuts


@pytest.fixture(scope="module")
def late():
    return [record.region for record in pipeline.regions(150, seed=3)]


def test_regions_are_circles_and_maps_whose_windows_hold_the_night(late):
    areas = {kind: [r.area90_deg2 for r in late if r.messenger == kind] for kind in ("grb", "gw")}
    assert (len(areas["grb"]), len(areas["gw"])) == (120, 30)
    assert all(8 < area < 2500 for area in areas["gw"])
    night = sky30.night(sky30.sources(1000, 1), pipeline._NIGHT, 1000, 1)["time_jd"].to_numpy()
    columns = RegionIndex.build(late).tables.columns
    since = night[:, None] - columns.trigger_jd
    assert (since > columns.window_start_days).all()
    assert (since <= columns.window_end_days).all()


def test_the_plain_job_matches_what_the_join_matches(late):
    rows = sky30.night(sky30.sources(4000, 1), pipeline._NIGHT, 4000, 1)
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
        found |= set(pipeline._plain_matches(packet, shapes, CUTS))

    assert len(expected) > 20
    assert found == expected


def test_a_rate_leaves_the_first_batch_out():
    run = pipeline._Run()
    run.batches = [(100.0, 50), (101.0, 40), (104.0, 60)]
    assert run.alerts == 150
    assert run.per_s == pytest.approx(25.0)


def test_rows_tell_our_part_of_each_rate():
    row = pipeline._row(
        "other", [10.0, 20.0, 40.0], [8.0, 18.0, 20.0], 82e3, pipeline.Sizes(), None
    )
    assert (row.case, row.subject) == ("82 kB, 1000 regions", "other")
    assert row.facts["alerts_per_s"] == 20
    assert row.facts["our_part_of_its_rate"] == 0.8
    assert (row.facts["least"], row.facts["most"]) == (0.5, 0.9)


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
