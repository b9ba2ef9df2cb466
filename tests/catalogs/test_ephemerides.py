"""Tables of positions by time of one name: which version is asked about which time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from catalogs import ephemerides
from catalogs.ingest import FACTS, Wanted
from catalogs.kinds import Kind
from catalogs.store import Following, Store
from crossmatch.errors import CatalogError
from tests.catalogs.catalogfiles import NOW

JD = 2461100.5
WANTED = Wanted(name="test", kind=Kind.minor_planets)


def refuse(error: CatalogError) -> None:
    raise error


def accept(_: object) -> None:
    """Any version."""


def added(store: Store, first: float, last: float, order: int) -> str:
    """A table of an object that stands, added so many minutes after the first one."""
    path = store.root.parent / "table.csv"
    path.write_text(f"name,jd,ra,dec\na,{JD + first},10,0\na,{JD + last},10,0\n")
    return store.add(path, WANTED, NOW + timedelta(minutes=order)).version


def asked(following: Following, *days: float, trouble: ephemerides.Trouble = refuse) -> list[str]:
    """Version that each time is asked of; empty where none covers it."""
    found = [""] * len(days)
    for catalog, some in following.asked(JD + np.array(days), refuse, trouble, accept):
        for number in some.tolist():
            assert not found[number]
            found[number] = catalog.version
    return found


def test_what_the_one_in_use_does_not_cover_is_asked_of_the_newest_other(store: Store) -> None:
    early = added(store, 0.0, 1.0, 0)
    middle = added(store, 0.5, 1.5, 1)
    latest = added(store, 2.0, 3.0, 2)
    following = Following(store, "test")
    days = (0.4, 0.5, 1.0, 1.2, 1.7, 2.0, 3.0, 3.1, -0.1)
    named = [early, middle, middle, middle, "", latest, latest, "", ""]
    assert asked(following, *days) == named
    store.use("test", early)
    assert asked(following, *days) == [early] * 3 + named[3:]


def test_no_more_than_a_few_are_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = [added(store, n, n + 0.5, n) for n in range(4)]
    monkeypatch.setattr(ephemerides, "_MOST_OPEN", 2)
    following = Following(store, "test")
    for _ in range(2):
        assert asked(following, 0.1, 1.1, 2.1, 3.1) == versions
    assert set(following._others._open) == {versions[1], versions[0]}
    # One that is open is not opened again.
    monkeypatch.setattr(Store, "open", None)
    assert asked(following, 1.1, 3.1, 0.1) == [versions[1], versions[3], versions[0]]


def test_a_version_that_cannot_be_read_is_told_once_and_passed_over(
    store: Store, tmp_path: Path
) -> None:
    whole, damaged = added(store, 0.0, 1.0, 0), added(store, 0.0, 1.1, 1)
    without_facts = added(store, 0.0, 1.2, 2)
    added(store, 2.0, 3.0, 3)
    (store.root / "test" / damaged / "index" / "ra.npy").unlink()
    (store.root / "test" / without_facts / FACTS).write_text("{")
    following = Following(store, "test")
    told: list[CatalogError] = []
    for _ in range(2):
        assert asked(following, 0.5, trouble=told.append) == [whole]
    assert [error.reason for error in told] == ["not_a_catalog"] * 2
    assert [version in str(told) for version in (damaged, without_facts)] == [True, True]
