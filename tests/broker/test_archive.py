"""The Delta archive of alerts."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from broker import compaction, datafiles, tables
from broker.archive import ARCHIVE_SCHEMA, AlertArchive, NightSummary, night_of
from broker.places import touched
from crossmatch import sky
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.errors import ServiceError

from .conftest import T0_JD, alert, alerts

EVERYTHING = np.array([[0, 12 * 4**29]])
NIGHT = "2024-03-01"  # T0 is 02:00 UTC of this date, a day later its night begins
LATER = 2**40


def tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def filled(path: Path, batches: int = 20, rows: int = 5) -> AlertArchive:
    """An archive of one night in many small files, all over the sky."""
    archive = AlertArchive(path)
    rng = np.random.default_rng(7)
    for batch in range(batches):
        first = batch * rows
        archive.append(
            alerts(
                [
                    alert(first + i, *rng.uniform((0, -89), (360, 89)), rng.uniform(0.5, 0.9))
                    for i in range(rows)
                ]
            ),
            batch,
        )
    return archive


def ids(rows: pa.Table) -> list[int]:
    return rows["alert_id"].to_pylist()


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 40 rows in groups of 10, so that small tables show what large ones do."""
    monkeypatch.setattr(compaction, "FILE_ROWS", 40)
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(datafiles, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr("broker.places.ROW_GROUP_ROWS", 10)


# --- appending -------------------------------------------------------------------------------


def test_a_batch_is_archived_once(tmp_path):
    rows = alerts([alert(1, 150.0, 2.0)])
    AlertArchive(tmp_path / "a").append(rows, 0)
    AlertArchive(tmp_path / "a").append(rows, 0)

    assert AlertArchive(tmp_path / "a").count() == 1


def test_a_night_is_named_by_the_day_on_which_it_begins_in_the_americas():
    # 2017-08-17 23:33 UTC and 2017-08-18 09:00 UTC are one night in Chile.
    assert night_of(pa.array([2457983.4812, 2457983.875])).to_pylist() == ["2017-08-17"] * 2


def test_other_programs_read_the_table(tmp_path):
    AlertArchive(tmp_path / "a").append(alerts([alert(1, 150.0, 2.0)]), 7)
    table = DeltaTable(str(tmp_path / "a")).to_pyarrow_table()
    assert table["alert_id"].to_pylist() == [1]
    assert table["batch_id"].to_pylist() == [7]


def test_an_archive_from_before_a_column_is_read_and_appended_to(tmp_path):
    """``withdrawn`` came later; the tables of that time had no settings of ours either."""
    old = pa.schema([f for f in ARCHIVE_SCHEMA if f.name != "withdrawn"])
    row = alert(1, 150.0, 2.0) | {
        "ipix29": int(sky.ipix29(np.array([150.0]), np.array([2.0]))[0]),
        "night": NIGHT,
        "batch_id": 0,
    }
    write_deltalake(
        str(tmp_path / "a"),
        pa.Table.from_pylist([row], schema=old),
        partition_by=["night"],
        commit_properties=CommitProperties(app_transactions=[Transaction("mmgateway-match", 0)]),
    )
    archive = AlertArchive(tmp_path / "a")
    before = archive.search(EVERYTHING, T0_JD, T0_JD + 2, LATER)
    assert before.schema.names == [*ALERT_SCHEMA.names, "batch_id"]
    assert before["withdrawn"].to_pylist() == [None]

    archive.append(alerts([alert(1, 150.0, 2.0, withdrawn=True), alert(2, 150.0, 2.0)]), 1)

    assert ids(archive.search(EVERYTHING, T0_JD, T0_JD + 2, LATER)) == [2]
    assert "withdrawn" in DeltaTable(str(tmp_path / "a")).to_pyarrow_table().column_names
    archive.compact(now=tomorrow())
    assert ids(archive.search(EVERYTHING, T0_JD, T0_JD + 2, LATER)) == [2]
    seen = AlertArchive(tmp_path / "a").seen(alerts([alert(1, 0, 0), alert(2, 0, 0)]), 1)
    assert seen.same_night.tolist() == [True, False]


def test_a_disk_that_refuses_is_told_with_the_folder(tmp_path):
    (tmp_path / "a").write_text("not a folder")
    with pytest.raises(ServiceError, match="a cannot be read"):
        AlertArchive(tmp_path / "a").append(alerts([alert(1, 150.0, 2.0)]), 0)


# --- searching -------------------------------------------------------------------------------


def test_search_gives_the_alerts_of_a_span_of_time_and_sky_in_earlier_batches(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 150.0, 2.0, 0.5), alert(11, 150.0, 2.0, 3.0)]), 0)
    archive.append(alerts([alert(21, 150.1, 2.0, 0.6), alert(31, 30.0, 2.0, 0.6)]), 1)
    archive.append(alerts([alert(41, 150.1, 2.0, 0.6)]), 2)
    cone = sky.cone_ranges(150.0, 2.0, 1.0)

    assert ids(archive.search(cone, T0_JD, T0_JD + 1, before_batch=2)) == [1, 21]


