"""The registry: whose a message is, in which order feeds are asked, parsers from entry points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Notice
from gateway.feeds.files import feed_from_toml
from gateway.feeds.message import Ignored, Message
from gateway.feeds.registry import (
    GROUP,
    Registry,
    feed_files,
    load_feeds,
    marked,
    parser_of,
    registry_of,
)
from gateway.feeds.spec import Feed

DATA = Path(__file__).parents[1] / "data" / "notices"
FINAL = (DATA / "gbm_final.xml").read_bytes()
VOEVENT = """
name = "{name}"
title = "T"
mission = "M"
instrument = ""
messenger = "grb"
format = "voevent"
ivoids = ["{ivoid}"]
trigger = ["TrigID"]
"""
JSON = """
name = "{name}"
title = "T"
mission = "M"
instrument = ""
messenger = "grb"
format = "json"
"""


def feed(text: str = VOEVENT, extra: str = "", **words: str) -> Feed:
    return feed_from_toml(text.format(**words) + extra, f"{words['name']}.toml")


def registry(*feeds: Feed, paused: frozenset[str] = frozenset()) -> Registry:
    return registry_of(feeds, {f.name: parser_of(f) for f in feeds}, paused)


def whose(found: Registry, raw: bytes, topic: str = "") -> str:
    routed = found.route(raw, topic=topic)
    return routed.feed.name if routed.feed else ""


def packet(ivoid: str) -> bytes:
    return FINAL.replace(b"ivo://nasa.gsfc.gcn/Fermi", ivoid.encode())


def test_feeds_are_asked_in_their_order() -> None:
    first = feed(name="first", ivoid="ivo://org.example/own#")
    wide = feed(name="wide", ivoid="ivo://org.example/")
    raw = packet("ivo://org.example/own")
    assert whose(registry(first, wide), raw) == "first"
    assert whose(registry(wide, first), raw) == "wide"


def test_ivoids_may_end_before_or_after_the_fragment_begins() -> None:
    feeds = registry(
        feed(name="late", ivoid="ivo://org.example/own#GBM_Fin"),
        feed(name="stream", ivoid="ivo://org.example/own#"),
        feed(name="authority", ivoid="ivo://org.example"),
    )
    assert whose(feeds, packet("ivo://org.example/own")) == "late"
    other = packet("ivo://org.example/own").replace(b"#GBM_Fin", b"#Other")
    assert whose(feeds, other) == "stream"
    assert whose(feeds, packet("ivo://org.example/another")) == "authority"
    bare = packet("ivo://org.example/own").replace(b"#GBM_Fin", b"/GBM_Fin")
    assert whose(feeds, bare) == "authority"


def test_operators_come_before_built_in_feeds(tmp_path: Path) -> None:
    text = VOEVENT.format(name="ours", ivoid="ivo://nasa.gsfc.gcn/Fermi#")
    (tmp_path / "ours.toml").write_text(text)
    assert whose(load_feeds([tmp_path]), FINAL) == "ours"
    assert whose(load_feeds(), FINAL) == "fermi_gbm"


def test_fallback_feeds_are_asked_last() -> None:
    fallback = feed(extra="fallback = true\n", name="any", ivoid="ivo://x")
    feeds = registry(fallback, feed(name="own", ivoid="ivo://org.example/"))
    assert [f.name for f in feeds.feeds] == ["own", "any"]
    assert whose(feeds, packet("ivo://org.example/own")) == "own"
    assert whose(feeds, packet("ivo://elsewhere/own")) == "any"


def test_feeds_that_are_off_are_used_only_when_named() -> None:
    off = feed(extra="enabled = false\n", name="own", ivoid="ivo://org.example/")
    feeds = registry(off)
    raw = packet("ivo://org.example/own")
    assert whose(feeds, raw) == ""
    named = feeds.route(raw, feed="own").feed
    assert named is not None
    assert named.name == "own"


def test_records_are_recognised_by_schema_then_by_topic() -> None:
    feeds = registry(
        feed(JSON, 'schemas = ["/own/a.json"]\ntopics = ["own"]\n', name="schema"),
        feed(JSON, 'topics = ["other"]\n', name="topic"),
    )
    known = json.dumps({"$schema": "https://example.org/own/a.json"}).encode()
    assert whose(feeds, known) == "schema"
    assert whose(feeds, known, "other") == "schema"
    assert whose(feeds, b'{"a": 1}', "other") == "topic"
    assert whose(feeds, b'{"a": 1}') == ""
    assert whose(feeds, b'{"$schema": ["/own/a.json"]}') == ""


@pytest.mark.parametrize(
    ("members", "record", "ours"),
    [
        ('["when", "$.place.ra"]', {"when": 1, "place": {"ra": 2}}, True),
        ('["when", "$.place.ra"]', {"when": 1, "place": {}}, False),
        ('["when", "$.place.ra"]', {"place": {"ra": 2}}, False),
        ('["when or $.time"]', {"time": 1}, True),
        ('["when or $.time"]', {"date": 1}, False),
        ("[\"$['a b']\"]", {"a b": 1}, True),
        ('["$..deep"]', {"x": {"deep": 1}}, True),
    ],
)
def test_records_are_recognised_by_members(
    members: str, record: dict[str, object], ours: bool
) -> None:
    feeds = registry(feed(JSON, f"members = {members}\n", name="own"))
    assert whose(feeds, json.dumps(record).encode()) == ("own" if ours else "")


def test_a_topic_of_two_feeds_decides_nothing() -> None:
    feeds = registry(
        feed(JSON, 'topics = ["shared"]\n', name="a"), feed(JSON, 'topics = ["shared"]\n', name="b")
    )
    assert whose(feeds, b"{}", "shared") == ""
    assert feeds.topics() == ("shared",)


def test_topics_of_a_feed_with_its_own_kafka_are_not_asked_elsewhere() -> None:
    own = feed(JSON, 'topics = ["t"]\n[transport]\nkafka = "kafka.example.org:9092"\n', name="own")
    assert registry(own).topics() == ()


def test_paused_feeds_still_recognise() -> None:
    feeds = registry(feed(name="own", ivoid="ivo://org.example/"), paused=frozenset({"own"}))
    assert whose(feeds, packet("ivo://org.example/own")) == "own"


def test_most_feeds_are_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty feeds cost no more than one: streams and schemas are looked up."""
    feeds = registry(
        *(feed(name=f"x{n}", ivoid=f"ivo://org.example/{n}#") for n in range(50)),
        *(feed(JSON, f'schemas = ["/{n}.json"]\n', name=f"j{n}") for n in range(50)),
    )
    asked = []
    recognises = Feed.recognises

    def counted(self: Feed, message: Message) -> bool:
        asked.append(self.name)
        return recognises(self, message)

    monkeypatch.setattr(Feed, "recognises", counted)
    assert whose(feeds, packet("ivo://org.example/17")) == "x17"
    assert whose(feeds, b'{"$schema": "https://example.org/31.json"}') == "j31"
    assert asked == ["x17", "j31"]


