"""A checkpoint taken back to the last committed step."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.checkpoint import rewind
from crossmatch.errors import ServiceError


def notes(folder: Path, planned: range, done: range) -> Path:
    """Spark's files, each with its checksum."""
    for name, numbers in (("offsets", planned), ("commits", done)):
        (folder / name).mkdir()
        for number in numbers:
            (folder / name / str(number)).write_text("v1")
            (folder / name / f".{number}.crc").write_bytes(b"crc")
    (folder / "metadata").write_text('{"id":"1"}')
    return folder


def left(folder: Path) -> tuple[list[str], list[str]]:
    files = [sorted(f.name for f in (folder / n).iterdir()) for n in ("offsets", "commits")]
    return files[0], files[1]


@pytest.mark.parametrize(
    ("planned", "done", "ahead"),
    [
        (range(8, 13), range(8, 12), 1),  # the batch behind is done, and the next one planned
        (range(8, 12), range(8, 12), 1),
        (range(8, 12), range(8, 11), 0),  # what a kill amid a batch leaves
        (range(8, 11), range(8, 11), 0),
        (range(8, 11), range(8, 10), 0),  # committed in Kafka, and not yet noted
    ],
)
def test_the_batch_behind_the_committed_one_is_the_next(tmp_path: Path, planned, done, ahead):
    folder = notes(tmp_path, planned, done)

    assert rewind(folder, 10) == ahead

    offsets, commits = left(folder)
    assert offsets == sorted(name for n in planned if n <= 11 for name in (str(n), f".{n}.crc"))
    assert commits == sorted(name for n in done if n <= 10 for name in (str(n), f".{n}.crc"))
    assert rewind(folder, 10) == 0
    assert (folder / "metadata").exists()


def test_before_the_first_step_only_the_first_plan_stays(tmp_path: Path):
    folder = notes(tmp_path, range(2), range(1))
    assert rewind(folder, -1) == 1
    assert left(folder) == ([".0.crc", "0"], [])


def test_where_no_query_ever_ran_there_is_nothing_to_do(tmp_path: Path):
    assert rewind(tmp_path / "none", 4) == 0


@pytest.mark.parametrize(
    ("planned", "done"), [(range(3, 14), range(3, 13)), (range(3, 14), range(3, 11))]
)
def test_a_checkpoint_of_another_run_is_left_as_it_is(tmp_path: Path, planned, done):
    """Kafka was restored from an older day: whoever went on would leave batches out."""
    folder = notes(tmp_path, planned, done)
    before = left(folder)
    with pytest.raises(ServiceError, match="at batch 13, but Kafka has batch 10 as the last one"):
        rewind(folder, 10)
    assert left(folder) == before


def test_a_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    folder = notes(tmp_path, range(3), range(2))
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ServiceError, match=r"checkpoint .* cannot be taken back: read-only"):
        rewind(folder, 0)
