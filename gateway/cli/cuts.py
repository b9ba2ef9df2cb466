"""``mmgateway cuts``: cuts and selections by name, and how many survive each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options

if TYPE_CHECKING:
    from crossmatch.cutnames import Cut
    from crossmatch.selections import Selection
    from gateway.config import Config
    from gateway.offline.funnel import Funnel

app = typer.Typer(
    name="cuts",
    help="Cuts and selections by name, and how many alerts and candidates survive each.",
    no_args_is_help=True,
)
LIST_EPILOG = "Examples:\n\nmmgateway cuts list\n\nmmgateway cuts list --json | jq '.cuts[].name'"
SHOW_EPILOG = (
    "Examples:\n\nmmgateway cuts show star\n\nmmgateway cuts show cuts1\n\n"
    "mmgateway cuts show fink --json"
)
FUNNEL_EPILOG = (
    "Examples:\n\nmmgateway cuts funnel --since 7d\n\n"
    "mmgateway cuts funnel --since 2026-01-01 --plot funnel.png\n\n"
    "mmgateway cuts funnel --event S170817a --json\n\n"
    "mmgateway cuts funnel --since 30d --offline"
)
_MISSING = {"pass": "passes", "fail": "fails"}
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("list", epilog=LIST_EPILOG)
def list_cuts(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the cuts, the selections that are made of them, and where they are used."""
    from crossmatch.cutnames import CUTS
    from gateway.cli.screen import screen

    config = options(context).load()
    chosen = [config.cuts.made, *config.selections.values()]
    uses = _uses(config)
    if as_json:
        record = {
            "cuts": [_cut_record(cut) for cut in CUTS.values()],
            "selections": [_selection_record(one, uses) for one in chosen],
        }
        typer.echo(json.dumps(record, indent=1))
        return
    console = screen()
    _show_cuts(console, CUTS.values())
    _show_selections(console, chosen, uses)


@app.command("show", epilog=SHOW_EPILOG)
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A cut or a selection.")],
    as_json: JsonOption = False,
) -> None:
    """Show a cut with its parameters, or a selection with its cuts."""
    from crossmatch.cutnames import CUTS
    from crossmatch.errors import ConfigError
    from gateway.cli.screen import screen

    config = options(context).load()
    selections = {"default": config.cuts.made, **config.selections}
    if name in CUTS:
        record = _cut_record(CUTS[name])
    elif name in selections:
        record = _selection_record(selections[name], _uses(config))
    else:
        raise ConfigError(
            f"no cut and no selection is called {name!r}: 'mmgateway cuts list' shows them"
        )
    if as_json:
        typer.echo(json.dumps(record, indent=1))
    elif name in CUTS:
        _show_cut(screen(), CUTS[name])
    else:
        _show_selection(screen(), selections[name], _uses(config))


