"""``mmgateway catalogs backfill``: what candidates await from CDS, and asking for it now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.offline.lookups import Waiting

app = typer.Typer(
    name="backfill",
    help="Look-ups in Simbad and VizieR that candidates did not wait for.",
    no_args_is_help=True,
)
STATUS_EPILOG = (
    "Examples:\n\nmmgateway catalogs backfill status\n\n"
    "mmgateway catalogs backfill status --json | jq .awaited\n\n"
    "Exit status: 0 shown, 1 Kafka does not answer."
)
RUN_EPILOG = (
    "Examples:\n\nmmgateway catalogs backfill run\n\nmmgateway catalogs backfill run --json\n\n"
    "The matcher does this by itself while it runs; answers that are given now are taken in by"
    " the matcher that runs, or with its next start.\n\n"
    "Exit status: 0 everything was answered, 1 something was not, 2 [cds] is not enabled."
)
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("status", epilog=STATUS_EPILOG)
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show how many candidates await an answer, and what the matcher says of it."""
    from crossmatch.errors import ServiceError
    from gateway.lookup import remote_of
    from gateway.matcher.backfill import cache_of
    from gateway.offline.lookups import told

    config = options(context).load()
    remote = remote_of(config)
    found = _waiting(config)
    cache = cache_of(config)
    cached, fault = None, ""
    try:
        cached = cache.count()
    # It only spares questions: what awaits an answer is known without it.
    except ServiceError as error:
        fault = " ".join(str(error).split())
    finally:
        cache.close()
    record: dict[str, Any] = {
        "enabled": config.cds.enabled,
        "catalogs": list(remote.catalogs),
        "awaited": found.counts(),
        "answers_on_the_way": len(found.on_the_way),
        "cached": cached,
        "cache_fault": fault,
        "matcher": dict(told(config)),
    }
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        _show_status(record)


@app.command("run", epilog=RUN_EPILOG)
def run(context: typer.Context, as_json: JsonOption = False) -> None:
    """Ask CDS now for everything that candidates await."""
    from gateway.offline import lookups
    from gateway.services import find_bootstrap

    config = options(context).load()
    found = _waiting(config)
    with _progress(quiet=as_json) as advance:
        report = lookups.run(config, find_bootstrap(config), found, advance)
    left = {name: number for name, number in sorted(report.awaited.items()) if number}
    if as_json:
        record = {
            "answered": dict(sorted(report.answered.items())),
            "from_cache": report.from_cache,
            "left": left,
            "trouble": report.trouble,
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        for name, number in sorted(report.answered.items()):
            typer.echo(f"{name}: {number:,} answered")
        for name, number in left.items():
            why = report.trouble.get(name, "it is asked again later")
            typer.echo(f"{name}: {number:,} not answered: {why}")
        if not found.questions:
            typer.echo("no candidate awaits an answer")
    if left:
        raise typer.Exit(FAILED)


def _waiting(config: Config) -> Waiting:
    from gateway.offline.lookups import waiting
    from gateway.services import ensure_all_topics, find_bootstrap

    bootstrap = find_bootstrap(config)
    ensure_all_topics(config, bootstrap)
    return waiting(config, bootstrap)


def _show_status(record: dict[str, Any]) -> None:
    if not record["enabled"]:
        typer.echo("nothing is looked up at CDS; [cds] enabled = true begins with it")
        return
    trouble = record["matcher"].get("trouble", {})
    for name in record["catalogs"]:
        number = record["awaited"].get(name, 0)
        said = f"{number:,} await an answer" if number else "no candidate awaits an answer"
        typer.echo(f"{name}: {said}" + (f"; {trouble[name]}" if name in trouble else ""))
    if record["answers_on_the_way"]:
        typer.echo(f"{record['answers_on_the_way']:,} answers were not taken in yet")
    if record["cache_fault"]:
        typer.echo(f"the answers that are kept cannot be read: {record['cache_fault']}")
    else:
        typer.echo(f"{record['cached']:,} answers are kept, so as not to ask twice on a day")
    if "told" in record["matcher"]:
        typer.echo(f"the matcher last told of it at {record['matcher']['told']}")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gateway.cli.screen import screen

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = screen(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("asking CDS", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)
