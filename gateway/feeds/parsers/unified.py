"""JSON records to notices, as the feed's data say: GCN's unified JSON and private dialects."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Messenger, Notice, Role
from gateway.feeds.mapaddress import first_address
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers.members import (
    MAP_FAULT,
    finite,
    map_bytes,
    number_of,
    probabilities,
    text_of,
    texts_of,
)
from gateway.feeds.parsers.place import localize, stated_included, systematic_included
from gateway.feeds.parsers.readings import (
    angle_from,
    checked_trigger,
    event_name,
    is_mock,
    is_true,
    number_from,
    plain_number,
    rate_hz,
    time_from,
)
from gateway.feeds.paths import alternatives, is_like, marked, value_at
from gateway.feeds.spec import Feed, Kind

# What each alert type is to us, and its place among notices of one moment.
_TYPES: dict[str, tuple[AlertType, int]] = {
    "initial": ("initial", 0),
    "subsequent": ("update", 1),
    "update": ("update", 2),
    "retraction": ("retraction", 3),
}
_TENSES: dict[str, Role] = {
    "current": "observation",
    "archival": "observation",
    "injection": "test",
    "test": "test",
    "planned": "utility",
    "commanded": "utility",
}
_MESSENGERS = typing.get_args(Messenger)
_NUMBERS = (
    "containment_probability", "p_astro", "far",
    "luminosity_distance", "luminosity_distance_error",
)  # fmt: skip
# A retraction names the records before it, whatever the clocks said; this many at most.
_MAX_RECORDS = 200
_NOWHERE: dict[str, Any] = {"localization": None, "no_position_reason": "retraction"}


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a JSON record that ``feed`` recognised.

    The schemas guard little, so every value is checked here. Without
    ``alert_datetime`` the time of issue is the trigger time; without ``id`` the
    trigger is named by its time. Notices of one moment are sorted by the rank of
    their kind, then by ``record_number`` or, without it, by their alert type.

    Raises
    ------
    NoticeError
        ``bad_field``, ``no_trigger_id``, ``bad_trigger_id``, ``bad_time``, ``bad_position``,
        ``bad_skymap``, ``path_failed``, ``no_feed`` (a kind that the feed does not know).
    """
    if message.record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    record = _core(message, feed)
    kind = _kind(message, feed)
    if kind.ignore or marked(message, feed.ignore_when):
        return Ignored(kind.ignore or "unwanted", feed.name, _any_id(record), kind.name)
    trigger_time = _time(record, "trigger_time", feed)
    issued = _time(record, "alert_datetime", feed) or trigger_time
    if issued is None:
        raise NoticeError("bad_time", "neither alert_datetime nor trigger_time")
    trigger_id = _trigger_id(message, record, feed, trigger_time)
    event_id = event_name(feed, trigger_id)
    alert_type, serial, notice_id = _version(message, record, feed, kind, trigger_id)
    role = _role(message, record, feed, kind, trigger_id)
    if role == "utility":
        return Ignored("utility", feed.name, notice_id, kind.name, role, event_id, trigger_time)
    retraction = alert_type == "retraction"
    place, fault = (_NOWHERE, {}) if retraction else _place(message, record, feed, kind, issued)
    if trigger_time is None and not place["no_position_reason"]:
        raise NoticeError("bad_time", "a position without trigger_time")
    # A retraction follows whatever was sent in the same second.
    rank = max(k.rank for k in feed.kinds) if retraction else kind.rank
    return Notice(
        feed=feed.name,
        kind=kind.name,
        notice_id=notice_id,
        event_id=event_id,
        trigger_id=trigger_id,
        role=role,
        alert_type=alert_type,
        issued=issued,
        order=(issued.timestamp(), rank, serial),
        trigger_time=trigger_time,
        sha256=message.sha256,
        retracts=_retracts(record, feed, event_id, notice_id) if retraction else (),
        details=_details(message, record, feed, kind) | fault,
        **_content(message, record, feed, kind),
        **place,
    )


def _content(message: Message, record: Mapping[str, Any], feed: Feed, kind: Kind) -> dict[str, Any]:
    """Whose a notice is, and what it says besides time, place and details."""
    classification, event_class = _classes(message, record, feed)
    return {
        "mission": (text_of(record, "mission") if "mission" in feed.fields else "") or feed.mission,
        "instrument": kind.instrument or _instrument(message, record, feed),
        "messenger": _messenger(record, feed, kind),
        "significant": not kind.subthreshold and _significant(message, record, feed),
        "far_hz": _far(message, record, feed),
        "event_class": kind.event_class or event_class,
        "classification": classification,
        "distance_mpc": _positive(record, "luminosity_distance"),
        "distance_error_mpc": _positive(record, "luminosity_distance_error"),
        "cites": texts_of(record, "cites") if "cites" in feed.fields else (),
        "known_source": kind.known_source,
        "chain": kind.chain,
    }


