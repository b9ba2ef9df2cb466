"""``mmgateway feeds``: see, try, add, pause and watch the feeds."""

from __future__ import annotations

import typer

from gateway.cli import (
    feeds_files,
    feeds_manage,
    feeds_new,
    feeds_show,
    feeds_stats,
    feeds_suggest,
)

app = typer.Typer(
    name="feeds",
    help="The feeds: see, try, add, pause and watch them.",
    no_args_is_help=True,
)

app.command("list", epilog=feeds_show.LIST_EPILOG)(feeds_show.list_feeds)
app.command("show", epilog=feeds_show.SHOW_EPILOG)(feeds_show.show)
app.command("new", epilog=feeds_new.EPILOG)(feeds_new.new)
app.command("try", epilog=feeds_files.TRY_EPILOG)(feeds_files.try_files)
app.command("check", epilog=feeds_files.CHECK_EPILOG)(feeds_files.check)
app.command("enable", epilog=feeds_manage.ENABLE_EPILOG)(feeds_manage.enable)
app.command("disable", epilog=feeds_manage.DISABLE_EPILOG)(feeds_manage.disable)
app.command("history", epilog=feeds_manage.HISTORY_EPILOG)(feeds_manage.history)
app.command("rollback", epilog=feeds_manage.ROLLBACK_EPILOG)(feeds_manage.rollback)
app.command("stats", epilog=feeds_stats.EPILOG)(feeds_stats.stats)
app.command("suggest", epilog=feeds_suggest.EPILOG)(feeds_suggest.suggest)
