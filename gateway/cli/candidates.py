"""``mmgateway candidates list`` and ``show``: counterparts, each with its events and history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gateway.config import Config
    from gateway.offline.counterparts import Counterpart, Statement, Track

app = typer.Typer(
    name="candidates",
    help="The candidates: one counterpart with its events and its history.",
    no_args_is_help=True,
)
LIST_EPILOG = (
    "Examples:\n\nmmgateway candidates list\n\n"
    "mmgateway candidates list --event GW170817 --tier silver\n\n"
    "mmgateway candidates list --since 12h --state all --limit 20\n\n"
    "mmgateway candidates list --json | jq -r '.counterparts[] | [.id, .ra, .dec] | @tsv'"
)
SHOW_EPILOG = (
    "Examples:\n\nmmgateway candidates show ZTF17aabcdef\n\n"
    "mmgateway candidates show MM-ZTF-ZTF17aabcdef --event GW170817\n\n"
    "mmgateway candidates show ZTF17aabcdef --json | jq '.events[0].history'"
)
TIER_COLOURS = {"gold": "bold yellow", "silver": "bold", "bronze": "default"}
EFFECT_COLOURS = {"confirm": "green", "demote": "red", "neutral": "cyan"}
_LIMIT = 50


class Tier(StrEnum):
    """What ``--tier`` takes."""

    gold = "gold"
    silver = "silver"
    bronze = "bronze"


class State(StrEnum):
    """What ``--state`` takes."""

    in_force = "in_force"
    withdrawn = "withdrawn"
    all = "all"


JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
KafkaOption = Annotated[
    bool,
    typer.Option("--from-kafka", help="Read the topics, not the table in the state folder."),
]
PrivateOption = Annotated[
    bool,
    typer.Option("--private", help="Candidates of private streams too: for operators."),
]


@app.command("list", epilog=LIST_EPILOG)
def list_candidates(
    context: typer.Context,
    event: Annotated[
        str, typer.Option("--event", "-e", metavar="EVENT", help="Of one event, by any name.")
    ] = "",
    tier: Annotated[Tier, typer.Option("--tier", help="This tier or a better one.")] = Tier.bronze,
    state: Annotated[
        State, typer.Option("--state", help="What holds, what was withdrawn, or all.")
    ] = State.in_force,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Stated since: 7d, 12h, 2026-01-31 (UTC).")
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most so many; 0: all. Default: 50, of JSON all."),
    ] = None,
    from_kafka: KafkaOption = False,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """List counterparts, the best first: one line each, with the tier for each of its events.

    The place and the brightness are those of the latest measurement.
    """
    from gateway.offline.archived import parse_since
    from gateway.offline.counterparts import Selection, grouped, selected, summary
    from gateway.offline.verdicts import stamp

    moment = stamp(parse_since(since, datetime.now(UTC))) if since else ""
    config = options(context).load()
    known = grouped(latest_statements(config, from_kafka=from_kafka, private=private))
    wanted = Selection(event=event, tier=tier.value, state=state.value, since=moment)
    found = selected(known, wanted)
    if event:
        _must_know(event, known)
    most = limit if limit is not None else (0 if as_json else _LIMIT)
    shown = found[:most] if most else found
    if as_json:
        record = {"total": len(found), "counterparts": [summary(one) for one in shown]}
        typer.echo(json.dumps(record, indent=1))
        return
    from gateway.cli.screen import screen

    console = screen()
    if not found:
        none = (
            f"None of {len(known)} counterparts is as asked for." if known else "No candidate yet."
        )
        console.print(none, highlight=False)
        return
    _show_list(shown, console)
    if len(shown) < len(found):
        rest = f"{len(found) - len(shown)} more: --limit 0 shows all."
        console.print(rest, style="dim", highlight=False)


@app.command("show", epilog=SHOW_EPILOG)
def show(
    context: typer.Context,
    counterpart: Annotated[
        str, typer.Argument(metavar="COUNTERPART", help="counterpart_id, or the survey's object.")
    ],
    event: Annotated[
        str, typer.Option("--event", "-e", metavar="EVENT", help="Only one of its events.")
    ] = "",
    from_kafka: KafkaOption = False,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one counterpart: what is known, its events, and every statement that was made."""
    from gateway.offline.counterparts import Counterpart, find_event

    config = options(context).load()
    one = known_counterpart(config, counterpart, from_kafka=from_kafka, private=private)
    if event:
        one = Counterpart(one.counterpart_id, (find_event(one, event),))
    if as_json:
        record = {
            "counterpart_id": one.counterpart_id,
            "events": [
                {"event_id": t.event_id, "latest": t.latest, "history": list(t.statements)}
                for t in one.tracks
            ],
        }
        typer.echo(json.dumps(record, indent=1))
        return
    from gateway.cli.screen import screen

    _show_one(one, screen())


