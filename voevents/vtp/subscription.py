"""Our side of a connection to another broker.

Importing this module imports ``comet.protocol`` and with it the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comet.protocol.subscriber import VOEventSubscriber, VOEventSubscriberFactory
from twisted.python.failure import Failure

from crossmatch.errors import NoticeError, Rejected
from voevents.digest import event_digest
from voevents.vtp.connections import Connections, log, peer_name, prepare, utc
from voevents.vtp.messages import Role, transport_message
from voevents.vtp.packets import Packet, read_packet
from voevents.vtp.seen import SeenEvents


class BrokerConnection(VOEventSubscriber):  # type: ignore[misc]  # Comet has no types
    """One broker that we hear."""

    factory: SubscriptionFactory

    def connectionMade(self, *args: Any) -> None:  # noqa: N802
        """Wait for what comes."""
        self.peer = peer_name(self.transport)
        self._deaf = False
        self.factory.connections.add(self)
        prepare(self.transport)
        self.setTimeout(self.factory.silence)
        log.info("event=broker_connected peer=%s", self.peer)

    def connectionLost(self, *reason: Any) -> None:  # noqa: N802
        """What was left of a packet is reported."""
        self.setTimeout(None)
        self.factory.connections.discard(self)
        rest = self.recvd
        if rest and not self._deaf:
            detail = f"the connection ended after {len(rest)} bytes of a packet"
            error = NoticeError("truncated_packet", detail)
            self.factory.reject(error, rest[self.prefixLength :], self.peer)

    def callLater(self, delay: float, call: Callable[[], None]) -> Any:  # noqa: N802
        """Timeouts run by the reactor given, not by the global one."""
        return self.factory.reactor.callLater(delay, call)

    def timeoutConnection(self) -> None:  # noqa: N802
        """The broker forgot us, or is gone: connect anew."""
        log.warning("event=broker_silent peer=%s seconds=%g", self.peer, self.factory.silence)
        self.transport.abortConnection()

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """Nothing after such a length can be trusted: connect anew."""
        self._deaf = True
        detail = f"a packet of {length} bytes is announced, at most {self.MAX_LENGTH} are taken"
        error = NoticeError("too_large", detail)
        self.factory.reject(error, self.recvd[self.prefixLength :], self.peer)
        self.transport.abortConnection()

    def stringReceived(self, data: bytes) -> None:  # noqa: N802
        """One complete message."""
        try:
            packet = read_packet(data)
        except NoticeError as error:
            # No nak: a broker may strike us off its list for it.
            self.factory.reject(error, data, self.peer)
            return
        self.resetTimeout()
        if packet.kind == "voevent":
            self._take(packet)
        elif packet.role == "iamalive":
            self._answer("iamalive", packet.ivoid)
        elif packet.role == "authenticate":
            self._answer("authenticate", packet.ivoid, self.factory.filters)
        else:
            detail = "; ".join(packet.values("Result"))
            log.warning(
                "event=broker_says role=%s peer=%s detail=%r", packet.role, self.peer, detail
            )

    def end(self) -> None:
        """Close after what was written has gone out."""
        self._deaf = True
        self.transport.loseConnection()

    def _take(self, packet: Packet) -> None:
        handled = self.factory.seen.once(
            event_digest(packet.raw), lambda: self.factory.on_packet(packet.raw, self.peer)
        )
        handled.addCallbacks(
            self._handled, self._failed, callbackArgs=(packet,), errbackArgs=(packet,)
        )

    def _handled(self, new: bool, packet: Packet) -> None:
        event = "packet_received" if new else "packet_repeated"
        log.info("event=%s ivoid=%s peer=%s", event, packet.ivoid, self.peer)
        self._answer("ack", packet.ivoid)

    def _failed(self, failure: Failure, packet: Packet) -> None:
        # Without a receipt the broker may send it again.
        log.error(
            "event=packet_not_handled ivoid=%s peer=%s error=%r",
            packet.ivoid, self.peer, failure.value,
        )  # fmt: skip

    def _answer(self, role: Role, origin: str, filters: tuple[str, ...] = ()) -> None:
        message = transport_message(
            role,
            origin=origin,
            response=self.factory.local_ivo,
            now=utc(self.factory.reactor),
            filters=filters,
        )
        self.sendString(message)


class SubscriptionFactory(VOEventSubscriberFactory):  # type: ignore[misc]  # Comet has no types
    """Connects, and connects again; see `voevents.vtp.Subscriber` for the arguments."""

    protocol = BrokerConnection
    noisy = False

    def __init__(
        self,
        *,
        reactor: Any,
        local_ivo: str,
        on_packet: Callable[[bytes, str], Any],
        on_reject: Callable[[Rejected, bytes, str], None],
        filters: tuple[str, ...],
        seen: SeenEvents,
        max_length: int,
        silence: float,
        first_delay: float,
        max_delay: float,
        jitter: float,
    ) -> None:
        self.reactor = reactor
        self.clock = reactor
        # Comet calls this from its constructor, and would use the global reactor.
        self.callLater = reactor.callLater
        self.initialDelay = self.delay = first_delay
        self.maxDelay = max_delay
        self.jitter = jitter
        super().__init__(local_ivo=local_ivo, filters=filters)
        self.reset_call.cancel()
        self.filters = filters
        self.on_packet = on_packet
        self.on_reject = on_reject
        self.seen = seen
        self.max_length = max_length
        self.silence = silence
        self.connections = Connections()

    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        """A connection with our limits."""
        if self.reset_call.active():
            self.reset_call.cancel()
        protocol = super().buildProtocol(addr)
        protocol.MAX_LENGTH = self.max_length
        return protocol

    def resetDelay(self) -> None:  # noqa: N802
        """Start again with the first delay.

        Twisted's own also revives a factory that was told to stop, and forgets
        the call that would reconnect.
        """
        self.delay = self.initialDelay
        self.retries = 0

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:  # noqa: N802
        """Try again later."""
        log.warning("event=broker_unreachable peer=%s error=%r", _name(connector), reason.value)
        self._again(connector)

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:  # noqa: N802
        """Try again later."""
        log.info("event=broker_lost peer=%s", _name(connector))
        if self.reset_call.active():
            self.reset_call.cancel()
        self._again(connector)

    def reject(self, error: Rejected, raw: bytes, peer: str) -> None:
        """Log and hand on what was refused."""
        log.warning(
            "event=packet_rejected reason=%s peer=%s bytes=%d detail=%r",
            error.reason, peer, len(raw), error.detail,
        )  # fmt: skip
        self.on_reject(error, raw, peer)

    def _again(self, connector: Any) -> None:
        if self.continueTrying:
            self.connector = connector
            self.retry()


def _name(connector: Any) -> str:
    destination = connector.getDestination()
    return f"{destination.host}:{destination.port}"
