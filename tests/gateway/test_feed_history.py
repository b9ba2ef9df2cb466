"""What the feed store remembers: the log, versions, rollback, damage; for whom it may be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crossmatch.errors import ConfigError
from gateway.feeds.store import FeedStore
from tests.gateway.feedfiles import (
    OWN,
    Clock,
    actions,
    again,
    names,
    version,
    write,
)

# --- history ---------------------------------------------------------------------------------


def test_looking_alone_writes_nothing(store: FeedStore, tmp_path: Path) -> None:
    store.load(record=False)
    assert store.history() == []
    assert not (tmp_path / "state").exists()


def test_log_is_lines_of_json_and_versions_are_kept(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    path = write(folder, OWN)
    own = version(store.load())
    lines = (tmp_path / "state" / "feeds" / "changes.jsonl").read_text().splitlines()
    record = next(r for r in map(json.loads, lines) if r["feed"] == "own")
    assert record["time"].startswith("2026-03-01T00:00:")
    assert (record["action"], record["version"], record["source"]) == ("added", own, str(path))
    kept = tmp_path / "state" / "feeds" / "history"
    assert (kept / "own" / f"{own}.toml").read_text() == OWN
    assert len(list(kept.glob("fermi_gbm/*.toml"))) == 1
    assert kept.stat().st_mode & 0o077 == 0
    assert (kept.parent / "changes.jsonl").stat().st_mode & 0o077 == 0


def test_nothing_new_adds_no_line(store: FeedStore, folder: Path, tmp_path: Path) -> None:
    write(folder, OWN)
    store.load()
    before = len(store.history())
    store.load()
    FeedStore([folder], tmp_path / "state", Clock()).load()
    assert len(store.history()) == before


def test_line_that_a_crash_cut_short_harms_nothing(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    write(folder, OWN)
    store.load()
    log = tmp_path / "state" / "feeds" / "changes.jsonl"
    with log.open("a") as file:
        file.write('{"time": "2026-')
    store.switch("own", False)
    assert actions(store) == ["added", "paused"]


def test_rollback_brings_an_earlier_version_back(store: FeedStore, folder: Path) -> None:
    path = write(folder, OWN)
    first = version(store.load())
    write(folder, OWN.replace("0.95", "0.9"))
    second = version(store.load())
    assert store.rollback("own", first[:6]) == path
    assert path.read_text() == OWN
    assert version(store.load()) == first
    assert actions(store) == ["added", "changed", "rolled_back"]
    assert store.history("own")[-1].detail == f"from {second}"
    store.rollback("own", second)
    assert version(store.load()) == second


def test_rollback_keeps_what_was_edited_since_the_last_look(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    first = version(store.load())
    write(folder, OWN.replace("0.95", "0.9"))
    store.rollback("own", first)
    edited = next(c.version for c in store.history("own") if c.action == "changed")
    assert store.rollback("own", edited).read_text() == OWN.replace("0.95", "0.9")


def test_rollback_of_a_broken_or_lost_file(store: FeedStore, folder: Path, tmp_path: Path) -> None:
    path = write(folder, OWN, "unusual name.toml")
    first = version(store.load())
    path.write_text("name = ")
    assert store.rollback("own", first) == path
    assert store.load().state("own") == "on"
    replaced = list((tmp_path / "state/feeds/history/own").glob("*.replaced"))
    assert [p.read_text() for p in replaced] == ["name = "]
    path.unlink()
    store.load()
    assert store.rollback("own", first) == path
    assert version(store.load()) == first


def test_rollback_of_a_built_in_feed_is_a_copy_of_the_operators(
    store: FeedStore, folder: Path
) -> None:
    built_in = version(store.load(), "fermi_gbm")
    text = store.text("fermi_gbm").replace("Fermi GBM", "Fermi", 1)
    write(folder, text, "gbm.toml")
    assert version(store.load(), "fermi_gbm") != built_in
    assert store.rollback("fermi_gbm", built_in) == folder / "gbm.toml"
    assert version(store.load(), "fermi_gbm") == built_in
    (folder / "gbm.toml").unlink()
    store.load()
    other = next(c.version for c in store.history("fermi_gbm") if c.version != built_in)
    store.rollback("fermi_gbm", other)
    assert version(store.load(), "fermi_gbm") == other


def test_rollback_makes_the_folder(tmp_path: Path) -> None:
    store = FeedStore([tmp_path / "new"], tmp_path / "state", Clock())
    built_in = version(store.load(), "lvk")
    assert store.rollback("lvk", built_in) == tmp_path / "new" / "lvk.toml"
    assert (tmp_path / "new" / "lvk.toml").is_file()


@pytest.mark.parametrize("wrong", ["", "123", "../../own"])
def test_rollback_to_what_is_not_kept(store: FeedStore, folder: Path, wrong: str) -> None:
    write(folder, OWN)
    own = version(store.load())
    with pytest.raises(ConfigError, match=f"has no version.*{own}"):
        store.rollback("own", wrong)
    with pytest.raises(ConfigError, match="no feed is called"):
        store.rollback("../own", own)


def test_rollback_does_not_overwrite_another_feed(store: FeedStore, folder: Path) -> None:
    path = write(folder, OWN)
    first = version(store.load())
    path.write_text(OWN.replace('"own"', '"other"'))
    with pytest.raises(ConfigError, match="is the file of feed other"):
        store.rollback("own", first)


def test_history_of_an_unknown_name(store: FeedStore) -> None:
    store.load()
    with pytest.raises(ConfigError, match="no feed is called"):
        store.history("none")


def test_disk_that_cannot_be_written_is_a_problem_told(
    store: FeedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, OWN)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    loaded = store.load()
    assert loaded.state("own") == "on"
    assert "No space left" in loaded.problems[-1].sentence


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", '{"feeds": 1}', '{"feeds": {"own": 1}}', '{"feeds": {"own": {}}}',
     '{"broken": 1}', '{"feeds": {"own": {"version": 1, "source": []}}, "broken": {"a": []}}',
     "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_damaged_memory_is_a_problem_told(
    store: FeedStore, folder: Path, tmp_path: Path, text: str
) -> None:
    write(folder, OWN)
    store.load()
    (tmp_path / "state" / "feeds" / "current.json").write_bytes(
        text.encode("utf-8", "surrogateescape")
    )
    write(folder, "name = ")
    for one in (store, again(folder, tmp_path)):
        loaded = one.load()
        assert "current.json" in loaded.problems[-1].sentence
        assert "lvk" in names(loaded)


def test_damaged_log_and_version_are_told(store: FeedStore, folder: Path, tmp_path: Path) -> None:
    write(folder, OWN)
    own = version(store.load())
    state = tmp_path / "state" / "feeds"
    (state / "changes.jsonl").write_bytes(b"\xff\xfe\n[1]\n" + b"[" * 100_000 + b"\n{}\n")
    assert store.history() == []
    (state / "history" / "own" / f"{own}.toml").write_bytes(b"\xff")
    write(folder, "name = ")
    loaded = again(folder, tmp_path).load()
    assert "own.toml: not valid TOML" in loaded.problems[0].sentence
    with pytest.raises(ConfigError, match="cannot be read"):
        store.rollback("own", own)


# --- for strict users and for the owner alone ------------------------------------------------


def test_sound_feeds_are_all_or_a_sentence(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    assert "own" in {f.name for f in store.load(record=False).sound().feeds}
    write(folder, "name = ")
    with pytest.raises(ConfigError, match=r"own\.toml: not valid TOML"):
        store.load(record=False).sound()


@pytest.mark.parametrize(
    ("extra", "mode"),
    [
        ('streams = ["a"]\n', 0o600),
        ("private = true\n", 0o600),
        ('[transport]\nvtp = "a:1"\n[transport.properties]\na = "b"\n', 0o600),
        ("", 0o644),
    ],
)
def test_rollback_of_a_private_feed_is_for_its_owner_alone(
    store: FeedStore, folder: Path, extra: str, mode: int
) -> None:
    path = write(folder, OWN + extra)
    first = version(store.load())
    write(folder, OWN.replace("0.95", "0.9"))
    path.chmod(0o644)
    store.rollback("own", first)
    assert path.stat().st_mode & 0o777 == mode
