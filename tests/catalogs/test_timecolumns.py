"""Times in every form that tables have them in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalogs.batches import Batch
from catalogs.kinds import Scale
from catalogs.tables import Table
from catalogs.timecolumns import julian_dates, scale_of
from crossmatch.errors import CatalogError

# 2026-03-01T06:00:00 UTC.
JD = 2461100.75


def read(column: str, values: Any, scale: Scale = Scale.utc) -> list[float]:
    batch = Batch(Table(pa.table({column: values}), {}, ""), Path("a.csv"), 11, 1.0)
    return julian_dates(batch, np.arange(len(values)), column, scale).tolist()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("jd", JD),
        ("datetime_jd", JD),
        ("mjd", 61100.25),
        ("epoch_mjd", 61100.25),
        ("epoch", JD),
        ("time", 61100.25),
        ("time", "2026-03-01T06:00:00"),
        ("time", "2026-03-01 06:00"),
        ("date", "2026-03-01T06:00:00.000Z"),
        ("date", "2026-03-01T08:00:00+02:00"),
        ("utc", datetime(2026, 3, 1, 6)),
        ("utc", datetime(2026, 3, 1, 6, tzinfo=UTC)),
    ],
)
def test_a_time_in_every_form(column: str, value: Any) -> None:
    assert read(column, [value]) == [JD]


def test_a_date_is_its_midnight_and_texts_may_differ() -> None:
    assert read("time", ["2026-03-01", "2026-03-01T06:00:00.5"]) == [
        JD - 0.25,
        pytest.approx(JD + 0.5 / 86400, abs=1e-9),
    ]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("mjd", [61100.0, JD], "row 12, column mjd: 2461100.75 is a Julian date, and"),
        ("jd", [JD, 61100.0], "61100.0 is a modified Julian date, and the name"),
        ("time", [JD, None], "row 12, column time: no value"),
        ("time", [JD, 2026.2], "2026.2 is no time"),
        ("time", [JD, 1772344800.0], "is no time"),
        ("time", ["2026-03-01", "yesterday"], "row 12, column time: yesterday is no time"),
        ("time", ["2026-03-01", "20260301"], "is no time"),
        ("time", ["2026-03-01", "2026-03-41"], "is no time"),
        ("time", ["2026-03-01", "1026-03-01"], "is no time"),
        ("time", ["2026-03-01", None], "no value"),
        ("jd", [JD, float("inf")], "inf is no time"),
        ("jd", [JD, -999.0], "is no time"),
    ],
)
def test_what_is_no_time_is_told_by_row_and_column(
    column: str, values: list[Any], words: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        read(column, values)
    assert caught.value.reason == "not_a_time"
    assert words in caught.value.detail


def test_terrestrial_time_is_ahead_of_utc() -> None:
    seconds = (JD - np.array(read("jd", [JD], Scale.tt))) * 86400
    assert seconds == pytest.approx(69.184, abs=1e-3)
    assert read("jd", [JD], Scale.tdb) == read("jd", [JD], Scale.tt)


@pytest.mark.parametrize(
    ("column", "scale"),
    [("jd", Scale.utc), ("JDTDB", Scale.tdb), ("mjd_tt", Scale.tt), ("time", Scale.utc)],
)
def test_the_name_of_a_column_may_state_the_scale(column: str, scale: Scale) -> None:
    assert scale_of(column) is scale