def latest_statements(
    config: Config, *, from_kafka: bool = False, private: bool = False
) -> list[dict[str, Any]]:
    """What holds of each event and counterpart; from Kafka all that was ever stated."""
    from gateway import services
    from gateway.offline import statements

    if from_kafka:
        bootstrap = services.find_bootstrap(config)
        return statements.from_topics(bootstrap, config.kafka.properties, private=private)
    return statements.Table(config.paths.state / "candidates", private=private).latest()


def known_counterpart(
    config: Config, name: str, *, from_kafka: bool = False, private: bool = False
) -> Counterpart:
    """The counterpart of that id or survey object with all its statements.

    Raises
    ------
    ConfigError
        When nobody knows it.
    ServiceError
        When nothing can be read.
    """
    from crossmatch.errors import ConfigError
    from gateway.offline.counterparts import find, grouped, unknown
    from gateway.offline.statements import Table

    if from_kafka:
        return find(grouped(latest_statements(config, from_kafka=True, private=private)), name)
    table = Table(config.paths.state / "candidates", private=private)
    found = grouped(table.of(name))
    if not found:
        raise ConfigError(unknown(name, table.names()))
    return find(found, name)


def event_cell(track: Track) -> Text:
    """The tier for an event, and the event."""
    from rich.text import Text

    latest = track.latest
    test = " (test)" if latest["role"] == "test" else ""
    name = f" {track.event_id}{test}"
    if not track.in_force:
        return Text(f"withdrawn{name}", style="dim")
    return Text.assemble((f"{latest['tier']:6}", TIER_COLOURS[latest["tier"]]), name)


def _must_know(event: str, known: list[Counterpart]) -> None:
    from crossmatch.errors import ConfigError
    from gateway.near import did_you_mean

    names = {name for one in known for track in one.tracks for name in track.event_names}
    if event not in names:
        hint = did_you_mean(event, names, "'mmgateway candidates list' shows what there is")
        raise ConfigError(f"no candidate belongs to an event {event!r}; {hint}")


def _show_list(shown: list[Counterpart], console: Console) -> None:
    """Print a table; where room is short, the time of day and wide gaps give way to names."""
    from gateway.cli.screen import PIPED_WIDTH, show_table

    table = _table(shown, gap=2, time_length=16)
    # On a terminal nothing is measured that would be folded first.
    if console.measure(table, options=console.options.update(max_width=PIPED_WIDTH)).maximum > (
        console.width
    ):
        table = _table(shown, gap=1, time_length=10)
    show_table(console, table)


