"""Targets by name, with what lines say of them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.bench import bars
from gateway.bench.measure import OURS, row_of
from gateway.bench.pipeline_costs import BARE, CANDIDATES, DECODING, PACKETS, PUBLISH


def line(
    bench: str,
    case: str,
    subject: str,
    ratio: float = 1.0,
    *,
    seconds: float = 1.0,
    items: int = 1,
    equal: bool | None = None,
    **facts: Any,
) -> dict[str, Any]:
    row = row_of(
        bench, case, subject, items, [seconds], seconds / ratio, equal=equal, compared="",
        facts=facts,
    )  # fmt: skip
    return row.as_dict() | {"short": False}


def verdicts(*lines: dict[str, Any]) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in (found.row for found in bars.reached(lines))}


def test_what_has_no_lines_is_said_not_to_be_measured():
    told = verdicts()
    assert len(told) == len(bars.BARS) == 26
    assert {tuple(row[1:]) for row in told.values()} == {("", "not measured")}
    assert bars.explained([]) == []


@pytest.mark.parametrize(
    ("given", "name", "row"),
    [
        (
            line("join", "1,000 regions", "mocpy, region by region", 259.4, equal=True),
            "Join with 1,000 regions, against mocpy",
            ["at least 200 times", "259 times", "met"],
        ),
        (
            line("join", "1,000 regions", "polars, nside-64 equi-join", 2.08, equal=True),
            "Join with 1,000 regions, against polars, nside-64",
            ["at least 3 times", "2.08 times", "**missed**"],
        ),
        (
            line("join", "100 regions", "mocpy, region by region", 99.0, equal=False),
            "Join with 100 regions, against mocpy",
            ["at least 60 times", "99 times", "**missed**, results differ"],
        ),
        (
            line("join", "growth", f"{OURS}, 10,000 regions", 4.0),
            "Join, growth of an alert's cost from 100 to 10,000 regions",
            ["below 4 times", "4 times", "**missed**"],
        ),
        (
            line("join", "add a map", OURS, seconds=0.002, equal=True, longest_ms=170.2),
            "Join, adding a map of 20,000 cells to 1,000 regions, median",
            ["below 10 ms", "2 ms (longest 170 ms)", "met"],
        ),
        (
            line("decode", "ztf 82 kB", "fastavro, whole container", 831.0, equal=True),
            "Decoding, ZTF 82 kB, against fastavro, whole container",
            ["at least 200 times", "831 times", "met"],
        ),
        (
            line("pipeline", "82 kB, 1,000 regions", DECODING, our_part_of_its_rate=0.691),
            "Pipeline, 82 kB, part of the rate of a job that reads and decodes",
            ["at least 80 %", "69.1 %", "**missed**"],
        ),
        (
            line("pipeline", "3 kB, 1,000 regions", OURS, items=60_000),
            "Pipeline, 3 kB, alerts",
            ["at least 60,000 a second", "60,000 a second", "met"],
        ),
        (
            line("pipeline", "3 kB, 1,000 regions", BARE, our_part_of_its_rate=0.947),
            "Pipeline, 3 kB, loss of rate by five catalogues",
            ["below 10 %", "5.3 %", "met"],
        ),
        (
            line("latency", "alone", OURS, p50_s=0.376, p99_s=1.6),
            "Latency at 50 alerts a second, 99 % of candidates within",
            ["below 1.5 s", "1.6 s", "**missed**"],
        ),
        (
            line("burst", "82 kB, 800 circles", OURS, peak_MB_all=4493),
            "Memory of all processes in a burst of 100,000 alerts of 82 kB",
            ["below 6 GB", "4.49 GB", "met"],
        ),
        (
            line("catalogue", "10,000 of 10,000,000", OURS, seconds=0.0055, items=10_000),
            "Catalogue of 10,000,000 sources, 10,000 positions",
            ["below 6 ms", "5.5 ms", "met"],
        ),
        (
            line("catalogue", "10,000 of 10,000,000", "scipy cKDTree", 4.0, equal=True),
            "Catalogue, 10,000 positions, against scipy",
            ["at least 3 times", "4 times", "met"],
        ),
    ],
)
def test_a_figure_is_taken_from_its_line(given: dict[str, Any], name: str, row: list[str]):
    assert verdicts(given)[name] == row


def test_only_ours_is_taken_for_ours_and_nothing_from_small_sizes():
    name = "Latency at 50 alerts a second, half of candidates within"
    beside = line("latency", "alone", f"{OURS}, CDS takes 10 s an answer", p50_s=0.1, p99_s=0.2)
    short = line("latency", "alone", OURS, p50_s=0.1, p99_s=0.2) | {"short": True}
    assert verdicts(beside, short)[name][-1] == "not measured"


def test_a_miss_of_the_pipeline_is_explained_by_what_statements_cost():
    case = "3 kB, 1,000 regions"
    steps = {PACKETS: 5.0, CANDIDATES: 16.0, PUBLISH: 15.0}
    lines = [
        line("pipeline", case, OURS, items=20_000, statements_per_alert=0.24),
        *(
            line("pipeline", f"cost by step, {case}", name, seconds=us * 1e-6)
            for name, us in steps.items()
        ),
    ]
    (told,) = bars.explained(lines)
    assert told.startswith("**Pipeline**: each statement")
    assert "With packets of 3 kB an alert of this world makes 0.24 statements" in told
    assert "of about 150 µs each: 36 µs, 72 % of the 50 µs that pass" in told


def test_a_miss_that_nothing_explains_is_named():
    (told,) = bars.explained([line("join", "1,000 regions", "mocpy", 100.0, equal=True)])
    assert told.endswith("do not tell why**: Join with 1,000 regions, against mocpy.")


def test_what_is_as_fast_with_few_regions_is_named():
    lines = [
        line("join", "1 region", f"{OURS}, with density and level", 0.9),
        line("join", "1 region", "polars, nside-64 equi-join and exact test", 0.84, equal=True),
        line("join", "10 regions", "DuckDB, range join", 3.76, equal=True),
    ]
    (told,) = bars.explained(lines)
    assert "with 1 region polars, nside-64 takes 0.84 times as long" in told
    assert "DuckDB" not in told
