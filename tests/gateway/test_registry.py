"""The registry: whose a message is, in which order feeds are asked, parsers from entry points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Notice
from gateway.feeds.files import feed_from_toml
from gateway.feeds.loading import GROUP, feed_files, parser_of
from gateway.feeds.message import Ignored, Message
from gateway.feeds.registry import Registry, load_feeds, marked, registry_of
from gateway.feeds.spec import Feed
from gateway.understand import understand

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


# --- privacy ---------------------------------------------------------------------------------

PRIVATE = 'topics = ["own.alerts"]\nprivate = true\n'
WXT = (DATA / "wxt.json").read_bytes()
CIRCULAR = json.dumps(
    {"subject": "s", "body": "b", "submitter": "me", "circularId": 1, "createdOn": 1}
).encode()
IGWN = json.dumps(
    {"superevent_id": "S1a", "alert_type": "PRELIMINARY", "time_created": "2026-01-01T00:00:00Z"}
).encode()
SCHEMA = b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x"}'
BEAT = b'{"alert_datetime": "2026-01-01T00:00:00Z"}'
CORE = b'{"trigger_time": "2026-01-01T00:00:00Z", "ra": 1.0, "dec": 2.0, "ra_dec_error": 1.0}'
PUBLIC = [WXT, CIRCULAR, IGWN, SCHEMA, CORE, BEAT, FINAL]


def with_built_in(*feeds: Feed, **more: object) -> Registry:
    built_in = load_feeds()
    parsers = {**built_in.parsers, **{f.name: parser_of(f) for f in feeds}}
    return replace(registry_of([*feeds, *built_in.feeds], parsers), **more)


def taken(found: Registry, raw: bytes, **where: Any) -> tuple[str, str, tuple[str, ...]]:
    """Outcome, feed where one took it, and streams."""
    about = understand(found, DEFAULT_CHAINS, raw, **where)
    feed = "" if about.reason == "no_feed" else about.feed
    return about.reason or about.outcome, feed, about.streams


def test_audience_of_a_topic_is_that_of_all_its_private_feeds() -> None:
    kafka = '[transport]\nkafka = "kafka.example.org:9092"\n'
    feeds = registry(
        feed(JSON, PRIVATE, name="a"),
        feed(JSON, PRIVATE + "enabled = false\n", name="b"),
        feed(JSON, PRIVATE, name="c"),
        feed(JSON, PRIVATE + kafka, name="d"),
        feed(JSON, 'topics = ["open", "own.alerts"]\n', name="e"),
        paused=frozenset({"c"}),
    )
    assert feeds.audience_of("own.alerts") == ("a", "b", "c")
    assert feeds.audience_of("open") == feeds.audience_of("") == ()
    assert feeds.audience_of("own.alerts", feed="d") == ("d",)
    assert feeds.audience_of("own.alerts", feed="e") == ()


@pytest.mark.parametrize("raw", [*PUBLIC, b"{", b""])
def test_nothing_on_a_private_topic_becomes_public(raw: bytes) -> None:
    """Whatever it looks like: the topic's own feed reads it, or nobody does."""
    feeds = with_built_in(feed(JSON, PRIVATE, name="own"))
    reason, name, streams = taken(feeds, raw, topic="own.alerts")
    assert streams == ("own",)
    assert name in ("own", "")
    off = with_built_in(feed(JSON, PRIVATE + "enabled = false\n", name="own"))
    reason, name, streams = taken(off, raw, topic="own.alerts")
    assert (name, streams) == ("", ("own",))
    assert reason == "no_feed" or raw in (b"{", b"")


@pytest.mark.parametrize("raw", PUBLIC)
def test_what_was_heard_in_private_stays_so(raw: bytes) -> None:
    """The feed is gone, or public by now."""
    for feeds in (with_built_in(), with_built_in(feed(JSON, 'topics = ["t"]\n', name="own"))):
        for where in ({"topic": "t"}, {"feed": "own"}, {"feed": "lvk"}):
            reason, _, streams = taken(feeds, raw, audience=("team",), **where)
            assert (reason, streams) == ("no_feed", ("team",))


