"""``mmgateway bench catalogue``."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

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
    runs: Annotated[int, typer.Option(min=1, help="Counted runs; the median is told.")] = 5,
    seed: Annotated[int, typer.Option(help="Of sources and positions.")] = 1,
    small: Annotated[
        bool, typer.Option("--small", help="100,000 sources, 400 and 5,000 positions.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For the catalogues (40 bytes a source); kept, and used again."),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Others beside ours: mmgateway[bench].")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """The nearest source within 1.5″ of many positions, beside trees and table tools."""
    from dataclasses import replace

    from gateway.bench import catalogue as bench
    from gateway.bench.measure import machine
    from gateway.cli.bench import show

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
    scratch = tempfile.TemporaryDirectory(prefix="mmgateway-bench-")
    with nullcontext(folder) if folder else scratch as work:
        rows = bench.cases(
            Path(work),
            sizes,
            (lambda _: None) if as_json else _tell,
            note=lambda what: typer.echo(what, err=True),
        )
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


def _tell(what: str) -> None:
    typer.echo(f"measuring: {what} …", err=True)
