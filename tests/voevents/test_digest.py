"""The bytes that make two VOEvents the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voevents.digest import _parsed_element, element_bytes, event_digest

EVENT = b"<v:VOEvent xmlns:v='x' a='1>2'><What> &lt; </What></v:VOEvent>"


@pytest.mark.parametrize(
    "around",
    [
        (b"", b""),
        (b"<?xml version='1.0' encoding='UTF-8'?>\n", b"\n"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", b""),
        (b"<!-- before -->", b""),
        (b"<?xml version='1.0'?><!-- <v:VOEvent> -->", b" <!-- </v:VOEvent> -->"),
        (b"", b"<?pi </v:VOEvent>?>"),
        (b"", b"<!-- ends like </v:VOEvent> --> "),
        (b" \n", b" \r\n"),
    ],
)
def test_what_stands_around_the_element_does_not_count(around: tuple[bytes, bytes]) -> None:
    assert element_bytes(around[0] + EVENT + around[1]) == EVENT


@pytest.mark.parametrize(
    "change", [(b" &lt; ", b" &#60; "), (b"'x'", b'"x"'), (b"</v:", b"<b/></v:")]
)
def test_every_byte_inside_counts(change: tuple[bytes, bytes]) -> None:
    assert change[0] in EVENT
    assert event_digest(EVENT.replace(*change, 1)) != event_digest(EVENT)


def test_an_empty_element_ends_at_its_own_bracket() -> None:
    assert element_bytes(b"<VOEvent a='/>' b=\">\"/><!-- x -->") == b"<VOEvent a='/>' b=\">\"/>"


def test_what_is_not_xml_is_compared_whole() -> None:
    assert element_bytes(b"<a><b></a> tail") == b"<a><b></a> tail"
    text = b"<?xml version='1.0' encoding='x-unknown'?><!-- --><a>1</a><!-- -->"
    assert element_bytes(text) == text


PARTS = [
    b"<!-- ",
    b" -->",
    b"<a>",
    b"</a>",
    b"<a/>",
    b"<![CDATA[",
    b"]]>",
    b" ",
    b"x",
    b"<?p ",
    b"?>",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8).map(b"".join))
def test_patterns_and_parser_agree(inner: bytes) -> None:
    raw = b"<?xml version='1.0'?>\n<a>" + inner + b"</a>"
    parsed = _parsed_element(raw)
    if parsed != raw:
        # Well-formed: otherwise the parser gives everything back.
        assert element_bytes(raw) == parsed