def test_topics_and_doors_of_private_feeds_that_are_gone() -> None:
    feeds = with_built_in(private_topics={"t": ("a", "b")}, private_feeds={"own": ("a",)})
    assert taken(feeds, WXT, topic="t") == ("no_feed", "", ("a", "b"))
    assert taken(feeds, WXT, feed="own") == ("no_feed", "", ("a",))
    assert taken(feeds, WXT)[1:] == ("einstein_probe", ())


def test_two_private_feeds_of_one_topic_are_both_asked() -> None:
    feeds = with_built_in(
        feed(JSON, PRIVATE + 'members = ["$.night"]\n', name="a"),
        feed(JSON, PRIVATE + 'members = ["$.day"]\n', name="b"),
    )
    assert whose(feeds, b'{"day": 1}', "own.alerts") == "b"
    assert whose(feeds, b'{"night": 1}', "own.alerts") == "a"
    for raw in (CORE, WXT):
        assert taken(feeds, raw, topic="own.alerts") == ("no_feed", "", ("a", "b"))


def test_feeds_of_one_topic_are_told_apart_by_format() -> None:
    feeds = with_built_in(
        feed(JSON, PRIVATE, name="a"),
        feed(extra=PRIVATE, name="b", ivoid="ivo://nobody"),
    )
    assert whose(feeds, b'{"day": 1}', "own.alerts") == "a"
    assert whose(feeds, FINAL, "own.alerts") == "b"


def test_private_feed_of_some_of_the_audience_may_claim() -> None:
    feeds = with_built_in(
        feed(JSON, 'topics = ["t"]\nstreams = ["x", "y"]\n', name="wide"),
        feed(JSON, 'members = ["$.day"]\nstreams = ["y"]\n', name="narrow"),
        feed(JSON, 'members = ["$.night"]\nstreams = ["y", "z"]\n', name="other"),
    )
    assert taken(feeds, b'{"day": 1}', topic="t")[1:] == ("narrow", ("y",))
    assert taken(feeds, b'{"night": 1}', topic="t")[1:] == ("wide", ("x", "y"))


def test_heartbeats_of_a_private_feed_are_its_own() -> None:
    feeds = with_built_in(feed(JSON, PRIVATE, name="own"))
    assert taken(feeds, BEAT, topic="own.alerts")[::2] == ("heartbeat", ("own",))
    assert taken(feeds, BEAT, feed="own") == ("heartbeat", "own", ("own",))
    assert taken(feeds, BEAT, topic="gcn.heartbeat") == ("heartbeat", "", ())


def test_name_of_no_feed_is_refused_not_raised() -> None:
    assert taken(with_built_in(), WXT, feed="none") == ("no_feed", "", ())


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        ("Own", ("Own_41", "9-b", "EP_7", "Own:41:0", "ivo://own/a#1", "EP:7:1", "own:EP:7:1")),
        ("", ("Own_41", "9-b", "EP_7", "own:41:0", "ivo://own/a#1", "EP:7:1", "own:EP:7:1")),
    ],
)
def test_private_retraction_names_events_in_the_private_world(
    prefix: str, named: tuple[str, ...]
) -> None:
    """Events have private names; notices keep theirs. What may be either is named as both."""
    own = replace(feed(extra="private = true\n", name="own", ivoid="ivo://x"), prefix=prefix)
    notice = load_feeds().parse(FINAL)
    assert isinstance(notice, Notice)
    found = marked(replace(notice, event_id="Own_42", retracts=("Own_42", *named[:-1])), own)
    assert found.event_id == "own:Own_42"
    events = tuple(f"own:{name}" for name in ("Own_42", *named[:3]))
    assert found.retracts == (*events, *named[3:])


def test_what_cannot_be_read_is_its_topics_feeds() -> None:
    feeds = registry(
        feed(JSON, 'topics = ["a.t"]\n', name="a"),
        feed(JSON, 'topics = ["b.t", "both"]\n', name="b"),
        feed(JSON, 'topics = ["both"]\n', name="c"),
    )
    for topic, name in (("a.t", "a"), ("b.t", "b"), ("both", ""), ("else", "")):
        found = understand(feeds, DEFAULT_CHAINS, b'{"a": NaN}', topic=topic)
        assert (found.outcome, found.reason, found.feed) == ("rejected", "json_nan", name)
