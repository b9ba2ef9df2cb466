"""The receiver answers every packet an author can send, in memory and without waiting."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport

from crossmatch.errors import Rejected
from voevents.vtp import Receiver
from voevents.vtp.seen import SeenEvents

OURS = "ivo://org.mmgateway/broker"
IVOID = "ivo://org.example/stream#1"
EVENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" role="test"
 ivorn="{IVOID}"><Who><Date>2017-08-17T12:41:06</Date></Who></voe:VOEvent>
""".encode()


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def answers(transport: StringTransport) -> list[etree._Element]:
    data, found = transport.value(), []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        found.append(etree.fromstring(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


class Door:
    """A receiver on a reactor in memory, with what it took and refused."""

    def __init__(self, **options: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_503_000_000)
        self.taken: list[bytes] = []
        self.refused: list[tuple[str, bytes, str]] = []
        self.outcome: Any = None
        self.service = Receiver(
            self.reactor, "127.0.0.1", 8098, OURS, self._take,
            on_reject=self._refuse, **options,
        )  # fmt: skip
        assert self.service.listen() == 8098
        self.factory = self.reactor.tcpServers[0][1]

    def _take(self, raw: bytes, peer: str) -> Any:
        self.taken.append(raw)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def _refuse(self, error: Rejected, raw: bytes, peer: str) -> None:
        self.refused.append((error.reason, raw, peer))

    def connect(self, host: str = "127.0.0.1") -> tuple[Any, StringTransport]:
        address = IPv4Address("TCP", host, 40000)
        protocol = self.factory.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        if protocol is not None:
            protocol.makeConnection(transport)
        return protocol, transport

    def send(self, payload: bytes) -> StringTransport:
        protocol, transport = self.connect()
        protocol.dataReceived(frame(payload))
        return transport


@pytest.fixture
def door() -> Door:
    return Door()


def only(transport: StringTransport) -> etree._Element:
    (answer,) = answers(transport)
    return answer


def test_a_good_packet_is_handed_on_acknowledged_and_the_connection_closed(door: Door) -> None:
    transport = door.send(EVENT)
    assert door.taken == [EVENT]
    answer = only(transport)
    assert answer.get("role") == "ack"
    assert answer.findtext("Origin") == IVOID
    assert answer.findtext("Response") == OURS
    assert answer.findtext("TimeStamp") == "2017-08-17T20:00:00Z"
    assert transport.disconnecting


def test_bytes_may_come_one_by_one(door: Door) -> None:
    protocol, transport = door.connect()
    for byte in frame(EVENT):
        protocol.dataReceived(bytes([byte]))
    assert only(transport).get("role") == "ack"
    assert door.taken == [EVENT]


@pytest.mark.parametrize(
    "repeat",
    [
        EVENT,
        EVENT + b"<!-- sent </voe:VOEvent> again -->\n",
        EVENT.replace(b"?>\n", b"?><!-- first --><?pi x?>\n"),
        EVENT.split(b"?>\n", 1)[1],
        b"\xef\xbb\xbf" + EVENT,
        b"\n " + EVENT,
    ],
)
def test_a_duplicate_is_acknowledged_and_acted_on_once(door: Door, repeat: bytes) -> None:
    door.send(EVENT)
    assert only(door.send(repeat)).get("role") == "ack"
    assert door.taken == [EVENT]
    assert door.refused == []


def test_a_packet_without_a_role_is_an_observation_as_the_schema_says(door: Door) -> None:
    event = EVENT.replace(b' role="test"', b"")
    assert only(door.send(event)).get("role") == "ack"
    assert door.taken == [event]


def test_the_same_ivoid_with_other_content_is_another_packet(door: Door) -> None:
    door.send(EVENT)
    other = EVENT.replace(b"12:41:06", b"12:41:07")
    assert only(door.send(other)).get("role") == "ack"
    assert door.taken == [EVENT, other]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (EVENT[:-10], "xml_broken"),
        (b"", "empty"),
        (b"\x00\xff" * 100, "unknown_format"),
        (EVENT.replace(b'role="test"', b'role="rumour"'), "bad_role"),
        (EVENT.replace(b"ivo://org.example/stream#1", b"stream-1"), "bad_ivoid"),
        (EVENT.replace(b"stream#1", b"stream#1&#10;event=forged"), "bad_ivoid"),
        (EVENT.replace(b'"2.0" role', b'"3.0" role'), "bad_version"),
        (EVENT.replace(b"<Who>", b"<!DOCTYPE x><Who>"), "xml_broken"),
        (EVENT.replace(b"?>\n", b"?><!DOCTYPE x [<!ENTITY a 'b'>]>"), "xml_dtd"),
        (b"<html/>", "not_voevent"),
        (b'<Transport role="ack"><Origin>ivo://a/b</Origin></Transport>', "unexpected_message"),
    ],
)  # fmt: skip
def test_a_bad_packet_gets_a_nak_with_a_text_and_its_bytes_are_kept(
    door: Door, payload: bytes, reason: str
) -> None:
    transport = door.send(payload)
    answer = only(transport)
    assert answer.get("role") == "nak"
    assert answer.findtext("Meta/Result").startswith(reason)
    assert door.refused == [(reason, payload, "127.0.0.1:40000")]
    assert door.taken == []
    assert transport.disconnecting


