"""GCN's unified JSON of missions without a feed of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import Notice
from gateway.feeds.message import Ignored, Message
from gateway.feeds.parsers import unified
from gateway.feeds.parsers.members import texts_of
from gateway.feeds.spec import Feed

_SCHEMA = re.compile(r"/notices/([A-Za-z0-9_-]{1,40})/(?:([A-Za-z0-9_-]{1,40})/)?")
_TOPIC = re.compile(r"gcn\.notices\.([A-Za-z0-9_-]{1,40})(?:\.([A-Za-z0-9_-]{1,40}))?")
_BANDS = ("spectral_band", "rate_energy_range", "image_energy_range", "flux_spectral_band")
# Burst monitors work above this, X-ray telescopes below.
_HARD_KEV = 10.0


def parse(message: Message, feed: Feed) -> Notice | Ignored:
    """Notice of a record that follows the core schema; the record says whose it is.

    Raises
    ------
    NoticeError
        As :func:`gateway.feeds.parsers.unified.parse`.
    """
    if message.record is None:
        raise NoticeError("not_json", f"feed {feed.name} expects a JSON object")
    mission, instrument = _reporter(message.record, message.topic, feed)
    return unified.parse(
        message, _feed_of(feed, mission, instrument, messenger_of(message.record, feed.messenger))
    )


def _feed_of(feed: Feed, mission: str, instrument: str, messenger: str) -> Feed:
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", mission).strip("-")[:40] or feed.mission
    return replace(feed, mission=mission, instrument=instrument, messenger=messenger, prefix=prefix)


def _reporter(record: Mapping[str, Any], topic: str, feed: Feed) -> tuple[str, str]:
    """Mission and instrument: what the record says, else where its schema or topic lies."""
    said = ", ".join(texts_of(record, "mission"))[:80]
    instrument = ", ".join(texts_of(record, "instrument"))[:80]
    where = _SCHEMA.search(str(record.get("$schema", "")))
    where = where or _TOPIC.fullmatch(topic)
    mission = said or (where[1] if where else feed.mission)
    return mission, instrument or (where[2] or "" if where else "")


def messenger_of(record: Mapping[str, Any], otherwise: str) -> str:
    """Messenger of a record by what it says of itself; ``otherwise`` when that is not enough.

    Examples
    --------
    >>> messenger_of({"messenger": "EM", "rate_energy_range": [50, 300]}, "optical")
    'grb'
    >>> messenger_of({"messenger": "Neutrino"}, "optical"), messenger_of({}, "optical")
    ('neutrino', 'optical')
    """
    said = str(record.get("messenger", "")).lower()
    if said in ("gw", "neutrino"):
        return said
    unit = record.get("spectral_band_units", "keV")
    if unit == "MHz" or record.get("dm") is not None:
        return "frb"
    if unit != "keV":
        return "optical" if unit == "nm" else otherwise
    for name in _BANDS:
        band = record.get(name)
        if isinstance(band, list) and band and isinstance(band[0], int | float):
            return "grb" if band[0] >= _HARD_KEV else "xray"
    return otherwise
