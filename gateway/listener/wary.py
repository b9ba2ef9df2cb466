"""Which messages are read in the listener itself, and which of them only in the sandbox's child.

The built-in feeds are known to need little time for a small message, unless it holds a sky
map. What an operator's file may ask for (a parser, patterns, queries) may take any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import wraps
from typing import Any

from crossmatch.model import Notice
from gateway.feeds.loading import BUILT_IN
from gateway.feeds.message import Ignored, Message
from gateway.feeds.registry import Parser, Registry
from gateway.feeds.spec import Feed, Kind

# Steps by name and number: paths that are walked, as in gateway.feeds.paths.
_WALKED = re.compile(
    r"\$(?:\.[A-Za-z_][A-Za-z0-9_]*|\[-?[0-9]{1,9}\]|\['[^'\\]*'\]|\[\"[^\"\\]*\"\])*"
)
# What holds no path to a value, nor a text that values are compared with.
_PLAIN_TEXTS = ("title", "topics", "schemas", "ivoids", "transport", "options", "source", "version")
# A text with more stars than this takes long to compare with what nearly fits.
_MAX_STARS = 2


class Elsewhere(BaseException):
    """This message is for the child.

    No ``Exception``, so that it is not taken for a failure of the parser.
    """


class _Asking(Feed):
    """A feed of which not even whose a message is may be asked here."""

    def recognises(self, message: Message) -> bool:
        raise Elsewhere

    def kind_of(self, message: Message) -> Kind | None:
        raise Elsewhere


def wary(registry: Registry) -> Registry:
    """``registry`` for this process: raises :class:`Elsewhere` at what may take long."""
    feeds = tuple(map(_asking, registry.feeds))
    parsers = {f.name: _parser(f, registry.parsers[f.name]) for f in registry.feeds}
    return replace(registry, feeds=feeds, parsers=parsers)


def may_take_long(feed: Feed) -> bool:
    """Whether the operator's file has patterns, or paths that are more than names and numbers."""
    if feed.source.startswith(BUILT_IN):
        return False
    return bool(feed.skymap_rules or feed.test_triggers) or _has_queries(feed)


def _has_queries(feed: Feed) -> bool:
    return any(map(_is_query, _texts(feed)))


def _is_query(text: str) -> bool:
    if text.count("*") > _MAX_STARS or text.startswith("/"):
        return True
    parts = text.split(" or ")
    return any(
        p.strip().startswith(("$.", "$[")) and not _WALKED.fullmatch(p.strip()) for p in parts
    )


def _texts(value: Any) -> Iterator[str]:
    """All texts in the fields of a feed, of its kinds, and of what these hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Feed | Kind):
        for each in fields(value):
            if each.name not in _PLAIN_TEXTS:
                yield from _texts(getattr(value, each.name))


def _asking(feed: Feed) -> Feed:
    if not may_take_long(feed):
        return feed
    return _Asking(**{each.name: getattr(feed, each.name) for each in fields(feed)})


def _parser(feed: Feed, parser: Parser) -> Parser:
    if feed.parser or may_take_long(feed):
        return _elsewhere
    return _without_maps(parser)


def _elsewhere(message: Message, feed: Feed) -> Notice | Ignored:
    raise Elsewhere


def _without_maps(parser: Parser) -> Parser:
    """``parser``, but for notices with a map inside: 17 kB may be a map of millions of cells."""

    @wraps(parser)
    def parse(message: Message, feed: Feed) -> Notice | Ignored:
        found = parser(message, feed)
        if isinstance(found, Notice) and found.skymap_fits is not None:
            raise Elsewhere
        return found

    return parse
