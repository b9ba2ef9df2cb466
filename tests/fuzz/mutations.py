"""Damaged notices: what goes wrong between a mission and us, and what somebody might try.

Everything is drawn from the ``random.Random`` that is passed in, so that a seed gives the
same mutants everywhere.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    "NaN", "nan", "inf", "-inf", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "-1e308",
    "1e-308", "5e-324", "0", "-0", "0.0", "-1", "-1.0", "-999", "-999.0", "360", "360.0",
    "359.99999999999999", "90", "-90", "90.0000001", "180", "720", "1e-9", "1" * 40, "9" * 400,
    "1" * 5000, "0." + "3" * 5000, "1_000", "0x10", "1,5", "+5", " 7 ", "٣", "--", "", "None",
    "null", "2147483648", "9223372036854775808", "18446744073709551616",
)  # fmt: skip
TIMES = (
    "2022-01-00T00:00:00", "2016-12-31T23:59:60Z", "1970-01-01T00:00:00Z", "2100-01-01T00:00:00",
    "9999-12-31T23:59:60", "0001-01-01T00:00:00", "2024-02-30T00:00:00", "2024-01-01",
    "2024-01-01T00:00:00+09:00", "2024-01-01T00:00:00+99:99", "2024-01-01T24:00:00", "yesterday",
    "2023-05-09T8582729.92", "2024-01-01T00:00:00." + "9" * 30, "99999-01-01T00:00:00",
    "2024-01-01T00:00:00 TDB", "2024-01-01T00:00:00\n", "1704067200",
)  # fmt: skip
WORDS = (
    "test", "observation", "prediction", "utility", "retraction", "supersedes", "true", "false",
    "TDB-ICRS-BARY", "UTC-GAL-GEO", "UTC-FK5-GEO", "ICRS", "-", "arcmin", "rad", "furlong", "../..",
    "a b", "ivo://", "ivo://a/b#c", "x" * 3000, "\u0000", "\ud800", "\U0001f600", "\u202e", "&amp;",
    "]]>", "<!DOCTYPE a>", "%s%n", "{}", "'; --", "S190425z", "MS123456a", "http://", "file:///",
    "RETRACTION", "EARLYWARNING", "unavailable", "pointing_direction",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 360, 720, -999, 1e308, -1e308, 1e-308, 10**38, 10**63, 10**70,
    2**53, 2**63, 2**64, "", " ", "NaN", "1", "0.5", [], {}, [[]], [None], [1], [1, 2, 3],
    [1, 2, 3, 4], [-1, -1], [1e308, 1e-308, 1e308], {"a": 1}, {"": None}, float("nan"),
    float("inf"), [float("-inf")], "x" * 3000, "a\u0000b", "\ud800", "\U0001f600",
)  # fmt: skip
TOKENS = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#0;", b"<![CDATA[", b"]]>", b"<!--", b"-->",
    b"<?xml version='1.0' encoding='UTF-16'?>", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc0\x80",
    b"\xed\xa0\x80", b"{", b"}", b"[" * 200, b"<a>" * 200, b"\"", b"\\u0000", b"\\ud800", b"1e999",
    b"NaN", b"</voe:VOEvent>", b"</VOEvent>", b"/>", b"//", b"=", b",", b"\r\n", b" " * 5000,
)  # fmt: skip
FITS_CARDS = (
    "NAXIS", "NAXIS1", "NAXIS2", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE1", "TTYPE2",
    "TFORM1", "TFORM2", "TFORM3", "TUNIT2", "TZERO1", "TSCAL1", "TZERO2", "NSIDE", "ORDERING",
    "COORDSYS", "INDXSCHM", "XTENSION", "DISTMEAN", "DISTSTD", "OBJECT",
)  # fmt: skip
FITS_VALUES = (
    "0", "-1", "1", "2", "7", "999", "1000", "10000000000", "9" * 30, "1E300", "NaN", "T", "''",
    "'G       '", "'E       '", "'C       '", "'RING    '", "'NESTED  '", "'NUNIQ   '",
    "'K       '", "'D       '", "'1048576D'", "'999999999D'", "'0D      '", "'PD(5)   '",
    "'UNIQ    '", "'PROBDENSITY'", "'PROB    '", "'PIXEL   '", "9223372036854775808", "0.5", "'",
)  # fmt: skip

_NUMBER = re.compile(rb"(?<=[>\"' :])[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?=[<\"' ,}\]])")
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+Z?")
_ATTRIBUTE = re.compile(rb"=\s*(\"[^\"<]*\"|'[^'<]*')")
_TAG = re.compile(rb"<(/?)([A-Za-z:0-9]+)([^<>]*)>")
_ELEMENT = re.compile(rb"<([A-Za-z:0-9]+)(?: [^<>]*)?(?:/>|>[^<]*</\1>)")


def mutant(rng: Random, corpus: Sequence[bytes]) -> bytes:
    """A notice of the corpus with one to four things gone wrong."""
    raw = rng.choice(corpus)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        # Bytes at random mostly end the parser: a few are enough.
        kinds = _BYTES
        if rng.random() < 0.85:
            kinds = {b"{": _JSON, b"<": _XML}.get(raw.lstrip()[:1], _BYTES)
            if kinds is _JSON and b'"skymap"' in raw:
                kinds = (*_JSON, *[change_map] * len(_JSON))
        raw = rng.choice(kinds)(rng, raw, corpus)
    return raw


Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _place(rng: Random, raw: bytes) -> tuple[int, int]:
    """A slice, mostly short."""
    if not raw:
        return 0, 0
    start = rng.randrange(len(raw))
    length = rng.choice((1, 1, 2, 4, 16, 64, 512, len(raw)))
    return start, min(len(raw), start + rng.randint(1, length))


def flip_bits(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    found = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def truncate(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    return raw[: rng.randint(0, len(raw))]


def delete(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    a, b = _place(rng, raw)
    return raw[:a] + raw[b:]


def duplicate(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    a, b = _place(rng, raw)
    times = rng.choice((1, 1, 1, 10, 100)) if b - a < 1000 else 1
    return raw[:b] + raw[a:b] * times + raw[b:]


def insert(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] + rng.choice(TOKENS) + raw[at:]


def splice(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return raw[: rng.randint(0, len(raw))] + other[rng.randint(0, len(other)) :]


def reencode(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    text = raw.decode("utf-8", "replace")
    how = rng.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "utf-8-sig", "cp037"))
    return text.encode(how, "replace")


def _replaced(rng: Random, raw: bytes, pattern: re.Pattern[bytes], new: Sequence[str]) -> bytes:
    found = list(pattern.finditer(raw, 0, 200_000))
    if not found:
        return raw
    chosen = rng.choice(found)
    group = 1 if pattern.groups == 1 else 0
    text = rng.choice(new)
    if pattern is _ATTRIBUTE:
        text = f'"{text}"'
    value = text.encode("utf-8", "surrogatepass")
    return raw[: chosen.start(group)] + value + raw[chosen.end(group) :]


def change_number(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    return _replaced(rng, raw, _NUMBER, NUMBERS)


def change_time(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    return _replaced(rng, raw, _TIME, TIMES)


def change_attribute(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    return _replaced(rng, raw, _ATTRIBUTE, (*WORDS, *NUMBERS))


def swap_values(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    pattern = rng.choice((_NUMBER, _ATTRIBUTE, _TAG, _ELEMENT))
    found = list(pattern.finditer(raw, 0, 200_000))
    if len(found) < 2:
        return raw
    one, two = sorted(rng.sample(found, 2), key=lambda m: m.start())
    return b"".join(
        (raw[: one.start()], two[0], raw[one.end() : two.start()], one[0], raw[two.end() :])
    )


def change_element(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    found = list(_ELEMENT.finditer(raw, 0, 200_000))
    if not found:
        return raw
    chosen = rng.choice(found)
    new = rng.choice(
        (
            b"", chosen[0] * 2, chosen[0] * 50, b"<!--" + chosen[0] + b"-->",
            chosen[0].replace(chosen[1], b"Param"), chosen[0].replace(chosen[1], chosen[1].lower()),
            b"<Group name='g'>" + chosen[0] + b"</Group>",
        )
    )  # fmt: skip
    return raw[: chosen.start()] + new + raw[chosen.end() :]


def _record(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _places(value: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """All (container, key) in a JSON value."""
    if depth > 50 or not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    found = [(value, key) for key, _ in items]
    for _, item in items[:100]:
        found += _places(item, depth + 1)
    return found


def change_member(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    """One value becomes another, goes, or changes places."""
    record = _record(raw)
    places = _places(record)
    if not places:
        return raw
    container, key = rng.choice(places)
    how = rng.randrange(5)
    if how == 0:
        del container[key]
    elif how == 1:
        other, name = rng.choice(places)
        container[key], other[name] = other[name], container[key]
    elif how == 2:
        container[key] = rng.choice((*TIMES, *WORDS, *NUMBERS))
    else:
        container[key] = rng.choice(VALUES)
    try:
        return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # a swap may have made it contain itself
        return raw


def add_member(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    """A member as other feeds have them, once or twice."""
    other = _record(rng.choice(corpus))
    if not isinstance(other, dict) or not other:
        return raw
    name = rng.choice(list(other))
    value = json.dumps(rng.choice((other[name], rng.choice(VALUES)))).encode()
    return raw.replace(b"{", b"{" + json.dumps(name).encode() + b": " + value + b", ", 1)


def change_map(rng: Random, raw: bytes, corpus: Sequence[bytes]) -> bytes:
    """An embedded sky map, damaged before or after it was packed."""
    record = _record(raw)
    texts = [
        (c, k) for c, k in _places(record) if isinstance(c[k], str) and len(c[k]) > 1000
    ]  # fmt: skip
    if not texts:
        return change_member(rng, raw, corpus)
    container, key = rng.choice(texts)
    try:
        fits = base64.b64decode(container[key])
        zipped = fits[:2] == b"\x1f\x8b"
        fits = gzip.decompress(fits) if zipped else fits
    except (binascii.Error, ValueError, OSError, EOFError, zlib.error):
        return raw
    for _ in range(rng.choice((1, 1, 2, 3))):
        fits = rng.choice((_change_card, _change_card, _change_cells, flip_bits, truncate))(
            rng, fits, corpus
        )
    if zipped or rng.random() < 0.2:
        fits = gzip.compress(fits, 1)
        if rng.random() < 0.2:
            fits = flip_bits(rng, fits, corpus)
    text = base64.b64encode(fits).decode()
    container[key] = text if rng.random() < 0.9 else text[: rng.randint(0, len(text))]
    return json.dumps(record).encode()


def _change_card(rng: Random, fits: bytes, corpus: Sequence[bytes]) -> bytes:
    name = rng.choice(FITS_CARDS)
    at = fits.find(name.ljust(8).encode() + b"= ", 0, 60_000)
    if at < 0:
        return fits
    value = rng.choice(FITS_VALUES)
    card = f"{name:<8}= {value:>20}".ljust(80)[:80].encode()
    return fits[:at] + card + fits[at + 80 :]


def _change_cells(rng: Random, fits: bytes, corpus: Sequence[bytes]) -> bytes:
    """Eight bytes of the data become a number that is none, or one too large."""
    if len(fits) < 9000:
        return fits
    value = rng.choice(
        (
            struct.pack(">d", rng.choice((float("nan"), float("inf"), -1.0, 1e308, 0.0))),
            struct.pack(">q", rng.choice((-1, 0, 3, 4, 2**62, 2**63 - 1, -(2**63), 1024))),
        )
    )
    for _ in range(rng.choice((1, 1, 10))):
        at = rng.randrange(5760, len(fits) - 8) & ~7
        fits = fits[:at] + value + fits[at + 8 :]
    return fits


_BYTES: tuple[Mutation, ...] = (
    flip_bits, truncate, delete, duplicate, insert, splice, reencode,
)  # fmt: skip
_XML: tuple[Mutation, ...] = (
    change_number, change_number, change_time, change_attribute, swap_values, change_element,
)  # fmt: skip
_JSON: tuple[Mutation, ...] = (
    change_member, change_member, change_number, change_time, add_member, change_map,
)  # fmt: skip
