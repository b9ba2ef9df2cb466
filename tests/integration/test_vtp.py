"""VTP over TCP on loopback, with Comet's own programs at the other end."""

from __future__ import annotations

import json
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from voevents.build import build_voevent

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 30.0
IVOID = "ivo://org.example/stream#loopback-1"
EVENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" role="test"
 ivorn="{IVOID}"><Who><Date>2017-08-17T12:41:06</Date></Who></voe:VOEvent>
""".encode()

CANDIDATE = {
    "candidate_id": "ztf.ZTF17 a/b.gw:G298048.1",
    "counterpart_id": "ztf.ZTF17 a/b",
    "record_number": 1,
    "alert_type": "initial",
    "alert_datetime": "2017-08-18T23:34:12.5Z",
    "role": "test",
    "messenger": "gw",
    "event_name": "GW170817",
    "ref_ID": "G298048-INITIAL-2017-08-17T13:21:42",
    "survey": "ztf",
    "id": "ZTF17 a/b",
    "ra": 197.45,
    "dec": -23.38,
    "observation_start": "2017-08-18T23:33:00Z",
    "tier": "gold",
}

# Our side runs in a process of its own: a reactor runs once in a process.
NODE = """
import json, logging, sys, threading
from twisted.internet import reactor
from voevents.vtp import Broadcaster, Receiver, Subscriber

def say(**fields):
    print(json.dumps(fields), flush=True)

class Said(logging.Handler):
    def emit(self, record):
        say(log=record.getMessage())

logging.getLogger("mmgateway.vtp").addHandler(Said())
logging.getLogger("mmgateway.vtp").setLevel("INFO")
options = json.loads(sys.argv[1])
ours = "ivo://org.mmgateway/broker"
taken = lambda raw, peer: say(taken=raw.decode("latin-1"))
refused = lambda error, raw, peer: say(refused=error.reason, raw=raw.decode("latin-1"))
receiver = Receiver(reactor, "127.0.0.1", 0, ours, taken, on_reject=refused)
broadcaster = Broadcaster(reactor, "127.0.0.1", options.get("port", 0), ours,
    alive_interval=options.get("alive", 60), max_buffer=1_000_000)
remote = options.get("remote")
subscriber = remote and Subscriber(
    reactor, "127.0.0.1", remote, ours, taken, on_reject=refused, first_delay=0.2)
def command(line):
    if line.strip() == "stop":
        receiver.stop().addCallback(lambda _: broadcaster.stop()).addCallback(
            lambda _: subscriber and subscriber.stop()).addBoth(lambda _: reactor.stop())
    else:
        say(published=broadcaster.publish(json.loads(line).encode("latin-1")))

def listen_to_stdin():
    for line in sys.stdin:
        reactor.callFromThread(command, line)

def begin():
    say(receiver=receiver.listen(), broadcaster=broadcaster.listen())
    if subscriber:
        subscriber.start()
    threading.Thread(target=listen_to_stdin, daemon=True).start()

reactor.callWhenRunning(begin)
reactor.run()
"""


class Node:
    """Our receiver and broadcaster in a child process; speaks JSON lines."""

    def __init__(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE, json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        ports = self.wait("receiver")
        self.receiver, self.broadcaster = ports["receiver"], ports["broadcaster"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def wait(self, key: str) -> dict[str, Any]:
        """The next message that has ``key``; others are passed over."""
        while True:
            message = self._lines.get(timeout=PATIENCE_S)
            if key in message:
                return message

    def wait_for_log(self, event: str) -> None:
        while event not in self.wait("log")["log"]:
            pass

    def publish(self, xml: bytes) -> None:
        self._tell(json.dumps(xml.decode("latin-1")))

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stop(self) -> int:
        if self.process.poll() is None:
            self._tell("stop")
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start_node() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(**options: Any) -> Node:
        nodes.append(Node(**options))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
        for stream in (node.process.stdin, node.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def comet(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Start ``twistd -n comet`` with arguments; gives the folder where it saves events."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> Path:
        home = tmp_path / f"comet{len(processes)}"
        home.mkdir()
        with (home / "log").open("wb") as log:
            command = [
                sys.executable, str(PROGRAMS / "twistd"), "--nodaemon", f"--pidfile={home}/pid",
                "comet", f"--eventdb={home}/db", "--save-event",
                f"--save-event-directory={home}/events", *arguments,
            ]  # fmt: skip
            processes.append(subprocess.Popen(command, cwd=home, stdout=log, stderr=log))
        return home / "events"

    yield start
    for process in processes:
        process.terminate()
        process.wait(PATIENCE_S)


def saved(folder: Path) -> bytes:
    """The event that Comet saved in ``folder``."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        for path in folder.glob("*") if folder.is_dir() else ():
            data = path.read_bytes()
            if data.rstrip().endswith(b">"):
                return data
        pause.wait(0.05)
    raise AssertionError((folder.parent / "log").read_text())


def sendvo(port: int, event: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(PROGRAMS / "comet-sendvo"), "--host=127.0.0.1", f"--port={port}"],
        input=event, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_comet_receives_what_we_broadcast(
    start_node: Callable[..., Node], comet: Callable[..., Path]
) -> None:
    node = start_node()
    events = comet(f"--remote=127.0.0.1:{node.broadcaster}")
    node.wait_for_log("event=subscriber_connected")
    node.publish(EVENT)
    assert node.wait("published") == {"published": 1}
    assert saved(events) == EVENT


