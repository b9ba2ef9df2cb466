"""Which packets come along with a batch, and where the others come from."""

from __future__ import annotations

import pyarrow as pa
import pytest

from broker import carried
from broker.carried import Carried
from tests.integration.streaming import CUTS

KB = 1000


def batch(sizes: list[int], good: list[bool], tasks: list[int] | None = None) -> pa.Table:
    rows = len(sizes)
    return pa.table(
        {
            "topic": ["alerts"] * rows,
            "partition": pa.array([0] * rows, pa.int32()),
            "offset": list(range(rows)),
            "task": pa.array(tasks or [0] * rows, pa.int32()),
            "size": pa.array(sizes, pa.int32()),
            "good": good,
            "packet": pa.array([b"p%d" % i if g else None for i, g in enumerate(good)]),
        }
    )


class Kafka:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    def fetch(self, addresses):
        self.asked += addresses
        return {a: b"kafka" for a in addresses if a[2] < 90}


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


def test_a_packet_that_came_along_is_not_fetched(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.hold(batch([KB] * 3, [True, False, True]))

    found = packets.fetch([("alerts", 0, 0), ("alerts", 0, 1), ("alerts", 0, 99)])

    assert found == {("alerts", 0, 0): b"p0", ("alerts", 0, 1): b"kafka"}
    assert kafka.asked == [("alerts", 0, 1), ("alerts", 0, 99)]


def test_kafka_is_not_asked_for_nothing(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.hold(batch([KB], [True]))

    assert packets.fetch([("alerts", 0, 0)]) == {("alerts", 0, 0): b"p0"}
    assert kafka.asked == []


def test_packets_of_a_batch_go_with_it(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.hold(batch([KB], [True]))
    packets.release()

    assert packets.fetch([("alerts", 0, 0)]) == {("alerts", 0, 0): b"kafka"}


def test_all_may_come_along_while_they_are_small(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.learn(batch([3 * KB] * 100, [True] * 100, [0, 1, 2, 3] * 25), most=20_000)

    assert packets.rows_of_task * 4 >= 20_000


def test_no_more_may_come_along_than_memory_is_meant_for_them(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.learn(batch([80 * KB] * 100, [True] * 100), most=20_000)

    assert carried.CARRIED_BYTES / 2 < packets.rows_of_task * 80 * KB <= carried.CARRIED_BYTES


def test_were_all_good_at_once_memory_is_bounded_still(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.learn(batch([80 * KB] * 100, [False] * 100), most=10_000_000)

    assert carried.MOST_BYTES / 2 < packets.rows_of_task * 80 * KB <= carried.MOST_BYTES


@pytest.mark.parametrize("rows", [0, 3])
def test_batches_without_alerts_teach_nothing(kafka: Kafka, rows: int) -> None:
    packets = Carried(CUTS, kafka.fetch)
    packets.learn(batch([0] * rows, [False] * rows), most=20_000)

    assert packets.rows_of_task == carried.FIRST_ROWS


CURVE = pa.struct({"prv_candidates": pa.list_(pa.struct({"jd": pa.float64()}))})


def test_light_curves_come_with_their_packets(kafka: Kafka) -> None:
    packets = Carried(CUTS, kafka.fetch)
    curves = [{"prv_candidates": [{"jd": 7.0}]}, None, {"prv_candidates": None}, None]
    rows = batch([KB] * 4, [True, True, True, False])
    rows = rows.append_column("ztf_history", pa.array(curves, CURVE))

    rest = packets.hold(rows)

    asked = [("alerts", 0, n) for n in (3, 2, 1, 0, 99)]
    assert packets.records(asked) == {asked[1]: curves[2], asked[3]: curves[0]}
    assert rest.column_names == batch([], []).column_names[:-1]
    packets.release()
    assert packets.records(asked) == {}
    assert kafka.asked == []
