"""Feed files: TOML in, checked records out."""

from __future__ import annotations

import math
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from reprlib import repr as short
from typing import Any

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError
from crossmatch.model import Messenger, SystematicTerm
from gateway.feeds.dialect import check_dialect, check_pattern
from gateway.feeds.spec import STREAM_NAME, Feed, Kind, SystematicRule, Transport
from gateway.near import did_you_mean

FORMATS = ("voevent", "json", "igwn", "other")
_MESSENGERS = typing.get_args(Messenger)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# What Kafka lets a topic be called; a "^" before it would subscribe to what fits a pattern.
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_LONGEST_DAYS = 36500.0
_LARGEST_INT = 2**31
_PAIR = tuple[float, float]


def feed_from_toml(text: str, source: str) -> Feed:
    """Feed of one TOML file.

    Raises
    ------
    ConfigError
        Naming ``source``, the key, and what is expected there; nothing else, whatever the
        file holds.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid TOML: {str(error)[:300]}") from error
    version = sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return feed_from_table(table, version, source)


def feed_from_table(table: Mapping[str, Any], version: str, source: str) -> Feed:
    """Feed of what stands in one TOML file, whose digest is ``version``.

    Raises
    ------
    ConfigError
        As :func:`feed_from_toml`.
    """
    try:
        return _feed(table, version, source)
    except ConfigError:
        raise
    except Exception as error:
        # One file must not keep the others from being used, whatever we did not think of.
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{source}: cannot be understood: {said[:300]}") from error


def _feed(table: Mapping[str, Any], version: str, source: str) -> Feed:
    for name in ("version", "source"):
        if name in table:
            raise ConfigError(f"{source}: {name}: is made from the file, not written in it")
    transport, kinds = table.get("transport", {}), table.get("kinds", [])
    if not isinstance(transport, dict):
        raise ConfigError(f"{source}: transport: write it as [transport]")
    if not isinstance(kinds, list):
        raise ConfigError(f"{source}: kinds: write each as [[kinds]]")
    plain = {k: v for k, v in table.items() if k not in ("transport", "kinds")}
    values = _checked(Feed, plain, source)
    values["transport"] = Transport(**_checked(Transport, transport, f"{source}: [transport]"))
    values["kinds"] = tuple(_kind(k, f"{source}: kinds[{i}]") for i, k in enumerate(kinds)) or (
        Kind(name="notice"),
    )
    feed = Feed(**values, version=version, source=source)
    _validate(feed, source)
    return feed


def _kind(table: Any, where: str) -> Kind:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, as in [[kinds]]")
    rules = table.get("systematic", [])
    if not isinstance(rules, list):
        raise ConfigError(f"{where}: systematic: write each as [[kinds.systematic]]")
    values = _checked(Kind, {k: v for k, v in table.items() if k != "systematic"}, where)
    values["systematic"] = tuple(_rule(r, f"{where} systematic") for r in rules)
    return Kind(**values)


def _rule(table: Any, where: str) -> SystematicRule:
    if not isinstance(table, dict) or "terms" not in table:
        raise ConfigError(f"{where}: terms must be [[radius68_deg, weight], ...]")
    unknown = sorted(table.keys() - {"terms", "before", "when"})
    if unknown:
        raise ConfigError(f"{where}: {unknown[0]}: no such key; known: before, terms, when")
    pairs = _convert(table["terms"], tuple[_PAIR, ...], f"{where}: terms")
    terms = tuple(SystematicTerm(radius, weight) for radius, weight in pairs)
    if any(not 0 < t.radius68_deg <= 180 or t.weight <= 0 for t in terms):
        raise ConfigError(f"{where}: radii (up to 180) and weights must be positive")
    if abs(sum(t.weight for t in terms) - 1) > 1e-9:
        raise ConfigError(f"{where}: weights must sum to 1")
    before = table.get("before")
    if before is not None and type(before) is not date:
        raise ConfigError(f"{where}: before must be a date, as in 2019-09-11")
    return SystematicRule(
        terms=terms,
        before=None if before is None else datetime(*before.timetuple()[:3], tzinfo=UTC),
        when=_convert(table.get("when", {}), Mapping[str, str], f"{where}: when"),
    )


@cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _checked(cls: type, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of a table in the types of the dataclass's fields."""
    kinds = _types(cls)
    unknown = sorted(set(table) - set(kinds))
    if unknown:
        hint = did_you_mean(unknown[0], kinds, "docs/reference/feeds.md lists all")
        raise ConfigError(f"{where}: {unknown[0]}: no such key; {hint}")
    for f in fields(cls):
        if f.name not in table and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{where}: {f.name} is missing")
    return {key: _convert(value, kinds[key], f"{where}: {key}") for key, value in table.items()}


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if isinstance(value, list):
            return _tuple(value, arguments, where)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, dict):
            return {key: _text(v, f"{where}: {key}") for key, v in value.items()}
    elif kind in (float, float | None):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value, where)
    elif (kind == bool | None and isinstance(value, bool)) or type(value) is kind:
        if kind is int and abs(value) >= _LARGEST_INT:
            raise ConfigError(f"{where}: {short(value)} is too large")
        return value
    raise ConfigError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {short(value)}")


