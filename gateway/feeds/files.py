"""Feed files: TOML in, checked records out."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from typing import Any

from crossmatch.errors import ConfigError
from crossmatch.model import Messenger, SystematicTerm
from gateway.feeds.dialect import check_dialect
from gateway.feeds.spec import STREAM_NAME, Feed, Kind, SystematicRule, Transport

FORMATS = ("voevent", "json", "igwn", "other")
_MESSENGERS = typing.get_args(Messenger)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def feed_from_toml(text: str, source: str) -> Feed:
    """Feed of one TOML file.

    Raises
    ------
    ConfigError
        Naming ``source``, the key, and what is expected there.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    for name in ("version", "source"):
        if name in table:
            raise ConfigError(f"{source}: {name}: is made from the file, not written in it")
    transport = table.pop("transport", {})
    if not isinstance(transport, dict):
        raise ConfigError(f"{source}: transport: write it as [transport]")
    kinds = table.pop("kinds", [])
    if not isinstance(kinds, list):
        raise ConfigError(f"{source}: kinds: write each as [[kinds]]")
    values = _checked(Feed, table, source)
    values["transport"] = Transport(**_checked(Transport, transport, f"{source}: [transport]"))
    values["kinds"] = tuple(_kind(k, f"{source}: kinds[{i}]") for i, k in enumerate(kinds)) or (
        Kind(name="notice"),
    )
    version = sha256(text.encode()).hexdigest()[:12]
    feed = Feed(**values, version=version, source=source)
    _validate(feed, source)
    return feed


def _kind(table: Any, where: str) -> Kind:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, as in [[kinds]]")
    rules = table.pop("systematic", [])
    values = _checked(Kind, table, where)
    values["systematic"] = tuple(_rule(r, f"{where} systematic") for r in rules)
    return Kind(**values)


def _rule(table: Any, where: str) -> SystematicRule:
    try:
        terms = tuple(SystematicTerm(float(r), float(w)) for r, w in table["terms"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: terms must be [[radius68_deg, weight], ...]") from error
    if any(t.radius68_deg <= 0 for t in terms) or abs(sum(t.weight for t in terms) - 1) > 1e-9:
        raise ConfigError(f"{where}: radii must be positive and weights sum to 1")
    before = table.get("before")
    if before is not None and type(before) is not date:
        raise ConfigError(f"{where}: before must be a date, as in 2019-09-11")
    return SystematicRule(
        terms=terms,
        before=None if before is None else datetime(*before.timetuple()[:3], tzinfo=UTC),
        when={str(k): str(v) for k, v in table.get("when", {}).items()},
    )


@cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _checked(cls: type, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of a table in the types of the dataclass's fields."""
    kinds = _types(cls)
    unknown = sorted(set(table) - set(kinds))
    if unknown:
        raise ConfigError(f"{where}: {unknown[0]}: no such key; known: {', '.join(sorted(kinds))}")
    for f in fields(cls):
        if f.name not in table and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{where}: {f.name} is missing")
    return {key: _convert(value, kinds[key], f"{where}: {key}") for key, value in table.items()}


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(v, arguments[0], where) for v in value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {str(k): str(v) for k, v in value.items()}
    elif kind in (float, float | None) and isinstance(value, int | float):
        if not isinstance(value, bool):
            return float(value)
    elif (kind == bool | None and isinstance(value, bool)) or type(value) is kind:
        return value
    raise ConfigError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r}")


def _validate(feed: Feed, source: str) -> None:
    if not _NAME.fullmatch(feed.name):
        raise ConfigError(f"{source}: name: {feed.name!r}; use a-z, 0-9 and _")
    if feed.format not in FORMATS:
        raise ConfigError(f"{source}: format: {feed.format!r}; one of {', '.join(FORMATS)}")
    for where, messenger in [("messenger", feed.messenger)] + [
        (f"kinds {k.name}: messenger", k.messenger) for k in feed.kinds if k.messenger
    ]:
        if messenger not in _MESSENGERS:
            raise ConfigError(f"{source}: {where}: {messenger!r}; one of {', '.join(_MESSENGERS)}")
    for kind in feed.kinds:
        if kind.alert_type not in ("", "initial", "update"):
            raise ConfigError(f"{source}: kinds {kind.name}: alert_type: initial or update")
    if feed.far_unit not in ("Hz", "per_year"):
        raise ConfigError(f"{source}: far_unit: {feed.far_unit!r}; Hz or per_year")
    for containment in [feed.containment, *(k.containment for k in feed.kinds)]:
        if containment is not None and not 0 < containment < 1:
            raise ConfigError(f"{source}: containment: {containment} is not inside (0, 1)")
    if feed.format == "other" and not (feed.parser and feed.topics):
        raise ConfigError(f"{source}: format other needs a parser and topics")
    own_way = feed.transport != Transport()
    named = feed.trigger or feed.fields.keys() & {"id", "trigger"}
    if feed.format == "voevent" and not (named and (feed.ivoids or feed.fallback or own_way)):
        raise ConfigError(f"{source}: a VOEvent feed needs ivoids and trigger")
    if feed.format == "json" and not (feed.schemas or feed.members or feed.topics):
        raise ConfigError(f"{source}: a JSON feed needs schemas, members or topics")
    if feed.window_days and not (
        len(feed.window_days) == 2 and feed.window_days[0] < feed.window_days[1]
    ):
        raise ConfigError(f"{source}: window_days: expected [start, end], the start first")
    for stream in feed.streams:
        if not STREAM_NAME.fullmatch(stream):
            raise ConfigError(f"{source}: streams: {stream!r}; use a-z, 0-9, _ and -")
    try:
        re.compile(feed.test_triggers)
    except re.error as error:
        raise ConfigError(f"{source}: test_triggers: {error}") from error
    check_dialect(feed, source)
