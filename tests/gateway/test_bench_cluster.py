"""Rows of ``mmgateway bench cluster``; the bench itself needs two Sparks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.bench.cluster import IN_WORKERS, SIZES, rows
from gateway.bench.measure import OURS
from gateway.bench.pipeline_costs import HAND_OVER, JOIN
from gateway.bench.pipeline_jobs import Run

MATCHES = {("E1", "ZTF1"), ("E2", "ZTF1")}
SIZES_SMALL = replace(SIZES, packets=300, regions=7, batch=100)


def run(seconds: float, matches: set[tuple[str, str]] = MATCHES) -> Run:
    """Two hundred alerts after the first batch in so many seconds."""
    batches = [(0.0, 100), (seconds / 2, 100), (seconds, 100)]
    return Run(batches=batches, matches=matches, costs={HAND_OVER: 1.0, JOIN: 2e-6})


def test_the_ratio_is_to_the_driver_of_the_same_master() -> None:
    made = rows("3 kB, x", {OURS: [run(2.0)], IN_WORKERS: [run(3.0)]}, SIZES_SMALL, MATCHES)

    assert [row.subject for row in made] == [OURS, IN_WORKERS]
    assert [row.ratio_to_ours for row in made] == pytest.approx([1.0, 1.5])
    assert made[0].per_s == pytest.approx(100.0)
    assert made[0].facts == {"alerts_per_s": 100, "driver_us_per_alert": 2.0}
    assert all(row.equal for row in made)


@pytest.mark.parametrize("expected", [set(), MATCHES | {("E3", "ZTF2")}])
def test_other_matches_or_none_at_all_are_not_equal(expected: set[tuple[str, str]]) -> None:
    made = rows("3 kB, x", {OURS: [run(2.0)]}, SIZES_SMALL, expected)

    assert made[0].equal is False
