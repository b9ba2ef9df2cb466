"""The store: versions side by side, replaced atomically, nothing half-added, verified."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalogs import hats
from catalogs import store as store_module
from catalogs.ingest import Wanted
from catalogs.kinds import Kind
from catalogs.store import Following, Store
from catalogs.stored import StoredCatalog
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW, WANTED, table, write


def test_a_failure_while_writing_leaves_the_version_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW).version

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(hats.Writer, "write", broken)
    with pytest.raises(OSError, match="no space"):
        store.add(write(tmp_path / "b.parquet", table(seed=2)), WANTED, NOW)
    assert store.latest("test") == before
    assert sorted(p.name for p in (store.root / "test").iterdir()) == sorted([before, "latest"])


def test_what_a_killed_process_left_is_swept(store: Store, tmp_path: Path) -> None:
    killed = [
        store.root / place / f".{what}-999999999-abc"
        for place, what in (("test", "adding"), ("test", "removing"), ("", "removing"))
    ]
    mine = store.root / "test" / f".adding-{os.getpid()}-abc"
    for folder in (*killed, mine):
        folder.mkdir(parents=True)
        (folder / "latest").write_text("x")
    assert store.names() == []
    store.add(write(tmp_path / "a.parquet", table()), WANTED, NOW)
    assert not any(folder.exists() for folder in killed)
    assert mine.exists()
    assert store.versions("test") == [store.latest("test")]


def test_two_that_add_the_same_at_once_both_succeed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", table())
    settle = store_module._settle

    def other_first(folder: Path) -> None:
        monkeypatch.setattr(store_module, "_settle", settle)
        assert not store.add(path, WANTED, NOW).known
        settle(folder)

    monkeypatch.setattr(store_module, "_settle", other_first)
    assert store.add(path, WANTED, NOW).known
    assert store.versions("test") == [store.latest("test")]
    assert store.verify("test") == []


def test_versions_stay_side_by_side(store: Store, tmp_path: Path) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW.replace(day=2)).version
    assert store.versions("test") == [one, two]
    assert store.latest("test") == two
    assert store.open("test", one).version == one
    store.use("test", one)
    assert store.latest("test") == one
    with pytest.raises(CatalogError, match="in_use"):
        store.remove("test", one)
    assert store.remove("test", two) == [two]
    assert store.remove("test", one) == [one]
    assert store.names() == []
    for call in (store.latest, store.open, store.remove):
        with pytest.raises(CatalogError, match="no_such_catalog"):
            call("test")


def test_what_changes_answers_changes_the_version(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table())
    options: list[dict[str, Any]] = [{}, {"radius_arcsec": 2.0}, {"kind": Kind.stars},
                                     {"columns": ("mag",)}]  # fmt: skip
    versions = [store.add(path, Wanted(name="test", **o), NOW).version for o in options]
    assert len(set(versions)) == len(options)
    assert store.add(path, Wanted(name="other"), NOW).version == versions[0]


def test_another_version_is_followed_between_calls(store: Store, tmp_path: Path) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    following = Following(store, "test")
    held = following.current()
    assert following.current() is held
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW).version
    assert (held.version, following.current().version) == (one, two)
    troubles: list[str] = []
    store.remove("test")
    assert following.current(lambda e: troubles.append(e.reason)).version == two
    assert troubles == ["no_such_catalog"]
    # What is mapped stays, also without its files.
    assert len(held.closest(np.array([1.0]), np.array([1.0])).row) == 1


def test_verify_tells_what_is_not_as_it_was(store: Store, tmp_path: Path) -> None:
    version = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    folder = store.root / "test" / version
    assert store.verify("test") == []
    array = np.load(folder / "index/ra.npy", mmap_mode="r+")
    array[3] += 1e-9
    array.flush()
    assert store.verify("test") == ["index/ra.npy: is not what was added"]
    (folder / "index/ra.npy").unlink()
    assert store.verify("test") == ["index/ra.npy: is missing"]
    with pytest.raises(CatalogError, match="not_a_catalog"):
        store.open("test")
    next(folder.glob("test/dataset/*/*/*.parquet")).unlink()
    assert any(fault.startswith("test: ") for fault in store.verify("test"))


def _damaged(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    file.write_bytes(raw)


@pytest.mark.parametrize(
    "pattern", ["test/dataset/*/*/*.parquet", "test_margin/dataset/*/*/*.parquet",
                "test/partition_info.csv", "collection.properties"]
)  # fmt: skip
def test_damaged_hats_files_are_told_and_repaired(
    store: Store, tmp_path: Path, pattern: str
) -> None:
    path = write(tmp_path / "a.csv", table(30_000))
    version = store.add(path, WANTED, NOW).version
    folder = store.root / "test" / version
    file = next(folder.glob(pattern))
    _damaged(file)
    fault = f"{file.relative_to(folder).as_posix()}: is not what was added"
    assert fault in store.verify("test")
    again = store.add(path, WANTED, NOW)
    assert (again.version, again.known) == (version, False)
    assert store.verify("test") == []


def test_a_version_without_digests_of_its_hats_files_is_verified_and_gets_them(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", table())
    version = store.add(path, WANTED, NOW).version
    file = store.root / "test" / version / "catalog.json"
    facts = json.loads(file.read_text())
    assert facts.pop("hats_files")
    file.write_text(json.dumps(facts))
    assert store.verify("test") == []
    again = store.add(path, WANTED, NOW)
    assert (again.version, again.known) == (version, False)
    assert "hats_files" in store.facts("test", version)


def test_versions_that_are_old_and_not_in_use_are_removed(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table())
    days = [NOW + timedelta(days=n) for n in range(4)]
    versions = [
        store.add(path, Wanted(name="test", radius_arcsec=1.0 + n), day).version
        for n, day in enumerate(days)
    ]
    store.use("test", versions[0])
    assert store.remove_older("test", days[3], keep=[versions[1]]) == [versions[2]]
    assert store.versions("test") == [versions[0], versions[1], versions[3]]
    assert store.remove_older("test", days[3], keep=[versions[1]]) == []


def test_verify_tells_changed_facts(store: Store, tmp_path: Path) -> None:
    version = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    facts = store.root / "test" / version / "catalog.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"radius_arcsec": 99.0}))
    assert store.verify("test") == ["catalog.json: says other things than when it was added"]


def _without_its_index(folder: Path) -> None:
    shutil.rmtree(folder / "index")


def _without_facts(folder: Path) -> None:
    (folder / "catalog.json").unlink()


def _with_other_facts(folder: Path) -> None:
    (folder / "catalog.json").write_text("{}")


def _with_a_changed_array(folder: Path) -> None:
    array = np.load(folder / "index/ra.npy", mmap_mode="r+")
    array[3] += 1.0
    array.flush()


@pytest.mark.parametrize(
    "damage", [_without_its_index, _without_facts, _with_other_facts, _with_a_changed_array]
)
def test_adding_again_repairs(store: Store, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = write(tmp_path / "a.csv", table())
    version = store.add(path, WANTED, NOW).version
    following = Following(store, "test")
    held = following.current()
    damage(store.root / "test" / version)
    again = store.add(path, WANTED, NOW)
    assert (again.version, again.known) == (version, False)
    assert store.verify("test") == []
    assert store.add(path, WANTED, NOW).known
    assert following.current() is not held
    inside = sorted(p.name for p in (store.root / "test").iterdir())
    assert inside == sorted([version, "latest"])


@pytest.mark.parametrize("whole", [True, False])
def test_a_removal_that_is_killed_leaves_nothing_that_is_seen(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    path = write(tmp_path / "a.csv", table())
    one = store.add(path, WANTED, NOW).version
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW.replace(day=2)).version

    def killed(folder: Path, **_: Any) -> None:
        (folder / "latest" if whole else folder / "catalog.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.remove("test", None if whole else one)
    assert store.names() == ([] if whole else ["test"])
    assert store.versions("test") == ([] if whole else [two])
    assert not store.add(path, WANTED, NOW).known
    assert store.verify("test") == []


def test_another_version_that_cannot_be_opened_at_first_is_tried_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    following = Following(store, "test")
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW).version
    troubles: list[str] = []

    def too_many_files(*_: Any) -> None:
        raise CatalogError("not_a_catalog", "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.StoredCatalog, "open", too_many_files)
        for _ in range(3):
            assert following.current(lambda e: troubles.append(e.detail)).version == one
    assert troubles == ["too many open files"]
    assert following.current().version == two
    assert following.current() is following.current()


def test_a_pointer_that_cannot_be_read_is_no_end(store: Store, tmp_path: Path) -> None:
    version = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    following = Following(store, "test")
    store.pointer("test").unlink()
    store.pointer("test").mkdir()
    troubles: list[str] = []
    assert following.current(lambda e: troubles.append(e.reason)).version == version
    assert troubles == ["not_a_catalog"]


def test_a_version_that_is_not_accepted_does_not_take_the_place(
    store: Store, tmp_path: Path
) -> None:
    one = store.add(write(tmp_path / "a.csv", table()), WANTED, NOW).version
    following = Following(store, "test")
    two = store.add(write(tmp_path / "b.csv", table(seed=2)), WANTED, NOW).version
    troubles: list[str] = []

    def refuse(found: StoredCatalog) -> None:
        raise CatalogError("radius_too_small", found.version)

    for _ in range(2):
        assert following.current(lambda e: troubles.append(e.detail), refuse).version == one
    assert troubles == [two]
    assert following.current().version == two
