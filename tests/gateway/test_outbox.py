"""Where bytes came from travels with them."""

from __future__ import annotations

from crossmatch.errors import NoticeError
from gateway.listener.outbox import arrival_of, headers_of
from tests.gateway.memory import NOW, arrival


def test_headers_bring_the_arrival_back() -> None:
    full = arrival(
        b"x", topic="t", partition=1, offset=2, feed="f", refused=NoticeError("why", "because")
    )
    back = arrival_of(b"x", headers_of(full))
    assert (back.source, back.topic, back.partition, back.offset, back.received, back.feed) == (
        full.source, "t", 1, 2, NOW, "f",
    )  # fmt: skip
    assert back.refused is not None
    assert (back.refused.reason, back.refused.detail) == ("why", "because")
    assert arrival_of(b"x", headers_of(arrival(b"x"))).refused is None


def test_the_fetched_map_of_an_arrival_travels_too() -> None:
    back = arrival_of(b"x", headers_of(arrival(b"x", skymap="0f", answers="map/1")))
    assert (back.skymap, back.answers) == ("0f", "map/1")


def test_private_streams_of_an_arrival_travel_too() -> None:
    back = arrival_of(b"x", headers_of(arrival(b"x", streams=("a", "b-c"))))
    assert back.streams == ("a", "b-c")
    assert arrival_of(b"x", headers_of(arrival(b"x"))).streams == ()
