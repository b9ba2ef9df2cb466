"""What a feed file may say: one TOML each, read into frozen records and checked."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, date, datetime
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Messenger, SystematicTerm
from gateway.feeds.dialect import alternatives, check_dialect
from gateway.feeds.paths import is_like, local_tree, value_at
from voevents.digest import event_digest
from voevents.parse import Packet

FORMATS = ("voevent", "json", "igwn", "other")
_MESSENGERS = typing.get_args(Messenger)
_TRIGGER = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9._:+-]{0,119}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
STREAM_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is no notice of an event (heartbeat, pointing, data product), and why."""

    reason: str
    feed: str
    notice_id: str


@dataclass(frozen=True)
class Message:
    """One message as it came, and as far as it was read to recognise it.

    ``packet`` is there for VOEvents, ``record`` for JSON objects.
    """

    raw: bytes = field(repr=False)
    topic: str = ""
    packet: Packet | None = None
    record: Mapping[str, Any] | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Digest in hexadecimal: of a VOEvent's ``VOEvent`` element, of all bytes of others."""
        if self.packet is not None:
            return event_digest(self.raw).hex()
        return sha256(self.raw).hexdigest()

    @cached_property
    def tree(self) -> Any:
        """Elements of a VOEvent by local names, for XPath; read when first asked for."""
        return local_tree(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """A source of the feed's own; whatever comes by it is the feed's.

    Parameters
    ----------
    kafka : str
        ``host:port`` of a Kafka that carries the feed's ``topics``.
    properties : mapping
        librdkafka properties of its consumer; ``$NAME`` in a value is taken from the
        environment, so that secrets need not stand in the file.
    group : str
        Consumer group; empty: ``mmgateway-<feed>``.
    vtp : str
        ``host:port`` of a VTP broker to subscribe to.
    folder : str
        A folder to watch.
    """

    kafka: str = ""
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    group: str = ""
    vtp: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystematicRule:
    """A mixture of systematic errors and when it applies; the first that does is taken.

    ``before`` (issue date, UTC, not included) and ``when`` (parameters with the
    given values) must all hold; without them the rule always applies.
    """

    terms: tuple[SystematicTerm, ...]
    before: datetime | None = None
    when: Mapping[str, str] = field(default_factory=dict)

    def applies(self, issued: datetime, params: Mapping[str, str]) -> bool:
        """Whether a notice issued then, with these parameters, has this systematic error."""
        if self.before is not None and issued >= self.before:
            return False
        return all(params.get(k, "").lower() == v.lower() for k, v in self.when.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of notice of a feed.

    Parameters
    ----------
    name : str
        As in ``final``; goes into the notice.
    packet_types : tuple of int
        GCN packet types of this kind; none: every VOEvent of the feed.
    values : tuple of str
        Values of the feed's ``kind_field``, see :func:`gateway.feeds.paths.is_like`;
        none: every message.
    when : mapping
        Paths and the texts that must all be there, besides ``values``.
    rank : int
        A notice of higher rank goes before one of lower rank, whenever they were issued.
    ignore : str
        A reason: such messages are no notices.
    position : bool
        False when the coordinates, if any, are not those of the event;
        ``no_position_reason`` says what they are.
    containment : float, optional
        Probability inside the error radius; else that of the feed.
    error_deg : float, optional
        Radius when the notice gives none.
    alert_type : str
        ``initial`` or ``update``; empty: by citations and serial number.
    chain : str
        Selection chain in place of the one the messenger gives.
    subthreshold : bool
        Below the mission's own threshold: not significant.
    known_source : bool
        A source that was known before, not a new transient.
    """

    name: str
    packet_types: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    when: Mapping[str, str] = field(default_factory=dict)
    rank: int = 0
    ignore: str = ""
    position: bool = True
    no_position_reason: str = ""
    containment: float | None = None
    error_deg: float | None = None
    systematic_included: bool | None = None
    systematic: tuple[SystematicRule, ...] = ()
    messenger: str = ""
    instrument: str = ""
    event_class: str = ""
    alert_type: str = ""
    retraction: bool = False
    test: bool = False
    chain: str = ""
    subthreshold: bool = False
    known_source: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One stream of notices: how to recognise, name, date, place and grade them.

    A JSON record is the feed's when its ``$schema`` holds one of ``schemas`` and there is
    something at each of ``members`` (paths; ``"a or b"``: at either).

    Lists of parameters name Params of a VOEvent (``Group.name`` where needed) or
    members of a JSON object. ``trigger`` is joined with ``_``; ``@ivoid`` stands
    for the IVOID's part after the ``#``, ``@cited`` for that of the first notice cited,
    ``"a or b"`` for the first that is there.
    ``skymap_rules`` make the address of a map from what stands in ``skymap_urls``, see
    :func:`gateway.feeds.mapaddress.map_address`. ``fields`` and ``details``
    map our name to theirs: a Param or member, a JSONPath (``$.a.b[0]``) or an XPath
    (``//...``), see :mod:`gateway.feeds.paths`. ``*_when`` map such a path to the value
    that marks a message (``*``: any). With ``streams``, or ``private``, only those private streams
    see what the feed brings. ``version`` is the digest of the file.
    """

    name: str
    title: str
    mission: str
    instrument: str
    messenger: str
    format: str
    enabled: bool = True
    topics: tuple[str, ...] = ()
    parser: str = ""
    ivoids: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    fallback: bool = False
    prefix: str = ""
    trigger: tuple[str, ...] = ()
    kind_field: str = ""
    instrument_param: str = ""
    serial: str = "Pkt_Ser_Num"
    containment: float = 0.9
    systematic_included: bool = False
    test_params: tuple[str, ...] = ("Test_Submission", "Test_Notice")
    test_triggers: str = ""
    retraction_params: tuple[str, ...] = ("Def_NOT_a_GRB",)
    unusable_params: tuple[str, ...] = ()
    significant: str = ""
    far: str = ""
    far_unit: str = "Hz"
    skymap_urls: tuple[str, ...] = ()
    skymap_rules: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    class_index: tuple[tuple[str, str], ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    retraction_when: Mapping[str, str] = field(default_factory=dict)
    test_when: Mapping[str, str] = field(default_factory=dict)
    ignore_when: Mapping[str, str] = field(default_factory=dict)
    error_unit: str = "deg"
    frame: str = "icrs"
    time_format: str = "iso"
    time_system: str = "UTC"
    chain: str = ""
    window_days: tuple[float, ...] = ()
    private: bool = False
    streams: tuple[str, ...] = ()
    transport: Transport = field(default_factory=Transport)
    heartbeat_seconds: float | None = None
    max_silence_hours: float | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ()
    version: str = ""
    source: str = ""

    @property
    def audience(self) -> tuple[str, ...]:
        """Private streams that may see what the feed brings, sorted; empty: everybody may."""
        return tuple(sorted(self.streams)) or ((self.name,) if self.private else ())

    def kind_of(self, message: Message) -> Kind | None:
        """Kind of a VOEvent of this feed, the first that fits; ``None`` when none does."""
        if message.packet is None:
            return None
        number = message.packet.packet_type
        for kind in self.kinds:
            if kind.packet_types and number not in kind.packet_types:
                continue
            if not (kind.values or kind.when) or self._fits(message, kind):
                return kind
        return None

    def _fits(self, message: Message, kind: Kind) -> bool:
        if kind.values:
            value = value_at(message, self.kind_field)
            if not any(is_like(value, v) for v in kind.values):
                return False
        return all(is_like(value_at(message, path), text) for path, text in kind.when.items())

    def claims(self, ivoid: str) -> int:
        """How much of an IVOID is this feed's, characters: whose are types that nobody knows."""
        return max((len(i) for i in self.ivoids if ivoid.startswith(i)), default=0)

    def recognises(self, message: Message) -> bool:
        """Whether the message is one of this feed's, by what it says of itself."""
        if message.packet is not None and self.format == "voevent":
            ours = self.fallback or message.packet.ivoid.startswith(self.ivoids or ("\0",))
            return ours and self.kind_of(message) is not None
        if message.record is not None and self.format == "json":
            schema = message.record.get("$schema")
            if self.schemas and not (
                isinstance(schema, str) and any(s in schema for s in self.schemas)
            ):
                return False
            return bool(self.schemas or self.members) and all(
                any(value_at(message, path) is not None for path in alternatives(member))
                for member in self.members
            )
        if message.record is not None and self.format == "igwn":
            return {"superevent_id", "alert_type", "time_created"} <= message.record.keys()
        return False


def checked_trigger(text: str) -> str:
    """``text`` if it can name an event on topics, in files and in IVOIDs.

    Raises
    ------
    NoticeError
        ``bad_trigger_id``: other than 1 to 120 letters, digits and ``._:+-``.
    """
    if not _TRIGGER.fullmatch(text):
        raise NoticeError(
            "bad_trigger_id", f"{text[:60]!r}; expected 1 to 120 letters, digits and ._:+-"
        )
    return text


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
