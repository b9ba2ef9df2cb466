"""``mmgateway verdict``: what people found out about counterparts."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli.candidates import EFFECT_COLOURS, JsonOption, PrivateOption, short_time

if TYPE_CHECKING:
    from crossmatch.verdicts import Effect, Verdict
    from gateway.config import Config
    from gateway.offline.counterparts import Counterpart, Track
    from gateway.offline.tns import Planned
    from gateway.offline.verdicts import Log

EPILOG = (
    "Examples:\n\nmmgateway verdict ZTF17aabcdef supernova --note 'SN Ia at redshift 0.06'"
    " --reference 'GCN 36812'\n\n"
    "mmgateway verdict MM-ZTF-ZTF17aabcdef kilonova --event GW170817\n\n"
    "mmgateway verdict ZTF17aabcdef unclear  (takes an earlier verdict back)\n\n"
    "mmgateway verdict --from-tns tns_public_objects.csv.zip --dry-run\n\n"
    "mmgateway verdict --list\n\n"
    "mmgateway verdict --words  (what may be said, and what it does)\n\n"
    "Exit status: 0 done; 1 Kafka did not take it; 2 bad usage, or an unknown counterpart."
)
_ID = re.compile(r"MM-[A-Z0-9]+-\S+")
_ACTIONS = {
    "new": "given",
    "known": "given before",
    "kept": "not given: people have decided",
    "no_verdict": "class that decides nothing",
}


def verdict(
    context: typer.Context,
    counterpart: Annotated[
        str, typer.Argument(metavar="[COUNTERPART]", help="counterpart_id, or survey's object.")
    ] = "",
    classification: Annotated[
        str, typer.Argument(metavar="[CLASSIFICATION]", help="supernova, asteroid, kilonova, ...")
    ] = "",
    event: Annotated[
        str, typer.Option("--event", "-e", metavar="EVENT", help="Only for this event of it.")
    ] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="In your words; it is public.")] = "",
    reference: Annotated[
        str, typer.Option(metavar="REF", help="Circular, TNS name or address.")
    ] = "",
    author: Annotated[
        str, typer.Option(metavar="NAME", help="Who says so; default: your login name.")
    ] = "",
    confirm: Annotated[
        bool, typer.Option("--confirm", help="It is the counterpart, whatever its class.")
    ] = False,
    demote: Annotated[
        bool, typer.Option("--demote", help="It is not, whatever its class.")
    ] = False,
    neutral: Annotated[
        bool, typer.Option("--neutral", help="Tell it, and leave the tier as it is.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also for a counterpart or event that nobody knows.")
    ] = False,
    from_tns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verdicts from TNS's table of public objects."),
    ] = None,
    radius: Annotated[
        float, typer.Option(min=0.01, max=60, metavar="ARCSEC", help="With --from-tns.")
    ] = 2.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, send nothing.")] = False,
    as_list: Annotated[
        bool, typer.Option("--list", help="Verdicts so far, of all or of one COUNTERPART.")
    ] = False,
    words: Annotated[bool, typer.Option("--words", help="Classifications and effects.")] = False,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what a counterpart turned out to be: its candidates are demoted, confirmed or marked.

    The verdict holds for all events of the object, or for one. The latest one counts.

    The matcher heeds it with its next batch, and says so in statements like any other.
    """
    from crossmatch.errors import ConfigError

    if sum((from_tns is not None, as_list, words)) > 1:
        raise ConfigError("--from-tns, --list and --words exclude one another")
    alone = from_tns is not None or words
    if (alone and counterpart) or (as_list and classification):
        raise ConfigError("--from-tns and --words stand alone; --list takes one COUNTERPART")
    if words:
        _show_words(as_json)
        return
    config = options(context).load()
    if as_list:
        _list(config, counterpart, as_json)
    elif from_tns is not None:
        _from_tns(config, from_tns, radius, dry_run=dry_run, private=private, as_json=as_json)
    elif not counterpart or not classification:
        raise ConfigError(
            "say which COUNTERPART and what it is, as 'mmgateway verdict ZTF17aabcdef supernova';"
            " --words shows what may be said"
        )
    else:
        from gateway.offline import verdicts

        word = verdicts.classification(classification)
        known = _known(config, counterpart, anyway=anyway, private=private)
        given = verdicts.new_verdict(
            known.counterpart_id if known else counterpart,
            word,
            now=datetime.now(UTC),
            event_id=_event_id(known, event, anyway=anyway),
            note=note,
            reference=reference,
            author=author or verdicts.login_name(),
            effect=_effect(confirm=confirm, demote=demote, neutral=neutral),
        )
        _give(config, given, known, dry_run=dry_run, as_json=as_json)