def _table(shown: list[Counterpart], *, gap: int, time_length: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    titles = ["counterpart", "ra, dec (deg)", "mag", "seen (UTC)", "tier, event"]
    if any(one.best.latest.get("verdict") for one in shown):
        titles.append("verdict")
    for title in titles:
        table.add_column(title, no_wrap=title != "tier, event", overflow="fold")
    for one in shown:
        newest = one.newest
        row: list[Any] = [
            Text(one.counterpart_id),
            f"{newest['ra']:8.4f} {newest['dec']:+8.4f}",
            brightness(newest),
            short_time(newest["last_detection"])[:time_length],
            Text("\n").join(event_cell(t) for t in one.tracks),
            verdict_text(one.best.latest),
        ]
        table.add_row(*row[: len(titles)])
    return table


def _show_one(one: Counterpart, console: Console) -> None:
    from rich.text import Text

    from gateway.cli.screen import show_facts

    newest = one.newest
    console.print(Text(one.counterpart_id, style="bold"))
    show_facts(console, _object_facts(newest))
    for track in one.tracks:
        console.print()
        console.print(event_cell(track))
        show_facts(console, _event_facts(track.latest))
        _show_history(track, console)


def _object_facts(newest: Statement) -> list[tuple[str, str]]:
    fade = _number(newest["fade_rate"], "{:+.2f} mag/d")
    if fade and newest["fade_rate_error"] is not None:
        fade += f" ± {newest['fade_rate_error']:.2f} in {newest['fade_filter']}"
    host = newest["host_name"] or ""
    if host:
        host += _number(newest["host_distance"], ", {:.1f} Mpc")
        host += _number(newest["host_offset"], ", {:.1f}″ away")
    limit = _number(newest["last_nondetection_mag"], "> {:.2f}")
    if limit:
        limit += f" on {short_time(newest['last_nondetection_time'])}"
    return [
        ("position", f"{newest['ra']:.5f} {newest['dec']:+.5f}"),
        ("galactic latitude", f"{newest['galactic_latitude']:+.1f}°"),
        ("brightness", f"{brightness(newest).strip()} on {short_time(newest['last_detection'])}"),
        ("detections", f"{newest['n_detections'] or ''}"),
        ("first detection", short_time(newest["first_detection"])),
        ("last limit before", limit),
        ("fades", fade),
        ("rose", _number(newest["rise_rate"], "{:.2f} mag/d")),
        ("colour", _number(newest["color"], f"{newest['color_filters']} = {{:+.2f}}")),
        ("host", host),
        ("absolute magnitude", _number(newest["absolute_magnitude"], "{:.1f}")),
        ("looked up", newest["looked_up"].replace(",", ", ")),
    ]


def _event_facts(latest: Statement) -> list[tuple[str, str]]:
    joint = [name for name in latest.get("joint_events") or () if name != latest["event_id"]]
    instrument = f"{latest['ref_instrument']}, {latest['ref_type']}"
    after = latest["time_offset_first"]
    return [
        ("event", f"{latest['messenger']} of {short_time(latest['event_trigger_time'])}"),
        ("notice", f"{instrument}, version {latest['event_version']}"),
        ("also seen as", ", ".join(joint)),
        ("private to", ", ".join(latest["streams"])),
        ("first seen", "" if after is None else f"{after / 86400:+.2f} d after the trigger"),
        ("credible level", f"{latest['credible_level']:.3f}"),
        ("score", f"{latest['score']:.3f}"),
        ("because", ", ".join(latest["factors"]).replace("_", " ")),
        ("verdict", _verdict_sentence(latest)),
        ("note", latest.get("verdict_note") or ""),
        ("reference", latest.get("verdict_reference") or ""),
        ("expires", short_time(latest["expires"])),
    ]


def _show_history(track: Track, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import show_table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("no.", justify="right", no_wrap=True)
    for title in ("stated (UTC)", "type", "tier", "mag"):
        table.add_column(title, no_wrap=True)
    for title in ("reason", "changed", "cause"):
        table.add_column(title, overflow="fold")
    for said in track.statements:
        table.add_row(
            str(said["record_number"]),
            short_time(said["alert_datetime"], seconds=True),
            said["alert_type"],
            Text(said["tier"], style=TIER_COLOURS[said["tier"]]),
            brightness(said),
            said["reason"].replace("_", " "),
            ", ".join(said.get("changed") or ()).replace("_", " "),
            Text(said.get("cause") or ""),
        )
    show_table(console, table)


def verdict_text(latest: Statement) -> Text:
    """The verdict in the colour of what it does."""
    from rich.text import Text

    effect = latest.get("verdict_effect") or ""
    return Text(latest.get("verdict") or "", style=EFFECT_COLOURS.get(effect, "default"))


def _verdict_sentence(latest: Statement) -> str:
    if not latest.get("verdict"):
        return ""
    by = f" by {latest['verdict_author']}" if latest.get("verdict_author") else ""
    when = f", {short_time(latest['verdict_time'])}" if latest.get("verdict_time") else ""
    return f"{latest['verdict']} ({latest['verdict_effect']}){by}{when}"


def brightness(said: Statement) -> str:
    """Magnitude and filter."""
    if said["mag"] is None:
        return ""
    return f"{said['mag']:5.2f} {said['filter'] or ''}".rstrip()


def short_time(iso: str | None, *, seconds: bool = False) -> str:
    """An ISO 8601 time as people read it, to the minute or second."""
    return (iso or "")[: 19 if seconds else 16].replace("T", " ")


def _number(value: float | None, shape: str) -> str:
    return "" if value is None else shape.format(value)
