"""What people found out about a counterpart, and what that does to its tier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Effect = Literal["confirm", "demote", "neutral"]

EFFECTS: dict[str, Effect] = {
    "counterpart": "confirm",
    "afterglow": "confirm",
    "kilonova": "confirm",
    "supernova": "demote",
    "asteroid": "demote",
    "star": "demote",
    "variable": "demote",
    "agn": "demote",
    "tde": "neutral",
    "host": "demote",
    "artefact": "demote",
    "unrelated": "demote",
    "unclear": "neutral",
}
"""What each verdict does unless whoever gives it says otherwise. ``host``: the light is the host
galaxy's. ``unclear`` takes an earlier verdict back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict; ``event_id`` is empty when it holds for all events of the counterpart.

    ``stated`` is ISO 8601 UTC with microseconds and Z, so that texts sort as times do.
    """

    verdict_id: str
    counterpart_id: str
    classification: str
    effect: Effect
    stated: str
    author: str = ""
    note: str = ""
    reference: str = ""
    event_id: str = ""


def holding(verdicts: Iterable[Verdict], event_id: str) -> Verdict | None:
    """The verdict that holds for one event: the latest one, whatever the order of arrival."""
    mine = [v for v in verdicts if v.event_id in ("", event_id)]
    return max(mine, key=lambda v: (v.stated, v.verdict_id), default=None)
