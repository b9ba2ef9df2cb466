"""``mmgateway bench burst``."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.bench_options import AsJson, Seed, scratch, tell, told

EPILOG = "Examples:\n\nmmgateway bench burst\n\nmmgateway bench burst --small --json"


def burst(
    alerts: Annotated[int, typer.Option(min=100, help="Alerts sent at once.")] = 100_000,
    stamps: Annotated[
        int, typer.Option(min=0, help="Bytes of each of three cut-outs of a packet.")
    ] = 24_000,
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 alerts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Memory of the whole gateway while a night's alerts come at once."""
    from gateway.bench.burst import PACKAGES, Sizes, cases
    from gateway.bench.measure import machine

    sizes = Sizes(alerts=2_000 if small else alerts, stamp_bytes=stamps, seed=seed)
    facts = machine(PACKAGES)
    with scratch() as folder:
        rows = cases(folder, sizes, tell)
    told(rows, facts, as_json)
