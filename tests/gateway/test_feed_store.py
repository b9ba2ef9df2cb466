"""The feed store: reload, broken files, switches, and what stays private."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmatch.errors import ConfigError
from gateway.feeds.loading import built_in_files
from gateway.feeds.registry import load_feeds
from gateway.feeds.store import FeedStore, Loaded
from tests.gateway.feedfiles import (
    EVENT,
    OFF,
    OWN,
    Clock,
    actions,
    again,
    names,
    version,
    write,
)

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


# --- what was private ------------------------------------------------------------------------

PRIVATE = OWN.replace("containment", 'streams = ["b", "a"]\ncontainment')


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
