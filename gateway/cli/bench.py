"""``mmgateway bench``: figures of this machine, ours beside those of peers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.bench.measure import Row

app = typer.Typer(
    name="bench",
    help="Measure on this machine, ours beside peers, results checked equal first.",
    no_args_is_help=True,
)
_EPILOG = (
    "Examples:\n\nmmgateway bench notices\n\nmmgateway bench notices --no-live --json"
    "\n\nmmgateway bench notices --rate 200 --live-notices 5000"
)

_LATE_EPILOG = (
    "Examples:\n\nmmgateway bench late-region\n\nmmgateway bench late-region --small"
    "\n\nmmgateway bench late-region --folder /data/bench --nights 30 --alerts 300000 --json"
)
_LATENCY_EPILOG = (
    "Examples:\n\nmmgateway bench latency\n\nmmgateway bench latency --rate 200 --candidates 5000"
)
_PIPELINE_EPILOG = (
    "Examples:\n\nmmgateway bench pipeline\n\nmmgateway bench pipeline --small"
    "\n\nmmgateway bench pipeline --stamps 0 --packets 200000 --batch 20000"
)
_JOIN_EPILOG = (
    "Examples:\n\nmmgateway bench join\n\nmmgateway bench join --small --json"
    "\n\nmmgateway bench join --regions 1000 --alerts 200000 --no-peers"
)
_BOUNDS_EPILOG = (
    "Examples:\n\nmmgateway bench bounds\n\nmmgateway bench bounds month --small --json"
)


@app.command("notices", epilog=_EPILOG)
def notices(
    voevents: Annotated[int, typer.Option(min=10, help="VOEvents a run.")] = 3000,
    records: Annotated[int, typer.Option(min=10, help="JSON notices a run.")] = 5000,
    cells: Annotated[int, typer.Option(min=1000, help="Cells of the sky map.")] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs; the median is told.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the generated messages.")] = 1,
    live: Annotated[
        bool,
        typer.Option(
            "--live/--no-live", help="Also notice to region on the topic; starts a Kafka."
        ),
    ] = True,
    rate: Annotated[float, typer.Option(min=0.1, help="Notices a second, live.")] = 50.0,
    live_notices: Annotated[int, typer.Option(min=10, help="Notices sent, live.")] = 1000,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """From bytes to notices and regions: VOEvents, JSON, a large sky map, and the live path."""
    from gateway.bench import live as live_path
    from gateway.bench.measure import machine
    from gateway.bench.notices import PACKAGES, Sizes, cases

    facts = machine(PACKAGES)
    tell = (lambda _: None) if as_json else _tell
    rows = cases(Sizes(voevents=voevents, records=records, cells=cells, runs=runs, seed=seed), tell)
    if live:
        with tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
            rows.append(
                live_path.latency(
                    Path(folder), per_second=rate, count=live_notices, seed=seed, tell=tell
                )
            )
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


@app.command("late-region", epilog=_LATE_EPILOG)
def late_region(
    nights: Annotated[int, typer.Option(min=1, help="Nights in the archive.")] = 30,
    alerts: Annotated[int, typer.Option(min=1000, help="Alerts a night.")] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Searches of each region.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the generated alerts.")] = 1,
    small: Annotated[bool, typer.Option("--small", help="3 nights of 20,000 alerts.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For the archive (110 MB a night of 1 M); kept, and used again."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Also live alerts beside searches.")
    ] = True,
    kafka: Annotated[
        bool, typer.Option("--kafka/--no-kafka", help="Steps are committed to a Kafka of its own.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """A sky map and a circle that come late, searched for in an archive of many nights."""
    from gateway.bench import late_cases
    from gateway.bench.measure import machine

    tell = (lambda _: None) if as_json else _tell
    facts = machine(late_cases.PACKAGES)
    sizes = late_cases.Sizes(
        nights=3 if small else nights, alerts=20_000 if small else alerts, runs=runs, seed=seed
    )
    with _nights_made(quiet=as_json) as advance:
        archive = late_cases.archive(sizes, folder, advance)
    rows = late_cases.cases(sizes, archive, live=live, kafka=kafka, tell=tell)
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


@contextmanager
def _nights_made(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Shows how many nights of the archive are there."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gateway.cli.screen import screen

    columns = (TextColumn("nights of alerts"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=screen(stderr=True), disable=quiet) as progress:
        task = progress.add_task("nights")
        yield lambda done, of: progress.update(task, completed=done, total=of)


@app.command("latency", epilog=_LATENCY_EPILOG)
def latency(
    rate: Annotated[float, typer.Option(min=0.1, help="Alerts a second.")] = 50.0,
    candidates: Annotated[int, typer.Option(min=10, help="Waited for.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the generated alerts.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """From an alert on its topic to its candidate, through a whole gateway of the bench's own."""
    from gateway.bench import latency as whole
    from gateway.bench.measure import machine

    tell = (lambda _: None) if as_json else _tell
    facts = machine(whole.PACKAGES)
    sizes = whole.Sizes(per_second=rate, candidates=candidates, seed=seed)
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
        show(whole.cases(Path(folder), sizes, tell=tell), facts, as_json)