def test_the_start_of_a_span_is_outside_and_its_end_inside(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 150.0, 2.0, 0.0), alert(11, 150.0, 2.0, 1.0)]), 0)
    found = archive.search(EVERYTHING, T0_JD, T0_JD + 1, before_batch=1)
    assert found["alert_id"].to_pylist() == [11]


def test_nights_are_those_that_may_lie_in_a_span_and_their_searches_make_up_the_whole(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(n, 150.0, 2.0, float(n)) for n in (5, 1, 3)]), 0)

    nights = archive.nights(T0_JD + 0.5, T0_JD + 4)

    assert nights == ["2024-03-01", "2024-03-03"]
    parts = [archive.search_night(n, EVERYTHING, T0_JD + 0.5, T0_JD + 4, 1) for n in nights]
    assert [ids(p) for p in parts] == [[1], [3]]
    assert pa.concat_tables(parts) == archive.search(EVERYTHING, T0_JD + 0.5, T0_JD + 4, 1)
    assert archive.nights(T0_JD + 3, T0_JD + 4) == ["2024-03-03"]  # by the times in the log
    assert archive.nights(-np.inf, np.inf) == ["2024-03-01", "2024-03-03", "2024-03-05"]


def test_a_withdrawn_alert_is_not_found_whichever_batch_took_it_back(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    rows = [alert(1, 150.0, 2.0), alert(2, 150.0, 2.0), alert(1, 150.0, 2.0, survey="lsst")]
    archive.append(alerts(rows), 0)
    archive.append(alerts([alert(1, 30.0, 2.0, 5.0, withdrawn=True)]), 3)

    found = archive.search_night(NIGHT, EVERYTHING, T0_JD, T0_JD + 9, before_batch=1)
    other = AlertArchive(tmp_path / "a").search(EVERYTHING, T0_JD, T0_JD + 9, LATER)

    for rows in (found, other):
        keys = zip(rows["survey"].to_pylist(), ids(rows), strict=True)
        assert sorted(keys) == [("lsst", 1), ("ztf", 2)]


def test_a_search_after_compaction_gives_the_same_rows_from_a_part_of_them(tmp_path, small_files):
    archive = filled(tmp_path / "a")
    region = sky.union(sky.cone_ranges(40.0, 60.0, 20.0), sky.cone_ranges(200.0, -50.0, 25.0))
    before = archive.search(region, T0_JD, T0_JD + 1, LATER)
    assert 1 < before.num_rows < 50

    archive.compact(now=tomorrow())

    assert archive.search(region, T0_JD, T0_JD + 1, LATER) == before
    files = [tmp_path / "a" / path for path in archive._table.files().path]
    groups = [
        pq.ParquetFile(f).metadata.row_group(i).num_rows
        for f in files
        for i in range(pq.ParquetFile(f).metadata.num_row_groups)
    ]
    assert len(files) == 3
    assert max(groups) == 10


def test_an_interval_touches_ranges_when_it_shares_a_pixel():
    ranges = np.array([[10, 20], [30, 31]])
    low = np.array([0, 0, 19, 20, 20, 30, 31])
    high = np.array([9, 10, 25, 29, 30, 30, 99])
    assert touched(ranges, low, high).tolist() == [False, True, True, False, True, True, False]


def test_an_empty_archive_finds_nothing(tmp_path):
    archive = AlertArchive(tmp_path / "none")
    assert archive.search(EVERYTHING, 0, 1e9, 1).num_rows == 0
    assert archive.count() == archive.count_between(0, 1e9) == archive.batch(0).num_rows == 0
    assert archive.nights(0, 1e9) == archive.summary() == []
    assert archive.history("ztf", "ZTF24aaa").num_rows == 0
    assert not archive.seen(alerts([alert(1, 150.0, 2.0)]), 9).same_night.any()
    assert archive.tidy(tomorrow()) == compaction.Tidied((), 0, 0, 0)


# --- objects, batches, numbers ---------------------------------------------------------------


def test_history_is_every_alert_of_an_object_over_all_nights(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    mine = {"object_id": "ZTF24mine"}
    wide = 3 / 3600
    archive.append(
        alerts([alert(3, 150.0, 2.0 + wide, 40.0, **mine), alert(1, 150.0, 2.0, 1.0, **mine)]), 0
    )
    archive.append(
        alerts(
            [
                alert(2, 150.0, 2.0, 9.0, **mine),
                alert(4, 150.0, 2.0, 9.1),
                alert(5, 150.0, 2.0, 9.1, survey="lsst", **mine),
            ]
        ),
        1,
    )

    assert ids(archive.history("ztf", "ZTF24mine")) == [1, 2, 3]
    assert ids(archive.history("ztf", "ZTF24mine", near=(150.0, 2.0))) == [1, 2, 3]
    assert archive.history("ztf", "ZTF24mine", near=(10.0, 2.0)).num_rows == 0
    assert ids(archive.history("lsst", "ZTF24mine")) == [5]
    archive.compact(now=tomorrow())
    assert ids(archive.history("ztf", "ZTF24mine")) == [1, 2, 3]


def test_history_of_a_known_minor_body_follows_it_over_the_sky(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    body = {"object_id": "ss12", "survey": "lsst", "moving_distance_arcsec": 0.0}
    archive.append(alerts([alert(n, 150.0 + n, 2.0, float(n), **body) for n in (1, 2, 9)]), 0)
    assert ids(archive.history("lsst", "ss12")) == [1, 2, 9]


def test_a_batch_comes_back_as_it_was_in_the_order_of_kafka(tmp_path, small_files):
    archive = AlertArchive(tmp_path / "a")
    rows = [alert(i, float(i), 2.0, offset=99 - i) for i in range(30)]
    archive.append(alerts(rows[:15]), 4)
    archive.append(alerts(rows[15:]), 6)
    archive.compact(now=tomorrow())

    expected = alerts(sorted(rows[:15], key=lambda r: r["offset"]))

    assert archive.batch(4).drop_columns(["batch_id"]) == expected
    assert archive.batch(5).num_rows == 0


def test_counts_and_the_summary_are_by_night(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(
        alerts([alert(i, 150.0, 2.0, days) for i, days in enumerate((1.0, 1.1, 2.0))]), 0
    )
    archive.append(alerts([alert(9, 150.0, 2.0, 2.0)]), 1)

    nights = archive.summary()

    sizes = {
        night: sum(f.stat().st_size for f in (tmp_path / "a" / f"night={night}").iterdir())
        for night in ("2024-03-01", "2024-03-02")
    }
    assert nights == [
        NightSummary("2024-03-01", 2, 1, sizes["2024-03-01"]),
        NightSummary("2024-03-02", 2, 2, sizes["2024-03-02"]),
    ]
    assert archive.count() == 4
    assert archive.count_between(T0_JD + 1, T0_JD + 1.1) == 1
    assert len(archive.positions()[0]) == 4


# --- order -----------------------------------------------------------------------------------


def test_compaction_makes_few_sorted_files_of_many_and_keeps_rows_and_batches(
    tmp_path, small_files
):
    archive = filled(tmp_path / "a")
    before = archive.search(EVERYTHING, 0, 1e9, LATER)

    done = archive.compact(now=tomorrow())

    assert (done.nights, done.files_before, done.files_after) == ((NIGHT,), 20, 3)
    table = DeltaTable(str(tmp_path / "a"))
    assert table.transaction_version("mmgateway-match") == archive.last_batch() == 19
    assert archive.search(EVERYTHING, 0, 1e9, LATER) == before
    files = archive._table.files()
    low, high = files.bounds("ipix29")
    order = np.argsort(low)
    assert (high[order][:-1] < low[order][1:]).all()
    for path, least, rows in zip(files.path, low, files.rows, strict=True):
        pixels = pq.read_table(tmp_path / "a" / path, partitioning=None)["ipix29"].to_numpy()
        assert (np.diff(pixels) >= 0).all()
        assert (pixels[0], len(pixels)) == (least, rows)
    assert archive.compact(now=tomorrow()).nights == ()
    AlertArchive(tmp_path / "a").append(alerts([alert(1, 1.0, 1.0)]), 19)
    assert archive.count() == 100


def test_statistics_that_a_rewrite_writes_are_those_of_its_rows(tmp_path, small_files):
    archive = filled(tmp_path / "a")
    archive.append(alerts([alert(500, 1.0, 1.0, 0.6, withdrawn=False)]), 20)
    archive.compact(now=tomorrow())
    log = DeltaTable(str(tmp_path / "a"))
    for action in pa.table(log.get_add_actions(flatten=True)).to_pylist():
        rows = pq.read_table(tmp_path / "a" / action["path"], partitioning=None)
        assert action["num_records"] == rows.num_rows
        for name in ("alert_id", "time_jd", "ipix29", "batch_id"):
            values = rows[name].to_pylist()
            assert (action[f"min.{name}"], action[f"max.{name}"]) == (min(values), max(values))
        assert action["null_count.withdrawn"] == rows["withdrawn"].null_count


def test_a_night_that_grows_has_its_small_files_merged_only_when_they_are_many(tmp_path):
    archive = filled(tmp_path / "a", batches=compaction.MIN_SMALL_FILES - 1)
    now = datetime.now(UTC)
    assert archive.tidy(now).nights == ()
    archive.append(alerts([alert(900, 1.0, 1.0, 0.6)]), 100)
    assert archive.tidy(now).files_after == 1


def test_a_night_that_rests_is_sorted_as_a_whole(tmp_path, small_files):
    archive = filled(tmp_path / "a", batches=12)
    now = datetime.now(UTC)
    assert archive.tidy(now).files_after == 12
    assert archive.tidy(now + compaction.QUIET + timedelta(minutes=1)).files_after == 2


def test_many_small_files_of_a_large_night_become_runs_first(tmp_path, small_files):
    archive = filled(tmp_path / "a", batches=30)
    before = archive.search(EVERYTHING, 0, 1e9, LATER)
    assert archive.compact(now=tomorrow()).files_after == 4
    assert archive.search(EVERYTHING, 0, 1e9, LATER) == before


def test_equal_places_do_not_divide(tmp_path, small_files):
    archive = AlertArchive(tmp_path / "a")
    for batch in range(20):
        rows = [alert(batch * 5 + i, 150.0, 2.0, 0.6) for i in range(5)]
        archive.append(alerts(rows), batch)
    archive.compact(now=tomorrow())
    assert archive.count() == 100
    assert ids(archive.search(EVERYTHING, 0, 1e9, LATER)) == list(range(100))


def test_a_reader_that_holds_a_list_of_files_reads_on_after_compaction(tmp_path):
    archive = filled(tmp_path / "a")
    held = archive._table.dataset(archive._table.files())
    archive.compact(now=datetime.now(UTC))
    archive.tidy(datetime.now(UTC))
    assert held.count_rows() == held.to_table().num_rows == 100


def test_replaced_files_and_what_died_uncommitted_go_after_an_hour(tmp_path):
    archive = filled(tmp_path / "a")
    folder = next((tmp_path / "a").glob("night=*"))
    archive.compact(now=datetime.now(UTC) - timedelta(hours=2))
    died = folder / "part-died.parquet"
    died.write_bytes(b"half")
    os.utime(died, (1, 1))
    young = folder / "part-young.parquet"
    young.write_bytes(b"half")
    archive._ids().store()
    for file in (tmp_path / "a" / "_ids").iterdir():
        os.utime(file, (1, 1))

    archive.tidy(datetime.now(UTC))

    left = {f.name.partition("-")[0] for f in folder.iterdir()}
    assert left == {"sorted", "part"}
    assert not died.exists()
    assert young.exists()
    assert len(list((tmp_path / "a" / "_ids").iterdir())) == 1
    assert archive.search(EVERYTHING, 0, 1e9, LATER).num_rows == 100


def test_an_append_between_reading_and_committing_a_rewrite_is_kept(tmp_path, monkeypatch):
    archive = filled(tmp_path / "a")
    write = tables.DeltaFolder.write_files

    def and_somebody_appends(*arguments):
        AlertArchive(tmp_path / "a").append(alerts([alert(700, 1.0, 1.0, 0.6)]), 70)
        return write(*arguments)

    monkeypatch.setattr(tables.DeltaFolder, "write_files", and_somebody_appends)
    archive.compact(now=tomorrow())

    assert archive.count() == 101
    assert AlertArchive(tmp_path / "a").last_batch() == 70


def test_two_do_not_compact_at_the_same_time(tmp_path):
    archive = filled(tmp_path / "a")
    with (
        AlertArchive(tmp_path / "a")._table.alone(),
        pytest.raises(ServiceError, match="being compacted by another"),
    ):
        archive.compact(now=tomorrow())


def test_a_rewrite_from_an_old_list_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    """Where the lock does not hold, as on some network disks, the log does."""
    archive = filled(tmp_path / "a")
    opened = tables.DeltaTable

    def late(path: str) -> DeltaTable:
        table = opened(path)
        if path == str(archive.path) and not late.done:
            late.done = True
            AlertArchive(tmp_path / "a").compact(now=tomorrow())
        return table

    late.done = False
    real = archive._table.files()
    some = archive._table.dataset(real).to_table().sort_by("ipix29")
    (new,) = archive._table.write_files(some, "sorted-")
    monkeypatch.setattr(tables, "fcntl", _NoLocks)
    monkeypatch.setattr(tables, "DeltaTable", late)
    with pytest.raises(ServiceError, match="not compacted"):
        archive._table.replace(real, [new], tomorrow())
    assert not (tmp_path / "a" / new.path).exists()
    assert AlertArchive(tmp_path / "a").count() == 100


class _NoLocks:
    LOCK_EX = LOCK_NB = 0

    @staticmethod
    def flock(*_: object) -> None:
        return None


def test_a_rewrite_that_fails_leaves_no_files(tmp_path, small_files, monkeypatch):
    archive = filled(tmp_path / "a", batches=12)
    write, written = tables.DeltaFolder.write_files, []

    def full(*arguments):
        if written:
            raise OSError(28, "No space left on device")
        written.extend(write(*arguments))
        return written

    monkeypatch.setattr(tables.DeltaFolder, "write_files", full)
    with pytest.raises(OSError, match="No space left"):
        archive.compact(now=tomorrow())
    assert not (tmp_path / "a" / written[0].path).exists()
    assert archive.count() == 60


def test_the_log_is_cut_short_and_the_table_opens_from_a_checkpoint(tmp_path):
    archive = filled(tmp_path / "a")
    log = tmp_path / "a" / "_delta_log"
    for file in log.glob("*.json"):
        os.utime(file, (1, 1))
    archive.tidy(datetime.now(UTC))
    assert list(log.glob("*.checkpoint.parquet"))
    fresh = AlertArchive(tmp_path / "a")
    assert (fresh.count(), fresh.last_batch()) == (100, 19)
    assert fresh.batch(3).num_rows == 5
