"""The feed store: reload, broken files, switches, history, rollback."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crossmatch.errors import ConfigError
from gateway.feeds.loading import built_in_files
from gateway.feeds.registry import load_feeds
from gateway.feeds.store import FeedStore, Loaded

OWN = """
name = "own"
title = "An observatory of our own"
mission = "Own"
instrument = "camera"
messenger = "optical"
format = "voevent"
topics = ["own.events"]
ivoids = ["ivo://org.example/own#"]
trigger = ["TrigID"]
containment = 0.95
"""
OFF = OWN.replace("containment", "enabled = false\ncontainment")
FINAL = (Path(__file__).parents[1] / "data" / "notices" / "gbm_final.xml").read_bytes()
EVENT = FINAL.replace(b"nasa.gsfc.gcn/Fermi", b"org.example/own")


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> FeedStore:
    return FeedStore([folder], tmp_path / "state", Clock())


def write(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def version(loaded: Loaded, name: str = "own") -> str:
    return loaded.registry.feed(name).version


def names(loaded: Loaded) -> set[str]:
    return {f.name for f in loaded.registry.feeds}


def actions(store: FeedStore, name: str = "own") -> list[str]:
    return [c.action for c in store.history(name)]


# --- files -----------------------------------------------------------------------------------


def test_without_files_the_built_in_feeds_are_in_force(store: FeedStore) -> None:
    loaded = store.load()
    assert names(loaded) == {f.name for f in load_feeds().feeds}
    assert loaded.problems == ()


def test_new_changed_and_removed_files_are_taken_up(store: FeedStore, folder: Path) -> None:
    store.load()
    assert not store.changed()
    path = write(folder, OWN)
    assert store.changed()
    first = store.load()
    assert first.state("own") == "on"
    assert not store.changed()
    write(folder, OWN.replace("0.95", "0.68"))
    assert store.changed()
    second = store.load()
    assert version(second) != version(first)
    assert second.registry.feed("own").containment == 0.68
    path.unlink()
    assert store.changed()
    assert "own" not in names(store.load())
    assert actions(store) == ["added", "changed", "removed"]


def test_a_change_while_it_is_read_is_not_lost(
    store: FeedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, OWN)
    read = Path.read_text

    def slow(self: Path, *args: str) -> str:
        text = read(self, *args)
        if self == path:
            path.write_bytes(OWN.replace("0.95", "0.685").encode())
        return text

    monkeypatch.setattr(Path, "read_text", slow)
    store.load()
    monkeypatch.undo()
    assert store.changed()


def test_broken_file_costs_only_itself(store: FeedStore, folder: Path) -> None:
    write(folder, OWN.replace('"own"', '"other"'), "other.toml")
    path = write(folder, "name = ")
    loaded = store.load()
    assert "other" in names(loaded)
    assert "own" not in names(loaded)
    (problem,) = loaded.problems
    assert problem.path == path
    assert "own.toml: not valid TOML" in problem.sentence
    assert problem.feed == ""


def test_last_good_version_of_a_broken_file_stays_in_force(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    write(folder, OWN)
    good = version(store.load())
    path = write(folder, OWN.replace("0.95", "95"))
    for one in (store, FeedStore([folder], tmp_path / "state", Clock())):
        loaded = one.load()
        assert version(loaded) == good
        assert loaded.state("own") == "broken"
        assert [p.feed for p in loaded.problems] == ["own"]
        found = loaded.registry.route(EVENT).feed
        assert found is not None
        assert found.name == "own"
    assert actions(store) == ["added", "broken"]
    assert store.history("own")[-1].source == str(path)
    write(folder, OWN.replace("0.95", "0.9"))
    assert store.load().state("own") == "on"
    assert actions(store) == ["added", "broken", "changed"]


def test_file_that_is_no_text_or_cannot_be_read_is_told(store: FeedStore, folder: Path) -> None:
    (folder / "own.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "gone.toml").symlink_to(folder / "nowhere")
    loaded = store.load()
    assert [p.path.name for p in loaded.problems] == ["own.toml"]
    assert "cannot be read" in loaded.problems[0].sentence


def test_broken_copy_of_a_built_in_feed_leaves_that_in_force(
    store: FeedStore, folder: Path
) -> None:
    write(folder, "name = ", "fermi_gbm.toml")
    loaded = store.load()
    assert version(loaded, "fermi_gbm") == version(Loaded(load_feeds()), "fermi_gbm")
    assert loaded.state("fermi_gbm") == "on"
    assert len(loaded.problems) == 1


def test_own_parser_that_is_gone_leaves_the_one_that_was_found(
    store: FeedStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "store_own_parser.py"
    module.write_text("def parse(message, feed):\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(folder, OWN + 'parser = "store_own_parser:parse"\n')
    parser = store.load().registry.parsers["own"]
    write(folder, OWN + 'parser = "store_own_parser:read"\n')
    loaded = store.load()
    assert loaded.state("own") == "broken"
    assert loaded.registry.parsers["own"] is parser
    monkeypatch.delitem(__import__("sys").modules, "store_own_parser")


def test_second_file_of_one_name_is_a_problem_and_the_first_is_used(
    store: FeedStore, folder: Path
) -> None:
    write(folder, OWN, "a.toml")
    write(folder, OWN.replace("0.95", "0.5"), "b.toml")
    loaded = store.load()
    assert loaded.registry.feed("own").containment == 0.95
    assert "stands in" in loaded.problems[0].sentence
    assert loaded.state("own") == "on"


def test_folder_that_is_away_keeps_its_feeds(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    store.load()
    folder.rename(folder.with_name("away"))
    assert store.changed()
    loaded = store.load()
    assert loaded.state("own") == "broken"
    assert "stays as it was" in loaded.problems[0].sentence
    folder.with_name("away").rename(folder)
    assert store.load().state("own") == "on"
    assert actions(store) == ["added"]


def test_folder_that_never_was_is_told(tmp_path: Path) -> None:
    loaded = FeedStore([tmp_path / "none"], tmp_path / "state", Clock()).load()
    assert "make it or correct [paths] feeds" in loaded.problems[0].sentence


def test_folder_of_feeds_may_be_the_one_that_remembers(tmp_path: Path) -> None:
    """The default: feed files lie beside switches and history, which are no feeds."""
    store = FeedStore([tmp_path / "feeds"], tmp_path, Clock())
    assert store.load().problems == ()
    write(tmp_path / "feeds", OWN)
    store.load()
    store.switch("own", False)
    write(tmp_path / "feeds", OWN.replace("0.95", "0.9"))
    store.load()
    loaded = store.load()
    assert loaded.problems == ()
    assert [f.name for f in loaded.registry.feeds].count("own") == 1
    assert actions(store) == ["added", "paused", "changed"]


def test_built_in_file_that_cannot_be_used_costs_only_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {source: text for source, text in built_in_files() if "svom.toml" not in source}
    files["gateway/feeds/missions/svom.toml"] = 'name = "svom"\nno_such_key = 1\n'
    monkeypatch.setattr("gateway.feeds.store.built_in_files", files.items)
    loaded = FeedStore([folder], tmp_path / "state", Clock()).load()
    assert "no_such_key" in loaded.problems[0].sentence
    assert {"svom", "lvk"} & names(loaded) == {"lvk"}


def test_built_in_feeds_are_those_of_the_start(
    store: FeedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is replaced under a running listener is used from the next start."""
    before = names(store.load())
    monkeypatch.setattr("gateway.feeds.store.built_in_files", dict[str, str]().items)
    assert names(store.load()) == before


