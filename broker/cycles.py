"""When Python looks for objects that hold only each other.

The matcher holds hundreds of thousands of alerts and groups, none of them in a cycle; by Python's
own rule each step would have it go through all of them, for a fifth of the step's time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 50_000
_YOUNG_LOOKS = 50


@contextmanager
def rarely_looked_for() -> Iterator[None]:
    """For who makes many objects and keeps them: new ones are looked at, all of them seldom."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_LOOKS, _YOUNG_LOOKS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def not_looked_for() -> Iterator[None]:
    """As long as alerts are gone through by the hundred thousand: not at all."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
