"""The three services of a VTP node, started and stopped by whoever owns the reactor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred

from crossmatch.errors import Rejected
from voevents.validate import check_submission
from voevents.vtp.connections import Network, listen_tcp, log, networks
from voevents.vtp.seen import SeenEvents

if TYPE_CHECKING:
    from voevents.vtp.author import AuthorFactory
    from voevents.vtp.broadcast import BroadcastFactory
    from voevents.vtp.subscription import SubscriptionFactory

MAX_PACKET_BYTES = 4 * 1024 * 1024
LOOPBACK = ("127.0.0.0/8", "::1/128")


def _ignore(error: Rejected, raw: bytes, peer: str) -> None:
    """What is refused was logged already."""


class Receiver:
    """Takes VOEvents from authors.

    Parameters
    ----------
    reactor : IReactorTCP and IReactorTime
        All methods are for its thread.
    host, port : str, int
        Where to listen; 0 or a taken port: a free one.
    local_ivo : str
        Our IVOID, in receipts.
    on_packet : callable (raw, peer) -> None or Deferred
        Gets each new packet, byte for byte, with ``host:port`` of the author,
        who is sent ``ack`` when it has returned (or its Deferred has fired). If
        it fails the author gets no receipt, and will send again.
    allow : iterable of networks
        CIDR texts or `ipaddress` networks that may connect.
    on_reject : callable (error, raw, peer) -> None
        Gets what was refused with the reason (``error.reason``, ``error.detail``).
        Of a packet that was too long or broke off, ``raw`` has what came.
    check : callable (raw) -> None
        Raises `crossmatch.errors.Rejected` for what shall not be taken.
    seen : SeenEvents
        To share with other services.
    max_length : int
        Longest packet, bytes.
    max_connections : int
        At the same time; more are turned away.
    timeout : float
        Seconds for the whole exchange.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        local_ivo: str,
        on_packet: Callable[[bytes, str], Any],
        allow: Iterable[str | Network] = LOOPBACK,
        *,
        on_reject: Callable[[Rejected, bytes, str], None] = _ignore,
        check: Callable[[bytes], None] = check_submission,
        seen: SeenEvents | None = None,
        max_length: int = MAX_PACKET_BYTES,
        max_connections: int = 100,
        timeout: float = 20.0,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._wanted = port
        self._options: dict[str, Any] = {
            "local_ivo": local_ivo,
            "on_packet": on_packet,
            "on_reject": on_reject,
            "check": check,
            "allow": networks(allow),
            "seen": SeenEvents() if seen is None else seen,
            "max_length": max_length,
            "max_connections": max_connections,
            "timeout": timeout,
        }
        self._listening: Any = None
        self._factory: AuthorFactory | None = None

    @property
    def port(self) -> int:
        """Port that it listens on; 0 before it does."""
        return self._listening.getHost().port if self._listening else 0

    def listen(self) -> int:
        """Open the port and say which it is.

        Raises
        ------
        ServiceError
            If the address cannot be listened on.
        """
        from voevents.vtp.author import AuthorFactory

        self._factory = AuthorFactory(reactor=self._reactor, **self._options)
        self._listening = listen_tcp(self._reactor, self._host, self._wanted, self._factory)
        log.info("event=receiver_listening host=%s port=%d", self._host, self.port)
        return self.port

    def start(self) -> Deferred[int]:
        """As `listen`; fires with the port."""
        return maybeDeferred(self.listen)

    @inlineCallbacks
    def stop(self) -> Any:
        """Close the port, then the connections; fires when all is closed."""
        listening, self._listening = self._listening, None
        if listening is not None and self._factory is not None:
            yield maybeDeferred(listening.stopListening)
            yield self._factory.connections.close(self._reactor)


