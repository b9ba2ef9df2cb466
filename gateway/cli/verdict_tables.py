"""Verdicts that were given, those of TNS, and the words for them: read, sent and shown."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.candidate_tables import EFFECT_COLOURS, short_time
from gateway.cli.candidates import latest_statements

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from crossmatch.verdicts import Verdict
    from gateway.config import Config
    from gateway.offline.tns import Planned
    from gateway.offline.verdicts import Log

_ACTIONS = {
    "new": "given",
    "known": "given before",
    "kept": "not given: a person spoke last",
    "no_verdict": "class that decides nothing",
}


@dataclass(frozen=True, slots=True)
class TnsWay:
    """How a table of TNS is used; the radius is in arcsec."""

    radius: float
    overrule: bool = False
    dry_run: bool = False
    private: bool = False


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: ``1 file``, ``2 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def send(config: Config, given: list[Verdict]) -> None:
    """Send verdicts; tells whoever has no matcher running that it must be started."""
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
        many = log.unreadable != 1
        print(
            f"{counted(log.unreadable, 'message')} on mm.verdicts"
            f" {'are no verdicts' if many else 'is no verdict'}",
            file=sys.stderr,
        )
    return log


def show_list(config: Config, counterpart: str, as_json: bool) -> None:
    """Verdicts so far, and which of them hold."""
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
    from gateway.cli.screen import screen

    console = screen()
    if not found:
        about = f" about {counterpart}" if counterpart else ""
        console.print(f"No verdict was given{about} yet.", highlight=False, markup=False)
        return
    _show_verdicts(found, holds, console)
    if any(v.verdict_id not in holds for v in found):
        console.print("Where holds is no, a later verdict does.", style="dim", highlight=False)


def _show_verdicts(found: list[Verdict], holds: set[str], console: Console) -> None:
    """Print a table; where room is short, all after the event stands below it."""
    from gateway.cli.screen import PIPED_WIDTH, show_table

    table = _verdicts(found, holds, short=False)
    wide = console.measure(table, options=console.options.update(max_width=PIPED_WIDTH))
    if wide.maximum > console.width:
        table = _verdicts(found, holds, short=True)
    show_table(console, table)


def _verdicts(found: list[Verdict], holds: set[str], *, short: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("stated (UTC)", "counterpart", "verdict", "holds"):
        table.add_column(title, no_wrap=True)
    last = ("event, by, reference, note",) if short else ("event", "by", "reference", "note")
    for title in last:
        table.add_column(title, overflow="fold")
    for one in found:
        stands = one.verdict_id in holds
        texts = [one.event_id or "all", one.author, one.reference, one.note]
        if short:
            texts = ["\n".join(text for text in texts if text)]
        table.add_row(
            short_time(one.stated),
            Text(one.counterpart_id),
            Text(one.classification, style=EFFECT_COLOURS[one.effect] if stands else "default"),
            Text("yes" if stands else "no"),
            *(Text(t) for t in texts),
            style="default" if stands else "dim",
        )
    return table


def from_tns(config: Config, path: Path, how: TnsWay, *, as_json: bool) -> None:
    """Verdicts from a table of TNS: sent, and shown."""
    from crossmatch.errors import CatalogError, ConfigError
    from gateway.offline import tns
    from gateway.offline.counterparts import grouped

    try:
        table = tns.read_table(path)
    except CatalogError as error:
        # It was named on the command line: a sentence, without the code for programs.
        raise ConfigError(error.detail) from error
    in_kafka = not (config.paths.state / "candidates").is_dir()
    known = grouped(latest_statements(config, from_kafka=in_kafka, private=how.private))
    found = tns.matches(table.objects, known, how.radius)
    planned = tns.plan(found, _read(config), datetime.now(UTC), overrule=how.overrule)
    given = [p.verdict for p in planned if p.verdict is not None]
    if given and not how.dry_run:
        send(config, given)
    numbers = {
        "rows": table.rows,
        "classified": len(table.objects),
        "without_position": table.without_position,
        "counterparts": len(known),
        **tns.counts(planned),
    }
    if as_json:
        record = {
            "sent": not how.dry_run,
            "counts": numbers,
            "matches": [_planned_record(p) for p in planned],
        }
        typer.echo(json.dumps(record, indent=1))
        return
    _show_planned(planned, numbers, how.dry_run)


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
        f"{counted(numbers['rows'], 'object')}, {numbers['classified']} classified;"
        f" {len(planned)} of {counted(numbers['counterparts'], 'counterpart')}"
        f" {'is' if len(planned) == 1 else 'are'} among them,"
        f" {counted(numbers.get('new', 0), 'new verdict')}{' (not sent)' if dry_run else ''}.",
        highlight=False,
    )
    if kept := numbers.get("kept", 0):
        console.print(
            f"{counted(kept, 'counterpart')} left as a person said (--overrule replaces that).",
            highlight=False,
        )


def show_words(as_json: bool) -> None:
    """What may be said, and what it does."""
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