def test_what_strangers_write_does_not_fill_the_memory() -> None:
    feeds = registry(feed(JSON, 'schemas = ["/a.json"]\n', name="a"))
    for number in range(2500):
        whose(feeds, json.dumps({"$schema": f"https://example.org/{number}"}).encode())
    assert len(feeds._index._by_schema) <= 1000
    assert whose(feeds, b'{"$schema": "https://example.org/a.json"}') == "a"


def test_replaced_registry_recognises_anew() -> None:
    feeds = registry(feed(name="own", ivoid="ivo://org.example/"))
    off = replace(feeds, feeds=tuple(replace(f, enabled=False) for f in feeds.feeds))
    assert whose(off, packet("ivo://org.example/own")) == ""


def test_parser_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that has an entry point in our group brings a parser with it."""
    info = tmp_path / "own_feeds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-feeds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\npulses = own_pulses:parse\n")
    (tmp_path / "own_pulses.py").write_text(
        "from gateway.feeds import Ignored\n"
        "def parse(message, feed):\n"
        "    return Ignored(message.raw.decode(), feed.name, 'n')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = feed(JSON, 'topics = ["pulses"]\nparser = "pulses"\n', name="own")
    own = replace(own, format="other")
    assert registry(own).parse(b"beep", topic="pulses") == Ignored("beep", "own", "n")
    with pytest.raises(ConfigError, match=r"no entry point.*install the package"):
        parser_of(replace(own, parser="pulsars"))


def test_marks_of_a_private_feed_travel() -> None:
    public = load_feeds().parse(FINAL)
    assert isinstance(public, Notice)
    own = feed(extra='streams = ["b", "a"]\nwindow_days = [-1, 2]\n', name="own", ivoid="ivo://x")
    notice = marked(public, own)
    assert notice.streams == ("a", "b")
    assert notice.event_id == f"a+b:{public.event_id}"
    assert notice.feed_version == own.version
    assert notice.window is not None
    assert (notice.window.start_days, notice.window.end_days) == (-1, 2)


def test_only_top_level_toml_files_are_feeds(tmp_path: Path) -> None:
    for name in ("a.toml", ".#b.toml", "c.txt", "switches.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "d.toml").write_text("")
    (tmp_path / "e.toml").mkdir()
    assert [p.name for p in feed_files(tmp_path)] == ["a.toml"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(NoticeError, match="no feed is called"):
        load_feeds().route(FINAL, feed="none")
