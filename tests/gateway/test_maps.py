from __future__ import annotations

import http.server
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.config import Maps
from gateway.listener.fetch import FetchFailed, Limits
from gateway.listener.maps import MapFetcher, Wanted, next_try

T0 = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://gracedb.ligo.org/api/superevents/S1a/files/bayestar.multiorder.fits,1"


def settings(**changed: Any) -> Maps:
    given: dict[str, Any] = {
        "fetch": True,
        "hosts": ("gracedb.ligo.org",),
        "max_megabytes": 1,
        "timeout_seconds": 5.0,
        "retry_minutes": (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0),
        "give_up_hours": 48.0,
    }
    return Maps(**{**given, **changed})


def wanted(**changed: Any) -> Wanted:
    given: dict[str, Any] = {
        "url": URL,
        "notice_offset": 7,
        "notice_sha256": "ab",
        "event_id": "S1a",
        "feed": "lvk",
        "since": T0.isoformat(),
    }
    return Wanted(**{**given, **changed})


class Clock:
    def __init__(self) -> None:
        self.time = T0

    def __call__(self) -> datetime:
        return self.time


class Bench:
    """A fetcher with a clock, a server of its own, and what came of it."""

    def __init__(self, *answers: bytes | FetchFailed, **changed: Any) -> None:
        self.clock = Clock()
        self.answers = list(answers)
        self.asked: list[tuple[float, str]] = []
        self.limits: Limits | None = None
        self.maps: list[tuple[Wanted, bytes]] = []
        self.given_up: list[tuple[Wanted, str]] = []
        self.fetcher = MapFetcher(
            settings(**changed),
            self.take,
            lambda w, reason: self.given_up.append((w, reason)),
            now=self.clock,
            fetch=self.fetch,
        )

    def take(self, wanted: Wanted, fits: bytes) -> None:
        """What is handed over will do, unless it says otherwise."""
        self.maps.append((wanted, fits))
        if fits.startswith(b"bad"):
            self.fetcher.refuse(wanted, "not_fits")
        elif fits.startswith(b"wait"):
            self.fetcher.refuse(wanted, "kafka_away", patient=True)
        elif fits != b"slow":
            self.fetcher.settle(wanted)

    def fetch(self, url: str, limits: Limits) -> bytes:
        self.limits = limits
        self.asked.append(((self.clock.time - T0).total_seconds() / 60, url))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, FetchFailed):
            raise answer
        return answer

    def run(self, hours: float) -> list[float]:
        """Minutes at which something was asked for, up to then."""
        end = T0 + timedelta(hours=hours)
        while (waiting := self.fetcher.waiting) and waiting[0].next_try <= end:
            self.clock.time = max(self.clock.time, waiting[0].next_try)
            assert self.fetcher.step(self.clock.time)
        return [round(minute, 3) for minute, _ in self.asked]


NOT_THERE = FetchFailed("map_not_there", "HTTP status 404")


def test_map_that_is_there_is_handed_over_once() -> None:
    bench = Bench(b"map")
    bench.fetcher.want(wanted())
    assert bench.fetcher.step(T0) == 1
    assert bench.maps == [(wanted(), b"map")]
    assert (bench.fetcher.waiting, bench.fetcher.step(T0), bench.given_up) == ([], 0, [])
    assert bench.limits == Limits(("gracedb.ligo.org",), 2**20, 5.0)


def test_map_that_appears_later() -> None:
    bench = Bench(NOT_THERE, NOT_THERE, b"map")
    bench.fetcher.want(wanted())
    assert bench.run(1) == [0, 0.5, 1]
    assert bench.maps == [(wanted(), b"map")]


def test_what_is_known_of_a_map_that_waits() -> None:
    bench = Bench(NOT_THERE)
    bench.fetcher.want(wanted())
    bench.fetcher.step(T0)
    (waiting,) = bench.fetcher.waiting
    assert waiting.wanted == wanted()
    assert (waiting.tries, waiting.last_reason) == (1, "map_not_there")
    assert waiting.next_try == T0 + timedelta(seconds=30)
    assert bench.fetcher.due(T0) == []
    assert bench.fetcher.due(T0 + timedelta(seconds=30)) == [waiting]


