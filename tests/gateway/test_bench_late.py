"""The bench of late regions: its nights are what they say, and its answers those of every row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from broker.archive import AlertArchive
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

    assert done.exit_code == 2
    # Typer draws a box around it, whose lines end anywhere.
    told = "".join(c for c in done.output if c.isalnum() or c in "-_")
    assert all(name in told for name in ("tide", *bounds.CASES))
