"""What has to be done now and then, beside the steps: tables kept tidy, events put aside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LOOK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done every so many seconds.

    ``at_end``: also when the service stops. ``once``: no more after it was done without failing.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    at_end: bool = False
    once: bool = False


class Chores(threading.Thread):
    """Does chores in a thread of its own.

    One that fails is told and tried again in its time: a table that cannot be compacted now
    must not end the matching.

    Parameters
    ----------
    chores : sequence of Chore
    on_end : callable
        Told the name of a chore that was done and what it raised, None if nothing.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        chores: Sequence[Chore],
        on_end: Callable[[str, Exception | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="chores", daemon=True)
        self._chores = list(chores)
        self._on_end = on_end
        self._clock = clock
        self._due = {chore.name: clock() + chore.seconds for chore in self._chores}
        self._over = threading.Event()

    def run(self) -> None:
        """Until :meth:`stop`."""
        while self._chores and not self._over.wait(self.do_due()):
            pass

    def do_due(self) -> float:
        """Do what is due; seconds until the next chore is."""
        for chore in self._chores:
            if self._clock() >= self._due[chore.name] and not self._over.is_set():
                done = self._do(chore)
                wait = math.inf if done and chore.once else chore.seconds
                self._due[chore.name] = self._clock() + wait
        return min(_LOOK_SECONDS, max(0.0, min(self._due.values()) - self._clock()))

    def stop(self) -> None:
        """End, after what is being done and what is to be done at the end."""
        self._over.set()
        if self.is_alive():
            self.join(60)
        for chore in self._chores:
            if chore.at_end:
                self._do(chore)

    def _do(self, chore: Chore) -> bool:
        """Do a chore; whether it did not fail."""
        try:
            chore.work()
        except Exception as error:
            self._on_end(chore.name, error)
            return False
        self._on_end(chore.name, None)
        return True
