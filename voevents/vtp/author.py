"""The receiver's side of a connection from an author: one packet, one answer.

Importing this module imports ``comet.protocol`` and with it the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comet.protocol.receiver import VOEventReceiver, VOEventReceiverFactory
from twisted.python.failure import Failure

from crossmatch.errors import NoticeError, Rejected
from voevents.digest import event_digest
from voevents.validate import ROLES
from voevents.vtp.connections import (
    Connections,
    Network,
    log,
    may_enter,
    peer_name,
    prepare,
    utc,
)
from voevents.vtp.messages import Role, transport_message
from voevents.vtp.packets import Packet, guessed_ivoid, read_packet
from voevents.vtp.seen import SeenEvents

# How long a refused author may take to read why, before the connection is closed.
LINGER_S = 2.0


class AuthorConnection(VOEventReceiver):  # type: ignore[misc]  # Comet has no types
    """One author. Every complete packet is answered; then the connection is closed."""

    factory: AuthorFactory

    def connectionMade(self) -> None:  # noqa: N802
        """Start the clock: the whole exchange has a limit, not each pause in it."""
        self.peer = peer_name(self.transport)
        self._unanswered = 0
        self._messages = 0
        self._reading = False
        self._deaf = False
        self.factory.connections.add(self)
        prepare(self.transport)
        self.setTimeout(self.factory.timeout)

    def connectionLost(self, *reason: Any) -> None:  # noqa: N802
        """What was left of a packet is reported."""
        self.setTimeout(None)
        self.factory.connections.discard(self)
        self._report_rest("truncated_packet", "the connection ended")

    def callLater(self, delay: float, call: Callable[[], None]) -> Any:  # noqa: N802
        """Timeouts run by the reactor given, not by the global one."""
        return self.factory.reactor.callLater(delay, call)

    def timeoutConnection(self) -> None:  # noqa: N802
        """Time is up."""
        self._report_rest("author_timeout", f"{self.factory.timeout:g} s were over")
        self._deaf = True
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Feed the bytes to the message parser; close once all that came is answered."""
        if self._deaf:
            return
        self._reading = True
        try:
            super().dataReceived(data)
        finally:
            self._reading = False
        self._close_if_done()

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """Refuse, and read on without keeping anything, so that the refusal is not lost.

        Closing at once would reset the connection while the author still sends,
        and with it the ``nak`` that he has not read yet.
        """
        raw = self.recvd[self.prefixLength :]
        self._deaf = True
        detail = f"a packet of {length} bytes is announced, at most {self.MAX_LENGTH} are taken"
        self._refuse(NoticeError("too_large", detail), raw)
        self._unprocessed = b""
        self._compatibilityOffset = 0
        self.setTimeout(LINGER_S)

    def stringReceived(self, data: bytes) -> None:  # noqa: N802
        """One complete message."""
        self._messages += 1
        ivoid = ""
        try:
            packet = read_packet(data)
            ivoid = packet.ivoid
            self._check(packet)
        except Rejected as error:
            self._refuse(error, data, ivoid)
            return
        self._accept(packet)

    def end(self) -> None:
        """Close after what was written has gone out."""
        self._deaf = True
        self.transport.loseConnection()

    def _check(self, packet: Packet) -> None:
        if packet.kind != "voevent":
            raise NoticeError("unexpected_message", f"authors send VOEvents, not {packet.role!r}")
        # The schema has a default: without a role it is an observation.
        if packet.role and packet.role not in ROLES:
            raise NoticeError("bad_role", f"{packet.role!r} is none of {', '.join(ROLES)}")
        if not packet.ivoid.startswith("ivo://") or "#" not in packet.ivoid:
            raise NoticeError("bad_ivoid", f"{packet.ivoid[:200]!r} is not ivo://author/stream#id")
        self.factory.check(packet.raw)

    def _accept(self, packet: Packet) -> None:
        self._unanswered += 1
        handled = self.factory.seen.once(
            event_digest(packet.raw), lambda: self.factory.on_packet(packet.raw, self.peer)
        )
        handled.addCallbacks(
            self._handled, self._failed, callbackArgs=(packet,), errbackArgs=(packet,)
        )
        handled.addBoth(self._finished)

    def _handled(self, new: bool, packet: Packet) -> None:
        event = "packet_received" if new else "packet_repeated"
        log.info("event=%s ivoid=%s peer=%s", event, packet.ivoid, self.peer)
        self._answer("ack", packet.ivoid)

    def _failed(self, failure: Failure, packet: Packet) -> None:
        # A nak would be permanent; without a receipt the author sends it again.
        log.error(
            "event=packet_not_handled ivoid=%s peer=%s error=%r",
            packet.ivoid, self.peer, failure.value,
        )  # fmt: skip

    def _finished(self, result: object) -> None:
        self._unanswered -= 1
        self._close_if_done()

    def _refuse(self, error: Rejected, raw: bytes, ivoid: str = "") -> None:
        self.factory.reject(error, raw, self.peer)
        # Origin must name something: without an IVOID in the packet it is ours.
        origin = ivoid or guessed_ivoid(raw) or self.factory.local_ivo
        self._answer("nak", origin, str(error))

    def _answer(self, role: Role, origin: str, result: str = "") -> None:
        message = transport_message(
            role,
            origin=origin,
            response=self.factory.local_ivo,
            now=utc(self.factory.reactor),
            result=result,
        )
        self.sendString(message)

    def _close_if_done(self) -> None:
        if self._messages and not self._unanswered and not self._reading and not self._deaf:
            self.end()

    def _report_rest(self, reason: str, what: str) -> None:
        rest = self.recvd
        if rest and not self._deaf:
            detail = f"{what} after {len(rest)} bytes of a packet"
            self.factory.reject(NoticeError(reason, detail), rest[self.prefixLength :], self.peer)
        self._deaf = True


class AuthorFactory(VOEventReceiverFactory):  # type: ignore[misc]  # Comet has no types
    """Connections from authors; see `voevents.vtp.Receiver` for the arguments."""

    protocol = AuthorConnection
    noisy = False

    def __init__(
        self,
        *,
        reactor: Any,
        local_ivo: str,
        on_packet: Callable[[bytes, str], Any],
        on_reject: Callable[[Rejected, bytes, str], None],
        check: Callable[[bytes], None],
        allow: tuple[Network, ...],
        seen: SeenEvents,
        max_length: int,
        max_connections: int,
        timeout: float,
    ) -> None:
        super().__init__(local_ivo)
        self.reactor = reactor
        self.on_packet = on_packet
        self.on_reject = on_reject
        self.check = check
        self.allow = allow
        self.seen = seen
        self.max_length = max_length
        self.max_connections = max_connections
        self.timeout = timeout
        self.connections = Connections()

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        """A connection, or None for whom we do not let in."""
        if not may_enter(self, addr):
            return None
        protocol = super().buildProtocol(addr)
        protocol.MAX_LENGTH = self.max_length
        return protocol

    def reject(self, error: Rejected, raw: bytes, peer: str) -> None:
        """Log and hand on what was refused."""
        log.warning(
            "event=packet_rejected reason=%s peer=%s bytes=%d detail=%r",
            error.reason, peer, len(raw), error.detail,
        )  # fmt: skip
        self.on_reject(error, raw, peer)
