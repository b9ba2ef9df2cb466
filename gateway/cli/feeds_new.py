"""``mmgateway feeds new``: the file of a feed, from a sample, options and answers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli.feeds_manage import JsonOption, feed_store

if TYPE_CHECKING:
    from gateway.cli.feeds_questions import Ground
    from gateway.config import Config
    from gateway.feeds.drafts.template import Draft
    from gateway.feeds.registry import Registry
    from gateway.feeds.spec import Feed
    from gateway.feeds.store import FeedStore
    from gateway.understand import Understood

EPILOG = (
    "Examples:\n\nmmgateway feeds new  (asks)\n\n"
    "mmgateway feeds new --from sample.json --name ourteam --topic ourteam.alerts --private --yes"
    "\n\nmmgateway feeds new --from event.xml --vtp broker.example.org:8099 --stream ourteam --yes"
)
_SECRET = re.compile(r"secret|password|passwd|token", re.IGNORECASE)
_TRANSPORT = ("kafka", "vtp", "group", "properties")
_OWN_NEWS = "A running listener takes it up by itself, within seconds."


class Messenger(StrEnum):
    """What a feed may bring news of."""

    gw = "gw"
    grb = "grb"
    neutrino = "neutrino"
    xray = "xray"
    frb = "frb"
    optical = "optical"


class Format(StrEnum):
    """What a feed's messages may be, where no parser of one's own reads them."""

    voevent = "voevent"
    json = "json"
    igwn = "igwn"


class ErrorUnit(StrEnum):
    """Units of an error radius."""

    deg = "deg"
    arcmin = "arcmin"
    arcsec = "arcsec"
    mas = "mas"
    rad = "rad"


@dataclass(frozen=True, slots=True)
class _Sample:
    path: Path
    raw: bytes


def new(
    context: typer.Context,
    sample: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A message of the feed, to guess from."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name: a-z, 0-9 and _.")] = "",
    title: Annotated[str, typer.Option(help="What it is, for people.")] = "",
    mission: Annotated[str, typer.Option(help="Mission or observatory.")] = "",
    instrument: Annotated[str, typer.Option(help="Instrument.")] = "",
    messenger: Annotated[
        Messenger | None, typer.Option(help="Decides window, level and topic of candidates.")
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Of its messages.")] = None,
    topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Kafka topic; may be repeated.")
    ] = None,
    ivoid: Annotated[
        list[str] | None,
        typer.Option(metavar="IVOID", help="What the IVOIDs of its VOEvents begin with."),
    ] = None,
    schema: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Part of $schema of its messages.")
    ] = None,
    trigger: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM", help="Param that names the event, or @ivoid."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH", help="Where a value stands, as ra=$.event.ra; may be repeated."
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Events are called PREFIX_ID.")] = "",
    containment: Annotated[
        float | None, typer.Option(metavar="P", help="Probability inside the error radius.")
    ] = None,
    systematic_included: Annotated[
        bool, typer.Option("--systematic-included", help="The error radius has the systematic.")
    ] = False,
    error_unit: Annotated[ErrorUnit | None, typer.Option(help="Of the error radius.")] = None,
    kafka: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A Kafka of its own that has its topics.")
    ] = "",
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="KEY=VALUE",
            help="librdkafka property for that Kafka; a secret as $NAME of the environment.",
        ),
    ] = None,
    vtp: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A VTP broker of its own to subscribe to.")
    ] = "",
    private: Annotated[
        bool, typer.Option("--private", help="Only the stream with the feed's name sees it.")
    ] = False,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="STREAM", help="Only this private stream sees it; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File or folder; default: the first folder of feeds."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the file of a new feed, each line explained: from a sample, answers, or both.

    Without [bold]--yes[/bold] it asks for what no option says; what stands in brackets is taken
    when you just press Enter, and - means none. A wrong answer is asked for again. An existing
    file is never replaced.
    """
    from gateway.cli.feeds_questions import pairs

    places = pairs(field, "--field")
    said = _said(
        name=name, title=title, mission=mission, instrument=instrument, prefix=prefix,
        messenger=messenger, format=form, topics=topic, ivoids=ivoid, schemas=schema,
        trigger=trigger, containment=containment, systematic_included=systematic_included,
        error_unit=error_unit, private=private, streams=stream, kafka=kafka, vtp=vtp,
        properties=_without_secrets(pairs(properties, "--property")),
    )  # fmt: skip
    _require_yes_with_json(yes, as_json)
    config = options(context).load()
    given = None if sample is None else _Sample(sample, _bytes_of(sample))
    store = feed_store(context)
    draft = _settled(given, said, places, store, asks=not yes)
    _finish(config, store, draft, given, out, as_json)


