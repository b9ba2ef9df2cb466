"""The ledger of counts: what came in is what was matched, passed by or rejected.

The topic ``mm.ledger`` has one entry a transaction. Its ``kind`` says whose:

- ``alerts``, ``search``, ``selection``, ``close``: the steps of the matcher;
- ``notices``: the listener;
- ``voevents``: the publisher.

``counts`` are all counts by name. ``parts`` has those that belong to a night and a feed, and
these sum to the counts of the same names. Candidates have a night and no feed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

ALERT_OUTCOMES = (
    "duplicate",
    "duplicate_other_night",
    "lost",
    "withdrawn",
    "matched",
    "unmatched",
)
"""What became of an alert; besides ``rejected.<reason>`` and ``cut.<name>``. ``withdrawn`` is one
that its survey took back, ``duplicate_other_night`` one whose number another night has."""
ALERT_PREFIXES = ("rejected.", "cut.")
CANDIDATE_PREFIXES = ("withheld.", "lowered.")
"""How a candidate stands that is ``judged`` by what its chain demands, besides ``passed``: the
first cut that it fails."""
TOLD_PREFIX = "told."
"""With the tier: a candidate that is told.

Candidates (an object in an event) are counted as what they are: when that changes, an entry counts
-1 of what one was and 1 of what it is, in the night of its first alert. So the sums over entries
are candidates, each once."""
ARCHIVED = ("matched", "unmatched", "withdrawn")
"""With ``cut.<name>``: what the archive of alerts has one row of."""
NOTICE_OUTCOMES = (
    "region",
    "no_position",
    "retraction",
    "ignored",
    "duplicate",
    "rejected",
    "held",
)
"""What became of a notice. One of a paused feed is ``held``; when the feed is on again it is
counted as ``released``, and by what becomes of it then."""
VOEVENT_OUTCOMES = ("made", "rejected")
"""What became of a statement for the publisher."""
MATCHER_KINDS = ("alerts", "search", "selection", "close")
"""Kinds of the entries that are steps of the matcher."""
KINDS = (*MATCHER_KINDS, "notices", "voevents")
UNKNOWN_FEED = "unknown"
"""Feed of notices that no feed recognised."""

Place = tuple[str, str]
"""Night (``YYYY-MM-DD``; empty: not known) and feed."""


def added(ledgers: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of ledgers."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        total.update(ledger)
    return dict(sorted(total.items()))


def alert_outcomes(ledger: Mapping[str, int]) -> dict[str, int]:
    """What became of alerts; the ledger counts other things as well."""
    return {
        name: n
        for name, n in ledger.items()
        if name in ALERT_OUTCOMES or name.startswith(ALERT_PREFIXES)
    }


def alert_hole(ledger: Mapping[str, int]) -> int:
    """Alerts received but not accounted for; 0 when the ledger adds up."""
    return ledger.get("received", 0) - sum(alert_outcomes(ledger).values())


def notice_hole(ledger: Mapping[str, int]) -> int:
    """Notices received or released but not accounted for; 0 when the ledger adds up."""
    taken = ledger.get("received", 0) + ledger.get("released", 0)
    return taken - sum(ledger.get(name, 0) for name in NOTICE_OUTCOMES)


def candidate_hole(ledger: Mapping[str, int]) -> int:
    """Candidates that are judged by what their chains demand, less those of which it is counted."""
    accounted = ledger.get("passed", 0)
    accounted += sum(n for name, n in ledger.items() if name.startswith(CANDIDATE_PREFIXES))
    return ledger.get("judged", 0) - accounted


def voevent_hole(ledger: Mapping[str, int]) -> int:
    """Statements that the publisher took but did not account for; 0 when it adds up."""
    return ledger.get("received", 0) - sum(ledger.get(name, 0) for name in VOEVENT_OUTCOMES)


HOLES: Mapping[str, Callable[[Mapping[str, int]], int]] = {
    "alerts": alert_hole,
    "notices": notice_hole,
    "voevents": voevent_hole,
}
"""What is missing, by the kinds of entries that receive something."""


def archived(ledger: Mapping[str, int]) -> int:
    """Alerts of which the archive has a row: all but duplicates, lost and rejected ones."""
    cut = sum(n for name, n in ledger.items() if name.startswith("cut."))
    return cut + sum(ledger.get(name, 0) for name in ARCHIVED)


def placed(entries: Iterable[Mapping[str, Any]]) -> dict[Place, dict[str, int]]:
    """Counts by (night, feed), summed over the parts of entries, in order of night and feed."""
    found: dict[Place, Counter[str]] = {}
    for entry in entries:
        for part in entry.get("parts", ()):
            found.setdefault((part["night"], part["feed"]), Counter()).update(part["counts"])
    return {place: dict(sorted(counts.items())) for place, counts in sorted(found.items())}


def parts_of(found: Mapping[Place, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The inverse of :func:`placed`: parts as an entry has them; zeros are left out."""
    return [
        {"night": night, "feed": feed, "counts": kept}
        for (night, feed), counts in sorted(found.items())
        if (kept := {name: n for name, n in sorted(counts.items()) if n})
    ]


def part_holes(entry: Mapping[str, Any]) -> dict[str, int]:
    """By how much the counts of an entry differ from its parts; empty when they agree.

    Only names that the parts have, and those that must have parts, are compared: pairs and
    statements belong to no night.
    """
    in_parts = added(part["counts"] for part in entry.get("parts", ()))
    counts = entry["counts"]
    names = {n for n in counts if is_placed(str(entry["kind"]), n)} | set(in_parts)
    differ = {name: counts.get(name, 0) - in_parts.get(name, 0) for name in sorted(names)}
    return {name: n for name, n in differ.items() if n}


def is_placed(kind: str, name: str) -> bool:
    """Whether counts of that name belong to a night and a feed in entries of that kind."""
    if kind == "alerts":
        return name in ("received", *ALERT_OUTCOMES) or name.startswith(ALERT_PREFIXES)
    if kind == "notices":
        return name in ("received", "released", *NOTICE_OUTCOMES)
    return False


def is_of_candidates(name: str) -> bool:
    """Whether a count is one of candidates, not of alerts or messages."""
    return name in ("judged", "passed") or name.startswith((*CANDIDATE_PREFIXES, TOLD_PREFIX))


def night_of_arrival(moment: datetime) -> str:
    """Night in which a notice came: nights change at noon UTC, as those of the alerts do.

    The rule of ``broker.archive.night_of``, for one moment (UTC).

    Examples
    --------
    >>> from datetime import UTC
    >>> night_of_arrival(datetime(2026, 1, 2, 11, 59, tzinfo=UTC))
    '2026-01-01'
    >>> night_of_arrival(datetime(2026, 1, 2, 12, 0, tzinfo=UTC))
    '2026-01-02'
    """
    return (moment - timedelta(hours=12)).date().isoformat()
