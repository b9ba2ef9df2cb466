from __future__ import annotations

import pickle
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.listener.fetch import FetchFailed, Limits, allowed, fetch, is_public, retry_after

FITS = b"SIMPLE  =                    T" + b" " * 2850
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OK = b"HTTP/1.1 200 OK\r\n"

Answer = Callable[[socket.socket, str, threading.Event], None]


class Server(socketserver.ThreadingTCPServer):
    """Answers each path as a test wants it, byte for byte."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def put(self, path: str, head: bytes, body: bytes = b"") -> str:
        self.answers[path] = lambda sock, _, __: sock.sendall(head + b"\r\n" + body)
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is what many of these tests are about."""


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = self.request.recv(4096)
            if not chunk:
                return
            head += chunk
        path = head.split(b" ")[1].decode()
        self.server.asked.append(path)
        answer = self.server.answers.get(path)
        if answer is None:
            self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        else:
            answer(self.request, path, self.server.over)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def limits(**changed: Any) -> Limits:
    given: dict[str, Any] = {"hosts": ("127.0.0.1",), "max_bytes": 10**6, "seconds": 5.0}
    return Limits(**{**given, **changed})


def failure(url: str, **changed: Any) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        fetch(url, limits(**changed), now=lambda: NOW)
    return caught.value


@pytest.mark.parametrize("body", [FITS, b"\x1f\x8b\x08" + b"x" * 100])
def test_file_comes_as_it_is(server: Server, body: bytes) -> None:
    url = server.put("/a,1", OK + b"Content-Encoding: gzip\r\n", body)
    assert fetch(url, limits()) == body
    assert server.asked == ["/a,1"]


def test_chunked_file(server: Server) -> None:
    body = b"5\r\n" + FITS[:5] + b"\r\n" + b"%x\r\n" % (len(FITS) - 5) + FITS[5:] + b"\r\n0\r\n\r\n"
    assert fetch(server.put("/a", OK + b"Transfer-Encoding: chunked\r\n", body), limits()) == FITS


def test_query_and_escapes_stay(server: Server) -> None:
    path = "/a%2Cb?x=1&y=%20"
    assert fetch(server.put(path, OK, FITS) + "#part", limits()) == FITS


@pytest.mark.parametrize(
    ("status", "reason", "again", "wait"),
    [
        (b"404 Not Found\r\n", "map_not_there", "later", 0.0),
        (b"403 Forbidden\r\n", "map_http_error", "never", 0.0),
        (b"410 Gone\r\n", "map_http_error", "never", 0.0),
        (b"408 Slow\r\n", "map_http_error", "later", 0.0),
        (b"425 Early\r\n", "map_http_error", "later", 0.0),
        (b"500 Broken\r\n", "map_http_error", "later", 0.0),
        (b"429 Busy\r\nRetry-After: 17\r\n", "map_busy", "later", 17.0),
        (b"503 Busy\r\nRetry-After: Thu, 01 Jan 2026 00:01:00 GMT\r\n", "map_busy", "later", 60.0),
        (b"204 Nothing\r\n", "map_http_error", "never", 0.0),
        (b"302 Nowhere\r\n", "map_http_error", "never", 0.0),
    ],
)
def test_what_a_status_means(
    server: Server, status: bytes, reason: str, again: str, wait: float
) -> None:
    found = failure(server.put("/a", b"HTTP/1.1 " + status))
    assert (found.reason, found.again, found.wait_seconds) == (reason, again, wait)


def test_page_in_place_of_a_map_is_not_read_on(server: Server) -> None:
    def endless(sock: socket.socket, path: str, over: threading.Event) -> None:
        sock.sendall(OK + b"\r\n<!DOCTYPE html>")
        over.wait()

    server.answers["/a"] = endless
    found = failure(server.url("/a"))
    assert (found.reason, found.again) == ("map_not_fits", "soon")


def test_nothing_is_no_fits(server: Server) -> None:
    assert failure(server.put("/a", OK)).reason == "map_not_fits"


