"""``mmgateway verdict``: what people found out about counterparts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli import verdict_tables as tables
from gateway.cli.candidate_tables import EFFECT_COLOURS
from gateway.cli.candidates import JsonOption, PrivateOption, known_counterpart

if TYPE_CHECKING:
    from crossmatch.verdicts import Effect, Verdict
    from gateway.config import Config
    from gateway.offline.counterparts import Counterpart, Track

EPILOG = (
    "Examples:\n\nmmgateway verdict ZTF17aabcdef supernova --note 'SN Ia at redshift 0.06'"
    " --reference 'GCN 36812'\n\n"
    "mmgateway verdict MM-ZTF-ZTF17atgfoaa kilonova --event S170817a\n\n"
    "mmgateway verdict ZTF17aabcdef unclear  (takes an earlier verdict back)\n\n"
    "mmgateway verdict --from-tns tns_public_objects.csv.zip --dry-run\n\n"
    "mmgateway verdict --list\n\n"
    "mmgateway verdict --words  (what may be said, and what it does)\n\n"
    "Exit status: 0 done; 1 Kafka did not take it; 2 bad usage, or an unknown counterpart."
)
CounterpartArgument = Annotated[
    str, typer.Argument(metavar="[COUNTERPART]", help="counterpart_id, or survey's object.")
]
ClassificationArgument = Annotated[
    str, typer.Argument(metavar="[CLASSIFICATION]", help="supernova, asteroid, kilonova, ...")
]
EventOption = Annotated[
    str, typer.Option("--event", "-e", metavar="EVENT", help="Only for this event of it.")
]
NoteOption = Annotated[str, typer.Option(metavar="TEXT", help="In your words; it is public.")]
ReferenceOption = Annotated[str, typer.Option(metavar="REF", help="Circular, TNS name or address.")]
AuthorOption = Annotated[
    str, typer.Option(metavar="NAME", help="Who says so; it is public. Default: nobody is named.")
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm", help="It is the counterpart, whatever its class.")
]
DemoteOption = Annotated[bool, typer.Option("--demote", help="It is not, whatever its class.")]
NeutralOption = Annotated[
    bool, typer.Option("--neutral", help="Tell it, and leave the tier as it is.")
]
AnywayOption = Annotated[
    bool, typer.Option("--anyway", help="Also for a counterpart or event that nobody knows.")
]
EverywhereOption = Annotated[
    bool,
    typer.Option(
        "--everywhere", help="For all events, though some are private: the verdict is public."
    ),
]
TnsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Verdicts from TNS's table of public objects.")
]
RadiusOption = Annotated[
    float, typer.Option(min=0.01, max=60, metavar="ARCSEC", help="With --from-tns.")
]
OverruleOption = Annotated[
    bool,
    typer.Option("--overrule", help="With --from-tns: also where a person said something last."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say it, send nothing.")]
ListOption = Annotated[
    bool, typer.Option("--list", help="Verdicts so far, of all or of one COUNTERPART.")
]
WordsOption = Annotated[bool, typer.Option("--words", help="Classifications and effects.")]

_ID = re.compile(r"MM-[A-Z0-9]+-\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody says of a counterpart, as it was typed."""

    counterpart: str
    classification: str
    event: str
    note: str
    reference: str
    author: str
    effect: Effect | None
    anyway: bool
    everywhere: bool
    private: bool


