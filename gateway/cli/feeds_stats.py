"""``mmgateway feeds stats``: which feeds were heard, how fast, and what is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config import Config
    from gateway.watch.records import FeedRecord
    from gateway.watch.stats import FeedStats, Stats

EPILOG = (
    "Examples:\n\nmmgateway feeds stats\n\nmmgateway feeds stats fermi_gbm\n\n"
    "mmgateway feeds stats --json | jq '.feeds[] | select(.state == \"silent\")'\n\n"
    "mmgateway feeds stats --alarms  (for cron: exit status 1 while an alarm is in force)\n\n"
    "Exit status: 0 done; with --alarms 1 when an alarm is in force; 2 bad usage."
)
_COLOURS = {"ok": "green", "quiet": "yellow", "silent": "red", "paused": "cyan"}


def stats(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="More about one feed.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
    alarms: Annotated[
        bool,
        typer.Option("--alarms", help="Only the alarms in force; exit status 1 if there are any."),
    ] = False,
) -> None:
    """Show for each feed when it was last heard, its rate, its latencies and what is wrong.

    The numbers are those that the listener wrote down last; it need not run.
    """
    config = options(context).load()
    found = _read(config)
    chosen = None if name is None else _named(found, name)
    in_force = [a for a in found.alarms if name is None or a.subject == name]
    if as_json:
        record: dict[str, Any] = found.as_dict()
        if chosen is not None:
            record["feeds"] = [chosen.as_dict(found.now)]
        record["alarms"] = [a.as_dict() for a in in_force]
        if alarms:
            record = {key: record[key] for key in ("now", "written", "listener", "alarms")}
        typer.echo(json.dumps(record, indent=2))
    else:
        _show(found, chosen, only_alarms=alarms, subject=name)
    if alarms and in_force:
        raise typer.Exit(FAILED)


def _read(config: Config) -> Stats:
    from gateway import services as control
    from gateway.feeds.store import FeedStore
    from gateway.watch.health import read_health, snapshot_path
    from gateway.watch.records import Health
    from gateway.watch.stats import feed_stats

    state = config.paths.state
    now = datetime.now(UTC)
    store = FeedStore(config.feed_folders, state, lambda: now)
    health = read_health(snapshot_path(state)) or Health()
    listener = control.status_of(config, "listen").state
    return feed_stats(health, store.load(record=False), config.alarms, now, listener)


def _named(found: Stats, name: str) -> FeedStats:
    from crossmatch.errors import ConfigError
    from gateway.near import did_you_mean

    for one in found.feeds:
        if one.verdict.feed == name:
            return one
    hint = did_you_mean(
        name, (f.verdict.feed for f in found.feeds), "'mmgateway feeds list' shows all"
    )
    raise ConfigError(f"no feed is called {name!r}; {hint}")


def _show(
    found: Stats, chosen: FeedStats | None, *, only_alarms: bool, subject: str | None
) -> None:
    from gateway.cli.screen import screen

    console = screen()
    _show_age(found, console)
    if not only_alarms:
        if chosen is not None:
            _show_one(chosen, found, console)
        else:
            _show_feeds(found, console)
            _show_servers(found, console)
            _show_maps(found, console)
    in_force = [a for a in found.alarms if subject is None or a.subject == subject]
    if not in_force:
        console.print("No alarm is in force.", style="green")
    for alarm in in_force:
        console.print(f"{alarm.kind}: {alarm.sentence}", style="red", markup=False, soft_wrap=True)


def _show_age(found: Stats, console: Console) -> None:
    from gateway.watch.verdicts import age

    if found.age_seconds is None:
        console.print("Nothing is known yet: no listener has run with this state folder.")
        return
    text = f"As of {age(found.age_seconds)} ago; the listener is {found.listener}."
    console.print(text, style="default" if found.listener == "running" else "yellow")


def _show_feeds(found: Stats, console: Console) -> None:
    from rich.table import Table

    from gateway.cli.screen import show_table

    table = Table(box=None, pad_edge=False)
    for title in ("feed", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("last heard", "24 h", "a day", "regions", "rejected", "event→us", "us→region"):
        table.add_column(title, justify="right", no_wrap="→" not in title)
    for title in ("held", "maps"):
        table.add_column(title, justify="right")
    idle: dict[str, list[str]] = {}
    for one in found.feeds:
        if one.verdict.state in ("never_heard", "off") and not one.held:
            idle.setdefault(one.verdict.state, []).append(one.verdict.feed)
            continue
        table.add_row(*_row(one, found))
    if table.row_count:
        show_table(console, table)
        console.print("Latencies: median / 99 % of the latest messages.", style="dim")
    titles = {"never_heard": "Never heard", "off": "Off"}
    for state, names in idle.items():
        console.print(f"{titles[state]}: {', '.join(names)}", markup=False, highlight=False)


def _row(one: FeedStats, found: Stats) -> list[str]:
    from gateway.watch.verdicts import age

    verdict, record = one.verdict, one.record
    colour = _COLOURS.get(verdict.state, "default")
    heard = "" if record.last is None else age(found.now.timestamp() - record.last)
    usual = "" if verdict.usual_per_day is None else f"{verdict.usual_per_day:.2g}"
    return [
        verdict.feed,
        f"[{colour}]{verdict.state}[/]",
        heard,
        str(one.last_24h),
        usual,
        str(record.outcomes.get("region", 0)),
        str(record.outcomes.get("rejected", 0)),
        _latency(record, "event_received"),
        _latency(record, "received_region"),
        str(one.held or ""),
        str(one.waiting or ""),
    ]


def _latency(record: FeedRecord, name: str) -> str:
    from gateway.watch.stats import quantiles

    found = quantiles(record, name)
    if found["p50"] is None or found["p99"] is None:
        return ""
    return f"{_seconds(found['p50'])} / {_seconds(found['p99'])}"


def _seconds(seconds: float) -> str:
    from gateway.watch.verdicts import age

    return f"{seconds:.2g} s" if abs(seconds) < 10 else age(seconds)


def _show_one(one: FeedStats, found: Stats, console: Console) -> None:
    from gateway.watch.stats import iso

    record, verdict = one.record, one.verdict
    console.print(f"{verdict.feed}: {verdict.state}: {verdict.sentence}", markup=False)
    lines = [
        ("first heard", iso(record.first)),
        ("last heard", iso(record.last)),
        ("last region", iso(record.last_region)),
        ("usual a day", verdict.usual_per_day and f"{verdict.usual_per_day:.3g}"),
        (
            "silence told after",
            verdict.silent_after_hours and f"{verdict.silent_after_hours:.3g} h",
        ),
        ("outcomes", ", ".join(f"{n} {k}" for k, n in one.outcomes.items())),
        ("last 14 days", " ".join(map(str, one.as_dict(found.now)["last_14_days"]))),
        ("event → received", _latency(record, "event_received")),
        ("issued → received", _latency(record, "issued_received")),
        ("received → region", _latency(record, "received_region")),
        ("held messages", str(one.held) if one.held else ""),
        ("maps waited for", str(one.waiting) if one.waiting else ""),
    ]
    for title, text in lines:
        if text:
            console.print(f"  {title:19} {text}", markup=False, highlight=False)


def _show_servers(found: Stats, console: Console) -> None:
    from gateway.watch.stats import servers
    from gateway.watch.verdicts import age

    at = found.now.timestamp()
    for name, server in servers(found.health):
        contact = (
            "no contact yet" if server.last is None else f"contact {age(at - server.last)} ago"
        )
        away = "" if server.lost_since is None else f", away for {age(at - server.lost_since)}"
        asks = ", with credentials" if server.credentials else ""
        console.print(f"{name}: {contact}{away}{asks}", markup=False, highlight=False)
    for name, beat in sorted(found.health.beats.items()):
        text = f"heartbeat {name}: {age(at - beat.last)} ago"
        console.print(text, markup=False, highlight=False)


def _show_maps(found: Stats, console: Console) -> None:
    for one in found.health.waiting[:20]:
        why = f" ({one['last_reason']})" if one.get("last_reason") else ""
        text = (
            f"map of {one['event_id']}: {one['tries']} tries{why}, next at {one['next_try'][:19]}"
        )
        console.print(text, markup=False, highlight=False)
