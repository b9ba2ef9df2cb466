"""What was understood of a message, as plain values: a row for ``feeds check``, all for ``try``."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from crossmatch import sky
from crossmatch.errors import Rejected
from crossmatch.model import Circle, Ellipse, Localization, Notice, Polygon, Region
from crossmatch.region import area_deg2, best_position
from gateway.feeds.message import Message
from gateway.feeds.paths import value_at
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed
from gateway.offline.reasons import sentence
from gateway.understand import Understood
from voevents.digest import event_digest

_ISO_TIME = re.compile(rb"<(?:[\w.-]+:)?ISOTime[^>]*>\s*([^<]*?)\s*<")
_RADIUS = re.compile(rb"<(?:[\w.-]+:)?Error2Radius[^>]*>\s*([^<]*?)\s*<")
_UNIT = re.compile(rb"<(?:[\w.-]+:)?Position2D[^>]*?\sunit\s*=\s*[\"']([^\"']*)[\"']")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One notice as a line of a table; programs rely on the names and their order.

    Texts are empty and numbers and the time ``None`` where there is nothing. ``outcome`` is
    ``region``, ``no_position``, ``retraction``, ``ignored`` or ``rejected``. The position is
    the centre, of maps the most probable one; ``radius90_deg`` the radius that holds 90 %,
    statistical and systematic, of ellipses the semi-major axis, of maps and polygons none.
    """

    path: str
    feed: str = ""
    outcome: str
    reason: str = ""
    event_id: str = ""
    kind: str = ""
    role: str = ""
    trigger_time_utc: str | None = None
    ra_deg: float | None = None
    dec_deg: float | None = None
    radius90_deg: float | None = None
    area90_deg2: float | None = None
    retracts: str = ""
    duplicate_of: str = ""


COLUMNS = tuple(Row.__dataclass_fields__)
"""Names of the columns, in order."""


def row_of(path: str, found: Understood) -> Row:
    """Row of one message; whether it is a repeat is not known yet."""
    notice, region = found.notice, found.region
    if notice is None:
        return _bare_row(path, found)
    row = Row(
        path=path,
        feed=found.feed,
        outcome=found.outcome,
        reason=found.reason,
        event_id=notice.event_id,
        kind=notice.kind,
        role=notice.role,
        trigger_time_utc=None if notice.trigger_time is None else iso(notice.trigger_time),
        retracts=" ".join(notice.retracts),
    )
    if region is None:
        return row
    ra, dec = best_position(region.localization)
    return replace(
        row,
        ra_deg=ra,
        dec_deg=dec,
        radius90_deg=radius90_deg(region.localization, region.area90_deg2),
        area90_deg2=region.area90_deg2,
    )


def _bare_row(path: str, found: Understood) -> Row:
    """Row of what is no notice, with what it says of itself."""
    row = Row(path=path, feed=found.feed, outcome=found.outcome, reason=found.reason)
    said = found.ignored
    if said is None:
        return row
    return replace(
        row,
        event_id=said.event_id,
        kind=said.kind,
        role=said.role,
        trigger_time_utc=None if said.trigger_time is None else iso(said.trigger_time),
    )


def identity(raw: bytes, found: Understood) -> str:
    """Digest that is the same for the same message: as ``Message.sha256``."""
    if found.notice is not None:
        return found.notice.sha256
    if raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return event_digest(raw).hex()
    return hashlib.sha256(raw).hexdigest()


