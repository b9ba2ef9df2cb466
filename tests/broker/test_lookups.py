"""Answers of catalogues by counterpart: after a kill they are those of the committed steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.lookuplog import MAX_BYTES, decode_answer, encode_answer, readable
from broker.lookups import MemoryAnswers, SqliteAnswers
from crossmatch.errors import CatalogError, Rejected, ServiceError
from crossmatch.remote import Answer, RemoteSource

SOURCE = RemoteSource("Mrk 1", "Seyfert1", 10.0, 20.0, 0.0)
ANSWER = Answer(
    "MM-ZTF-a", "simbad", "2026-03-01", 10.0, 20.0, 2.0, "2026-03-01T00:00:00Z", "x", (SOURCE,)
)
OTHER = replace(ANSWER, counterpart_id="MM-ZTF-b", sources=())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lookups.sqlite"


def nothing() -> list[Answer]:
    raise AssertionError("the topic is not read")


def test_answers_are_found_by_counterpart(path: Path) -> None:
    for store in (SqliteAnswers(path), MemoryAnswers()):
        store.add([ANSWER, OTHER], 0)
        store.add([replace(ANSWER, version="2026-03-02")], 1)
        found = store.of(["MM-ZTF-a", "MM-ZTF-c"])
        assert [a.version for a in found["MM-ZTF-a"]] == ["2026-03-01", "2026-03-02"]
        assert (set(found), store.count()) == ({"MM-ZTF-a"}, 3)


def test_many_objects_are_asked_for_at_once(path: Path) -> None:
    store = SqliteAnswers(path)
    names = [f"MM-ZTF-{i}" for i in range(1700)]
    store.add([replace(ANSWER, counterpart_id=name) for name in names], 0)
    assert set(store.of(names)) == set(names)


def test_what_was_not_committed_is_forgotten(path: Path) -> None:
    store = SqliteAnswers(path)
    store.add([ANSWER], 3)
    store.add([OTHER], 4)
    store.close()
    again = SqliteAnswers(path)
    again.restore(3, 1, nothing)
    assert set(again.of(["MM-ZTF-a", "MM-ZTF-b"])) == {"MM-ZTF-a"}


@pytest.mark.parametrize("loss", ["file", "rows", "garbage"])
def test_lost_file_is_made_anew_from_the_topic(path: Path, loss: str) -> None:
    store = SqliteAnswers(path)
    store.add([ANSWER] if loss == "rows" else [ANSWER, OTHER], 3)
    store.close()
    if loss == "file":
        path.unlink()
    elif loss == "garbage":
        path.write_bytes(b"no data base" * 1000)
    again = SqliteAnswers(path)
    again.restore(7, 2, lambda: [ANSWER, OTHER])
    assert set(again.of(["MM-ZTF-a", "MM-ZTF-b"])) == {"MM-ZTF-a", "MM-ZTF-b"}
    again.restore(7, 2, nothing)


def test_another_matcher_is_refused_and_the_file_stays(path: Path) -> None:
    store = SqliteAnswers(path)
    store.add([ANSWER], 0)
    with pytest.raises(ServiceError, match="another matcher"):
        SqliteAnswers(path, wait_seconds=0.05)
    store.add([OTHER], 1)
    store.close()
    assert SqliteAnswers(path).count() == 2


def test_file_is_its_owners_alone(path: Path) -> None:
    SqliteAnswers(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ServiceError, match="state"):
        SqliteAnswers(tmp_path / "state" / "lookups.sqlite")


def test_message_comes_back() -> None:
    assert decode_answer(encode_answer(ANSWER)) == ANSWER
    assert encode_answer(ANSWER) == encode_answer(decode_answer(encode_answer(ANSWER)))


def test_what_would_not_be_read_is_not_sent() -> None:
    with pytest.raises(CatalogError, match="no place"):
        encode_answer(replace(ANSWER, ra_deg=float("nan")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[" * 100_000, "answer_too_long"),
        (b"[" * 60_000, "not_json"),
        (b"{}", "bad_answer"),
        (encode_answer(ANSWER).replace(b"20.0", b"NaN"), "bad_answer"),
        (b" " * (MAX_BYTES + 1), "answer_too_long"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode_answer(data)
    assert caught.value.reason == reason


def test_messages_that_became_dead_letters_stay_left_out() -> None:
    assert readable([b"?", encode_answer(ANSWER)]) == [ANSWER]
