"""VOEvents of any mission to notices, as the feed's data say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Circle, Notice, Role
from gateway.feeds.spec import Feed, Ignored, Kind, Message, checked_trigger
from voevents.parse import Packet

YEAR_SECONDS = 365.25 * 86400
_TRUE = ("true", "1", "yes")
# What Coords_String says when C1 and C2 are not the place of the event.
_ELSEWHERE = ("pointing_direction", "unavailable", "inappropriate")
_COORDS_TYPE = re.compile(r"coordinates are of the type:\s*([\w/]+)")


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a VOEvent that ``feed`` recognised.

    FK5 positions are taken as ICRS: they differ by less than 0.03 arcsec.
    The order of an event's notices is that of issue (``Who/Date``, whole seconds,
    which the missions keep reliably); notices of one second are sorted by the
    rank of their kind, then by their serial number.

    Raises
    ------
    NoticeError
        ``no_feed`` (packet type not of this feed), ``no_trigger_id``, ``bad_trigger_id``,
        ``bad_time``, ``bad_position``.
    """
    packet = message.packet
    if packet is None:
        raise NoticeError("not_voevent", f"feed {feed.name} expects a VOEvent")
    kind = feed.kind_of(packet)
    if kind is None:
        raise NoticeError(
            "no_feed", f"packet type {packet.packet_type} is unknown to feed {feed.name}"
        )
    if packet.role == "utility":
        return Ignored("utility", feed.name, packet.ivoid)
    if kind.ignore:
        return Ignored(kind.ignore, feed.name, packet.ivoid)
    issued = packet.date or packet.isotime
    if issued is None:
        raise NoticeError("bad_time", "neither Who/Date nor an ISOTime")
    trigger_id = _trigger_id(packet, feed)
    event_id = f"{feed.prefix}_{trigger_id}" if feed.prefix else trigger_id
    retracts = _retracts(packet, feed, kind, event_id)
    skymap_url = next((packet.params[u] for u in feed.skymap_urls if packet.params.get(u)), None)
    circle, reason = localize(packet, feed, kind, issued)
    if retracts:
        circle, skymap_url, reason = None, None, "retraction"
    if (circle or skymap_url) and packet.isotime is None:
        raise NoticeError("bad_time", "a position without ISOTime")
    classification, event_class = _classes(packet.params, feed)
    return Notice(
        feed=feed.name,
        mission=feed.mission,
        instrument=kind.instrument or packet.params.get(feed.instrument_param) or feed.instrument,
        kind=kind.name,
        notice_id=packet.ivoid,
        event_id=event_id,
        trigger_id=trigger_id,
        messenger=kind.messenger or feed.messenger,  # type: ignore[arg-type]
        role=_role(packet, feed, kind, trigger_id),
        alert_type=_alert_type(packet, feed, kind, bool(retracts)),
        issued=issued,
        order=(issued.timestamp(), kind.rank, _serial(packet, feed)),
        trigger_time=packet.isotime,
        localization=circle,
        sha256=message.sha256,
        skymap_url=skymap_url,
        significant=_is_true(packet.params.get(feed.significant, "true")),
        far_hz=_far(packet, feed),
        event_class=kind.event_class or event_class,
        classification=classification,
        cites=tuple(ivoid for _, ivoid in packet.citations),
        retracts=retracts,
        no_position_reason="" if circle or skymap_url else reason,
        details=_details(packet, feed, kind),
    )


def localize(packet: Packet, feed: Feed, kind: Kind, issued: datetime) -> tuple[Circle | None, str]:
    """Error circle of the notice, or why it has none (a stable reason)."""
    reason = _why_not(packet, feed, kind)
    if reason:
        return None, reason
    ra, dec, radius = packet.ra_deg, packet.dec_deg, packet.error_deg
    if ra is None or dec is None:
        return None, packet.position_note if packet.position_note == "sentinel" else "no_position"
    if radius is None or radius <= 0:
        if ra == 0 and dec == 0:
            return None, "null_position"
        radius = kind.error_deg
    if radius is None:
        return None, "no_error_radius"
    if radius >= 180:
        return None, "whole_sky"
    rule = next((r for r in kind.systematic if r.applies(issued, packet.params)), None)
    return (
        Circle(
            ra_deg=ra,
            dec_deg=dec,
            radius_deg=radius,
            containment=kind.containment or feed.containment,
            systematic=() if rule is None else rule.terms,
        ),
        "",
    )


