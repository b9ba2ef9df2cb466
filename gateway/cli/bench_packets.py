"""``mmgateway bench packets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.bench_options import AsJson, Runs, Seed, scratch, tell, told

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
        typer.Option(
            help="Folder with real ZTF packets, *.avro; else packets are made.",
        ),
    ] = None,
    runs: Runs = 3,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """What keeping every packet costs: rate, processor time, the matching beside it, GB a night."""
    from gateway.bench.measure import machine
    from gateway.bench.packets import PACKAGES, Sizes, cases

    if samples is not None and not samples.is_dir():
        raise typer.BadParameter(f"{samples} is no folder", param_hint="--samples")
    facts = machine(PACKAGES)
    sizes = Sizes(packets=count, batch=batch, tasks=tasks, runs=runs, seed=seed, folder=samples)
    with scratch() as folder:
        rows = cases(folder, sizes, tell)
    told(rows, facts, as_json)