def _core(message: Message, feed: Feed) -> Mapping[str, Any]:
    """The record with its members under the names of GCN's core schema.

    A feed that names paths of its own may have numbers and angles as text, too.
    """
    record = message.record or {}
    if not feed.fields:
        return record
    core = dict(record)
    for ours, path in feed.fields.items():
        value = value_at(message, path) if path else None
        if isinstance(value, str) and ours in ("ra", "dec"):
            value = angle_from(value, ours, hours=ours == "ra" and feed.frame != "galactic")
        elif isinstance(value, str) and ours in _NUMBERS:
            value = number_from(value, ours)
        elif ours == "ra_dec_error":
            axes = value if isinstance(value, list) else [value]
            numbers = [number_from(v, ours) if isinstance(v, str) else v for v in axes]
            value = numbers if isinstance(value, list) else numbers[0]
        elif ours == "record_number" and isinstance(value, str) and value.isdecimal():
            value = number_from(value, ours)
        core[ours] = value
    return core


def _kind(message: Message, feed: Feed) -> Kind:
    value = value_at(message, feed.kind_field) if feed.kind_field else None
    for kind in feed.kinds:
        if kind.values and not any(is_like(value, text) for text in kind.values):
            continue
        if all(is_like(value_at(message, path), text) for path, text in kind.when.items()):
            return kind
    raise NoticeError(
        "no_feed", f"{feed.kind_field or 'record'} {str(value)[:60]!r} is unknown to {feed.name}"
    )


def _time(record: Mapping[str, Any], name: str, feed: Feed) -> datetime | None:
    value = text_of(record, name) if feed.time_format == "iso" else record.get(name)
    return time_from(value, name, feed.time_format, feed.time_system)


def _any_id(record: Mapping[str, Any]) -> str:
    """Something by which a person finds a message that is no notice."""
    for name in ("id", "circularId", "$id", "objectId", "candid", "event_name"):
        if isinstance(record.get(name), str | int):
            return str(record[name])[:200]
    return ""


def _trigger_id(
    message: Message, record: Mapping[str, Any], feed: Feed, trigger_time: datetime | None
) -> str:
    if feed.trigger:
        parts = []
        for path in feed.trigger:
            found = (texts_of({p: value_at(message, p)}, p) for p in alternatives(path))
            text = next((texts[0] for texts in found if texts), "")
            if not text:
                raise NoticeError("no_trigger_id", f"there is nothing at {path}")
            # Names of sources have blanks; those of events may not.
            parts.append(plain_number("_".join(text.split())))
        return checked_trigger("_".join(parts))
    texts = texts_of(record, "id")
    if texts:
        # IceCube's run_event is written with and without leading zeros.
        parts = texts[0].split("_")
        return checked_trigger("_".join(map(plain_number, parts)) if len(parts) > 1 else texts[0])
    if trigger_time is None:
        raise NoticeError("no_trigger_id", "neither id nor trigger_time")
    return trigger_time.strftime("%Y%m%dT%H%M%S.") + f"{trigger_time.microsecond // 1000:03d}"


def _version(
    message: Message, record: Mapping[str, Any], feed: Feed, kind: Kind, trigger_id: str
) -> tuple[AlertType, int, str]:
    """Alert type, serial number and identifier of a notice."""
    text = text_of(record, "alert_type").lower()
    if text and text not in _TYPES:
        raise NoticeError("bad_field", f"alert_type is {text[:60]!r}; known: {', '.join(_TYPES)}")
    number = _record_number(record)
    withdrawn = kind.retraction or marked(message, feed.retraction_when)
    withdrawn = withdrawn or _flagged(message, feed.retraction_params)
    if withdrawn or ("retracts" in feed.fields and texts_of(record, "retracts")):
        text = "retraction"
    elif kind.alert_type and text != "retraction":
        text = kind.alert_type
    alert_type, place = _TYPES[text or ("update" if number else "initial")]
    notice_id = f"{feed.prefix or feed.name}:{trigger_id}"
    if number is not None:
        return alert_type, number, f"{notice_id}:{number}"
    return alert_type, place, f"{notice_id}:{text}" if text else notice_id


def _record_number(record: Mapping[str, Any]) -> int | None:
    value = record.get("record_number")
    if value is None:
        return None
    number = finite(value, "record_number")
    if not (number.is_integer() and 0 <= number < 2**53):
        raise NoticeError("bad_field", f"record_number is {str(value)[:60]!r}; expected 0, 1, ...")
    return int(number)


def _retracts(
    record: Mapping[str, Any], feed: Feed, event_id: str, notice_id: str
) -> tuple[str, ...]:
    """What a retraction withdraws: the event, its earlier records by number, what it names.

    Earlier records are named because some missions date a retraction as what it retracts.
    """
    named = texts_of(record, "retracts") if "retracts" in feed.fields else ()
    others = []
    for text in named:
        if text.startswith("ivo://") or ":" in text:
            others.append(text)
        else:
            others.append(event_name(feed, text))
    number = _record_number(record) or 0
    stem = notice_id.rpartition(":")[0]
    earlier = [f"{stem}:{n}" for n in range(max(0, number - _MAX_RECORDS), number)]
    return tuple(dict.fromkeys((event_id, *others, *earlier)))


