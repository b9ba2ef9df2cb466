"""VOEvents of any mission to notices, as the feed's data say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Circle, Ellipse, Notice, Role
from gateway.feeds.dialect import angle_to_icrs
from gateway.feeds.mapaddress import map_address
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers.readings import (
    ERROR_UNITS,
    angle_from,
    checked_trigger,
    icrs_from,
    number_from,
    time_from,
)
from gateway.feeds.paths import alternatives, marked, value_at
from gateway.feeds.spec import Feed, Kind
from voevents.parse import Packet, check_position

YEAR_SECONDS = 365.25 * 86400
_TRUE = ("true", "1", "yes")
# What Coords_String says when C1 and C2 are not the place of the event.
_ELSEWHERE = ("pointing_direction", "unavailable", "inappropriate")
_COORDS_TYPE = re.compile(r"coordinates are of the type:\s*([\w/]+)")
_NOWHERE = (-1.0, -999.0)
# Short names of [fields], besides those of the unified schema.
_LONG_NAMES = {
    "trigger": "id",
    "time": "trigger_time",
    "issued": "alert_datetime",
    "error": "ra_dec_error",
    "containment": "containment_probability",
}


@dataclass(frozen=True, slots=True)
class _Reading:
    """When and where, from the places that the feed names.

    ``axes`` are semi-major and semi-minor axis and position angle of an ellipse, degrees.
    """

    issued: datetime | None
    time: datetime | None
    ra_deg: float | None
    dec_deg: float | None
    error_deg: float | None
    axes: tuple[float, float, float] | None = None
    containment: float | None = None
    note: str = ""


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
        return Ignored(ignored, feed.name, packet.ivoid)
    if kind is None:
        kind = _unknown_kind(packet)
    reading = _read(message, feed)
    issued = reading.issued or reading.time
    if issued is None:
        raise NoticeError("bad_time", "neither Who/Date nor an ISOTime")
    trigger_id = _trigger_id(message, feed)
    event_id = f"{feed.prefix}_{trigger_id}" if feed.prefix else trigger_id
    retracts = _retracts(message, feed, kind, event_id)
    skymap_url = _skymap_url(message, feed) if kind.skymap else None
    place, reason = _localize(message, reading, feed, kind, issued)
    if retracts:
        place, skymap_url, reason = None, None, "retraction"
    if (place or skymap_url) and reading.time is None:
        raise NoticeError("bad_time", "a position without ISOTime")
    # Of what was issued in the same second, a retraction is the last word.
    rank = max(k.rank for k in feed.kinds) if retracts else kind.rank
    classification, event_class = _classes(message, feed)
    return Notice(
        feed=feed.name,
        mission=feed.mission,
        instrument=kind.instrument or _stated(message, feed.instrument_param) or feed.instrument,
        kind=kind.name,
        notice_id=packet.ivoid,
        event_id=event_id,
        trigger_id=trigger_id,
        messenger=kind.messenger or feed.messenger,  # type: ignore[arg-type]
        role=_role(message, feed, kind, trigger_id),
        alert_type=_alert_type(message, feed, kind, bool(retracts)),
        issued=issued,
        order=(issued.timestamp(), rank, _serial(message, feed)),
        trigger_time=reading.time,
        localization=place,
        sha256=message.sha256,
        skymap_url=skymap_url,
        significant=not kind.subthreshold
        and (not feed.significant or _is_true(_text(message, feed.significant))),
        far_hz=_far(message, feed),
        event_class=kind.event_class or event_class,
        classification=classification,
        cites=tuple(ivoid for _, ivoid in packet.citations),
        retracts=retracts,
        no_position_reason="" if place or skymap_url else reason,
        details=_details(message, feed, kind),
        known_source=kind.known_source,
        chain=kind.chain,
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


def _read(message: Message, feed: Feed) -> _Reading:
    """Time and place from WhereWhen, or from where the feed's ``fields`` say they are."""
    packet = _packet_of(message)
    unit = ERROR_UNITS[feed.error_unit]
    error = None if packet.error_deg is None else packet.error_deg * unit
    if not feed.fields:
        return _Reading(
            packet.date, packet.isotime, packet.ra_deg, packet.dec_deg, error,
            note=packet.position_note,
        )  # fmt: skip

    theirs = _theirs(feed)

    def number(name: str) -> float | None:
        return number_from(value_at(message, theirs[name]), name) if name in theirs else None

    def moment(name: str, otherwise: datetime | None) -> datetime | None:
        if name not in theirs:
            return otherwise
        value = value_at(message, theirs[name])
        return time_from(value, name, feed.time_format, feed.time_system)

    if "ra_dec_error" in theirs:
        error = number("ra_dec_error")
        error = None if error is None else error * unit
    major, minor, angle = number("semi_major"), number("semi_minor"), number("position_angle")
    axes = None if major is None or minor is None else (major * unit, minor * unit, angle or 0.0)
    reading = _Reading(
        moment("alert_datetime", packet.date), moment("trigger_time", packet.isotime),
        packet.ra_deg, packet.dec_deg, error, axes, number("containment_probability"),
        packet.position_note,
    )  # fmt: skip
    if not {"ra", "dec"} <= theirs.keys():
        return reading
    lon = angle_from(value_at(message, theirs["ra"]), "ra", hours=feed.frame != "galactic")
    lat = angle_from(value_at(message, theirs["dec"]), "dec", hours=False)
    return _moved(reading, lon, lat, feed.frame)


