"""The cache of what CDS answered: by catalogue, version and place, and bounded."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from catalogs.cds import Place
from catalogs.cds_cache import AnswerCache
from crossmatch.errors import ServiceError
from crossmatch.remote import Answer

ANSWER = Answer("MM-ZTF-a", "simbad", "2026-03-01", 10.0, 20.0, 2.0, "2026-03-01T00:00:00Z", "x")


def test_place_of_another_object_has_its_answer(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cds.sqlite", 1.0)
    cache.put([ANSWER])
    places = [Place("MM-ZTF-b", 10.0, 20.0), Place("MM-ZTF-c", 10.001, 20.0)]
    assert cache.get("simbad", "2026-03-01", places) == [
        replace(ANSWER, counterpart_id="MM-ZTF-b"),
        None,
    ]


def test_other_catalogue_or_day_is_another_question(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cds.sqlite", 1.0)
    cache.put([ANSWER])
    place = [Place("MM-ZTF-a", 10.0, 20.0)]
    assert cache.get("simbad", "2026-03-02", place) == [None]
    assert cache.get("vizier:t", "2026-03-01", place) == [None]


def test_answer_that_does_not_cover_the_place_does_not_count(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cds.sqlite", 1.0)
    cache.put([replace(ANSWER, radius_arcsec=0.9)])
    assert cache.get("simbad", "2026-03-01", [Place("MM-ZTF-a", 10.0, 20.0)]) == [None]


def test_oldest_are_dropped(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cds.sqlite", 1.0, max_answers=3)
    cache.put([replace(ANSWER, ra_deg=10.0 + i) for i in range(5)])
    places = [Place("MM-ZTF-a", 10.0 + i, 20.0) for i in range(5)]
    known = [a is not None for a in cache.get("simbad", "2026-03-01", places)]
    assert (cache.count(), known) == (3, [False, False, True, True, True])


def test_it_survives_and_may_be_broken(tmp_path: Path) -> None:
    path = tmp_path / "cds.sqlite"
    cache = AnswerCache(path, 1.0)
    cache.put([ANSWER])
    cache.close()
    assert AnswerCache(path, 1.0).count() == 1
    path.write_bytes(b"broken" * 1000)
    assert AnswerCache(path, 1.0).count() == 0


def test_two_may_use_it_at_a_time(tmp_path: Path) -> None:
    one, other = (AnswerCache(tmp_path / "cds.sqlite", 1.0) for _ in range(2))
    one.put([ANSWER])
    other.put([replace(ANSWER, ra_deg=11.0)])
    assert one.count() == other.count() == 2


def test_no_places_have_no_answers(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cds.sqlite", 1.0)
    cache.put([])
    assert cache.get("simbad", "2026-03-01", []) == []


def test_one_that_cannot_be_opened_says_so_when_it_is_used_and_is_tried_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file stands where the folder should be")
    cache = AnswerCache(folder / "cds.sqlite", 1.0)
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"cds\.sqlite"):
            cache.put([ANSWER])
    folder.unlink()
    cache.put([ANSWER])
    assert cache.count() == 1


def test_one_that_is_damaged_while_it_is_open_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "cds.sqlite"
    cache = AnswerCache(path, 1.0)
    cache.put([replace(ANSWER, ra_deg=10.0 + i) for i in range(100)])
    path.write_bytes(b"broken" * 10_000)
    place = [Place("MM-ZTF-a", 10.0, 20.0)]
    assert cache.get("simbad", "2026-03-01", place) == [None]
    cache.put([ANSWER])
    assert cache.get("simbad", "2026-03-01", place) == [ANSWER]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_answer_that_is_none_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "cds.sqlite"
    cache = AnswerCache(path, 1.0)
    cache.put([ANSWER])
    place = [Place("MM-ZTF-a", 10.0, 20.0)]
    for body in ("{", "{}", "[1]"):
        db = sqlite3.connect(path)
        with db:
            db.execute("UPDATE answers SET body = ?", (body,))
        db.close()
        with pytest.raises(ServiceError, match="an answer cannot be read"):
            cache.get("simbad", "2026-03-01", place)
    cache.put([ANSWER])
    assert cache.get("simbad", "2026-03-01", place) == [ANSWER]
