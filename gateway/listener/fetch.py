"""One file by HTTP from hosts that are allowed, bounded in size and in time.

An address in a notice is what a stranger wrote. So every host is looked up here and
connected to by the address that was checked (a second look-up could answer otherwise),
again after every redirect. Private, loopback and other special addresses are refused
unless the operator listed them: the address itself, its network, or a name without a
dot (``localhost``), which can be nobody else's. Proxies of the environment are not used.
"""

from __future__ import annotations

import email.utils
import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from crossmatch.errors import Rejected

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
Again = Literal["never", "soon", "later"]

MAX_REDIRECTS = 5
MAX_ADDRESS = 2048
_CHUNK = 2**16
_STARTS = (b"SIMPLE  =", b"\x1f\x8b")
_TRY_AGAIN = frozenset({404, 408, 425, 429})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What quote() leaves alone: everything an address may have anyway, so that "%2C" and ",1" stay.
_SAFE = "%/:=&?~+!$,;'@()*[]-._"


class FetchFailed(Rejected):
    """A file that was not had.

    ``again`` says whether asking once more may help: ``never``, ``soon`` (it is there but
    is no map, perhaps a place-holder) or ``later``. ``wait_seconds`` is what the server asked for.
    """

    def __init__(
        self, reason: str, detail: str, again: Again = "later", wait_seconds: float = 0.0
    ) -> None:
        super().__init__(reason, detail)
        self.again = again
        self.wait_seconds = wait_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail, self.again, self.wait_seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may ask and take.

    Parameters
    ----------
    hosts : tuple of str
        ``host`` (it and all below it, any port), ``host:port``, an IP address or network.
    max_bytes : int
    seconds : float
        For everything together: connections, redirects, head and body. Looking up a name
        is bounded by the system's resolver alone.
    """

    hosts: tuple[str, ...]
    max_bytes: int
    seconds: float


def fetch(
    url: str,
    limits: Limits,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    monotonic: Callable[[], float] = time.monotonic,
    resolve: Resolve | None = None,
) -> bytes:
    """Bytes of the FITS file at ``url``; a gzipped one stays gzipped.

    Parameters
    ----------
    now : callable
        UTC, for a ``Retry-After`` that is a date.
    monotonic : callable
        Seconds, for the limit of time.
    resolve : callable
        Addresses of a host name and port.

    Raises
    ------
    FetchFailed
        ``map_bad_address``, ``map_host_not_allowed``, ``map_private_address``,
        ``map_too_many_redirects``, ``map_http_error``, ``map_not_there`` (404),
        ``map_busy`` (429, 503), ``map_unreachable``, ``map_too_slow``, ``map_truncated``,
        ``map_too_large`` or ``map_not_fits``.
    """
    end = monotonic() + limits.seconds

    def remaining() -> float:
        left = end - monotonic()
        if left <= 0:
            raise FetchFailed("map_too_slow", f"not complete after {limits.seconds:g} s")
        return left

    for _ in range(MAX_REDIRECTS + 1):
        found = _get(url, limits, remaining, now, resolve or _addresses)
        if isinstance(found, bytes):
            return found
        url = _redirected(url, found)
    raise FetchFailed("map_too_many_redirects", f"more than {MAX_REDIRECTS}", "never")


def allowed(host: str, port: int, hosts: Sequence[str]) -> bool:
    """Whether a host may be asked: listed, or below a listed one; IP addresses only as listed.

    Examples
    --------
    >>> allowed("a.icecube.wisc.edu", 443, ["icecube.wisc.edu"])
    True
    >>> allowed("eviligo.org", 443, ["ligo.org"])
    False
    >>> allowed("127.0.0.1", 80, ["localhost", "127.0.0.1:8080"])
    False
    """
    address = _as_address(host)
    if address is not None:
        return _listed(address, port, hosts)
    for entry in hosts:
        name, entry_port = _entry(entry)
        if entry_port not in (0, port) or not name or _as_network(name) is not None:
            continue
        if host == name or host.endswith(f".{name}"):
            return True
    return False


def is_public(address: Address) -> bool:
    """Whether it is an address of the Internet at large, also when wrapped in an IPv6 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _get(
    url: str,
    limits: Limits,
    remaining: Callable[[], float],
    now: Callable[[], datetime],
    resolve: Resolve,
) -> bytes | str:
    """The file, or where it is said to lie."""
    parts, host, port = _checked(url, limits.hosts)
    connection: _Connection | None = None
    try:
        peers = _peers(host, port, limits.hosts, resolve)
        connection = _Connection(host, port, peers, parts.scheme == "https", remaining)
        target = quote(parts.path or "/", safe=_SAFE)
        query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        connection.request(
            "GET",
            target + query,
            headers={
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "User-Agent": "mmgateway",
            },
        )
        answer = connection.getresponse()
        if answer.status in _REDIRECTS and answer.headers.get("Location"):
            return str(answer.headers["Location"])
        if answer.status != 200:
            raise _http_error(answer, now)
        return _body(answer, limits.max_bytes, remaining)
    except (OSError, http.client.HTTPException) as error:
        remaining()
        reason = "map_truncated" if isinstance(error, http.client.IncompleteRead) else ""
        detail = f"{host}: {type(error).__name__}: {error}"
        raise FetchFailed(reason or "map_unreachable", detail) from error
    finally:
        if connection is not None:
            connection.finish()


