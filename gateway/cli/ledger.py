"""``mmgateway ledger``: the counts of each night, and whether they add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    "mmgateway ledger --offline\n\n"
    "mmgateway ledger --json | jq '.holes[].sentence'\n\n"
    "Exit status: 0 what was asked for adds up; 1 it does not, or nothing of that night or feed"
    " is in the ledger, or Kafka does not answer and --offline was not given;"
    " 2 bad usage or configuration."
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
    "steps": ("alerts", "search", "selection", "close", "pairs", "found", "statements"),
    "candidates": ("judged", "withheld", "lowered", "passed", "told"),
    "voevents": ("received", "made", "rejected"),
}  # fmt: skip
_TITLES = {
    "alerts": "Alerts, by the night of the exposure",
    "notices": "Notices, by the night in which they came",
    "steps": "Steps of the matcher and what they came to, by the night in which they were taken",
    "candidates": "Candidates as they are now, by the night of their first alert",
    "voevents": "Statements for the publisher, by the night in which it took them",
}
_SHORT = {"duplicate_other_night": "other night"}
_STEPS = {
    "alerts": "steps of alerts",
    "search": "steps of searches",
    "selection": "steps of selections",
    "close": "steps of closing",
    "found": "found by searches",
}


def ledger(
    context: typer.Context,
    night: Annotated[
        str | None,
        typer.Option("--night", metavar="YYYY-MM-DD", help="One night; it changes at noon UTC."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="YYYY-MM-DD",
            help="This night and later ones, all of them, and what has no known night.",
        ),
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option("--feed", metavar="NAME", help="One feed, or one topic of alerts."),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Do without Kafka: check what the ledger's table and the archive can tell.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Show what became of every alert, notice and statement, and whether it adds up.

    Compared are: what was received with what became of it, by night and feed; the order of
    the steps and positions; the sums with the totals that the services keep; and the counts with
    what lies in the archive and on the topics. The gateway may run meanwhile. With a night or
    feed the last line and the exit status are about these alone, and holes elsewhere are
    counted. When Kafka does not answer, the ledger's table is read, only what it can tell is
    checked, and the exit status is 1; with --offline Kafka is not asked, and it is 0.
    """
    _check_day("--night", night)
    _check_day("--since", since)
    found, away = _evidence(options(context).load(), offline=offline)
    answer = _answer(found, away, Choice(night, since, feed), offline=offline)
    if as_json:
        typer.echo(json.dumps(answer.as_dict(), indent=2))
    else:
        from gateway.cli.screen import screen

        _show(screen(), answer)
    if not answer.good:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which nights and feed are asked for; None: all."""

    night: str | None = None
    since: str | None = None
    feed: str | None = None

    def has(self, night: str, feed: str) -> bool:
        """Whether the counts of a night and feed are asked for."""
        return self.has_night(night) and self.feed in (None, feed)

    def has_hole(self, hole: Hole) -> bool:
        """Whether a hole is told: also one that no night or feed is known of."""
        return (not hole.night or self.has_night(hole.night)) and (
            not hole.feed or self.feed in (None, hole.feed)
        )

    def has_night(self, night: str) -> bool:
        """Whether a night is asked for; what has none may be of any after ``since``."""
        return self.night in (None, night) and (not night or (self.since or "") <= night)

    def names(self, night: str) -> bool:
        """Whether a night is asked for, and not only may be."""
        return bool(night) or not self.since

    @property
    def text(self) -> str:
        """What is asked for, in the middle of a sentence; empty: everything."""
        parts = []
        if self.feed is not None:
            parts.append(f"feed {self.feed}")
        if self.night is not None:
            parts.append(f"the night {self.night}")
        if self.since is not None:
            parts.append(f"nights since {self.since}")
        return " of ".join(parts)

    @property
    def sentence(self) -> str:
        """That what is asked for adds up, without the full stop."""
        text = self.text or "the ledger"
        verb = "add up" if text.startswith("nights") else "adds up"
        return f"{text[0].upper()}{text[1:]} {verb}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is shown: the rows that were asked for, and what does not add up of them.

    Parameters
    ----------
    found : Evidence
    away : str
        Why Kafka was not read; empty: it was.
    offline : bool
        That it was not to be.
    choice : Choice
    rows : sequence of mapping
    searched : mapping of str to int
        Alerts that searches found, by the night of the search, of all feeds.
    holes : sequence of Hole
    elsewhere : int
        Holes of other nights and feeds.
    entries : int
        Entries that have something of what was asked for.
    """

    found: Evidence
    away: str
    offline: bool
    choice: Choice
    rows: Sequence[Mapping[str, Any]]
    searched: Mapping[str, int]
    holes: Sequence[Hole]
    elsewhere: int
    entries: int

    @property
    def missing(self) -> bool:
        """Whether there is nothing of what was asked for, or no table to look into."""
        named = any(self.choice.names(row["night"]) for row in self.rows)
        return not named and bool(self.choice.text or self.offline)

    @property
    def good(self) -> bool:
        """Whether all that was asked for was checked and adds up."""
        unchecked = bool(self.found.unchecked) and not self.offline
        return not (self.holes or self.missing or unchecked)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        totals: dict[str, Counter[str]] = {}
        for row in self.rows:
            totals.setdefault(row["kind"], Counter()).update(row["counts"])
        return {
            "adds_up": not self.holes,
            "holes": [hole.as_dict() for hole in self.holes],
            "holes_elsewhere": self.elsewhere,
            "source": "table" if self.found.unchecked else "topic",
            "kafka": self.away,
            "entries": self.entries,
            "unchecked": dict(self.found.unchecked),
            "rows": list(self.rows),
            "totals": {kind: dict(sorted(counts.items())) for kind, counts in totals.items()},
        }