def _role(
    message: Message, record: Mapping[str, Any], feed: Feed, kind: Kind, trigger_id: str
) -> Role:
    tense = text_of(record, "alert_tense").lower() or "current"
    if tense not in _TENSES:
        raise NoticeError("bad_field", f"alert_tense is {tense[:60]!r}")
    mock = kind.test or is_mock(feed, trigger_id)
    if mock or marked(message, feed.test_when) or _flagged(message, feed.test_params):
        return "test"
    return _TENSES[tense]


def _place(
    message: Message, record: Mapping[str, Any], feed: Feed, kind: Kind, issued: datetime
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a notice says of the place: shape, map, address of a map, or why there is none.

    Besides, what is wrong with an embedded map in whose place something else can stand.
    """
    place, reason = None, ""
    for path in feed.unusable_params:
        if not reason and is_true(value_at(message, path)):
            reason = re.sub(r"\W+", "_", path).strip("_").lower()
    if not reason:
        place, reason = localize(record, feed, kind, issued)
    url, fault = _map_url(message, record, feed) if kind.skymap else (None, {})
    skymap = None
    try:
        skymap = map_bytes(record.get("healpix_file"))
    except NoticeError as error:
        if not (place or url):
            raise
        fault = {**fault, MAP_FAULT: error.reason}
    return {
        "localization": place,
        "skymap_fits": skymap,
        "skymap_url": url,
        "no_position_reason": "" if place or skymap or url else reason,
    }, fault


def _map_url(
    message: Message, record: Mapping[str, Any], feed: Feed
) -> tuple[str | None, dict[str, str]]:
    """Address of a sky map; none for what names no file (KM3NeT gives its home page)."""
    texts = [text_of(record, "healpix_url")]
    texts += [text_of({path: value_at(message, path)}, path) for path in feed.skymap_urls]
    return first_address(texts, feed.skymap_rules)


def _messenger(record: Mapping[str, Any], feed: Feed, kind: Kind) -> Messenger:
    said = text_of(record, "messenger").lower() if "messenger" in feed.fields else ""
    found = kind.messenger or said or feed.messenger
    if found not in _MESSENGERS:
        raise NoticeError("bad_field", f"messenger is {said[:60]!r}; known: {_MESSENGERS}")
    return found  # type: ignore[return-value]


def _instrument(message: Message, record: Mapping[str, Any], feed: Feed) -> str:
    said = texts_of(record, "instrument") if "instrument" in feed.fields else ()
    if feed.instrument_param:
        said = texts_of({"instrument": value_at(message, feed.instrument_param)}, "instrument")
    return ",".join(said) or feed.instrument


def _flagged(message: Message, paths: tuple[str, ...]) -> bool:
    return any(is_true(value_at(message, path)) for path in paths)


def _significant(message: Message, record: Mapping[str, Any], feed: Feed) -> bool:
    """What the mission says; a notice that says nothing was worth sending."""
    value = record.get("significant")
    if feed.significant:
        value = value_at(message, feed.significant)
    return value is None or is_true(value)


def _far(message: Message, record: Mapping[str, Any], feed: Feed) -> float | None:
    rate = number_of(record, "far")
    if feed.far:
        rate = number_from(value_at(message, feed.far), "far")
    return rate_hz(rate, feed.far_unit)


def _positive(record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    if isinstance(value, list) and value:
        # Of an asymmetric error the larger side.
        number: float | None = max(finite(v, name) for v in value)
    else:
        number = number_of(record, name)
    return number if number is not None and number > 0 else None


def _classes(
    message: Message, record: Mapping[str, Any], feed: Feed
) -> tuple[dict[str, float], str]:
    """Probabilities by class and by property, and the likeliest class."""
    classes = probabilities(record.get("classification"), feed.class_names)
    classes |= probabilities({p: value_at(message, p) for p in feed.classes}, feed.class_names)
    best = max(classes, key=lambda name: classes[name], default="")
    others = probabilities(record.get("properties"), feed.class_names)
    others |= probabilities({p: value_at(message, p) for p in feed.properties}, feed.class_names)
    others |= probabilities({"astro": record.get("p_astro")}, feed.class_names)
    return others | classes, best


def _details(message: Message, record: Mapping[str, Any], feed: Feed, kind: Kind) -> dict[str, str]:
    details: dict[str, str] = {}
    for ours, path in feed.details.items():
        value = value_at(message, path)
        if isinstance(value, list):
            value = ", ".join(str(v) for v in value if not isinstance(v, Mapping | list))
        if value not in (None, "") and not isinstance(value, Mapping):
            details[ours] = str(value)[:1000]
    if "source_name" in feed.fields and (names := texts_of(record, "source_name")):
        details["source_name"] = ", ".join(names)
    details["systematic_included"] = str(
        systematic_included(stated_included(record), feed, kind)
    ).lower()
    return details