class Broadcaster:
    """Sends VOEvents to subscribers.

    Parameters
    ----------
    reactor, host, port, local_ivo, allow
        As for `Receiver`.
    alive_interval : float
        Seconds between ``iamalive``; who has not answered one when the next is
        due is dropped. VTP asks for at most 90.
    max_buffer : int
        Bytes that may wait for a subscriber who does not read; beyond, it is
        dropped. A single event may exceed it while nothing else waits.
    max_connections : int
        Subscribers at the same time; more are turned away.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        local_ivo: str,
        allow: Iterable[str | Network] = LOOPBACK,
        *,
        alive_interval: float = 60.0,
        max_buffer: int = 8 * 1024 * 1024,
        max_connections: int = 500,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._wanted = port
        self._options: dict[str, Any] = {
            "local_ivo": local_ivo,
            "allow": networks(allow),
            "interval": alive_interval,
            "max_buffer": max_buffer,
            "max_connections": max_connections,
        }
        self._listening: Any = None
        self._factory: BroadcastFactory | None = None

    @property
    def port(self) -> int:
        """Port that it listens on; 0 before it does."""
        return self._listening.getHost().port if self._listening else 0

    @property
    def subscribers(self) -> int:
        """How many are connected."""
        return len(self._factory.connections) if self._factory else 0

    def listen(self) -> int:
        """Open the port and say which it is.

        Raises
        ------
        ServiceError
            If the address cannot be listened on.
        """
        from voevents.vtp.broadcast import BroadcastFactory

        self._factory = BroadcastFactory(reactor=self._reactor, **self._options)
        self._listening = listen_tcp(self._reactor, self._host, self._wanted, self._factory)
        log.info("event=broadcaster_listening host=%s port=%d", self._host, self.port)
        return self.port

    def start(self) -> Deferred[int]:
        """As `listen`; fires with the port."""
        return maybeDeferred(self.listen)

    def publish(self, xml: bytes) -> int:
        """Send one VOEvent, byte for byte, to everyone; how many there are.

        In the reactor's thread: from another one use
        ``reactor.callFromThread(broadcaster.publish, xml)``.

        Raises
        ------
        NoticeError
            If it is not a VOEvent with an IVOID.
        """
        return self._factory.publish(xml) if self._factory else 0

    @inlineCallbacks
    def stop(self) -> Any:
        """Close the port, then the connections; fires when all is closed."""
        listening, self._listening = self._listening, None
        if listening is not None and self._factory is not None:
            yield maybeDeferred(listening.stopListening)
            yield self._factory.connections.close(self._reactor)


class Subscriber:
    """Hears another broker, and connects again when the connection is lost.

    Parameters
    ----------
    reactor, local_ivo, on_packet, on_reject, seen, max_length
        As for `Receiver`. Nothing is validated here: a broker may carry what
        fails the schema and is still worth reading.
    host, port : str, int
        The broker.
    filters : iterable of str
        XPath expressions that we ask the broker to apply.
    silence : float
        Seconds without a message after which the broker counts as gone.
    first_delay, max_delay : float
        Seconds before the first and the slowest attempt to connect again; each
        delay is e times the one before, scattered by ``jitter``.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        local_ivo: str,
        on_packet: Callable[[bytes, str], Any],
        *,
        on_reject: Callable[[Rejected, bytes, str], None] = _ignore,
        filters: Iterable[str] = (),
        seen: SeenEvents | None = None,
        max_length: int = MAX_PACKET_BYTES,
        silence: float = 120.0,
        first_delay: float = 1.0,
        max_delay: float = 300.0,
        jitter: float = 0.12,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._options: dict[str, Any] = {
            "local_ivo": local_ivo,
            "on_packet": on_packet,
            "on_reject": on_reject,
            "filters": tuple(filters),
            "seen": SeenEvents() if seen is None else seen,
            "max_length": max_length,
            "silence": silence,
            "first_delay": first_delay,
            "max_delay": max_delay,
            "jitter": jitter,
        }
        self._connector: Any = None
        self._factory: SubscriptionFactory | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker is connected now."""
        return self._factory is not None and len(self._factory.connections) > 0

    def start(self) -> Deferred[None]:
        """Begin to connect; fires at once, for the broker may be away for long."""
        return maybeDeferred(self._start)

    def _start(self) -> None:
        from voevents.vtp.subscription import SubscriptionFactory

        self._factory = SubscriptionFactory(reactor=self._reactor, **self._options)
        self._connector = self._reactor.connectTCP(self._host, self._port, self._factory)

    @inlineCallbacks
    def stop(self) -> Any:
        """Disconnect and stay so; fires when it is done."""
        connector, self._connector = self._connector, None
        if connector is not None and self._factory is not None:
            self._factory.stopTrying()
            yield self._factory.connections.close(self._reactor)
            connector.disconnect()
