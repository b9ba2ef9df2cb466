"""CDS is down while candidates are found: they go out at once, and hear of it later.

Their chain demands Fink's cuts1 of them, and the funnels of cuts tell what each cut removed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
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
[chains.grb]
demands = "cuts1"
"""
RA, DEC = packets.GBM_PLACE
N = 12
TOPIC = "alerts.ztf"
Place = tuple[float, float]
# What becomes of objects besides the N that pass: places, and what their alerts say.
OTHERS: dict[str, tuple[list[Place], dict[str, Any]]] = {
    "not_positive": ([(RA + n / 10, DEC + 1) for n in range(5)], {"isdiffpos": "f"}),
    "star": ([(RA, DEC - 1)], {"distpsnr1": 0.5, "sgscore1": 0.99}),
    "outside of all regions": ([(RA + 90, DEC + n) for n in range(4)], {}),
    "first_detected": (
        [(RA - n / 10, DEC + 2) for n in range(3)], {"jdstarthist": packets.TRIGGER_JD - 3},
    ),
    "separation_fermi": ([(RA, DEC + 6), (RA, DEC - 6)], {}),
}  # fmt: skip
WITHHELD = sum(len(OTHERS[name][0]) for name in ("first_detected", "separation_fermi"))


def _alerts() -> tuple[list[bytes], list[bytes]]:
    """First alerts of all objects, and second ones of two: of one that passes, and of one not."""
    once = {"jdstarthist": packets.TRIGGER_JD + 1.0, "ndethist": 1}
    places: list[tuple[Place, dict[str, Any]]] = [((RA + n / 10, DEC), once) for n in range(N)]
    places += [(place, changed) for some, changed in OTHERS.values() for place in some]
    first = [packets.alert(100 * (n + 1), *at, **more) for n, (at, more) in enumerate(places)]
    second = [
        packets.alert(100 * (n + 1) + 1, *places[n][0], 1.1, **places[n][1])
        for n in (0, len(places) - 1)
    ]
    return first, second


FIRST, SECOND = _alerts()


@pytest.fixture(scope="module")
def cds() -> Iterator[CdsServer]:
    with pytest.MonkeyPatch.context() as patch, cds_server.running() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        server.mood = "down"
        for number in range(0, N, 2):
            server.add(f"Star {number}", RA + number / 10, DEC + 0.4 / 3600)
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, cds: CdsServer) -> Iterator[Gateway]:
    """All alerts were taken in, and N candidates told of."""
    settings = SETTINGS.format(url=cds.url)
    with running(tmp_path_factory.mktemp("gateway"), settings, ("kafka", "match")) as started:
        started.send(topics.REGION_LOG, [region()])
        for alerts in (FIRST, SECOND):
            before = started.ledger("alerts").get("received", 0)
            started.send(TOPIC, alerts)
            assert until(partial(_has_received, started, before + len(alerts)))
        assert until(lambda: len(_looked_up(started)) == N)
        yield started


def _has_received(gateway: Gateway, alerts: int) -> bool:
    return gateway.ledger("alerts").get("received") == alerts


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
    # What is withheld is asked about too: it may pass one day.
    awaited = N + WITHHELD
    assert set(_looked_up(gateway).values()) == {"simbad:not_looked_up"}
    assert ask("catalogs", "backfill", "status")["awaited"] == {"simbad": awaited}
    before = len(_statements(gateway))

    state = gateway.config.paths.state
    old = killing.pid_of(state, "match")
    assert killing.kill(killing.everything(state, "match"))
    cds.mood = "well"
    ran = ask("catalogs", "backfill", "run")
    assert (ran["answered"], ran["left"], len(cds.asked[-1])) == (
        {"simbad": awaited}, {}, awaited,
    )  # fmt: skip
    asked = len(cds.asked)
    assert ask("catalogs", "backfill", "status")["answers_on_the_way"] == awaited
    assert until(lambda: killing.is_back(state, "match", old))
    assert until(lambda: set(_looked_up(gateway).values()) == {"simbad"})
    assert ask("catalogs", "backfill", "status")["awaited"] == {}

    said = _statements(gateway)
    latest = {s["id"]: s for s in said}
    assert len({s["candidate_id"] for s in said}) == len(said) == before + N
    assert sum(bool(s["nearby"]) for s in latest.values()) == N // 2
    assert {s["reason"] for s in latest.values()} == {"looked_up"}
    assert len(cds.asked) == asked, "what is on the way is not asked about again"
    counts = gateway.ledger("alerts")
    received = len(FIRST) + len(SECOND)
    assert (counts["received"], counts["lookups"], alert_hole(counts)) == (received, awaited, 0)
    assert ask("reprocess", "--from", "2026-01-01")["identical"] is True


def _levels(funnel: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """What each cut removed and left."""
    return {one["name"]: (one["removed"], one["left"]) for one in funnel["levels"]}


def test_funnels_tell_how_many_survive_each_cut(gateway: Gateway, ask: Ask) -> None:
    """Against counts over what was sent; the second alerts of two objects are no candidates."""
    sent = {name: len(places) for name, (places, _) in OTHERS.items()}
    removed_before = ("not_positive", "star", "outside of all regions")
    matched = N + WITHHELD + len(SECOND)

    period = ask("cuts", "funnel", "--since", "2026-01-01")
    found = _levels(period)
    assert found["received"] == (0, len(FIRST) + len(SECOND))
    assert {name: found[name][0] for name in removed_before} == {
        name: sent[name] for name in removed_before
    }
    assert found["outside of all regions"][1] == matched
    event = _levels(ask("cuts", "funnel", "--event", "Fermi_1"))
    inside = matched + sent["not_positive"] + sent["star"]
    assert event["in region and window"] == (0, inside)
    assert event["star"] == (sent["star"], matched)
    latest = {s["id"]: s["tier"] for s in _statements(gateway)}
    tiers = Counter(latest.values())
    for levels in (found, event):
        of_candidates = list(levels)[list(levels).index("in events") :]
        assert {name: levels[name] for name in of_candidates} == {
            "in events": (0, N + WITHHELD),
            "window (withheld)": (0, N + WITHHELD),
            "first_detected (withheld)": (sent["first_detected"], N + sent["separation_fermi"]),
            "separation_swift (withheld)": (0, N + sent["separation_fermi"]),
            "separation_fermi (withheld)": (sent["separation_fermi"], N),
            "silver or gold": (tiers["bronze"], N - tiers["bronze"]),
            "gold": (tiers["silver"], tiers["gold"]),
        }
    assert tiers["silver"] + tiers["gold"] == 1, "seen twice"
    assert ask("ledger")["adds_up"] is True
