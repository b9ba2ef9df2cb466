"""Random interleavings of stories on one running gateway, with kills amid each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .killer import KAFKA, TARGETS, Killer, Shot
from .night import send
from .quiet import until_quiet
from .stack import Stack
from .stories import ORDERS, Item, Stories, with_repeats
from .verdict import Verdict, judge

# Kafka's restart is the slowest by far, and one in three of them would be it.
_TARGETS = tuple(t for t in TARGETS if t.service != "kafka")


@dataclass(frozen=True)
class Interleaving:
    """One of them: its order, what was sent, who was killed, and the verdict over all so far."""

    number: int
    order: str
    alerts: int
    notices: int
    kills: list[Shot]
    verdict: Verdict
    seconds: float


def interleavings(stack: Stack, count: int, rng: Random, after: int = 0) -> Iterator[Interleaving]:
    """Play ``count`` of them, each to its end and judged with all that came before."""
    stories = Stories(rng, after)
    shots: list[Shot] = []
    names = list(ORDERS)
    for number in range(1, count + 1):
        begin = time.monotonic()
        order = names[(number - 1) % len(names)]
        items = with_repeats(ORDERS[order](stories.story(), rng), rng)
        found = _play(stack, items, rng)
        quiet = until_quiet(stack)
        shots += found
        verdict = judge(stack, quiet, shots)
        yield Interleaving(
            number,
            order,
            sum(item.kind != "notice" for item in items),
            sum(item.kind == "notice" for item in items),
            found,
            verdict,
            time.monotonic() - begin,
        )
        if not verdict.ok:
            return


def _play(stack: Stack, items: list[Item], rng: Random) -> list[Shot]:
    kills = rng.choice((1, 1, 2, 3))
    first = tuple(
        KAFKA if rng.random() < 0.1 else rng.choices(_TARGETS, [t.weight for t in _TARGETS])[0]
        for _ in range(kills)
    )
    killer = Killer(stack.state, kills, rng, stack.tail, 1.0, first)
    killer.start()
    try:
        for i, item in enumerate(items):
            while i / len(items) > killer.progress() and killer.is_alive():
                stack.outside.poll(0.02)
            send(stack, item)
        while killer.is_alive():
            stack.outside.poll(0.05)
    finally:
        killer.close()
    if killer.failure is not None:
        raise killer.failure
    return killer.shots
