"""``mmgateway bench all``: each bench in a process of its own, lines that stay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossmatch.errors import ConfigError, ServiceError
from gateway.bench import every
from gateway.bench.every import Done
from gateway.cli import app


def line(bench: str, subject: str = "mmgateway", **more: object) -> dict[str, object]:
    return dict.fromkeys(every.KEYS, 1) | {"bench": bench, "subject": subject} | more


class Runs:
    """Stands in for processes: notes what was run, prints a line of each."""

    def __init__(self, printed: str | None = None, status: int = 0) -> None:
        self.asked: list[Sequence[str]] = []
        self._printed, self._status = printed, status

    def __call__(self, arguments: Sequence[str]) -> Done:
        self.asked.append(arguments)
        printed = json.dumps(line(arguments[1])) if self._printed is None else self._printed
        return Done(self._status, printed + "\n")


def test_every_bench_is_a_command_that_takes_its_arguments():
    for asked in every.BENCHES:
        for arguments in (*asked.full, *asked.short):
            done = CliRunner().invoke(app, ["bench", asked.name, *arguments, "--json", "--help"])
            assert done.exit_code == 0, (asked.name, arguments, done.output)
            shown = done.output
            assert all(a in shown for a in arguments if a.startswith("--")), (asked.name, shown)


def test_benches_run_in_order_and_their_lines_say_that_they_are_short(tmp_path: Path):
    path, run = tmp_path / "new" / "lines.jsonl", Runs()
    every.run_all(every.BENCHES, path, short=True, run=run)

    names = [asked.name for asked in every.BENCHES]
    assert list(dict.fromkeys(asked[1] for asked in run.asked)) == names
    assert all(asked[-1] == "--json" for asked in run.asked)
    lines = every.read(path)
    assert list(dict.fromkeys(x["bench"] for x in lines)) == names
    assert all(x["short"] is True for x in lines)


def test_a_full_run_takes_the_pipeline_with_large_and_with_small_packets(tmp_path: Path):
    run = Runs()
    every.run_all(every.chosen(["pipeline"]), tmp_path / "lines", short=False, run=run)
    assert [("lsst" in asked, "0" in asked) for asked in run.asked] == [(False,) * 2, (True,) * 2]
    assert len(every.read(tmp_path / "lines")) == 2


def test_lines_of_benches_that_are_not_run_stay(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    every.write(path, [line("cluster"), line("latency", "old"), line("latency", "older")])
    every.run_all(every.chosen(["latency", "join"]), path, short=False, run=Runs())

    told = [(x["bench"], x["subject"]) for x in every.read(path)]
    assert told == [("join", "mmgateway"), ("latency", "mmgateway"), ("cluster", "mmgateway")]


def test_a_bench_that_fails_is_told_when_the_others_were_run(tmp_path: Path):
    path = tmp_path / "lines.jsonl"

    def run(arguments: Sequence[str]) -> Done:
        return Done(1, "") if arguments[1] == "join" else Runs()(arguments)

    with pytest.raises(ServiceError, match="bench join ended with status 1"):
        every.run_all(every.chosen(["join", "decode"]), path, short=False, run=run)
    assert [x["bench"] for x in every.read(path)] == ["decode"]


def test_a_bench_of_which_a_part_tells_nothing_keeps_the_lines_that_it_had(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    before = [line("pipeline", "82 kB"), line("pipeline", "3 kB")]
    every.write(path, before)

    def run(arguments: Sequence[str]) -> Done:
        return Done(1, "") if "lsst" in arguments else Runs()(arguments)

    with pytest.raises(ServiceError, match=r"--survey lsst .* ended with status 1"):
        every.run_all(every.chosen(["pipeline"]), path, short=False, run=run)
    assert every.read(path) == before


def test_lines_of_a_bench_that_found_differences_are_kept(tmp_path: Path):
    path, printed = tmp_path / "lines.jsonl", json.dumps(line("join", equal=False))
    with pytest.raises(ServiceError, match="bench join"):
        every.run_all(every.chosen(["join"]), path, short=False, run=Runs(printed, 1))
    assert every.read(path)[0]["equal"] is False


def test_what_is_no_json_is_told_and_changes_nothing(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    every.write(path, [line("join", "old")])
    with pytest.raises(ServiceError, match="bench join printed what is no JSON"):
        every.run_all(every.chosen(["join"]), path, short=False, run=Runs("Warning: hot"))
    assert every.read(path) == [line("join", "old")]


def test_an_unknown_bench_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match="no bench 'jion'; there are: join, decode"):
        every.chosen(["jion"])


def test_the_command_runs_what_is_named(tmp_path: Path, monkeypatch):
    given = []

    def run_all(benches, path, *, short, tell):
        given.append(([asked.name for asked in benches], path, short))

    monkeypatch.setattr(every, "run_all", run_all)
    out = tmp_path / "lines.jsonl"
    for options in (["latency", "join", "--short"], []):
        done = CliRunner().invoke(app, ["bench", "all", *options, "--out", str(out)])
        assert done.exit_code == 0, done.output
    assert given == [
        (["join", "latency"], out, True),
        ([asked.name for asked in every.BENCHES], out, False),
    ]


def test_small_sizes_do_not_replace_lines_of_full_runs(tmp_path: Path):
    path, run = tmp_path / "lines.jsonl", Runs()
    every.write(path, [line("join", short=True), line("decode", short=False)])
    with pytest.raises(ConfigError, match="lines of full runs"):
        every.run_all(every.chosen(["join"]), path, short=True, run=run)
    assert not run.asked

    every.write(path, [line("join", short=True)])
    every.run_all(every.chosen(["join"]), path, short=True, run=run)
    assert len(run.asked) == 1


def test_a_place_that_cannot_take_the_lines_is_told_before_anything_is_run(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "broken").write_text("{")
    run = Runs()
    for place, why in (("file/lines", "folder"), (".", "written"), ("broken", "no lines")):
        with pytest.raises(ConfigError, match=why):
            every.run_all(every.chosen(["join"]), tmp_path / place, short=False, run=run)
    assert not run.asked


def test_a_process_is_run_and_its_status_and_output_are_kept():
    done = every.in_process(["config", "show", "--no-such-option"])
    assert done.status == 2
    assert done.printed == ""
