"""The night on the wall clock: busy hours at leisure, empty stretches skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from typing import TypeAlias

import numpy as np

from crossmatch.model import FloatArray
from gateway.night.alerts import DEFAULT_ALERTS, SEED, TimedAlert, alert_times
from gateway.night.facts import burst_position, decoy, facts
from gateway.night.notices import Timed

DEFAULT_SECONDS = 66.0
Item: TypeAlias = Timed | TimedAlert

_BIN_SECONDS = 300.0
# Shares of the wall time. Each notice gets a moment to be read; the rest follows the alerts.
_FOR_NOTICES = 0.25
_FOR_GAPS = 0.02
# A notice is read before and after it is sent, in night seconds.
_NOTICE_WIDTH = 60.0
# Enough alerts to know how they are spread; their number does not matter to the schedule.
_SAMPLE = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """A piecewise linear, increasing map from night time to wall time.

    Attributes
    ----------
    night_s : (k,) float64
        Unix seconds of the knots, increasing.
    wall_s : (k,) float64
        Seconds after the start of the replay at the knots, increasing, from 0.
    """

    night_s: FloatArray
    wall_s: FloatArray

    @classmethod
    def of_night(cls, seconds: float = DEFAULT_SECONDS, seed: int = SEED) -> Schedule:
        """The schedule of the default night in ``seconds`` of wall time."""
        return cls.of(_notice_times(), alert_times(_SAMPLE, seed), seconds)

    @classmethod
    def of(
        cls, notice_s: FloatArray, alert_s: FloatArray, seconds: float = DEFAULT_SECONDS
    ) -> Schedule:
        """A schedule for notices and alerts at given Unix seconds, ``seconds`` long.

        Raises
        ------
        ValueError
            When there is nothing to play, or ``seconds`` is not positive.
        """
        if len(notice_s) + len(alert_s) == 0 or not seconds > 0:
            raise ValueError("a schedule needs notices or alerts, and a positive duration")
        knots = _knots(notice_s, alert_s)
        width = np.diff(knots)
        middle = (knots[1:] + knots[:-1]) / 2
        busy = np.histogram(alert_s, bins=knots)[0].astype(np.float64)
        near = np.zeros(len(middle))
        for when in notice_s:
            inside = np.abs(middle - when) < _NOTICE_WIDTH
            near[inside] += width[inside] / width[inside].sum()
        parts = [(_FOR_GAPS, np.ones(len(width))), (_FOR_NOTICES, near), (1.0, busy)]
        wall = np.zeros(len(width))
        for share, weight in parts:
            total = weight.sum()
            if total > 0:
                part = share if share < 1 else 1 - _FOR_GAPS - _FOR_NOTICES * (near.sum() > 0)
                wall += part * weight / total
        ends = np.concatenate([[0.0], np.cumsum(wall)])
        return cls(knots, ends * seconds / ends[-1])

    def wall_seconds(self, when: datetime) -> float:
        """Seconds after the start at which what was sent at ``when`` is due."""
        return float(np.interp(when.timestamp(), self.night_s, self.wall_s))

    def wall_offsets(self, night_s: FloatArray) -> FloatArray:
        """(n,) wall seconds of (n,) Unix seconds of the night."""
        return np.interp(night_s, self.night_s, self.wall_s)

    def night_time(self, wall_s: float) -> datetime:
        """Time of the night that is reached ``wall_s`` seconds after the start."""
        return datetime.fromtimestamp(float(np.interp(wall_s, self.wall_s, self.night_s)), UTC)

    @property
    def duration_s(self) -> float:
        """Length of the replay in wall seconds."""
        return float(self.wall_s[-1])

    @staticmethod
    def merged(notices: Iterable[Timed], alerts: Iterable[TimedAlert]) -> Iterator[Item]:
        """Notices and alerts, each sorted already, in one order; a notice before an alert."""
        return merge(notices, alerts, key=_rank)


def _rank(item: Item) -> tuple[datetime, bool]:
    return item.sent, isinstance(item, TimedAlert)


def _knots(notice_s: FloatArray, alert_s: FloatArray) -> FloatArray:
    """Edges of bins over all that happens; nothing at all happens in the empty ones."""
    every = np.concatenate([notice_s, alert_s])
    cells = np.unique(np.floor(every / _BIN_SECONDS))
    edges = np.concatenate([cells, cells + 1]) * _BIN_SECONDS
    around = np.concatenate([notice_s - _NOTICE_WIDTH, notice_s, notice_s + _NOTICE_WIDTH])
    return np.unique(np.concatenate([edges, around]))


def _notice_times() -> FloatArray:
    """Unix seconds at which the notices of the night are sent."""
    table = facts()
    times = [table["earlier_wave"]["sent"], table["burst"]["alert_sent"]]
    times += [burst_position(kind)["sent"] for kind in ("flight", "ground", "final")]
    times += [version["sent"] for version in table["wave"]["maps"]]
    times += [entry["sent"] for entry in table["decoys"]]
    times.append(decoy("lvk_retracted")["retracted"])
    return np.sort(np.array([t.timestamp() for t in times]))


__all__ = ["DEFAULT_ALERTS", "DEFAULT_SECONDS", "Item", "Schedule"]
