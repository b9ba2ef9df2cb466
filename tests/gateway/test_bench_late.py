"""The bench of late regions: its nights are what they say, and its answers those of every row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest
from typer.testing import CliRunner

from broker.archive import AlertArchive
from broker.places import Good
from crossmatch import sky
from crossmatch.cuts import apply_cuts
from crossmatch.model import Circle
from gateway.bench import bounds, late_cases, sky30
from gateway.bench.late_region import answered, late_of, late_regions, truth
from gateway.cli import app
from gateway.config import load

NIGHTS, ALERTS, SEED = 2, 8000, 3
CUTS = load(None, environ={}).cuts


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def archive(folder: Path) -> AlertArchive:
    return sky30.stored(folder, NIGHTS, ALERTS, SEED)


def test_a_night_is_the_same_whenever_it_is_made():
    one, other = (sky30.night(sky30.sources(ALERTS, SEED), 1, ALERTS, SEED) for _ in range(2))

    assert one.equals(other)
    assert one.num_rows == ALERTS


def test_alerts_of_a_night_are_numbered_in_the_order_of_their_exposures():
    rows = sky30.night(sky30.sources(ALERTS, SEED), 0, ALERTS, SEED)
    times, ids = rows["time_jd"].to_numpy(), rows["alert_id"].to_numpy()

    assert (np.diff(times) >= 0).all()
    assert len(np.unique(ids)) == ALERTS
    first = np.unique(times, return_index=True)[1]
    assert (np.diff(np.minimum.reduceat(ids, first)) > 0).all()


def test_cuts_leave_about_as_much_as_of_a_real_night():
    rows = sky30.night(sky30.sources(ALERTS, SEED), 0, ALERTS, SEED)

    assert 0.03 < apply_cuts(rows, CUTS).keep.mean() < 0.1


def test_sources_come_back_night_after_night():
    sky_of = sky30.sources(ALERTS, SEED)
    first, later = (
        set(sky30.night(sky_of, n, ALERTS, SEED)["object_id"].to_pylist()) for n in (0, 1)
    )

    assert 0.05 < len(first & later) / len(first) < 0.8


def test_nights_that_are_there_are_not_made_again(archive, folder):
    told: list[tuple[int, int]] = []
    again = sky30.stored(folder, NIGHTS, ALERTS, SEED, lambda done, of: told.append((done, of)))

    assert told == [(NIGHTS, NIGHTS)]
    assert again.count() == NIGHTS * ALERTS
    assert again.last_batch() == -1


def test_the_search_finds_what_a_plain_look_at_every_row_finds(archive):
    late, _ = late_regions(NIGHTS)
    expected, looked, inside = truth(late, archive, CUTS)

    answer = answered(late, archive, CUTS)

    assert looked == NIGHTS * ALERTS
    assert inside > len(expected) > 10
    assert answer.found == expected
    assert 0 < answer.candidates <= answer.statements


def test_a_circle_finds_what_a_plain_look_at_every_row_finds(archive):
    late = late_of("wide", "grb-1", "grb", 0, Circle(52.0, 24.0, 6.0, 0.9), 1.0)
    expected, _, inside = truth(late, archive, CUTS)

    assert inside > len(expected) > 3
    assert answered(late, archive, CUTS).found == expected


def test_the_map_covers_a_thousand_square_degrees_and_has_distances():
    late, circle = late_regions(30)

    assert late.region.area90_deg2 == pytest.approx(1000, rel=0.05)
    assert late.region.localization.distmu is not None
    assert circle.region.area90_deg2 < 0.01


def test_the_command_tells_rows_that_were_found_equal(folder):
    done = CliRunner().invoke(
        app,
        [
            *("bench", "late-region", "--nights", str(NIGHTS), "--alerts", str(ALERTS)),
            *("--seed", str(SEED), "--runs", "1", "--folder", str(folder)),
            *("--no-live", "--no-kafka", "--json"),
        ],
    )

    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["case"] for row in rows] == ["map", "circle"]
    assert all(row["equal"] for row in rows)
    assert rows[0]["facts"]["bar_s"] == 5.0
    assert rows[0]["facts"]["candidates"] > 0


def test_rows_that_differ_from_the_plain_look_are_told_as_not_equal(archive, monkeypatch):
    sizes = late_cases.Sizes(nights=NIGHTS, alerts=ALERTS, runs=1, seed=SEED)
    monkeypatch.setattr(late_cases, "truth", lambda *_: ({("no such", 1)}, 1, 1))

    rows = late_cases.cases(sizes, archive, live=False, kafka=False)

    assert [row.equal for row in rows] == [False, False]


def test_an_unknown_case_of_the_bounds_is_named_with_those_that_are_known():
    done = CliRunner().invoke(app, ["bench", "bounds", "tide", "--small"])

    assert done.exit_code == 1
    assert "tide" in str(done.exception or done.output)
    assert all(name in str(done.exception or done.output) for name in bounds.CASES)


def test_lines_of_the_bounds_have_the_keys_of_all_benches(monkeypatch):
    result = {
        "bench": "bounds", "case": "burst", "told": "many", "items": 200, "seconds": 4.0,
        "peak_mb": 300, "day": [{"events": 1}], "bounded": True,
    }  # fmt: skip
    monkeypatch.setattr(bounds, "measured", lambda *_, **__: [result])
    done = CliRunner().invoke(app, ["bench", "bounds", "--json"])

    assert done.exit_code == 0, done.output
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["bench"], line["case"], line["items"], line["per_s"]) == (
        "bounds", "burst", 200, 50.0,
    )  # fmt: skip
    assert line["facts"]["bounded"] == "yes"
    assert line["facts"]["peak_mb"] == 300
    assert line["result"]["day"] == [{"events": 1}]
    assert line["machine"]["processors"] >= 1


def test_cuts_that_go_before_reading_leave_the_same_rows(archive):
    """Small row groups of their own: what is left lies in some of them only."""
    ranges = np.array([[0, sky.N_PIX // 3], [sky.N_PIX // 2, sky.N_PIX]])
    span = (sky30.FIRST_JD, sky30.FIRST_JD + 0.75)
    night = archive.nights(*span)[0]
    good = Good(("positive", "mag"), lambda t: np.asarray(pc.greater(t["mag"], 20.3)))

    rows = archive.search_night(night, ranges, *span, 1, good)

    everything = archive.search_night(night, ranges, *span, 1)
    assert 0 < rows.num_rows < everything.num_rows
    assert rows.equals(everything.filter(pc.field("mag") > 20.3))


def test_rows_from_several_files_and_row_groups_keep_their_columns_together(tmp_path):
    archive = sky30.stored(tmp_path, 1, 140_000, SEED)
    span = (sky30.FIRST_JD, sky30.FIRST_JD + 1)
    (night,) = archive.nights(*span)
    plain = pads.dataset(archive.path, format="parquet", partitioning="hive").to_table()
    place, mag = plain["ipix29"].to_numpy(), plain["mag"].to_numpy()
    edges = np.quantile(place, [0.02, 0.05, 0.6, 0.61, 0.97, 0.98]).astype(np.int64)
    good = Good(("mag",), lambda t: t["mag"].to_numpy() > 20.0)

    rows = archive.search_night(night, edges.reshape(-1, 2), *span, 1, good)

    wanted = plain.filter(pa.array(sky.contains(edges.reshape(-1, 2), place) & (mag > 20.0)))
    wanted = wanted.sort_by("alert_id").select(rows.column_names)
    assert rows.num_rows > 1000
    assert rows.equals(wanted.cast(rows.schema))
