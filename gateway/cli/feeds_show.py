"""``mmgateway feeds list`` and ``show``."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.feeds_manage import JsonOption, NameArgument, feed_store
from gateway.cli.screen import screen, show_facts, show_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.feeds.spec import Feed
    from gateway.feeds.store import Loaded, Problem

LIST_EPILOG = (
    "Examples:\n\nmmgateway feeds list\n\nmmgateway feeds list --json | jq '.feeds[].topics'"
)
SHOW_EPILOG = (
    "Examples:\n\nmmgateway feeds show fermi_gbm\n\n"
    "mmgateway feeds show fermi_gbm --toml | tee feeds/fermi_gbm.toml  (a copy of your own)\n\n"
    "mmgateway feeds show ourteam --json"
)
_COLOURS = {"on": "green", "paused": "yellow", "off": "bright_black", "broken": "red"}
_SHORTEST_TITLE = 16


def list_feeds(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the feeds: what they are, whether they are on, who may see them, their files.

    [bold]on[/bold]; [bold]paused[/bold]: messages are held; [bold]off[/bold]: the file says so;
    [bold]broken[/bold]: the file cannot be used; its last good version is, if there is one.
    """
    loaded = feed_store(context).load(record=False)
    if as_json:
        problems = [_problem(p) for p in loaded.problems]
        typer.echo(json.dumps({"feeds": _rows(loaded), "problems": problems}, indent=1))
        return
    console = screen()
    show_table(console, _table(_rows(loaded), console.width))
    _print_problems(loaded.problems, console)


def _table(rows: list[dict[str, Any]], width: int) -> Any:
    """Table of the feeds that fits: titles give way, then what is least asked for; names never."""
    from rich.table import Table
    from rich.text import Text

    columns: dict[str, list[str]] = {
        "name": [r["name"] for r in rows],
        "title": [r["title"] for r in rows],
        "messenger": [r["messenger"] for r in rows],
        "format": [r["format"] for r in rows],
        "state": [r["state"] for r in rows],
        "streams": [", ".join(r["streams"]) for r in rows],
        "version": [r["version"] for r in rows],
        "topics": [str(len(r["topics"]) or "") for r in rows],
        "file": ["built-in" if r["built_in"] else Path(r["file"]).name for r in rows],
    }
    if not any(columns["streams"]):
        del columns["streams"]
    wide = {k: max(len(k), *map(len, v)) for k, v in columns.items()}
    for least in ("topics", "format", "messenger", "title"):
        rest = width - sum(w + 1 for k, w in wide.items() if k != "title")
        if rest > min(wide["title"], _SHORTEST_TITLE):
            break
        del wide[least]
    if "title" in wide:
        wide["title"] = min(wide["title"], rest - 1)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in wide:
        side: Any = "right" if name == "topics" else "left"
        most = wide[name] if name == "title" else None
        table.add_column(name, max_width=most, no_wrap=True, overflow="ellipsis", justify=side)
    for number in range(len(rows)):
        cells = {k: Text(columns[k][number]) for k in wide}
        cells["state"].stylize(_COLOURS[rows[number]["state"]])
        table.add_row(*cells.values())
    return table


def show(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="The text of its file, as it is.")
    ] = False,
) -> None:
    """Show one feed: where it comes from, how it is recognised and read, what is wrong with it.

    Values of [transport] properties are masked, except in the text of the file.
    """
    from crossmatch.errors import ConfigError

    store = feed_store(context)
    loaded = store.load(record=False)
    own = _of_name(name, loaded)
    if own and name not in {f.name for f in loaded.registry.feeds}:
        raise ConfigError(own[0].sentence)
    store.require(name)
    if as_toml:
        typer.echo(store.text(name), nl=False)
        return
    feed = loaded.registry.feed(name)
    if as_json:
        plain = _plain(feed)
        plain |= _row(feed, loaded)
        plain["problems"] = [_problem(p) for p in own]
        typer.echo(json.dumps(plain, indent=1))
        return
    console = screen()
    show_facts(console, _facts(feed, loaded))
    _print_kinds(feed, console)
    _print_problems(own, console)


