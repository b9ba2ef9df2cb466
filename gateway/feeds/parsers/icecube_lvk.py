"""IceCube's neutrino searches around gravitational waves: which neutrino is the region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import Notice
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers import unified
from gateway.feeds.parsers.members import number_of
from gateway.feeds.parsers.readings import number_from
from gateway.feeds.spec import Feed

_P_VALUES = ("event_pval_generic", "event_pval_bayesian")


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a search, placed at the neutrino that chance explains least.

    Raises
    ------
    NoticeError
        As :func:`gateway.feeds.parsers.unified.parse`.
    """
    record = message.record
    if record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    events = record.get("coincident_events") or []
    if not isinstance(events, list) or not all(isinstance(e, Mapping) for e in events):
        raise NoticeError("bad_field", "coincident_events is no list of objects")
    events = sorted(events, key=_p_value)
    found = unified.parse(replace(message, record={**record, "coincident_events": events}), feed)
    if isinstance(found, Ignored) or found.alert_type == "retraction":
        return found
    p_values = [number_of(record, name) for name in ("pval_generic", "pval_bayesian")]
    least = min((p for p in p_values if p is not None), default=1.0)
    limit = number_from(feed.options.get("max_p_value", "1"), "max_p_value")
    return replace(
        found,
        significant=least <= (1.0 if limit is None else limit),
        no_position_reason="" if events else "no_coincidence",
        details={**found.details, **_others(events[1:])},
    )


def _p_value(event: Mapping[str, Any]) -> float:
    return min((p for p in (number_of(event, n) for n in _P_VALUES) if p is not None), default=2.0)


def _others(events: list[Mapping[str, Any]]) -> dict[str, str]:
    """The neutrinos that are not the region, as text: place, error, p-value."""
    texts = []
    for event in events[:20]:
        place = event.get("localization")
        place = place if isinstance(place, Mapping) else {}
        numbers = [number_of(place, name) for name in ("ra", "dec")]
        numbers.append(_p_value(event))
        texts.append(" ".join(f"{math.nan if n is None else n:g}" for n in numbers))
    return {"other_neutrinos": "; ".join(texts)} if texts else {}
