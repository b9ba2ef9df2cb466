"""``mmgateway bench cluster``."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:\n\nmmgateway bench cluster\n\nmmgateway bench cluster --small --json"
    "\n\nmmgateway bench cluster --master 'local[2]' --master 'local-cluster[2,1,1024]'"
)


def cluster(
    packets: Annotated[int, typer.Option(min=1000, help="Alerts of 3 kB.")] = 100_000,
    regions: Annotated[int, typer.Option(min=1, help="Active regions.")] = 1000,
    batch: Annotated[int, typer.Option(min=100, help="Alerts of a batch.")] = 20_000,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each.")] = 3,
    master: Annotated[
        list[str] | None,
        typer.Option(help="Of Spark; more than once. Default: local[2], local-cluster[2,1,1024]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of alerts and regions.")] = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 alerts, 100 regions.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="For Kafka's data; a temporary folder by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """Alerts a second with matching in the driver and in Spark's workers, on one Spark or two."""
    from gateway.bench import cluster as bench
    from gateway.bench.measure import machine
    from gateway.cli.bench import show

    facts = machine(bench.PACKAGES)
    sizes = replace(
        bench.SIZES,
        packets=2000 if small else packets,
        regions=100 if small else regions,
        batch=500 if small else batch,
        runs=1 if small else runs,
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-", dir=folder) as work:
        rows = bench.cases(Path(work), sizes, tuple(master or bench.MASTERS), _tell)
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


def _tell(what: str) -> None:
    typer.echo(f"measuring: {what} …", err=True)
