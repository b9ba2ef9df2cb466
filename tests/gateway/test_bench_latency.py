"""``mmgateway bench latency``: its packets, and the rows that it tells."""

from __future__ import annotations

import io
import json

import fastavro
import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.bench import alertpackets, latency
from gateway.bench.alertpackets import ENTRIES, Alerts
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
