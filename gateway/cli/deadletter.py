"""``mmgateway deadletter``: what could not be used, shown and sent again."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.offline.deadletters import Letter, Sending, Wanted
    from gateway.offline.evidence import Topics

LIST_EPILOG = (
    "Examples:\n\nmmgateway deadletter list\n\n"
    "mmgateway deadletter list --source notices --reason no_feed --since 2026-01-01\n\n"
    "mmgateway deadletter list --json | jq '.letters[].id'"
)
SHOW_EPILOG = (
    "Examples:\n\nmmgateway deadletter show 17\n\nmmgateway deadletter show 17 --raw a.xml"
)
RETRY_EPILOG = (
    "Examples:\n\nmmgateway deadletter retry 17 18\n\n"
    "mmgateway deadletter retry --reason unknown_chain --dry-run\n\n"
    "mmgateway deadletter retry --reason no_feed --all\n\n"
    "Exit status: 0 all were sent, 1 some were not or no letter has the reason,"
    " 2 bad usage or configuration."
)
RETRIED_AT_A_TIME = 100
"""More by their reason are only sent with --all."""
_PREVIEW = 2000
_PACKETS_SECONDS = 5.0

app = typer.Typer(
    help="Inputs that could not be used: listed, shown and sent again.", no_args_is_help=True
)


class Kind(StrEnum):
    """Where letters come from."""

    alerts = "alerts"
    notices = "notices"
    regions = "regions"
    verdicts = "verdicts"
    lookups = "lookups"
    publish = "publish"


ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="CODE", help="Only those with this reason.")
]
SourceOption = Annotated[Kind | None, typer.Option("--source", help="Only those from there.")]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Only those since then, UTC, ISO 8601.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("list", epilog=LIST_EPILOG)
def list_letters(
    context: typer.Context,
    reason: ReasonOption = "",
    source: SourceOption = None,
    since: SinceOption = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="At most the last N.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the latest last, with what is wrong and whether they were sent again."""
    from gateway.offline.deadletters import letters

    kafka = _kafka(options(context).load())
    count = 0
    shown: deque[Letter] = deque(maxlen=limit)
    for letter in letters(kafka, _wanted(reason, source, since)):
        shown.append(letter)
        count += 1
    if as_json:
        record = {"count": count, "letters": [letter.as_dict() for letter in shown]}
        typer.echo(json.dumps(record, indent=2))
        return
    _show_list(list(shown), count)