@app.command("funnel", epilog=FUNNEL_EPILOG)
def funnel(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Nights since: 7d, 2026-01-31 (UTC).")
    ] = "",
    event: Annotated[
        str, typer.Option("--event", "-e", metavar="EVENT", help="Of one event, by the archive.")
    ] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, as PNG.")] = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Of a period: do without Kafka, by the ledger's table."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell how many alerts and candidates each cut left, in their order, each counted once.

    Of a period by the ledger, as it was really done: alerts of these nights, and candidates, which
    are objects in an event, whose first alert is of these nights, as they stand now. Of one event
    by its region in force, the archive and the configuration as it is now.
    """
    from crossmatch.errors import ConfigError
    from gateway.cli.screen import screen

    if not since and not event:
        raise ConfigError("say --since WHEN, --event EVENT or both")
    if event and offline:
        raise ConfigError("--offline: an event is looked at by the topics; leave out --event")
    if plot is not None:
        _check_plot(plot)
    config = options(context).load()
    found = _of_event(config, event, since) if event else _of_period(config, since, offline)
    if plot is not None:
        _draw(found, plot)
    if as_json:
        typer.echo(json.dumps(found.as_dict() | {"plot": None if plot is None else str(plot)}))
        return
    _show_funnel(screen(), found)


def _of_period(config: Config, since: str, offline: bool) -> Funnel:
    from broker.ledger import night_of_arrival
    from gateway import services
    from gateway.offline import evidence
    from gateway.offline.archived import parse_since
    from gateway.offline.funnel import of_period

    dated = len(since.strip()) == len("2026-01-31") and since.count("-") == 2
    moment = parse_since(since, datetime.now(UTC))
    night = moment.date().isoformat() if dated else night_of_arrival(moment)
    if offline:
        entries = evidence.from_table(config.paths.state, "not asked").entries
    else:
        bootstrap = services.find_bootstrap(config)
        entries = evidence.entries(evidence.KafkaTopics(bootstrap, config.kafka.properties))
    return of_period(entries, night, config)


def _of_event(config: Config, event: str, since: str) -> Funnel:
    from crossmatch.times import jd_from_datetime
    from gateway import services
    from gateway.offline import reprocess
    from gateway.offline.archived import parse_since
    from gateway.offline.evidence import KafkaTopics
    from gateway.offline.funnel import Asked, of_event

    asked = Asked(event)
    if since:
        asked = Asked(event, jd_from_datetime(parse_since(since, datetime.now(UTC))))
    bootstrap = services.find_bootstrap(config)
    kafka = KafkaTopics(bootstrap, config.kafka.properties)
    world = reprocess.open_world(config, bootstrap, kafka)
    past = reprocess.read_past_of(kafka, event)
    return of_event(world, past, reprocess.settings_of(config), asked)


def _check_plot(plot: Path) -> None:
    from crossmatch.errors import ConfigError

    if plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir():
        raise ConfigError(f"--plot {plot}: name a file ending in .png, in a folder that exists")


def _draw(found: Funnel, plot: Path) -> None:
    from crossmatch.errors import ServiceError
    from gateway.offline.funnel_plot import funnel_plot

    try:
        plot.write_bytes(funnel_plot(found))
    except OSError as error:
        raise ServiceError(f"--plot {plot}: cannot be written: {error.strerror}") from error


def _uses(config: Config) -> dict[str, list[str]]:
    """Where each selection is used."""
    found: dict[str, list[str]] = {}
    if config.cuts.enabled:
        found[config.cuts.made.name] = ["before matching"]
    for key in ("demands", "silver_demands"):
        by_selection: dict[str, list[str]] = {}
        for chain in config.chains.values():
            selection = getattr(chain, key)
            if selection is not None:
                by_selection.setdefault(selection.name, []).append(chain.name)
        for name, mine in by_selection.items():
            others = [chain for chain in config.chains if chain not in mine]
            if len(mine) > len(others):
                rest = f" but {', '.join(others)}" if others else ""
                found.setdefault(name, []).append(f"{key} of all chains{rest}")
            else:
                found.setdefault(name, []).extend(f"{chain} {key}" for chain in mine)
    return found


def _cut_record(cut: Cut) -> dict[str, Any]:
    return {
        "name": cut.name,
        "counted_as": cut.counted_as or cut.name,
        "doc": cut.doc,
        "needs": cut.needs,
        "parameters": [
            {"name": p.name, "default": p.default, "unit": p.unit} for p in cut.parameters
        ],
        "missing": cut.missing,
        "missing_means": cut.missing_means,
        "source": cut.source,
    }


def _selection_record(one: Selection, uses: dict[str, list[str]]) -> dict[str, Any]:
    return {"name": one.name, "used": uses.get(one.name, []), **one.table()}


def _show_cuts(console: Any, cuts: Any) -> None:
    from rich.table import Table

    table = Table(title="Cuts", title_justify="left", box=None, pad_edge=False)
    for title in ("name", "needs", "missing"):
        table.add_column(title, no_wrap=True)
    table.add_column("passes what is")
    for cut in cuts:
        table.add_row(cut.name, cut.needs, _MISSING[cut.missing], cut.doc)
    console.print(table)


def _show_selections(console: Any, chosen: Any, uses: dict[str, list[str]]) -> None:
    from rich.table import Table

    table = Table(title="Selections", title_justify="left", box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("cuts")
    table.add_column("used")
    seen = set()
    for one in chosen:
        if one.name not in seen:
            cuts = ", ".join(step.name for step in one.steps)
            table.add_row(one.name, cuts, ", ".join(uses.get(one.name, [])))
        seen.add(one.name)
    console.print(table)


def _show_cut(console: Any, cut: Cut) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    say(f"{cut.name}: {cut.doc}")
    for one in cut.parameters:
        default = "false (none)" if one.default is None else one.default
        say(f"  {one.name} = {default}" + (f"   {one.unit}" if one.unit else ""))
    say(f"needs: {cut.needs}")
    say(f"a missing value {_MISSING[cut.missing]}: {cut.missing_means}")
    say(f"source: {cut.source}")
    if cut.counted_as:
        say(f"counted as: {cut.counted_as}")


def _show_selection(console: Any, one: Selection, uses: dict[str, list[str]]) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    say(f"{one.name}: {one.doc}" if one.doc else one.name)
    for step in one.steps:
        shown = step.text if step.text.split(" (")[0] == step.name else f"{step.name}: {step.text}"
        say(f"  {shown}")
    say(f"used: {', '.join(uses.get(one.name, [])) or 'nowhere'}")


def _show_funnel(console: Any, found: Funnel) -> None:
    from rich.table import Table

    from gateway.cli.screen import show_table

    console.print(found.title, style="bold", markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("cut", no_wrap=True)
    with_objects = any(level.objects is not None for level in found.levels)
    titles = ("removed", "left", *(("objects",) if with_objects else ()), "left of the one before")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    before = None
    for level in found.levels:
        start = before is None or before.of != level.of
        whole = 0 if start or before is None else before.left
        part = f"{level.left / whole:.1%}" if whole else ""
        name = f"{level.of} {level.name}" if start else f"  {level.name}"
        objects = ["" if level.objects is None else f"{level.objects:,}"] if with_objects else []
        removed = f"{level.removed:,}" if level.removed else ""
        table.add_row(name, removed, f"{level.left:,}", *objects, part)
        before = level
    show_table(console, table)
