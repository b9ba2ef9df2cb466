"""JSON as strictly as a notice needs: no NaN, no repeated keys, bounded size and depth."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from crossmatch.errors import NoticeError

# Two multi-order maps of a million cells in base64; GCN's own limit is 4 MiB a message.
MAX_BYTES = 128 * 1024 * 1024
MAX_DEPTH = 64
# Identifiers of 39 digits (128 bits) occur in real alerts; the work on thousands is not linear.
MAX_DIGITS = 64

# An escape that may stand for NUL or for half of a surrogate pair.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")


def load_object(data: bytes) -> dict[str, Any]:
    """The JSON object that ``data`` (UTF-8) holds.

    Raises
    ------
    NoticeError
        With the reason ``too_large``, ``too_deep``, ``json_broken``, ``json_nan``,
        ``json_number``, ``json_duplicate_key``, ``json_text`` (NUL or a lone
        surrogate in a text, which could not go on in XML or UTF-8) or ``json_not_object``.
    """
    if len(data) > MAX_BYTES:
        raise NoticeError("too_large", f"{len(data)} bytes; a JSON notice may have {MAX_BYTES}")
    try:
        value = _DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NoticeError("json_broken", f"not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise NoticeError("json_broken", str(error)) from error
    except RecursionError as error:
        raise NoticeError("too_deep", f"more than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise NoticeError("json_not_object", f"found {type(value).__name__}, expected an object")
    _check_depth(value)
    if _SUSPECT.search(data):
        _check_texts(value)
    return value


def _check_texts(value: Any) -> None:
    """Refuse texts that could not go on in UTF-8 or XML; the depth is bounded by now."""
    if isinstance(value, str):
        if found := _UNUSABLE.search(value):
            raise NoticeError("json_text", f"a text has the character U+{ord(found[0]):04X}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else item)
        level = [v for v in inner if isinstance(v, dict | list)]
        if not level:
            return
    raise NoticeError("too_deep", f"more than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NoticeError("json_duplicate_key", f"{twice[:60]!r} occurs more than once")
    return found


def _constant(name: str) -> float:
    raise NoticeError("json_nan", f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise NoticeError("json_number", f"an integer of {len(text)} digits; at most {MAX_DIGITS}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NoticeError("json_nan", f"{text[:40]} is beyond the range of a double")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_constant,
    parse_int=_integer,
    parse_float=_float,
    strict=True,
)
