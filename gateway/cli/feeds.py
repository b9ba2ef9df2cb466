"""``mmgateway feeds``: see, try, add, pause and watch the feeds."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="feeds",
    help="The feeds: see, try, add, pause and watch them.",
    no_args_is_help=True,
)
