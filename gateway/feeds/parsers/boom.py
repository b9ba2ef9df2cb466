"""BOOM's counterpart notices: one or several optical transients in one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from crossmatch import sky
from crossmatch.errors import NoticeError
from crossmatch.model import Circle, MultiOrderMap, Notice
from crossmatch.region import cover_ranges, density_per_sr
from crossmatch.skymap import checked_map, write_skymap
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers import unified
from gateway.feeds.parsers.members import number_of, text_of, texts_of
from gateway.feeds.parsers.readings import checked_trigger, number_from
from gateway.feeds.spec import Feed
from voevents.parse import check_position

# Cells of 0.2 arcsec: some hundred for each target, so that leaving one out costs little.
_CELL = 4 ** (29 - 20)
_ERROR_DEG = 1 / 3600
_CONTAINMENT = 0.9
_MAX_TARGETS = 100
_MAX_NAMED = 4


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of one or several counterparts; several are one map, each with an equal part.

    The event is named by its targets, sorted; beyond four by the first and their number.

    Raises
    ------
    NoticeError
        ``bad_field``, ``no_trigger_id``, ``bad_position``, and as
        :func:`gateway.feeds.parsers.unified.parse`.
    """
    record = message.record
    if record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    data = record.get("data")
    targets = data.get("targets") if isinstance(data, Mapping) else None
    if not isinstance(targets, list) or not all(isinstance(t, Mapping) for t in targets):
        raise NoticeError("bad_field", "data.targets is no list of objects")
    if not 1 <= len(targets) <= _MAX_TARGETS:
        raise NoticeError("bad_field", f"{len(targets)} targets; expected 1 to {_MAX_TARGETS}")
    targets = sorted(targets, key=_name)
    radius = number_from(feed.options.get("error_deg"), "error_deg") or _ERROR_DEG
    core = {**record, "id": _event(targets)}
    if len(targets) == 1:
        one = targets[0]
        core |= {"ra": one.get("ra"), "dec": one.get("dec")}
        core |= {"ra_dec_error": one.get("ra_dec_error", radius)}
        core |= {"classification": one.get("classification_scores")}
    found = unified.parse(replace(message, record=core), feed)
    if isinstance(found, Ignored) or found.alert_type == "retraction":
        return found
    found = replace(found, details={**found.details, **_details(targets)})
    if len(targets) == 1:
        return found
    skymap = write_skymap(_together(targets, radius), {"OBJECT": found.event_id[:60]})
    return replace(found, skymap_fits=skymap, no_position_reason="")


def _name(target: Mapping[str, Any]) -> str:
    names = texts_of(target, "event_name")
    if not names:
        raise NoticeError("no_trigger_id", "a target has no event_name")
    return checked_trigger(names[0])


def _event(targets: list[Mapping[str, Any]]) -> str:
    names = list(map(_name, targets))
    if len(names) <= _MAX_NAMED:
        return checked_trigger("+".join(names))
    return checked_trigger(f"{names[0]}+{len(names) - 1}")


def _details(targets: list[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the targets, and of the events whose counterparts they may be."""
    events: dict[str, None] = {}
    for target in targets:
        matches = target.get("gcn_crossmatch") or []
        if not isinstance(matches, list) or not all(isinstance(m, Mapping) for m in matches):
            raise NoticeError("bad_field", "gcn_crossmatch is no list of objects")
        events |= dict.fromkeys(filter(None, (text_of(m, "ref_ID") for m in matches)))
    details = {"targets": ", ".join(map(_name, targets))}
    return details | ({"counterpart_of": ", ".join(events)} if events else {})


def _together(targets: list[Mapping[str, Any]], radius_deg: float) -> MultiOrderMap:
    """Map of all targets, each with an equal part of the probability."""
    cells, density = [], []
    for target in targets:
        ra, dec = number_of(target, "ra"), number_of(target, "dec")
        if ra is None or dec is None:
            raise NoticeError("bad_position", f"target {_name(target)} has no position")
        check_position(ra, dec)
        circle = Circle(ra % 360.0, dec, radius_deg, _CONTAINMENT)
        ranges = cover_ranges(circle, 0.999)
        around = np.concatenate([np.arange(a // _CELL, -(-b // _CELL)) for a, b in ranges.tolist()])
        start = np.unique(around) * _CELL
        weight = density_per_sr(circle, *sky.cell_centres(start, start + _CELL))
        cells.append(start)
        density.append(weight / (weight.sum() * _CELL * sky.PIXEL_SR * len(targets)))
    start, where = np.unique(np.concatenate(cells), return_inverse=True)
    total = np.asarray(np.bincount(where, np.concatenate(density)), np.float64)
    return checked_map(start, start + _CELL, total, [], "")