@app.command("show", epilog=SHOW_EPILOG)
def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=0, help="As the list has it.")],
    raw: Annotated[
        Path | None,
        typer.Option("--raw", metavar="FILE", help="Write the bytes to a file.", dir_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: what is wrong, where it came from, and its bytes."""
    letter = _one(_kafka(options(context).load()), number)
    if raw is not None:
        raw.write_bytes(letter.raw)
    if as_json:
        typer.echo(json.dumps(letter.as_dict() | _bytes(letter.raw), indent=2))
        return
    _show_one(letter, raw)


@app.command("retry", epilog=RETRY_EPILOG)
def retry(
    context: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="As the list has them.")
    ] = None,
    reason: ReasonOption = "",
    source: SourceOption = None,
    since: SinceOption = "",
    everything: Annotated[
        bool,
        typer.Option("--all", help=f"Also more than {RETRIED_AT_A_TIME}, or whatever the reason."),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that were sent again before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; tell what would be sent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, once what was wrong is mended.

    An alert goes back to its topic, a notice to the listener as if its feed sent it anew, a
    region or verdict to its topic, and of a statement the VOEvent is made. What fails again
    becomes another dead letter. The ledger counts each as received once more.
    """
    ids = frozenset(numbers or ())
    if ids and (reason or source or since or everything):
        raise typer.BadParameter("give numbers, or a choice by --reason, --source and --since")
    if not (ids or reason or everything):
        raise typer.BadParameter("give the numbers of letters, or --reason, or --all")
    config = options(context).load()
    kafka = _kafka(config)
    wanted, found = _chosen(kafka, _wanted(reason, source, since, ids), everything, again)
    sent, refused = 0, 0
    told = []
    for one in _sent(config, kafka, wanted, again, dry_run) if wanted.ids else ():
        sent += one.record is not None
        refused += one.record is None
        told.append(_told(one))
        if not as_json:
            typer.echo(_sentence(one, dry_run))
    if as_json:
        record = {"dry_run": dry_run, "sent": sent, "refused": refused, "letters": told}
        typer.echo(json.dumps(record, indent=2))
    else:
        typer.echo(_end(wanted, found, _having(reason, source, since), sent, refused, dry_run))
    if refused or (reason and not found):
        raise typer.Exit(FAILED)


def _kafka(config: Config) -> Topics:
    from gateway import services
    from gateway.offline.evidence import KafkaTopics

    return KafkaTopics(services.find_bootstrap(config), config.kafka.properties)


def _wanted(
    reason: str, source: Kind | None, since: str, ids: frozenset[int] = frozenset()
) -> Wanted:
    from gateway.offline.deadletters import Wanted, since_text

    try:
        begin = since_text(since) if since else ""
    except ValueError as error:
        text = f"{since!r} is no time such as 2026-01-31 or 2026-01-31T12:00:00"
        raise typer.BadParameter(text, param_hint="--since") from error
    return Wanted(reason, "" if source is None else source.value, begin, ids)


def _one(kafka: Topics, number: int) -> Letter:
    from crossmatch.errors import ConfigError
    from gateway.offline.deadletters import Wanted, letters

    for letter in letters(kafka, Wanted(ids=frozenset([number])), bytes_too=True):
        return letter
    raise ConfigError(f"there is no dead letter {number}; 'mmgateway deadletter list' shows all")


def _chosen(kafka: Topics, wanted: Wanted, everything: bool, again: bool) -> tuple[Wanted, int]:
    """The letters by their numbers, so that none that comes meanwhile is among them.

    And how many there are, with those that were sent again before.
    """
    from crossmatch.errors import ConfigError
    from gateway.offline.deadletters import Wanted, letters

    found = list(letters(kafka, wanted))
    missing = wanted.ids - {letter.id for letter in found}
    if missing:
        raise ConfigError(
            f"there is no dead letter {min(missing)}; 'mmgateway deadletter list' shows all"
        )
    if wanted.ids:
        return wanted, len(found)
    ids = frozenset(letter.id for letter in found if again or not letter.mark)
    if len(ids) > RETRIED_AT_A_TIME and not everything:
        raise ConfigError(
            f"{len(ids)} letters are meant; --all sends more than {RETRIED_AT_A_TIME} again,"
            " --dry-run tells which"
        )
    return Wanted(ids=ids), len(found)


def _sent(
    config: Config, kafka: Topics, wanted: Wanted, again: bool, dry_run: bool
) -> Iterator[Sending]:
    from broker.kafka_io import PacketReader
    from gateway import services
    from gateway.offline.deadletters import KafkaOutbox
    from gateway.offline.deadletters import retry as retry_letters

    bootstrap, properties = services.find_bootstrap(config), config.kafka.properties
    reader = PacketReader(bootstrap, properties, _PACKETS_SECONDS)
    try:
        yield from retry_letters(
            kafka,
            wanted,
            outbox=None if dry_run else KafkaOutbox(bootstrap, properties),
            fetch=reader.fetch,
            own_alert_topics=services.own_alert_topics(config),
            who=_user(),
            now=_now,
            again=again,
        )
    finally:
        reader.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A number without a name, as in containers.
        return "somebody"


def _told(one: Sending) -> dict[str, Any]:
    to = "" if one.record is None else one.record.topic
    return {
        "id": one.letter.id,
        "kind": one.letter.kind,
        "reason": one.letter.fields["reason"],
        "to": to,
        "refused": one.refused,
    }


def _sentence(one: Sending, dry_run: bool) -> str:
    if one.record is None:
        return f"{one.letter.id}: not sent: {one.refused}"
    verb = "would go" if dry_run else "sent"
    return f"{one.letter.id}: {verb} to {one.record.topic} ({one.letter.fields['reason']})"


def _having(reason: str, source: Kind | None, since: str) -> str:
    """What letters were asked for, behind their noun."""
    parts = {"with the reason": reason, "from": source or "", "since": since}
    return "".join(f" {word} {value}" for word, value in parts.items() if value)


def _end(wanted: Wanted, found: int, having: str, sent: int, refused: int, dry_run: bool) -> str:
    """The last line of a retry."""
    if not found:
        return f"There is no dead letter{having}; 'mmgateway deadletter list' shows all."
    if not wanted.ids:
        were = "letter was" if found == 1 else "letters were"
        return f"Nothing to send: {found} {were} sent again before; --again does so once more."
    verb = "would be sent" if dry_run else "sent"
    return f"{sent} {verb} again, {refused} not."


def _show_list(shown: list[Letter], count: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.screen import screen, show_table

    console = screen()
    if not shown:
        console.print("There is no such dead letter.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right", no_wrap=True)
    for title in ("received (UTC)", "source", "reason", "state"):
        table.add_column(title, no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for letter in shown:
        fields = letter.fields
        door = f"{fields['source']}: " if letter.kind != fields["source"] else ""
        colour = "red" if letter.state == "open" else "green"
        table.add_row(
            str(letter.id),
            fields["received"][:19].replace("T", " "),
            Text(letter.kind),
            Text(fields["reason"]),
            Text(letter.state, colour),
            f"{letter.size:,}",
            Text(door + " ".join(fields["detail"].split())[:200]),
        )
    show_table(console, table)
    if earlier := count - len(shown):
        are = "one is" if earlier == 1 else "ones are"
        console.print(f"{earlier:,} earlier {are} not shown: --limit.", style="dim")


def _show_one(letter: Letter, file: Path | None) -> None:
    from gateway.cli.screen import screen, show_facts

    console = screen()
    fields, mark = letter.fields, letter.mark
    address = "/".join(map(str, letter.address)) if fields["topic"] else ""
    retried = f"{mark['when']} by {mark['who']} to {mark['to']}" if mark else ""
    show_facts(
        console,
        [
            ("id", str(letter.id)),
            ("state", letter.state),
            ("sent again", retried),
            ("reason", fields["reason"]),
            ("detail", fields["detail"]),
            ("source", letter.kind),
            ("door", fields["source"] if letter.kind != fields["source"] else ""),
            ("address", address),
            ("received", fields["received"]),
            ("private to", ", ".join(fields["streams"])),
            ("bytes", f"{letter.size:,}" + (f", written to {file}" if file else "")),
        ],
    )
    if file is None and letter.raw:
        found = _bytes(letter.raw[:_PREVIEW])
        text = found.get("text") or letter.raw[:256].hex(" ", 2)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        if len(letter.raw) > _PREVIEW:
            console.print("… --raw FILE writes all of it.", style="dim")


def _bytes(raw: bytes) -> dict[str, str]:
    """Bytes for JSON and for people: as text if they are some, else in base 64."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
    # Control characters would do things to a terminal.
    if all(c.isprintable() or c in "\n\r\t" for c in text):
        return {"text": text}
    return {"base64": base64.b64encode(raw).decode()}
