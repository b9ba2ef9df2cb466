"""Bounds of what a notice may say: nothing that goes on to topics is as long as a stranger likes.

What describes is cut, with a mark; what names something is never cut, because two names
that begin alike would become one: a notice with such a name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossmatch.errors import NoticeError
from crossmatch.model import Notice

MARK = "…"
MAP_ADDRESS = "map_address"
"""Among the details of a notice: why the address of a map was not taken."""
LONGEST_ADDRESS = 2048
ADDRESS_TOO_LONG = f"longer than {LONGEST_ADDRESS:,} characters"

MAX_NAME = 1000
MAX_NAMES = 1000
MAX_NAMES_BYTES = 128 * 1024

_WORDS = ("mission", "instrument", "kind", "event_class", "no_position_reason")
_NO_MAP = "map_address_too_long"
_MAX_WORDS = 200
_MAX_KEY = 100
_MAX_VALUE = 1000
_MAX_DETAILS = 100
_MAX_CLASSES = 100


def bounded(notice: Notice) -> Notice:
    """``notice`` with all free texts within bounds; itself when they are.

    Mission, instrument, kind, class and reason keep 200 characters, keys of details and
    names of classes 100, details 1,000; 100 details and the 100 likeliest classes stay. An
    address of a map over 2,048 characters is none, and ``details`` say so.

    Raises
    ------
    NoticeError
        ``name_too_long``: an identifier of more than 1,000 characters;
        ``too_many_names``: more than 1,000 citations or retractions, or 128 KiB of them.
    """
    for name in (notice.notice_id, notice.event_id, notice.trigger_id):
        _check_name(name)
    for names in (notice.cites, notice.retracts):
        _check_names(names)
    changes: dict[str, Any] = {}
    for field in _WORDS:
        text = getattr(notice, field)
        if len(text) > _MAX_WORDS:
            changes[field] = shortened(text, _MAX_WORDS)
    details = notice.details
    if notice.skymap_url is not None and len(notice.skymap_url) > LONGEST_ADDRESS:
        details = {MAP_ADDRESS: ADDRESS_TOO_LONG, **details}
        changes |= {"skymap_url": None, "details": details}
        if notice.localization is None and notice.skymap_fits is None:
            changes.setdefault("no_position_reason", notice.no_position_reason or _NO_MAP)
    if _is_much(details, _MAX_DETAILS) or any(len(v) > _MAX_VALUE for v in details.values()):
        changes["details"] = _few_details(details)
    if _is_much(notice.classification, _MAX_CLASSES):
        changes["classification"] = _few_classes(notice.classification)
    # Nearly all notices are within bounds, and a copy takes as long as all that looking.
    return replace(notice, **changes) if changes else notice


def shortened(text: str, most: int) -> str:
    """``text`` of at most ``most`` characters, a mark the last where something is missing.

    Examples
    --------
    >>> shortened("magnetar", 5), shortened("FRB", 5)
    ('magn…', 'FRB')
    """
    return text if len(text) <= most else text[: most - 1] + MARK


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME:
        raise NoticeError(
            "name_too_long",
            f"{name[:60]!r}… has {len(name):,} characters; an identifier may have {MAX_NAME:,}",
        )


def _check_names(names: tuple[str, ...]) -> None:
    if len(names) > MAX_NAMES:
        raise NoticeError(
            "too_many_names", f"{len(names):,} other notices are named; at most {MAX_NAMES:,}"
        )
    for name in names:
        _check_name(name)
    if (size := sum(len(name.encode()) for name in names)) > MAX_NAMES_BYTES:
        raise NoticeError(
            "too_many_names",
            f"the names of other notices have {size:,} bytes; at most {MAX_NAMES_BYTES:,}",
        )


def _is_much(table: Mapping[str, Any], most: int) -> bool:
    return len(table) > most or any(len(name) > _MAX_KEY for name in table)


def _few_details(details: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in details.items():
        if len(found) == _MAX_DETAILS:
            found[MARK] = f"{len(details) - _MAX_DETAILS} more"
            break
        found.setdefault(shortened(name, _MAX_KEY), shortened(text, _MAX_VALUE))
    return found


def _few_classes(classes: Mapping[str, float]) -> dict[str, float]:
    kept = list(classes.items())
    if len(kept) > _MAX_CLASSES:
        kept = sorted(kept, key=lambda item: -item[1])[:_MAX_CLASSES]
    found: dict[str, float] = {}
    for name, probability in kept:
        short = shortened(name, _MAX_KEY)
        found[short] = max(probability, found.get(short, 0.0))
    return found
