"""The Delta archive of alerts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from broker.archive import AlertArchive, night_of
from crossmatch import sky

from .conftest import T0_JD, alert, alerts

EVERYTHING = np.array([[0, 12 * 4**29]])


def test_a_batch_is_archived_once(tmp_path):
    rows = alerts([alert(1, 150.0, 2.0)])
    AlertArchive(tmp_path / "a").append(rows, 0)
    AlertArchive(tmp_path / "a").append(rows, 0)

    assert AlertArchive(tmp_path / "a").count() == 1


def test_search_gives_the_alerts_of_a_span_of_time_and_sky_in_earlier_batches(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 150.0, 2.0, 0.5), alert(11, 150.0, 2.0, 3.0)]), 0)
    archive.append(alerts([alert(21, 150.1, 2.0, 0.6), alert(31, 30.0, 2.0, 0.6)]), 1)
    archive.append(alerts([alert(41, 150.1, 2.0, 0.6)]), 2)
    cone = sky.cone_ranges(150.0, 2.0, 1.0)

    found = archive.search(cone, T0_JD, T0_JD + 1, before_batch=2)

    assert found["alert_id"].to_pylist() == [1, 21]


def test_the_start_of_a_span_is_outside_and_its_end_inside(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 150.0, 2.0, 0.0), alert(11, 150.0, 2.0, 1.0)]), 0)
    found = archive.search(EVERYTHING, T0_JD, T0_JD + 1, before_batch=1)
    assert found["alert_id"].to_pylist() == [11]


def test_ids_of_a_night_are_known_from_earlier_batches_only(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 150.0, 2.0)]), 0)
    archive.append(alerts([alert(2, 150.0, 2.0)]), 1)
    night = night_of(pa.array([T0_JD + 1.0]))[0].as_py()

    assert AlertArchive(tmp_path / "a").known_ids("ztf", night, 1).tolist() == [1]
    assert sorted(AlertArchive(tmp_path / "a").known_ids("ztf", night, 2).tolist()) == [1, 2]
    assert AlertArchive(tmp_path / "a").known_ids("ztf", "1999-01-01", 2).tolist() == []


def test_a_night_is_named_by_the_day_on_which_it_begins_in_the_americas():
    # 2017-08-17 23:33 UTC and 2017-08-18 09:00 UTC are one night in Chile.
    assert night_of(pa.array([2457983.4812, 2457983.875])).to_pylist() == ["2017-08-17"] * 2


def test_other_programs_read_the_table(tmp_path):
    AlertArchive(tmp_path / "a").append(alerts([alert(1, 150.0, 2.0)]), 7)
    table = DeltaTable(str(tmp_path / "a")).to_pyarrow_table()
    assert table["alert_id"].to_pylist() == [1]
    assert table["batch_id"].to_pylist() == [7]


def test_an_empty_archive_finds_nothing(tmp_path):
    archive = AlertArchive(tmp_path / "none")
    assert archive.search(EVERYTHING, 0, 1e9, 1).num_rows == 0
    assert archive.count() == 0