def _answer(found: Evidence, away: str, choice: Choice, *, offline: bool) -> Answer:
    from gateway.offline import accounts

    rows, holes = accounts.rows(found.entries), accounts.holes(found)
    told = [hole for hole in holes if choice.has_hole(hole)]
    return Answer(
        found=found,
        away=away,
        offline=offline,
        choice=choice,
        rows=[row for row in rows if choice.has(row["night"], row["feed"])],
        searched={
            row["night"]: row["counts"].get("found", 0)
            for row in rows
            if row["kind"] == "steps" and choice.has_night(row["night"])
        },
        holes=told,
        elsewhere=len(holes) - len(told),
        entries=accounts.count_of(found.entries, choice.has) if choice.text else len(found.entries),
    )


def _check_day(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        if date.fromisoformat(text).isoformat() == text:
            return
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is no date such as 2026-01-31", param_hint=name)


def _evidence(config: Config, *, offline: bool) -> tuple[Evidence, str]:
    from gateway import services
    from gateway.offline import evidence

    def open_kafka() -> evidence.Topics:
        return evidence.KafkaTopics(services.find_bootstrap(config), config.kafka.properties)

    if offline:
        return evidence.from_table(config.paths.state, "not asked"), ""
    return evidence.evidence(open_kafka, config.paths.state)


def _show(console: Console, answer: Answer) -> None:
    if answer.found.unchecked:
        because = f"{answer.away}. So this" if answer.away else "This"
        text = f"{because} is the ledger's table, as far as it was written."
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    nights, earlier = _shown_nights(answer)
    # A search may have been in a night of which nothing else is shown.
    first = min(nights - {""}, default="") if earlier else ""
    for kind, title in _TITLES.items():
        shown = [row for row in answer.rows if row["kind"] == kind and row["night"] in nights]
        if shown:
            console.print(title, style="bold")
            _show_kind(console, kind, shown)
            if kind == "alerts":
                found = sum(n for night, n in answer.searched.items() if night >= first)
                _show_searched(console, found)
            if answer.choice.night is not None:
                _show_reasons(console, shown)
    if earlier:
        are = "night is" if earlier == 1 else "nights are"
        text = f"{earlier} earlier {are} checked and not shown: --since or --json has them."
        console.print(text, style="dim")
    for hole in answer.holes:
        sentence = hole.sentence[0].upper() + hole.sentence[1:]
        console.print(f"{sentence}.", style="red", markup=False, highlight=False, soft_wrap=True)
    for sentence, style in _verdict(answer):
        console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)


def _shown_nights(answer: Answer) -> tuple[set[str], int]:
    """Nights with a row in the tables, and how many are left out: never what has no night."""
    dated = sorted({row["night"] for row in answer.rows} - {""})
    shown = dated if answer.choice.since else dated[-SHOWN_NIGHTS:]
    return {"", *shown}, len(dated) - len(shown)


def _show_searched(console: Console, n: int) -> None:
    if not n:
        return
    more = "1 more alert" if n == 1 else f"{n:,} more alerts"
    text = (
        f"Matched are alerts that matched as they came. Searches of the archive in these nights"
        f" found {more}, of all feeds, each counted once for each event."
    )
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def _verdict(answer: Answer) -> Iterator[tuple[str, str]]:
    """The last lines, with their styles: what adds up, and what nothing is known of."""
    choice, unchecked = answer.choice, answer.found.unchecked
    if answer.elsewhere:
        text = f"{_many(answer.elsewhere)} elsewhere: mmgateway ledger without options tells."
        yield text, "yellow"
    if unchecked and not answer.offline:
        *names, last = unchecked
        text = f"Kafka does not answer, so {', '.join(names)} and {last} were not checked."
        yield text, "yellow"
    if answer.missing:
        where = "the ledger's table" if unchecked else "the ledger"
        yield f"There is nothing{f' of {choice.text}' * bool(choice.text)} in {where}.", "red"
    if answer.holes:
        yield f"The ledger does not add up: {_many(len(answer.holes))}.", "red"
    elif not answer.missing and not answer.found.entries:
        yield "The ledger is empty: nothing came in yet.", ""
    elif not answer.missing:
        n = "1 entry" if answer.entries == 1 else f"{answer.entries} entries"
        if unchecked:
            of = f" of {choice.text}" if choice.text else ""
            yield f"What could be checked without Kafka{of} adds up ({n}).", "green"
        else:
            yield f"{choice.sentence} ({n}).", "green"


def _many(holes: int) -> str:
    return "1 hole" if holes == 1 else f"{holes} holes"


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
        short = _STEPS if kind == "steps" else _SHORT
        table.add_column(short.get(name, name.replace("_", " ")), justify="right")
    for row, counts in zip(rows, sums, strict=True):
        feed = [Text(row["feed"])] if kind in ("alerts", "notices") else []
        numbers = [f"{counts[name]:,}" if counts.get(name) else "" for name in names]
        table.add_row(row["night"] or "not known", *feed, *numbers)
    show_table(console, table)


def _columns(kind: str, counts: Mapping[str, int]) -> Counter[str]:
    """Counts with all reasons of a rejection, and all cuts, in one."""
    found: Counter[str] = Counter()
    for name, n in counts.items():
        found[name.partition(".")[0] if kind in ("alerts", "candidates") else name] += n
    return found


def _show_reasons(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        reasons = {k: n for k, n in row["counts"].items() if "." in k}
        feed = row["feed"] or "candidates"
        for name, n in sorted(reasons.items()):
            line = f"  {feed}: {n:,} {name}"
            console.print(line, markup=False, highlight=False)
