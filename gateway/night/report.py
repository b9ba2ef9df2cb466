"""The end of the night: candidates ranked, events that share a counterpart, ledger, latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from broker.fold import ranked
from broker.ledger import alert_hole, is_of_candidates, notice_hole
from crossmatch.model import TIERS
from gateway.night.watch import Seen

_SHOWN = (
    "event_id", "event_version", "tier", "score", "credible_level", "separation", "mag",
    "filter", "fade_rate", "host_name", "n_alerts", "reason", "counterpart_id",
)  # fmt: skip


def summary(seen: Seen, vtp_received: int) -> dict[str, Any]:
    """The night as one object: what ``mmgateway demo --json`` ends with.

    Parameters
    ----------
    seen : Seen
    vtp_received : int
        VOEvents that a VTP subscriber got over TCP.

    Returns
    -------
    dict
        ``alerts``, ``notices`` (counts), ``candidates`` (best first, withdrawn last),
        ``associations``, ``withdrawn`` (by reason), ``voevents``, ``ledger``, ``latency``.
    """
    rows = candidates(seen.statements)
    return {
        "alerts": seen.alert_ledger["received"],
        "notices": seen.notice_ledger["received"],
        "candidates": [
            {"object_id": r["id"], "rank": r["rank"], "state": r["state"]}
            | {name: r[name] for name in _SHOWN}
            for r in rows
        ],
        "associations": associations(rows),
        "withdrawn": withdrawals(seen.statements),
        "voevents": {
            "made": seen.voevents,
            "broadcast": seen.for_vtp,
            "received_by_vtp": vtp_received,
        },
        "ledger": {
            "alerts": {
                name: n
                for name, n in sorted(seen.alert_ledger.items())
                if not is_of_candidates(name)
            },
            "notices": dict(sorted(seen.notice_ledger.items())),
            "alerts_unaccounted": alert_hole(seen.alert_ledger),
            "notices_unaccounted": notice_hole(seen.notice_ledger),
        },
        "latency": {
            "notice_to_region_s": quantiles(seen.region_latency_s),
            "alert_to_candidate_s": quantiles(seen.candidate_latency_s),
        },
    }


def candidates(statements: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Latest statement of each candidate, best first over all events, withdrawn ones last."""
    return sorted(
        ranked(statements),
        key=lambda r: (
            r["state"] != "in_force",
            -TIERS.index(r["tier"]),
            -r["score"],
            r["event_id"],
            r["counterpart_id"],
        ),
    )


def associations(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Objects in force for several events, best first, with the time between the events."""
    by_counterpart: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "in_force":
            by_counterpart.setdefault(row["counterpart_id"], []).append(row)
    found = []
    for counterpart, members in by_counterpart.items():
        if len(members) < 2:
            continue
        first, *others = sorted(members, key=lambda m: m["event_trigger_time"])
        found.append(
            {
                "counterpart_id": counterpart,
                "object_id": first["id"],
                "events": [
                    {"event_id": m["event_id"]}
                    | {k: m[k] for k in ("messenger", "tier", "rank", "credible_level")}
                    for m in (first, *others)
                ],
                "time_differences_s": [round(_seconds(m) - _seconds(first), 3) for m in others],
                "best_tier": max((m["tier"] for m in members), key=TIERS.index),
                "best_score": max(m["score"] for m in members),
            }
        )
    return sorted(found, key=lambda a: -a["best_score"])


def withdrawals(statements: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many candidates were withdrawn, by event and reason."""
    counts: dict[str, dict[str, int]] = {}
    for statement in statements:
        if statement["state"] == "withdrawn":
            of_event = counts.setdefault(statement["event_id"], {})
            of_event[statement["reason"]] = of_event.get(statement["reason"], 0) + 1
    return counts


def quantiles(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Number, median and 99th percentile; None without values."""
    if not seconds:
        return {"n": 0, "p50": None, "p99": None}
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"n": len(seconds), "p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def _seconds(row: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(row["event_trigger_time"]).timestamp()
