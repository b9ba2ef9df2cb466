"""``mmgateway ledger``: the counts of each night, and whether they add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config import Config
    from gateway.offline.accounts import Evidence, Hole

EPILOG = (
    "Examples:\n\nmmgateway ledger\n\nmmgateway ledger --night 2026-01-01\n\n"
    "mmgateway ledger --since 2026-01-01 --feed fermi_gbm\n\n"
    "mmgateway ledger --json | jq '.holes[].sentence'\n\n"
    "Exit status: 0 it adds up, 1 it does not, 2 bad usage or configuration."
)
SHOWN_NIGHTS = 14
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "alerts": (
        "received", "duplicate", "duplicate_other_night", "lost", "withdrawn", "rejected", "cut",
        "unmatched", "matched",
    ),
    "notices": (
        "received", "released", "duplicate", "held", "ignored", "rejected", "retraction",
        "no_position", "region",
    ),
    "steps": ("alerts", "search", "selection", "close", "pairs", "statements"),
    "voevents": ("received", "made", "rejected"),
}  # fmt: skip
_TITLES = {
    "alerts": "Alerts, by the night of the exposure",
    "notices": "Notices, by the night in which they came",
    "steps": "Steps of the matcher and what they came to, by the night in which they were taken",
    "voevents": "Statements for the publisher, by the night in which it took them",
}
_SHORT = {"duplicate_other_night": "other night"}


def ledger(
    context: typer.Context,
    night: Annotated[
        str | None,
        typer.Option("--night", metavar="YYYY-MM-DD", help="One night; it changes at noon UTC."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="YYYY-MM-DD", help="This night and later ones.")
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option("--feed", metavar="NAME", help="One feed, or one topic of alerts."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Show what became of every alert, notice and statement, and whether it adds up.

    Compared are: what was received with what became of it, by night and feed; the order of
    the steps and positions; the sums with the totals that the services keep; and the counts with
    what lies in the archive and on the topics. The gateway may run meanwhile. When Kafka does
    not answer, the ledger's table is read, and only what it can tell is checked.
    """
    from gateway.offline import accounts

    _check_day("--night", night)
    _check_day("--since", since)
    config = options(context).load()
    found, away = _evidence(config)
    chosen = Choice(night, since, feed)
    holes = [hole for hole in accounts.holes(found) if chosen.has_hole(hole)]
    rows = [row for row in accounts.rows(found.entries) if chosen.has(row)]
    if as_json:
        typer.echo(json.dumps(_record(found, away, rows, holes), indent=2))
    else:
        from gateway.cli.screen import screen

        _show(screen(), found, away, rows, holes, details=night is not None)
    if holes:
        raise typer.Exit(FAILED)


class Choice:
    """Which nights and feed are asked for."""

    def __init__(self, night: str | None, since: str | None, feed: str | None) -> None:
        self._night, self._since, self._feed = night, since, feed

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the ledger is asked for."""
        return self._has_night(row["night"]) and self._feed in (None, row["feed"])

    def has_hole(self, hole: Hole) -> bool:
        """Whether a hole is told: also one that no night or feed is known of."""
        return (not hole.night or self._has_night(hole.night)) and (
            not hole.feed or self._feed in (None, hole.feed)
        )

    def _has_night(self, night: str) -> bool:
        return self._night in (None, night) and (self._since or "") <= night


def _check_day(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        if date.fromisoformat(text).isoformat() == text:
            return
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is no date such as 2026-01-31", param_hint=name)


def _evidence(config: Config) -> tuple[Evidence, str]:
    from gateway import services
    from gateway.offline import evidence

    def open_kafka() -> evidence.Topics:
        return evidence.KafkaTopics(services.find_bootstrap(config), config.kafka.properties)

    return evidence.evidence(open_kafka, config.paths.state)


def _record(
    found: Evidence, away: str, rows: Sequence[Mapping[str, Any]], holes: Sequence[Hole]
) -> dict[str, Any]:
    totals: dict[str, Counter[str]] = {}
    for row in rows:
        totals.setdefault(row["kind"], Counter()).update(row["counts"])
    return {
        "adds_up": not holes,
        "holes": [hole.as_dict() for hole in holes],
        "source": "table" if away else "topic",
        "kafka": away,
        "entries": len(found.entries),
        "unchecked": dict(found.unchecked),
        "rows": list(rows),
        "totals": {kind: dict(sorted(counts.items())) for kind, counts in totals.items()},
    }


def _show(
    console: Console,
    found: Evidence,
    away: str,
    rows: Sequence[Mapping[str, Any]],
    holes: Sequence[Hole],
    *,
    details: bool,
) -> None:
    if away:
        text = f"{away}. So this is the ledger's table, as far as it was written."
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    nights = sorted({row["night"] for row in rows})[-SHOWN_NIGHTS:]
    earlier = len({row["night"] for row in rows}) - len(nights)
    for kind, title in _TITLES.items():
        shown = [row for row in rows if row["kind"] == kind and row["night"] in nights]
        if shown:
            console.print(title, style="bold")
            _show_kind(console, kind, shown)
            if details:
                _show_reasons(console, shown)
    if earlier:
        text = f"{earlier} earlier nights are checked and not shown: --since or --json has them."
        console.print(text, style="dim")
    if found.unchecked:
        text = f"Not checked without Kafka: {', '.join(found.unchecked)}."
        console.print(text, style="yellow", markup=False)
    for hole in holes:
        sentence = hole.sentence[0].upper() + hole.sentence[1:]
        console.print(f"{sentence}.", style="red", markup=False, highlight=False, soft_wrap=True)
    if holes:
        many = "1 hole" if len(holes) == 1 else f"{len(holes)} holes"
        console.print(f"The ledger does not add up: {many}.", style="red")
    elif not found.entries:
        console.print("The ledger is empty: nothing came in yet.")
    else:
        console.print(f"The ledger adds up ({len(found.entries)} entries).", style="green")


def _show_kind(console: Console, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import show_table

    sums = [_columns(kind, row["counts"]) for row in rows]
    # What never came has no column, but what comes in and what goes out always does.
    always = ("received", _COLUMNS[kind][-1])
    names = [n for n in _COLUMNS[kind] if n in always or any(s.get(n) for s in sums)]
    table = Table(box=None, pad_edge=False)
    table.add_column("night", no_wrap=True)
    if kind in ("alerts", "notices"):
        table.add_column("feed", no_wrap=True)
    for name in names:
        table.add_column(_SHORT.get(name, name.replace("_", " ")), justify="right")
    for row, counts in zip(rows, sums, strict=True):
        feed = [Text(row["feed"])] if kind in ("alerts", "notices") else []
        numbers = [f"{counts[name]:,}" if counts.get(name) else "" for name in names]
        table.add_row(row["night"] or "not known", *feed, *numbers)
    show_table(console, table)


def _columns(kind: str, counts: Mapping[str, int]) -> Counter[str]:
    """Counts with all reasons of a rejection, and all cuts, in one."""
    found: Counter[str] = Counter()
    for name, n in counts.items():
        found[name.partition(".")[0] if kind == "alerts" else name] += n
    return found


def _show_reasons(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        reasons = {k: n for k, n in row["counts"].items() if "." in k}
        for name, n in sorted(reasons.items()):
            line = f"  {row['feed']}: {n:,} {name}"
            console.print(line, markup=False, highlight=False)
