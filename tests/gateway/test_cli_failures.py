"""What an operator sees when something is missing: one sentence and the right exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVICES = ("listen", "match", "publish")
# Nobody listens on port 1.
NO_KAFKA = {"MMGATEWAY_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
FULL_DISK = """\
import shutil, sys
usage = shutil.disk_usage
shutil.disk_usage = lambda path: usage(path)._replace(free=7 * 2**20)
from gateway.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "gateway.cli"), **over: str
) -> subprocess.Popen[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MMGATEWAY_")}
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | over,
    )


def sentence(process: subprocess.Popen[str], status: int) -> str:
    """The one sentence of a process that ended with ``status``."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    lines = [line for line in said.splitlines() if line.startswith("mmgateway: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return lines[0]


@pytest.mark.parametrize("command", SERVICES)
def test_no_embedded_kafka_is_told_at_once(tmp_path: Path, command: str) -> None:
    assert "mmgateway up kafka" in sentence(start(tmp_path, command), 1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", [*SERVICES, "up"])
def test_kafka_that_does_not_answer_is_told_within_ten_seconds(
    tmp_path: Path, command: str
) -> None:
    began = time.monotonic()
    said = sentence(start(tmp_path, command, **NO_KAFKA), 1)
    assert time.monotonic() - began < 10
    assert "127.0.0.1:1" in said
    assert "[kafka] bootstrap" in said


@pytest.mark.parametrize("command", ["listen", "up", "config check"])
def test_gcn_without_credentials_is_told_with_the_remedy(tmp_path: Path, command: str) -> None:
    (tmp_path / "mmgateway.toml").write_text("[gcn]\nenabled = true\n")
    said = sentence(start(tmp_path, *command.split()), 2)
    assert "client_id" in said
    assert "gcn.nasa.gov" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka\n", "not valid TOML"),
        ("[kafka]\nprot = 1\n", "[kafka] prot"),
        ("[listen]\npoll_seconds = '1'\n", "[listen] poll_seconds"),
    ],
)
def test_wrong_configuration_is_status_2(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mmgateway.toml").write_text(text)
    assert words in sentence(start(tmp_path, "listen"), 2)


def test_missing_configuration_is_status_2(tmp_path: Path) -> None:
    said = sentence(start(tmp_path, "--config", "none.toml", "up"), 2)
    assert "mmgateway config init none.toml" in said


@pytest.mark.parametrize("command", [*SERVICES, "kafka", "up"])
def test_state_that_cannot_be_written_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    said = sentence(start(tmp_path, command, MMGATEWAY_PATHS__STATE="file/state"), 1)
    assert "file/state" in said
    assert "[paths] state" in said


@pytest.mark.parametrize("command", ["listen", "match", "kafka", "up"])
def test_nearly_full_disk_is_told(tmp_path: Path, command: str) -> None:
    said = sentence(start(tmp_path, command, program=("-c", FULL_DISK)), 1)
    assert "7 MiB free" in said
    assert "500 MiB" in said


def test_publisher_keeps_nothing_and_asks_for_no_room(tmp_path: Path) -> None:
    said = sentence(start(tmp_path, "publish", program=("-c", FULL_DISK)), 1)
    assert "mmgateway up kafka" in said
