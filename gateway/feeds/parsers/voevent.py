"""VOEvents of any mission to notices, as the feed's data say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Circle, Ellipse, Notice, Role
from gateway.feeds.mapaddress import first_address
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers.place import Stated, place_of, systematic_included
from gateway.feeds.parsers.readings import (
    ERROR_UNITS,
    angle_from,
    checked_trigger,
    event_name,
    is_mock,
    is_true,
    number_from,
    number_in,
    plain_number,
    probability,
    rate_hz,
    time_from,
)
from gateway.feeds.paths import alternatives, marked, value_at
from gateway.feeds.spec import Feed, Kind
from voevents.parse import Packet

# What Coords_String says when C1 and C2 are not the place of the event.
_ELSEWHERE = ("pointing_direction", "unavailable", "inappropriate")
_COORDS_TYPE = re.compile(r"coordinates are of the type:\s*([\w/]+)")
_WORDS = re.compile(r"[A-Za-z0-9]+")
_NOWHERE: dict[str, Any] = {
    "localization": None,
    "skymap_url": None,
    "no_position_reason": "retraction",
}
# Short names of [fields], besides those of the unified schema.
_LONG_NAMES = {
    "trigger": "id",
    "time": "trigger_time",
    "issued": "alert_datetime",
    "error": "ra_dec_error",
    "containment": "containment_probability",
}


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a VOEvent that ``feed`` recognised.

    FK5 positions are taken as ICRS: they differ by less than 0.03 arcsec.
    A packet of a type that the feed does not know is kept without a position, so that
    what it retracts is heeded and nobody takes an unknown position for one.

    Raises
    ------
    NoticeError
        ``no_trigger_id``, ``bad_trigger_id``, ``bad_time``, ``bad_position``, ``bad_field``.
    """
    packet = _packet_of(message)
    kind = feed.kind_of(message)
    ignored = _why_ignored(message, feed, kind)
    if ignored:
        return Ignored(
            ignored,
            feed.name,
            packet.ivoid,
            kind="" if kind is None else kind.name,
            role=packet.role,
            trigger_time=packet.isotime,
        )
    if kind is None:
        kind = _unknown_kind(packet)
    issued, time = _times(message, feed)
    issued = issued or time
    if issued is None:
        raise NoticeError("bad_time", "neither Who/Date nor an ISOTime")
    trigger_id = _trigger_id(message, feed)
    withdrawn = _is_retraction(message, feed, kind)
    where, fault = (_NOWHERE, {}) if withdrawn else _where(message, feed, kind, issued)
    if time is None and not where["no_position_reason"]:
        raise NoticeError("bad_time", packet.time_fault or "a position without ISOTime")
    # Of what was issued in the same second, a retraction is the last word.
    rank = max(k.rank for k in feed.kinds) if withdrawn else kind.rank
    return Notice(
        feed=feed.name,
        kind=kind.name,
        notice_id=packet.ivoid,
        event_id=event_name(feed, trigger_id),
        trigger_id=trigger_id,
        role=_role(message, feed, kind, trigger_id),
        alert_type=_alert_type(message, feed, kind, withdrawn),
        issued=issued,
        order=(issued.timestamp(), rank, _serial(message, feed)),
        trigger_time=time,
        sha256=message.sha256,
        cites=tuple(ivoid for _, ivoid in packet.citations),
        retracts=_retracts(packet, event_name(feed, trigger_id), trigger_id, withdrawn),
        details=_details(message, feed, kind) | fault,
        **_content(message, feed, kind),
        **where,
    )


def _packet_of(message: Message) -> Packet:
    if message.packet is None:
        raise NoticeError("not_voevent", "not a VOEvent; the feed expects one")
    return message.packet


def _why_ignored(message: Message, feed: Feed, kind: Kind | None) -> str:
    """Why a message is no notice; empty when it is one."""
    packet = _packet_of(message)
    if packet.role == "utility":
        return "utility"
    if kind is not None and kind.ignore:
        return kind.ignore
    if feed.ignore_when and marked(message, feed.ignore_when):
        return "unwanted"
    if kind is None and not _named(message, feed):
        return "unknown_packet_type"
    return ""


def _unknown_kind(packet: Packet) -> Kind:
    name = "unknown" if packet.packet_type is None else f"type {packet.packet_type}"
    return Kind(name=name, position=False, no_position_reason="unknown_packet_type")


def _times(message: Message, feed: Feed) -> tuple[datetime | None, datetime | None]:
    """Time of issue and of the event, where the packet has them or where ``fields`` say."""
    packet = _packet_of(message)
    theirs = _theirs(feed)

    def moment(name: str, otherwise: datetime | None) -> datetime | None:
        if name not in theirs:
            return otherwise
        value = value_at(message, theirs[name])
        return time_from(value, name, feed.time_format, feed.time_system)

    return moment("alert_datetime", packet.date), moment("trigger_time", packet.isotime)


