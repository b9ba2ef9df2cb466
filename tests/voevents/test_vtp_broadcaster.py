"""The broadcaster serves who listens and drops who does not."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from lxml import etree
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransport

from crossmatch.errors import NoticeError
from voevents.vtp import Broadcaster

OURS = "ivo://org.mmgateway/broker"
EVENT = b"""<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0"
 role="test" ivorn="ivo://org.example/stream#1"/>"""
THEIRS = "ivo://org.example/robot"


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def said(role: str, meta: str = "", namespace: str = "v1.1") -> bytes:
    return frame(
        f'<trn:Transport xmlns:trn="http://www.telescope-networks.org/xml/Transport/{namespace}"'
        f' role="{role}" version="1.0"><Origin>{OURS}</Origin><Response>{THEIRS}</Response>'
        f"<TimeStamp>2017-08-17T12:41:06Z</TimeStamp>{meta}</trn:Transport>".encode()
    )


class Robot:
    """A subscriber in memory."""

    def __init__(self, factory: Any) -> None:
        address = IPv4Address("TCP", "127.0.0.1", 40000)
        self.protocol = factory.buildProtocol(address)
        self.transport = StringTransport(peerAddress=address)
        self.protocol.makeConnection(self.transport)

    def read(self) -> list[bytes]:
        data, found = self.transport.value(), []
        self.transport.clear()
        while data:
            (length,) = struct.unpack(">I", data[:4])
            found.append(data[4 : 4 + length])
            data = data[4 + length :]
        return found

    def roles(self) -> list[str]:
        return [etree.fromstring(message).get("role") for message in self.read()]

    def say(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    @property
    def dropped(self) -> bool:
        return bool(self.transport.disconnecting)


class Stage:
    """A broadcaster on a reactor in memory."""

    def __init__(self, **options: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.service = Broadcaster(self.reactor, "127.0.0.1", 8099, OURS, **options)
        assert self.service.listen() == 8099
        self.factory = self.reactor.tcpServers[0][1]
        self.factory.doStart()

    def robot(self) -> Robot:
        return Robot(self.factory)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_new_subscriber_is_greeted(stage: Stage) -> None:
    (greeting,) = stage.robot().read()
    root = etree.fromstring(greeting)
    assert root.get("role") == "authenticate"
    assert root.findtext("Origin") == OURS


def test_an_event_reaches_all_byte_for_byte(stage: Stage) -> None:
    robots = [stage.robot(), stage.robot()]
    assert stage.service.publish(EVENT) == 2
    assert [r.read()[-1] for r in robots] == [EVENT, EVENT]


def test_subscribers_are_counted(stage: Stage) -> None:
    robot = stage.robot()
    stage.robot()
    assert stage.service.subscribers == 2
    robot.protocol.connectionLost()
    assert stage.service.subscribers == 1


@pytest.mark.parametrize("data", [b"", b"<VOEvent/>", b"<html/>", said("ack")[4:]])
def test_only_events_are_broadcast(stage: Stage, data: bytes) -> None:
    robot = stage.robot()
    robot.read()
    with pytest.raises(NoticeError):
        stage.service.publish(data)
    assert robot.read() == []


@pytest.mark.parametrize("namespace", ["v1.1", "v2.0", "vor/v1.0"])
def test_who_answers_iamalive_stays(stage: Stage, namespace: str) -> None:
    robot = stage.robot()
    robot.read()
    for _ in range(10):
        stage.reactor.advance(60)
        assert robot.roles() == ["iamalive"]
        robot.say(said("iamalive", namespace=namespace))
    assert not robot.dropped


def test_who_does_not_answer_iamalive_is_dropped(stage: Stage) -> None:
    robot = stage.robot()
    stage.reactor.advance(60)
    assert not robot.dropped
    stage.reactor.advance(60)
    assert robot.dropped


def test_answers_given_in_advance_do_not_keep_a_dead_peer(stage: Stage) -> None:
    robot = stage.robot()
    for _ in range(50):
        robot.say(said("iamalive"))
    stage.reactor.advance(60)
    robot.say(said("iamalive") * 20)
    stage.reactor.advance(60)
    assert not robot.dropped  # it did answer, once
    stage.reactor.advance(60)
    assert robot.dropped


def test_the_interval_is_a_setting() -> None:
    stage = Stage(alive_interval=5)
    robot = stage.robot()
    robot.read()
    stage.reactor.advance(5)
    assert robot.roles() == ["iamalive"]


def test_who_never_reads_is_dropped_beyond_a_bounded_buffer() -> None:
    stage = Stage(max_buffer=10 * len(EVENT))
    lazy, keen = stage.robot(), stage.robot()
    lazy.transport.producer.pauseProducing()
    for _ in range(9):
        stage.service.publish(EVENT)
    assert not lazy.dropped
    for _ in range(2):
        stage.service.publish(EVENT)
    assert lazy.dropped
    assert lazy.protocol._outbox.waiting_bytes == 0
    assert len(keen.read()) == 12
    assert stage.service.publish(EVENT) == 2  # until the reactor says that it is gone
    assert len(keen.read()) == 1


def test_who_reads_slowly_gets_all_in_order(stage: Stage) -> None:
    robot = stage.robot()
    robot.transport.producer.pauseProducing()
    events = [EVENT.replace(b"#1", b"#%d" % n) for n in range(5)]
    for event in events:
        stage.service.publish(event)
    assert robot.roles() == ["authenticate"]
    robot.transport.producer.resumeProducing()
    assert robot.read() == events


def test_who_never_acknowledges_is_dropped(stage: Stage) -> None:
    robot = stage.robot()
    for _ in range(10):
        stage.service.publish(EVENT)
    stage.reactor.advance(60)
    assert robot.dropped


def test_a_burst_just_before_the_clock_strikes_is_no_offence(stage: Stage) -> None:
    robot = stage.robot()
    stage.reactor.advance(59)
    for _ in range(50):
        stage.service.publish(EVENT)
    stage.reactor.advance(1)
    assert not robot.dropped
    robot.say(said("ack") * 50 + said("iamalive"))
    stage.reactor.advance(60)
    assert not robot.dropped


def test_a_nak_concerns_one_event_only(stage: Stage) -> None:
    robot = stage.robot()
    stage.service.publish(EVENT)
    robot.say(said("nak", "<Meta><Result>not mine</Result></Meta>"))
    robot.read()
    assert not robot.dropped
    stage.service.publish(EVENT)
    assert robot.read() == [EVENT]


@pytest.mark.parametrize(
    "meta",
    [
        '<Meta><Param name="xpath-filter" value="//Param"/></Meta>',
        '<Meta><filter type="xpath">//Param</filter></Meta>',
    ],
)
def test_who_asks_for_filters_is_told_that_there_are_none(stage: Stage, meta: str) -> None:
    robot = stage.robot()
    robot.read()
    robot.say(said("authenticate", meta))
    (answer,) = robot.read()
    root = etree.fromstring(answer)
    assert root.get("role") == "nak"
    assert "no XPath filters" in root.findtext("Meta/Result")
    assert robot.dropped
    assert robot.transport.producer is None  # else the transport would never close
    stage.service.publish(EVENT)
    assert robot.read() == []


def test_an_answer_without_filters_is_welcome(stage: Stage) -> None:
    robot = stage.robot()
    robot.say(said("authenticate", "<Meta/>"))
    assert not robot.dropped


def test_nonsense_from_a_subscriber_has_an_end(stage: Stage) -> None:
    robot = stage.robot()
    for _ in range(100):
        robot.say(frame(b"nonsense"))
    assert not robot.dropped
    robot.say(frame(EVENT))
    assert robot.dropped


def test_an_absurd_length_from_a_subscriber_drops_it(stage: Stage) -> None:
    robot = stage.robot()
    robot.say(b"\x7f\xff\xff\xff")
    assert robot.dropped


def test_only_allowed_networks_may_subscribe() -> None:
    stage = Stage(allow=["192.0.2.0/24"])
    assert stage.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)) is None


def test_stopping_ends_connections_and_clock(stage: Stage) -> None:
    robot = stage.robot()
    stopped = stage.service.stop()
    assert robot.dropped
    robot.protocol.connectionLost()
    stage.factory.doStop()
    assert stopped.called
    assert stage.reactor.getDelayedCalls() == []
