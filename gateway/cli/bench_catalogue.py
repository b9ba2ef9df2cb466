"""``mmgateway bench catalogue``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.bench_options import AsJson, Peers, Runs, Seed, note, scratch, tell, told

EPILOG = (
    "Examples:\n\nmmgateway bench catalogue\n\nmmgateway bench catalogue --small --json"
    "\n\nmmgateway bench catalogue --sources 100000000 --positions 10000 --folder /data/bench"
)


def catalogue(
    sources: Annotated[
        list[int] | None,
        typer.Option(min=1000, help="Of a catalogue; more than once. Default: 10,000,000."),
    ] = None,
    positions: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Of a batch; more than once. Default: 400, 10,000, 1,000,000."),
    ] = None,
    runs: Runs = 5,
    seed: Seed = 1,
    small: Annotated[
        bool, typer.Option("--small", help="100,000 sources, 400 and 5,000 positions.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For the catalogues (40 bytes a source); made, kept, and used again."),
    ] = None,
    peers: Peers = True,
    as_json: AsJson = False,
) -> None:
    """The nearest source within 1.5″ of many positions, beside trees and table tools."""
    from dataclasses import replace

    from gateway.bench import catalogue as bench
    from gateway.bench.measure import machine

    facts = machine(bench.PACKAGES)
    sizes = replace(bench.SMALL, seed=seed, peers=peers)
    if not small:
        sizes = bench.Sizes(
            sources=tuple(sources or bench.Sizes().sources),
            positions=tuple(positions or bench.Sizes().positions),
            runs=runs,
            seed=seed,
            peers=peers,
        )
    with nullcontext(folder) if folder else scratch() as work:
        rows = bench.cases(work, sizes, tell, note)
    told(rows, facts, as_json)
