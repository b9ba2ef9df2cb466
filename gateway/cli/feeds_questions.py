"""The questions of ``mmgateway feeds new``: what no option said, with defaults in brackets."""

from __future__ import annotations

import typing
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Any

import typer

from crossmatch.errors import ConfigError
from crossmatch.model import Messenger
from gateway.feeds.drafts.template import Draft
from gateway.feeds.parsers.readings import ERROR_UNITS
from gateway.feeds.spec import STREAM_NAME

_ALL = ("voevent", "json", "igwn")


@dataclass(frozen=True, slots=True)
class _Question:
    """One question; ``formats``: of which feeds it is asked, ``known``: the answers there are."""

    key: str
    text: str
    formats: tuple[str, ...] = _ALL
    known: tuple[str, ...] = ()
    many: bool = False


_QUESTIONS = (
    _Question("name", "Name of the feed (a-z, 0-9, _)"),
    _Question("title", "Title, for people"),
    _Question("format", "Format", known=_ALL),
    _Question("messenger", "Messenger", known=typing.get_args(Messenger)),
    _Question("mission", "Mission or observatory"),
    _Question("instrument", "Instrument"),
    _Question("topics", "Kafka topics, with commas", many=True),
    _Question("kafka", "Its own Kafka as host:port, if not GCN's or ours"),
    _Question("vtp", "Its own VTP broker as host:port, if any", ("voevent",)),
    _Question("ivoids", "Its IVOIDs begin with", ("voevent",), many=True),
    _Question("trigger", "Params that name the event, or @ivoid", ("voevent",), many=True),
    _Question("schemas", "Part of its $schema, if it has one", ("json",), many=True),
    _Question("prefix", "Prefix of the events' names", ("voevent", "json")),
    _Question("containment", "Probability inside the error radius", ("voevent", "json")),
    _Question("error_unit", "Unit of the error radius", ("voevent", "json"), tuple(ERROR_UNITS)),
    _Question("streams", "Private streams that alone see it, with commas", many=True),
)
_PLACES = {
    "id": "Member or JSONPath with the event's name",
    "trigger_time": "... with its time",
    "ra": "... with the right ascension",
    "dec": "... with the declination",
    "ra_dec_error": "... with the error radius",
}


def asked(draft: Draft, given: Set[str]) -> Draft:
    """The draft with the answers to everything that is not ``given`` already."""
    for question in _QUESTIONS:
        if question.key in given or draft.format not in question.formats:
            continue
        if question.key == "streams" and draft.private:
            continue
        draft = _put(draft, question.key, _answer(question, _shown(draft, question)))
    if draft.format == "json":
        places = dict(draft.fields)
        for name, text in _PLACES.items():
            if name not in given:
                places[name] = typer.prompt(text, default=places.get(name, name))
        kept = {k: v for k, v in places.items() if k != v or k in draft.fields}
        draft = replace(draft, fields=kept)
    return draft


def _shown(draft: Draft, question: _Question) -> str:
    holder = draft.transport if question.key in ("kafka", "vtp") else draft
    value = getattr(holder, question.key)
    return ", ".join(value) if question.many else str(value)


def _answer(question: _Question, default: str) -> Any:
    return typer.prompt(
        question.text + (f" ({', '.join(question.known)})" if question.known else ""),
        default=default,
        value_proc=_checked(question),
    )


def _checked(question: _Question) -> Callable[[str], Any]:
    """Function from an answer to its value; UsageError, which asks again, when it is none."""

    def check(answer: str) -> Any:
        answer = answer.strip()
        if question.known and answer not in question.known:
            raise typer.BadParameter(f"one of {', '.join(question.known)}")
        if question.key == "containment":
            return _probability(answer)
        if not question.many:
            return answer
        parts = tuple(p.strip() for p in answer.split(",") if p.strip())
        if question.key == "streams":
            for part in parts:
                if not STREAM_NAME.fullmatch(part):
                    raise typer.BadParameter(f"{part!r}: use a-z, 0-9, _ and -")
        return parts

    return check


def _probability(answer: str) -> float:
    try:
        value = float(answer)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter("a number between 0 and 1, as 0.9")
    return value


def _put(draft: Draft, key: str, value: Any) -> Draft:
    # What a person has seen and left is no guess any more.
    draft = replace(draft, guessed=draft.guessed - {key})
    if key in ("kafka", "vtp"):
        return replace(draft, transport=replace(draft.transport, **{key: value}))
    if key == "format" and value == "voevent" and not draft.trigger:
        draft = replace(draft, trigger=("@ivoid",))
    return replace(draft, **{key: value})


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """Table of ``NAME=VALUE`` options.

    Raises
    ------
    ConfigError
        When one has no ``=``.
    """
    found = {}
    for text in texts or ():
        key, mark, value = text.partition("=")
        if not (key.strip() and mark):
            raise ConfigError(f"{option} {text}: write it as NAME=VALUE")
        found[key.strip()] = value.strip()
    return found
