"""Messages of ``mm.lookups``: what catalogues elsewhere answered about counterparts, one each."""

from __future__ import annotations

import json
from collections.abc import Iterable

from crossmatch.errors import Rejected
from crossmatch.remote import Answer, checked, read_answer

MAX_BYTES = 64 * 1024
"""Longer than fifty sources with their names."""


def encode_answer(answer: Answer) -> bytes:
    """``answer`` as it goes to ``mm.lookups``: JSON, always the same bytes.

    Raises
    ------
    CatalogError
        As :func:`crossmatch.remote.checked`: what we would not read is not sent.
    """
    return json.dumps(checked(answer).to_json(), allow_nan=False).encode()


def decode_answer(data: bytes) -> Answer:
    """A message of ``mm.lookups``.

    Raises
    ------
    Rejected
        ``answer_too_long``, ``not_json``, or what :func:`crossmatch.remote.read_answer` says.
    """
    if len(data) > MAX_BYTES:
        raise Rejected("answer_too_long", f"{len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Rejected("not_json", f"no JSON: {error}") from error
    return read_answer(record)


def readable(messages: Iterable[bytes]) -> list[Answer]:
    """Answers of messages that were taken in before; the others became dead letters then."""
    found = []
    for message in messages:
        try:
            found.append(decode_answer(message))
        except Rejected:
            continue
    return found
