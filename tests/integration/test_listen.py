"""The command, the supervisor, a real Kafka and the listener with all its doors."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker import kafka_io, topics
from broker.codec import decode
from broker.ledger import notice_hole
from gateway import runfiles

pytestmark = pytest.mark.integration

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "notices"
# Free ports, so that the test never speaks to a gateway that happens to run here.
CONFIGURATION = """\
[paths]
state = "{folder}/state"
[kafka]
port = 0
controller_port = 0
[vtp]
receiver_port = 0
broadcast_port = 0
[listen]
folder = "{folder}/inbox"
poll_seconds = 0.1
"""


@dataclass(frozen=True)
class Gateway:
    """A gateway in a folder of its own, used through its command."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def bootstrap(self) -> str:
        return str((runfiles.endpoint(self.state, "kafka") or {})["bootstrap"])

    def command(self, *arguments: str, status: int = 0) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MMGATEWAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "-c", "mmgateway.toml", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def ledger(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for message in kafka_io.read_all(self.bootstrap, {}, topics.LEDGER):
            total.update(json.loads(message.value)["counts"])
        return total

    def records(self, topic: str) -> list[dict[str, Any]]:
        messages = kafka_io.read_all(self.bootstrap, {}, topic)
        return [decode(m.value) for m in messages]

    def until_received(self, number: int) -> Counter[str]:
        assert runfiles.wait_until(lambda: self.ledger()["received"] >= number, 40, 0.2)
        return self.ledger()

    def drop(self, name: str, raw: bytes) -> None:
        (self.folder / "inbox" / name).write_bytes(raw)

    def vtp(self, raw: bytes) -> bytes:
        """What the receiver answers to one packet of an author."""
        port = (runfiles.endpoint(self.state, "listen") or {})["receiver_port"]
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(struct.pack(">I", len(raw)) + raw)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "mmgateway.toml").write_text(CONFIGURATION.format(folder=folder))
    running = Gateway(folder)
    try:
        statuses = json.loads(running.command("up", "kafka", "listen", "--json"))["services"]
        assert {s["service"] for s in statuses if s["state"] == "running"} == {"kafka", "listen"}
        yield running
    finally:
        running.command("down")
        left = json.loads(running.command("status", "--json"))["services"]
        assert {s["state"] for s in left} == {"stopped"}


def test_every_door_takes_good_and_bad_and_a_crash_changes_nothing(gateway: Gateway) -> None:
    good_vtp, good_kafka = SAMPLES / "gbm_final.xml", SAMPLES / "wxt.json"
    broken = {"broken.xml": b"<voe:VOEvent><broken", "broken.json": b'{"a": '}

    assert b'role="ack"' in gateway.vtp(good_vtp.read_bytes())
    assert b'role="nak"' in gateway.vtp(broken["broken.xml"])
    for name, raw in broken.items():
        gateway.drop(name, raw)
    (gateway.folder / "bad.json").write_bytes(broken["broken.json"])
    topic = ("--topic", "igwn.gwalert", "--json")
    paths = [str(SAMPLES / "gwalert.json"), str(gateway.folder / "bad.json")]
    assert json.loads(gateway.command("replay", *paths, *topic))["messages"] == 2
    wxt = ("--topic", "gcn.notices.einstein_probe.wxt.alert")
    gateway.command("replay", str(good_kafka), *wxt)

    ledger = gateway.until_received(7)
    assert notice_hole(ledger) == 0
    assert (ledger["region"], ledger["rejected"]) == (2, 5)
    letters = Counter(r["reason"] for r in gateway.records(topics.DEAD_LETTER))
    assert letters == {"xml_broken": 2, "json_broken": 2, "not_fits": 1}
    rejected = gateway.folder / "inbox" / "rejected"
    assert runfiles.wait_until(lambda: len(list(rejected.iterdir())) == 2, 10)
    regions = gateway.records(topics.REGIONS)

    old = (runfiles.endpoint(gateway.state, "listen") or {})["pid"]
    os.kill(old, signal.SIGKILL)

    def is_back() -> bool:
        return (runfiles.endpoint(gateway.state, "listen") or {"pid": old})["pid"] != old

    assert runfiles.wait_until(is_back, 60)
    assert b'role="ack"' in gateway.vtp(good_vtp.read_bytes())
    gateway.command("replay", str(good_kafka), *wxt)
    after = gateway.until_received(9)
    assert notice_hole(after) == 0
    assert after - ledger == {"received": 2, "duplicate": 2}
    assert gateway.records(topics.REGIONS) == regions
    raws = [m.value for m in kafka_io.read_all(gateway.bootstrap, {}, topics.NOTICES)]
    assert raws.count(good_kafka.read_bytes()) == 2


def test_second_up_changes_nothing(gateway: Gateway) -> None:
    before = json.loads(gateway.command("status", "kafka", "listen", "--json"))["services"]
    gateway.command("up", "kafka", "listen")
    after = json.loads(gateway.command("status", "kafka", "listen", "--json"))["services"]
    assert [s["pid"] for s in before] == [s["pid"] for s in after]


def test_notice_that_was_stored_before_a_crash_is_worked_through_once(gateway: Gateway) -> None:
    """The listener died between storing the bytes and saying what they became."""
    from datetime import UTC, datetime

    from gateway.sink import headers_of
    from gateway.sources import Arrival

    before = gateway.ledger()
    gateway.command("down", "listen")
    raw = (SAMPLES / "svom_retraction.xml").read_bytes()
    arrival = Arrival(raw, "vtp:test", "", datetime.now(UTC))
    producer = kafka_io.producer(gateway.bootstrap, {})
    producer.produce(topics.NOTICES, raw, headers=list(headers_of(arrival)))
    assert producer.flush(20) == 0
    gateway.command("up", "listen")
    gateway.command("down", "listen")
    gateway.command("up", "listen")
    assert gateway.ledger() - before == {"received": 1, "retraction": 1}
    last = gateway.records(topics.REGIONS)[-1]
    assert last["alert_type"] == "retraction"
