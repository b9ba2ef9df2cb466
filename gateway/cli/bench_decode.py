"""``mmgateway bench decode``."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.bench_options import AsJson, Runs, Seed, scratch, tell, told

EPILOG = (
    "Examples:\n\nmmgateway bench decode\n\nmmgateway bench decode --size 82 --runs 7 --json"
    "\n\nmmgateway bench decode --small"
)


def decode(
    packets: Annotated[
        int,
        typer.Option(
            min=100,
            help="Packets a run of ours; Spark's from_avro reads 1 in 5, peers in Python 1 in"
            " 1,000 of them.",
        ),
    ] = 1_000_000,
    size: Annotated[
        list[int] | None,
        typer.Option(metavar="KB", help="Only packets of so many kB: 3, 47, 82. Repeatable."),
    ] = None,
    runs: Runs = 5,
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 packets, one run.")] = False,
    as_json: AsJson = False,
) -> None:
    """From alert packets to the columns that matching needs, beside those who read all of them."""
    from gateway.bench.decode import CASES, PACKAGES, Sizes, cases
    from gateway.bench.measure import machine

    known = sorted({kilobytes for _, kilobytes in CASES})
    if unknown := set(size or ()) - set(known):
        raise typer.BadParameter(
            f"{min(unknown)} is none of {', '.join(map(str, known))}", param_hint="--size"
        )
    count = 2_000 if small else packets
    sizes = Sizes(
        packets=count,
        by_peers=max(20, count // 1_000),
        kilobytes=tuple(size or ()),
        runs=1 if small else runs,
        seed=seed,
    )
    facts = machine(PACKAGES)
    with scratch() as folder:
        rows = cases(folder, sizes, tell)
    told(rows, facts, as_json)
