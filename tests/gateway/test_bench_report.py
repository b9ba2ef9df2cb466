"""The page of performance: made from lines alone, with plots that follow from them."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gateway.bench import every, pipeline_costs, plots, report
from gateway.bench.measure import OURS, delays_row, row_of
from gateway.bench.report_text import cluster, growth, words_of

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {
    "began_utc": "2026-11-20T12:00Z",
    "load_1min": 0.25,
    "processors": 2,
    "processor": "Some Processor",
    "memory_gb": 24.0,
    "python": "3.11.9",
    "system": "Linux x86_64",
    "versions": {"mmgateway": "0.1.0", "numpy": "2.2.0"},
}


def line(
    bench: str,
    case: str,
    subject: str,
    us: float,
    *,
    items: int = 1_000_000,
    ours: float | None = None,
    equal: bool | None = None,
    **facts: Any,
) -> dict[str, Any]:
    seconds = us * items / 1e6
    taken = [0.9 * seconds, seconds, 1.2 * seconds]
    first = seconds if ours is None else ours * items / 1e6
    row = row_of(
        bench, case, subject, items, taken, first, equal=equal, compared=f"{case} done", facts=facts
    )
    return row.as_dict() | {"machine": MACHINE, "short": False}


def join_lines() -> list[dict[str, Any]]:
    found = []
    for number, us in ((1, 0.02), (10, 0.04), (100, 0.12), (1000, 0.3), (10_000, 0.5)):
        case = "1 region" if number == 1 else f"{number:,} regions"
        found += [
            line("join", case, OURS, us),
            line("join", case, f"{OURS}, with density and level", 3 * us, ours=us),
            line("join", case, "mocpy, region by region", 0.05 * number, ours=us, equal=True),
            line("join", case, "DuckDB, range join", 4 * us, ours=us, equal=True),
            line("join", case, "polars, nside-64 equi-join", 3.9 * us, ours=us, equal=True),
        ]
    found += [
        line("join", "growth", f"{OURS}, 100 regions", 0.2),
        line("join", "growth", f"{OURS}, 10,000 regions", 0.5, ours=0.2),
        line("join", "add a map", OURS, 2100.0, items=1, equal=True),
    ]
    return found


def pipeline_lines() -> list[dict[str, Any]]:
    found = []
    for case, steps in (
        ("82 kB, 1,000 regions", (90.0, 50.0, 9.0, 12.0, 8.0, 3.0, 2.0, 6.0, 5.0)),
        ("8 kB, 1,000 regions", (6.0, 5.0, 3.0, 12.0, 8.0, 3.0, 2.0, 6.0, 5.0)),
    ):
        found.append(line("pipeline", case, OURS, sum(steps) * 0.8, equal=True, alerts_per_s=5000))
        found += [
            line("pipeline", f"cost by step, {case}", name, us, ours=sum(steps))
            for name, us in zip(pipeline_costs.STEPS, steps, strict=True)
        ]
    return found


def other_lines() -> list[dict[str, Any]]:
    delays = np.random.default_rng(1).lognormal(-1.5, 0.4, 2000).tolist()
    alone = delays_row("latency", "alone", delays, delays, 50.0, compared="waited")
    beside = replace(alone, subject=f"{OURS}, CDS takes 10 s an answer", equal=True)
    cases = (("notices", "latency"), ("notices", "latency, large maps"),
             ("late-region", "live alerts, beside late maps"))  # fmt: skip
    others = [
        delays_row(bench, case, [n * d for d in delays], delays, 50.0, compared="waited").as_dict()
        | {"machine": MACHINE, "short": False}
        for n, (bench, case) in enumerate(cases, 2)
    ]
    parts = {"read_s": 0.8, "judge_s": 0.7, "steps_s": 1.4, "bar_s": 5.0, "within_bar": "yes"}
    return [
        line("decode", "ztf 82 kB", OURS, 2.4),
        line("decode", "lsst 3 kB", OURS, 1.1),
        line("notices", "map", OURS, 4e5, items=1)
        | {"compared": "one map of 1,000,000 cells: ours checked"},
        line("late-region", "map", OURS, 0.1, items=30_000_000, equal=True, **parts),
        line("late-region", "circle", OURS, 0.01, items=30_000_000, equal=True, **parts),
        alone.as_dict() | {"machine": MACHINE | {"load_1min": 1.75}, "short": False},
        beside.as_dict() | {"machine": MACHINE | {"load_1min": 1.75}, "short": False},
        *others,
    ]


LINES = [*join_lines(), *pipeline_lines(), *other_lines()]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("p", ROOT / "docs" / "make_performance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_stored_lines_alone(script, tmp_path, capsys):
    stored = tmp_path / "performance" / "results.jsonl"
    every.write(stored, LINES)
    page = tmp_path / "performance.md"

    assert script.main(["--from", str(stored), "--out", str(page)]) == 0

    text = page.read_text("utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(pictures) == [
        f"performance/{name}.svg" for name in ("join", "late-region", "latency", "pipeline")
    ]
    for name in pictures:
        size = (tmp_path / name).stat().st_size
        assert 2_000 < size < 60_000
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    assert str(page) in capsys.readouterr().out


def test_a_file_that_is_not_there_is_told_with_what_to_do(script, tmp_path, capsys):
    assert script.main(["--from", str(tmp_path / "none.jsonl"), "--out", "x.md"]) == 1
    assert "mmgateway bench all" in capsys.readouterr().err


def test_the_page_tells_machine_dates_load_and_versions():
    text = report.text(LINES, {})
    assert "2 processors (Some Processor), 24.0 GB of memory" in text
    assert "mmgateway 0.1.0, numpy 2.2.0" in text
    assert "| join | 2026-11-20T12:00Z | 0.25 |" in text
    assert "| latency | 2026-11-20T12:00Z | 1.75 | 0.1.0 |" in text


def test_the_page_tells_the_commit_of_each_bench_where_lines_do():
    one = dict(LINES[0]) | {"machine": MACHINE | {"commit": "abc1234+"}}
    text = report.text([one, *LINES[-1:]], {})
    assert "| join | 2026-11-20T12:00Z | 0.25 | 0.1.0 abc1234+ |" in text


def test_the_page_begins_with_targets():
    text = report.text(LINES, {})
    before, _, after = text.partition("## What it should reach, and what it reaches")
    assert "## " not in before
    assert "| Join, adding a map of 20,000 cells to 1,000 regions, median | below 10 ms |" in after
    assert "| 2.1 ms | met |" in after
    assert "| not measured |" in after


def test_every_bench_has_words():
    assert all(words_of(asked.name) for asked in every.BENCHES)


def test_rows_tell_median_spread_ratio_and_whether_results_were_equal():
    text = report.text(LINES, {})
    assert (
        "| mocpy, region by region | 1,000,000 | 20,000 | 50 µs | 167 | 50 s | 45 s … 60 s | 3 |"
        " yes |" in text
    )
    unequal = [dict(LINES[2]) | {"equal": False}]
    assert "| **no** |" in report.text(unequal, {})


def test_the_words_on_growth_take_their_figures_from_the_lines():
    text = " ".join(growth(LINES))
    assert "0.02 µs beside 1 region and 0.5 µs beside 10,000 regions" in text
    assert "2.5 times as long with 10,000 regions as with 100 regions" in text
    assert "after 2.1 ms" in text
    assert "a file of 1,000,000 cells becomes a region in 400 ms" in text
    assert "2.4 µs of one of 82 kB (ZTF), 1.1 µs of one of 3 kB (LSST)" in text


def test_words_without_figures_stay_sentences():
    text = " ".join(growth([]))
    assert "None" not in text
    assert "Alerts" in text
    assert "Size of maps" in text


def test_sizes_of_the_index_and_columns_are_told_where_lines_have_them():
    assert "bytes of the index" not in " ".join(growth(LINES))
    assert "MB" not in " ".join(cluster(LINES))
    assert "columns of each alert that matching needs" in " ".join(cluster(LINES))
    more = [
        line("join", "1,000 regions", OURS, 0.3, map_cells=2_000_000, index_bytes=50_000_000),
        line("decode", "ztf 82 kB", OURS, 2.4, columns=24),
        line("decode", "lsst 3 kB", OURS, 1.1, columns=17),
        line("join", "add a map", OURS, 2100.0, items=1, longest_ms=171.0,
             large_layer_merged="yes"),
    ]  # fmt: skip
    text = " ".join(growth(more))
    assert "25 bytes of the index for each of 2,000,000 cells" in text
    assert "after 2.1 ms as a rule, and now and then after 171 ms" in text
    text = " ".join(cluster(more))
    assert "1,000 regions with 2,000,000 map cells is 50 MB" in text
    assert "the 24 (ZTF) or 17 (LSST) columns of each alert that matching needs" in text


def test_steps_that_older_lines_have_below_the_noise_are_not_told_as_figures():
    case = "cost by step, 3 kB, 1,000 regions"
    steps = [
        line("pipeline", case, pipeline_costs.READ, 9.0),
        line("pipeline", case, pipeline_costs.DECODE, 1.0) | {"seconds_min": 1e-3},
    ]
    text = report.text(steps, {})
    assert "| reading | 1,000,000 |" in text
    assert "| decoding in the JVM |" not in text
    assert "Not measurable beside the noise: decoding in the JVM." in text
    figure = plots.drawn(steps, plots.split)
    assert figure is not None
    (legend,) = (a.get_legend() for a in figure.axes)
    assert [t.get_text() for t in legend.get_texts()] == ["reading"]


def test_the_plot_of_steps_shows_what_was_measured_of_all():
    figure = plots.drawn(LINES, plots.split)
    assert figure is not None
    told = [text.get_text().strip() for text in figure.axes[0].texts]
    assert told == ["185", "50", "measured: 148", "measured: 40"]


def test_what_is_full_first_on_a_cluster_follows_from_the_steps():
    text = " ".join(cluster(LINES))
    told = "reading and decoding an alert took this machine"
    assert f"82 kB: {told} 140 µs, the driver's steps 36 µs" in text
    assert "One driver is full at 27,778 alerts a second, 3.9 times" in text
    assert f"8 kB: {told} 11 µs, the driver's steps 36 µs" in text
    assert "the driver is full first, at 27,778 alerts a second" in text


def test_lines_of_a_cluster_stand_in_their_place():
    mark, words = "## On a cluster", words_of("cluster")
    assert words not in report.text(LINES, {})
    run = line("cluster", "local-cluster[2,1,1024]", OURS, 70.0, equal=True)
    text = report.text([*LINES, run], {})
    assert text.count("<!--") == 1
    told = text.partition(mark)[2]
    assert words in told
    assert "### Local-cluster[2,1,1024]" in told
    assert "| mmgateway | 1,000,000 | 14,286 |" in told


def test_figures_of_a_first_look_are_marked_as_such():
    mark = "A first look with small sizes"
    assert mark not in report.text(LINES, {})
    assert mark in report.text([dict(LINES[0]) | {"short": True}], {})


def test_the_same_lines_give_the_same_plots():
    for draw, _ in plots.PLOTS.values():
        one, other = (plots.drawn(LINES, draw) for _ in range(2))
        assert one is not None
        assert other is not None
        assert plots.svg(one) == plots.svg(other)
        assert plots.drawn([], draw) is None


def test_the_plot_of_the_join_has_a_line_a_subject_up_to_ten_thousand_regions():
    figure = plots.drawn(LINES, plots.join)
    assert figure is not None
    curves = figure.axes[0].get_lines()
    assert len(curves) == 5
    assert [list(c.get_xdata()) for c in curves] == [[1, 10, 100, 1000, 10_000]] * 5
    assert list(curves[0].get_ydata()) == pytest.approx([5e7, 2.5e7, 1e6 / 0.12, 1e6 / 0.3, 2e6])


def test_the_plot_of_delays_tells_them_apart():
    figure = plots.drawn(LINES, plots.latency)
    assert figure is not None
    (legend,) = (a.get_legend() for a in figure.axes)
    assert [text.get_text() for text in legend.get_texts()] == [
        "alert to candidate, 50 a second",
        "alert to candidate, CDS takes 10 s an answer, 50 a second",
        "notice to region, 50 a second",
        "notice to region, its map fetched",
        "alert to candidate, beside late maps",
        "target for alerts: half by 0.5 s",
        "target for alerts: 99 % by 1.5 s",
    ]


def test_stored_lines_must_have_the_keys_of_all_benches(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps({"bench": "join", "case": "c"}) + "\n")
    with pytest.raises(every.ConfigError, match="line 1 lacks subject"):
        every.read(path)