@app.command("pipeline", epilog=_PIPELINE_EPILOG)
def pipeline(
    packets: Annotated[int, typer.Option(min=1000, help="Alerts on the topic.")] = 20_000,
    stamps: Annotated[int, typer.Option(min=0, help="Bytes of each of three cut-outs.")] = 24_000,
    regions: Annotated[int, typer.Option(min=1, help="Active regions.")] = 1000,
    batch: Annotated[int, typer.Option(min=100, help="Alerts of a batch.")] = 2500,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each job.")] = 7,
    seed: Annotated[int, typer.Option(help="Of alerts and regions.")] = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 alerts, 100 regions.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="For Kafka's data; a temporary folder by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """Alerts a second from Kafka to candidates, beside Spark jobs that only read and decode."""
    from gateway.bench import pipeline as bench
    from gateway.bench.measure import machine

    tell = (lambda _: None) if as_json else _tell
    facts = machine(bench.PACKAGES)
    sizes = bench.Sizes(
        packets=2000 if small else packets,
        stamp_bytes=stamps,
        regions=100 if small else regions,
        batch=500 if small else batch,
        runs=1 if small else runs,
        plain=100 if small else 200,
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-", dir=folder) as work:
        rows = bench.cases(Path(work), sizes, tell)
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


@app.command("join", epilog=_JOIN_EPILOG)
def join(
    alerts: Annotated[int, typer.Option(min=1000, help="Alerts all over the sky.")] = 1_000_000,
    regions: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Active regions; more than once. Default: 1, 10, ... 10,000."),
    ] = None,
    cells: Annotated[
        int, typer.Option(min=200, help="Of a map, a mean; one region in five is a map.")
    ] = 10_000,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs; the median is told.")] = 5,
    seed: Annotated[int, typer.Option(help="Of alerts and regions.")] = 1,
    small: Annotated[bool, typer.Option("--small", help="5,000 alerts, 1 and 20 regions.")] = False,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Others beside ours: mmgateway[bench].")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a subject.")
    ] = False,
) -> None:
    """Alerts with all active regions at once, beside region by region and general joins."""
    from dataclasses import replace

    from gateway.bench import join as bench
    from gateway.bench.measure import machine

    tell = (lambda _: None) if as_json else _tell
    facts = machine(bench.PACKAGES)
    sizes = replace(bench.SMALL, seed=seed, peers=peers)
    if not small:
        sizes = bench.Sizes(
            alerts=alerts,
            regions=tuple(regions or bench.Sizes().regions),
            cells=cells,
            runs=runs,
            seed=seed,
            peers=peers,
        )
    rows = bench.cases(sizes, tell, note=lambda what: typer.echo(what, err=True))
    show(rows, facts, as_json)
    if any(row.equal is False for row in rows):
        raise typer.Exit(1)


@app.command("bounds", epilog=_BOUNDS_EPILOG)
def bounds(
    only: Annotated[
        list[str] | None, typer.Argument(help="burst, regions, half-sky, month; default: all.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="A tenth of everything.")] = False,
    seed: Annotated[int, typer.Option(help="Of the generated alerts and events.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line a case.")
    ] = False,
) -> None:
    """Memory and latency under a burst, many regions, half the sky, and over a month."""
    from gateway.bench import bounds as cases
    from gateway.bench.measure import machine

    tell = (lambda _: None) if as_json else _tell
    facts = machine(cases.PACKAGES)
    results = cases.measured(only or list(cases.CASES), small=small, seed=seed, tell=tell)
    if as_json:
        for result in results:
            typer.echo(json.dumps(result | {"machine": facts}))
    else:
        _show_bounds(results)
    if not all(result["bounded"] for result in results):
        raise typer.Exit(1)


def _show_bounds(results: Sequence[dict[str, Any]]) -> None:
    from gateway.cli.screen import screen, show_facts

    console = screen()
    for result in results:
        console.print(f"[bold]{result['case']}[/bold]: {result['told']}")
        shown = {k: v for k, v in result.items() if k not in ("bench", "case", "told", "bounded")}
        shown["bounded"] = "yes" if result["bounded"] else "NO"
        show_facts(console, [(k.replace("_", " "), _plain(v)) for k, v in shown.items()])


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def show(rows: Sequence[Row], facts: dict[str, Any], as_json: bool) -> None:
    """Rows as a table for people, or as JSON lines with the facts of the machine in each."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row.as_dict() | {"machine": facts}))
        return
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    console = screen()
    table = Table(box=None, header_style="bold")
    for name in ("case", "subject"):
        table.add_column(name, overflow="fold")
    for name in ("items", "per second", "each", "ratio to ours", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("equal", no_wrap=True)
    for row in rows:
        table.add_row(
            row.case,
            row.subject,
            f"{row.items:,}",
            "" if row.facts else f"{row.per_s:,.0f}" if row.per_s >= 20 else f"{row.per_s:.1f}",
            _duration(row.seconds if row.facts else row.us_per_item / 1e6),
            f"{row.ratio_to_ours:.2f}",
            f"{_duration(row.seconds_min)} … {_duration(row.seconds_max)}",
            "" if row.equal is None else "yes" if row.equal else "NO",
        )
    show_table(console, table)
    for case, compared in {row.case: row.compared for row in rows}.items():
        console.print(f"[bold]{case}[/bold]: {compared}")
    for row in rows:
        if row.facts:
            console.print(f"{row.case}: " + ", ".join(f"{k} {v}" for k, v in row.facts.items()))
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    console.print(
        f"load {facts['load_1min']} on {facts['processors']} processors,"
        f" Python {facts['python']}; {versions}",
        style="dim",
    )


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _tell(what: str) -> None:
    typer.echo(f"measuring: {what} …", err=True)