def test_endless_body_ends_at_the_limit(server: Server) -> None:
    def endless(sock: socket.socket, path: str, over: threading.Event) -> None:
        sock.sendall(OK + b"\r\n" + FITS)
        while not over.is_set():
            sock.sendall(b" " * 65536)

    server.answers["/a"] = endless
    found = failure(server.url("/a"))
    assert (found.reason, found.again) == ("map_too_large", "never")


def test_length_that_lies_is_not_believed(server: Server) -> None:
    found = failure(server.put("/a", OK + b"Content-Length: 999999999999999\r\n", FITS))
    assert (found.reason, found.again) == ("map_truncated", "later")


def test_cut_off_chunks(server: Server) -> None:
    body = b"ffff\r\n" + FITS
    found = failure(server.put("/a", OK + b"Transfer-Encoding: chunked\r\n", body))
    assert (found.reason, found.again) == ("map_truncated", "later")


@pytest.mark.parametrize("begin", [OK + b"\r\n" + FITS, OK + b"X: ", b"HT"])
def test_slow_drip_ends_in_time_as_a_whole(server: Server, begin: bytes) -> None:
    def drip(sock: socket.socket, path: str, over: threading.Event) -> None:
        sock.sendall(begin)
        while not over.wait(0.02):
            sock.sendall(b"a")

    server.answers["/a"] = drip
    found = failure(server.url("/a"), seconds=0.2)
    assert (found.reason, found.again) == ("map_too_slow", "later")


def test_silent_server_ends_in_time(server: Server) -> None:
    server.answers["/a"] = lambda _, __, over: over.wait() and None
    assert failure(server.url("/a"), seconds=0.1).reason == "map_too_slow"


def test_reset_is_tried_again(server: Server) -> None:
    def reset(sock: socket.socket, path: str, over: threading.Event) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    server.answers["/a"] = reset
    found = failure(server.url("/a"))
    assert (found.reason, found.again) == ("map_unreachable", "later")


def test_closed_port_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/").again == "later"


def test_no_http_at_all(server: Server) -> None:
    server.answers["/a"] = lambda sock, _, __: sock.sendall(b"SSH-2.0-x\r\n")
    assert failure(server.url("/a")).reason == "map_unreachable"


def test_redirect_is_followed(server: Server) -> None:
    server.put("/b", OK, FITS)
    url = server.put("/a", b"HTTP/1.1 301 Moved\r\nLocation: b\r\n")
    assert fetch(url, limits()) == FITS


def test_redirects_are_bounded(server: Server) -> None:
    url = server.put("/a", b"HTTP/1.1 302 Moved\r\nLocation: /a\r\n")
    assert failure(url).reason == "map_too_many_redirects"
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (b"http://evil.example/a", "map_host_not_allowed"),
        (b"http://169.254.169.254/latest", "map_host_not_allowed"),
        (b"http://127.0.0.2/", "map_host_not_allowed"),
        (b"http://u:p@127.0.0.1/", "map_bad_address"),
        (b"file:///etc/passwd", "map_bad_address"),
        (b"gopher://127.0.0.1/", "map_bad_address"),
        (b"http://[", "map_bad_address"),
    ],
)
def test_redirect_to_what_may_not_be_asked(server: Server, location: bytes, reason: str) -> None:
    found = failure(server.put("/a", b"HTTP/1.1 302 Moved\r\nLocation: " + location + b"\r\n"))
    assert (found.reason, found.again) == (reason, "never")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "//127.0.0.1/a",
        "http:///a",
        "http://user@127.0.0.1/a",
        "http://127.0.0.1/a b",
        "http://127.0.0.1\\@x/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/\r\nHost: x",
        "http://bücher.example/",
        "http://127.0.0.1/" + "a" * 3000,
        "",
    ],
)
def test_address_that_is_none(url: str) -> None:
    found = failure(url)
    assert (found.reason, found.again) == ("map_bad_address", "never")