def _theirs(feed: Feed) -> Mapping[str, str]:
    """The feed's ``fields`` by the names of the unified schema."""
    return {_LONG_NAMES.get(ours, ours): path for ours, path in feed.fields.items() if path}


def _moved(reading: _Reading, lon: float | None, lat: float | None, frame: str) -> _Reading:
    """``reading`` at a position that stands elsewhere than in WhereWhen, if it is one."""
    if lon is None or lat is None:
        return replace(reading, ra_deg=None, dec_deg=None, note="")
    missing = reading.error_deg is None or reading.error_deg <= 0
    if missing and lon == lat and lon in _NOWHERE:
        return replace(reading, ra_deg=None, dec_deg=None, note="sentinel")
    check_position(lon, lat)
    axes = reading.axes
    if axes is not None:
        axes = (axes[0], axes[1], angle_to_icrs(lon, lat, axes[2], frame))
    ra, dec = icrs_from(lon, lat, frame)
    return replace(reading, ra_deg=ra % 360.0, dec_deg=dec, axes=axes, note="")


def _localize(
    message: Message, reading: _Reading, feed: Feed, kind: Kind, issued: datetime
) -> tuple[Circle | Ellipse | None, str]:
    """Error circle or ellipse of the notice, or why it has none (a stable reason)."""
    reason = _why_not(message, reading, feed, kind)
    if reason:
        return None, reason
    ra, dec, radius = reading.ra_deg, reading.dec_deg, reading.error_deg
    if ra is None or dec is None:
        return None, reading.note if reading.note == "sentinel" else "no_position"
    if reading.axes is not None and min(reading.axes[:2]) > 0:
        return _ellipse(ra, dec, reading, feed, kind)
    if radius is None or radius <= 0:
        if ra == 0 and dec == 0:
            return None, "null_position"
        radius = kind.error_deg
    if radius is None:
        return None, "no_error_radius"
    if radius >= 180:
        return None, "whole_sky"
    rule = next((r for r in kind.systematic if r.applies(issued, _packet_of(message).params)), None)
    terms = () if rule is None else rule.terms
    return Circle(ra, dec, radius, _containment(reading, feed, kind), terms), ""


def _ellipse(
    ra: float, dec: float, reading: _Reading, feed: Feed, kind: Kind
) -> tuple[Ellipse | None, str]:
    assert reading.axes is not None
    major, minor, angle = reading.axes
    if minor > major:
        major, minor, angle = minor, major, angle + 90.0
    if major >= 180:
        return None, "whole_sky"
    return Ellipse(ra, dec, major, minor, angle % 180.0, _containment(reading, feed, kind)), ""


