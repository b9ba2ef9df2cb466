"""``mmgateway feeds``: see, try, add, pause and watch the feeds."""

from __future__ import annotations

import typer

from gateway.cli import feeds_files

app = typer.Typer(
    name="feeds",
    help="The feeds: see, try, add, pause and watch them.",
    no_args_is_help=True,
)

app.command("try", epilog=feeds_files.TRY_EPILOG)(feeds_files.try_files)
app.command("check", epilog=feeds_files.CHECK_EPILOG)(feeds_files.check)