# --- switches --------------------------------------------------------------------------------


def test_paused_feed_recognises_and_is_asked_for(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    store.load()
    store.switch("own", False)
    assert store.changed()
    loaded = store.load()
    assert loaded.state("own") == "paused"
    assert "own" in loaded.registry.paused
    assert loaded.registry.route(EVENT).feed is not None
    assert "own.events" in loaded.registry.topics()
    store.switch("own", True)
    assert store.load().registry.paused == frozenset()
    assert actions(store) == ["added", "paused", "enabled"]


def test_history_says_why_the_gateway_paused_a_feed(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    loaded = store.load()
    store.switch("own", False, "too slow three times")
    paused = store.why_paused("own")
    assert paused is not None
    assert (paused.version, paused.detail) == (version(loaded), "too slow three times")
    assert store.history("own")[-1] == paused
    store.switch("own", True)
    assert store.why_paused("own") is None
    store.switch("own", False)
    assert store.why_paused("own") is None


def test_switching_twice_changes_nothing(store: FeedStore, folder: Path) -> None:
    write(folder, OWN)
    store.load()
    for on in (True, False, False, True, True):
        store.switch("own", on)
    assert actions(store) == ["added", "paused", "enabled"]


def test_feed_that_its_file_turns_off_is_turned_on(store: FeedStore, folder: Path) -> None:
    write(folder, OFF)
    assert store.load().state("own") == "off"
    store.switch("own", False)
    assert store.load().state("own") == "off"
    store.switch("own", True)
    assert store.load().state("own") == "on"
    store.switch("own", False)
    assert store.load().state("own") == "off", "as its file says: nothing waits for it"
    store.switch("own", True)
    loaded = store.load()
    assert loaded.registry.route(EVENT).feed is not None
    assert actions(store) == ["added", "enabled", "disabled", "enabled"]


def test_fallback_for_unknown_voevents_is_turned_on(store: FeedStore) -> None:
    store.switch("any_voevent", True)
    found = store.load().registry.route(EVENT).feed
    assert found is not None
    assert found.name == "any_voevent"


def test_unknown_name_names_near_ones(store: FeedStore) -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*fermi_gbm"):
        store.switch("fermi_gmb", True)
    with pytest.raises(ConfigError, match="feeds list"):
        store.switch("zzzzzz", False)


def test_damaged_switches_stop_the_start_but_not_a_reload(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    write(folder, OWN)
    store.switch("own", False)
    store.load()
    switches = tmp_path / "state" / "feeds" / "switches.json"
    switches.write_text('{"own": "of')
    loaded = store.load()
    assert loaded.state("own") == "paused"
    assert "switches.json" in loaded.problems[0].sentence
    with pytest.raises(ConfigError, match=r"switches\.json"):
        FeedStore([folder], tmp_path / "state", Clock()).load()


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


# --- what was private ------------------------------------------------------------------------

PRIVATE = OWN.replace("containment", 'streams = ["b", "a"]\ncontainment')


def again(folder: Path, tmp_path: Path) -> FeedStore:
    return FeedStore([folder], tmp_path / "state", Clock())


@pytest.mark.parametrize("recorded", [True, False])
def test_topic_of_a_removed_private_feed_stays_private(
    store: FeedStore, folder: Path, tmp_path: Path, recorded: bool
) -> None:
    path = write(folder, PRIVATE)
    assert store.load(record=recorded).registry.private_topics == {}
    path.unlink()
    stores = [store, again(folder, tmp_path)] if recorded else [store]
    for one in stores:
        registry = one.load(record=recorded).registry
        assert registry.audience_of("own.events") == ("a", "b")
        assert registry.audience_of("", feed="own") == ("a", "b")
        assert registry.route(b'{"a": 1}', topic="own.events").feed is None


def test_topic_that_a_private_feed_no_longer_names_stays_private(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    write(folder, PRIVATE)
    store.load()
    write(folder, PRIVATE.replace("own.events", "own.more"))
    for one in (store, again(folder, tmp_path)):
        registry = one.load().registry
        assert registry.audience_of("own.events") == registry.audience_of("own.more") == ("a", "b")


def test_feeds_in_force_say_who_sees_their_topics(store: FeedStore, folder: Path) -> None:
    """Who lost the right to see a topic does not keep it; what is made public is public."""
    write(folder, PRIVATE)
    store.load()
    write(folder, PRIVATE.replace('"b", "a"', '"c"'))
    registry = store.load().registry
    assert registry.audience_of("own.events") == ("c",)
    write(folder, OWN)
    registry = store.load().registry
    assert registry.audience_of("own.events") == registry.audience_of("", feed="own") == ()
    assert registry.private_topics == registry.private_feeds == {}


def test_topic_of_gcn_is_public_again_without_its_private_copy(
    store: FeedStore, folder: Path
) -> None:
    public = "gcn.notices.einstein_probe.wxt.alert"
    path = write(folder, PRIVATE.replace("own.events", public))
    assert store.load().registry.audience_of(public) == ("a", "b")
    path.unlink()
    assert store.load().registry.audience_of(public) == ()


def test_topics_of_a_kafka_of_its_own_are_private_only_there(
    store: FeedStore, folder: Path
) -> None:
    path = write(folder, PRIVATE + '[transport]\nkafka = "kafka.example.org:9092"\n')
    store.load()
    path.unlink()
    registry = store.load().registry
    assert registry.audience_of("own.events") == ()
    assert registry.audience_of("own.events", feed="own") == ("a", "b")


def test_version_of_an_older_language_still_tells_who_may_see(
    store: FeedStore, folder: Path, tmp_path: Path
) -> None:
    write(folder, OWN).unlink()
    store.load()
    kept = tmp_path / "state" / "feeds" / "history" / "gone"
    kept.mkdir()
    old = 'name = "gone"\nprivate = true\ntopics = ["gone.t"]\nold_key = 1\n'
    (kept / "0123456789ab.toml").write_text(old)
    (kept / "1123456789ab.toml").write_bytes(b"\xff")
    loaded = again(folder, tmp_path).load()
    assert loaded.registry.audience_of("gone.t") == ("gone",)
    assert [p.path.name for p in loaded.problems] == ["1123456789ab.toml"]


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
