"""``mmgateway feeds new``: the file of a feed, from a sample, options and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli.feeds_manage import JsonOption, feed_store

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.feeds.drafts.template import Draft
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
    when you just press Enter. An existing file is never replaced.
    """
    from crossmatch.errors import ConfigError
    from gateway.cli.feeds_questions import asked, pairs

    places = pairs(field, "--field")
    said = {
        "name": name, "title": title, "mission": mission, "instrument": instrument,
        "messenger": messenger and messenger.value, "format": form and form.value,
        "topics": tuple(topic or ()), "ivoids": tuple(ivoid or ()),
        "schemas": tuple(schema or ()), "trigger": tuple(trigger or ()), "prefix": prefix,
        "containment": containment, "systematic_included": systematic_included,
        "error_unit": error_unit and error_unit.value, "private": private,
        "streams": tuple(stream or ()), "kafka": kafka, "vtp": vtp,
        "properties": _without_secrets(pairs(properties, "--property")),
    }  # fmt: skip
    said = {key: value for key, value in said.items() if value}
    if as_json and not yes:
        raise ConfigError("--json goes with --yes: questions would stand between")
    config = options(context).load()
    given = None if sample is None else _Sample(sample, _bytes_of(sample))
    draft = _drafted(given, said)
    draft = replace(draft, fields=dict(draft.fields) | places)
    if not yes:
        draft = asked(draft, said.keys() | places.keys())
    elif given is None and not said.keys() & {"topics", "ivoids", "schemas", "vtp"}:
        raise ConfigError("say how its messages come: --from FILE, --topic, --ivoid or --vtp")
    _finish(config, feed_store(context), draft, given, out, as_json)


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
    from gateway.feeds.drafts.template import feed_toml
    from gateway.feeds.files import feed_from_toml
    from gateway.feeds.loading import parser_of

    about = "" if sample is None else f"Drafted from {sample.path.name}."
    text = feed_toml(draft, about)
    parser_of(feed_from_toml(text, "the new feed"))
    topic = next(iter(draft.topics), "")
    tried = None if sample is None else trial(text, sample.raw, config.chains, topic)
    path = _write(draft.name, text, out, store)
    in_force = path.parent in {f.absolute() for f in config.feed_folders}
    if in_force:
        store.load()
    if as_json:
        found = {"name": draft.name, "path": str(path), "in_force": in_force, "toml": text}
        typer.echo(json.dumps(found | {"tried": None if tried is None else as_row(tried)}))
        return
    typer.echo(f"Wrote {path}")
    if tried is not None and sample is not None:
        typer.echo(f"{sample.path}: {in_words(tried)}")
    if draft.guessed:
        typer.echo(f"Guessed, please look: {', '.join(sorted(draft.guessed))}.")
    file = "FILE" if sample is None else sample.path
    folder = f"It is used once {path.parent} is among [paths] feeds."
    if in_force:
        typer.echo(f"Try it: mmgateway feeds try {file} --feed {draft.name}")
    typer.echo(_OWN_NEWS if in_force else folder)


def _write(name: str, text: str, out: Path | None, store: FeedStore) -> Path:
    """Write a new file, never over another, nor a second feed of that name."""
    from crossmatch.errors import ConfigError, ServiceError

    path = store.folder if out is None else out.absolute()
    path = path if path.suffix == ".toml" else path / f"{name}.toml"
    feeds = {f.name: f.source for f in store.load(record=False).registry.feeds}
    if name in feeds:
        raise ConfigError(
            f"feed {name} stands in {feeds[name]} already; choose another --name, or copy it with"
            f" 'mmgateway feeds show {name} --toml'"
        )
    return write_new(path, text, ConfigError, ServiceError)


def write_new(path: Path, text: str, exists: type[Exception], unwritable: type[Exception]) -> Path:
    """Write ``text`` to a file that is not there yet, with its folder if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
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
