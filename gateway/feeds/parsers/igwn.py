"""LIGO/Virgo/KAGRA alerts as JSON (``igwn.gwalert``), the sky map inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import AlertType, Notice
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers.members import map_bytes, number_of, probabilities, text_of
from gateway.feeds.parsers.readings import checked_trigger, is_mock, rate_hz
from gateway.feeds.spec import Feed
from voevents.times import parse_time

# Rank among alerts created in the same second, and what they are to us.
_TYPES: dict[str, tuple[int, AlertType]] = {
    "EARLYWARNING": (0, "initial"),
    "EARLY_WARNING": (0, "initial"),
    "PRELIMINARY": (1, "initial"),
    "INITIAL": (2, "initial"),
    "UPDATE": (3, "update"),
    "RETRACTION": (4, "retraction"),
}


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of one alert (IGWN Public Alerts User Guide, "Notice Contents").

    A retraction has no event. Mock events have ids ``M...`` (tests ``T...``) or the search
    ``MDC``. The localisation is the event's own map: an external coincidence may be
    chance, and its combined map would then exclude the counterpart. With ``combined_map =
    "true"`` among the feed's options the combined map is taken where there is one, and
    ``details`` say so.

    Raises
    ------
    NoticeError
        ``missing_field``, ``bad_field``, ``bad_trigger_id``, ``bad_time``, ``bad_skymap``.
    """
    record = message.record
    if record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    superevent = checked_trigger(_required(record, "superevent_id"))
    alert = _alert(record)
    rank, alert_type = _TYPES[alert]
    created = _required(record, "time_created")
    issued = parse_time(created)
    event = _event(record, alert)
    urls = _table(record, "urls")
    details = _details(record, event, urls)
    combined = _combined(record, feed) if event else None
    if combined is not None:
        details["skymap"] = "combined"
    skymap = combined or map_bytes(event.get("skymap"))
    skymap_url = (text_of(urls, "skymap") or None) if alert_type != "retraction" else None
    classification, event_class = _classification(event)
    mock = is_mock(feed, superevent, "[MT]") or details.get("search") == "MDC"
    return Notice(
        feed=feed.name,
        mission=feed.mission,
        instrument=_instruments(event) or feed.instrument,
        kind=alert.replace("_", "").lower(),
        notice_id=f"{superevent}-{alert}-{created}",
        event_id=superevent,
        trigger_id=superevent,
        messenger="gw",
        role="test" if mock else "observation",
        alert_type=alert_type,
        issued=issued,
        order=(issued.timestamp(), rank, 0),
        trigger_time=parse_time(_required(event, "time")) if event else None,
        localization=None,
        sha256=message.sha256,
        skymap_fits=skymap,
        skymap_url=skymap_url,
        significant=event.get("significant", True) is True,
        far_hz=rate_hz(number_of(event, "far"), "Hz"),
        event_class=event_class or text_of(event, "group"),
        classification=classification,
        retracts=(superevent,) if alert_type == "retraction" else (),
        no_position_reason=_no_position(alert_type, bool(skymap or skymap_url)),
        details=details,
    )


def _alert(record: Mapping[str, Any]) -> str:
    alert = _required(record, "alert_type").upper()
    if alert not in _TYPES:
        raise NoticeError("bad_field", f"alert_type is {alert[:40]!r}; known: {', '.join(_TYPES)}")
    return alert


def _combined(record: Mapping[str, Any], feed: Feed) -> bytes | None:
    """Map of the event and its external coincidence together, where the feed wants it."""
    if feed.options.get("combined_map", "false").lower() != "true":
        return None
    return map_bytes(_table(record, "external_coinc").get("combined_skymap"))


def _no_position(alert_type: AlertType, has_map: bool) -> str:
    if alert_type == "retraction":
        return "retraction"
    return "" if has_map else "no_skymap"


def _event(record: Mapping[str, Any], alert: str) -> Mapping[str, Any]:
    event = _table(record, "event")
    if not event and alert != "RETRACTION":
        raise NoticeError("missing_field", f"event is empty in an alert of type {alert}")
    return {} if alert == "RETRACTION" else event


def _table(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise NoticeError("bad_field", f"{name} is {str(value)[:40]!r}; expected an object")
    return value


def _required(record: Mapping[str, Any], name: str) -> str:
    text = text_of(record, name).strip()
    if not text:
        raise NoticeError("missing_field", f"{name} is missing")
    return text


def _instruments(event: Mapping[str, Any]) -> str:
    names = event.get("instruments") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise NoticeError("bad_field", "instruments is not a list of names")
    return ",".join(names)


def _classification(event: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Class probabilities and source properties together, and the likeliest class."""
    classes = probabilities(_table(event, "classification"), {})
    best = max(classes, key=lambda k: classes[k], default="")
    return classes | probabilities(_table(event, "properties"), {}), best


def _details(
    record: Mapping[str, Any], event: Mapping[str, Any], urls: Mapping[str, Any]
) -> dict[str, str]:
    details = {name: text_of(event, name) for name in ("group", "pipeline", "search")}
    for name in ("duration", "central_frequency"):
        if (value := number_of(event, name)) is not None:
            details[name] = repr(value)
    details["gracedb"] = text_of(urls, "gracedb")
    coinc = _table(record, "external_coinc")
    for name, value in coinc.items():
        if name == "combined_skymap":
            details["external_combined_skymap"] = "embedded" if value else ""
        elif isinstance(value, str | int | float):
            details[f"external_{name}"] = str(value)
    return {name: value for name, value in details.items() if value}