def radius90_deg(localization: Localization, area90_deg2: float) -> float | None:
    """Radius that holds 90 % of a circle, semi-major axis of an ellipse; ``None`` of others.

    A circle's follows from its area, that of a cap: 4 pi sin^2(r / 2).
    """
    if area90_deg2 >= sky.WHOLE_SKY_DEG2 and isinstance(localization, Circle | Ellipse):
        return 180.0
    if isinstance(localization, Circle):
        return math.degrees(2 * math.asin(math.sqrt(area90_deg2 / sky.WHOLE_SKY_DEG2)))
    if isinstance(localization, Ellipse):
        scale = math.sqrt(math.log(0.1) / math.log1p(-localization.containment))
        return scale * max(localization.semi_major_deg, localization.semi_minor_deg)
    return None


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, or microseconds where there are any."""
    utc = moment.astimezone(UTC)
    unit = "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.isoformat(timespec=unit).removesuffix("+00:00") + "Z"


def details(registry: Registry, raw: bytes, row: Row, found: Understood, *, told: str) -> Any:
    """All that was understood of one message: the row and more, as plain values.

    Parameters
    ----------
    told : str
        Name of the feed that was asked for; empty when it was recognised.

    Returns
    -------
    dict of str to plain values
    """
    feed = _feed(registry, found.feed)
    about: dict[str, Any] = asdict(row) | {
        "explanation": _why(found, feed, raw, told),
        "feed_version": found.feed_version or ("" if feed is None else feed.version),
        "feed_file": "" if feed is None else feed.source,
        "recognised": bool(found.feed) and not told,
        "paused": found.feed in registry.paused,
        "streams": list(found.streams),
        "sha256": identity(raw, found),
        "bytes": len(raw),
    }
    if found.ignored is not None:
        about["notice_id"] = found.ignored.notice_id
    if found.notice is not None:
        about |= _of_notice(found.notice) | _as_sent(registry, raw, found, told)
    if found.region is not None:
        about |= _of_region(found.region)
    return about


def explanation(found: Understood) -> str:
    """A sentence on why no region came of it; empty for regions."""
    if found.outcome == "region":
        return ""
    if found.rejected is not None:
        return found.rejected.detail
    if found.outcome == "retraction" and found.notice is not None:
        return f"It takes back what was said before of {found.notice.event_id}."
    return sentence(found.reason)


def _why(found: Understood, feed: Feed | None, raw: bytes, told: str) -> str:
    if told and feed is not None and found.reason == "no_feed" and (why := mismatch(feed, raw)):
        return why
    return explanation(found)


def written_as(raw: bytes) -> str:
    """What bytes look like: ``XML``, ``JSON``, or empty for neither."""
    head = raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"<", b"\xff\xfe", b"\xfe\xff", b"\0<", b"\0\0\0<")):
        return "XML"
    return "JSON" if head.startswith((b"{", b"[")) else ""


def mismatch(feed: Feed, raw: bytes) -> str:
    """Why a feed cannot read a message at all: it reads another format; empty if it can."""
    reads = "XML" if feed.format == "voevent" else "JSON"
    found = written_as(raw)
    if feed.format == "other" or not found or found == reads:
        return ""
    article = "VOEvents (XML)" if reads == "XML" else "JSON"
    return f"feed {feed.name} reads {article}, this is {found}"


def _feed(registry: Registry, name: str) -> Feed | None:
    return next((f for f in registry.feeds if f.name == name), None)


def _of_notice(notice: Notice) -> dict[str, Any]:
    extra = dict(notice.details)
    return {
        "notice_id": notice.notice_id,
        "trigger_id": notice.trigger_id,
        "mission": notice.mission,
        "instrument": notice.instrument,
        "messenger": notice.messenger,
        "alert_type": notice.alert_type,
        "issued": iso(notice.issued),
        "significant": notice.significant,
        "known_source": notice.known_source,
        "far_hz": notice.far_hz,
        "event_class": notice.event_class,
        "classification": dict(notice.classification),
        "distance_mpc": notice.distance_mpc,
        "distance_error_mpc": notice.distance_error_mpc,
        "skymap_url": notice.skymap_url,
        "cites": list(notice.cites),
        "retracted": list(notice.retracts),
        "notes": extra.pop("notes", ""),
        "details": extra,
    }


def _of_region(region: Region) -> dict[str, Any]:
    trigger, window = region.trigger_time, region.window
    return {
        "localized_by": region.localized_by,
        "skymap_sha256": region.skymap_sha256,
        "error_used": _error_used(region),
        "area50_deg2": area_deg2(region.localization, 0.5),
        "chain": region.chain,
        "level": region.level,
        "window": {
            "start_days": window.start_days,
            "end_days": window.end_days,
            "start": iso(trigger + timedelta(days=window.start_days)),
            "end": iso(trigger + timedelta(days=window.end_days)),
        },
        "expires": iso(region.expires),
    }


def _error_used(region: Region) -> dict[str, Any]:
    """The shape in degrees as matching takes it."""
    place = region.localization
    used: dict[str, Any] = {"shape": type(place).__name__.lower()}
    used["systematic_included"] = region.systematic_included
    if isinstance(place, Circle):
        alone = replace(place, systematic=())
        used |= {
            "radius90_deg": radius90_deg(place, region.area90_deg2),
            "radius90_statistical_deg": radius90_deg(alone, area_deg2(alone, 0.9)),
            "systematic": [asdict(term) for term in place.systematic],
        }
    elif isinstance(place, Ellipse):
        scale = math.sqrt(math.log(0.1) / math.log1p(-place.containment))
        used |= {
            "semi_major90_deg": scale * place.semi_major_deg,
            "semi_minor90_deg": scale * place.semi_minor_deg,
            "position_angle_deg": place.position_angle_deg,
        }
    elif isinstance(place, Polygon):
        used |= {"vertices_deg": [list(v) for v in place.vertices_deg]}
    else:
        used |= {"cells": len(place.start)}
    return used


def _as_sent(registry: Registry, raw: bytes, found: Understood, told: str) -> dict[str, Any]:
    """Trigger time and error in the words of the message, as far as they can be pointed at."""
    notice, feed = found.notice, _feed(registry, found.feed)
    assert notice is not None
    try:
        message = registry.route(raw, feed=told).message
    except Rejected:
        return {}
    place = notice.localization
    value, unit = (None, None) if feed is None else _sent_error(message, feed)
    if value is None or not isinstance(place, Circle | Ellipse):
        error = None
    else:
        error = {"value": value, "unit": unit, "containment": place.containment}
    time = None if feed is None else _sent_time(message, feed)
    return {"trigger_time_sent": time, "error_sent": error}


def _sent_time(message: Message, feed: Feed) -> Any:
    if (path := feed.fields.get("trigger_time")) is not None:
        return _plain(value_at(message, path))
    if message.packet is not None:
        return _first(_ISO_TIME, message.raw)
    record: Mapping[str, Any] = message.record or {}
    event = record.get("event")
    if feed.format == "igwn" and isinstance(event, Mapping):
        return _plain(event.get("time"))
    return _plain(record.get("trigger_time"))


def _sent_error(message: Message, feed: Feed) -> tuple[Any, str]:
    if (path := feed.fields.get("ra_dec_error")) is not None:
        return _plain(value_at(message, path)), feed.error_unit
    if message.packet is not None:
        unit = _first(_UNIT, message.raw) or feed.error_unit
        return _first(_RADIUS, message.raw), unit
    return _plain((message.record or {}).get("ra_dec_error")), feed.error_unit


def _first(pattern: re.Pattern[bytes], raw: bytes) -> str | None:
    found = pattern.search(raw)
    return None if found is None else found.group(1).decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """``value`` if it is text, a number or a short list; else its beginning as text."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and len(value) <= 8:
        return [_plain(v) for v in value]
    return str(value)[:80]
