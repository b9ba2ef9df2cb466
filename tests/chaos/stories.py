"""Bursts made to order, as a mission's JSON, and alerts in and around their circles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.endtoend import packets

from .stack import MISSIONS

_TRIGGER_OF_PACKETS = datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)
_APART_DAYS = 60
"""Longer than any window of a burst: stories do not meet."""


@dataclass(frozen=True)
class Item:
    """One thing to send: to a topic (empty: by VTP), or an alert packet, or garbage."""

    kind: str
    payload: bytes
    topic: str = ""
    key: bytes = b""
    retraction: bool = False


@dataclass(frozen=True)
class Burst:
    """An event as a mission tells of it."""

    mission: str
    number: str
    trigger: datetime
    ra: float
    dec: float

    def notice(self, serial: int, radius: float, off: float = 0.0) -> Item:
        """Version ``serial``, with a circle of ``radius`` degrees, ``off`` degrees away."""
        kind = "initial" if serial == 1 else "update"
        place = {
            "ra": self.ra,
            "dec": self.dec + off,
            "ra_dec_error": radius,
            "containment_probability": 0.9,
            "systematic_included": True,
        }
        return self._item(serial, kind, place)

    def retraction(self, serial: int) -> Item:
        """It was none."""
        return replace(self._item(serial, "retraction", {}), retraction=True)

    def _item(self, serial: int, kind: str, place: dict[str, Any]) -> Item:
        record = {
            "id": [self.number],
            "trigger_time": self.trigger.isoformat(),
            "alert_datetime": (self.trigger + timedelta(minutes=serial)).isoformat(),
            "alert_type": kind,
            "record_number": serial,
        }
        text = json.dumps(record | place).encode()
        return Item("notice", text, MISSIONS[self.mission])


class Stories:
    """Stories that never meet: each has its own time, place and objects.

    Parameters
    ----------
    rng : Random
    after : int
        How many other stories the gateway may have been told before.
    """

    def __init__(self, rng: Random, after: int = 0) -> None:
        self._rng = rng
        self._number = after

    def story(self) -> list[Item]:
        """One or two bursts with their versions, and alerts; in no order that matters."""
        self._number += 1
        rng, number = self._rng, self._number
        trigger = _TRIGGER_OF_PACKETS + timedelta(days=_APART_DAYS * number)
        ra, dec = rng.uniform(0, 360), rng.uniform(-60, 60)
        first = Burst("Anteater", f"{number}a", trigger, ra, dec)
        items = self._versions(first)
        if rng.random() < 0.6:
            # Half of these are another mission's view of the same burst.
            away = timedelta(seconds=rng.choice((5, 40, 600, 86_400)))
            off = rng.choice((0.5, 2.0, 12.0))
            other = Burst("Badger", f"{number}b", trigger + away, ra, dec + off)
            items += self._versions(other)
        items += self._alerts(first)
        if rng.random() < 0.5:
            items.append(Item("garbage", b"no alert %d" % number))
        return items

    def _versions(self, burst: Burst) -> list[Item]:
        rng = self._rng
        count = rng.randint(1, 4)
        items = []
        for serial in range(1, count + 1):
            radius = rng.choice((0.3, 1.0, 2.0, 4.0, 8.0))
            items.append(burst.notice(serial, radius, rng.choice((0.0, 0.0, 0.4, 3.0))))
        if rng.random() < 0.3:
            # The last word, or one that a later version takes back.
            items.append(burst.retraction(rng.choice((count + 1, max(1, count - 1)))))
        return items

    def _alerts(self, burst: Burst) -> list[Item]:
        rng = self._rng
        base = (burst.trigger - _TRIGGER_OF_PACKETS).total_seconds() / 86_400
        items = []
        for number in range(rng.randint(6, 16)):
            stretch = max(0.2, 1 - (abs(burst.dec) / 90) ** 2)
            ra = (burst.ra + rng.uniform(-9, 9) / stretch) % 360
            dec = max(-89.0, min(89.0, burst.dec + rng.uniform(-9, 9)))
            if rng.random() < 0.5:
                ra, dec = burst.ra, burst.dec + rng.uniform(-2, 2)
            for visit in range(rng.randint(1, 4)):
                # Within the window, before the trigger, and after its end.
                days = base + rng.choice((0.5, 1.0, 3.0, 10.0, 10.0, -2.0, 25.0)) + visit / 100
                items.append(self._alert(number, visit, ra, dec, days))
        return items

    def _alert(self, number: int, visit: int, ra: float, dec: float, days: float) -> Item:
        rng = self._rng
        candid = 1_000_000 * self._number + 100 * number + visit
        poor: dict[str, Any] = {"rb": 0.1, "drb": 0.01} if rng.random() < 0.1 else {}
        record = packets.record(candid, ra, dec + 1e-5 * visit, days, **poor)
        # Now and then in a compression that only Python reads.
        codec = "deflate" if rng.random() < 0.1 else "null"
        packet = packets.container(record, codec=codec)
        return Item("alert", packet, key=record["objectId"].encode())


def _in_any_order(items: list[Item], rng: Random) -> list[Item]:
    return rng.sample(items, len(items))


def _first(*wanted: Callable[[Item], bool]) -> Callable[[list[Item], Random], list[Item]]:
    """What is wanted comes first, group after group; within a group in any order."""

    def ordered(items: list[Item], rng: Random) -> list[Item]:
        def group(item: Item) -> int:
            return next((i for i, want in enumerate(wanted) if want(item)), len(wanted))

        return sorted(_in_any_order(items, rng), key=group)

    return ordered


ORDERS: dict[str, Callable[[list[Item], Random], list[Item]]] = {
    "in any order": _in_any_order,
    "alerts last": _first(lambda item: item.kind == "notice"),
    "notices last": _first(lambda item: item.kind != "notice"),
    "retractions first": _first(lambda item: item.retraction),
    "retractions first, alerts last": _first(
        lambda item: item.retraction, lambda item: item.kind == "notice"
    ),
    "retractions last": _first(lambda item: not item.retraction),
}


def with_repeats(items: list[Item], rng: Random) -> list[Item]:
    """Some things once more, later."""
    found = list(items)
    for item in items:
        # Garbage is garbage each time: a repeat would be no repeat to the ledger.
        if item.kind != "garbage" and rng.random() < 0.06:
            found.insert(rng.randint(found.index(item) + 1, len(found)), item)
    return found
