"""Paths into messages: names, JSONPath, XPath; marks; what is refused when a feed is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.errors import ConfigError
from gateway.feeds.files import feed_from_toml
from gateway.feeds.message import Message
from gateway.feeds.paths import check_path, is_like, marked, value_at
from voevents.parse import parse_voevent

GBM = (Path(__file__).parents[1] / "data/notices/gbm_final.xml").read_bytes()
RECORD = {
    "$schema": "https://example.org/x",
    "name": "x",
    "a.b": 7,
    "a": {"b": [10, {"c": "deep"}], "two words": True, "none": None},
    "list": [{"id": "p", "v": 1}, {"id": "q", "v": 2}],
}


def of(record: Any, topic: str = "") -> Message:
    return Message(b"", topic, record=record)


def voevent(raw: bytes = GBM) -> Message:
    return Message(raw, "", packet=parse_voevent(raw))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name", "x"),
        ("$schema", "https://example.org/x"),
        ("a.b", 7),
        ("@topic", "gcn.x"),
        ("$", RECORD),
        ("$.a.b[0]", 10),
        ("$.a.b[-1].c", "deep"),
        ("$['a']['two words']", True),
        ("$.a.none", None),
        ("$.a.b[2]", None),
        ("$.a.b.c", None),
        ("$.name.c", None),
        ("$.name[0]", None),
        ("$..c", "deep"),
        ("$.list[?@.id == 'q'].v", 2),
        ("$.list[?@.id == 'r'].v", None),
        ("$.list[*].v", 1),
        ("nothing", None),
        ("//Param", None),
    ],
)
def test_value_in_a_record(path: str, expected: Any) -> None:
    check_path(path)
    assert value_at(of(RECORD, "gcn.x"), path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("TrigID", "100000001"),
        ("Trigger_ID.Long_short", "Short"),
        ("Long_short", "Short"),
        ("//Param[@name='TrigID']/@value", "100000001"),
        ("//Who/Date", "2026-01-02T03:20:00"),
        ("/VOEvent/@role", "observation"),
        ("/VOEvent/Nothing", None),
        ("$.TrigID", None),
        ("@topic", None),
    ],
)
def test_value_in_a_voevent(path: str, expected: Any) -> None:
    assert value_at(voevent(), path) == expected


def test_xpath_ignores_namespaces_and_gives_numbers() -> None:
    plain = GBM.replace(b"voe:VOEvent", b"VOEvent").replace(b"xmlns:voe=", b"xmlns=")
    for raw in (GBM, plain):
        assert value_at(voevent(raw), "//Who/Date") == "2026-01-02T03:20:00"
    assert value_at(voevent(), "//Param[@name='TrigID']/@value = 100000001") is True
    assert value_at(voevent(), "/VOEvent/What/Group[1]/@name") == "Trigger_ID"


@pytest.mark.parametrize(
    "path",
    ["", " ", "$.", "$[", "$.a[?", "$.a[?@.b = 1]", "$a.b", "$-", "//Param[", "//voe:Who", "/no()"],
)
def test_bad_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="path"):
        check_path(path)


def test_bad_path_is_refused_when_the_feed_is_loaded() -> None:
    feed = (
        'name = "x"\ntitle = "X"\nmission = "X"\ninstrument = ""\nmessenger = "grb"\n'
        'format = "json"\ntopics = ["x"]\n'
    )
    assert feed_from_toml(feed, "x.toml").format == "json"
    for line, told in (
        ('[fields]\nra = "$.a["', r"x\.toml: fields: ra: path"),
        ('[fields]\nright_ascension = "ra"', r"x\.toml: fields: right_ascension: no such field"),
        ('[test_when]\n"$.a[" = "*"', r"x\.toml: test_when: path"),
        ('[[kinds]]\nname = "k"\nwhen = { "//[" = "a" }', r"x\.toml: kinds k: when: path"),
        ('frame = "b1950"', r"x\.toml: frame: 'b1950'; one of icrs"),
        ('error_unit = "furlong"', r"x\.toml: error_unit: 'furlong'; one of deg"),
        ('time_format = "stardate"', r"x\.toml: time_format"),
        ('time_system = "LOCAL"', r"x\.toml: time_system"),
    ):
        with pytest.raises(ConfigError, match=told):
            feed_from_toml(feed + line, "x.toml")
    assert feed_from_toml(feed + '[fields]\nfar = ""', "x.toml").fields == {"far": ""}


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("Gold Track Alert", "gold track alert", True),
        ("Gold Track Alert", "*TRACK*", True),
        ("Gold", "Gol", False),
        (True, "true", True),
        (False, "False", True),
        (1, "1", True),
        (1.0, "1", True),
        (1.5, "1.5", True),
        ([1, "b"], "B", True),
        ([], "*", False),
        ({}, "*", False),
        ({"a": 1}, "*", True),
        ({"a": 1}, "a", False),
        (0, "*", True),
        (False, "*", False),
        ("", "*", False),
        (None, "*", False),
        ("a.b", "a?b", False),
        ("x" * 5000, "x*", True),
    ],
)
def test_marks_compare_as_text(value: Any, text: str, expected: bool) -> None:
    assert is_like(value, text) is expected


def test_any_mark_marks() -> None:
    message = of(RECORD)
    assert marked(message, {"name": "y", "$.a['two words']": "true"})
    assert not marked(message, {"name": "y", "$.a.none": "*"})
    assert not marked(message, {})


_NAMES = st.sampled_from(["a", "b", "c", "ra"]) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=25,
)
_PATHS = (
    "a", "$", "$.a", "$.a.b[0].c", "$.a[-1]", "$['a']['b']", "$..a", "$..[?@.a]", "$.*.*",
    "$.a[1:3]", "$.a[?@.b > 1].c", "$..[?length(@) > 1]", "$..[?match(@.a, '.*')]", "@topic",
    "//a", "/a/@b",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(record=st.dictionaries(_NAMES, JSON, max_size=5), path=st.sampled_from(_PATHS))
def test_value_at_never_raises(record: dict[str, Any], path: str) -> None:
    record = json.loads(json.dumps(record))
    found = value_at(of(record), path)
    assert is_like(found, "*") in (True, False)


_PLAIN_STEPS = st.lists(st.sampled_from(["a", "b", "c", 0, 1, -1, -2]), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(record=st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), steps=_PLAIN_STEPS)
def test_short_way_gives_what_the_library_gives(record: dict[str, Any], steps: list[Any]) -> None:
    plain = "$" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
    # A blank in a bracket is allowed by RFC 9535, and not taken by the short way.
    library = "$" + "".join(f"[ {s!r} ]" for s in steps)
    assert value_at(of(record), plain) == value_at(of(record), library)
