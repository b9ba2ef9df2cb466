"""The command, the supervisor, a real Kafka and the listener with all its doors."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from broker import kafka_io, topics
from broker.codec import decode
from broker.embedded.kafka import EmbeddedKafka
from broker.ledger import notice_hole
from gateway import runfiles, supervisor
from tests.gateway.memory import a_map, gbm

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
feeds_poll_seconds = 0.2
parser_seconds = 1.0
[maps]
hosts = ["127.0.0.1"]
retry_minutes = [0, 0.02]
"""
PRIVATE_FEED = """\
name = "own"
title = "A private feed by a Kafka, a VTP broker and maps of its own"
mission = "Own"
instrument = "Camera"
messenger = "grb"
format = "voevent"
ivoids = ["ivo://org.example.own/camera#"]
topics = ["own.notices"]
prefix = "Own"
trigger = ["TrigID"]
skymap_urls = ["Map_URL"]
streams = ["ourteam"]
[transport]
kafka = "{bootstrap}"
vtp = "127.0.0.1:{vtp_port}"
"""
PARSER_SECONDS = 1.0
PRIVATE = "mm.private.ourteam."


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
            env=environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(self.folder)])},
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

    def log(self) -> str:
        return supervisor.log_path(self.state, "listen").read_text("utf-8")

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

    from gateway.listener.sink import headers_of
    from gateway.listener.sources import Arrival

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


