"""What commands print: lines that stay whole in pipes, columns that stay whole on terminals."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from gateway import cli
from gateway.cli import services
from gateway.cli.screen import screen, show_facts, show_table
from gateway.services import ServiceStatus

PLACE = "/srv/observatory/of/the/long/name/mmgateway-data/feeds/ourteam.toml"
ENDPOINT = "vtp://a-host-with-a-long-name.observatory.example.org:8098"


def table() -> Table:
    found = Table(box=None, pad_edge=False)
    for name in ("time", "detail", "file"):
        found.add_column(name, no_wrap=name != "detail", overflow="fold")
    found.add_row("2026-01-01 00:00:00", "words " * 30, PLACE)
    return found


def test_piped_lines_stay_whole_whatever_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_table(screen(), table())
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("2026-01-01 00:00:00")
    assert line.rstrip().endswith(PLACE)
    assert line.count("words") == 30


@pytest.mark.parametrize("width", [40, 80, 140])
def test_on_a_terminal_whole_columns_stay_whole(width: int) -> None:
    out = io.StringIO()
    show_table(Console(file=out, width=width, force_terminal=True, color_system=None), table())
    printed = out.getvalue()
    assert PLACE in printed
    assert "2026-01-01 00:00:00" in printed
    assert printed.count("words") == 30


def test_a_table_that_fits_is_no_wider_than_the_terminal() -> None:
    out = io.StringIO()
    small = Table(box=None, pad_edge=False)
    small.add_column("file", no_wrap=True)
    small.add_column("detail", overflow="fold")
    small.add_row("feeds/a.toml", "words " * 30)
    show_table(Console(file=out, width=80), small)
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_facts_fold_between_words_and_keep_paths() -> None:
    out = io.StringIO()
    facts = [("file", f"feed ours, {PLACE * 2}"), ("none", ""), ("why", "word " * 40)]
    show_facts(Console(file=out, width=60), facts)
    printed = out.getvalue().splitlines()
    assert f"      {PLACE * 2}" in printed
    assert "none" not in out.getvalue()
    assert all(len(line) <= 60 for line in printed if PLACE not in line)
    assert out.getvalue().count("word") == 40


def test_status_keeps_endpoints_and_times_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = ServiceStatus(
        "listen", "running", pid=1234567, since="2026-01-01T00:00:00+00:00",
        endpoint=ENDPOINT, memory_mb=512.0, error="a long sentence on what went wrong " * 3,
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    services.show_statuses([status], screen())
    assert ENDPOINT in capsys.readouterr().out
    out = io.StringIO()
    services.show_statuses([status], Console(file=out, width=80))
    assert ENDPOINT in out.getvalue()
    assert "2026-01-01 00:00:00" in out.getvalue()


def test_history_and_lists_stay_whole_in_pipes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "a_folder_with_a_rather_long_name" / "and_one_more_below_it_as_well"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "60")
    made = cli.main(["feeds", "new", "--name", "own", "--topic", "own.events", "--yes",
                     "--title", "A title that is much longer than thirty letters"])  # fmt: skip
    assert made == 0
    capsys.readouterr()
    assert cli.main(["feeds", "history"]) == 0
    assert str(folder / "mmgateway-data" / "feeds" / "own.toml") in capsys.readouterr().out
    assert cli.main(["feeds", "list"]) == 0
    assert "A title that is much longer than thirty letters" in capsys.readouterr().out