def _body(
    answer: http.client.HTTPResponse, max_bytes: int, remaining: Callable[[], float]
) -> bytes:
    """All bytes of an answer; its Content-Length serves only to see that it was cut off."""
    found = bytearray(answer.read(len(_STARTS[0])))
    if not found.startswith(_STARTS):
        raise FetchFailed("map_not_fits", f"begins with {bytes(found)!r}, as no FITS does", "soon")
    while chunk := answer.read(_CHUNK):
        remaining()
        found += chunk
        if len(found) > max_bytes:
            raise FetchFailed("map_too_large", f"more than {max_bytes} bytes", "never")
    if answer.length:
        raise FetchFailed("map_truncated", f"ended {answer.length} bytes early")
    return bytes(found)


def _http_error(answer: http.client.HTTPResponse, now: Callable[[], datetime]) -> FetchFailed:
    status = answer.status
    again: Again = "later" if status in _TRY_AGAIN or status >= 500 else "never"
    reason = {404: "map_not_there", 429: "map_busy", 503: "map_busy"}.get(status, "map_http_error")
    wait = 0.0
    if status in (429, 503):
        wait = retry_after(answer.headers.get("Retry-After", ""), now())
    return FetchFailed(reason, f"HTTP status {status} {answer.reason}"[:120], again, wait)


def retry_after(text: str, now: datetime) -> float:
    """Seconds to wait that a ``Retry-After`` asks for (RFC 9110, 10.2.3); 0 when it says nothing.

    Examples
    --------
    >>> retry_after("120", datetime(2026, 1, 1, tzinfo=UTC))
    120.0
    >>> retry_after("Thu, 01 Jan 2026 00:00:30 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    30.0
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError as error:
        raise FetchFailed("map_bad_address", f"{location[:120]!r}: {error}", "never") from error
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise FetchFailed("map_bad_address", f"redirected from https to {target[:120]!r}", "never")
    return target


def _checked(url: str, hosts: Sequence[str]) -> tuple[SplitResult, str, int]:
    """Address in parts with its host and port, if it may be asked at all."""
    try:
        if len(url) > MAX_ADDRESS or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError("too long, or with blanks, backslashes or control characters")
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        if parts.scheme not in ("http", "https") or not host or not host.isascii():
            raise ValueError("expected http(s)://host/…")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a user name or password in an address is not used")
    except ValueError as error:
        raise FetchFailed("map_bad_address", f"{url[:120]!r}: {error}", "never") from error
    port = port if port is not None else (443 if parts.scheme == "https" else 80)
    if not allowed(host, port, hosts):
        raise FetchFailed(
            "map_host_not_allowed", f"{host}:{port} is not among [maps] hosts", "never"
        )
    return parts, host, port


def _peers(host: str, port: int, hosts: Sequence[str], resolve: Resolve) -> Sequence[str]:
    """Addresses to connect to; every one that the name has must be fit."""
    literal = _as_address(host)
    own_name = "." not in host and ":" not in host and any(_entry(e)[0] == host for e in hosts)
    texts = [str(literal)] if literal is not None else list(resolve(host, port))
    if not texts:
        raise FetchFailed("map_unreachable", f"{host} has no address")
    for text in texts:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (is_public(address) or own_name or _listed(address, port, hosts)):
            raise FetchFailed(
                "map_private_address",
                f"{host} has the address {address}, which is not public;"
                " if it is meant, list the address in [maps] hosts too",
                "never",
            )
    return texts


def _addresses(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _listed(address: Address, port: int, hosts: Sequence[str]) -> bool:
    for entry in hosts:
        name, entry_port = _entry(entry)
        network = _as_network(name)
        if network is not None and entry_port in (0, port) and address in network:
            return True
    return False


def _entry(entry: str) -> tuple[str, int]:
    """Host and port of an entry of the list; port 0: any."""
    entry = entry.strip().lower().rstrip(".")
    if _as_network(entry) is not None:
        return entry, 0
    name, colon, port = entry.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return name.strip("[]"), int(port)
    return entry.strip("[]"), 0


def _as_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001 and 2130706433 are addresses too, as the system reads them.
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def _as_network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class _Connection(http.client.HTTPConnection):
    """A connection to an address already checked, every step of which ends in time."""

    def __init__(
        self,
        host: str,
        port: int,
        peers: Sequence[str],
        tls: bool,
        remaining: Callable[[], float],
    ) -> None:
        super().__init__(host, port)
        self.default_port = 443 if tls else 80
        self._peers = peers
        self._tls = tls
        self._remaining = remaining
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the first address that answers, and no other."""
        for number, peer in enumerate(self._peers, 1):
            try:
                self._socket = socket.create_connection(
                    (peer, self.port), timeout=self._remaining()
                )
                break
            except OSError:
                if number == len(self._peers):
                    raise
        assert self._socket is not None
        if self._tls:
            self._socket.settimeout(self._remaining())
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=self.host)
        self.sock = _TimedSocket(self._socket, self._remaining)

    def finish(self) -> None:
        """Close everything, also what an unread answer holds."""
        self.close()
        if self._socket is not None:
            self._socket.close()


class _TimedSocket:
    """The part of a socket that ``http.client`` uses, with one limit of time for everything.

    A socket's own time-out begins anew with every byte, so that a slow drip never ends.
    """

    def __init__(self, sock: socket.socket, remaining: Callable[[], float]) -> None:
        self._sock = sock
        self._remaining = remaining

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._remaining())
        self._sock.sendall(data)

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._remaining), _CHUNK)

    def close(self) -> None:
        """Nothing: the answer is read after http.client has closed its side."""


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, remaining: Callable[[], float]) -> None:
        self._sock = sock
        self._remaining = remaining

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._remaining())
        return self._sock.recv_into(buffer)