def verdict(
    context: typer.Context,
    counterpart: CounterpartArgument = "",
    classification: ClassificationArgument = "",
    event: EventOption = "",
    note: NoteOption = "",
    reference: ReferenceOption = "",
    author: AuthorOption = "",
    confirm: ConfirmOption = False,
    demote: DemoteOption = False,
    neutral: NeutralOption = False,
    anyway: AnywayOption = False,
    everywhere: EverywhereOption = False,
    from_tns: TnsOption = None,
    radius: RadiusOption = 2.0,
    overrule: OverruleOption = False,
    dry_run: DryRunOption = False,
    as_list: ListOption = False,
    words: WordsOption = False,
    private: PrivateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what a counterpart turned out to be: its candidates are demoted, confirmed or marked.

    The verdict holds for all events of the object, or for one. The latest one counts.

    The matcher heeds it with its next batch, and says so in statements like any other.
    """
    from crossmatch.errors import ConfigError

    _check_usage(counterpart, classification, from_tns is not None, as_list, words)
    if overrule and from_tns is None:
        raise ConfigError("--overrule goes with --from-tns; what you say yourself always counts")
    if words:
        tables.show_words(as_json)
        return
    config = options(context).load()
    if as_list:
        tables.show_list(config, counterpart, as_json)
    elif from_tns is not None:
        how = tables.TnsWay(radius, overrule=overrule, dry_run=dry_run, private=private)
        tables.from_tns(config, from_tns, how, as_json=as_json)
    else:
        said = Said(
            counterpart=counterpart,
            classification=classification,
            event=event,
            note=note,
            reference=reference,
            author=author,
            effect=_effect(confirm=confirm, demote=demote, neutral=neutral),
            anyway=anyway,
            everywhere=everywhere,
            private=private,
        )
        _judge(config, said, dry_run=dry_run, as_json=as_json)


def _check_usage(
    counterpart: str, classification: str, from_tns: bool, as_list: bool, words: bool
) -> None:
    from crossmatch.errors import ConfigError

    if from_tns + as_list + words > 1:
        raise ConfigError("--from-tns, --list and --words exclude one another")
    if ((from_tns or words) and counterpart) or (as_list and classification):
        raise ConfigError("--from-tns and --words stand alone; --list takes one COUNTERPART")
    if not (from_tns or as_list or words) and not (counterpart and classification):
        raise ConfigError(
            "say which COUNTERPART and what it is, as 'mmgateway verdict ZTF17aabcdef supernova';"
            " --words shows what may be said"
        )


def _judge(config: Config, said: Said, *, dry_run: bool, as_json: bool) -> None:
    """Give the verdict that somebody typed."""
    from crossmatch.errors import ConfigError
    from gateway.offline import verdicts

    if said.event and said.everywhere:
        raise ConfigError("--event and --everywhere exclude one another")
    word = verdicts.classification(said.classification)
    known = _known(config, said)
    if known is not None and not said.event and not said.everywhere:
        _must_not_tell_secrets(config, known, said)
    given = verdicts.new_verdict(
        known.counterpart_id if known else said.counterpart,
        word,
        now=datetime.now(UTC),
        event_id=_event_id(known, said.event, anyway=said.anyway),
        note=said.note,
        reference=said.reference,
        author=said.author,
        effect=said.effect,
    )
    _give(config, given, known, dry_run=dry_run, as_json=as_json)


def _effect(*, confirm: bool, demote: bool, neutral: bool) -> Effect | None:
    from crossmatch.errors import ConfigError

    if confirm + demote + neutral > 1:
        raise ConfigError("--confirm, --demote and --neutral exclude one another")
    return "confirm" if confirm else "demote" if demote else "neutral" if neutral else None


def _known(config: Config, said: Said) -> Counterpart | None:
    """The counterpart; None when nobody knows it and that is accepted."""
    from crossmatch.errors import ConfigError

    try:
        return _look_up(config, said.counterpart, private=said.private)
    except ConfigError as error:
        if not said.anyway:
            raise ConfigError(f"{error} (--anyway accepts it)") from error
    if not _ID.fullmatch(said.counterpart):
        raise ConfigError(
            f"--anyway: nobody knows {said.counterpart!r}, so write its counterpart_id:"
            " MM-<SURVEY>-<object>, for example MM-ZTF-ZTF17aabcdef"
        )
    return None


def _look_up(config: Config, name: str, *, private: bool) -> Counterpart:
    in_kafka = not (config.paths.state / "candidates").is_dir()
    return known_counterpart(config, name, from_kafka=in_kafka, private=private)


def _must_not_tell_secrets(config: Config, known: Counterpart, said: Said) -> None:
    """What is said without an event goes to all candidates of the object, public ones too."""
    from crossmatch.errors import ConfigError

    whole = _look_up(config, known.counterpart_id, private=True)
    secret = [t.event_id for t in whole.tracks if t.latest["streams"]]
    if not secret:
        return
    # Only whoever asked for them is told the events of private streams.
    events = f" ({', '.join(secret)})" if said.private else ""
    too = " too" if len(secret) < len(whole.tracks) else ""
    raise ConfigError(
        f"{known.counterpart_id} is a candidate of a private stream{too}{events}, and a verdict"
        " on all its events can be read by everybody, with note, reference and author: say with"
        " --event for which event it holds, or --everywhere if it may be public"
    )


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
        tables.send(config, [given])
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
