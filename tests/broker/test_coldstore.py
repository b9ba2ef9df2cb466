"""Events put aside: against a plain list, over restarts, and with files that are not ours."""

from __future__ import annotations

import math
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import coldsqlite
from broker.coldsqlite import SqliteColdStore
from broker.coldstore import ColdStore, Family
from crossmatch.errors import ServiceError

JD = 2460000.0


def family(name: str, start_jd: float = JD, end_jd: float = JD + 14.0) -> Family:
    group = {"key": {"event_id": name}, "group": {"alerts": [], "last": {"score": 1.25}}}
    return Family(frozenset({name, "all"}), start_jd, end_jd, (name.encode(), b""), (group,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ended.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteColdStore]:
    opened = SqliteColdStore(path)
    yield opened
    opened.close()


class Model:
    """What a store is to do, with a list that is gone through from end to end."""

    def __init__(self) -> None:
        self.rows: list[tuple[Family, int, int | None]] = []

    def here(self) -> list[Family]:
        return [f for f, _, taken in self.rows if taken is None]

    def restore(self, committed: int) -> None:
        self.rows = [
            (f, put, None if taken is not None and taken > committed else taken)
            for f, put, taken in self.rows
            if put <= committed and (taken is None or taken > committed)
        ]

    def put(self, families: list[Family], step: int) -> None:
        self.rows += [(f, step, None) for f in families]

    def take(self, wanted: list[Family], step: int) -> list[Family]:
        taken = [f for f in self.here() if f in wanted]
        self.rows = [
            (f, put, step if at is None and f in wanted else at) for f, put, at in self.rows
        ]
        return taken


_EDGES = [JD - 1e-9, JD, JD + 1e-9, JD + 1, JD + 2, JD + 200, -math.inf, math.inf, 1e300]
_TIMES = st.sampled_from(_EDGES) | st.floats(JD - 50, JD + 50)
_NAMES = st.sampled_from(["a", "b", "c", "ivo://x#1", "\ud800", "a\0b", "", "é"])
_JSON = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | _NAMES
_GROUPS = st.dictionaries(_NAMES, _JSON | st.lists(_JSON, max_size=2), max_size=2)
_FAMILIES = st.builds(
    Family,
    st.frozensets(_NAMES, max_size=4),
    _TIMES,
    _TIMES,
    st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    st.lists(_GROUPS, max_size=2).map(tuple),
)
_STEPS = st.integers(0, 4)
_OPERATIONS = st.lists(
    st.tuples(st.just("put"), st.lists(_FAMILIES, max_size=3), _STEPS)
    | st.tuples(st.just("take"), st.integers(0, 2), _STEPS)
    | st.tuples(st.just("restore"), st.none(), _STEPS),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_OPERATIONS, st.lists(_NAMES, max_size=3), _TIMES, _TIMES)
def test_a_store_does_as_a_list_does(
    operations: list[tuple[str, Any, int]], names: list[str], start_jd: float, end_jd: float
) -> None:
    store, model = SqliteColdStore(None), Model()
    # Every family has a name of its own, so that what the store gives can be told apart.
    number = 0
    for kind, what, step in operations:
        if kind == "put":
            families = [
                Family(f.names | {f"#{number + i}"}, f.start_jd, f.end_jd, f.records, f.groups)
                for i, f in enumerate(what)
            ]
            number += len(families)
            store.put(families, step)
            model.put(families, step)
        elif kind == "take":
            wanted = [f for f in model.here() if f"#{what}" in f.names]
            assert store.take(store.find([f"#{what}"]), step) == model.take(wanted, step)
        else:
            store.restore(step)
            model.restore(step)
        _same(store, model, names, start_jd, end_jd)
    store.close()


def _same(store: ColdStore, model: Model, names: list[str], start_jd: float, end_jd: float) -> None:
    here = model.here()
    named = [f for f in here if f.names & set(names)]
    within = [f for f in here if f.start_jd < end_jd and f.end_jd >= start_jd]
    own = {n: i for f in here for n in f.names if n.startswith("#") for i in store.find([n])}
    assert len(set(own.values())) == len(here)
    assert store.find(names) == sorted({own[n] for f in named for n in f.names if n in own})
    assert store.between(start_jd, end_jd) == sorted(
        own[n] for f in within for n in f.names if n in own
    )
    assert store.latest_end_jd() == max((f.end_jd for f in here), default=-math.inf)
    assert store.record_digests() == {sha256(r).digest() for f in here for r in f.records}


def test_what_was_put_is_there_after_a_restart(path: Path, store: SqliteColdStore) -> None:
    store.put([family("a"), family("b", JD + 1)], 3)
    store.close()

    again = SqliteColdStore(path)

    again.restore(3)
    assert again.take(again.find(["a"]), 4) == [family("a")]
    again.close()


def test_a_step_that_was_not_committed_did_not_happen(path: Path, store: SqliteColdStore) -> None:
    store.put([family("a")], 1)
    store.put([family("b")], 2)
    store.take(store.find(["a"]), 2)
    store.close()

    again = SqliteColdStore(path)
    again.restore(1)

    assert again.take(again.find(["all"]), 2) == [family("a")]
    again.close()


def test_what_a_committed_step_took_is_deleted(store: SqliteColdStore) -> None:
    store.put([family("a")], 1)
    store.take(store.find(["a"]), 2)

    store.restore(2)
    store.restore(1)

    assert store.find(["a"]) == []
    for table in ("families", "names", "bodies"):
        assert store._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize(
    ("start_jd", "end_jd", "found"),
    [
        (JD + 14, JD + 20, True),
        (JD + 14 + 1e-6, JD + 20, False),
        (JD - 9, JD, False),
        (JD - 9, JD + 1e-6, True),
        (JD + 5, JD + 5, True),
        (-math.inf, math.inf, True),
    ],
)
def test_a_time_begins_before_it_and_ends_with_it(
    store: SqliteColdStore, start_jd: float, end_jd: float, found: bool
) -> None:
    """The end of a window belongs to it, its start does not."""
    store.put([family("a", JD, JD + 14)], 1)

    assert bool(store.between(start_jd, end_jd)) is found


def test_what_was_taken_is_given_once(store: SqliteColdStore) -> None:
    store.put([family("a")], 1)
    (number,) = store.find(["a"])

    assert store.take([number, number], 2) == [family("a")]
    assert store.take([number], 3) == []
    assert store.take([12345], 3) == []


def test_a_put_that_fails_puts_nothing(store: SqliteColdStore) -> None:
    with pytest.raises(ValueError, match="no place in time"):
        store.put([family("a"), family("b", end_jd=math.nan)], 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put([Family(frozenset("x"), JD, JD, (), ({"score": math.nan},))], 1)

    assert store.find(["all", "x"]) == []
    store.put([family("a")], 1)
    assert len(store.find(["all"])) == 1


def test_threads_may_share_a_store(store: SqliteColdStore) -> None:
    def work(thread: int) -> int:
        for i in range(10):
            store.put([family(f"{thread}/{i}", JD + thread, JD + i)], i)
            store.between(JD, JD + 5)
            store.record_digests()
        return sum(len(store.take(store.find([f"{thread}/{i}"]), i)) for i in range(0, 10, 2))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [5] * 4

    assert len(store.find(["all"])) == 20


def test_a_long_window_does_not_make_a_search_read_all(store: SqliteColdStore) -> None:
    """Steps of SQLite's machine, which no load of this computer changes."""
    nights = 2000
    store.put([family(str(i), JD + i, JD + i + 2) for i in range(nights)], 1)
    store.put([family("long", JD, JD + nights)], 1)
    steps = []
    store._db.set_progress_handler(lambda: steps.append(1), 1)

    found = store.between(JD + 700.5, JD + 700.6)

    assert len(found) == 3
    # A thousand families would be several thousand steps.
    assert len(steps) < 500


def test_a_second_process_is_refused(
    path: Path, store: SqliteColdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put([family("a")], 1)
    monkeypatch.setattr(coldsqlite, "_WAIT_SECONDS", 0.0)

    with pytest.raises(ServiceError, match=r"ended\.db.*another matcher has it"):
        SqliteColdStore(path)


def test_the_file_is_its_owner_s_alone(path: Path, store: SqliteColdStore) -> None:
    store.put([family("a")], 1)

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}

    assert set(modes.values()) == {0o600}


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"notes of last night\n" * 500)

    with pytest.raises(ServiceError, match=r"ended\.db is broken: .*move it away"):
        SqliteColdStore(path)
    assert path.read_bytes().startswith(b"notes")


def test_another_program_s_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE families (x)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(ServiceError, match=r"ended\.db is a database of something else"):
        SqliteColdStore(path)
    assert path.read_bytes() == before


def test_a_later_format_is_refused(path: Path, store: SqliteColdStore) -> None:
    store.close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 2")
    later.close()

    with pytest.raises(ServiceError, match=r"has format 2, .* reads format 1"):
        SqliteColdStore(path)


def test_a_family_that_was_damaged_is_named(path: Path, store: SqliteColdStore) -> None:
    store.put([family("a")], 1)
    store._db.execute("UPDATE bodies SET body = x'00112233'")

    with pytest.raises(ServiceError, match=r"ended\.db is broken at family 1"):
        store.take(store.find(["a"]), 2)
    assert store.find(["a"]) == [1]


def test_a_damaged_page_is_told_with_the_file(path: Path, store: SqliteColdStore) -> None:
    store.put([family(str(i)) for i in range(200)], 1)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

    broken = SqliteColdStore(path)
    with pytest.raises(ServiceError, match=r"ended\.db is broken: .*put back a copy"):
        broken.record_digests()
    broken.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ServiceError, match=r"file/ended\.db: .*can be written"):
        SqliteColdStore(tmp_path / "file" / "ended.db")


def test_a_full_disk_is_told_and_nothing_is_lost(path: Path, store: SqliteColdStore) -> None:
    store.put([family("a")], 1)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(ServiceError, match="make room"):
        store.put([family(f"{i}") for i in range(1000)], 2)
    assert store.find(["all"]) == [1]
