"""Members of a JSON record, each of the type that it must have."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from crossmatch.errors import NoticeError
from gateway.feeds.parsers.readings import probability


def number_of(record: Mapping[str, Any], name: str) -> float | None:
    """A number of the record, ``None`` when absent or null.

    Raises
    ------
    NoticeError
        ``bad_field`` when it is something else.
    """
    value = record.get(name)
    return None if value is None else finite(value, name)


def finite(value: Any, name: str) -> float:
    """``value`` if it is a finite number, else ``bad_field``."""
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


def texts_of(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Texts of the record, one or a list of them, whole numbers included; else ``bad_field``."""
    value = record.get(name)
    if value is None or value == "":
        return ()
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int) and not isinstance(v, bool) for v in items):
        raise NoticeError("bad_field", f"{name} is {str(value)[:60]!r}; expected text")
    return tuple(text for text in (str(v).strip() for v in items) if text)


def probabilities(table: Any, names: Mapping[str, str]) -> dict[str, float]:
    """Probabilities of an object by ``names``, where a name is there; others are left out.

    Raises
    ------
    NoticeError
        ``bad_field`` for what is no number.
    """
    found: dict[str, float] = {}
    for name in table if isinstance(table, Mapping) else ():
        value = probability(number_of(table, name))
        if value is not None:
            found[names.get(name, str(name))] = value
    return found


MAP_FAULT = "map_fault"
"""Among the details of a notice: why its embedded map was not used, but its circle was."""


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
