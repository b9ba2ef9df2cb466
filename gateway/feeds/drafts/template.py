"""A feed file in draft: what an operator answers or a sample shows, written as commented TOML."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.feeds.spec import Transport

# What each line means, for a person who has never seen such a file.
_MEANING = {
    "name": "What commands and logs call the feed: a-z, 0-9 and _.",
    "title": "What it is, for people.",
    "mission": "Who observes; candidates name it.",
    "instrument": "",
    "messenger": "gw, grb, neutrino, xray, frb or optical: decides the time window, the credible"
    " level and the topic of candidates.",
    "format": "voevent, json, igwn (LIGO/Virgo/KAGRA alerts), or other (with a parser of yours).",
    "topics": "Kafka topics to subscribe to.",
    "ivoids": "How its VOEvents are recognised: what their IVOIDs begin with.",
    "schemas": "How its messages are recognised: a part of their $schema.",
    "members": "How its messages are recognised, wherever they come from: all these are there.",
    "prefix": "Events are called <prefix>_<trigger>.",
    "trigger": "The Params that name the event; @ivoid: what follows the # of the IVOID.",
    "serial": "The Param that numbers the notices of one event.",
    "skymap_urls": "The Params with the address of a sky map, the best one first.",
    "containment": "Probability inside the error radius, where a message does not say.",
    "systematic_included": "Whether the error radius includes the systematic error.",
    "error_unit": "Unit of the error radius: deg, arcmin or arcsec.",
    "time_format": "How times are written.",
    "time_system": "",
    "frame": "",
    "private": "Only its own stream sees what it brings, and everything derived from that.",
    "streams": "Only these private streams see what it brings, and everything derived from that.",
    "fields": "Where its messages keep what the unified schema calls by the name on the left:"
    " the name of a member or Param, a JSONPath ($.a.b[0]) or an XPath (//...).",
    "test_params": "A message is a test when any of these is true, yes or 1.",
    "retraction_params": "A message takes its event back when any of these is true, yes or 1.",
    "test_when": "Any of these marks a message as a test: path = value as it is written there (true"
    " is not yes or 1), * for any.",
    "retraction_when": "Any of these marks a message that takes the event back.",
    "ignore_when": "Any of these marks a message that is no notice of an event.",
    "details": "What else is kept with the notice: our name = where it stands.",
    "transport": "Where it comes from, when not from GCN's or our own Kafka, VTP or folder.",
    "kafka": "host:port of the Kafka that carries its topics.",
    "properties": "librdkafka properties; $NAME is taken from the environment, so that no secret"
    " stands here.",
    "group": "Consumer group.",
    "vtp": "host:port of the VTP broker to subscribe to.",
    "folder": "A folder to watch.",
    "kinds": "Kinds of notice, by the Param Packet_Type.",
}

# Keys that are left out when they have this value; None: always written.
_OPTIONAL: Mapping[str, Any] = {
    "topics": (), "ivoids": (), "schemas": (), "members": (), "prefix": "", "trigger": (),
    "serial": "", "skymap_urls": (), "containment": None, "systematic_included": None,
    "error_unit": "deg", "time_format": "iso", "time_system": "UTC", "frame": "icrs",
    "test_params": (), "retraction_params": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Answers to what a feed file asks; the names are those of :class:`gateway.feeds.spec.Feed`.

    ``packet_types`` become one kind; ``guessed`` names keys that a person should look at.
    """

    name: str
    messenger: str
    format: str
    title: str = ""
    mission: str = ""
    instrument: str = ""
    topics: tuple[str, ...] = ()
    ivoids: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    prefix: str = ""
    trigger: tuple[str, ...] = ()
    serial: str = ""
    skymap_urls: tuple[str, ...] = ()
    containment: float = 0.9
    systematic_included: bool = False
    error_unit: str = "deg"
    time_format: str = "iso"
    time_system: str = "UTC"
    frame: str = "icrs"
    private: bool = False
    streams: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    test_params: tuple[str, ...] = ()
    retraction_params: tuple[str, ...] = ()
    test_when: Mapping[str, str] = field(default_factory=dict)
    retraction_when: Mapping[str, str] = field(default_factory=dict)
    transport: Transport = field(default_factory=Transport)
    packet_types: tuple[int, ...] = ()
    guessed: frozenset[str] = frozenset()


def feed_toml(draft: Draft, about: str = "") -> str:
    """Text of the feed's file, each line with a comment on what it means.

    Parameters
    ----------
    about : str
        A sentence for the first line, such as where the draft came from.
    """
    lines = [f"# {line}" for line in about.splitlines()]
    for key in ("name", "title", "mission", "instrument", "messenger", "format"):
        value = getattr(draft, key)
        if key in ("title", "mission"):
            value = value or draft.name
        lines += _line(draft, key, value)
    for key, default in _OPTIONAL.items():
        value = getattr(draft, key)
        if value != default:
            lines += _line(draft, key, value)
    if draft.streams:
        lines += _line(draft, "streams", draft.streams)
    elif draft.private:
        lines += _line(draft, "private", True)
    lines += _tables(draft)
    return "\n".join(lines) + "\n"


def _tables(draft: Draft) -> Iterator[str]:
    for key in ("fields", "test_when", "retraction_when"):
        table = getattr(draft, key)
        if table:
            yield from ("", *_comment(_meaning(draft, key)), f"[{key}]")
            yield from (f"{_key(k)} = {_value(v)}" for k, v in table.items())
    transport = draft.transport
    if transport != Transport():
        yield from ("", *_comment(_MEANING["transport"]), "[transport]")
        for key in ("kafka", "group", "vtp", "folder", "properties"):
            value = getattr(transport, key)
            if value:
                yield from (*_comment(_MEANING[key]), f"{key} = {_value(value)}")
    if draft.packet_types:
        yield from ("", *_comment(_MEANING["kinds"]), "[[kinds]]", 'name = "notice"')
        yield f"packet_types = {_value(draft.packet_types)}"


def _line(draft: Draft, key: str, value: Any) -> list[str]:
    return [*_comment(_meaning(draft, key)), f"{key} = {_value(value)}"]


def _meaning(draft: Draft, key: str) -> str:
    meaning = _MEANING[key]
    return f"{meaning} GUESSED: please check.".strip() if key in draft.guessed else meaning


def guesses(draft: Draft) -> list[str]:
    """What was guessed, each with the guess: ``test_params (is_test)``."""
    found = []
    for key in sorted(draft.guessed):
        value = getattr(draft, key)
        if isinstance(value, Mapping):
            text = ", ".join(f"{k} = {v}" for k, v in value.items())
        elif isinstance(value, tuple):
            text = ", ".join(map(str, value))
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        found.append(f"{key} ({text})" if text else key)
    return found


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 97)]


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _value(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for DEL, which TOML does not take as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