def test_schedule_counts_from_the_notice_and_ends() -> None:
    bench = Bench(NOT_THERE, give_up_hours=3.0)
    bench.fetcher.want(wanted())
    assert bench.run(9) == [0, 0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 150, 180]
    assert bench.given_up == [(wanted(), "map_not_there")]
    assert bench.fetcher.waiting == []


def test_old_notice_is_tried_once_all_the_same() -> None:
    bench = Bench(NOT_THERE)
    bench.clock.time = T0 + timedelta(days=30)
    bench.fetcher.want(wanted())
    assert bench.fetcher.step(bench.clock.time) == 1
    assert bench.given_up == [(wanted(), "map_not_there")]


def test_permanent_failure_gives_up_at_once() -> None:
    bench = Bench(FetchFailed("map_host_not_allowed", "evil.example", "never"))
    bench.fetcher.want(wanted())
    assert bench.run(9) == [0]
    assert bench.given_up == [(wanted(), "map_host_not_allowed")]


def test_place_holder_is_not_asked_for_for_days() -> None:
    bench = Bench(FetchFailed("map_not_fits", "<html>", "soon"))
    bench.fetcher.want(wanted())
    assert bench.run(48) == [0, 0.5, 1, 2, 5, 10, 20, 30, 60]
    assert bench.given_up == [(wanted(), "map_not_fits")]


@pytest.mark.parametrize(("seconds", "minute"), [(10.0, 0.5), (600.0, 10.0), (1e9, 60.0)])
def test_server_may_ask_for_patience_up_to_an_hour(seconds: float, minute: float) -> None:
    bench = Bench(FetchFailed("map_busy", "503", "later", seconds), b"map")
    bench.fetcher.want(wanted())
    assert bench.run(2) == [0, minute]


def test_same_map_is_wanted_once() -> None:
    bench = Bench(b"map")
    bench.fetcher.want(wanted())
    bench.fetcher.want(wanted(notice_offset=8))
    assert bench.run(1) == [0]
    assert len(bench.maps) == 1


def test_two_notices_of_one_address_get_it_together() -> None:
    bench = Bench(NOT_THERE, b"map")
    other = wanted(notice_sha256="cd", since=(T0 + timedelta(minutes=3)).isoformat())
    bench.fetcher.want(wanted())
    bench.fetcher.step(T0)
    bench.fetcher.want(other)
    assert bench.run(1) == [0, 0.5]
    assert [w for w, _ in bench.maps] == [wanted(), other]


def test_same_notice_in_public_and_in_private_gets_it_twice() -> None:
    bench = Bench(NOT_THERE, b"map")
    private = wanted(feed="own", streams=("ourteam",))
    bench.fetcher.want(wanted())
    bench.fetcher.want(private)
    assert bench.run(1) == [0, 0.5]
    assert [w for w, _ in bench.maps] == [wanted(), private]
    assert bench.fetcher.waiting == []


def test_file_that_is_no_map_is_asked_for_again() -> None:
    bench = Bench(b"bad", NOT_THERE, b"bad", b"map")
    bench.fetcher.want(wanted())
    assert bench.run(1) == [0, 0.5, 1, 2]
    assert [fits for _, fits in bench.maps] == [b"bad", b"bad", b"map"]
    assert (bench.fetcher.waiting, bench.given_up) == ([], [])


def test_file_that_stays_no_map_is_given_up() -> None:
    bench = Bench(b"bad")
    bench.fetcher.want(wanted())
    assert bench.run(48) == [0, 0.5, 1, 2, 5, 10, 20, 30, 60]
    assert bench.given_up == [(wanted(), "not_fits")]
    assert bench.fetcher.waiting == []


def test_map_that_could_not_be_handed_over_is_asked_for_as_long_as_one_that_is_not_there() -> None:
    bench = Bench(b"wait", give_up_hours=3.0)
    bench.fetcher.want(wanted())
    assert bench.run(9) == [0, 0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 150, 180]
    assert bench.given_up == [(wanted(), "kafka_away")]


