"""Counts by night and feed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from broker.tally import Tally

NIGHTS = ["2026-01-01", "2026-01-02", "2026-01-01"]
FEEDS = ["ztf", "ztf", "lsst"]
EXPECTED = [
    {"night": "2026-01-01", "feed": "lsst", "counts": {"matched": 1}},
    {"night": "2026-01-01", "feed": "ztf", "counts": {"matched": 1}},
    {"night": "2026-01-02", "feed": "ztf", "counts": {"matched": 1}},
]


@pytest.mark.parametrize(
    "kind", [list, np.array, pa.array, lambda v: pa.chunked_array([v[:1], v[1:]])]
)
def test_rows_of_any_array_are_counted_by_night_and_feed(kind: object) -> None:
    tally = Tally()
    tally.add_rows("matched", kind(NIGHTS), kind(FEEDS))  # type: ignore[operator]
    assert tally.parts() == EXPECTED


def test_one_text_stands_for_all_rows() -> None:
    tally = Tally()
    tally.add_rows("received", "2026-01-01", FEEDS)
    tally.add_rows("received", np.array(NIGHTS), "boom")
    assert [(p["night"], p["feed"], p["counts"]["received"]) for p in tally.parts()] == [
        ("2026-01-01", "boom", 2),
        ("2026-01-01", "lsst", 1),
        ("2026-01-01", "ztf", 2),
        ("2026-01-02", "boom", 1),
    ]


def test_no_rows_count_nothing() -> None:
    tally = Tally()
    tally.add_rows("matched", pa.array([], pa.string()), np.array([], dtype="<U10"))
    tally.add_rows("matched", pa.array([], pa.string()), "ztf")
    tally.add("matched", "2026-01-01", "ztf", 0)
    tally.add_total("pairs", 0)
    assert (tally.counts(), tally.parts()) == ({}, [])


def test_unknown_night_is_the_empty_text() -> None:
    tally = Tally()
    tally.add_rows("rejected.not_avro", pa.array([None, None], pa.string()), ["ztf", "ztf"])
    assert tally.parts() == [{"night": "", "feed": "ztf", "counts": {"rejected.not_avro": 2}}]


def test_parts_sum_to_the_counts_beside_what_has_no_night() -> None:
    tally = Tally()
    tally.add_rows("matched", NIGHTS, FEEDS)
    tally.add_total("pairs", 7)
    again = Tally()
    again.update(tally.parts())
    assert tally.counts() == again.counts() | {"pairs": 7}
