"""What a whole gateway published is made once more from what it kept, while it runs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from broker import topics
from broker.codec import decode
from crossmatch import sky
from crossmatch.model import MultiOrderMap
from crossmatch.skymap import write_skymap
from tests.endtoend import packets
from tests.endtoend.conftest import Gateway, running, until
from voevents.digest import event_digest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ALERTS = "alerts.ztf"
RA, DEC = packets.GBM_PLACE
SETTINGS = """
[match]
max_offsets_per_trigger = 40
"""
STRICT = """
[cuts]
min_real_bogus = 0.8
min_deep_real_bogus = 0.8
"""
GW = json.loads((Path(__file__).parents[1] / "data/notices/gwalert.json").read_bytes())
OBJECTS, VISITS = 40, 3


def _alerts() -> list[bytes]:
    """Objects inside and outside, some with a history, every fourth of them doubtful."""
    rng = np.random.default_rng(11)
    made = []
    for number in range(1, OBJECTS + 1):
        ra, dec = RA + rng.uniform(-9, 9), DEC + rng.uniform(-9, 9)
        doubtful = {"rb": 0.6, "drb": 0.35} if number % 4 == 0 else {}
        for visit in range(VISITS):
            row = packets.record(
                100 * number + visit, ra, dec, 1 + visit / 7, magpsf=18 + visit / 5, **doubtful
            )
            if visit:
                row["prv_candidates"] = [packets.previous(0.6), packets.previous(0.9)]
            made.append(packets.container(row))
    return [made[i] for i in rng.permutation(len(made))]


def _wave(serial: int, ra: float) -> bytes:
    """A version of a gravitational wave, whose map is four large cells around a place."""
    cell = 4 ** (29 - 4)
    places = [(ra, DEC), (ra + 4, DEC), (ra, DEC + 4), (ra - 4, DEC - 4)]
    start = np.unique(sky.ipix29(*np.array(places).T) // cell * cell)
    share = np.linspace(1, 2, len(start))
    one = MultiOrderMap(
        start,
        start + cell,
        share / share.sum() / (cell * sky.PIXEL_SR),
        distmu=np.full(len(start), 40.0),
        distsigma=np.full(len(start), 8.0),
        distnorm=np.full(len(start), 6e-4),
    )
    text = base64.b64encode(write_skymap(one, {"DISTMEAN": 40.0, "DISTSTD": 8.0})).decode()
    kind = ("PRELIMINARY", "INITIAL", "UPDATE")[serial]
    record = GW | {"alert_type": kind, "time_created": f"2026-01-02T03:1{serial}:00Z"}
    record |= {"event": GW["event"] | {"skymap": text}, "external_coinc": None}
    return json.dumps(record).encode()


def _published(gateway: Gateway) -> list[dict[str, Any]]:
    names = [topics.candidates("grb"), topics.candidates("gw")]
    return [decode(value) for name in names for value in gateway.messages(name)]


def _tell(gateway: Gateway) -> None:
    """Alerts and notices in turn, a restart, a verdict and a revised map."""
    values = _alerts()
    parts = [values[i : i + 40] for i in range(0, len(values), 40)]
    notices = [[packets.notice()], [_wave(0, RA)], [_wave(1, RA + 6)]]
    feeds = [packets.GBM_TOPIC, "igwn.gwalert", "igwn.gwalert"]
    for number, (part, said, feed) in enumerate(zip(parts, notices, feeds, strict=True), 1):
        gateway.send(ALERTS, part)
        assert until(lambda n=40 * number: gateway.ledger("alerts").get("received") == n)
        gateway.send(feed, said)
        assert until(lambda n=number: gateway.ledger("notices").get("region") == n)
        assert until(gateway.searched)
        if number == 1:
            assert gateway.command("down", "match").returncode == 0
            assert gateway.command("up", "match").returncode == 0
    assert until(lambda: any(s["state"] == "withdrawn" for s in _published(gateway)))
    name = next(s["counterpart_id"] for s in _published(gateway) if s["state"] == "in_force")
    done = gateway.command("verdict", name, "supernova")
    assert done.returncode == 0, done.stderr
    assert until(lambda: any(s["reason"] == "verdict" for s in _published(gateway)))


def _reprocessed(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    span = ("--from", "2026-01-01", "--to", "2026-01-05", "--json")
    done = gateway.command("reprocess", *span, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _check_provenance(gateway: Gateway, statements: list[dict[str, Any]]) -> None:
    """Each statement's digests are those of a notice, a map and a packet that were sent."""
    sent = gateway.messages(topics.NOTICES)
    # Of a VOEvent it is that of its element: brokers change what stands around it.
    kept = {event_digest(value).hex() for value in sent}
    assert len(kept) == len(sent) == 3
    packet_of = {}
    for value in gateway.messages(ALERTS):
        packet_of[str(decode(value)["candid"])] = hashlib.sha256(value).hexdigest()
    for one in statements:
        assert one["notice_sha256"] in kept
        assert one["alert_sha256"] == packet_of[one["alert_id"]]
        if one["messenger"] == "gw":
            file = gateway.config.paths.state / "skymaps" / f"{one['skymap_sha256']}.fits"
            assert hashlib.sha256(file.read_bytes()).hexdigest() == one["skymap_sha256"]
    assert {s["messenger"] for s in statements} == {"gw", "grb"}


def _forget_packets(gateway: Gateway) -> None:
    """Kafka deletes what it has of the alerts."""
    places = [TopicPartition(ALERTS, n, OFFSET_END) for n in range(4)]
    # Named, for what it was asked to do ends with it.
    admin = AdminClient({"bootstrap.servers": gateway.bootstrap})
    for done in admin.delete_records(places).values():
        done.result(60)


def test_statements_of_a_running_gateway_are_made_once_more(tmp_path: Path):
    strict = tmp_path / "strict.toml"
    with running(tmp_path, SETTINGS, ["kafka", "listen", "match"]) as gateway:
        strict.write_text(gateway.path.read_text("utf-8") + STRICT, "utf-8")
        _tell(gateway)
        statements = _published(gateway)
        _check_provenance(gateway, statements)

        first = _reprocessed(gateway, "--out", str(tmp_path / "one"))
        assert first["identical"]
        assert sum(e["identical"] for e in first["events"]) == len(statements) > 30

        # Now the light curves and digests come from the packets that the gateway kept.
        _forget_packets(gateway)
        _reprocessed(gateway, "--out", str(tmp_path / "two"))
        for name in ("statements.avro", "statements.parquet"):
            one, two = (tmp_path / folder / name for folder in ("one", "two"))
            assert one.read_bytes() == two.read_bytes()

        in_force = {(s["event_id"], s["id"]): s for s in statements}
        mine = {key for key, s in in_force.items() if s["state"] == "in_force"}
        other = _reprocessed(gateway, "--config", str(strict))
        gone = [c for c in other["changes"] if c["kind"] == "goes"]
        assert other["in_force_before"] == len(mine)
        assert other["in_force_after"] == len(mine) - len(gone) < len(mine)
        assert {c["reasons"][0].split(" (")[0] for c in gone} == {"cut by real_bogus"}