@dataclass
class MapServer:
    """Gives one sky map by HTTP, the first time it is not there yet."""

    fits: bytes
    asked: int = 0

    @contextmanager
    def running(self) -> Iterator[str]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked += 1
                body = b"" if server.asked == 1 else server.fits
                self.send_response(404 if server.asked == 1 else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
            thread = threading.Thread(target=http.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{http.server_address[1]}/map.fits"
            finally:
                http.shutdown()
                thread.join(10)


@contextmanager
def vtp_broker(raw: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A broker that sends one event to its first subscriber; its port, and what is answered."""
    answers: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(60)
            connection.sendall(struct.pack(">I", len(raw)) + raw)
            answers.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], answers
        finally:
            thread.join(60)


def own_notice(number: int, address: str = "") -> bytes:
    """A notice of the private feed; each number another event."""
    text = gbm(number, 10).replace(b'TrigID" value="', f'TrigID" value="{number}'.encode())
    if address:
        place = text.index(b"<Param")
        param = f'<Param name="Map_URL" value="{address}"/>'.encode()
        text = text[:place] + param + text[place:]
    return text


def test_private_feed_is_taken_up_paused_and_released_without_a_restart(gateway: Gateway) -> None:
    from datetime import UTC, datetime

    from gateway.feeds.store import FeedStore

    process = (runfiles.endpoint(gateway.state, "listen") or {})["pid"]
    kafka_io.ensure_topics(gateway.bootstrap, {}, [kafka_io.TopicSpec("own.notices")])
    producer = kafka_io.producer(gateway.bootstrap, {})
    before, public = gateway.ledger(), gateway.records(topics.REGIONS)
    folder = gateway.state / "feeds"

    def say(raw: bytes) -> None:
        producer.produce("own.notices", raw)
        assert producer.flush(20) == 0

    def until(**counts: int) -> None:
        def there() -> bool:
            new = gateway.ledger() - before
            return all(new[name] >= number for name, number in counts.items())

        assert runfiles.wait_until(there, 60, 0.2), gateway.ledger() - before

    with MapServer(a_map()).running() as address, vtp_broker(own_notice(1)) as (port, answers):
        folder.mkdir(exist_ok=True)
        text = PRIVATE_FEED.format(bootstrap=gateway.bootstrap, vtp_port=port)
        (folder / "own.toml").write_text(text)
        say(own_notice(2, address))
        until(region=3)
    assert b'role="ack"' in answers[0]
    found = gateway.records(f"{PRIVATE}regions")
    assert Counter(r["localized_by"] for r in found) == {"circle": 2, "map_fetched": 1}
    assert {r["feed"] for r in found} == {"own"}

    store = FeedStore([folder], gateway.state, lambda: datetime.now(UTC))
    store.load()
    store.switch("own", False)
    assert runfiles.wait_until(lambda: "paused=own" in gateway.log(), 30, 0.2)
    say(own_notice(3))
    say(own_notice(4))
    until(held=2)
    assert (runfiles.endpoint(gateway.state, "listen") or {})["pid"] == process

    os.kill(process, signal.SIGKILL)
    store.switch("own", True)
    until(released=2, region=5)
    new = gateway.ledger() - before
    assert notice_hole(new) == 0
    assert (new["released"], new["region"], new["held"]) == (2, 5, 2)
    raws = [m.value for m in kafka_io.read_all(gateway.bootstrap, {}, f"{PRIVATE}notices")]
    assert len(raws) == len(set(raws)) == 4
    assert gateway.records(topics.REGIONS) == public
    log_of_regions = gateway.records(topics.REGION_LOG)
    assert len([r for r in log_of_regions if r["streams"] == ["ourteam"]]) == 5


NEW_FEED = """
name = "{name}"
title = "A feed that is new"
mission = "New"
instrument = "Camera"
messenger = "grb"
format = "{form}"
topics = ["{name}.notices"]
prefix = "New"
"""


def test_a_new_topic_is_heard_at_once(gateway: Gateway) -> None:
    # After a crash the group of the listener's consumers is whole again only after seconds.
    before = gateway.ledger()
    wxt = ("--topic", "gcn.notices.einstein_probe.wxt.alert")
    gateway.command("replay", str(SAMPLES / "wxt.json"), *wxt)
    gateway.until_received(before["received"] + 1)
    mark = len(gateway.log())
    more = 'ivoids = ["ivo://org.example.fresh/camera#"]\ntrigger = ["TrigID"]\n'
    text = NEW_FEED.format(name="fresh", form="voevent") + more
    (gateway.state / "feeds" / "fresh.toml").write_text(text)
    assert runfiles.wait_until(lambda: "event=feeds_changed feeds=fresh" in gateway.log(), 10)
    raw = gbm(1, 20).replace(b"ivo://nasa.gsfc.gcn/Fermi", b"ivo://org.example.fresh/camera")
    producer = kafka_io.producer(gateway.bootstrap, {})
    producer.produce("fresh.notices", raw)
    assert producer.flush(20) == 0
    # 2.6 s on a quiet machine; without being told, a client looks for topics in 10 s and more.
    assert runfiles.wait_until(lambda: "feed=fresh kind=" in gateway.log()[mark:], 9, 0.1)
    assert "kafka_trouble" not in gateway.log()[mark:]


def test_a_parser_that_never_returns_costs_others_little_and_is_paused(gateway: Gateway) -> None:
    code = "import time\n\ndef parse(message, feed):\n    time.sleep(3600)\n"
    (gateway.folder / "slowmod.py").write_text(code)
    more = 'members = ["slow"]\nparser = "slowmod:parse"\n'
    text = NEW_FEED.format(name="slow", form="json") + more
    (gateway.state / "feeds" / "slow.toml").write_text(text)
    before = gateway.ledger()
    assert runfiles.wait_until(lambda: "event=feeds_changed feeds=slow" in gateway.log(), 10)
    for number in range(4):
        gateway.drop(f"slow{number}.json", b'{"slow": %d}' % number)
    assert runfiles.wait_until(lambda: "event=notice_given_up feed=slow" in gateway.log(), 20)
    began = time.monotonic()
    assert b'role="ack"' in gateway.vtp(gbm(1, 30))
    assert time.monotonic() - began < PARSER_SECONDS
    after = gateway.until_received(before["received"] + 5)
    assert (after - before)["rejected"] == 3
    assert (after - before)["held"] == 1
    assert (after - before)["region"] == 1

    def paused() -> bool:
        feeds = json.loads(gateway.command("feeds", "list", "--json"))["feeds"]
        return {"paused"} == {f["state"] for f in feeds if f["name"] == "slow"}

    assert runfiles.wait_until(paused, 20)
    assert "too_slow" in gateway.command("feeds", "history", "slow")


def test_what_waited_in_private_stays_so_though_its_feed_is_gone(gateway: Gateway) -> None:
    """It was stored, the listener died, and the feed file went away; it looks like a public one."""
    from datetime import UTC, datetime

    from gateway.listener.sink import headers_of
    from gateway.listener.sources import Arrival

    before, public = gateway.ledger(), gateway.records(topics.REGIONS)
    gateway.command("down", "listen")
    (gateway.state / "feeds" / "own.toml").unlink()
    raw = (SAMPLES / "wxt.json").read_bytes().replace(b'"ra": 1', b'"ra": 2')
    heard = Arrival(raw, "kafka:x", "own.notices", datetime.now(UTC), streams=("ourteam",))
    producer = kafka_io.producer(gateway.bootstrap, {})
    producer.produce(topics.NOTICES, raw, headers=list(headers_of(heard)))
    assert producer.flush(20) == 0
    gateway.command("up", "listen")
    assert gateway.ledger() - before == {"received": 1, "rejected": 1}
    assert gateway.records(topics.REGIONS) == public
    last = gateway.records(f"{PRIVATE}deadletter")[-1]
    assert (last["reason"], last["streams"], last["raw"]) == ("no_feed", ["ourteam"], raw)


def test_what_a_broker_does_not_take_ends_neither_sink_nor_transaction(
    kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the broker, and by the client before it is sent; then the sink goes on."""
    from datetime import UTC, datetime

    from gateway.listener.outbox import Batch, TooLarge
    from gateway.listener.sink import KafkaSink
    from gateway.listener.sources import Arrival

    small = {"max.message.bytes": "20000"}
    names = {"NOTICES": "small.notices", "DEAD_LETTER": "small.letters"}
    for name, topic in names.items():
        monkeypatch.setattr(topics, name, topic)
    specs = [kafka_io.TopicSpec(topic, 1, small) for topic in names.values()]
    plain = [kafka_io.TopicSpec(topic) for topic in (topics.MARKER, topics.LEDGER)]
    kafka_io.ensure_topics(kafka.bootstrap, {}, [*specs, *plain])
    sink = KafkaSink(kafka.bootstrap, {}, "test-large")
    sink.start()

    def batch(number: int, size: int) -> Batch:
        made = Batch(number)
        made.add([topics.DEAD_LETTER], b"notice", os.urandom(size))
        made.counts.update(["received", "rejected"])
        return made

    for size in (50_000, kafka_io.MAX_MESSAGE_BYTES + 1):
        with pytest.raises(TooLarge, match=r"small\.letters"):
            sink.commit(batch(1, size))
        sink.commit(batch(1, 100))
    letters = list(kafka_io.read_all(kafka.bootstrap, {}, topics.DEAD_LETTER))
    assert [len(m.value) for m in letters] == [100, 100]

    sizes = (10, 50_000, 20, kafka_io.MAX_MESSAGE_BYTES + 1, 30)
    now = datetime.now(UTC)
    with pytest.raises(TooLarge) as refused:
        sink.store([Arrival(os.urandom(size), "test:here", "", now) for size in sizes])
    # Those that were sent together with a large one may be refused with it.
    assert set(refused.value.stored) <= {0, 2, 4}
    (offset,) = sink.store([Arrival(bytes(40), "test:here", "", now)])
    stored = sink.stored_at(offset)
    assert stored is not None
    assert len(stored.raw) == 40
    assert sink.stored_at(offset + 1) is None
