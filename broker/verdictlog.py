"""Messages of ``mm.verdicts``: what people found out about counterparts, one verdict each."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from broker.codec import decode, encode
from crossmatch.errors import Rejected
from crossmatch.verdicts import Verdict, checked

MAX_BYTES = 32 * 1024
"""Longer than the longest verdict of ours: note and all, four bytes a character, and the schema."""
_NAMES = frozenset(f.name for f in fields(Verdict))


def encode_verdict(verdict: Verdict) -> bytes:
    """``verdict`` as it goes to ``mm.verdicts``, always the same bytes.

    Raises
    ------
    Rejected
        As :func:`crossmatch.verdicts.checked`: what we would not read is not sent.
    """
    return encode("verdict", asdict(checked(verdict)))


def decode_verdict(data: bytes) -> Verdict:
    """A message of ``mm.verdicts``.

    Raises
    ------
    Rejected
        ``verdict_too_long``, ``not_avro``, ``bad_verdict`` when it is no record of ours, or
        what :func:`crossmatch.verdicts.checked` says.
    """
    if len(data) > MAX_BYTES:
        raise Rejected("verdict_too_long", f"{len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        record: Any = decode(data)
    except Rejected:
        raise
    except Exception as error:
        # The library meets bytes of any kind; what it raises then is not in its manual.
        raise Rejected("not_avro", f"not an Avro container with one record: {error!r}") from error
    if not isinstance(record, dict) or not record.keys() >= _NAMES:
        raise Rejected("bad_verdict", "no record with the fields of a verdict")
    wrong = sorted(n for n in _NAMES if not isinstance(record[n], str))
    if wrong:
        raise Rejected("bad_verdict", f"no texts: {', '.join(wrong)}")
    return checked(Verdict(**{name: record[name] for name in _NAMES}))
