"""What the commands of ``mmgateway bench`` share: options, and how rows are told."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.bench import ending

if TYPE_CHECKING:
    from gateway.bench.measure import Row

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, one line a subject.")]
Peers = Annotated[
    bool, typer.Option("--peers/--no-peers", help="Others beside ours: mmgateway[bench].")
]
Runs = Annotated[int, typer.Option(min=1, help="Counted runs; the median is told.")]
Seed = Annotated[
    int, typer.Option(min=0, help="Of all that is made up: the same seed, the same data.")
]


def finite(number: float | None) -> float | None:
    """The number of an option, unless it is infinite or none."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"{number} is no finite number")
    return number


def tell(what: str) -> None:
    """Say what is measured now, to people: what programs read goes elsewhere."""
    typer.echo(f"measuring: {what} …", err=True)


def note(what: str) -> None:
    """Say what is left out, whoever reads."""
    typer.echo(what, err=True)


@contextmanager
def scratch(inside: Path | None = None) -> Iterator[Path]:
    """A folder that goes away with the bench, also when it is ended from outside.

    The one that it is to be made in stays, and is made if it is not there.
    """
    if inside is not None:
        inside.mkdir(parents=True, exist_ok=True)
    with (
        ending.cleanly(),
        tempfile.TemporaryDirectory(prefix="mmgateway-bench-", dir=inside) as folder,
    ):
        yield Path(folder)


def told(rows: Sequence[Row], facts: dict[str, Any], as_json: bool) -> None:
    """Rows on the terminal; the command fails when results differ."""
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


def show(rows: Sequence[Row], facts: dict[str, Any], as_json: bool) -> None:
    """Rows as a table for people, or as JSON lines with the facts of the machine in each."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.as_dict() | {"machine": facts}))
        return
    from gateway.cli.screen import screen, show_table

    console = screen()
    show_table(console, _table(rows))
    for case, compared in {row.case: row.compared for row in rows}.items():
        console.print(f"[bold]{case}[/bold]: {compared}")
    for row in rows:
        if row.facts:
            figures = ", ".join(f"{k} {v}" for k, v in row.facts.items())
            console.print(f"{row.case}, {row.subject}: {figures}")
    show_machine(facts)


def show_machine(facts: dict[str, Any]) -> None:
    """The machine and what was installed on it, in small print."""
    from gateway.cli.screen import screen

    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    code = f"commit {facts['commit']}, " if facts.get("commit") else ""
    screen().print(
        f"{code}{facts['began_utc']}, load {facts['load_1min']} on {facts['processors']} processors"
        f" ({facts['processor']}), {facts['memory_gb']} GB, Python {facts['python']}; {versions}",
        style="dim",
    )


def _table(rows: Sequence[Row]) -> Any:
    from rich.table import Table

    from gateway.bench.measure import duration

    table = Table(box=None, header_style="bold")
    for name in ("case", "subject"):
        table.add_column(name, overflow="fold")
    for name in ("items", "per second", "each", "ratio to ours", "median", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("runs", "equal"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        per_s = f"{row.per_s:,.0f}" if row.per_s >= 20 else f"{row.per_s:.1f}"
        table.add_row(
            row.case,
            row.subject,
            f"{row.items:,}",
            per_s if row.items > 1 else "",
            duration(row.us_per_item / 1e6),
            f"{row.ratio_to_ours:.2f}",
            duration(row.seconds),
            f"{duration(row.seconds_min)} … {duration(row.seconds_max)}",
            f"{row.runs}",
            "" if row.equal is None else "yes" if row.equal else "NO",
        )
    return table
