"""Whether an answer on a new feed will do: each by itself, before all of them are a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from crossmatch.errors import ConfigError
from gateway.feeds.drafts.template import Draft
from gateway.feeds.paths import check_path
from gateway.feeds.spec import STREAM_NAME

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class _Ground(Protocol):
    """What answers are checked against: feeds by their names, and the sample's format."""

    @property
    def taken(self) -> Mapping[str, str]: ...
    @property
    def sample_form(self) -> str: ...


def problem_of(key: str, value: Any, draft: Draft, ground: _Ground) -> str:
    """What is wrong with the answer ``value`` to ``key``, for a person; empty when it will do.

    Parameters
    ----------
    key : str
        As in :class:`gateway.feeds.drafts.template.Draft`, ``kafka`` and ``vtp`` of its
        transport, and ``fields.<name>``.
    value
        As the draft would hold it.
    draft : Draft
        With the answers so far.
    """
    if key.startswith("fields."):
        return _path(value)
    check = _CHECKS.get(key)
    return "" if check is None else check(value, draft, ground)


def _name(value: str, draft: Draft, ground: _Ground) -> str:
    if not _NAME.fullmatch(value):
        return f"{value!r}: use up to 64 of a-z, 0-9 and _, a letter first"
    if value in ground.taken:
        return (
            f"feed {value} stands in {ground.taken[value]} already; choose another name, or copy it"
            f" with 'mmgateway feeds show {value} --toml'"
        )
    return ""


def _title(value: str, draft: Draft, ground: _Ground) -> str:
    return "" if value else "say in a few words what it is"


def _format(value: str, draft: Draft, ground: _Ground) -> str:
    form = ground.sample_form
    if form == "json" and value == "igwn":
        return "the sample is JSON, but no alert of LIGO/Virgo/KAGRA: choose json"
    if form and (form == "voevent") != (value == "voevent"):
        return f"the sample is {_written(form)}: a feed of format {value} could not read it"
    if draft.transport.vtp and value != "voevent":
        return f"by VTP only VOEvents come, and this feed reads {_written(value)}: drop --vtp"
    return ""


def _topics(value: tuple[str, ...], draft: Draft, ground: _Ground) -> str:
    bad = next((t for t in value if not _TOPIC.fullmatch(t)), None)
    if bad is not None:
        return f"{bad!r} is no topic of Kafka: use A-Z, a-z, 0-9, '.', _ and -"
    return ""


def _kafka(value: str, draft: Draft, ground: _Ground) -> str:
    servers = [s.strip() for s in value.split(",")] if value else []
    bad = next((s for s in servers if not _is_server(s)), None)
    if bad is not None:
        return f"{bad!r} is not host:port, as in broker.example.org:9092"
    if servers and not draft.topics:
        return "name its topics first: without them nothing is read there"
    return ""


def _vtp(value: str, draft: Draft, ground: _Ground) -> str:
    if value and not _is_server(value):
        return f"{value!r} is not host:port, as in broker.example.org:8099"
    if value and draft.format != "voevent":
        return f"by VTP only VOEvents come, and this feed reads {_written(draft.format)}"
    return ""


def _ivoids(value: tuple[str, ...], draft: Draft, ground: _Ground) -> str:
    bad = next((i for i in value if not re.fullmatch(r"ivo://\S+", i)), None)
    if bad is not None:
        return f"{bad!r}: IVOIDs begin with ivo://, as in ivo://org.example/ours#"
    if not value and not (draft.transport.kafka or draft.transport.vtp):
        return (
            "say what they begin with, as in ivo://org.example/ours#: its packets are known by it"
        )
    return ""


def _trigger(value: tuple[str, ...], draft: Draft, ground: _Ground) -> str:
    if not value and not draft.fields.keys() & {"id", "trigger"}:
        return "name a Param, or @ivoid for what follows the # of the IVOID"
    return next((why for v in value if v != "@ivoid" and (why := _path(v))), "")


def _schemas(value: tuple[str, ...], draft: Draft, ground: _Ground) -> str:
    if not (value or draft.members or draft.topics):
        return "without a topic its messages are known by their $schema: say a part of it"
    return ""


def _containment(value: float, draft: Draft, ground: _Ground) -> str:
    return "" if 0 < value < 1 else f"{value:g}: a number between 0 and 1, as 0.9"


def _streams(value: tuple[str, ...], draft: Draft, ground: _Ground) -> str:
    bad = next((s for s in value if not STREAM_NAME.fullmatch(s)), None)
    return "" if bad is None else f"{bad!r}: use a-z, 0-9, _ and -"


def _path(value: str) -> str:
    try:
        check_path(value)
    except ConfigError as error:
        return str(error)
    return ""


def _is_server(text: str) -> bool:
    found = _SERVER.fullmatch(text)
    return found is not None and 0 < int(found[2]) < 65536


def _written(form: str) -> str:
    return "a VOEvent" if form == "voevent" else "JSON"


_CHECKS: Mapping[str, Callable[[Any, Draft, _Ground], str]] = {
    "name": _name, "title": _title, "format": _format, "topics": _topics, "kafka": _kafka,
    "vtp": _vtp, "ivoids": _ivoids, "trigger": _trigger, "schemas": _schemas,
    "containment": _containment, "streams": _streams,
}  # fmt: skip
