"""``mmgateway bench packets``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:\n\nmmgateway bench packets\n\nmmgateway bench packets --packets 2000 --json"
    "\n\nmmgateway bench packets --samples alerts/ztf --tasks 2"
)


def packets(
    count: Annotated[
        int, typer.Option("--packets", min=100, help="Packets a run; 82 kB each, three copies.")
    ] = 10_000,
    batch: Annotated[int, typer.Option(min=10, help="Packets a batch.")] = 2_500,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks that copy at a time.")] = 1,
    samples: Annotated[
        Path | None,
        typer.Option(help="Folder with real ZTF packets, *.avro; else packets are made."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the packets that are made.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a case.")
    ] = False,
) -> None:
    """What keeping every packet costs: rate, processor time, the matching beside it, GB a night."""
    from gateway.bench.measure import machine
    from gateway.bench.packets import PACKAGES, Sizes, cases
    from gateway.cli.bench import show

    facts = machine(PACKAGES)
    tell = (lambda _: None) if as_json else _tell
    sizes = Sizes(packets=count, batch=batch, tasks=tasks, seed=seed, folder=samples)
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
        rows = cases(Path(folder), sizes, tell)
    show(rows, facts, as_json)


def _tell(what: str) -> None:
    typer.echo(f"measuring: {what} …", err=True)
