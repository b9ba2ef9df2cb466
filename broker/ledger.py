"""The ledger of counts: what came in is what was matched, passed by or rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

ALERT_OUTCOMES = ("duplicate", "lost", "matched", "unmatched")
NOTICE_OUTCOMES = ("region", "no_position", "retraction", "ignored", "duplicate", "rejected")


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
    """Notices received but not accounted for; 0 when the ledger adds up."""
    return ledger.get("received", 0) - sum(ledger.get(name, 0) for name in NOTICE_OUTCOMES)
