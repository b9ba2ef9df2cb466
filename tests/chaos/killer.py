"""Who is killed when: random targets at random moments, some of them amid a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gateway import supervisor
from gateway.runfiles import pid_record
from tests.endtoend import killing

from .listening import Tail

PATIENCE_SECONDS = 120.0
"""A service that is not back by then will not come back."""


@dataclass(frozen=True)
class Target:
    """What is killed of which service, and how often it is chosen."""

    service: str
    what: str
    weight: float
    aim: Callable[[Path], list[int]]
    """Processes that die, negative for groups; none when there are none just now."""

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"{self.service}: {self.what}"


def _all(service: str) -> Callable[[Path], list[int]]:
    return lambda state: killing.everything(state, service)


def _leader(service: str) -> Callable[[Path], list[int]]:
    return lambda state: killing.leader(state, service)


def _below(service: str, which: Callable[[killing.Process], bool]) -> Callable[[Path], list[int]]:
    return lambda state: killing.below(state, service, which)


KAFKA = Target("kafka", "all", 6, _all("kafka"))
TARGETS = (
    Target("match", "all", 16, _all("match")),
    Target("match", "Python driver", 12, _leader("match")),
    Target("match", "JVM", 12, _below("match", killing.is_java)),
    Target("match", "Spark workers", 4, _below("match", killing.is_spark_worker)),
    Target("listen", "all", 12, _all("listen")),
    Target("listen", "Python", 4, _leader("listen")),
    Target("listen", "reader of notices", 4, _below("listen", killing.is_reader)),
    Target("publish", "all", 16, _all("publish")),
    KAFKA,
    Target("kafka", "JVM", 4, _below("kafka", killing.is_java)),
    Target("kafka", "Python", 4, _leader("kafka")),
)
# Not a service by itself: its parent goes on without it, or starts another one.
_PART_OF_ITS_SERVICE = ("Spark workers", "reader of notices")


@dataclass
class Shot:
    """One kill: of what, how its moment was chosen, when (Unix seconds), back after how long."""

    target: Target
    mode: str
    at: float
    old: int
    recovery_s: float | None = None
    cut: int = 0
    """Messages of transactions that it cut."""


class Killer(threading.Thread):
    """Kills ``count`` times.

    Parameters
    ----------
    state : Path
        Folder of the gateway.
    count : int
    rng : Random
    tail : Tail
    gap_seconds : float
        Longest pause between a recovery and the next kill.
    first : sequence of Target, optional
        Killed before the dice are thrown.
    """

    def __init__(
        self,
        state: Path,
        count: int,
        rng: Random,
        tail: Tail,
        gap_seconds: float = 4.0,
        first: tuple[Target, ...] = (),
    ) -> None:
        super().__init__(name="killer", daemon=True)
        self.shots: list[Shot] = []
        self.failure: Exception | None = None
        self._state = state
        self._count = count
        self._rng = rng
        self._tail = tail
        self._gap = gap_seconds
        self._first = first
        self._missed = False
        self._near: float | None = None
        self._over = threading.Event()
        self._last = time.monotonic()

    def progress(self) -> float:
        """From 0 to 1, for whoever plays the night meanwhile.

        Half of each part comes during an outage, the other half when the next kill is near:
        otherwise there would be no message at which to kill.
        """
        now = time.monotonic()
        outage = min(1.0, (now - self._last) / (2 * self._gap))
        near = 0.0 if self._near is None else min(1.0, (now - self._near) / (2 * self._gap))
        return min(1.0, (len(self.shots) + (outage + near) / 2) / (self._count + 1))

    def run(self) -> None:
        """Kill until it was often enough."""
        try:
            while len(self.shots) < self._count and not self._over.is_set():
                self._next()
            self._until(lambda: not self.pending(), PATIENCE_SECONDS)
        except Exception as error:
            # Looked at at the end: kills that were not made prove nothing.
            self.failure = error

    def close(self) -> None:
        """Kill no more."""
        self._over.set()
        self.join(PATIENCE_SECONDS + 10)

    def pending(self) -> list[Shot]:
        """Kills after which the service is not back yet."""
        return [
            s
            for s in self.shots
            if s.recovery_s is None
            and s.target.what not in _PART_OF_ITS_SERVICE
            and not self._was_hit_again(s)
        ]

    def _next(self) -> None:
        number = len(self.shots)
        wanted = number < len(self._first) and not self._missed
        target = self._first[number] if wanted else self._draw()
        mode = self._rng.choices(("any time", "soon after a message", "at a message"), (3, 3, 4))[0]
        # Now and then while the last one is not back yet.
        if self._rng.random() < 0.75:
            self._until(lambda: not self.pending(), PATIENCE_SECONDS)
            self._near = time.monotonic()
            self._pause(self._rng.uniform(0.2, self._gap))
        else:
            mode = "any time"
            self._pause(self._rng.uniform(0.1, 3.0))
        late = self._rng.uniform(0.0, 0.3)
        old, chosen = killing.pid_of(self._state, target.service), target.aim(self._state)
        if not chosen:
            # It is down, or has no such part just now: another one then.
            self._missed = True
            self._pause(0.2)
            return
        if mode != "any time" and not self._wait_for_message(target):
            mode = "any time"
        if mode == "soon after a message":
            self._pause(late)
        at = time.time()
        if killing.pid_of(self._state, target.service) == old and killing.kill(chosen):
            self.shots.append(Shot(target, mode, at, old))
            self._missed, self._near = False, None
            self._last = time.monotonic()

    def _draw(self) -> Target:
        return self._rng.choices(TARGETS, [t.weight for t in TARGETS])[0]

    def _wait_for_message(self, target: Target) -> bool:
        # Kafka is in the middle of whatever transaction there is.
        return self._tail.wait("" if target.service == "kafka" else target.service, 3 * self._gap)

    def _was_hit_again(self, shot: Shot) -> bool:
        later = self.shots[self.shots.index(shot) + 1 :]
        return any(s.target.service == shot.target.service for s in later)

    def _pause(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not self._over.is_set():
            self._look()
            if condition():
                return
            time.sleep(min(0.05, max(0.0, limit - time.monotonic())))

    def _look(self) -> None:
        """Note who is back; whoever would wait long before the next try is asked for again."""
        for shot in self.pending():
            if killing.is_back(self._state, shot.target.service, shot.old):
                shot.recovery_s = time.time() - shot.at
            else:
                self._hurry(shot.target.service)

    def _hurry(self, service: str) -> None:
        """Ask as ``mmgateway up`` does: with back-off a hundred kills would take hours."""
        record = pid_record(self._state, service) or {}
        if record.get("failures", 0) >= 2 and not killing.pid_of(self._state, service):
            with supervisor.locked(self._state):
                supervisor.change_wanted(self._state)
