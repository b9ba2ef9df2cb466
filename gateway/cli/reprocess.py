"""``mmgateway reprocess``: the same candidates once more, or those of another configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options

if TYPE_CHECKING:
    from gateway.offline.otherwise import Change
    from gateway.offline.published import Account, Difference
    from gateway.offline.reprocess import Advance, Compared, Verified

EPILOG = (
    "Examples:\n\nmmgateway reprocess --from 30d\n\n"
    "mmgateway reprocess --from 2026-01-01 --to 2026-01-31 --out january/\n\n"
    "mmgateway reprocess --from 30d --config stricter.toml\n\n"
    "mmgateway reprocess --from 30d --config stricter.toml --json | jq '.counts'\n\n"
    "mmgateway -c january.toml reprocess --from 2026-01-01 --to 2026-01-31\n\n"
    "Exit status: 0 identical, or compared with another configuration; 1 not identical, no"
    " archive, no such event, or Kafka does not answer; 2 bad usage or configuration."
)
_SHOWN = 40
_IN_FULL = 5
_LONGEST = 60


def reprocess(
    context: typer.Context,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Events triggered from then on: a date, a time (UTC) or an age such as 30d.",
        ),
    ],
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="Up to then; a date includes its day. Without it: now."
        ),
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Another configuration: tell which candidates its cuts, chains and catalogues"
            " would give, and which not.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write the statements there, as Avro and as Parquet."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Make all statements about past events once more, from the archive.

    With the configuration that was in force they must be those that were published, byte for
    byte. With another one by --config it is told what appears, goes and changes. Nothing is
    published, and a gateway that runs is not disturbed.
    """
    from gateway import config as configuration
    from gateway import services
    from gateway.offline import reprocess as core
    from gateway.offline.evidence import KafkaTopics

    span = _span(start, end, datetime.now(UTC))
    config = options(context).load()
    settings = core.settings_of(config)
    others = None if other is None else core.settings_of(configuration.load(other))
    _check_out(out)
    bootstrap = services.find_bootstrap(config)
    kafka = KafkaTopics(bootstrap, config.kafka.properties)
    world = core.open_world(config, bootstrap, kafka)
    past = core.read_past(kafka, *span)
    about = {"from": span[0].isoformat(), "to": span[1].isoformat()}
    with _progress() as advance:
        if others is None:
            verified = core.verify(world, past, settings, out, advance)
        else:
            compared = core.compare(world, past, settings, others, out, advance)
    if others is not None:
        _tell(about | compared.as_dict()) if as_json else _show_compared(compared)
        return
    _tell(about | verified.as_dict()) if as_json else _show_verified(verified)
    if not verified.is_identical:
        raise typer.Exit(FAILED)


def _span(start: str, end: str | None, now: datetime) -> tuple[datetime, datetime]:
    from crossmatch.errors import ConfigError

    first = _moment("--from", start, now)
    last = now if end is None else _moment("--to", end, now)
    if end is not None and len(end.strip()) == len("2026-01-31") and "-" in end:
        last += timedelta(days=1)
    if last <= first:
        raise ConfigError(f"--to {end}: the span ends before it begins, --from {start}")
    return first, last


def _moment(option: str, text: str, now: datetime) -> datetime:
    from crossmatch.errors import ConfigError
    from gateway.offline.archived import parse_since

    try:
        return parse_since(text, now)
    except ConfigError:
        raise ConfigError(
            f"{option} {text!r}: write a date (2026-01-12), a time (2026-01-12T06:30, UTC) or an"
            " age (30d, 12h)"
        ) from None


def _check_out(out: Path | None) -> None:
    from crossmatch.errors import ConfigError

    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: name a folder; this is a file")


def _tell(record: dict[str, Any]) -> None:
    typer.echo(json.dumps(record, indent=2))


