"""Who may connect, who is connected, and how connections and ports are opened and closed."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import ITCPTransport

from crossmatch.errors import ConfigError, ServiceError

log = logging.getLogger("mmgateway.vtp")

Network: TypeAlias = IPv4Network | IPv6Network


class Connection(Protocol):
    """What `Connections` asks of a protocol."""

    transport: Any

    def end(self) -> None:
        """Close after what was written has gone out."""


class Connections:
    """The open connections of one service."""

    def __init__(self) -> None:
        self._open: set[Any] = set()
        self._waiting: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self._open))

    def add(self, connection: Connection) -> None:
        """A connection was made."""
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """A connection was lost."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def close(self, reactor: Any, grace: float = 2.0) -> Deferred[None]:
        """End all; after ``grace`` seconds without ceremony. Fires when none is left."""
        if not self._open:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        abort = reactor.callLater(grace, self._abort)

        def closed(result: None) -> None:
            if abort.active():
                abort.cancel()

        done.addCallback(closed)
        for connection in self:
            connection.end()
        return done

    def _abort(self) -> None:
        for connection in self:
            connection.transport.abortConnection()


def networks(allow: Iterable[str | Network]) -> tuple[Network, ...]:
    """Networks of an allow-list.

    Raises
    ------
    ConfigError
        For an entry that is not CIDR.
    """
    try:
        return tuple(ip_network(n) if isinstance(n, str) else n for n in allow)
    except ValueError as error:
        raise ConfigError(f"[vtp] allow-list: {error}; write for example 192.0.2.0/24") from error


def allowed(host: str, allow: Iterable[Network]) -> bool:
    """Whether ``host``, an address as text, lies in one of the networks."""
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # How a socket that listens on :: names its IPv4 peers.
        address = address.ipv4_mapped
    return any(address in network for network in allow)


def peer_name(transport: Any) -> str:
    """``host:port`` of the other side."""
    peer = transport.getPeer()
    return f"{peer.host}:{peer.port}"


def prepare(transport: Any) -> None:
    """Send small messages at once, and notice peers whose machine is gone."""
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)


def utc(reactor: Any) -> datetime:
    """Time by the reactor's clock."""
    return datetime.fromtimestamp(reactor.seconds(), UTC)


def may_enter(factory: Any, address: Any) -> bool:
    """Allow-list and number of connections of a server factory."""
    if not allowed(address.host, factory.allow):
        log.warning("event=peer_refused peer=%s:%s reason=not_allowed", address.host, address.port)
        return False
    if len(factory.connections) >= factory.max_connections:
        log.warning("event=peer_refused peer=%s:%s reason=full", address.host, address.port)
        return False
    return True


def listen_tcp(reactor: Any, host: str, port: int, factory: Any) -> Any:
    """Listening port; when ``port`` is taken, a free one instead.

    Raises
    ------
    ServiceError
        If the address cannot be listened on at all.
    """
    try:
        return reactor.listenTCP(port, factory, interface=host)
    except CannotListenError as error:
        if port == 0 or getattr(error.socketError, "errno", None) != errno.EADDRINUSE:
            raise _cannot_listen(host, port, error) from error
        log.warning("event=port_taken host=%s port=%d action=choosing_a_free_one", host, port)
    try:
        return reactor.listenTCP(0, factory, interface=host)
    except CannotListenError as error:
        raise _cannot_listen(host, 0, error) from error


def _cannot_listen(host: str, port: int, error: CannotListenError) -> ServiceError:
    why = getattr(error.socketError, "strerror", None) or error.socketError
    return ServiceError(f"cannot listen on {host}:{port}: {why}; see [vtp] in the configuration")