def _said(**values: Any) -> dict[str, Any]:
    """What the options say, by the keys of a draft; what was not given is left out."""
    return {key: _plain(value) for key, value in values.items() if value}


def _plain(value: Any) -> Any:
    """The value of an option as a draft has it."""
    if isinstance(value, StrEnum):
        return value.value
    return tuple(value) if isinstance(value, list) else value


def _require_yes_with_json(yes: bool, as_json: bool) -> None:
    from crossmatch.errors import ConfigError

    if as_json and not yes:
        raise ConfigError("--json goes with --yes: questions would stand between")


def _settled(
    sample: _Sample | None,
    said: Mapping[str, Any],
    places: dict[str, str],
    store: FeedStore,
    *,
    asks: bool,
) -> Draft:
    """Draft from the sample and the options, both checked; ``asks``: people say the rest."""
    from crossmatch.errors import ConfigError
    from gateway.cli.feeds_questions import check_given

    draft = _drafted(sample, said)
    draft = replace(draft, fields=dict(draft.fields) | places)
    ground = _ground(sample, store)
    check_given(draft, said.keys(), ground, asks=asks)
    if asks:
        return _agreed(draft, said.keys() | places.keys(), ground, sample)
    if sample is None and not said.keys() & {"topics", "ivoids", "schemas", "vtp"}:
        raise ConfigError("say how its messages come: --from FILE, --topic, --ivoid or --vtp")
    return draft


def _ground(sample: _Sample | None, store: FeedStore) -> Ground:
    """What options and answers are checked against: the feeds there are, and the sample."""
    from gateway.cli.feeds_questions import Ground

    form_of_sample = "" if sample is None else _drafted(sample, {}).format
    taken = {f.name: f.source for f in store.load(record=False).registry.feeds}
    return Ground(taken, form_of_sample)


def _agreed(draft: Draft, said: Set[str], ground: Ground, sample: _Sample | None) -> Draft:
    """``draft`` with answers, asked for until they make a feed together."""
    from crossmatch.errors import ConfigError
    from gateway.cli.feeds_questions import asked

    while True:
        draft = asked(draft, said, ground)
        try:
            _checked(draft, sample)
        except ConfigError as error:
            # Nothing is lost: the answers are the defaults of the next round.
            typer.echo(f"Error: {error}. Once more, with your answers in brackets:", err=True)
        else:
            return draft


def _without_secrets(table: dict[str, str]) -> dict[str, str]:
    from crossmatch.errors import ConfigError

    for key, value in table.items():
        if _SECRET.search(key) and not value.startswith("$"):
            raise ConfigError(
                f"--property {key}: write the name of a variable of the environment, as"
                f" {key}=$OURTEAM_PASSWORD, so that the secret stands in no file"
            )
    return table


def _bytes_of(path: Path) -> bytes:
    from crossmatch.errors import ConfigError

    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--from {path}: {error.strerror}") from error


def _drafted(sample: _Sample | None, said: Mapping[str, Any]) -> Draft:
    """Draft from the sample, with what options say in place of what was guessed."""
    from crossmatch.errors import ConfigError, NoticeError
    from gateway.feeds.drafts.guess import draft_from, feed_name

    topic = next(iter(said.get("topics", ())), "")
    if sample is None:
        draft = _blank(said.get("name") or feed_name(topic or "new feed"), said)
    else:
        try:
            draft = draft_from([sample.raw], topic=topic)
        except NoticeError as error:
            raise ConfigError(
                f"--from {sample.path}: neither a VOEvent nor a JSON object: {error.detail}"
            ) from error
    own = {k: v for k, v in said.items() if k not in _TRANSPORT}
    transport = replace(draft.transport, **{k: v for k, v in said.items() if k in _TRANSPORT})
    return replace(draft, **own, transport=transport, guessed=draft.guessed - own.keys())


def _blank(name: str, said: Mapping[str, Any]) -> Draft:
    from gateway.feeds.drafts.template import Draft

    form = said.get("format", "voevent" if said.keys() & {"ivoids", "vtp", "trigger"} else "json")
    return Draft(
        name=name, title=f"Notices of {name}", mission=name, prefix=name, messenger="optical",
        format=form, trigger=("@ivoid",) if form == "voevent" else (),
        guessed=frozenset({"messenger", "containment"}),
    )  # fmt: skip


