"""Which feeds the commands use, and who may read the files that they write."""

from __future__ import annotations

import json
import os
import shlex
import typing
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main

FINAL = (Path(__file__).parents[1] / "data" / "notices" / "gbm_final.xml").read_bytes()
FEEDS = Path("mmgateway-data/feeds")
SAMPLE = {
    "event": {"name": "OT-42", "t0": "2026-03-01T04:05:06Z"},
    "where": {"ra": 121.5, "dec": -12.25, "radius": 0.5},
}


class Ran(typing.NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Run(typing.Protocol):
    def __call__(self, command: str) -> Ran: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    Path("sample.json").write_text(json.dumps(SAMPLE))

    def call(command: str) -> Ran:
        capsys.readouterr()
        status = main(shlex.split(command))
        return Ran(status, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ("--private", 0o600),
        ("--stream ours", 0o600),
        ("--kafka kafka.example.org:9092 --property sasl.username=me", 0o600),
        ("", 0o644),
    ],
)
def test_new_private_file_is_for_its_owner_alone(run: Run, options: str, mode: int) -> None:
    before = os.umask(0o022)
    try:
        done = run(f"feeds new --from sample.json --name own --topic own.events --yes {options}")
    finally:
        os.umask(before)
    assert done.status == 0, done.err
    assert (FEEDS / "own.toml").stat().st_mode & 0o777 == mode
    if mode == 0o600:
        assert FEEDS.parent.stat().st_mode & 0o777 == 0o700, "and so is the folder made for it"


# --- feeds of other commands -----------------------------------------------------------------


def test_commands_use_the_feeds_as_they_are_switched(run: Run) -> None:
    Path("event.xml").write_bytes(FINAL.replace(b"nasa.gsfc.gcn/Fermi", b"org.example/own"))
    Path("alerts").mkdir()
    run("feeds new --from event.xml --name own --yes")
    path = FEEDS / "own.toml"
    path.write_text(path.read_text().replace('name = "own"', 'name = "own"\nenabled = false'))
    command = "--notices event.xml --alerts alerts --json"
    assert run(f"crossmatch {command}").json["notices"]["rejected"] == {"no_feed": 1}
    assert run("feeds enable own").status == 0
    log = (FEEDS / "changes.jsonl").read_text()
    assert run(f"crossmatch {command}").json["notices"]["rejected"] == {}
    assert (FEEDS / "changes.jsonl").read_text() == log, "they only look"


@pytest.mark.parametrize("command", ["crossmatch -n event.xml -a alerts", "config check"])
def test_commands_refuse_broken_feeds(run: Run, command: str) -> None:
    Path("event.xml").write_bytes(FINAL)
    Path("alerts").mkdir()
    FEEDS.mkdir(parents=True)
    (FEEDS / "own.toml").write_text("name =")
    done = run(command)
    assert done.status == 2
    assert "own.toml: not valid TOML" in done.err
    (FEEDS / "own.toml").unlink()
    (FEEDS / "switches.json").write_text("[")
    assert run(command).status == 2
