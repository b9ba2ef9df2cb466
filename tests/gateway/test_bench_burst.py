"""What the bench of a burst sends."""

from __future__ import annotations

from broker.codec import decode
from gateway.bench import burst


def test_as_many_circles_are_in_force_as_asked_for() -> None:
    sizes = burst.Sizes(alerts=10, regions=8)

    records = [decode(message) for message in burst._circles(sizes)]

    assert len(records) == 8
    assert {record["messenger"] for record in records} == {"grb"}
    assert len({record["event_id"] for record in records}) == 8


def test_all_alerts_are_sent_each_in_a_packet_of_the_size_asked_for() -> None:
    sizes = burst.Sizes(alerts=1500, stamp_bytes=1000)

    packets = list(burst._packets(sizes))

    assert len(set(packets)) == 1500
    assert all(3000 < len(packet) < 15_000 for packet in packets)
