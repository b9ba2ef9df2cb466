"""``mmgateway bench all``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.bench_options import tell

EPILOG = (
    "Examples:\n\nmmgateway bench all --short\n\nmmgateway bench all --out results.jsonl"
    "\n\nmmgateway bench all join latency --out results.jsonl"
)


def every(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benches, such as join latency; default: all.")
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Small sizes: minutes, and no figures to rely on.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(help="File of JSON lines. It keeps its lines of benches that are not run."),
    ] = Path("results.jsonl"),
) -> None:
    """Run all benches, each in a process of its own, and keep their lines in a file.

    In full this takes hours. docs/make_performance.py makes a page with plots of the file.
    """
    from gateway.bench.every import chosen, run_all

    run_all(chosen(names or []), out, short=short, tell=tell)
    typer.echo(f"{out}: written")