def _finish(
    config: Config,
    store: FeedStore,
    draft: Draft,
    sample: _Sample | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Check the draft, write it, and say what to do next."""
    from gateway.feeds.drafts.suggest import trial
    from gateway.feeds.drafts.template import guesses

    text, feed = _checked(draft, sample)
    topic = next(iter(draft.topics), "")
    tried = None if sample is None else trial(text, sample.raw, config.chains, topic)
    path = _write(feed, text, out, store)
    in_force = path.parent in {f.absolute() for f in config.feed_folders}
    loaded = store.load(record=in_force)
    claim = _claim(feed, loaded.registry, sample)
    if as_json:
        found = {"name": draft.name, "path": str(path), "in_force": in_force, "toml": text}
        found |= {"guessed": sorted(draft.guessed), "claim": claim}
        typer.echo(json.dumps(found | {"tried": None if tried is None else as_row(tried)}))
        return
    typer.echo(f"Wrote {path}")
    if tried is not None and sample is not None:
        typer.echo(f"{sample.path}: {in_words(tried)}")
    if claim:
        typer.echo(claim)
    if draft.guessed:
        typer.echo(f"Guessed, please look: {', '.join(guesses(draft))}.")
    file = "FILE" if sample is None else sample.path
    folder = f"It is used once {path.parent} is among [paths] feeds."
    if in_force:
        typer.echo(f"Try it: mmgateway feeds try {file} --feed {draft.name}")
    typer.echo(_OWN_NEWS if in_force else folder)


def _checked(draft: Draft, sample: _Sample | None) -> tuple[str, Feed]:
    """Text of the draft's file, and its feed; ConfigError when it cannot be used."""
    from gateway.feeds.drafts.template import feed_toml
    from gateway.feeds.files import feed_from_toml
    from gateway.feeds.loading import parser_of

    about = "" if sample is None else f"Drafted from {sample.path.name}."
    text = feed_toml(draft, about)
    feed = feed_from_toml(text, "the new feed")
    parser_of(feed)
    return text, feed


def _claim(feed: Feed, registry: Registry, sample: _Sample | None) -> str:
    """Who has the sample when it is heard, if other feeds know it too; else empty."""
    from gateway.feeds.loading import parser_of
    from gateway.feeds.registry import registry_of
    from gateway.offline.claims import claim_on

    if sample is None:
        return ""
    if feed.name not in {f.name for f in registry.feeds}:
        # Written elsewhere: as it will be once its folder is read.
        parsers = {**registry.parsers, feed.name: parser_of(feed)}
        registry = registry_of([feed, *registry.feeds], parsers, registry.paused)
    return claim_on(registry, sample.raw, feed.name).sentence


def _write(feed: Feed, text: str, out: Path | None, store: FeedStore) -> Path:
    """Write a new file, never over another, nor a second feed of that name."""
    from crossmatch.errors import ConfigError, ServiceError

    name = feed.name
    path = store.folder if out is None else out.absolute()
    path = path if path.suffix == ".toml" else path / f"{name}.toml"
    feeds = {f.name: f.source for f in store.load(record=False).registry.feeds}
    if name in feeds:
        raise ConfigError(
            f"feed {name} stands in {feeds[name]} already; choose another --name, or copy it with"
            f" 'mmgateway feeds show {name} --toml'"
        )
    return write_new(path, text, ConfigError, ServiceError, feed.confidential)


def write_new(
    path: Path,
    text: str,
    exists: type[Exception],
    unwritable: type[Exception],
    confidential: bool = True,
) -> Path:
    """Write ``text`` to a file that is not there yet, with its folder if need be.

    What is ``confidential`` nobody but its owner can read.
    """

    def created(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600 if confidential else 0o666)

    try:
        missing = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700 if confidential else 0o777, exist_ok=True)
        with open(path, "x", encoding="utf-8", opener=created) as file:
            file.write(text)
    except FileExistsError as error:
        raise exists(f"{path} exists; it is not replaced") from error
    except OSError as error:
        raise unwritable(f"{path}: cannot be written: {error.strerror}") from error
    return path


def as_row(found: Understood) -> dict[str, Any]:
    """What was understood of a sample, as plain values."""
    from dataclasses import asdict

    from gateway.offline.trial import row_of

    row = asdict(row_of("", found))
    detail = "" if found.rejected is None else found.rejected.detail
    return {k: v for k, v in row.items() if k not in ("path", "duplicate_of")} | {"detail": detail}


def in_words(found: Understood) -> str:
    """What was understood of a sample, in a sentence."""
    row = as_row(found)
    if found.rejected is not None:
        return f"not understood: {found.rejected}"
    if found.region is None:
        return f"{row['outcome'].replace('_', ' ')} ({row['reason']}), event {row['event_id']}"
    return (
        f"understood: {row['role']} {row['event_id']} at {row['trigger_time_utc']},"
        f" RA {row['ra_deg']:.4f}, Dec {row['dec_deg']:.4f},"
        f" 90 % area {row['area90_deg2']:.3g} deg2"
    )
