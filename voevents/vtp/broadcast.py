"""The broadcaster's side of a connection to a subscriber.

Importing this module imports ``comet.protocol`` and with it the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from comet.protocol.broadcaster import VOEventBroadcaster, VOEventBroadcasterFactory
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from crossmatch.errors import NoticeError
from voevents.vtp.connections import (
    Connections,
    Network,
    log,
    may_enter,
    peer_name,
    prepare,
    utc,
)
from voevents.vtp.messages import Role, frame, transport_message
from voevents.vtp.packets import Packet, read_packet

# Subscribers send receipts of a few hundred bytes.
MAX_RECEIPT_BYTES = 65536
MAX_UNACKNOWLEDGED = 10
MAX_STRAY_MESSAGES = 100
NO_FILTERS = "this broker has no XPath filters: subscribe without and select at your side"


@implementer(IPushProducer)
class Outbox:
    """What waits for one subscriber, at most ``limit`` bytes.

    The transport says when it has enough; what comes then waits here, where it
    can be counted. The frames are shared by all subscribers, so what waits for
    many is held once.
    """

    def __init__(self, transport: Any, limit: int, overflow: Callable[[], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._waiting: deque[bytes] = deque()
        self._paused = False
        self.waiting_bytes = 0
        transport.registerProducer(self, True)

    def send(self, data: bytes) -> None:
        """Write ``data`` now or when the peer has read what came before."""
        if not self._paused:
            self._transport.write(data)
            return
        self._waiting.append(data)
        self.waiting_bytes += len(data)
        if self.waiting_bytes > self._limit:
            self._overflow()

    def close(self) -> None:
        """Forget what waits, so that the transport may close."""
        self._waiting.clear()
        self.waiting_bytes = 0
        self._transport.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport takes more."""
        self._paused = False
        while self._waiting and not self._paused:
            data = self._waiting.popleft()
            self.waiting_bytes -= len(data)
            self._transport.write(data)

    def stopProducing(self) -> None:  # noqa: N802
        """The transport is gone."""
        self._paused = True
        self._waiting.clear()
        self.waiting_bytes = 0


class SubscriberConnection(VOEventBroadcaster):  # type: ignore[misc]  # Comet has no types
    """One subscriber."""

    MAX_LENGTH = MAX_RECEIPT_BYTES
    factory: BroadcastFactory

    def connectionMade(self) -> None:  # noqa: N802
        """Greet, as Comet does; the answer may ask for filters."""
        self.peer = peer_name(self.transport)
        self._open = True
        self._alive_awaited = False
        self._unacknowledged: deque[float] = deque()
        self._strays = 0
        prepare(self.transport)
        self._outbox = Outbox(
            self.transport, self.factory.max_buffer, lambda: self.drop("does_not_read")
        )
        self.factory.connections.add(self)
        log.info("event=subscriber_connected peer=%s", self.peer)
        self._say("authenticate")

    def connectionLost(self, *reason: Any) -> None:  # noqa: N802
        """Forget the subscriber."""
        self._open = False
        self.factory.connections.discard(self)
        log.info("event=subscriber_gone peer=%s", self.peer)

    def sendIAmAlive(self) -> None:  # noqa: N802
        """Once an interval: drop who did not answer the last one, else ask again."""
        if not self._open:
            return
        now = self.factory.reactor.seconds()
        if self._alive_awaited:
            self.drop("silent")
        elif (
            len(self._unacknowledged) >= MAX_UNACKNOWLEDGED
            and now - self._unacknowledged[0] >= self.factory.interval
        ):
            self.drop("does_not_acknowledge")
        else:
            self._alive_awaited = True
            self._strays = 0
            self._say("iamalive")

    def send_frame(self, data: bytes) -> None:
        """One event, framed."""
        if self._open:
            self._unacknowledged.append(self.factory.reactor.seconds())
            self._outbox.send(data)

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """No receipt is that long."""
        self.drop("message_too_long")

    def stringReceived(self, data: bytes) -> None:  # noqa: N802
        """A receipt, an answer to ``iamalive``, or something that does not belong here."""
        if not self._open:
            return
        try:
            packet = read_packet(data)
        except NoticeError as error:
            self._stray(str(error))
            return
        if packet.kind == "transport" and packet.role == "iamalive" and self._alive_awaited:
            self._alive_awaited = False
        elif packet.kind == "transport" and packet.role in ("ack", "nak") and self._unacknowledged:
            self._receipt(packet)
        elif packet.kind == "transport" and packet.role == "authenticate":
            self._authenticated(packet)
        else:
            self._stray(f"{packet.kind} {packet.role!r} that nobody asked for")

    def drop(self, reason: str) -> None:
        """Disconnect at once."""
        if self._open:
            self._open = False
            log.warning("event=subscriber_dropped peer=%s reason=%s", self.peer, reason)
            self._outbox.close()
            self.transport.abortConnection()

    def end(self) -> None:
        """Close after what was written has gone out."""
        if self._open:
            self._open = False
            self._outbox.close()
            self.transport.loseConnection()

    def _receipt(self, packet: Packet) -> None:
        self._unacknowledged.popleft()
        if packet.role == "nak":
            # Permanent, and it is not sent again; the next event may suit better.
            why = "; ".join(packet.values("Result"))
            log.warning(
                "event=event_refused ivoid=%s peer=%s detail=%r", packet.ivoid, self.peer, why
            )

    def _authenticated(self, packet: Packet) -> None:
        if packet.asks_for_filters():
            log.warning("event=subscriber_dropped peer=%s reason=asks_for_filters", self.peer)
            self._say("nak", response=self.factory.local_ivo, result=NO_FILTERS)
            self.end()

    def _stray(self, what: str) -> None:
        self._strays += 1
        log.info("event=stray_message peer=%s detail=%r", self.peer, what)
        if self._strays > MAX_STRAY_MESSAGES:
            self.drop("too_many_stray_messages")

    def _say(self, role: Role, response: str = "", result: str = "") -> None:
        message = transport_message(
            role,
            origin=self.factory.local_ivo,
            response=response,
            result=result,
            now=utc(self.factory.reactor),
        )
        self._outbox.send(frame(message))


class BroadcastFactory(VOEventBroadcasterFactory):  # type: ignore[misc]  # Comet has no types
    """Connections of subscribers; see `voevents.vtp.Broadcaster` for the arguments."""

    protocol = SubscriberConnection
    noisy = False

    def __init__(
        self,
        *,
        reactor: Any,
        local_ivo: str,
        allow: tuple[Network, ...],
        interval: float,
        max_buffer: int,
        max_connections: int,
    ) -> None:
        super().__init__(local_ivo, test_interval=0)
        self.reactor = reactor
        self.allow = allow
        self.interval = interval
        self.IAMALIVE_INTERVAL = interval
        self.alive_loop.clock = reactor
        self.max_buffer = max_buffer
        self.max_connections = max_connections
        self.connections = Connections()

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        """A connection, or None for whom we do not let in."""
        return super().buildProtocol(addr) if may_enter(self, addr) else None

    def sendIAmAlive(self) -> None:  # noqa: N802
        """Once an interval."""
        for connection in self.connections:
            connection.sendIAmAlive()

    def publish(self, xml: bytes) -> int:
        """Send one event to every subscriber; how many there are."""
        packet = read_packet(xml)
        if packet.kind != "voevent":
            raise NoticeError("not_a_voevent", "only VOEvents are broadcast")
        framed = frame(xml)
        count = 0
        for connection in self.connections:
            connection.send_frame(framed)
            count += 1
        log.info("event=event_broadcast ivoid=%s subscribers=%d", packet.ivoid, count)
        return count
