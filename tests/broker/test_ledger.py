"""The ledger adds up, or says by how much it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from broker import ledger
from broker.archive import night_of
from crossmatch.times import jd_from_datetime

ENTRY = {
    "kind": "alerts",
    "counts": {"received": 5, "matched": 2, "unmatched": 3, "pairs": 9},
    "parts": [
        {
            "night": "2026-01-01",
            "feed": "ztf",
            "counts": {"received": 3, "matched": 2, "unmatched": 1},
        },
        {"night": "2026-01-02", "feed": "ztf", "counts": {"received": 2, "unmatched": 2}},
    ],
}


def test_every_outcome_of_an_alert_is_accounted() -> None:
    outcomes = dict.fromkeys(ledger.ALERT_OUTCOMES, 1) | {"rejected.x": 2, "cut.star": 3}
    received = len(ledger.ALERT_OUTCOMES) + 5
    assert ledger.alert_hole({"received": received, **outcomes, "pairs": 7}) == 0
    assert ledger.alert_hole({"received": received + 1, **outcomes}) == 1


def test_released_notices_are_taken_again() -> None:
    assert ledger.notice_hole({"received": 1, "held": 1, "released": 1, "region": 1}) == 0
    assert ledger.notice_hole({"received": 1, "released": 1, "region": 1}) == 1


def test_voevents_are_made_or_rejected() -> None:
    assert ledger.voevent_hole({"received": 3, "made": 2, "rejected": 1}) == 0
    assert ledger.voevent_hole({"received": 3, "made": 4}) == -1


def test_archive_has_what_was_accepted() -> None:
    counts = {"received": 12, "matched": 1, "unmatched": 2, "withdrawn": 3, "cut.star": 4}
    assert ledger.archived(counts | {"duplicate": 1, "rejected.not_avro": 1}) == 10


def test_parts_of_an_entry_sum_to_its_counts() -> None:
    assert ledger.part_holes(ENTRY) == {}
    short = ENTRY | {"parts": ENTRY["parts"][:1]}  # type: ignore[index]
    assert ledger.part_holes(short) == {"received": 2, "unmatched": 2}


def test_placed_and_parts_are_inverse() -> None:
    found = ledger.placed([ENTRY])
    assert found[("2026-01-01", "ztf")] == {"matched": 2, "received": 3, "unmatched": 1}
    assert ledger.parts_of(found) == ENTRY["parts"]
    assert ledger.placed([ENTRY, ENTRY])[("2026-01-02", "ztf")] == {"received": 4, "unmatched": 4}


@pytest.mark.parametrize("hours", [0, 11.99, 12, 12.01, 23.99])
def test_night_of_arrival_is_the_night_of_an_exposure_then(hours: float) -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours)
    expected = night_of(pa.array([jd_from_datetime(moment)]))[0].as_py()
    assert ledger.night_of_arrival(moment) == expected