@contextmanager
def _progress() -> Iterator[Advance]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from gateway.cli.screen import screen

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as shown:
        task = shown.add_task("events", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _show_verified(result: Verified) -> None:
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    console = screen()
    told = [one for one in result.accounts if one.statements or one.extra]
    table = Table(box=None, pad_edge=False)
    table.add_column("event", no_wrap=True)
    titles = ("statements", "identical", "different", "missing", "extra", "other selection")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    # Those that differ first: nobody reads hundreds of rows of zeros.
    shown = sorted(told, key=lambda one: (one.is_identical, one.event_id))[:_SHOWN]
    for one in shown:
        table.add_row(one.event_id, *(f"{n:,}" if n else "" for n in _numbers(one)))
    if shown:
        show_table(console, table)
    if len(told) > len(shown):
        console.print(f"and {len(told) - len(shown):,} more events; --json has all")
    for difference in result.differences[:_IN_FULL]:
        _show_difference(console, difference)
    _show_notes(console, result.notes)
    total = [sum(column) for column in zip(*map(_numbers, told), strict=True)] or [0] * 6
    n, identical, different, missing, extra, other = total
    text = f"{len(result.accounts):,} events, {n:,} statements: "
    if result.is_identical:
        text += "all identical, byte for byte." if n else "nothing was published or made."
    else:
        text += (
            f"{identical:,} identical, {different:,} different, {missing:,} missing,"
            f" {extra:,} extra, {other:,} of another selection."
        )
    console.print(text, markup=False, highlight=False)


def _numbers(one: Account) -> tuple[int, ...]:
    return (
        one.statements,
        one.identical,
        one.different,
        one.missing,
        one.extra,
        one.other_selection,
    )


def _show_difference(console: Any, one: Difference) -> None:
    head = f"{one.kind}: {one.candidate_id} on {one.topic}"
    console.print(head, style="yellow", markup=False, highlight=False)
    for name, (was, now) in list(one.columns.items())[:5]:
        text = f"  {name}: published {_short(was)}, made {_short(now)}"
        console.print(text, markup=False, highlight=False)


def _show_notes(console: Any, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"Note: {note}.", markup=False, highlight=False)


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _show_compared(result: Compared) -> None:
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    console = screen()
    table = Table(box=None, pad_edge=False)
    for title in ("event", "change", "object", "tier", "score"):
        table.add_column(title, no_wrap=True)
    table.add_column("reasons")
    for one in result.changes[:_SHOWN]:
        score = _arrow(_number(one.score_before), _number(one.score_after))
        tier = _arrow(one.tier_before, one.tier_after)
        table.add_row(_event(one), one.kind, one.object_id, tier, score, _reasons(one))
    if result.changes:
        show_table(console, table)
    if len(result.changes) > _SHOWN:
        console.print(f"and {len(result.changes) - _SHOWN:,} more changes; --json has all")
        counts = Table(box=None, pad_edge=False)
        counts.add_column("event", no_wrap=True)
        counts.add_column("change", no_wrap=True)
        counts.add_column("candidates", justify="right", no_wrap=True)
        for event, kinds in result.counts().items():
            for kind, n in kinds.items():
                counts.add_row(event, kind, f"{n:,}")
        show_table(console, counts)
    _show_notes(console, result.notes)
    found = [one.kind for one in result.changes]
    console.print(
        f"{result.events:,} events: {result.before:,} candidates in force as configured,"
        f" {result.after:,} by the other configuration: {found.count('appears'):,} appear,"
        f" {found.count('goes'):,} go, {found.count('tier'):,} change their tier,"
        f" {found.count('score'):,} their score.",
        markup=False,
        highlight=False,
    )


def _event(one: Change) -> str:
    """The event, and of which world it is if not of that of all."""
    worlds = [*([] if one.role == "observation" else [one.role]), *one.streams]
    return f"{one.event_id} ({', '.join(worlds)})" if worlds else one.event_id


def _arrow(was: str | None, now: str | None) -> str:
    """Before and after; one of them where they are the same, a dash where there is none."""
    return (was or "-") if was == now else f"{was or '-'} -> {now or '-'}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _reasons(one: Change) -> str:
    return ", ".join(one.reasons or one.columns)