def _effect(*, confirm: bool, demote: bool, neutral: bool) -> Effect | None:
    from crossmatch.errors import ConfigError

    if confirm + demote + neutral > 1:
        raise ConfigError("--confirm, --demote and --neutral exclude one another")
    return "confirm" if confirm else "demote" if demote else "neutral" if neutral else None


def _known(config: Config, name: str, *, anyway: bool, private: bool) -> Counterpart | None:
    """The counterpart; None when nobody knows it and that is accepted."""
    from crossmatch.errors import ConfigError
    from gateway.cli.candidates import known_counterpart

    in_kafka = not (config.paths.state / "candidates").is_dir()
    try:
        return known_counterpart(config, name, from_kafka=in_kafka, private=private)
    except ConfigError as error:
        if not anyway:
            raise ConfigError(f"{error} (--anyway accepts it)") from error
    if not _ID.fullmatch(name):
        raise ConfigError(
            f"--anyway: nobody knows {name!r}, so write its counterpart_id: MM-<SURVEY>-<object>,"
            " for example MM-ZTF-ZTF17aabcdef"
        )
    return None


def _event_id(known: Counterpart | None, event: str, *, anyway: bool) -> str:
    from crossmatch.errors import ConfigError
    from gateway.offline.counterparts import find_event

    if known is None or not event:
        return event
    try:
        return find_event(known, event).event_id
    except ConfigError as error:
        if not anyway:
            raise ConfigError(f"{error} (--anyway accepts it)") from error
    return event


