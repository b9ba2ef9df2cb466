"""``mmgateway demo``."""

from __future__ import annotations

import json
import sys

from rich.console import Console


def run(*, scale: int, keep: bool, as_json: bool) -> None:
    """Play the night; people read along on standard output, or on standard error with JSON."""
    from gateway.night.run import run as play

    console = Console(stderr=as_json)
    if not console.is_terminal:
        # A file or a pipe has no width of its own: lines are not to be cut.
        console = Console(stderr=as_json, width=120)
    result = play(console, scale=scale, keep=keep)
    if as_json:
        json.dump(result, sys.stdout, allow_nan=False)
        sys.stdout.write("\n")
