"""The short form of ``make chaos`` and ``make interleavings``: one gateway, a few kills."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

KILLS, INTERLEAVINGS = 3, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome, and what was printed last."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    options = {
        "kills": KILLS,
        "interleavings": INTERLEAVINGS,
        "scale": 1000,
        "gap": 1,
        "folder": folder,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.run", "--json", "--kafka-first", *arguments],
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
        cwd=ROOT,
    )
    assert done.stdout, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"status": done.returncode, "left": list(folder.iterdir())}


def test_whatever_is_killed_the_answer_is_that_of_a_batch(run: dict[str, Any]):
    failed = [c for part in run["parts"] for c in part["checks"] if not c["ok"]]

    assert failed == [], run["folder"]
    assert [part["ok"] for part in run["parts"]] == [True, True]


def test_services_were_killed_and_came_back(run: dict[str, Any]):
    night, interleavings = run["parts"]

    assert night["kills"] == KILLS
    assert interleavings["count"] == INTERLEAVINGS
    assert night["shots"][0]["service"] == "kafka"
    assert night["shots"][0]["recovery_s"] > 0


def test_there_was_something_to_lose(run: dict[str, Any]):
    assert run["parts"][0]["statements"] > 10


def test_the_verdict_is_the_exit_status_and_a_sentence(run: dict[str, Any]):
    assert run["status"] == 0
    assert run["verdict"].startswith(f"chaos: PASS {KILLS} kills, {INTERLEAVINGS} interleavings")
    assert run["left"] == []