@pytest.mark.parametrize(
    ("host", "hosts", "expected"),
    [
        ("gracedb.ligo.org", ["gracedb.ligo.org"], True),
        ("a.gracedb.ligo.org", ["Gracedb.LIGO.org."], True),
        ("evil-gracedb.ligo.org", ["gracedb.ligo.org"], False),
        ("ligo.org", ["gracedb.ligo.org"], False),
        ("gracedb.ligo.org.evil.example", ["gracedb.ligo.org"], False),
        ("maps.example", ["maps.example:8443"], False),
        ("maps.example", ["maps.example:443"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("2130706433", ["127.0.0.1"], True),
        ("0x7f.1", ["localhost"], False),
        ("::1", ["::1"], True),
        ("::1", ["127.0.0.1"], False),
        ("anything.example", [""], False),
    ],
)
def test_who_may_be_asked(host: str, hosts: list[str], expected: bool) -> None:
    assert allowed(host, 443, hosts) is expected


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "2001:0:1::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_of_the_internet(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(ip_address(address))


def _resolved(url: str, hosts: tuple[str, ...], *addresses: str) -> bytes:
    return fetch(url, limits(hosts=hosts), resolve=lambda host, port: addresses)


def test_name_with_a_private_address_is_not_asked(server: Server) -> None:
    url = f"http://maps.example:{server.port}/a"
    with pytest.raises(FetchFailed, match="not public") as caught:
        _resolved(url, ("maps.example",), "93.184.216.34", "127.0.0.1")
    assert (caught.value.reason, caught.value.again) == ("map_private_address", "never")
    assert server.asked == []


def test_name_with_a_private_address_that_is_listed_too(server: Server) -> None:
    server.put("/a", OK, FITS)
    url = f"http://maps.example:{server.port}/a"
    assert _resolved(url, ("maps.example", "127.0.0.0/8"), "127.0.0.1") == FITS


def test_name_without_a_dot_is_ours(server: Server) -> None:
    server.put("/a", OK, FITS)
    assert _resolved(f"http://localhost:{server.port}/a", ("localhost",), "127.0.0.1") == FITS


def test_the_checked_address_is_the_one_asked(server: Server) -> None:
    """A second look-up may give another address: there is none."""
    server.put("/a", OK, FITS)
    found: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        found.append(host)
        return ["127.0.0.1"]

    url = f"http://maps.invalid:{server.port}/a"
    assert fetch(url, limits(hosts=("maps.invalid", "127.0.0.1")), resolve=resolve) == FITS
    assert found == ["maps.invalid"]


def test_next_address_when_the_first_does_not_answer(server: Server) -> None:
    server.put("/a", OK, FITS)
    url = f"http://localhost:{server.port}/a"
    assert _resolved(url, ("localhost",), "127.0.0.99", "127.0.0.1") == FITS


def test_name_that_is_not_known_is_tried_again() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(FetchFailed) as caught:
        fetch("https://maps.example/a", limits(hosts=("maps.example",)), resolve=resolve)
    assert (caught.value.reason, caught.value.again) == ("map_unreachable", "later")


def test_no_way_from_https_to_http(server: Server) -> None:
    from gateway.listener.fetch import _redirected

    with pytest.raises(FetchFailed) as caught:
        _redirected("https://a.example/x", "http://a.example/y")
    assert caught.value.reason == "map_bad_address"
    assert _redirected("http://a.example/x", "https://a.example/y") == "https://a.example/y"


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1e9", "9" * 30, "Thu, 99 Jan 2026 00:00:30 GMT"]
)
def test_retry_after_that_says_nothing(text: str) -> None:
    assert retry_after(text, NOW) == 0.0


def test_failure_survives_pickling() -> None:
    found = pickle.loads(pickle.dumps(FetchFailed("a", "b", "soon", 3.0)))
    assert (found.reason, found.detail, found.again, found.wait_seconds) == ("a", "b", "soon", 3.0)
