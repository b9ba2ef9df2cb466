"""CDS is down while candidates are found: they go out at once, and hear of it later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker import topics
from broker.codec import decode
from broker.ledger import alert_hole
from gateway.cli import main
from tests.catalogs import cds_server
from tests.catalogs.cds_server import CdsServer
from tests.integration.streaming import region

from . import killing, packets
from .conftest import Gateway, running, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SETTINGS = """
[cds]
enabled = true
url = "{url}"
tap_url = ""
timeout_seconds = 5.0
per_minute = 600.0
[match]
alert_topics_lsst = []
"""
RA, DEC = packets.GBM_PLACE
N = 12
TOPIC = "alerts.ztf"


@pytest.fixture
def cds(monkeypatch: pytest.MonkeyPatch) -> Iterator[CdsServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with cds_server.running() as server:
        server.mood = "down"
        for number in range(0, N, 2):
            server.add(f"Star {number}", RA + number / 10, DEC + 0.4 / 3600)
        yield server


@pytest.fixture
def gateway(tmp_path: Path, cds: CdsServer) -> Iterator[Gateway]:
    settings = SETTINGS.format(url=cds.url)
    with running(tmp_path, settings, ("kafka", "match")) as started:
        yield started


def _statements(gateway: Gateway) -> list[dict[str, Any]]:
    return [decode(value) for value in gateway.messages(topics.candidates("grb"))]


def _looked_up(gateway: Gateway) -> dict[str, str]:
    """By object, as it was said last."""
    return {s["id"]: s["looked_up"] for s in _statements(gateway)}


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The command in this process, which has loaded everything."""

    def ask(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["--config", str(gateway.path), *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return ask


def test_candidates_do_not_wait_for_cds_and_none_is_forgotten(
    gateway: Gateway, cds: CdsServer, ask: Ask
) -> None:
    gateway.send(topics.REGION_LOG, [region()])
    alerts = [packets.alert(100 * (n + 1), RA + n / 10, DEC) for n in range(N)]
    gateway.send(TOPIC, alerts)
    assert until(lambda: len(_looked_up(gateway)) == N)
    assert set(_looked_up(gateway).values()) == {"simbad:not_looked_up"}
    assert ask("catalogs", "backfill", "status")["awaited"] == {"simbad": N}

    state = gateway.config.paths.state
    old = killing.pid_of(state, "match")
    assert killing.kill(killing.everything(state, "match"))
    cds.mood = "well"
    ran = ask("catalogs", "backfill", "run")
    assert (ran["answered"], ran["left"], len(cds.asked[-1])) == ({"simbad": N}, {}, N)
    asked = len(cds.asked)
    assert ask("catalogs", "backfill", "status")["answers_on_the_way"] == N
    assert until(lambda: killing.is_back(state, "match", old))
    assert until(lambda: set(_looked_up(gateway).values()) == {"simbad"})
    assert ask("catalogs", "backfill", "status")["awaited"] == {}

    said = _statements(gateway)
    latest = {s["id"]: s for s in said}
    assert len({s["candidate_id"] for s in said}) == len(said) == 2 * N
    assert sum(bool(s["nearby"]) for s in latest.values()) == N // 2
    assert {s["reason"] for s in latest.values()} == {"looked_up"}
    assert len(cds.asked) == asked, "what is on the way is not asked about again"
    counts = gateway.ledger("alerts")
    assert (counts["received"], counts["lookups"], alert_hole(counts)) == (N, N, 0)
    assert ask("reprocess", "--from", "2026-01-01")["identical"] is True
