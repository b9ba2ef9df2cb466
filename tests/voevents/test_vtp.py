"""Messages, packets, allow-lists, ports."""

from __future__ import annotations

import errno
import subprocess
import sys
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
from lxml import etree
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from crossmatch.errors import ConfigError, ServiceError
from voevents.digest import event_digest
from voevents.vtp import Broadcaster, Receiver
from voevents.vtp.connections import allowed, networks
from voevents.vtp.messages import frame, transport_message
from voevents.vtp.packets import guessed_ivoid, read_packet
from voevents.vtp.seen import SeenEvents

NOW = datetime(2017, 8, 17, 12, 41, 6, tzinfo=UTC)


def test_importing_installs_no_reactor() -> None:
    code = "import sys, voevents.vtp; sys.exit('twisted.internet.reactor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("role", ["iamalive", "ack", "nak", "authenticate"])
def test_messages_satisfy_the_transport_schema(role: Any) -> None:
    path = resources.files("comet") / "schema" / "transport-1.1.xsd"
    schema = etree.XMLSchema(etree.fromstring(path.read_bytes()))
    message = transport_message(
        role, origin="ivo://a/b#c", response="ivo://d/e", now=NOW, result="why", filters=["//x"]
    )
    schema.assertValid(etree.fromstring(message))


def test_reasons_with_bytes_that_xml_lacks_can_be_said() -> None:
    message = transport_message("nak", origin="ivo://a/b", now=NOW, result="bad \x00 <\udc80>")
    assert etree.fromstring(message).findtext("Meta/Result") == "bad \ufffd <\ufffd>"


def test_a_frame_has_its_length_in_network_order() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"


@pytest.mark.parametrize(
    "same",
    [
        b"<v:VOEvent xmlns:v='x'><a/></v:VOEvent>",
        b"\xef\xbb\xbf<v:VOEvent xmlns:v='x'><a/></v:VOEvent>",
        b"<?xml version='1.0'?>\n<!-- a > b --><v:VOEvent xmlns:v='x'><a/></v:VOEvent>\n\n",
        b"<v:VOEvent xmlns:v='x'><a/></v:VOEvent><!-- </v:VOEvent> --><?x </v:VOEvent> ?>",
    ],
)
def test_what_stands_around_the_element_does_not_count(same: bytes) -> None:
    assert event_digest(same) == event_digest(b"<v:VOEvent xmlns:v='x'><a/></v:VOEvent>")


@pytest.mark.parametrize(
    "other",
    [
        b"<v:VOEvent xmlns:v='x'><a /></v:VOEvent>",
        b"<v:VOEvent xmlns:v='x'><a/><!-- --></v:VOEvent>",
        b"<v:VOEvent xmlns:v='x'><a/></v:VOEvent >",
        b'<v:VOEvent xmlns:v="x"><a/></v:VOEvent>',
    ],
)
def test_every_bit_within_the_element_counts(other: bytes) -> None:
    assert event_digest(other) != event_digest(b"<v:VOEvent xmlns:v='x'><a/></v:VOEvent>")


def test_packets_are_known_by_local_name() -> None:
    for namespace in ("urn:one", "urn:two"):
        head = f"<t:Transport xmlns:t='{namespace}' role='ack'>"
        packet = read_packet(f"{head}<Origin> ivo://a/b </Origin></t:Transport>".encode())
        assert (packet.kind, packet.role, packet.ivoid) == ("transport", "ack", "ivo://a/b")


def test_an_ivoid_is_guessed_from_broken_packets() -> None:
    assert guessed_ivoid(b"<VOEvent ivorn='ivo://a/b#c' <<") == "ivo://a/b#c"
    assert guessed_ivoid(b"<VOEvent ivorn='http://a'") == ""
    assert guessed_ivoid(b"<VOEvent ivorn='ivo://a/b\x00c'") == ""


def test_what_was_not_met_for_longest_is_forgotten() -> None:
    seen = SeenEvents(capacity=2)
    seen.add(b"a")
    seen.add(b"b")
    assert b"a" in seen
    seen.add(b"c")
    assert (b"a" in seen, b"b" in seen, b"c" in seen, len(seen)) == (True, False, True, 2)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::ffff:127.9.0.1", True), ("::1", True), ("192.0.2.1", False)],
)
def test_allow_lists(host: str, expected: bool) -> None:
    assert allowed(host, networks(["127.0.0.0/8", "::1/128"])) is expected


def test_a_bad_allow_list_is_told_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="allow-list"):
        networks(["localhost"])


class BusyReactor(MemoryReactorClock):
    """Port 8099 is taken; the address 192.0.2.1 is not ours."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:  # noqa: N802
        if interface == "192.0.2.1":
            code = errno.EADDRNOTAVAIL
            raise CannotListenError(interface, port, OSError(code, "Cannot assign address"))
        if port == 8099:
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "in use"))
        return super().listenTCP(port or 51234, factory, backlog, interface)


def test_a_taken_port_becomes_a_free_one(caplog: pytest.LogCaptureFixture) -> None:
    service = Broadcaster(BusyReactor(), "127.0.0.1", 8099, "ivo://a/b")
    with caplog.at_level("WARNING", logger="mmgateway.vtp"):
        assert service.listen() == service.port == 51234
    assert "event=port_taken host=127.0.0.1 port=8099" in caplog.text


def test_an_address_that_is_not_ours_is_told_in_a_sentence() -> None:
    service = Receiver(BusyReactor(), "192.0.2.1", 8098, "ivo://a/b", lambda raw, peer: None)
    with pytest.raises(ServiceError, match=r"cannot listen on 192.0.2.1:8098: Cannot assign"):
        service.listen()
