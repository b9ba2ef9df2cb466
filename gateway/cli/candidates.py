"""``mmgateway candidates list`` and ``show``: counterparts, each with its events and history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import candidate_tables as tables
from gateway.cli import options

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.offline.counterparts import Counterpart

app = typer.Typer(
    name="candidates",
    help="The candidates: one counterpart with its events and its history.",
    no_args_is_help=True,
)
LIST_EPILOG = (
    "Examples:\n\nmmgateway candidates list\n\n"
    "mmgateway candidates list --event S170817a --tier silver\n\n"
    "mmgateway candidates list --live\n\n"
    "mmgateway candidates list --since 12h --state all --limit 20\n\n"
    "mmgateway candidates list --json | jq -r '.counterparts[] | [.id, .ra, .dec] | @tsv'"
)
SHOW_EPILOG = (
    "Examples:\n\nmmgateway candidates show ZTF17atgfoaa\n\n"
    "mmgateway candidates show MM-ZTF-ZTF17atgfoaa --event S170817a\n\n"
    "mmgateway candidates show ZTF17atgfoaa --json | jq '.events[0].history'"
)
_LIMIT = 50
WAITS = "none yet: the gateway is running and waits for alerts"


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
    live: Annotated[
        bool, typer.Option("--live", help="Only of events whose window is still open.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At most so many; 0: all. Default: 50, of JSON all."),
    ] = None,
    from_kafka: KafkaOption = False,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """List counterparts, the best first: one line each, with the tier for each of its events.

    The place and the brightness are those of the latest measurement. Events whose window has
    closed are marked as expired, and come last.
    """
    from gateway.offline.archived import parse_since
    from gateway.offline.counterparts import Selection, grouped, selected, summary
    from gateway.offline.verdicts import stamp

    now = datetime.now(UTC)
    moment = stamp(parse_since(since, now)) if since else ""
    config = options(context).load()
    if not from_kafka and waits(config):
        typer.echo(json.dumps({"total": 0, "counterparts": []}) if as_json else WAITS)
        return
    known = grouped(latest_statements(config, from_kafka=from_kafka, private=private))
    wanted = Selection(
        event=event, tier=tier.value, state=state.value, since=moment, live=live, now=now
    )
    found = selected(known, wanted)
    if event:
        _must_know(event, known)
    most = limit if limit is not None else (0 if as_json else _LIMIT)
    shown = found[:most] if most else found
    if as_json:
        record = {"total": len(found), "counterparts": [summary(one, now) for one in shown]}
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
    tables.show_list(shown, console, now)
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
    now = datetime.now(UTC)
    one = known_counterpart(config, counterpart, from_kafka=from_kafka, private=private)
    if event:
        one = Counterpart(one.counterpart_id, (find_event(one, event),))
    if as_json:
        record = {
            "counterpart_id": one.counterpart_id,
            "events": [
                {
                    "event_id": t.event_id,
                    "expired": t.expired(now),
                    "latest": t.latest,
                    "history": list(t.statements),
                }
                for t in one.tracks
            ],
        }
        typer.echo(json.dumps(record, indent=1))
        return
    from gateway.cli.screen import screen

    tables.show_one(one, screen(), now)


def waits(config: Config) -> bool:
    """Whether the matcher runs and has not stated any candidate yet."""
    from gateway import services

    state = config.paths.state
    return not (state / "candidates").is_dir() and services.endpoint(state, "match") is not None


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
    if waits(config):
        raise ConfigError(f"no candidate is known of {name!r}: {WAITS}")
    table = Table(config.paths.state / "candidates", private=private)
    found = grouped(table.of(name))
    if not found:
        raise ConfigError(unknown(name, table.names()))
    return find(found, name)


def _must_know(event: str, known: list[Counterpart]) -> None:
    from crossmatch.errors import ConfigError
    from gateway.near import did_you_mean

    names = {name for one in known for track in one.tracks for name in track.event_names}
    if event not in names:
        hint = did_you_mean(event, names, "'mmgateway candidates list' shows what there is")
        raise ConfigError(f"no candidate belongs to an event {event!r}; {hint}")
