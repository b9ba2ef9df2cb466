"""The night of 17 August 2017 by the command that a newcomer types first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ENV_PREFIX
from gateway.night.facts import facts
from gateway.runfiles import endpoint

from .conftest import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

SOURCE = facts()["kilonova"]["object_id"]
GW, GRB = "S170817a", "Fermi_524666471"
SCALE = 3000


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    # A gateway that is configured here must not change the demonstration.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    environ |= {f"{ENV_PREFIX}CUTS__ENABLED": "false", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo", "--scale", str(SCALE), "--json"],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
        cwd=folder,
        env=environ,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert endpoint(folder / "mmgateway-demo/data", "supervisor") is None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert len(done.stdout.splitlines()) == 1
    return result | {"folder": folder / "mmgateway-demo"}


def _of(night: dict[str, Any], event: str, object_id: str) -> dict[str, Any]:
    (found,) = [
        c for c in night["candidates"] if (c["event_id"], c["object_id"]) == (event, object_id)
    ]
    return found


def test_the_result_says_everything_that_it_promises(night: dict[str, Any]):
    promised = {"alerts", "notices", "candidates", "associations", "voevents", "ledger", "latency"}

    assert promised <= set(night)
    assert night["alerts"] == SCALE
    assert night["dead_letters"] == 0


def test_the_kilonova_is_first_and_in_force(night: dict[str, Any]):
    best = night["candidates"][0]

    assert (best["object_id"], best["event_id"]) == (SOURCE, GW)
    assert (best["rank"], best["state"], best["tier"]) == (1, "in_force", "gold")


def test_the_kilonova_is_one_counterpart_of_the_merger_and_of_the_burst(night: dict[str, Any]):
    gw, grb = (_of(night, event, SOURCE) for event in (GW, GRB))

    assert gw["counterpart_id"] == grb["counterpart_id"]
    assert grb["state"] == "in_force"
    assert grb["credible_level"] == pytest.approx(0.97, abs=0.01)
    best = night["associations"][0]
    assert {e["event_id"] for e in best["events"]} == {GW, GRB}
    # The burst began 1.74 s after the merger; the detector triggered 0.3 s into it.
    assert best["time_differences_s"] == [pytest.approx(2.04, abs=0.05)]


def test_nothing_is_in_force_for_tests_and_invented_retracted_events(night: dict[str, Any]):
    in_force = {c["event_id"] for c in night["candidates"] if c["state"] == "in_force"}

    assert not {e for e in in_force if e.endswith("170817zzz")}


def test_no_other_event_has_more_than_bronze(night: dict[str, Any]):
    others = {
        (c["event_id"], c["object_id"]): c["tier"]
        for c in night["candidates"]
        if c["state"] == "in_force" and c["event_id"] not in (GW, GRB)
    }

    assert {pair: tier for pair, tier in others.items() if tier != "bronze"} == {}


def test_the_first_map_named_candidates_that_the_better_one_withdrew(night: dict[str, Any]):
    assert night["withdrawn"][GW]["outside_revised_region"] > 0


def test_everything_is_accounted_for(night: dict[str, Any]):
    ledger = night["ledger"]

    assert ledger["alerts_unaccounted"] == ledger["notices_unaccounted"] == 0
    assert ledger["alerts"]["received"] == SCALE
    assert night["voevents"]["made"] == night["statements"]
    assert night["voevents"]["broadcast"] == night["voevents"]["received_by_vtp"] > 0


def test_latencies_were_measured(night: dict[str, Any]):
    for name in ("notice_to_region_s", "alert_to_candidate_s"):
        assert night["latency"][name]["n"] > 0
        assert 0 < night["latency"][name]["p50"] <= night["latency"][name]["p99"]


def test_the_pictures_and_tables_lie_in_the_folder(night: dict[str, Any]):
    folder: Path = night["folder"]

    assert (folder / "night.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "result.json").read_text("utf-8"))["alerts"] == SCALE