def test_comet_with_a_filter_is_told_why_it_gets_nothing(
    start_node: Callable[..., Node], comet: Callable[..., Path]
) -> None:
    node = start_node()
    events = comet(f"--remote=127.0.0.1:{node.broadcaster}", "--filter=//Param", "--verbose")
    node.wait_for_log("reason=asks_for_filters")
    node.wait_for_log("event=subscriber_gone")
    assert not events.exists()


def test_comet_sendvo_submits_and_is_acknowledged(start_node: Callable[..., Node]) -> None:
    node = start_node()
    first = sendvo(node.receiver, EVENT)
    assert first.returncode == 0, first.stdout.decode()
    assert node.wait("taken")["taken"].encode("latin-1") == EVENT
    assert sendvo(node.receiver, EVENT).returncode == 0  # a repetition is no mistake


def test_comet_sendvo_is_told_why_an_event_is_refused(start_node: Callable[..., Node]) -> None:
    node = start_node()
    bad = sendvo(node.receiver, EVENT.replace(b"ivo://", b"http://"))
    assert bad.returncode == 1
    assert b"bad_ivoid" in bad.stdout
    assert node.wait("refused")["refused"] == "bad_ivoid"
    assert sendvo(node.receiver, EVENT).returncode == 0


def test_a_long_packet_is_answered_before_the_connection_ends(
    start_node: Callable[..., Node],
) -> None:
    node = start_node()
    long = EVENT.replace(b"</Who>", b"</Who><Description>" + b"x" * 8_000_000 + b"</Description>")
    result = sendvo(node.receiver, long)
    assert result.returncode == 1
    assert b"too_large" in result.stdout


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff<voe", "too_large"),
        (b"GET / HTTP/1.1\r\n\r\n", "too_large"),
        (struct.pack(">I", 5) + b"<voe>", "xml_broken"),
        (struct.pack(">I", len(EVENT)) + EVENT[:50], "truncated_packet"),
    ],
)
def test_bad_bytes_have_a_reason_and_the_service_goes_on(
    start_node: Callable[..., Node], data: bytes, reason: str
) -> None:
    node = start_node()
    with socket.create_connection(("127.0.0.1", node.receiver), PATIENCE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert node.wait("refused")["refused"] == reason
    assert sendvo(node.receiver, EVENT).returncode == 0


def test_we_hear_comet_and_each_other(
    start_node: Callable[..., Node], comet: Callable[..., Path]
) -> None:
    """Author -> Comet broker -> our subscriber; the broker starts after the subscriber."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        broadcast = probe.getsockname()[1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        receive = probe.getsockname()[1]
    node = start_node(remote=broadcast)
    comet(
        "--local-ivo=ivo://org.example/comet", "--receive", f"--receive-port={receive}",
        "--broadcast", f"--broadcast-port={broadcast}", "--broadcast-test-interval=1",
    )  # fmt: skip
    # Comet's own test events show that the subscriber is connected.
    root = etree.fromstring(node.wait("taken")["taken"].encode("latin-1"))
    assert root.get("ivorn").startswith("ivo://org.example/comet#TestEvent")
    # A broker that is not ours accepts our candidates, schema and IVOID, and passes them on.
    candidate = build_voevent(CANDIDATE, author_ivo="ivo://org.mmgateway")
    assert sendvo(receive, candidate).returncode == 0
    while node.wait("taken")["taken"].encode("latin-1") != candidate:
        pass


def test_a_taken_port_becomes_a_free_one(start_node: Callable[..., Node]) -> None:
    first = start_node()
    second = start_node(port=first.broadcaster)
    assert second.broadcaster not in (0, first.broadcaster)


def test_a_silent_subscriber_is_dropped(start_node: Callable[..., Node]) -> None:
    node = start_node(alive=0.2)
    with socket.create_connection(("127.0.0.1", node.broadcaster), PATIENCE_S):
        node.wait_for_log("reason=silent")
        node.wait_for_log("event=subscriber_gone")


def test_a_subscriber_that_never_reads_is_dropped(
    start_node: Callable[..., Node], comet: Callable[..., Path]
) -> None:
    """More than the sockets and the buffer hold is dropped with its reader; others get it."""
    node = start_node()
    long = EVENT.replace(b"</Who>", b"</Who><Description>" + b"x" * 500_000 + b"</Description>")
    with socket.create_connection(("127.0.0.1", node.broadcaster), PATIENCE_S):
        node.wait_for_log("event=subscriber_connected")
        for _ in range(40):
            node.publish(long)
        node.wait_for_log("reason=does_not_read")
    node.wait_for_log("event=subscriber_gone")
    events = comet(f"--remote=127.0.0.1:{node.broadcaster}")
    node.wait_for_log("event=subscriber_connected")
    node.publish(EVENT)
    assert saved(events) == EVENT


def test_stopping_ends_the_process_with_clients_connected(start_node: Callable[..., Node]) -> None:
    node = start_node()
    with (
        socket.create_connection(("127.0.0.1", node.broadcaster), PATIENCE_S),
        socket.create_connection(("127.0.0.1", node.receiver), PATIENCE_S),
    ):
        node.wait_for_log("event=subscriber_connected")
        assert node.stop() == 0
