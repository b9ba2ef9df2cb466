"""``mmgateway feeds suggest``: feeds for messages that no feed knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli.feeds_manage import JsonOption, feed_store
from gateway.cli.screen import screen

if TYPE_CHECKING:
    from gateway.feeds.drafts.suggest import Suggestion

EPILOG = (
    "Examples:\n\nmmgateway feeds suggest\n\nmmgateway feeds suggest --write drafts\n\n"
    "mmgateway feeds suggest --json | jq -r '.suggestions[0].toml'"
)


def suggest(
    context: typer.Context,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FOLDER", help="Write the proposed files there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List messages that no feed knows, with the file of a feed that would.

    The listener counts them and keeps up to three samples of each kind; each proposal is
    tried on them. Look at what it guessed before you use it.
    """
    from gateway.feeds.drafts.suggest import suggestions

    config = options(context).load()
    registry = feed_store(context).load(record=False).registry
    found = suggestions(config.paths.state, registry, config.chains)
    written = {} if write is None else _written(found, write)
    if as_json:
        rows = [_row(s) | {"path": written.get(s.name, "")} for s in found]
        typer.echo(json.dumps({"suggestions": rows}, indent=1))
        return
    if not found:
        typer.echo("Every message that was heard is known to a feed.")
        return
    console = screen()
    for one in found:
        _show(one, written.get(one.name, ""), console, whole=write is None)
    if write is None:
        console.print("Write them with: mmgateway feeds suggest --write FOLDER", markup=False)


def _written(found: list[Suggestion], folder: Path) -> dict[str, str]:
    """Write the proposals; the path of each. None is written over another file."""
    from crossmatch.errors import ConfigError, ServiceError
    from gateway.cli.feeds_new import write_new

    made = [s for s in found if s.toml]
    taken = [p for s in made if (p := folder / f"{s.name}.toml").exists()]
    if taken:
        raise ConfigError(f"{taken[0]} exists; it is not replaced, and nothing was written")
    return {
        s.name: str(write_new(folder / f"{s.name}.toml", s.toml, ConfigError, ServiceError))
        for s in made
    }


def _row(one: Suggestion) -> dict[str, Any]:
    from gateway.cli.feeds_new import as_row

    return {
        "form": one.form,
        "sign": one.sign,
        "packet_types": one.packet_types,
        "sources": one.sources,
        "topics": one.topics,
        "count": one.count,
        "first": one.first,
        "last": one.last,
        "samples": one.samples,
        "name": one.name,
        "toml": one.toml,
        "tried": None if one.tried is None else as_row(one.tried),
        "problem": one.problem,
    }


def _show(one: Suggestion, path: str, console: Any, *, whole: bool) -> None:
    from rich.text import Text

    from gateway.cli.feeds_new import in_words

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    types = f", packet types {', '.join(map(str, one.packet_types))}" if one.packet_types else ""
    messages = "1 message" if one.count == 1 else f"{one.count:,} messages"
    say(f"{messages}: {one.form} {one.sign}{types}", "bold")
    topics = f", topics {', '.join(one.topics)}" if one.topics else ""
    say(f"  by {', '.join(one.sources)}{topics}; first {one.first}, last {one.last}")
    if one.tried is not None:
        say(f"  a sample, with the proposed feed {one.name}: {in_words(one.tried)}")
    if one.problem:
        say(f"  no proposal: {one.problem}", "yellow")
    if path:
        say(f"  {path}")
    elif one.toml and whole:
        say("\n" + "\n".join(f"    {line}" for line in one.toml.splitlines()) + "\n")