def _tuple(values: list[Any], arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if arguments[-1] is ...:
        return tuple(_convert(v, arguments[0], where) for v in values)
    if len(values) != len(arguments):
        raise ConfigError(
            f"{where}: expected {len(arguments)} values together, found {short(values)}"
        )
    return tuple(_convert(v, kind, where) for v, kind in zip(values, arguments, strict=True))


def _text(value: Any, where: str) -> str:
    if isinstance(value, str | bool | float) or (type(value) is int and abs(value) < 2**63):
        return str(value)
    # Not with what stands there: it may be a secret.
    raise ConfigError(f"{where}: expected text, found a {type(value).__name__}")


def _number(value: float, where: str) -> float:
    # A whole number may be too large for a float, and so is the comparison with one.
    if isinstance(value, int) and abs(value) >= 10**300:
        raise ConfigError(f"{where}: {short(value)} is too large")
    if not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, found {value}")
    return float(value)


def _validate(feed: Feed, source: str) -> None:
    _check_words(feed, source)
    _check_numbers(feed, source)
    _check_ways(feed, source)
    _check_pattern(feed.test_triggers, f"{source}: test_triggers")
    check_dialect(feed, source)


def _check_words(feed: Feed, source: str) -> None:
    if not _NAME.fullmatch(feed.name):
        raise ConfigError(f"{source}: name: {short(feed.name)}; use a-z, 0-9 and _, up to 64")
    if feed.format not in FORMATS:
        raise ConfigError(f"{source}: format: {short(feed.format)}; one of {', '.join(FORMATS)}")
    kinds = [(f"kinds {k.name[:40]}: ", k) for k in feed.kinds]
    for where, messenger in [
        ("messenger", feed.messenger),
        *((f"{where}messenger", k.messenger) for where, k in kinds if k.messenger),
    ]:
        if messenger not in _MESSENGERS:
            known = ", ".join(_MESSENGERS)
            raise ConfigError(f"{source}: {where}: {short(messenger)}; one of {known}")
    for where, chain in [
        ("chain", feed.chain),
        *((f"{where}chain", k.chain) for where, k in kinds),
    ]:
        if chain and chain not in DEFAULT_CHAINS:
            known = ", ".join(sorted(DEFAULT_CHAINS))
            raise ConfigError(f"{source}: {where}: {short(chain)}; one of {known}")
    for where, kind in kinds:
        if kind.alert_type not in ("", "initial", "update"):
            raise ConfigError(f"{source}: {where}alert_type: initial or update")
    if feed.far_unit not in ("Hz", "per_year"):
        raise ConfigError(f"{source}: far_unit: {short(feed.far_unit)}; Hz or per_year")
    for stream in feed.audience:
        if not STREAM_NAME.fullmatch(stream):
            raise ConfigError(
                f"{source}: streams: {short(stream)}; use up to 40 of a-z, 0-9, _ and -"
            )


def _check_numbers(feed: Feed, source: str) -> None:
    for containment in [feed.containment, *(k.containment for k in feed.kinds)]:
        if containment is not None and not 0 < containment < 1:
            raise ConfigError(f"{source}: containment: {containment} is not inside (0, 1)")
    for kind in feed.kinds:
        if kind.error_deg is not None and not 0 < kind.error_deg <= 180:
            raise ConfigError(
                f"{source}: kinds {kind.name[:40]}: error_deg: {kind.error_deg} is not in (0, 180]"
            )
    for key, value, days in (
        ("heartbeat_seconds", feed.heartbeat_seconds, 1 / 86400),
        ("max_silence_hours", feed.max_silence_hours, 1 / 24),
    ):
        if value is not None and not 0 < value * days <= _LONGEST_DAYS:
            raise ConfigError(f"{source}: {key}: {value} is not between 0 and 100 years")
    if feed.window_days:
        if len(feed.window_days) != 2 or feed.window_days[0] >= feed.window_days[1]:
            raise ConfigError(f"{source}: window_days: expected [start, end], the start first")
        if max(map(abs, feed.window_days)) > _LONGEST_DAYS:
            raise ConfigError(f"{source}: window_days: more than {_LONGEST_DAYS:.0f} days")


def _check_ways(feed: Feed, source: str) -> None:
    """Refuse a feed to which no message could come, or only such that it cannot read."""
    for topic in feed.topics:
        if not _TOPIC.fullmatch(topic):
            raise ConfigError(
                f"{source}: topics: {short(topic)}; use up to 249 of A-Z, a-z, 0-9, '.', _ and -"
            )
        if topic.startswith("mm.") and not feed.transport.kafka:
            # A feed of dead letters would feed itself for ever.
            raise ConfigError(f"{source}: topics: {topic} is a topic of the gateway's own")
    servers = [("vtp", feed.transport.vtp)] if feed.transport.vtp else []
    if feed.transport.kafka:
        servers += [("kafka", server) for server in feed.transport.kafka.split(",")]
        if not feed.topics:
            raise ConfigError(f"{source}: [transport] kafka: the feed needs topics there")
    for key, server in servers:
        host, _, port = server.strip().rpartition(":")
        if not (host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
            raise ConfigError(f"{source}: [transport] {key}: {short(server)} is not host:port")
    if feed.format == "other" and not (feed.parser and feed.topics):
        raise ConfigError(f"{source}: format other needs a parser and topics")
    own_way = feed.transport != Transport()
    named = feed.trigger or feed.fields.keys() & {"id", "trigger"}
    if feed.format == "voevent" and not (named and (feed.ivoids or feed.fallback or own_way)):
        raise ConfigError(f"{source}: a VOEvent feed needs ivoids and trigger")
    if feed.format == "json" and not (feed.schemas or feed.members or feed.topics):
        raise ConfigError(f"{source}: a JSON feed needs schemas, members or topics")


def _check_pattern(pattern: str, where: str) -> None:
    try:
        check_pattern(pattern)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