def _facts(feed: Feed, loaded: Loaded) -> Iterable[tuple[str, str]]:
    """Label and text of what a person wants to know of a feed."""
    from gateway.feeds.spec import Feed as Spec

    default = {f.name: f.default for f in fields(Spec)}
    yield "name", f"{feed.name}: {feed.title}"
    yield "state", loaded.state(feed.name)
    yield "file", f"{feed.source}, version {feed.version}"
    yield "mission", " ".join(filter(None, (feed.mission, feed.instrument)))
    yield "messenger", feed.messenger
    yield "seen by", ", ".join(feed.audience) or "everybody"
    yield "format", " ".join(filter(None, (feed.format, feed.parser and f"read by {feed.parser}")))
    yield "topics", "\n".join(feed.topics)
    for label in ("kafka", "group", "vtp", "folder"):
        yield f"own {label}", getattr(feed.transport, label)
    yield "recognised by", "\n".join((*feed.ivoids, *feed.schemas, *feed.members))
    yield "event", f"{feed.prefix}_<{'_'.join(feed.trigger) or 'id'}>".lstrip("_")
    included = "" if not feed.systematic_included else ", systematic included"
    yield "error radius", f"{100 * feed.containment:g} % unless it says otherwise{included}"
    for key in ("error_unit", "frame", "time_format", "time_system", "chain"):
        value = getattr(feed, key)
        yield key.replace("_", " "), "" if value == default[key] else value
    for key in ("fields", "details", "test_when", "retraction_when", "ignore_when"):
        table: Mapping[str, str] = getattr(feed, key)
        yield key.replace("_", " "), "\n".join(f"{k} = {v}" for k, v in table.items())


def _print_kinds(feed: Feed, console: Any) -> None:
    from rich.table import Table

    if len(feed.kinds) < 2 and not (feed.kinds and feed.kinds[0].packet_types):
        return
    table = Table(title="Kinds of notice", title_justify="left", box=None, pad_edge=False)
    for title in ("kind", "packet types or values", "what becomes of it"):
        table.add_column(title, overflow="fold", no_wrap=title == "kind")
    for kind in feed.kinds:
        what = "position" if kind.position else kind.no_position_reason or "no position"
        what = "retraction" if kind.retraction else what
        what = f"ignored: {kind.ignore}" if kind.ignore else what
        names = ", ".join(map(str, kind.packet_types or kind.values)) or "all"
        table.add_row(kind.name, names, what + (", test" if kind.test else ""))
    console.print()
    show_table(console, table)


def _print_problems(problems: Iterable[Problem], console: Any) -> None:
    for problem in problems:
        kept = f" (feed {problem.feed} stays at its last good version)" if problem.feed else ""
        console.print(f"{problem.sentence}{kept}", style="red", markup=False, soft_wrap=True)


def _of_name(name: str, loaded: Loaded) -> list[Problem]:
    """Problems of a feed, and of new files that bear its name."""
    return [p for p in loaded.problems if name == p.feed or (_is_new(p) and name == p.path.stem)]


def _is_new(problem: Problem) -> bool:
    """Whether it is a file that was never good: nothing of it is used."""
    return not problem.feed and problem.path.suffix == ".toml"


def _rows(loaded: Loaded) -> list[dict[str, Any]]:
    """A row for each feed, by name, and for each file that was never one."""
    rows = [_row(f, loaded) for f in loaded.registry.feeds]
    rows += [_broken_row(p) for p in loaded.problems if _is_new(p)]
    return sorted(rows, key=lambda r: r["name"])


def _broken_row(problem: Problem) -> dict[str, Any]:
    """Row of a new file that cannot be used: nothing is known of it but its name."""
    return {
        "name": problem.path.stem,
        "title": "",
        "messenger": "",
        "format": "",
        "state": "broken",
        "paused": False,
        "streams": [],
        "version": "",
        "file": str(problem.path),
        "built_in": False,
        "topics": [],
    }


def _row(feed: Feed, loaded: Loaded) -> dict[str, Any]:
    from gateway.feeds.loading import BUILT_IN

    return {
        "name": feed.name,
        "title": feed.title,
        "messenger": feed.messenger,
        "format": feed.format,
        "state": loaded.state(feed.name),
        "paused": feed.name in loaded.registry.paused,
        "streams": list(feed.audience),
        "version": feed.version,
        "file": feed.source,
        "built_in": feed.source.startswith(BUILT_IN),
        "topics": list(feed.topics),
    }


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "path": str(problem.path),
        "sentence": problem.sentence,
        "feed": problem.feed,
    }


def _plain(value: Any) -> Any:
    """A feed as JSON values; what a record hides from its repr is masked."""
    if is_dataclass(value):
        return {
            f.name: _plain(getattr(value, f.name))
            if f.repr
            else {k: _masked(v) for k, v in getattr(value, f.name).items()}
            for f in fields(value)
        }
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if hasattr(value, "items") else value


def _masked(value: str) -> str:
    # A name of the environment is no secret.
    return value if value.startswith("$") else "***"