def _stated(message: Message, feed: Feed) -> Stated:
    """Position and error from WhereWhen, or from where the feed's ``fields`` say they are."""
    packet, theirs = _packet_of(message), _theirs(feed)
    unit = ERROR_UNITS[feed.error_unit]

    def number(name: str) -> float | None:
        return number_from(value_at(message, theirs[name]), name) if name in theirs else None

    error = number("ra_dec_error") if "ra_dec_error" in theirs else packet.error_deg
    radii: tuple[float, ...] = () if error is None else (error * unit,)
    major, minor = number("semi_major"), number("semi_minor")
    if major is not None and minor is not None and min(major, minor) > 0:
        radii = (major * unit, minor * unit)
    lon, lat, frame = packet.ra_deg, packet.dec_deg, "icrs"
    if {"ra", "dec"} <= theirs.keys():
        frame = feed.frame
        lon = angle_from(value_at(message, theirs["ra"]), "ra", hours=frame != "galactic")
        lat = angle_from(value_at(message, theirs["dec"]), "dec", hours=False)
    return Stated(
        lon,
        lat,
        radii,
        number("position_angle") or 0.0,
        frame,
        number("containment_probability"),
        params=packet.params,
    )


def _theirs(feed: Feed) -> Mapping[str, str]:
    """The feed's ``fields`` by the names of the unified schema."""
    if not feed.fields:
        return feed.fields
    return {_LONG_NAMES.get(ours, ours): path for ours, path in feed.fields.items() if path}