def test_a_packet_that_merely_fails_the_schema_is_taken(door: Door) -> None:
    packet = EVENT.replace(b"Date>", b"Day>")

    assert only(door.send(packet)).get("role") == "ack"
    assert door.taken == [packet]


@pytest.mark.realdata
def test_no_packet_that_was_really_sent_is_refused(shared_data: Path) -> None:
    samples = sorted((shared_data / "notices" / "voevent_samples").rglob("*"))
    recent = sorted((shared_data / "notices" / "voevent_kafka_2026").rglob("*"))
    gecam = sorted((shared_data / "notices" / "voevent_4pisky").rglob("GECAM/*"))
    packets = [p for p in (*samples, *recent, *gecam) if p.is_file()]
    packets = [p for p in packets if b"VOEvent" in p.read_bytes()[:500]]
    door = Door(max_connections=len(packets))

    for path in packets:
        door.send(path.read_bytes())

    assert len(packets) > 100
    assert door.refused == []


def test_a_nak_names_the_packet_even_when_it_is_broken(door: Door) -> None:
    assert only(door.send(EVENT[:-10])).findtext("Origin") == IVOID
    assert only(door.send(b"nonsense")).findtext("Origin") == OURS


def test_a_rejected_packet_does_not_count_as_seen() -> None:
    door = Door(check=lambda raw: next(checks)())

    def refuse() -> None:
        raise Rejected("not_today", "come back tomorrow")

    checks = iter([refuse, lambda: None])
    assert only(door.send(EVENT)).get("role") == "nak"
    assert only(door.send(EVENT)).get("role") == "ack"
    assert door.taken == [EVENT]


