"""The demo's night with CDS up, and with CDS down until the morning: the same in the end.

``MMGATEWAY_CDS_NIGHT`` sets how many alerts the night has.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from broker import kafka_io, topics
from broker.codec import decode
from broker.fold import STATEMENT_COLUMNS
from broker.ledger import alert_hole, notice_hole
from broker.writer import read_marker
from gateway.night.alerts import SEED, alert_positions, alerts
from gateway.night.notices import notices
from gateway.night.play import Player, Sent
from gateway.night.screen import Bar, Screen
from gateway.night.tell import Teller
from gateway.night.timeline import Schedule
from gateway.night.watch import Watcher
from gateway.offline import lookups
from tests.catalogs import cds_server
from tests.catalogs.cds_server import CdsServer

from .conftest import Gateway, running, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        "MMGATEWAY_CDS_NIGHT" not in os.environ,
        reason="takes minutes: make cds, or MMGATEWAY_CDS_NIGHT=3000",
    ),
]

SCALE = int(os.environ.get("MMGATEWAY_CDS_NIGHT", "3000"))
SECONDS = 30.0
# One chain withdraws what lies near a source of Simbad's, so that answers decide what is in force.
SETTINGS = """
[cds]
enabled = true
url = "{url}"
tap_url = ""
timeout_seconds = 20.0
per_minute = 600.0
[match]
catalogs = ["nearby_galaxies"]
alert_topics_lsst = []
[selections.unknown_to_simbad]
cuts = ["far_from"]
[chains.grb]
demands = "unknown_to_simbad"
"""
Candidates = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Morning:
    """What is in force, how often each statement is there, and what became of what came in."""

    in_force: Candidates
    statements: Counter[str]
    alerts: dict[str, int]
    notices: dict[str, int]
    adds_up: bool


def _simbad(cds: CdsServer) -> None:
    """A source at every third object of the night."""
    places = sorted(set(zip(*(c.round(4).tolist() for c in alert_positions(SCALE)), strict=True)))
    for number, (ra, dec) in enumerate(places[::3]):
        cds.add(f"Source {number}", ra, dec, main_type="AGN")


def _statements(gateway: Gateway) -> list[dict[str, Any]]:
    return [decode(v) for name in topics.all_candidates() for v in gateway.messages(name)]


def _in_force(statements: list[dict[str, Any]]) -> Candidates:
    latest: Candidates = {}
    for one in sorted(statements, key=lambda one: one["record_number"]):
        latest[one["event_id"], one["id"]] = one
    return {
        key: {name: value for name, value in one.items() if name not in STATEMENT_COLUMNS}
        for key, one in latest.items()
        if one["state"] == "in_force"
    }


def _play(gateway: Gateway) -> Sent:
    sent, teller = Sent(), Teller(Screen(Console(file=StringIO())))
    watcher = Watcher(gateway.bootstrap, sent.times, teller.region, teller.statement)
    watcher.start()
    try:
        player = Player(gateway.config, gateway.bootstrap, sent, teller, watcher, Bar(), SCALE)
        player.play(Schedule.of_night(SECONDS), notices(SEED), list(alerts(SCALE, SEED)))
    finally:
        watcher.stop()
    assert watcher.failure is None
    return sent


def _is_worked_through(gateway: Gateway, sent: Sent) -> bool:
    """Whether all that was sent was taken in, and nothing is left to search for."""
    marker = read_marker(gateway.bootstrap, {})
    regions = list(kafka_io.read_all(gateway.bootstrap, {}, topics.REGION_LOG))
    return (
        gateway.ledger("notices").get("received") == sent.notices
        and gateway.ledger("alerts").get("received") == sent.alerts
        and marker is not None
        and all(one.offset < marker.regions_next for one in regions)
        and gateway.searched()
    )


def _nothing_is_awaited(gateway: Gateway) -> bool:
    found = lookups.waiting(gateway.config, gateway.bootstrap)
    return not found.questions and not found.on_the_way


def _night(folder: Path, mood: str) -> Morning:
    """The night while CDS is in a mood; in the morning it is well."""
    folder.mkdir()
    with cds_server.running() as cds:
        _simbad(cds)
        cds.mood = mood
        with running(folder, SETTINGS.format(url=cds.url), ("kafka", "listen", "match")) as gateway:
            sent = _play(gateway)
            assert until(lambda: _is_worked_through(gateway, sent), 300)
            if mood != "well":
                assert cds.asked
                told = {one["looked_up"] for one in _in_force(_statements(gateway)).values()}
                assert all("simbad:not_looked_up" in one for one in told)
                cds.mood = "well"
                done = gateway.command("catalogs", "backfill", "run")
                assert done.returncode == 0, done.stdout + done.stderr
            assert until(lambda: _nothing_is_awaited(gateway), 120)
            said = _statements(gateway)
            checked = gateway.command("ledger", "--json")
            return Morning(
                _in_force(said),
                Counter(one["candidate_id"] for one in said),
                gateway.ledger("alerts"),
                gateway.ledger("notices"),
                json.loads(checked.stdout)["adds_up"],
            )


def test_with_cds_down_all_night_the_candidates_are_in_the_end_as_with_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    up, down = _night(tmp_path / "up", "well"), _night(tmp_path / "down", "down")

    assert down.in_force == up.in_force
    assert {one["looked_up"] for one in down.in_force.values()} == {"nearby_galaxies,simbad"}
    near = [one for one in down.in_force.values() if "simbad" in " ".join(one["nearby"] or ())]
    assert len(down.in_force) > len(near) > 0
    assert not [one for one in near if one["messenger"] == "grb"]
    for morning in (up, down):
        assert set(morning.statements.values()) == {1}
        assert morning.alerts["received"] == SCALE
        assert (alert_hole(morning.alerts), notice_hole(morning.notices)) == (0, 0)
        assert morning.adds_up
    print(
        f"{SCALE} alerts, {len(down.in_force)} candidates in force, {len(near)} near a source of"
        f" Simbad's; {len(up.statements)} statements with CDS up, {len(down.statements)} down"
    )
