"""Verdicts that were given, those of TNS, and the words for them: read, sent and shown."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.candidates import EFFECT_COLOURS, latest_statements, short_time

if TYPE_CHECKING:
    from crossmatch.verdicts import Verdict
    from gateway.config import Config
    from gateway.offline.tns import Planned
    from gateway.offline.verdicts import Log

_ACTIONS = {
    "new": "given",
    "known": "given before",
    "kept": "not given: people have decided",
    "no_verdict": "class that decides nothing",
}


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
        print(f"{log.unreadable} messages on mm.verdicts are no verdicts", file=sys.stderr)
    return log


def show_list(config: Config, counterpart: str, as_json: bool) -> None:
    """Verdicts so far, those that were replaced struck out."""
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


def from_tns(
    config: Config, path: Path, radius: float, *, dry_run: bool, private: bool, as_json: bool
) -> None:
    """Verdicts from a table of TNS: sent, and shown."""
    from gateway.offline import tns
    from gateway.offline.counterparts import grouped

    table = tns.read_table(path)
    in_kafka = not (config.paths.state / "candidates").is_dir()
    known = grouped(latest_statements(config, from_kafka=in_kafka, private=private))
    found = tns.matches(table.objects, known, radius)
    planned = tns.plan(found, _read(config), datetime.now(UTC))
    given = [p.verdict for p in planned if p.verdict is not None]
    if given and not dry_run:
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
