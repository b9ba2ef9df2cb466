"""``mmgateway bench``: figures of this machine, ours beside those of peers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.bench import ending
from gateway.cli.bench_options import (
    AsJson,
    Peers,
    Runs,
    Seed,
    finite,
    note,
    scratch,
    show,
    show_machine,
    tell,
    told,
)

__all__ = ["app", "show"]

app = typer.Typer(
    name="bench",
    help="Measure on this machine, ours beside peers, results checked equal first.",
    no_args_is_help=True,
)
_EPILOG = (
    "Examples:\n\nmmgateway bench notices\n\nmmgateway bench notices --no-live --json"
    "\n\nmmgateway bench notices --samples folder/with/voevents --no-live"
    "\n\nmmgateway bench notices --rate 200 --live-notices 5000"
)

_LATE_EPILOG = (
    "Examples:\n\nmmgateway bench late-region\n\nmmgateway bench late-region --small"
    "\n\nmmgateway bench late-region --folder /data/bench --nights 30 --alerts 300000 --json"
)
_LATENCY_EPILOG = (
    "Examples:\n\nmmgateway bench latency\n\nmmgateway bench latency --rate 200 --candidates 5000"
    "\n\nmmgateway bench latency --cds-seconds 10"
)
_PIPELINE_EPILOG = (
    "Examples:\n\nmmgateway bench pipeline\n\nmmgateway bench pipeline --small"
    "\n\nmmgateway bench pipeline --survey lsst --stamps 0 --packets 200000"
)
_JOIN_EPILOG = (
    "Examples:\n\nmmgateway bench join\n\nmmgateway bench join --small --json"
    "\n\nmmgateway bench join --regions 1000 --alerts 200000 --no-peers"
)
_BOUNDS_EPILOG = (
    "Examples:\n\nmmgateway bench bounds\n\nmmgateway bench bounds month --small --json"
)


class Survey(StrEnum):
    """Whose packets are sent."""

    ztf = "ztf"
    lsst = "lsst"


@app.command("notices", epilog=_EPILOG)
def notices(
    voevents: Annotated[int, typer.Option(min=10, help="VOEvents a run.")] = 3000,
    records: Annotated[int, typer.Option(min=10, help="JSON notices a run.")] = 5000,
    cells: Annotated[int, typer.Option(min=1000, help="Cells of the sky map.")] = 1_000_000,
    runs: Runs = 5,
    seed: Seed = 1,
    samples: Annotated[
        Path | None,
        typer.Option(help="Folder with VOEvents as they came, *.xml."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live/--no-live", help="Also notice to region on the topic; starts a Kafka."
        ),
    ] = True,
    rate: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Notices a second, live.")
    ] = 50.0,
    live_notices: Annotated[int, typer.Option(min=10, help="Notices sent, live.")] = 1000,
    live_maps: Annotated[int, typer.Option(min=0, help="Notices with sky maps, live.")] = 20,
    as_json: AsJson = False,
) -> None:
    """From bytes to notices and regions: VOEvents, JSON, a large sky map, and the live path."""
    from gateway.bench import live as live_path
    from gateway.bench.measure import machine
    from gateway.bench.notices import PACKAGES, Sizes, cases

    if samples is not None and not samples.is_dir():
        raise typer.BadParameter(f"{samples} is no folder", param_hint="--samples")
    facts = machine(PACKAGES)
    sizes = Sizes(
        voevents=voevents, records=records, cells=cells, runs=runs, seed=seed, samples=samples
    )
    rows = cases(sizes, tell)
    if live:
        with scratch() as folder:
            rows += live_path.cases(
                folder,
                per_second=rate,
                count=live_notices,
                maps=live_maps,
                cells=cells,
                seed=seed,
                tell=tell,
            )
    told(rows, facts, as_json)


@app.command("late-region", epilog=_LATE_EPILOG)
def late_region(
    nights: Annotated[int, typer.Option(min=1, help="Nights in the archive.")] = 30,
    alerts: Annotated[int, typer.Option(min=1000, help="Alerts a night.")] = 1_000_000,
    runs: Runs = 3,
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="3 nights of 20,000 alerts.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For the archive (110 MB a night of 1 M); made, kept, and used again."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Also live alerts beside searches.")
    ] = True,
    kafka: Annotated[
        bool, typer.Option("--kafka/--no-kafka", help="Steps are committed to a Kafka of its own.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """A sky map and a circle that come late, searched for in an archive of many nights."""
    from gateway.bench import late_cases
    from gateway.bench.measure import machine

    facts = machine(late_cases.PACKAGES)
    sizes = late_cases.Sizes(
        nights=3 if small else nights, alerts=20_000 if small else alerts, runs=runs, seed=seed
    )
    with ending.cleanly():
        with _nights_made() as advance:
            archive = late_cases.archive(sizes, folder, advance)
        rows = late_cases.cases(sizes, archive, live=live, kafka=kafka, tell=tell)
    told(rows, facts, as_json)


@contextmanager
def _nights_made() -> Iterator[Callable[[int, int], None]]:
    """Shows how many nights of the archive are there."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gateway.cli.screen import screen

    columns = (TextColumn("nights of alerts"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=screen(stderr=True)) as progress:
        task = progress.add_task("nights")
        yield lambda done, of: progress.update(task, completed=done, total=of)


@app.command("latency", epilog=_LATENCY_EPILOG)
def latency(
    rate: Annotated[float, typer.Option(min=0.1, callback=finite, help="Alerts a second.")] = 50.0,
    candidates: Annotated[int, typer.Option(min=10, help="Waited for.")] = 2000,
    cds_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            callback=finite,
            metavar="SECONDS",
            help="Also beside a CDS, of the bench's own, that takes so long for an answer.",
        ),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="200 candidates, one turn.")] = False,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """From an alert on its topic to its candidate, through a whole gateway of the bench's own."""
    from gateway.bench import latency as whole
    from gateway.bench.measure import machine

    facts = machine(whole.PACKAGES)
    sizes = whole.Sizes(per_second=rate, candidates=200 if small else candidates, seed=seed)
    with scratch() as folder:
        if cds_seconds is None:
            rows = whole.cases(folder, sizes, tell=tell)
        else:
            turns = 1 if small else 2
            rows = whole.beside_cds(folder, sizes, cds_seconds, turns=turns, tell=tell)
    told(rows, facts, as_json)


