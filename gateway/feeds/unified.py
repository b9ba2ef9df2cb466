"""GCN's unified JSON (core schema and what missions add) to notices, as the feed's data say."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Circle, Ellipse, Notice, Role
from gateway.feeds.spec import Feed, Ignored, Kind, Message, checked_trigger
from gateway.feeds.voevent import YEAR_SECONDS, plain_number
from voevents.parse import check_position
from voevents.times import parse_time

_TYPES: dict[str, AlertType] = {
    "initial": "initial",
    "subsequent": "update",
    "update": "update",
    "retraction": "retraction",
}
_TENSES: dict[str, Role] = {
    "current": "observation",
    "archival": "observation",
    "injection": "test",
    "test": "test",
    "planned": "utility",
    "commanded": "utility",
}


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a JSON record that ``feed`` recognised.

    The schemas guard little, so every value is checked here. Without
    ``alert_datetime`` the time of issue is the trigger time; without ``id`` the
    trigger is named by its time.

    Raises
    ------
    NoticeError
        ``bad_field``, ``no_trigger_id``, ``bad_trigger_id``, ``bad_time``, ``bad_position``,
        ``bad_skymap``, ``no_feed`` (a kind that the feed does not know).
    """
    if message.record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    record = _renamed(message.record, feed)
    kind = _kind(record, feed)
    trigger_time = _time(record, "trigger_time")
    issued = _time(record, "alert_datetime") or trigger_time
    if issued is None:
        raise NoticeError("bad_time", "neither alert_datetime nor trigger_time")
    trigger_id = _trigger_id(record, trigger_time)
    serial = _serial(record)
    notice_id = f"{feed.prefix}:{trigger_id}" + (f":{serial}" if "record_number" in record else "")
    role = _role(record, feed, kind, trigger_id)
    if kind.ignore or role == "utility":
        return Ignored(kind.ignore or "utility", feed.name, notice_id)
    event_id = f"{feed.prefix}_{trigger_id}" if feed.prefix else trigger_id
    alert_type = _alert_type(record, kind, serial)
    place, reason = (
        (None, "retraction") if alert_type == "retraction" else localize(record, feed, kind, issued)
    )
    skymap = None if alert_type == "retraction" else map_bytes(record.get("healpix_file"))
    url = None if alert_type == "retraction" else text_of(record, "healpix_url")
    if (place or skymap or url) and trigger_time is None:
        raise NoticeError("bad_time", "a position without trigger_time")
    classification = _classification(record)
    return Notice(
        feed=feed.name,
        mission=feed.mission,
        instrument=kind.instrument or feed.instrument,
        kind=kind.name,
        notice_id=notice_id,
        event_id=event_id,
        trigger_id=trigger_id,
        messenger=kind.messenger or feed.messenger,  # type: ignore[arg-type]
        role=role,
        alert_type=alert_type,
        issued=issued,
        order=(issued.timestamp(), kind.rank, serial),
        trigger_time=trigger_time,
        localization=place,
        sha256=message.sha256,
        skymap_fits=skymap,
        skymap_url=url or None,
        far_hz=_far(record, feed),
        event_class=kind.event_class,
        classification=classification,
        retracts=(event_id,) if alert_type == "retraction" else (),
        no_position_reason="" if place or skymap or url else reason,
        details=_details(record, feed, kind),
    )


def localize(
    record: Mapping[str, Any], feed: Feed, kind: Kind, issued: datetime
) -> tuple[Circle | Ellipse | None, str]:
    """Circle or ellipse of a record (``ra``, ``dec``, ``ra_dec_error``), or why there is none."""
    if not kind.position:
        return None, kind.no_position_reason or "no_position"
    ra, dec = number_of(record, "ra"), number_of(record, "dec")
    if ra is None or dec is None:
        return None, "no_position"
    error = record.get("ra_dec_error")
    axes = list(error) if isinstance(error, list) else [error]
    radii = [_finite(v, "ra_dec_error") for v in axes if v is not None]
    missing = not radii or radii[0] <= 0
    if missing and (ra, dec) in ((-1.0, -1.0), (0.0, 0.0)):
        return None, "sentinel" if ra < 0 else "null_position"
    try:
        check_position(ra, dec)
    except NoticeError:
        if missing and (ra, dec) == (-999.0, -999.0):
            return None, "sentinel"
        raise
    if missing:
        if kind.error_deg is None:
            return None, "no_error_radius"
        radii = [kind.error_deg]
    if max(radii[:2]) >= 180:
        return None, "whole_sky"
    if len(radii) > 3 or min(radii[:2]) <= 0:
        raise NoticeError("bad_position", f"ra_dec_error is {error!r}; expected a or [a, b, angle]")
    containment = number_of(record, "containment_probability")
    if containment is None:
        containment = kind.containment or feed.containment
    if not 0 < containment < 1:
        raise NoticeError("bad_position", f"containment_probability is {containment:g}")
    if len(radii) == 1 or radii[0] == radii[1]:
        rule = next((r for r in kind.systematic if r.applies(issued, _scalars(record))), None)
        if record.get("systematic_included") is True:
            rule = None
        terms = () if rule is None else rule.terms
        return Circle(ra % 360.0, dec, radii[0], containment, terms), ""
    major, minor, angle = (*radii, 0.0)[:3]
    if minor > major:
        major, minor, angle = minor, major, angle + 90.0
    return Ellipse(ra % 360.0, dec, major, minor, angle % 180.0, containment), ""


