from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossmatch.errors import ConfigError, NoticeError, ServiceError
from gateway import cli, runfiles
from gateway.cli import app, main

COMMANDS = (
    "demo",
    "up",
    "down",
    "status",
    "listen",
    "match",
    "publish",
    "replay",
    "crossmatch",
    "config check",
    "config init",
    "config show",
)

runner = CliRunner(env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration of the machine's reaches the tests."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("MMGATEWAY_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert f"mmgateway {command}" in result.output.split("Examples")[-1].replace("\n", " ") or (
        f"{command}" in result.output
    )
    assert "Example" in result.output


def test_usage_mistakes_end_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-command"]) == 2
    assert main(["up", "no-such-service"]) == 2
    assert main(["replay", "x.xml"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("[kafka] port: 1 is no port"), 2),
        (ServiceError("Kafka does not run"), 1),
        (NoticeError("bad_json", "line 3"), 1),
        (OSError(28, "No space left on device", "/disk/file"), 1),
        (ZeroDivisionError("division by zero"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_errors_become_one_sentence_and_a_status(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert main([]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mmgateway: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_debug_shows_where_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**options: object) -> None:
        raise ServiceError("Kafka does not run")

    monkeypatch.setattr(cli, "app", fail)
    assert main(["--debug", "status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_process_ends_with_the_status(empty_place: Path) -> None:
    def status_of(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    (empty_place / "bad.toml").write_text("[kafka]\nprot = 1\n")
    (empty_place / "x.xml").write_text("<x/>")
    assert status_of("--config", "bad.toml", "config", "check")[0] == 2
    status, sentence = status_of("replay", "x.xml", "--topic", "t")
    assert status == 1
    assert "mmgateway up kafka" in sentence
    assert status_of("status")[0] == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, gateway.cli as c; c.main(['--help']);"
        "print([m for m in ('numpy', 'astropy', 'pyspark', 'twisted', 'confluent_kafka')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stderr.strip() == "[]"


def test_status_of_nothing_is_stopped_services() -> None:
    result = runner.invoke(app, ["status", "--json"])
    services = json.loads(result.stdout)["services"]
    assert [s["service"] for s in services] == ["kafka", "listen", "match", "publish"]
    assert {s["state"] for s in services} == {"stopped"}


def test_status_of_named_services_tells_whether_they_run(empty_place: Path) -> None:
    assert main(["status"]) == 0
    assert main(["status", "listen"]) == 1
    runfiles.announce(empty_place / "mmgateway-data", "listen")
    assert main(["status", "listen"]) == 0
    assert main(["status", "listen", "--json"]) == 0
    assert main(["status", "listen", "publish"]) == 1
    assert main(["status"]) == 0


def test_kafka_of_others_does_not_count_as_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMGATEWAY_KAFKA__BOOTSTRAP", "kafka:9092")
    assert main(["status", "kafka"]) == 0


def test_status_shows_chosen_services_as_a_table() -> None:
    result = runner.invoke(app, ["status", "listen"])
    assert "listen" in result.stdout
    assert "publish" not in result.stdout


def test_down_of_nothing_is_no_failure(empty_place: Path) -> None:
    assert main(["down"]) == 0
    assert not (empty_place / "mmgateway-data").exists()


def test_init_writes_a_file_that_checks_and_is_not_overwritten(
    empty_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "init"]) == 0
    assert main(["config", "init"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["config", "init", "--force"]) == 0
    capsys.readouterr()
    assert main(["config", "check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["source"]) == (True, "mmgateway.toml")


def test_check_of_a_bad_file_says_so_for_machines_too(
    empty_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_place / "mmgateway.toml").write_text('[paths]\nfeeds = ["nowhere"]\n')
    assert main(["config", "check", "--json"]) == 2
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert not report["ok"]
    assert "nowhere" in report["error"]
    assert "nowhere" in captured.err


GALAXIES = "name,ra,dec,distance_mpc\nNGC 4993,197.45,-23.38,40.7\n"


def test_check_accepts_catalogues_that_can_be_read(
    empty_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_place / "galaxies.csv").write_text(GALAXIES)
    (empty_place / "mmgateway.toml").write_text(
        '[match]\ncatalogs = ["nearby_galaxies", "mine=galaxies.csv"]\n'
    )
    assert main(["config", "check"]) == 0
    assert "nearby_galaxies, mine=galaxies.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('catalogs = ["milky_way"]', ["milky_way", "name=path", "nearby_galaxies"]),
        ('catalogs = ["a=none.csv"]', ["none.csv"]),
        ('catalogs = ["a=bad.csv"]', ["bad.csv", "--ra and --dec"]),
        ('lsst_schemas = "nowhere"', ["lsst_schemas", "nowhere", "folder"]),
        ('lsst_schemas = "empty"', ["lsst_schemas", "empty has no"]),
        ('lsst_schemas = "ftp://x"', ["lsst_schemas", "http"]),
    ],
)
def test_check_tells_what_a_service_could_not_use(
    empty_place: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]
) -> None:
    (empty_place / "bad.csv").write_text("a,b\n1,2\n")
    (empty_place / "empty").mkdir()
    (empty_place / "mmgateway.toml").write_text(f"[match]\n{text}\n")
    assert main(["config", "check"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("mmgateway: mmgateway.toml: [match] ")
    assert all(word in sentence for word in words), sentence


def test_check_tells_a_demand_that_no_catalogue_answers(
    empty_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_place / "mmgateway.toml").write_text('[chains.grb]\ndemands = "cuts0"\n')
    assert main(["config", "check"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("mmgateway: mmgateway.toml: [chains.grb] demands: simbad looks at")
    assert "[cds] catalogs with enabled = true" in sentence


def test_check_reads_the_feeds_too(empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty_place / "feeds").mkdir()
    (empty_place / "feeds" / "mine.toml").write_text("[feed\n")
    (empty_place / "mmgateway.toml").write_text('[paths]\nfeeds = ["feeds"]\n')
    assert main(["config", "check"]) == 2
    assert "mine.toml" in capsys.readouterr().err


def test_shown_configuration_is_toml_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMGATEWAY_GCN__CLIENT_SECRET", "hush")
    assert main(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert "hush" not in text
    shown = tomllib.loads(text)
    assert shown["gcn"]["client_secret"] == "***"
    assert shown["chains"]["grb"]["level"] == 0.99


def test_configuration_named_by_the_environment(
    empty_place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_place / "other.toml").write_text("[kafka]\nport = 4242\n")
    monkeypatch.setenv("MMGATEWAY_CONFIG", "other.toml")
    assert main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kafka"]["port"] == 4242


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mmgateway ")