def _where(
    message: Message, feed: Feed, kind: Kind, issued: datetime
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a notice says of the place: shape, address of a map, or why there is none.

    Besides, for the details, what is wrong with such an address.
    """
    place, reason = _localize(message, feed, kind, issued)
    url, fault = _map_url(message, feed) if kind.skymap else (None, {})
    reason = "" if place or url else reason
    return {"localization": place, "skymap_url": url, "no_position_reason": reason}, fault


def _localize(
    message: Message, feed: Feed, kind: Kind, issued: datetime
) -> tuple[Circle | Ellipse | None, str]:
    """Error circle or ellipse of the notice, or why it has none (a stable reason)."""
    reason = _why_not(message, feed, kind)
    if reason:
        return None, reason
    place, reason = place_of(_stated(message, feed), feed, kind, issued)
    if reason == "no_position" and "ra" not in feed.fields:
        reason = "sentinel" if _packet_of(message).position_note == "sentinel" else reason
    return place, reason


def _why_not(message: Message, feed: Feed, kind: Kind) -> str:
    if not kind.position:
        return kind.no_position_reason or "no_position"
    # Coords_String speaks of WhereWhen, and of no other place.
    if "ra" not in feed.fields:
        coords = _text(message, "Coords_String")
        note = _packet_of(message).position_note
        if not coords and (described := _COORDS_TYPE.search(note)):
            coords = described[1]
        for word in re.split(r"[/\s]+", coords.lower()):
            if word in _ELSEWHERE:
                return word
    for name in feed.unusable_params:
        if is_true(_text(message, name)):
            return name.rpartition(".")[2].lower()
    return ""


def _trigger_id(message: Message, feed: Feed) -> str:
    """The parts that name the trigger, each the first of its alternatives that is there."""
    return checked_trigger("_".join(_part(message, names) for names in _trigger_paths(feed)))


def _named(message: Message, feed: Feed) -> bool:
    try:
        return bool(_trigger_id(message, feed))
    except NoticeError:
        return False


def _trigger_paths(feed: Feed) -> tuple[str, ...]:
    named = feed.fields.get("id") or feed.fields.get("trigger")
    return (named,) if named else feed.trigger


def _part(message: Message, names: str) -> str:
    packet = _packet_of(message)
    for name in _either(names):
        if name == "@ivoid":
            value = _local_part(packet.ivoid)
        elif name == "@cited":
            value = _local_part(packet.citations[0][1]) if packet.citations else ""
        else:
            value = _text(message, name).strip()
        if value:
            return plain_number(value)
    raise NoticeError("no_trigger_id", f"{names} is missing in {packet.ivoid[:120]}")


def _local_part(ivoid: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:+-]", "_", ivoid.rpartition("#")[2])


@lru_cache(maxsize=4096)
def _either(names: str) -> tuple[str, ...]:
    """Paths of which the first that is there counts; an XPath may have an "or" of its own."""
    return (names,) if names.startswith("/") else tuple(alternatives(names))


def _text(message: Message, path: str) -> str:
    value = value_at(message, path)
    return "" if value is None else str(value)


def _stated_text(message: Message, path: str) -> str:
    return _text(message, path) if path else ""


def _is_retraction(message: Message, feed: Feed, kind: Kind) -> bool:
    """By a citation, a flag such as Def_NOT_a_GRB, its kind, or another mark."""
    cites = _packet_of(message).citations
    return (
        kind.retraction
        or any(cite == "retraction" for cite, _ in cites)
        or any(is_true(_text(message, name)) for name in feed.retraction_params)
        or marked(message, feed.retraction_when)
    )


def _retracts(packet: Packet, event_id: str, trigger_id: str, withdrawn: bool) -> tuple[str, ...]:
    """What no longer stands: of a retraction its event too, else what the notice supersedes.

    The missions retract by event: a list of citations may lack a notice that
    was lost, and flags cite nothing. Notices of other events are superseded for good;
    those of its own, which have its trigger in their names, their order decides: what was
    sent once more would otherwise withdraw a better position.
    """
    if withdrawn:
        cited = (ivoid for cite, ivoid in packet.citations if cite == "retraction")
        return (*dict.fromkeys(cited), event_id)
    replaced = (ivoid for cite, ivoid in packet.citations if cite == "supersedes")
    others = (i for i in replaced if i != packet.ivoid and not _has_trigger(i, trigger_id))
    return tuple(dict.fromkeys(others))


def _has_trigger(ivoid: str, trigger_id: str) -> bool:
    """Whether all parts of a trigger's name are words of an IVOID's last part."""
    words = {plain_number(word) for word in _WORDS.findall(ivoid.rpartition("#")[2])}
    return words.issuperset(map(plain_number, _WORDS.findall(trigger_id)))


def _map_url(message: Message, feed: Feed) -> tuple[str | None, dict[str, str]]:
    """Address of the sky map, from the first Param that names one, or what was wrong with it."""
    names = (*filter(None, [feed.fields.get("healpix_url")]), *feed.skymap_urls)
    return first_address((_text(message, name) for name in names), feed.skymap_rules)


def _role(message: Message, feed: Feed, kind: Kind, trigger_id: str) -> Role:
    packet = _packet_of(message)
    flagged = any(is_true(_text(message, name)) for name in feed.test_params)
    if flagged or is_mock(feed, trigger_id) or kind.test or marked(message, feed.test_when):
        return "test"
    return packet.role  # type: ignore[return-value]


def _alert_type(message: Message, feed: Feed, kind: Kind, retraction: bool) -> AlertType:
    if retraction:
        return "retraction"
    if kind.alert_type:
        return kind.alert_type  # type: ignore[return-value]
    revised = feed.serial == "Rev" and _serial(message, feed) > 0
    return "update" if _packet_of(message).citations or revised else "initial"


def _serial(message: Message, feed: Feed) -> int:
    text = _stated_text(message, feed.serial)
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _content(message: Message, feed: Feed, kind: Kind) -> dict[str, Any]:
    """Whose a notice is, and what it says besides time, place, other notices and details."""
    stated = _stated_text(message, feed.instrument_param)
    worth = not feed.significant or is_true(_text(message, feed.significant))
    classification, event_class = _classes(message, feed)
    return {
        "mission": feed.mission,
        "instrument": kind.instrument or stated or feed.instrument,
        "messenger": kind.messenger or feed.messenger,
        "significant": worth and not kind.subthreshold,
        "far_hz": rate_hz(number_in(_stated_text(message, feed.far)), feed.far_unit),
        "event_class": kind.event_class or event_class,
        "classification": classification,
        "known_source": kind.known_source,
        "chain": kind.chain,
    }


def _classes(message: Message, feed: Feed) -> tuple[dict[str, float], str]:
    """Probabilities by class, and the class that they, or the mission outright, speak for."""
    packet = _packet_of(message)
    params: Mapping[str, str] = packet.params
    exclusive: dict[str, float] = {}
    for index, percent in feed.class_index:
        name = feed.class_names.get(params.get(index, ""))
        value = _probability(params.get(percent), 100.0)
        if name and value is not None:
            exclusive[name] = exclusive.get(name, 0.0) + value
    for name in feed.classes:
        value = _probability(params.get(name), 1.0)
        if value is not None:
            exclusive[name] = value
    best = max(exclusive, key=lambda k: exclusive[k], default="")
    for name in feed.properties:
        value = _probability(params.get(name), 1.0)
        if value is not None:
            exclusive[feed.class_names.get(name, name)] = value
    if "event_class" in feed.fields:
        stated = _text(message, feed.fields["event_class"]).strip()
        best = feed.class_names.get(stated, stated)
    return exclusive, best


def _probability(text: str | None, full: float) -> float | None:
    value = number_in(text)
    return probability(None if value is None else value / full)


def _details(message: Message, feed: Feed, kind: Kind) -> dict[str, str]:
    packet = _packet_of(message)
    details: dict[str, str] = {}
    for ours, theirs in feed.details.items():
        text = next(filter(None, (_text(message, path) for path in _either(theirs))), "")
        if text:
            details[ours] = text
    details["systematic_included"] = str(systematic_included(None, feed, kind)).lower()
    if packet.packet_type is not None:
        details["packet_type"] = str(packet.packet_type)
    if packet.notes:
        details["notes"] = "; ".join(dict.fromkeys(packet.notes))
    return details
