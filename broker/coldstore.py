"""Events that are over, put aside on disk until something about them comes after all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Family:
    """Region records that bear on one another, and the groups of their events.

    Parameters
    ----------
    names : frozenset of str
        What links them: events, notices, what they take back, the minutes of their triggers.
    start_jd, end_jd : float
        From the first opening of a window to the last closing, JD UTC.
    records : tuple of bytes
        Messages of ``mm.regionlog``.
    groups : tuple of mapping
        ``{"key": GroupKey.to_json(), "group": Group.to_json()}``.
    """

    names: frozenset[str]
    start_jd: float
    end_jd: float
    records: tuple[bytes, ...]
    groups: tuple[Mapping[str, Any], ...] = field(default=())


class ColdStore(Protocol):
    """Families that were put aside, by name and by time.

    What is put and taken belongs to the step of that number. A step that was never committed
    did not happen: :meth:`restore` undoes what it put and took.
    """

    def restore(self, committed_step: int) -> None:
        """Go back to how things stood after a step."""

    def put(self, families: Sequence[Family], step: int) -> None:
        """Put families aside."""

    def find(self, names: Iterable[str]) -> list[int]:
        """Ids of families that bear any of the names."""

    def between(self, start_jd: float, end_jd: float) -> list[int]:
        """Ids of families with ``start_jd < end`` and ``end_jd >= start``."""

    def take(self, ids: Iterable[int], step: int) -> list[Family]:
        """Give families back; they are here no longer."""

    def latest_end_jd(self) -> float:
        """When the last window of all families closes; minus infinity without any."""

    def count(self) -> int:
        """Number of families that are here."""

    def record_digests(self) -> set[bytes]:
        """SHA-256 digests of all records that are here."""
