"""The questions of ``mmgateway feeds new``: what no option said, with defaults in brackets.

Each answer is checked at once, by the rules that the options obey too, and asked again when
it is wrong: nothing that was answered is lost.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

import typer

from crossmatch.errors import ConfigError
from crossmatch.model import Messenger
from gateway.feeds.drafts.answers import problem_of
from gateway.feeds.drafts.template import Draft
from gateway.feeds.parsers.readings import ERROR_UNITS

_ALL = ("voevent", "json", "igwn")
_NONE = "-"


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


@dataclass(frozen=True, slots=True)
class Ground:
    """What answers are checked against.

    ``taken`` maps names of feeds to their files; ``sample_form`` is the format of the sample,
    empty without one.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    sample_form: str = ""


def asked(draft: Draft, given: Set[str], ground: Ground) -> Draft:
    """The draft with the answers to everything that is not ``given`` already."""
    for question in _QUESTIONS:
        if question.key in given or draft.format not in question.formats:
            continue
        if question.key == "streams" and draft.private:
            continue
        draft = _put(draft, question.key, _answer(question, draft, ground))
    if draft.format == "json":
        places = dict(draft.fields)
        for name, text in _PLACES.items():
            if name not in given:
                places[name] = _place(name, text, places.get(name, name), draft)
        kept = {k: v for k, v in places.items() if k != v or k in draft.fields}
        draft = replace(draft, fields=kept)
    return draft


def check_given(draft: Draft, given: Set[str], ground: Ground, *, asks: bool) -> None:
    """Refuse wrong values of options before anything is asked; ``asks``: what is missing will be.

    Raises
    ------
    ConfigError
        Naming the option and what is expected there.
    """
    if asks and "topics" not in given:
        # They will be asked for.
        draft = replace(draft, topics=draft.topics or ("later",))
    for question in _QUESTIONS:
        if question.key in given:
            why = problem_of(question.key, _value(draft, question), draft, ground)
            if why:
                raise ConfigError(f"{_OPTIONS.get(question.key, f'--{question.key}')}: {why}")


_OPTIONS = {
    "topics": "--topic", "ivoids": "--ivoid", "schemas": "--schema", "streams": "--stream",
    "error_unit": "--error-unit",
}  # fmt: skip


def _value(draft: Draft, question: _Question) -> Any:
    holder = draft.transport if question.key in ("kafka", "vtp") else draft
    return getattr(holder, question.key)


def _answer(question: _Question, draft: Draft, ground: Ground) -> Any:
    value = _value(draft, question)

    def read(answer: str) -> Any:
        found = _read(question, answer)
        why = problem_of(question.key, found, draft, ground)
        if why:
            raise typer.BadParameter(why)
        return found

    return typer.prompt(
        question.text + (f" ({', '.join(question.known)})" if question.known else ""),
        default=", ".join(value) if question.many else str(value),
        value_proc=read,
    )


def _read(question: _Question, answer: str) -> Any:
    """Value of an answer; UsageError, which asks again, when it is none."""
    answer = "" if answer.strip() == _NONE else answer.strip()
    if question.known and answer not in question.known:
        raise typer.BadParameter(f"one of {', '.join(question.known)}")
    if question.key == "containment":
        try:
            return float(answer)
        except ValueError:
            raise typer.BadParameter("a number between 0 and 1, as 0.9") from None
    if question.many:
        return tuple(p.strip() for p in answer.split(",") if p.strip())
    return answer


def _place(name: str, text: str, default: str, draft: Draft) -> str:
    def read(answer: str) -> str:
        why = problem_of(f"fields.{name}", answer.strip(), draft, Ground())
        if why:
            raise typer.BadParameter(why)
        return answer.strip()

    return str(typer.prompt(text, default=default, value_proc=read))


def _put(draft: Draft, key: str, value: Any) -> Draft:
    # What a person has seen and left is no guess any more.
    draft = replace(draft, guessed=draft.guessed - {key})
    if key in ("kafka", "vtp"):
        return replace(draft, transport=replace(draft.transport, **{key: value}))
    if key == "name":
        draft = _renamed(draft, value)
    if key == "format" and value == "voevent" and not draft.trigger:
        draft = replace(draft, trigger=("@ivoid",))
    return replace(draft, **{key: value})


def _renamed(draft: Draft, name: str) -> Draft:
    """The draft with what was called after its name so far called after the new one."""
    old = draft.name
    return replace(
        draft,
        title=f"Notices of {name}" if draft.title == f"Notices of {old}" else draft.title,
        mission=name if draft.mission == old else draft.mission,
        prefix=name if draft.prefix == old else draft.prefix,
    )


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
