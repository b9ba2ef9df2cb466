"""The ledger of counts: what came in is what was matched, passed by or rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

ALERT_OUTCOMES = ("duplicate", "lost", "matched", "unmatched")
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


def added(ledgers: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of ledgers."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        total.update(ledger)
    return dict(sorted(total.items()))


def alert_hole(ledger: Mapping[str, int]) -> int:
    """Alerts received but not accounted for; 0 when the ledger adds up."""
    accounted = sum(ledger.get(name, 0) for name in ALERT_OUTCOMES)
    accounted += sum(n for name, n in ledger.items() if name.startswith(("rejected.", "cut.")))
    return ledger.get("received", 0) - accounted


def notice_hole(ledger: Mapping[str, int]) -> int:
    """Notices received or released but not accounted for; 0 when the ledger adds up."""
    taken = ledger.get("received", 0) + ledger.get("released", 0)
    return taken - sum(ledger.get(name, 0) for name in NOTICE_OUTCOMES)