def test_an_absurd_length_is_refused_without_keeping_what_follows(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(b"\xff\xff\xff\xff" + b"<xml")
    answer = only(transport)
    assert answer.get("role") == "nak"
    assert "4294967295 bytes" in answer.findtext("Meta/Result")
    assert door.refused == [("too_large", b"<xml", "127.0.0.1:40000")]
    protocol.dataReceived(b"x" * 100_000)
    assert protocol.recvd == b""
    assert len(answers(transport)) == 1
    # Time to read the nak, then the connection is cut.
    assert not transport.disconnecting
    door.reactor.advance(2.1)
    assert transport.disconnecting
    assert len(door.refused) == 1


def test_a_length_in_the_wrong_byte_order_is_refused(door: Door) -> None:
    protocol, transport = door.connect()
    protocol.dataReceived(struct.pack("<I", len(EVENT)) + EVENT)
    answer = only(transport)
    assert answer.get("role") == "nak"
    assert answer.findtext("Origin") == IVOID


def test_the_limit_of_length_is_a_setting() -> None:
    door = Door(max_length=len(EVENT) - 1)
    assert only(door.send(EVENT)).get("role") == "nak"
    assert [reason for reason, _, _ in door.refused] == ["too_large"]


def test_more_than_a_hundred_thousand_bytes_are_taken(door: Door) -> None:
    long = EVENT.replace(b"<Who>", b"<Description>" + b"x" * 300_000 + b"</Description><Who>")
    assert only(door.send(long)).get("role") == "ack"


def test_a_packet_that_breaks_off_is_kept_with_its_reason(door: Door) -> None:
    protocol, _ = door.connect()
    protocol.dataReceived(frame(EVENT)[:100])
    protocol.connectionLost()
    assert door.refused == [("truncated_packet", EVENT[:96], "127.0.0.1:40000")]
    assert len(door.factory.connections) == 0


def test_a_connection_that_says_nothing_is_no_packet(door: Door) -> None:
    protocol, _ = door.connect()
    protocol.connectionLost()
    assert door.refused == []


def test_the_whole_exchange_is_limited_in_time(door: Door) -> None:
    protocol, transport = door.connect()
    for byte in frame(EVENT)[:15]:
        protocol.dataReceived(bytes([byte]))
        door.reactor.advance(1)
    assert not transport.disconnecting
    door.reactor.advance(5.1)
    assert transport.disconnecting
    protocol.connectionLost()
    assert door.refused == [("author_timeout", EVENT[:11], "127.0.0.1:40000")]


def test_two_events_on_one_connection_are_both_answered(door: Door) -> None:
    other = EVENT.replace(b"stream#1", b"stream#2")
    protocol, transport = door.connect()
    protocol.dataReceived(frame(EVENT) + frame(other))
    assert [a.findtext("Origin")[-1] for a in answers(transport)] == ["1", "2"]
    assert door.taken == [EVENT, other]
    assert transport.disconnecting


def test_a_packet_that_could_not_be_handled_gets_no_receipt_and_may_come_again(door: Door) -> None:
    door.outcome = OSError("disk full")
    transport = door.send(EVENT)
    assert transport.value() == b""
    assert transport.disconnecting
    door.outcome = None
    assert only(door.send(EVENT)).get("role") == "ack"
    assert door.taken == [EVENT, EVENT]


def test_the_receipt_waits_for_the_handling(door: Door) -> None:
    door.outcome = handling = Deferred()
    transport = door.send(EVENT)
    assert transport.value() == b""
    assert not transport.disconnecting
    second = door.send(EVENT)  # the same again, meanwhile
    assert second.value() == b""
    handling.callback(None)
    for each in (transport, second):
        assert only(each).get("role") == "ack"
        assert each.disconnecting
    assert door.taken == [EVENT]


def test_all_copies_share_a_failure(door: Door) -> None:
    door.outcome = handling = Deferred()
    copies = [door.send(EVENT), door.send(EVENT)]
    handling.errback(OSError("disk full"))
    assert [c.value() for c in copies] == [b"", b""]
    assert all(c.disconnecting for c in copies)
    door.outcome = None
    assert only(door.send(EVENT)).get("role") == "ack"


def test_an_author_that_left_does_no_harm(door: Door) -> None:
    door.outcome = handling = Deferred()
    protocol, _ = door.connect()
    protocol.dataReceived(frame(EVENT))
    protocol.connectionLost()
    handling.callback(None)
    assert door.refused == []
    assert only(door.send(EVENT)).get("role") == "ack"
    assert door.taken == [EVENT]


def test_only_allowed_networks_enter() -> None:
    door = Door(allow=["192.0.2.0/24"])
    assert door.connect("127.0.0.1")[0] is None
    assert door.connect("192.0.2.7")[0] is not None


def test_connections_are_limited_in_number() -> None:
    door = Door(max_connections=2)
    first, _ = door.connect()
    assert door.connect()[0] is not None
    assert door.connect()[0] is None
    first.connectionLost()
    assert door.connect()[0] is not None


def test_services_may_share_what_they_have_seen() -> None:
    seen = SeenEvents()
    Door(seen=seen).send(EVENT)
    second = Door(seen=seen)
    assert only(second.send(EVENT)).get("role") == "ack"
    assert second.taken == []


def test_stopping_closes_the_connections_and_does_not_wait_for_ever(door: Door) -> None:
    protocol, transport = door.connect()
    stopped = door.service.stop()
    assert transport.disconnecting
    assert not stopped.called
    door.reactor.advance(2.1)
    protocol.connectionLost()
    assert stopped.called
    assert door.service.port == 0
    assert door.reactor.getDelayedCalls() == []


def _damaged(event: bytes, at: int, byte: int) -> bytes:
    at %= len(event)
    return event[:at] + bytes([byte]) + event[at + 1 :]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    damage=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=5),
)
def test_every_packet_is_taken_or_refused_and_answered(
    damage: list[tuple[int, int]], cuts: list[int]
) -> None:
    """However the bytes are damaged and cut into pieces, nothing vanishes."""
    door = Door()
    packets = [EVENT, *(_damaged(EVENT, *d) for d in damage)]
    stream = b"".join(frame(p) for p in packets)
    protocol, transport = door.connect()
    # All in one read, or in pieces of one connection as long as it is open.
    for start, end in pairwise([0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]):
        if not transport.disconnecting:
            protocol.dataReceived(stream[start:end])
    roles = [a.get("role") for a in answers(transport)]
    assert roles.count("nak") == len(door.refused)
    assert roles.count("ack") >= len(door.taken)
    assert len(set(door.taken)) == len(door.taken)
    if not cuts:
        assert len(roles) == len(packets)
