"""``mmgateway bench cluster``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.bench_options import AsJson, Seed, scratch, tell, told

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
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 alerts, 100 regions.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For Kafka's data, made if it is not there; default: a temporary one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Alerts a second with matching in the driver and in Spark's workers, on one Spark or two."""
    from gateway.bench import cluster as bench
    from gateway.bench.measure import machine

    facts = machine(bench.PACKAGES)
    sizes = replace(
        bench.SIZES,
        packets=2000 if small else packets,
        regions=100 if small else regions,
        batch=500 if small else batch,
        runs=1 if small else runs,
        seed=seed,
    )
    with scratch(folder) as work:
        rows = bench.cases(work, sizes, tuple(master or bench.MASTERS), tell)
    told(rows, facts, as_json)