@app.command("pipeline", epilog=_PIPELINE_EPILOG)
def pipeline(
    packets: Annotated[int, typer.Option(min=1000, help="Alerts on the topic.")] = 100_000,
    stamps: Annotated[int, typer.Option(min=0, help="Bytes of each of three cut-outs.")] = 24_000,
    regions: Annotated[int, typer.Option(min=1, help="Active regions.")] = 1000,
    survey: Annotated[
        Survey, typer.Option(help="Whose packets; without cut-outs LSST's have 3 kB, ZTF's 8.")
    ] = Survey.ztf,
    sources: Annotated[
        int,
        typer.Option(
            min=0,
            help="Galaxies in a local catalogue; four of other kinds have a tenth each. 0: none.",
        ),
    ] = 10_000_000,
    batch: Annotated[int, typer.Option(min=100, help="Alerts of a batch.")] = 20_000,
    runs: Runs = 7,
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="2,000 alerts, 100 regions.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="For Kafka's data, made if it is not there; default: a temporary one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Alerts a second from Kafka to candidates, beside Spark jobs that only read and decode."""
    from gateway.bench import pipeline as bench
    from gateway.bench.measure import machine

    if packets < 2 * batch and not small:
        raise typer.BadParameter(
            f"{packets} packets are not two batches of {batch}; the first one is not counted",
            param_hint="--packets",
        )
    facts = machine(bench.PACKAGES)
    sizes = bench.Sizes(
        packets=2000 if small else packets,
        stamp_bytes=stamps,
        regions=100 if small else regions,
        batch=500 if small else batch,
        runs=1 if small else runs,
        plain=100 if small else 200,
        survey=survey.value,
        sources=min(sources, 100_000) if small else sources,
        seed=seed,
    )
    with scratch(folder) as work:
        rows = bench.cases(work, sizes, tell)
    told(rows, facts, as_json)


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
    runs: Runs = 5,
    seed: Seed = 1,
    small: Annotated[bool, typer.Option("--small", help="5,000 alerts, 1 and 20 regions.")] = False,
    peers: Peers = True,
    as_json: AsJson = False,
) -> None:
    """Alerts with all active regions at once, beside region by region and general joins."""
    from dataclasses import replace

    from gateway.bench import join as bench
    from gateway.bench.measure import machine

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
    rows = bench.cases(sizes, tell, note)
    told(rows, facts, as_json)


@app.command("bounds", epilog=_BOUNDS_EPILOG)
def bounds(
    only: Annotated[
        list[str] | None, typer.Argument(help="burst, regions, half-sky, month; default: all.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="A tenth of everything.")] = False,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Memory and latency under a burst, many regions, half the sky, and over a month."""
    from gateway.bench import bounds as cases
    from gateway.bench.measure import machine

    if unknown := set(only or ()) - set(cases.CASES):
        raise typer.BadParameter(
            f"{min(unknown)} is none of {', '.join(cases.CASES)}", param_hint="only"
        )
    facts = machine(cases.PACKAGES)
    results = cases.measured(only or list(cases.CASES), small=small, seed=seed, tell=tell)
    if as_json:
        for result in results:
            line = cases.row(result).as_dict() | {"result": result, "machine": facts}
            typer.echo(json.dumps(line))
    else:
        _show_bounds(results)
        show_machine(facts)
    if not all(result["bounded"] for result in results):
        raise typer.Exit(1)


_NOT_SHOWN = ("bench", "case", "told", "bounded", "items", "seconds")


def _show_bounds(results: Sequence[dict[str, Any]]) -> None:
    from gateway.cli.screen import screen, show_facts

    console = screen()
    for result in results:
        console.print(f"[bold]{result['case']}[/bold]: {result['told']}")
        shown = {k: v for k, v in result.items() if k not in _NOT_SHOWN}
        shown["bounded"] = "yes" if result["bounded"] else "NO"
        show_facts(console, [(k.replace("_", " "), _plain(v)) for k, v in shown.items()])


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
