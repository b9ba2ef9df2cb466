"""Numbers of archived alerts: exact, in bounded memory, over restarts."""

from __future__ import annotations

import logging
import os
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.archive import AlertArchive, Seen, night_of
from broker.ids import KnownIds, Numbered, Parts

from .conftest import alert, alerts

_NIGHTS = 365


class Table:
    """The rows of a table: (night, survey, id, batch)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int, int]] = []
        self.reads = 0

    def read(self, night: str, from_batch: int, before_batch: int) -> Parts:
        self.reads += 1
        mine = [r for r in self.rows if r[0] == night and from_batch <= r[3] < before_batch]
        return {
            survey: (
                np.array([r[2] for r in mine if r[1] == survey]),
                np.array([r[3] for r in mine if r[1] == survey]),
            )
            for survey in {r[1] for r in mine}
        }

    def newest(self) -> dict[str, int | None]:
        return {n: max(r[3] for r in self.rows if r[0] == n) for n in {r[0] for r in self.rows}}

    def holds(self, night: str, survey: str, alert_id: int, before: int) -> bool:
        return any(r[:3] == (night, survey, alert_id) and r[3] < before for r in self.rows)


def opened(folder: Path, table: Table, max_rows: int = 10) -> KnownIds:
    known = KnownIds(folder, table.read, max_rows)
    known.restore(table.newest())
    return known


def added(known: KnownIds, table: Table, batch: int, rows: Sequence[tuple[str, str, int]]) -> None:
    table.rows += [(*row, batch) for row in rows]
    nights: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for night, survey in {row[:2] for row in rows}:
        ids = np.array([r[2] for r in rows if r[:2] == (night, survey)])
        nights.setdefault(night, {})[survey] = (ids, np.full(len(ids), batch))
    known.add(nights)


def check(known: KnownIds, table: Table, survey: str, before: int) -> None:
    """Every answer about numbers 0 to 29 is that of a look through all rows."""
    ids = np.arange(30)
    found = dict(known.nights_with(survey, ids, before))
    for night in {r[0] for r in table.rows}:
        truth = [table.holds(night, survey, i, before) for i in range(30)]
        assert found.get(night, np.zeros(30, dtype=bool)).tolist() == truth


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["2024-03-01", "2024-03-02", "2024-03-03"]),
        st.sampled_from(["ztf", "lsst"]),
        st.integers(0, 29),
    ),
    max_size=8,
)
DEEDS = st.sampled_from(["nothing", "restart", "rest", "store", "lose", "put back"])


@settings(deadline=None)
@given(steps=st.lists(st.tuples(ROWS, DEEDS), max_size=8), before=st.integers(0, 9))
def test_answers_are_those_of_the_rows_whatever_was_moved_restarted_or_lost(
    tmp_path_factory: pytest.TempPathFactory, steps, before: int
):
    folder, table = tmp_path_factory.mktemp("ids") / "a", Table()
    known = opened(folder, table)
    for batch, (rows, deed) in enumerate(steps):
        added(known, table, batch, rows)
        if deed == "rest":
            known.rest()
        elif deed == "store":
            known.store()
        elif deed == "lose":
            for file in folder.glob("*.npy"):
                file.unlink()
        elif deed == "put back":
            table.rows = [r for r in table.rows if r[3] < batch]
        if deed in ("restart", "put back"):
            known = opened(folder, table)
        for survey in ("ztf", "lsst"):
            check(known, table, survey, before)
            check(known, table, survey, batch + 1)
    assert known.rows_in_memory <= 10 + 8


def test_a_number_counts_from_its_first_batch():
    numbered = Numbered()
    for batch in (5, 3, 4):
        numbered.add(np.array([7, 1 + batch]), np.array([batch, batch]))
    assert numbered.holds(np.array([7]), 4).tolist() == [True]
    assert numbered.holds(np.array([7]), 3).tolist() == [False]
    assert len(numbered) == 6
    numbered.settle()
    assert len(numbered) == 4


def test_a_night_in_files_is_not_read_again_after_a_restart(tmp_path):
    table = Table()
    known = opened(tmp_path, table)
    added(known, table, 0, [("2024-03-01", "ztf", 1), ("2024-03-02", "ztf", 2)])
    known.store()
    added(known, table, 1, [("2024-03-02", "ztf", 3)])
    table.reads = 0
    again = opened(tmp_path, table)
    assert table.reads == 1
    check(again, table, "ztf", 9)


def test_names_of_surveys_need_not_be_names_of_files(tmp_path):
    table = Table()
    known = opened(tmp_path, table)
    added(known, table, 0, [("2024-03-01", "../a=1, b", 1), ("2024-03-01", "c.d", 2)])
    known.store()
    check(opened(tmp_path, table), table, "../a=1, b", 9)
    check(opened(tmp_path, table), table, "c.d", 9)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _other_kind(path: Path) -> None:
    np.save(path, np.zeros(2))


def _other_name(name: str) -> Callable[[Path], None]:
    return lambda path: os.replace(path, path.with_name(name))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_cut, id="cut short"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"not numbers"), id="no numbers"),
        pytest.param(_other_kind, id="numbers of another kind"),
        pytest.param(_other_name("2024-03-01 0 ztf=3.npy"), id="fewer than named"),
        pytest.param(_other_name("2024-03-01 0 ztf=-2.npy"), id="negative count"),
        pytest.param(_other_name("2024-03-01 0.npy"), id="short name"),
        pytest.param(_other_name("2024-03-01 x ztf=2.npy"), id="no batch"),
        pytest.param(_other_name("2024-03-01 0 ztf.npy"), id="no count"),
        pytest.param(_other_name("notes.npy"), id="foreign name"),
    ],
)
def test_a_broken_file_is_deleted_told_and_replaced_by_the_table(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
):
    monkeypatch.setattr(logging.getLogger("mmgateway"), "propagate", True)
    table = Table()
    known = opened(tmp_path, table)
    added(known, table, 0, [("2024-03-01", "ztf", 1), ("2024-03-01", "ztf", 2)])
    known.store()
    (file,) = tmp_path.glob("*.npy")
    damage(file)
    (broken,) = tmp_path.glob("*.npy")

    again = opened(tmp_path, table)

    assert not broken.exists()
    (line,) = caplog.messages
    assert "file_of_numbers_deleted" in line
    assert broken.name in line
    check(again, table, "ztf", 9)


def test_a_file_that_breaks_while_it_is_used_is_replaced_by_the_table(tmp_path: Path):
    table = Table()
    known = opened(tmp_path, table)
    added(known, table, 0, [("2024-03-01", "ztf", 1), ("2024-03-01", "ztf", 2)])
    known.store()
    _cut(next(tmp_path.glob("*.npy")))
    check(known, table, "ztf", 9)


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path):
    half = tmp_path / "2024-03-01 0 ztf=2.new"
    half.write_bytes(b"half")
    opened(tmp_path, Table())
    assert not half.exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append("fsync"))

    def named(old: Path, new: Path) -> None:
        done.append("named")
        replace(old, new)

    monkeypatch.setattr(os, "replace", named)
    table = Table()
    known = opened(tmp_path, table)
    added(known, table, 0, [("2024-03-01", "ztf", 1)])
    known.store()
    assert done == ["fsync", "named"]


def test_a_year_of_nights_takes_as_much_memory_as_a_few(tmp_path):
    """365 nights of 2,000 numbers, at most 8,000 of them in memory."""
    known = KnownIds(tmp_path, lambda *_: {}, max_rows=8000)
    nights = [str(np.datetime64("2024-01-01") + n) for n in range(_NIGHTS)]
    used = []
    tracemalloc.start()
    try:
        for n, night in enumerate(nights):
            ids = np.arange(n * 2000, (n + 1) * 2000)
            known.add({night: {"ztf": (ids, np.full(2000, n))}})
            known.nights_with("ztf", ids, n)
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert known.rows_in_memory <= 8000
    # Names and bounds of 330 nights are left: 2 kB each, where their numbers would take 32.
    assert max(used[-30:]) - max(used[20:50]) < 330 * 2048
    old = known.nights_with("ztf", np.arange(4000, 4010), _NIGHTS)
    assert [(night, there.all()) for night, there in old] == [(nights[2], True)]


# --- as the archive gives it -----------------------------------------------------------------


def answer(seen: Seen) -> list[tuple[bool, bool, bool]]:
    columns = (seen.same_night, seen.other_night, seen.withdrawn)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def test_seen_tells_the_night_any_other_night_and_what_was_withdrawn(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 1.0, 1.0, 1.0), alert(2, 1.0, 1.0, 9.0)]), 0)
    archive.append(alerts([alert(1, 1.0, 1.0, 1.0, withdrawn=True)]), 1)
    asked = alerts(
        [
            alert(1, 1.0, 1.0, 1.0),
            alert(2, 1.0, 1.0, 1.0),
            alert(3, 1.0, 1.0, 1.0),
            alert(2, 1.0, 1.0, 9.0, survey="lsst"),
        ]
    )
    nothing = (False, False, False)
    expected = {
        0: [nothing] * 4,
        1: [(True, False, False), (False, True, False), nothing, nothing],
        2: [(True, False, True), (False, True, False), nothing, nothing],
    }
    for reader in (archive, AlertArchive(tmp_path / "a")):
        assert {before: answer(reader.seen(asked, before)) for before in expected} == expected


def test_a_number_of_two_nights_is_of_the_same_and_of_another(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    archive.append(alerts([alert(1, 1.0, 1.0, 1.0), alert(1, 1.0, 1.0, 9.0)]), 0)
    assert answer(archive.seen(alerts([alert(1, 1.0, 1.0, 1.0)]), 1)) == [(True, True, False)]


def test_what_is_appended_after_a_question_is_seen_as_well(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    asked = alerts([alert(i, 1.0, 1.0) for i in range(4)])
    assert not archive.seen(asked, 0).same_night.any()
    archive.append(asked.slice(0, 2), 0)
    archive.append(alerts([alert(3, 1.0, 1.0, 5.0, withdrawn=True)]), 1)
    assert answer(archive.seen(asked, 2)) == [
        *[(True, False, False)] * 2,
        (False, False, False),
        (False, True, True),
    ]


def test_a_batch_that_is_done_anew_does_not_see_itself_also_when_it_went_to_files(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    rows = alerts([alert(1, 1.0, 1.0)])
    archive.append(rows, 0)
    archive._ids().store()
    for reader in (archive, AlertArchive(tmp_path / "a")):
        assert not reader.seen(rows, 0).same_night.any()
        assert reader.seen(rows, 1).same_night.all()


def test_seen_after_compaction_is_the_same(tmp_path):
    archive = AlertArchive(tmp_path / "a")
    for batch in range(20):
        archive.append(alerts([alert(batch, 1.0, 1.0), alert(99 + batch, 1.0, 1.0, 9.0)]), batch)
    archive.compact(now=datetime.now(UTC) + timedelta(days=1))
    asked = alerts([alert(i, 1.0, 1.0) for i in range(130)])
    for before in (0, 7, 20):
        expected = [(i < before, 99 <= i < 99 + before, False) for i in range(130)]
        assert answer(AlertArchive(tmp_path / "a").seen(asked, before)) == expected


def test_nights_of_exposures_across_noon_are_two():
    noon = 2460370.0
    assert night_of(pa.array([noon - 1e-6, noon])).to_pylist() == ["2024-02-28", "2024-02-29"]