def _containment(reading: _Reading, feed: Feed, kind: Kind) -> float:
    stated = reading.containment
    if stated is None:
        return kind.containment or feed.containment
    if not 0 < stated < 1:
        raise NoticeError("bad_position", f"containment is {stated:g}; expected inside (0, 1)")
    return stated


def _why_not(message: Message, reading: _Reading, feed: Feed, kind: Kind) -> str:
    if not kind.position:
        return kind.no_position_reason or "no_position"
    # Coords_String speaks of WhereWhen, and of no other place.
    if "ra" not in feed.fields:
        coords = _text(message, "Coords_String")
        if not coords and (described := _COORDS_TYPE.search(reading.note)):
            coords = described[1]
        for word in re.split(r"[/\s]+", coords.lower()):
            if word in _ELSEWHERE:
                return word
    for name in feed.unusable_params:
        if _is_true(_text(message, name)):
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


def _stated(message: Message, path: str) -> str:
    return _text(message, path) if path else ""


def plain_number(text: str) -> str:
    """Digits without leading zeros, anything else as it is: 010205 and 10205 are one trigger."""
    return str(int(text)) if re.fullmatch(r"-?[0-9]{1,30}", text) else text


def _retracts(message: Message, feed: Feed, kind: Kind, event_id: str) -> tuple[str, ...]:
    """What is withdrawn: the notices cited as such, and with them the event.

    The missions retract by event: a list of citations may lack a notice that
    was lost, and flags such as Def_NOT_a_GRB cite nothing.
    """
    packet = _packet_of(message)
    cited = tuple(ivoid for cite, ivoid in packet.citations if cite == "retraction")
    flagged = any(_is_true(_text(message, name)) for name in feed.retraction_params)
    if not (cited or flagged or kind.retraction or marked(message, feed.retraction_when)):
        return ()
    return (*dict.fromkeys(cited), event_id)


def _skymap_url(message: Message, feed: Feed) -> str | None:
    """Address of the sky map, from the first Param that names one."""
    for name in (*filter(None, [feed.fields.get("healpix_url")]), *feed.skymap_urls):
        address = map_address(_text(message, name), feed.skymap_rules)
        if address:
            return address
    return None


def _role(message: Message, feed: Feed, kind: Kind, trigger_id: str) -> Role:
    packet = _packet_of(message)
    flagged = any(_is_true(_text(message, name)) for name in feed.test_params)
    mock = feed.test_triggers and re.match(feed.test_triggers, trigger_id)
    if flagged or mock or kind.test or marked(message, feed.test_when):
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
    text = _stated(message, feed.serial)
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _is_true(text: str) -> bool:
    return text.strip().lower() in _TRUE


def _far(message: Message, feed: Feed) -> float | None:
    text = _stated(message, feed.far)
    try:
        rate = float(text)
    except ValueError:
        return None
    if not 0 <= rate < float("inf"):
        return None
    return rate / YEAR_SECONDS if feed.far_unit == "per_year" else rate


def _classes(message: Message, feed: Feed) -> tuple[dict[str, float], str]:
    """Probabilities by class, and the class that they, or the mission outright, speak for."""
    packet = _packet_of(message)
    params: Mapping[str, str] = packet.params
    exclusive: dict[str, float] = {}
    for index, probability in feed.class_index:
        name = feed.class_names.get(params.get(index, ""))
        value = _probability(params.get(probability), 100.0)
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
    try:
        value = float(text or "nan") / full
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _details(message: Message, feed: Feed, kind: Kind) -> dict[str, str]:
    packet = _packet_of(message)
    details: dict[str, str] = {}
    for ours, theirs in feed.details.items():
        text = next(filter(None, (_text(message, path) for path in _either(theirs))), "")
        if text:
            details[ours] = text
    included = kind.systematic_included
    details["systematic_included"] = str(
        feed.systematic_included if included is None else included
    ).lower()
    if packet.packet_type is not None:
        details["packet_type"] = str(packet.packet_type)
    if packet.notes:
        details["notes"] = "; ".join(dict.fromkeys(packet.notes))
    return details
