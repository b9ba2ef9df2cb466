"""``mmgateway up``, ``down``, ``status``, and each service in the foreground."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config import Config
    from gateway.services import ServiceStatus


class Service(StrEnum):
    """What ``up``, ``down`` and ``status`` take."""

    kafka = "kafka"
    listen = "listen"
    match = "match"
    publish = "publish"


ServicesArgument = Annotated[
    list[Service] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]

DEMO_EPILOG = (
    "Examples:\n\nmmgateway demo\n\nmmgateway demo --scale 1000000 --keep\n\n"
    "mmgateway demo --json | jq .candidates"
)
UP_EPILOG = (
    "Examples:\n\nmmgateway up\n\nmmgateway up kafka listen\n\nmmgateway up --foreground"
    "  (for systemd or a container)"
)
DOWN_EPILOG = "Examples:\n\nmmgateway down\n\nmmgateway down match"
STATUS_EPILOG = "Examples:\n\nmmgateway status\n\nmmgateway status listen --json"
LISTEN_EPILOG = "Examples:\n\nmmgateway listen\n\nMMGATEWAY_LISTEN__FOLDER=inbox mmgateway listen"
MATCH_EPILOG = (
    "Examples:\n\nmmgateway match\n\nMMGATEWAY_MATCH__MASTER=spark://host:7077 mmgateway match"
)
PUBLISH_EPILOG = (
    "Examples:\n\nmmgateway publish\n\nMMGATEWAY_PUBLISH__MIN_TIER=silver mmgateway publish"
)


def demo(
    scale: Annotated[
        int, typer.Option("--scale", min=1000, metavar="N", help="Number of optical alerts.")
    ] = 100_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the gateway up at the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay the night of GW170817 through the whole gateway."""
    from gateway.cli import demo as night

    night.run(scale=scale, keep=keep, as_json=as_json)


def up(
    context: typer.Context,
    services: ServicesArgument = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Supervise in this process, until Ctrl-C.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds until all must be ready.")
    ] = 180.0,
    as_json: JsonOption = False,
) -> None:
    """Start the services and return when they are ready.

    Without [bold]\\[kafka] bootstrap[/bold] in the configuration an embedded one-node Kafka is
    started too. Services that die are started again. Calling it twice changes nothing.
    """
    from gateway import services as control

    chosen = options(context)
    config = chosen.load()
    names = [s.value for s in services or ()]
    if foreground:
        control.up_in_foreground(config, names, config_path=chosen.config_path)
        return
    statuses = control.up(
        config, names, config_path=chosen.config_path, timeout=timeout, report=_report
    )
    _print(statuses, as_json)


def down(
    context: typer.Context, services: ServicesArgument = None, as_json: JsonOption = False
) -> None:
    """Stop the services, in the reverse order of starting.

    Only processes that [bold]mmgateway up[/bold] started are ended.
    """
    from gateway import services as control

    config = options(context).load()
    _print(control.down(config, [s.value for s in services or ()]), as_json)


def status(
    context: typer.Context, services: ServicesArgument = None, as_json: JsonOption = False
) -> None:
    """Show every service: state, process, since when, where it answers, memory.

    Exit status 1 when a service that was named does not run, so that
    [bold]mmgateway status listen[/bold] is a health check; without names always 0.
    """
    from gateway import services as control
    from gateway.matcher.progress import searches

    config = options(context).load()
    named = [s.value for s in services or ()]
    shown = [s for s in control.status(config) if not named or s.service in named]
    under_way = searches(config.paths.state)
    _print(shown, as_json, searches=under_way)
    if not as_json:
        _print_searches(under_way)
        _hint_at_alarms(config)
    if named and not all(one.state in ("running", "external") for one in shown):
        raise typer.Exit(1)


def listen(context: typer.Context) -> None:
    """Run the listener: notices in, regions out."""
    from gateway.listener import service

    service.run(_foreground(context, keeps=True))


def match(context: typer.Context) -> None:
    """Run the broker: the Spark query that joins alerts with regions."""
    from gateway.matcher import service

    service.run(_foreground(context, keeps=True))


def publish(context: typer.Context) -> None:
    """Run the publisher: candidates out as VOEvents, over VTP and Kafka."""
    from gateway.publisher import service

    service.run(_foreground(context), lambda: datetime.now(UTC))


def kafka(context: typer.Context) -> None:
    """Run the embedded Kafka."""
    from gateway import services as control

    control.run_kafka(_foreground(context))


def supervisor(context: typer.Context) -> None:
    """Run the supervisor."""
    from gateway import services as control

    config = _foreground(context)
    control.run_supervisor(config, options(context).config_path)


def _foreground(context: typer.Context, *, keeps: bool = False) -> Config:
    """Configuration of a service that runs in this process; ``keeps`` when it writes much."""
    from gateway import logs
    from gateway import services as control

    logs.start_logging()
    config = options(context).load()
    control.check_disk(config.paths.state, control.MIN_FREE_BYTES if keeps else 0)
    return config


_SEARCHES_SHOWN = 10


def _print_searches(searches: Sequence[Mapping[str, Any]]) -> None:
    """How far the searches of the archive have come that new and revised regions owe."""
    for one in searches[:_SEARCHES_SHOWN]:
        print(
            f"searching the archive for {one['event_id']}: {one['nights_done']} of"
            f" {one['nights']} nights, {one['found']} alerts found",
            file=sys.stderr,
        )
    if len(searches) > _SEARCHES_SHOWN:
        print(f"and for {len(searches) - _SEARCHES_SHOWN} more events", file=sys.stderr)


def _hint_at_alarms(config: Config) -> None:
    from gateway.runfiles import read_json
    from gateway.watch.alarms import alarms_path

    told = (read_json(alarms_path(config.paths.state)) or {}).get("in_force")
    if told:
        print(f"alarms in force: {len(told)} (mmgateway feeds stats --alarms)", file=sys.stderr)


def _report(one: ServiceStatus) -> None:
    where = f" at {one.endpoint}" if one.endpoint else ""
    trouble = f": {one.error}" if one.error else ""
    print(f"{one.service}: {one.state}{where}{trouble}", file=sys.stderr)


def _print(statuses: list[ServiceStatus], as_json: bool, **more: object) -> None:
    if as_json:
        record = {"services": [one.as_dict() for one in statuses], **more}
        typer.echo(json.dumps(record, indent=2))
        return
    from gateway.cli.screen import screen

    show_statuses(statuses, screen())


def show_statuses(statuses: list[ServiceStatus], console: Console) -> None:
    """Print one line a service; only notes fold."""
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import show_table

    table = Table(box=None, pad_edge=False)
    for title in ("service", "state", "pid", "since (UTC)", "endpoint"):
        table.add_column(title, no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    colours = {"running": "green", "external": "green", "failed": "red", "waiting": "yellow"}
    for one in statuses:
        colour = colours.get(one.state, "default")
        memory = "" if one.memory_mb is None else f"{one.memory_mb:.0f} MiB"
        again = f"{one.restarts} restarts " if one.restarts else ""
        table.add_row(
            one.service,
            f"[{colour}]{one.state}[/]",
            str(one.pid or ""),
            one.since.removesuffix("+00:00").replace("T", " "),
            one.endpoint,
            memory,
            # Sentences name tables such as [kafka], which are no markup.
            Text(again + one.error),
        )
    show_table(console, table)
