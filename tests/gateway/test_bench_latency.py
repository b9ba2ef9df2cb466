"""``mmgateway bench latency``: its packets, and the rows that it tells."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import fastavro
import numpy as np
import pytest
import requests
from typer.testing import CliRunner

from catalogs.cds import CdsClient, Place, Settings
from crossmatch.errors import ServiceError
from gateway.bench import alertpackets, latency, slowcds
from gateway.bench.alertpackets import ENTRIES, Alerts
from gateway.bench.measure import OURS
from gateway.cli import app


def alerts(n: int) -> Alerts:
    rng = np.random.default_rng(5)
    return Alerts(
        alert_id=np.arange(n) * 7 + 10**15,
        object_number=np.arange(n) % 3,
        time_jd=2461360.5 + np.arange(n),
        ra_deg=rng.uniform(0, 360, n),
        dec_deg=rng.uniform(-90, 90, n),
        mag=rng.uniform(17, 20, n),
    )


@pytest.mark.parametrize(("stamps", "least"), [(0, 7_000), (20_000, 67_000)])
def test_any_reader_of_avro_reads_what_was_asked_for(stamps, least):
    asked = alerts(40)
    packets = alertpackets.ztf(asked, stamps)

    read = [next(fastavro.reader(io.BytesIO(packet))) for packet in packets]

    candidates = [record["candidate"] for record in read]
    for name, values in (
        ("candid", asked.alert_id),
        ("jd", asked.time_jd),
        ("ra", asked.ra_deg),
        ("dec", asked.dec_deg),
    ):
        assert [c[name] for c in candidates] == values.tolist()
    assert [c["magpsf"] for c in candidates] == pytest.approx(asked.mag.tolist(), abs=1e-5)
    assert {record["objectId"] for record in read} == {f"ZTF26{i:07d}" for i in range(3)}
    assert all(least < len(packet) < least + 5_000 for packet in packets)
    past = read[0]["prv_candidates"] or []
    assert len(past) == (ENTRIES if stamps else 0)
    assert all(0 < asked.time_jd.min() - entry["jd"] < 30 for entry in past)
    assert len((read[0]["cutoutScience"] or {"stampData": b""})["stampData"]) == stamps


def test_packets_follow_from_the_seed():
    one, same, other = (alertpackets.ztf(alerts(2), 500, seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_alerts_come_from_a_circle_that_holds_them(monkeypatch):
    monkeypatch.setattr(latency.kafka_io, "producer", lambda *_: None)
    sender = latency._Sender("", latency.Sizes(), latency._Heard())
    made = [next(sender._packets) for _ in range(120)]

    assert len({name for name, _ in made}) == 120
    for name, packet in made[::17]:
        candidate = next(fastavro.reader(io.BytesIO(packet)))["candidate"]
        assert str(candidate["candid"]) == name
        east = (candidate["ra"] - 238.41) * np.cos(np.radians(candidate["dec"]))
        assert np.hypot(east, candidate["dec"] + 0.18) < latency._RADIUS_DEG


def test_the_command_tells_quantiles(monkeypatch):
    def cases(folder, sizes, archive=None, tell=None):
        assert (sizes.per_second, sizes.candidates, archive) == (100.0, 20, None)
        return [latency._row("alone", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], sizes)]

    monkeypatch.setattr(latency, "cases", cases)
    done = CliRunner().invoke(
        app, ["bench", "latency", "--rate", "100", "--candidates", "20", "--json"]
    )

    assert done.exit_code == 0, done.output
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["bench"], row["case"], row["items"]) == ("latency", "alone", 1)
    assert (row["seconds"], row["facts"]["measured"], row["facts"]["p50_s"]) == (0.2, 3, 0.2)
    assert (len(row["quantiles_s"]), row["quantiles_s"][0], row["quantiles_s"][-1]) == (
        101,
        0.1,
        0.3,
    )
    assert row["facts"]["p50_ratio"] == 1.0


def said(alert: int, **changed: object) -> dict[str, object]:
    fields = {"alert_id": str(alert), "reason": "new_candidate", "tier": "gold"}
    return fields | {"alert_datetime": "now", "looked_up": "simbad:not_looked_up"} | changed


def test_the_first_statement_about_an_alert_is_what_is_measured_and_compared():
    heard = latency._Heard()
    heard.note(said(1), 10.0)
    heard.note(said(1, reason="looked_up", looked_up="simbad", tier="bronze"), 22.0)
    assert heard.by_alert == {"1": 10.0}
    assert heard.first == {"1": {"alert_id": "1", "reason": "new_candidate", "tier": "gold"}}
    assert heard.looked_up == 1


class Turns:
    """Stands in for gateways: candidates after 1 s, beside CDS after 2 s."""

    def __init__(self, monkeypatch, tier: str = "gold", answers: int = 3) -> None:
        self.played: list[tuple[str, int, bool]] = []
        self._tier, self._answers = tier, answers
        monkeypatch.setattr(latency, "_turn", self)

    def __call__(self, folder, sizes, cds, tell):
        assert list(folder.iterdir()) == []
        self.played.append((folder.name, sizes.candidates, cds is not None))
        heard = latency._Heard()
        heard.note(said(1, tier="gold" if cds is None else self._tier), 0.0)
        if cds is not None:
            heard.note(said(1, reason="looked_up"), 9.0)
            cds.answers, cds.places = self._answers, 4
        return [1.0 + (cds is not None)] * sizes.candidates, heard


def test_gateways_with_and_without_cds_take_turns(tmp_path, monkeypatch):
    turns = Turns(monkeypatch)
    alone, slow = latency.beside_cds(tmp_path, latency.Sizes(candidates=21), 10.0)

    assert turns.played == [
        ("0-without", 11, False), ("0-slow", 11, True), ("1-slow", 11, True),
        ("1-without", 11, False),
    ]  # fmt: skip
    assert (alone.subject, slow.subject) == (OURS, f"{OURS}, CDS takes 10 s an answer")
    assert (alone.case, slow.case) == ("alone", "alone")
    assert (alone.equal, slow.equal) == (None, True)
    assert (alone.facts["measured"], slow.facts["measured"]) == (22, 22)
    assert (alone.facts["p99_s"], slow.facts["p50_s"], slow.facts["p99_ratio"]) == (1.0, 2.0, 2.0)
    assert slow.ratio_to_ours == 2.0
    assert {k: slow.facts[k] for k in ("cds_answers", "cds_places", "cds_updates")} == {
        "cds_answers": 6, "cds_places": 8, "cds_updates": 2,
    }  # fmt: skip


def test_other_candidates_beside_cds_are_not_equal(tmp_path, monkeypatch):
    Turns(monkeypatch, tier="bronze")
    assert latency.beside_cds(tmp_path, latency.Sizes(), 1.0, turns=1)[1].equal is False


def test_a_cds_that_nobody_asked_measures_nothing(tmp_path, monkeypatch):
    Turns(monkeypatch, answers=0)
    with pytest.raises(ServiceError, match="nothing was asked of the slow CDS"):
        latency.beside_cds(tmp_path, latency.Sizes(), 1.0, turns=1)


def test_the_slow_server_answers_as_cds_does(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    places = [Place("MM-A", 10.5, -20.25), Place("MM-B", 359.999, 89.0)]
    with slowcds.serving(0.0) as cds:
        client = CdsClient(Settings(cds.url, per_minute=6000.0))
        answers = client.ask("simbad", places)
    assert [[s.name for s in one.sources] for one in answers] == [["Star 0"], ["Star 1"]]
    assert (cds.answers, cds.places) == (1, 2)


def test_who_waits_for_the_slow_server_is_let_go_at_its_end(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = threading.Event()
    monkeypatch.setattr(slowcds, "_PLACE", Noted(asked))
    with ThreadPoolExecutor(1) as pool:
        with slowcds.serving(3600.0) as cds:
            waiting = pool.submit(requests.post, cds.url, data=b"0,1.0,2.0\n")
            assert asked.wait(10)
        with pytest.raises(requests.ConnectionError):
            waiting.result(10)
    assert cds.answers == 0


class Noted:
    """Says that a body was looked at."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked

    def findall(self, body: bytes) -> list[object]:
        self._asked.set()
        return []


@pytest.mark.parametrize(("options", "expected"), [([], (50, 2)), (["--small"], (200, 1))])
def test_the_command_runs_beside_a_slow_cds(monkeypatch, options, expected):
    def beside_cds(folder, sizes, seconds, *, turns, tell):
        assert (sizes.candidates, turns, seconds) == (*expected, 7.5)
        return latency._cds_rows(sizes, seconds, {False: [0.1], True: [0.2]}, True, {})

    monkeypatch.setattr(latency, "beside_cds", beside_cds)
    command = ["bench", "latency", "--candidates", "50", "--cds-seconds", "7.5", "--json"]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["subject"] for row in rows] == [OURS, f"{OURS}, CDS takes 7.5 s an answer"]
