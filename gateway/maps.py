"""Sky maps that a notice names by its address: asked for until they are there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A map that is not there yet.

    ``notice_offset`` is where the notice lies in ``mm.notices``; ``since`` is when it was
    received, ISO 8601 UTC.
    """

    url: str
    notice_offset: int
    notice_sha256: str
    event_id: str
    feed: str
    since: str