def _why_not(packet: Packet, feed: Feed, kind: Kind) -> str:
    if not kind.position:
        return kind.no_position_reason or "no_position"
    coords = packet.params.get("Coords_String", "")
    if not coords and (described := _COORDS_TYPE.search(packet.position_note)):
        coords = described[1]
    for word in re.split(r"[/\s]+", coords.lower()):
        if word in _ELSEWHERE:
            return word
    for name in feed.unusable_params:
        if _is_true(packet.params.get(name)):
            return name.rpartition(".")[2].lower()
    return ""


def _trigger_id(packet: Packet, feed: Feed) -> str:
    parts = []
    for name in feed.trigger:
        if name == "@ivoid":
            value = re.sub(r"[^A-Za-z0-9._:+-]", "_", packet.ivoid.rpartition("#")[2])
        else:
            value = packet.params.get(name, "").strip()
        if not value:
            raise NoticeError("no_trigger_id", f"{name} is missing in {packet.ivoid[:120]}")
        parts.append(plain_number(value))
    return checked_trigger("_".join(parts))


def plain_number(text: str) -> str:
    """Digits without leading zeros, anything else as it is: 010205 and 10205 are one trigger."""
    return str(int(text)) if re.fullmatch(r"-?[0-9]{1,30}", text) else text


def _retracts(packet: Packet, feed: Feed, kind: Kind, event_id: str) -> tuple[str, ...]:
    """What is withdrawn: the notices cited as such, and with them the event.

    The missions retract by event: a list of citations may lack a notice that
    was lost, and flags such as Def_NOT_a_GRB cite nothing.
    """
    cited = tuple(ivoid for cite, ivoid in packet.citations if cite == "retraction")
    flagged = any(_is_true(packet.params.get(name)) for name in feed.retraction_params)
    if not (cited or flagged or kind.retraction):
        return ()
    return (*dict.fromkeys(cited), event_id)


def _role(packet: Packet, feed: Feed, kind: Kind, trigger_id: str) -> Role:
    marked = any(_is_true(packet.params.get(name)) for name in feed.test_params)
    mock = feed.test_triggers and re.match(feed.test_triggers, trigger_id)
    if marked or mock or kind.test:
        return "test"
    return packet.role  # type: ignore[return-value]


def _alert_type(packet: Packet, feed: Feed, kind: Kind, retraction: bool) -> AlertType:
    if retraction:
        return "retraction"
    if kind.alert_type:
        return kind.alert_type  # type: ignore[return-value]
    revised = feed.serial == "Rev" and _serial(packet, feed) > 0
    return "update" if packet.citations or revised else "initial"


def _serial(packet: Packet, feed: Feed) -> int:
    text = packet.params.get(feed.serial, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _is_true(text: str | None) -> bool:
    return text is not None and text.strip().lower() in _TRUE


def _far(packet: Packet, feed: Feed) -> float | None:
    text = packet.params.get(feed.far, "")
    try:
        rate = float(text)
    except ValueError:
        return None
    if not 0 <= rate < float("inf"):
        return None
    return rate / YEAR_SECONDS if feed.far_unit == "per_year" else rate


def _classes(params: Mapping[str, str], feed: Feed) -> tuple[dict[str, float], str]:
    """Probabilities by class, and the class they speak for."""
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
    return exclusive, best


def _probability(text: str | None, full: float) -> float | None:
    try:
        value = float(text or "nan") / full
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _details(packet: Packet, feed: Feed, kind: Kind) -> dict[str, str]:
    details = {ours: packet.params[t] for ours, t in feed.details.items() if packet.params.get(t)}
    included = kind.systematic_included
    details["systematic_included"] = str(
        feed.systematic_included if included is None else included
    ).lower()
    if packet.packet_type is not None:
        details["packet_type"] = str(packet.packet_type)
    if packet.notes:
        details["notes"] = "; ".join(dict.fromkeys(packet.notes))
    return details
