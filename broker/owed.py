"""Searches of the archive that new and revised regions owe, and how far each has come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crossmatch.model import Region
from crossmatch.times import jd_from_datetime
from crossmatch.versions import Name, World, world_of

PREFIX = "search/"
_MARGIN_DAYS = 1e-6


@dataclass(frozen=True, slots=True)
class OwedSearch:
    """A region is to be searched in the alerts that came before it.

    Parameters
    ----------
    event_id : str
    world : World
    before_batch : int
        Alerts of this batch and later ones met the region as they came.
    start_jd, end_jd : float
        Times that hold the region's window, JD UTC.
    until : str
        Nights up to this one are searched; empty: none yet.
    found : int
        Alerts found so far.
    """

    event_id: str
    world: World
    before_batch: int
    start_jd: float
    end_jd: float
    until: str = ""
    found: int = 0

    @property
    def event(self) -> Name:
        """The event, by name and world."""
        return self.event_id, self.world

    @property
    def key(self) -> str:
        """Key in the state topic."""
        return _key(self.event_id, *self.world)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the state topic."""
        is_test, streams = self.world
        return asdict(self) | {"world": [is_test, list(streams)]}

    def told(
        self,
        until: str,
        through: tuple[str, int, int] | None,
        objects: tuple[str, str] | None,
        found: int,
    ) -> dict[str, Any]:
        """Part that comes to ``until``, as its step's entry in the ledger tells it.

        ``found`` is what this part found.
        """
        is_test, streams = self.world
        return {
            "event_id": self.event_id,
            "is_test": is_test,
            "streams": list(streams),
            "after": self.until,
            "until": until,
            "before_batch": self.before_batch,
            "through": None if through is None else list(through),
            "objects": None if objects is None else list(objects),
            "found": self.found + found,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OwedSearch:
        """The inverse of :meth:`to_json`."""
        is_test, streams = data["world"]
        return cls(**{**data, "world": (bool(is_test), tuple(streams))})


def told_key(told: Mapping[str, Any]) -> str:
    """Key of the search that an entry of the ledger tells of."""
    return _key(told["event_id"], told["is_test"], told["streams"])


def _key(event_id: str, is_test: bool, streams: Sequence[str]) -> str:
    return PREFIX + json.dumps([event_id, is_test, list(streams)])


def owed_by(region: Region, before_batch: int) -> OwedSearch:
    """The search that a region owes from its beginning."""
    start_jd, end_jd = span_of(region)
    return OwedSearch(
        event_id=region.event_id,
        world=world_of(region.role, region.streams),
        before_batch=before_batch,
        start_jd=start_jd,
        end_jd=end_jd,
    )


def span_of(region: Region) -> tuple[float, float]:
    """Times that hold every alert which the region's window holds, JD UTC.

    A little wider than the window: the sum of a Julian date and some days is rounded to
    40 microseconds, and an exposure at the very end would be left out. Matching decides.
    """
    trigger = jd_from_datetime(region.trigger_time)
    window = region.window
    return trigger + window.start_days - _MARGIN_DAYS, trigger + window.end_days + _MARGIN_DAYS
