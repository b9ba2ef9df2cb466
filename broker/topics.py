"""Names of our topics, each defined once."""

from __future__ import annotations

from collections.abc import Iterable

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
CANDIDATES_PREFIX = "mm.candidates."
VOEVENTS = "mm.voevents"
LEDGER = "mm.ledger"
STATE = "mm.state"
MARKER = "mm.marker"

MESSENGERS = ("gw", "grb", "neutrino", "xray", "frb", "optical")


PRIVATE_PREFIX = "mm.private."


def candidates(messenger: str, role: str = "observation") -> str:
    """Topic for candidates of one messenger; tests have topics of their own."""
    suffix = "" if role == "observation" else ".test"
    return f"{CANDIDATES_PREFIX}{messenger}{suffix}"


def seen_by(topic: str, streams: Iterable[str]) -> tuple[str, ...]:
    """Topics in whose place ``topic`` stands for data with that mark of privacy.

    Examples
    --------
    >>> seen_by("mm.candidates.grb", ())
    ('mm.candidates.grb',)
    >>> seen_by("mm.candidates.grb", ["ourteam"])
    ('mm.private.ourteam.candidates.grb',)
    """
    private = tuple(f"{PRIVATE_PREFIX}{s}.{topic.removeprefix('mm.')}" for s in sorted(streams))
    return private or (topic,)
