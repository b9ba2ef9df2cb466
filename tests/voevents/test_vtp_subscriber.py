"""The subscriber answers, acknowledges, and comes back."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from lxml import etree
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from crossmatch.errors import Rejected
from voevents.vtp import Subscriber

OURS = "ivo://org.mmgateway/broker"
THEIRS = "ivo://org.example/broker"
IVOID = "ivo://org.example/stream#1"
EVENT = f"""<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0"
 role="test" ivorn="{IVOID}"><Who/></voe:VOEvent>""".encode()


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def said(role: str, namespace: str = "v1.1") -> bytes:
    return frame(
        f'<trn:Transport xmlns:trn="http://www.telescope-networks.org/xml/Transport/{namespace}"'
        f' role="{role}" version="1.0"><Origin>{THEIRS}</Origin>'
        f"<TimeStamp>2017-08-17T12:41:06Z</TimeStamp></trn:Transport>".encode()
    )


class Ear:
    """A subscriber on a reactor in memory, with what it heard."""

    def __init__(self, **options: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.taken: list[bytes] = []
        self.refused: list[tuple[str, bytes]] = []
        self.broken = False
        self.service = Subscriber(
            self.reactor, "127.0.0.1", 8099, OURS, self._take,
            on_reject=self._refuse, jitter=0, **options,
        )  # fmt: skip
        self.service.start()
        _, _, self.factory, *_ = self.reactor.tcpClients[0]
        self.connector = self.reactor.connectors[0]
        self.attempts = 0
        self.connector.connect = self._attempt

    def _attempt(self) -> None:
        self.attempts += 1

    def _take(self, raw: bytes, peer: str) -> None:
        self.taken.append(raw)
        if self.broken:
            raise OSError("disk full")

    def _refuse(self, error: Rejected, raw: bytes, peer: str) -> None:
        self.refused.append((error.reason, raw))

    def connect(self) -> tuple[Any, StringTransport]:
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport(peerAddress=self.connector.getDestination())
        protocol.makeConnection(transport)
        return protocol, transport

    def lose(self, protocol: Any) -> None:
        protocol.connectionLost()
        self.factory.clientConnectionLost(self.connector, Failure(ConnectionDone()))

    def fail(self) -> None:
        self.factory.clientConnectionFailed(self.connector, Failure(ConnectionRefusedError()))


@pytest.fixture
def ear() -> Ear:
    return Ear()


def answers(transport: StringTransport) -> list[etree._Element]:
    data, found = transport.value(), []
    transport.clear()
    while data:
        (length,) = struct.unpack(">I", data[:4])
        found.append(etree.fromstring(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


def test_an_event_is_handed_on_and_acknowledged(ear: Ear) -> None:
    protocol, transport = ear.connect()
    protocol.dataReceived(frame(EVENT))
    assert ear.taken == [EVENT]
    (answer,) = answers(transport)
    assert (answer.get("role"), answer.findtext("Origin")) == ("ack", IVOID)
    assert answer.findtext("Response") == OURS
    assert not transport.disconnecting


@pytest.mark.parametrize("namespace", ["v1.1", "v2.0", "vor/v1.0"])
def test_iamalive_is_answered_with_its_origin(ear: Ear, namespace: str) -> None:
    protocol, transport = ear.connect()
    protocol.dataReceived(said("iamalive", namespace))
    (answer,) = answers(transport)
    assert (answer.get("role"), answer.findtext("Origin")) == ("iamalive", THEIRS)
    assert answer.findtext("Response") == OURS


def test_authenticate_is_answered_with_our_filters() -> None:
    ear = Ear(filters=["//Param[@name='x']"])
    protocol, transport = ear.connect()
    protocol.dataReceived(said("authenticate"))
    (answer,) = answers(transport)
    assert answer.get("role") == "authenticate"
    assert answer.find("Meta/Param").get("value") == "//Param[@name='x']"


def test_a_duplicate_is_acknowledged_and_acted_on_once(ear: Ear) -> None:
    protocol, transport = ear.connect()
    protocol.dataReceived(frame(EVENT) + frame(EVENT + b"<!-- again -->"))
    assert [a.get("role") for a in answers(transport)] == ["ack", "ack"]
    assert ear.taken == [EVENT]


def test_what_could_not_be_handled_is_not_acknowledged(ear: Ear) -> None:
    ear.broken = True
    protocol, transport = ear.connect()
    protocol.dataReceived(frame(EVENT))
    assert transport.value() == b""
    ear.broken = False
    protocol.dataReceived(frame(EVENT))
    assert [a.get("role") for a in answers(transport)] == ["ack"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"nonsense", "unknown_format"),
        (b"<html/>", "not_voevent"),
        (EVENT.replace(b"ivorn", b"name"), "bad_ivoid"),
    ],
)
def test_nonsense_is_kept_and_does_not_end_the_connection(
    ear: Ear, payload: bytes, reason: str
) -> None:
    protocol, transport = ear.connect()
    protocol.dataReceived(frame(payload) + frame(EVENT))
    assert ear.refused == [(reason, payload)]
    assert [a.get("role") for a in answers(transport)] == ["ack"]
    assert not transport.disconnecting


def test_an_absurd_length_ends_the_connection(ear: Ear) -> None:
    protocol, transport = ear.connect()
    protocol.dataReceived(b"\xff\xff\xff\xffabc")
    assert ear.refused == [("too_large", b"abc")]
    assert transport.disconnecting


def test_a_packet_that_breaks_off_is_kept(ear: Ear) -> None:
    protocol, _ = ear.connect()
    protocol.dataReceived(frame(EVENT)[:50])
    ear.lose(protocol)
    assert ear.refused == [("truncated_packet", EVENT[:46])]


def test_a_silent_broker_is_left(ear: Ear) -> None:
    protocol, transport = ear.connect()
    ear.reactor.advance(119)
    protocol.dataReceived(said("iamalive"))
    ear.reactor.advance(119)
    assert not transport.disconnecting
    ear.reactor.advance(2)
    assert transport.disconnecting


def test_delays_between_attempts_grow_geometrically_to_a_limit(ear: Ear) -> None:
    delays = []
    for _ in range(8):
        before = ear.attempts
        ear.fail()
        (call,) = [c for c in ear.reactor.getDelayedCalls() if c.getTime() > ear.reactor.seconds()]
        delays.append(call.getTime() - ear.reactor.seconds())
        ear.reactor.advance(delays[-1])
        assert ear.attempts == before + 1
    assert delays[:3] == pytest.approx([1.0, 2.71828, 7.38906], rel=1e-4)
    assert delays[-1] == 300.0


def test_a_connection_that_lasts_resets_the_delay(ear: Ear) -> None:
    for _ in range(3):
        ear.fail()
        ear.reactor.advance(300)
    assert ear.factory.delay > 10
    protocol, _ = ear.connect()
    ear.reactor.advance(6)
    assert ear.factory.delay == 1.0
    ear.lose(protocol)
    ear.reactor.advance(1.01)
    assert ear.attempts == 4


def test_a_connection_that_breaks_at_once_does_not_reset_the_delay(ear: Ear) -> None:
    ear.reactor.advance(0)
    for _ in range(3):
        protocol, _ = ear.connect()
        ear.lose(protocol)
    assert ear.factory.delay > 10


def test_stopped_is_stopped(ear: Ear) -> None:
    ear.fail()
    protocol, transport = ear.connect()
    assert ear.service.connected
    stopped = ear.service.stop()
    assert transport.disconnecting
    ear.lose(protocol)
    assert stopped.called
    assert not ear.service.connected
    ear.reactor.advance(1000)
    assert ear.attempts == 0
    assert ear.reactor.getDelayedCalls() == []


def test_a_subscriber_that_never_connected_stops_too(ear: Ear) -> None:
    ear.fail()
    assert ear.service.stop().called
    ear.factory.doStop()
    ear.reactor.advance(1000)
    assert ear.attempts == 0
