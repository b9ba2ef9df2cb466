"""What a feed file may say: one TOML each, read into frozen records and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from crossmatch.model import SystematicTerm
from gateway.feeds.message import Message
from gateway.feeds.paths import alternatives, is_like, value_at

STREAM_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def audience(name: str, streams: Iterable[str], private: bool) -> tuple[str, ...]:
    """Private streams that may see what a feed of that name brings, sorted; empty: everybody."""
    return tuple(sorted(set(streams))) or ((name,) if private else ())


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
    skymap : bool
        False when an address of a map that it names is not waited for.
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
    skymap: bool = True
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
        return audience(self.name, self.streams, self.private)

    @property
    def confidential(self) -> bool:
        """Whether its file is for its owner's eyes alone: it is private, or may hold secrets."""
        return bool(self.audience or self.transport.properties)

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