def test_what_is_handed_over_is_not_asked_for_until_it_is_known_what_came_of_it() -> None:
    bench = Bench(b"slow", b"map")
    bench.fetcher.want(wanted())
    assert bench.fetcher.step(T0) == 1
    bench.fetcher.want(wanted())
    later = T0 + timedelta(hours=1)
    assert (bench.fetcher.step(later), bench.fetcher.due(later)) == (0, [])
    bench.fetcher.refuse(wanted(), "too_slow")
    (waiting,) = bench.fetcher.waiting
    assert (waiting.tries, waiting.last_reason) == (1, "too_slow")
    assert bench.run(1) == [0, 0.5]
    bench.fetcher.refuse(wanted(), "too_slow")
    assert bench.fetcher.waiting == []


def test_fetching_is_off() -> None:
    bench = Bench(b"map", fetch=False)
    bench.fetcher.want(wanted())
    assert bench.fetcher.waiting == []


@pytest.mark.parametrize(
    ("minutes", "after", "expected"),
    [
        ((0.0,), 0.0, 1.0),
        ((0.0,), 7.5, 8.0),
        ((5.0,), 0.0, 5.0),
        ((5.0,), 5.0, 10.0),
        ((10.0, 1.0), 1.0, 10.0),
        ((0.0, 10.0), 35.0, 40.0),
        ((0.0, 10.0), 40.0, 50.0),
        ((0.0, 10.0), 60.0, None),
        ((0.0, 100.0), 1.0, None),
    ],
)
def test_next_try(minutes: tuple[float, ...], after: float, expected: float | None) -> None:
    found = next_try(
        T0, T0 + timedelta(minutes=after), settings(retry_minutes=minutes, give_up_hours=1.0)
    )
    assert found == (None if expected is None else T0 + timedelta(minutes=expected))


def test_threads_ask_by_themselves() -> None:
    came = threading.Event()
    got: list[bytes] = []
    answers: list[bytes | FetchFailed] = [NOT_THERE, b"map"]

    def on_map(w: Wanted, fits: bytes) -> None:
        got.append(fits)
        came.set()

    def fetch(url: str, limits: Limits) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, FetchFailed):
            raise answer
        return answer

    def now() -> datetime:
        return datetime.now(UTC)

    soon = settings(retry_minutes=(0.0, 0.001))
    fetcher = MapFetcher(soon, on_map, lambda w, r: None, now=now, fetch=fetch)
    fetcher.start()
    fetcher.want(wanted(since=now().isoformat()))
    assert came.wait(5)
    fetcher.stop()
    assert got == [b"map"]


def test_failing_callback_is_told() -> None:
    told: list[Exception] = []
    ended = threading.Event()

    def on_map(w: Wanted, fits: bytes) -> None:
        raise RuntimeError("the disk is full")

    def failed(error: Exception) -> None:
        told.append(error)
        ended.set()

    fetcher = MapFetcher(
        settings(), on_map, lambda w, r: None, now=lambda: T0, fetch=lambda u, li: b"map", threads=1
    )
    fetcher.start(failed)
    fetcher.want(wanted())
    assert ended.wait(5)
    fetcher.stop()
    assert [str(e) for e in told] == ["the disk is full"]
    assert [w.wanted for w in fetcher.waiting] == [wanted()]


def test_real_server_that_has_the_map_at_the_third_try() -> None:
    fits = b"SIMPLE  =" + b" " * 2871
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            there = len(asked) > 2
            self.send_response(200 if there else 404)
            self.end_headers()
            self.wfile.write(fits if there else b"not yet")

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    bench = Bench(b"")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        bench.fetcher = MapFetcher(
            settings(hosts=("127.0.0.1",)),
            bench.take,
            lambda w, reason: bench.given_up.append((w, reason)),
            now=bench.clock,
        )
        asks = wanted(url=f"http://127.0.0.1:{server.server_address[1]}/bayestar.fits,1")
        bench.fetcher.want(asks)
        bench.run(1)
        server.shutdown()
        thread.join()
    assert asked == ["/bayestar.fits,1"] * 3
    assert (bench.maps, bench.given_up) == ([(asks, fits)], [])
    assert bench.clock.time == T0 + timedelta(minutes=1)