def number_of(record: Mapping[str, Any], name: str) -> float | None:
    """A number of the record, ``None`` when absent or null.

    Raises
    ------
    NoticeError
        ``bad_field`` when it is something else.
    """
    value = record.get(name)
    if value is None:
        return None
    return _finite(value, name)


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoticeError("bad_field", f"{name} is {str(value)[:60]!r}; expected a number")
    return float(value)


def text_of(record: Mapping[str, Any], name: str) -> str:
    """A text of the record, empty when absent or null; ``bad_field`` when it is something else."""
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise NoticeError("bad_field", f"{name} is {str(value)[:60]!r}; expected text")
    return value


def map_bytes(value: Any) -> bytes | None:
    """Bytes of an embedded base64 sky map; ``bad_skymap`` when it is not base64."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise NoticeError("bad_skymap", "the embedded sky map is not text")
    try:
        # Line breaks, which RFC 2045 allows, are the only characters forgiven.
        if "\n" in value:
            value = "".join(value.split())
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoticeError("bad_skymap", f"the embedded sky map is not base64: {error}") from error


def _renamed(record: Mapping[str, Any], feed: Feed) -> Mapping[str, Any]:
    if not feed.fields:
        return record
    renamed = dict(record)
    for ours, theirs in feed.fields.items():
        renamed[ours] = record.get(theirs)
    return renamed


def _kind(record: Mapping[str, Any], feed: Feed) -> Kind:
    value = record.get(feed.kind_field) if feed.kind_field else None
    for kind in feed.kinds:
        if not kind.values or value in kind.values:
            return kind
    raise NoticeError(
        "no_feed", f"{feed.kind_field} {str(value)[:60]!r} is unknown to feed {feed.name}"
    )


def _time(record: Mapping[str, Any], name: str) -> datetime | None:
    text = text_of(record, name)
    return parse_time(text) if text else None


def _trigger_id(record: Mapping[str, Any], trigger_time: datetime | None) -> str:
    value = record.get("id")
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value.strip():
        text = value.strip()
        # IceCube's run_event is written with and without leading zeros.
        text = "_".join(map(plain_number, text.split("_"))) if "_" in text else text
        return checked_trigger(text)
    if value not in (None, []):
        raise NoticeError("bad_field", f"id is {str(value)[:60]!r}; expected text")
    if trigger_time is None:
        raise NoticeError("no_trigger_id", "neither id nor trigger_time")
    return trigger_time.strftime("%Y%m%dT%H%M%S.") + f"{trigger_time.microsecond // 1000:03d}"


def _serial(record: Mapping[str, Any]) -> int:
    value = record.get("record_number")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise NoticeError("bad_field", f"record_number is {str(value)[:60]!r}; expected 0, 1, ...")
    return value


def _role(record: Mapping[str, Any], feed: Feed, kind: Kind, trigger_id: str) -> Role:
    tense = text_of(record, "alert_tense") or "current"
    if tense not in _TENSES:
        raise NoticeError("bad_field", f"alert_tense is {tense[:60]!r}")
    if kind.test or (feed.test_triggers and re.match(feed.test_triggers, trigger_id)):
        return "test"
    return _TENSES[tense]


def _alert_type(record: Mapping[str, Any], kind: Kind, serial: int) -> AlertType:
    text = text_of(record, "alert_type")
    if text and text not in _TYPES:
        raise NoticeError("bad_field", f"alert_type is {text[:60]!r}")
    if kind.retraction:
        return "retraction"
    return _TYPES[text] if text else ("update" if serial else "initial")


def _far(record: Mapping[str, Any], feed: Feed) -> float | None:
    rate = number_of(record, feed.far or "far")
    if rate is None or rate < 0:
        return None
    return rate / YEAR_SECONDS if feed.far_unit == "per_year" else rate


def _classification(record: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    astro = number_of(record, "p_astro")
    if astro is not None and 0 <= astro <= 1:
        found["astro"] = astro
    classes = record.get("classification")
    if isinstance(classes, Mapping):
        for name in classes:
            value = number_of(classes, name)
            if value is not None and 0 <= value <= 1:
                found[str(name)] = value
    return found


def _scalars(record: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in record.items() if isinstance(v, str | int | float)}


def _details(record: Mapping[str, Any], feed: Feed, kind: Kind) -> dict[str, str]:
    details: dict[str, str] = {}
    for ours, theirs in feed.details.items():
        value = record.get(theirs)
        if isinstance(value, list):
            value = ", ".join(str(v) for v in value)
        if value not in (None, "") and not isinstance(value, Mapping):
            details[ours] = str(value)
    included = kind.systematic_included
    if included is None:
        included = feed.systematic_included
    included = record.get("systematic_included", included) is True
    details["systematic_included"] = str(included).lower()
    return details
