"""The demo night, played while everything is being killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gateway.night.alerts import TimedAlert, alerts
from gateway.night.notices import Timed, notices
from gateway.night.timeline import Schedule

from .killer import Killer, Target
from .quiet import until_quiet
from .stack import Stack
from .stories import Item, Stories, with_repeats
from .verdict import Verdict, judge

_NIGHT_SEED = 170817
Say = Callable[[str], None]


@dataclass(frozen=True)
class Moment:
    """What is sent when a part of the night, 0 to 1, is over."""

    part: float
    item: Item


def moments(scale: int, stories: int, rng: Random) -> list[Moment]:
    """The night of ``scale`` alerts and its notices, and stories spread over it, in order.

    Without the stories a listener would be killed while there is nothing to hear.
    """
    schedule = Schedule.of_night(1.0)
    played = schedule.merged(notices(_NIGHT_SEED), alerts(scale, _NIGHT_SEED))
    night = [Moment(schedule.wall_seconds(one.sent), _item(one)) for one in played]
    teller = Stories(rng)
    for _ in range(stories):
        begin = rng.random()
        items = rng.sample(found := teller.story(), len(found))
        night += [Moment(min(1.0, begin + rng.random() * 0.2), item) for item in items]
    night += [
        Moment(min(1.0, one.part + rng.random() * 0.1), one.item)
        for one in rng.sample(night, len(night) // 30)
        if one.item.kind != "garbage"
    ]
    return sorted(night, key=lambda one: one.part)


def _item(one: Timed | TimedAlert) -> Item:
    if isinstance(one, TimedAlert):
        return Item("alert", one.payload, key=one.object_id.encode())
    return Item("notice", one.payload, "" if one.via == "vtp" else one.topic)


def send(stack: Stack, item: Item) -> None:
    """Send one thing."""
    if item.kind == "alert":
        stack.outside.alert(item.payload, item.key)
    elif item.kind == "garbage":
        stack.outside.garbage(item.payload)
    else:
        stack.outside.notice(item.topic, item.payload)


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    verdict: Verdict
    killer: Killer
    restarts: dict[str, int]
    seconds: float


def play(
    stack: Stack,
    night: list[Moment],
    kills: int,
    rng: Random,
    say: Say,
    first: tuple[Target, ...] = (),
    gap_seconds: float = 4.0,
) -> Result:
    """Play the night; it lasts as long as the kills take."""
    begin = time.monotonic()
    killer = Killer(stack.state, kills, rng, stack.tail, gap_seconds, first)
    night = night[_begin(stack, night, 1 / (kills + 1), say) :]
    killer.start()
    told = 0
    try:
        for one in night:
            while one.part > killer.progress() and killer.is_alive():
                stack.outside.poll(0.05)
            send(stack, one.item)
            while told < len(killer.shots):
                shot = killer.shots[told]
                told += 1
                say(f"kill {told:>3} of {kills}  {shot.target.name:<26} {shot.mode}")
        while killer.is_alive():
            stack.outside.poll(0.1)
    finally:
        killer.close()
    if killer.failure is not None:
        raise killer.failure
    say("waiting until all is quiet")
    quiet = until_quiet(stack)
    say(f"comparing everything ({quiet.seconds:.0f} s later)")
    verdict = judge(stack, quiet, killer.shots)
    return Result(verdict, killer, stack.restarts(), time.monotonic() - begin)


def _begin(stack: Stack, night: list[Moment], part: float, say: Say) -> int:
    """Send the first part of the night and see that all works before anybody dies; how much."""
    sent = sum(one.part < part for one in night)
    for one in night[:sent]:
        send(stack, one.item)
    quiet = until_quiet(stack)
    if quiet.missing:
        raise RuntimeError(f"before any kill: {', '.join(quiet.missing)}")
    say(f"{sent} things of the night are taken in; the killing begins")
    return sent


__all__ = ["Moment", "Result", "moments", "play", "send", "with_repeats"]