def _give(
    config: Config, given: Verdict, known: Counterpart | None, *, dry_run: bool, as_json: bool
) -> None:
    from gateway.offline import verdicts

    touched = verdicts.touched(given, known) if known else []
    _must_be_one_event(given, touched)
    if not dry_run:
        _send(config, [given])
    if as_json:
        told = [_touched_record(given, t) for t in touched]
        record = {"verdict": verdicts.as_record(given), "sent": not dry_run, "candidates": told}
        typer.echo(json.dumps(record, indent=1))
        return
    from rich.text import Text

    from gateway.cli.screen import screen

    console = screen()
    head = "would be given" if dry_run else "given"
    effect = Text(f"{given.classification} ({given.effect})", style=EFFECT_COLOURS[given.effect])
    console.print(Text.assemble(f"{given.counterpart_id}: ", effect, f" {head}"))
    for track in touched:
        console.print(
            f"  {track.event_id}: {verdicts.consequence(given, track)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not touched:
        console.print("  It is no candidate in force now; the verdict is kept.", highlight=False)


def _must_be_one_event(given: Verdict, touched: list[Track]) -> None:
    """An object is the counterpart of one event in nature: of which, must be said."""
    from crossmatch.errors import ConfigError
    from gateway.offline.counterparts import simultaneous

    if given.effect == "confirm" and not given.event_id and not simultaneous(touched):
        events = ", ".join(t.event_id for t in touched)
        raise ConfigError(
            f"{given.counterpart_id} is a candidate of several events ({events}): say with --event"
            " whose counterpart it is, or tell it without a change of tier by --neutral"
        )


def _touched_record(given: Verdict, track: Track) -> dict[str, Any]:
    from gateway.offline.verdicts import consequence

    names = ("candidate_id", "event_id", "tier", "state", "role", "streams")
    return {
        **{name: track.latest[name] for name in names},
        "consequence": consequence(given, track),
    }


def _send(config: Config, given: list[Verdict]) -> None:
    from gateway import services
    from gateway.offline import verdicts

    verdicts.send(services.find_bootstrap(config), config.kafka.properties, given)
    if services.status_of(config, "match").state not in ("running", "external"):
        print(
            "the matcher does not run here: it heeds the verdict once it does ('mmgateway up')",
            file=sys.stderr,
        )


def _read(config: Config) -> Log:
    from gateway import services
    from gateway.offline import verdicts

    log = verdicts.read(services.find_bootstrap(config), config.kafka.properties)
    if log.unreadable:
        print(f"{log.unreadable} messages on mm.verdicts are no verdicts", file=sys.stderr)
    return log


def _list(config: Config, counterpart: str, as_json: bool) -> None:
    from gateway.offline import verdicts

    log = _read(config)
    holds = log.holds()
    # An object of a survey is asked for as often as its counterpart_id.
    found = [
        v
        for v in sorted(log.verdicts, key=lambda v: (v.stated, v.verdict_id))
        if not counterpart
        or counterpart == v.counterpart_id
        or v.counterpart_id.endswith(f"-{counterpart}")
    ]
    if as_json:
        rows = [verdicts.as_record(v) | {"holds": v.verdict_id in holds} for v in found]
        typer.echo(json.dumps({"verdicts": rows}, indent=1))
        return
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import screen, show_table

    console = screen()
    if not found:
        about = f" about {counterpart}" if counterpart else ""
        console.print(f"No verdict was given{about} yet.", highlight=False, markup=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("stated (UTC)", "counterpart", "verdict"):
        table.add_column(title, no_wrap=True)
    for title in ("event", "by", "reference", "note"):
        table.add_column(title, overflow="fold")
    for one in found:
        stands = one.verdict_id in holds
        texts = (one.event_id or "all", one.author, one.reference, one.note)
        table.add_row(
            short_time(one.stated),
            Text(one.counterpart_id),
            Text(one.classification, style=EFFECT_COLOURS[one.effect] if stands else "default"),
            *(Text(t) for t in texts),
            style="default" if stands else "dim strike",
        )
    show_table(console, table)
    if len(holds) < len(log.verdicts):
        console.print("Struck out: a later verdict holds.", style="dim")


def _from_tns(
    config: Config, path: Path, radius: float, *, dry_run: bool, private: bool, as_json: bool
) -> None:
    from gateway.cli.candidates import latest_statements
    from gateway.offline import tns
    from gateway.offline.counterparts import grouped

    table = tns.read_table(path)
    in_kafka = not (config.paths.state / "candidates").is_dir()
    known = grouped(latest_statements(config, from_kafka=in_kafka, private=private))
    found = tns.matches(table.objects, known, radius)
    planned = tns.plan(found, _read(config), datetime.now(UTC))
    given = [p.verdict for p in planned if p.verdict is not None]
    if given and not dry_run:
        _send(config, given)
    numbers = {
        "rows": table.rows,
        "classified": len(table.objects),
        "without_position": table.without_position,
        "counterparts": len(known),
        **tns.counts(planned),
    }
    if as_json:
        record = {
            "sent": not dry_run,
            "counts": numbers,
            "matches": [_planned_record(p) for p in planned],
        }
        typer.echo(json.dumps(record, indent=1))
        return
    _show_planned(planned, numbers, dry_run)


def _planned_record(one: Planned) -> dict[str, Any]:
    from gateway.offline.verdicts import as_record

    match = one.match
    return {
        "counterpart_id": match.counterpart.counterpart_id,
        "tns_name": match.object.full_name,
        "tns_class": match.object.type,
        "separation_arcsec": match.separation_arcsec,
        "action": one.action,
        "verdict": as_record(one.verdict) if one.verdict else None,
    }


def _show_planned(planned: list[Planned], numbers: dict[str, int], dry_run: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import screen, show_table

    console = screen()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("counterpart", "TNS", "class", "by", "verdict"):
        table.add_column(title, no_wrap=True)
    table.add_column("", overflow="fold")
    for one in planned:
        away = one.match.separation_arcsec
        said = one.verdict
        what = "would be given" if dry_run and said else _ACTIONS[one.action]
        event = f" for {said.event_id}" if said and said.event_id else ""
        table.add_row(
            Text(one.match.counterpart.counterpart_id),
            Text(one.match.object.full_name),
            Text(one.match.object.type),
            "name" if away is None else f"{away:.1f}″",
            Text(said.classification, style=EFFECT_COLOURS[said.effect]) if said else "",
            Text(f"{what}{event}"),
        )
    if planned:
        show_table(console, table)
    console.print(
        f"{numbers['rows']} objects, {numbers['classified']} classified;"
        f" {len(planned)} of {numbers['counterparts']} counterparts are among them,"
        f" {numbers.get('new', 0)} new verdicts{' (not sent)' if dry_run else ''}.",
        highlight=False,
    )


def _show_words(as_json: bool) -> None:
    from crossmatch.verdicts import CLASSIFICATIONS, SYNONYMS

    if as_json:
        rows = [{"name": n, "effect": e, "means": m} for n, (e, m) in CLASSIFICATIONS.items()]
        typer.echo(json.dumps({"classifications": rows, "synonyms": SYNONYMS}, indent=1))
        return
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import screen, show_table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("verdict", "effect"):
        table.add_column(title, no_wrap=True)
    for title in ("means", "also written"):
        table.add_column(title)
    for name, (effect, means) in CLASSIFICATIONS.items():
        also = ", ".join(other for other, word in SYNONYMS.items() if word == name)
        table.add_row(name, Text(effect, style=EFFECT_COLOURS[effect]), means, also)
    show_table(screen(), table)
