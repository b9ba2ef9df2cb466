"""``mmgateway feeds enable``, ``disable``, ``history`` and ``rollback``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import options

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.feeds.store import FeedStore

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the feed.")]

ENABLE_EPILOG = (
    "Examples:\n\nmmgateway feeds enable any_voevent\n\nmmgateway feeds enable ourteam --json"
)
DISABLE_EPILOG = (
    "Examples:\n\nmmgateway feeds disable maxi\n\nmmgateway feeds disable ourteam --json"
)
HISTORY_EPILOG = (
    "Examples:\n\nmmgateway feeds history\n\nmmgateway feeds history ourteam\n\n"
    "mmgateway feeds history ourteam --json"
)
ROLLBACK_EPILOG = (
    "Examples:\n\nmmgateway feeds history ourteam\n\nmmgateway feeds rollback ourteam 078913042dcf"
)


def feed_store(context: typer.Context) -> FeedStore:
    """The feeds that the configuration names."""
    return store_of(options(context).load())


def store_of(config: Config) -> FeedStore:
    """The feeds that ``config`` names."""
    from gateway.feeds.store import FeedStore

    return FeedStore(config.feed_folders, config.paths.state, lambda: datetime.now(UTC))


def enable(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Turn a feed on: a paused one, or one whose file says [bold]enabled = false[/bold].

    Messages that were held while it was paused are worked through. A running listener takes
    the change up by itself.
    """
    _switch(context, name, True, as_json)


def disable(context: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Pause a feed: its messages are recognised and held, none is lost.

    A running listener takes the change up by itself.
    """
    _switch(context, name, False, as_json)


def _switch(context: typer.Context, name: str, on: bool, as_json: bool) -> None:
    store = feed_store(context)
    store.switch(name, on)
    loaded = store.load()
    state = loaded.state(name)
    sentence = {
        "on": "is on",
        "paused": "is paused; its messages are held until 'mmgateway feeds enable'",
        "off": "is off: its file says enabled = false",
        "broken": "is used in its last good version: its file is broken",
    }[state]
    if as_json:
        paused = name in loaded.registry.paused
        typer.echo(json.dumps({"name": name, "state": state, "paused": paused}))
    else:
        typer.echo(f"{name} {sentence}")


def history(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of the feed; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed in the feeds and when, and which versions can be brought back."""
    from gateway.feeds.loading import BUILT_IN

    store = feed_store(context)
    # What was edited while nothing ran is a change too.
    store.load()
    changes = store.history(name)
    if as_json:
        typer.echo(json.dumps({"changes": [asdict(c) for c in changes]}, indent=1))
        return
    if name is None:
        # That the built-in feeds came with the first start is not worth forty lines.
        changes = [
            c for c in changes if not (c.action == "added" and c.source.startswith(BUILT_IN))
        ]
    if not changes:
        typer.echo("no changes; 'mmgateway feeds history NAME' shows the version of a feed")
        return
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    table = Table(box=None, pad_edge=False)
    for title in ("time (UTC)", "feed", "what", "version", "detail", "file"):
        table.add_column(title, overflow="fold", no_wrap=title not in ("what", "detail"))
    for c in changes:
        time = c.time[:19].replace("T", " ")
        # A file that never was a feed has its own name alone.
        feed = c.feed or Path(c.source).stem
        table.add_row(time, feed, c.action.replace("_", " "), c.version, c.detail, c.source)
    show_table(screen(), table)


def rollback(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="As 'feeds history' shows, or its first digits."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Bring an earlier version of a feed back, as your file of that feed.

    Of a built-in feed a copy is written to the first folder of feeds. What stood in the file
    is kept in the history. A running listener takes the change up by itself.
    """
    store = feed_store(context)
    path = store.rollback(name, version)
    feed = store.load().registry.feed(name)
    if as_json:
        typer.echo(json.dumps({"name": name, "version": feed.version, "path": str(path)}))
    else:
        typer.echo(f"{name} is at version {feed.version} again: {path}")
