"""Feed files: whatever stands in one is a feed or a sentence, and costs that file alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.errors import ConfigError
from gateway.feeds.files import feed_from_table, feed_from_toml
from gateway.feeds.loading import feed_files, parser_of
from gateway.feeds.registry import load_feeds
from gateway.feeds.spec import Feed, Kind, Transport
from gateway.feeds.store import FeedStore

OWN = """
name = "own"
title = "An observatory of our own"
mission = "Own"
instrument = "camera"
messenger = "optical"
format = "voevent"
ivoids = ["ivo://org.example/own#"]
trigger = ["TrigID"]
"""
OTHER = OWN.replace('"own"', '"other"')
RULE = '\n[[kinds]]\nname = "a"\n[[kinds.systematic]]\n'
BROKEN = {
    "the gateway's dead letters": 'topics = ["mm.deadletter"]\n',
    "when is no table": RULE + 'terms = [[1, 1]]\nwhen = "x"\n',
    "systematic is no list": '\n[[kinds]]\nname = "a"\nsystematic = 3\n',
    "systematic is a table": '\n[[kinds]]\nname = "a"\n[kinds.systematic]\nterms = [[1, 1]]\n',
    "a key that no rule has": RULE + "terms = [[1, 1]]\nbefor = 2020-01-01\n",
    "terms of three": RULE + "terms = [[1, 1, 1]]\n",
    "no number": RULE + "terms = [[nan, 1]]\n",
    "infinite": RULE + "terms = [[inf, 1]]\n",
    "negative weight": RULE + "terms = [[1, 2], [2, -1]]\n",
    "a rule of one": 'skymap_rules = [["a"]]\n',
    "a count without end": 'test_triggers = "a{99999999999999999999}"\n',
    "such a rule": 'skymap_rules = [["a{99999999999999999999}", "b"]]\n',
    "an unknown group": "skymap_rules = [['(a)', '\\g<x>']]\n",
    "a group too many": "skymap_rules = [['(a)', '\\2']]\n",
    "nested": "topics = " + "[" * 3000 + "]" * 3000 + "\n",
    "nested tables": "options = " + "{a=" * 3000 + "1" + "}" * 3000 + "\n",
    "a table as text": "details = { a = { b = 1 } }\n",
    "a number too long": "containment = 1" + "0" * 5000 + "\n",
    "a whole number too large": "containment = 0x" + "f" * 500 + "\n",
    "packet type too large": '\n[[kinds]]\nname = "a"\npacket_types = [99999999999]\n',
    "rank too large": '\n[[kinds]]\nname = "a"\nrank = 99999999999999999999999\n',
    "error below zero": '\n[[kinds]]\nname = "a"\nerror_deg = -1\n',
    "error of no size": '\n[[kinds]]\nname = "a"\nerror_deg = 0\n',
    "window without end": "window_days = [-1e300, 1e300]\n",
    "window of nan": "window_days = [nan, 1]\n",
    "beats below zero": "heartbeat_seconds = -1\n",
    "silence for ever": "max_silence_hours = inf\n",
    "silence too long": "max_silence_hours = 1e300\n",
    "parser without module": 'parser = ":x"\n',
    "parser beside": 'parser = ".a:x"\n',
    "parser without function": 'parser = "os:"\n',
    "parser that is none": 'parser = "os:sep"\n',
    "parser that cannot be imported": 'parser = "a b\\u0000:x"\n',
    "path that is none": 'fields = { ra = "//a\\u0001" }\n',
    "path that is deep": 'details = { a = "$[?' + "(" * 3000 + "@.a" + ")" * 3000 + ']" }\n',
    "topics as a pattern": 'topics = ["^.*"]\n',
    "topic without name": 'topics = [""]\n',
    "VTP without port": '\n[transport]\nvtp = "broker.example.org"\n',
    "Kafka without port": 'topics = ["a"]\n[transport]\nkafka = "kafka.example.org"\n',
    "port too high": '\n[transport]\nvtp = "broker.example.org:99999"\n',
    "Kafka without topics": '\n[transport]\nkafka = "kafka.example.org:9092"\n',
    "a property of lists": 'topics = ["a"]\n[transport.properties]\na = [1]\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


def now() -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_costs_only_itself(folder: Path, tmp_path: Path, what: str) -> None:
    (folder / "a.toml").write_text(OWN + BROKEN[what])
    (folder / "b.toml").write_text(OTHER)
    with pytest.raises(ConfigError, match=r"a\.toml") as caught:
        load_feeds([folder])
    assert len(str(caught.value)) < 1000
    store = FeedStore([folder], tmp_path / "state", now)
    loaded = store.load()
    assert [p.path.name for p in loaded.problems] == ["a.toml"]
    assert "a.toml" in loaded.problems[0].sentence
    assert {"own", "other"} & {f.name for f in loaded.registry.feeds} == {"other"}
    # The last good version stays, whatever the file becomes.
    (folder / "a.toml").write_text(OWN)
    assert store.load().problems == ()
    (folder / "a.toml").write_text(OWN + BROKEN[what])
    assert store.load().state("own") == "broken"


PARSERS = {
    "syntax": "def parse(:\n",
    "raises": "raise RuntimeError('no disk')\n",
    "ends": "raise SystemExit(3)\n",
    "deep": "def f(): f()\nf()\n",
    "lacks": "def other(message, feed): ...\n",
    "lambda": "parse = lambda message, feed: None\n",
    "inner": "def make():\n    def parse(message, feed): ...\n    return parse\nparse = make()\n",
    "property": (
        "class Sly:\n    def __call__(self, message, feed): ...\n"
        "    def __reduce__(self): raise ValueError('mine')\nparse = Sly()\n"
    ),
}


@pytest.mark.parametrize("what", PARSERS)
def test_a_broken_parser_costs_only_its_feed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name = f"files_parser_{what}"
    (tmp_path / f"{name}.py").write_text(PARSERS[what])
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / "a.toml").write_text(OWN + f'parser = "{name}:parse"\n')
    (folder / "b.toml").write_text(OTHER)
    with pytest.raises(ConfigError, match=r"a\.toml: parser"):
        load_feeds([folder])
    loaded = FeedStore([folder], tmp_path / "state", now).load()
    assert [p.path.name for p in loaded.problems] == ["a.toml"]
    assert "other" in {f.name for f in loaded.registry.feeds}
    sys.modules.pop(name, None)


def test_parser_is_a_function_of_a_module() -> None:
    own = feed_from_toml(OWN + 'parser = "gateway.feeds.parsers.generic:parse"\n', "own.toml")
    assert parser_of(own).__name__ == "parse"


def test_what_is_no_file_is_no_feed(folder: Path) -> None:
    """A pipe would be read for ever."""
    os.mkfifo(folder / "pipe.toml")
    (folder / "own.toml").write_text(OWN)
    assert [p.name for p in feed_files(folder)] == ["own.toml"]


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_a_feed_or_a_sentence(text: str) -> None:
    _refused(lambda: feed_from_toml(text, "a.toml"))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_file_is_a_feed_or_a_sentence(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([text for _, text in sorted(BUILT_IN.items())]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 8))
        new = data.draw(st.text(max_size=4) | st.sampled_from(['"', "[", "]]", "=", "nan", "-1"]))
        text = text[:at] + new + text[at + length :]
    _refused(lambda: feed_from_toml(text, "a.toml"))


BUILT_IN = {
    path.name: path.read_text("utf-8")
    for path in (Path(__file__).parents[2] / "gateway" / "feeds" / "missions").glob("*.toml")
}
SCALARS = (
    st.none().map(lambda _: "")
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates(min_value=date(1, 1, 1))
    | st.sampled_from(["$.a", "//a", "a or $.b", "(", "\\1", "^a", "ivo://a", "deg", "voevent"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
KEYS = {cls: sorted(cls.__dataclass_fields__) for cls in (Feed, Kind, Transport)}


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_value_in_any_key_is_a_feed_or_a_sentence(data: st.DataObject) -> None:
    table: dict[str, Any] = {
        "name": "own", "title": "", "mission": "", "instrument": "", "messenger": "grb",
        "format": "json", "topics": ["t"], "kinds": [{"name": "k"}], "transport": {},
    }  # fmt: skip
    rule = {"terms": [[1.0, 1.0]], "before": date(2020, 1, 1), "when": {"a": "b"}}
    places: list[tuple[dict[str, Any], list[str]]] = [
        (table, KEYS[Feed]),
        (table["kinds"][0], KEYS[Kind]),
        (table["transport"], KEYS[Transport]),
        (rule, sorted(rule)),
    ]
    table["kinds"][0]["systematic"] = [rule]
    for _ in range(data.draw(st.integers(1, 3))):
        place, keys = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from(keys))] = data.draw(VALUES)
    _refused(lambda: feed_from_table(table, "0" * 12, "a.toml"))


def _refused(make: Callable[[], Feed]) -> None:
    """Nothing but a ConfigError that names the file, or a feed whose parser is looked for."""
    said = ""
    try:
        parser_of(make())
    except ConfigError as error:
        said = str(error)
    assert not said or said.startswith("a.toml: ")
