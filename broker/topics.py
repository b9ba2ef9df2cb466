"""Names of our topics, each defined once."""

from __future__ import annotations

import re
from collections.abc import Collection

NOTICES = "mm.notices"
"""Raw bytes of every message, public and private: for the gateway and its operators alone."""
REGION_LOG = "mm.regionlog"
"""Every region and retraction, public and private: what the matcher reads, nobody else may."""
REGIONS = "mm.regions"
"""The public part of the log of regions."""
HELD = "mm.held"
"""Messages of paused feeds, worked through when the feed is enabled again."""
ALARMS = "mm.alarms"
"""Silent feeds, lapsing credentials and the like, for operators."""
DEAD_LETTER = "mm.deadletter"
RETRY = "mm.retry"
"""Dead letters that an operator sends again: the key says who takes it, notice or publish."""
CANDIDATES_PREFIX = "mm.candidates."
VOEVENTS = "mm.voevents"
VERDICTS = "mm.verdicts"
"""What people found out about counterparts; the matcher reads it as it reads regions."""
LOOKUPS = "mm.lookups"
"""What catalogues elsewhere answered about counterparts; the matcher reads it in the same way."""
LEDGER = "mm.ledger"
STATE = "mm.state"
MARKER = "mm.marker"

OPERATOR_ONLY = frozenset(
    {
        *(NOTICES, REGION_LOG, HELD, ALARMS, DEAD_LETTER, RETRY),
        *(VERDICTS, LOOKUPS, LEDGER, STATE, MARKER),
    }
)
"""What only the gateway and its operators may read: it holds or betrays private data."""

MESSENGERS = ("gw", "grb", "neutrino", "xray", "frb", "optical")
PRIVATE_PREFIX = "mm.private."
_PRIVATE = re.compile(r"mm\.private\.([^.]+)\.(.+)")


def candidates(messenger: str, role: str = "observation") -> str:
    """Topic for candidates of one messenger; tests have topics of their own."""
    suffix = "" if role == "observation" else ".test"
    return f"{CANDIDATES_PREFIX}{messenger}{suffix}"


def seen_by(topic: str, streams: Collection[str]) -> tuple[str, ...]:
    """Topics in whose place ``topic`` stands for data with that mark of privacy.

    Examples
    --------
    >>> seen_by("mm.candidates.grb", ())
    ('mm.candidates.grb',)
    >>> seen_by("mm.candidates.grb", ["ourteam"])
    ('mm.private.ourteam.candidates.grb',)
    """
    if not streams:
        return (topic,)
    return tuple(f"{PRIVATE_PREFIX}{s}.{topic.removeprefix('mm.')}" for s in sorted(streams))


def place_of(topic: str) -> tuple[str, str]:
    """What ``topic`` holds, named as the public topic, and for which private stream.

    Examples
    --------
    >>> place_of("mm.private.ourteam.candidates.grb")
    ('mm.candidates.grb', 'ourteam')
    >>> place_of("mm.candidates.grb")
    ('mm.candidates.grb', '')
    """
    found = _PRIVATE.fullmatch(topic)
    return (f"mm.{found[2]}", found[1]) if found else (topic, "")


def all_candidates() -> tuple[str, ...]:
    """Public topics of candidates, those of tests too."""
    return tuple(candidates(m, r) for m in MESSENGERS for r in ("observation", "test"))
