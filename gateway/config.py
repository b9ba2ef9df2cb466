"""Configuration: one commented TOML file, environment over it, read once.

``defaults.toml`` beside this module is both the default and the template that
``mmgateway config init`` writes. A variable ``MMGATEWAY_KAFKA__BOOTSTRAP``
replaces ``bootstrap`` of ``[kafka]``. Where a text belongs it is taken as it stands, so
that a password ``12e5`` or ``true`` stays one; numbers, lists and tables are read as TOML.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from crossmatch.chains import Chain, chains_with
from crossmatch.cuts import Cuts
from crossmatch.errors import ConfigError
from crossmatch.model import Window
from crossmatch.selections import Selection, named, selections_with
from gateway.feeds.spec import STREAM_NAME

ENV_PREFIX = "MMGATEWAY_"
# Tables of tables: of each there may be any number, under names of their own.
_NAMED = ("chains", "streams", "selections")
_CDS_NAME = re.compile(r"simbad|vizier:[A-Za-z0-9+_./-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where things are kept."""

    state: Path
    feeds: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """The Kafka that holds our topics."""

    bootstrap: str
    embedded: bool
    port: int
    controller_port: int
    properties: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gcn:
    """GCN's Kafka, or any Kafka that carries notices."""

    enabled: bool
    client_id: str
    client_secret: str = field(repr=False)
    domain: str
    bootstrap: str
    group_id: str
    topics: tuple[str, ...]
    properties: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vtp:
    """VOEvent Transport Protocol: what we serve and whom we hear."""

    host: str
    receiver_port: int
    broadcast_port: int
    local_ivo: str
    author_allow: tuple[str, ...]
    subscriber_allow: tuple[str, ...]
    remotes: tuple[str, ...]
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Notices from files."""

    folder: str
    poll_seconds: float
    feeds_poll_seconds: float
    notice_seconds: float
    parser_seconds: float
    notice_megabytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Sky maps by address."""

    fetch: bool
    hosts: tuple[str, ...]
    max_megabytes: int
    timeout_seconds: float
    retry_minutes: tuple[float, ...]
    give_up_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Where operators are told."""

    topic: bool
    command: tuple[str, ...]
    webhook: str = field(repr=False)
    credentials_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A private stream; its VTP port is 0 when it has none."""

    broadcast_port: int = 0
    subscriber_allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The Spark query."""

    master: str
    driver_memory: str
    where: str
    alert_topics_ztf: tuple[str, ...]
    alert_topics_lsst: tuple[str, ...]
    alert_bootstrap: str
    alert_properties: Mapping[str, str] = field(repr=False)
    lsst_schemas: str
    max_offsets_per_trigger: int
    starting_offsets: str
    catalogs: tuple[str, ...]
    include_tests: bool
    open_days: float
    spark: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cds:
    """Look-ups in Simbad and VizieR after a candidate went out."""

    enabled: bool
    catalogs: tuple[str, ...]
    radius_arcsec: float
    private: bool
    url: str
    tap_url: str
    timeout_seconds: float
    batch: int
    per_minute: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What is kept of the alerts, and for how long."""

    packets: str
    packets_gigabytes: float
    keep_free: float
    compact_minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """VOEvents out."""

    min_tier: str
    author_ivo: str
    contact_name: str
    contact_email: str
    observatory: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    paths: Paths
    kafka: Kafka
    gcn: Gcn
    vtp: Vtp
    listen: Listen
    maps: Maps
    alarms: Alarms
    match: Match
    cds: Cds
    archive: Archive
    cuts: Cuts
    publish: Publish
    chains: Mapping[str, Chain]
    streams: Mapping[str, Stream] = field(default_factory=dict)
    selections: Mapping[str, Selection] = field(default_factory=dict)
    source: str = "built-in defaults"

    @property
    def feed_folders(self) -> tuple[Path, ...]:
        """Folders with the operator's feed files; the first is where new ones are written."""
        return self.paths.feeds or (self.paths.state / "feeds",)


def default_toml() -> str:
    """The commented template with every default."""
    return resources.files("gateway").joinpath("defaults.toml").read_text("utf-8")


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Configuration from the defaults, the file at ``path`` and the environment, in that order.

    Raises
    ------
    ConfigError
        With the file, table and key at fault and what is expected there.
    """
    environ = os.environ if environ is None else environ
    tables = tomllib.loads(default_toml())
    observatory = tables["publish"]["observatory"]
    given: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _NAMED}
    source = "built-in defaults"
    if path is not None:
        source = str(path)
        _merge(tables, _read(path), given, source)
    over = _from_environment(environ)
    _merge(tables, over, given, "environment")
    schemas = tables["match"]["lsst_schemas"]
    if isinstance(schemas, str) and schemas.startswith("~"):
        tables["match"]["lsst_schemas"] = str(Path(schemas).expanduser())
    if isinstance(tables["publish"]["observatory"], Mapping):
        # Who names the site of one survey keeps those of the others.
        tables["publish"]["observatory"] = observatory | tables["publish"]["observatory"]
    return _build(tables, given, source, over)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; write one with 'mmgateway config init {path}'"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        *parents, key = name.removeprefix(ENV_PREFIX).lower().split("__")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"environment: {name} goes into what another variable replaces")
        table[key] = _value_of(text, _kind(parents, key))
    return tables


def _kind(parents: list[str], key: str) -> Any:
    """Type of the field that a variable names; None for one that is unknown, or of a chain."""
    section = typing.get_type_hints(Config).get(parents[0])
    if not dataclasses.is_dataclass(section):
        return None
    kind = typing.get_type_hints(section).get(parents[1] if len(parents) > 1 else key)
    if len(parents) > 1:
        # A value inside a table, all of which hold texts.
        return str if typing.get_origin(kind) is not None else None
    return kind


def _value_of(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if kind is Path and not isinstance(value, str) else value


def _merge(
    tables: dict[str, Any],
    new: Mapping[str, Any],
    given: dict[str, dict[str, dict[str, Any]]],
    source: str,
) -> None:
    for section, values in new.items():
        if section not in tables and section not in given:
            known = ", ".join(sorted([*tables, *given]))
            raise ConfigError(f"{source}: [{section}]: no such table; known: {known}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"{source}: {section} must be a table, as in [{section}]")
        if section in given:
            for name, override in values.items():
                if not isinstance(override, Mapping):
                    raise ConfigError(f"{source}: write [{section}.{name}] as a table")
                given[section].setdefault(name, {}).update(override)
            continue
        for key, value in values.items():
            if key not in tables[section]:
                known = ", ".join(sorted(tables[section]))
                raise ConfigError(f"{source}: [{section}] {key}: no such key; known: {known}")
            tables[section][key] = value


def _build(
    tables: Mapping[str, Any],
    given: Mapping[str, Mapping[str, Mapping[str, Any]]],
    source: str,
    environment: Mapping[str, Any],
) -> Config:
    hints = typing.get_type_hints(Config)
    selections = selections_with(given["selections"])
    tables = {**tables, "cuts": _with_selection(tables["cuts"], selections)}
    sections: dict[str, Any] = {}
    for name, values in tables.items():
        cls = hints[name]
        kinds = typing.get_type_hints(cls)
        for key in kinds:
            if key not in values:
                raise ConfigError(f"{source}: [{name}] {key} is missing")
        own = environment.get(name, {})
        sections[name] = cls(
            **{
                key: _convert(
                    value, kinds[key], f"{'environment' if key in own else source}: [{name}] {key}"
                )
                for key, value in values.items()
            }
        )
    config = Config(
        **sections,
        chains=chains_with(given["chains"], selections),
        selections=selections,
        streams={
            name: _stream(values, f"{source}: [streams.{name}]")
            for name, values in given["streams"].items()
        },
        source=source,
    )
    _validate(config)
    return config


def _with_selection(
    cuts: Mapping[str, Any], selections: Mapping[str, Selection]
) -> Mapping[str, Any]:
    """``[cuts]`` with the selection that it names; false stands for the thresholds."""
    name, where = cuts["selection"], "[cuts] selection"
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected the name of a selection, found {name!r}")
    if name == "default":
        return {**cuts, "selection": False}
    chosen = named(name, selections, where)
    for step in chosen.steps:
        if step.about.needs != "alert":
            raise ConfigError(
                f"{where}: {name} has {step.cut}, which needs more than an alert"
                f" ({step.about.needs}): let a chain demand it, as in [chains.grb] demands ="
                f' "{name}"'
            )
    return {**cuts, "selection": chosen}


def _stream(values: Mapping[str, Any], where: str) -> Stream:
    name = where.rpartition(".")[2].rstrip("]")
    if not STREAM_NAME.fullmatch(name):
        raise ConfigError(f"{where}: a stream's name has a-z, 0-9, _ and -")
    kinds = typing.get_type_hints(Stream)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise ConfigError(f"{where} {unknown[0]}: no such key; known: {', '.join(sorted(kinds))}")
    stream = Stream(**{k: _convert(v, kinds[k], f"{where} {k}") for k, v in values.items()})
    if not 0 <= stream.broadcast_port <= 65535:
        raise ConfigError(f"{where} broadcast_port: {stream.broadcast_port} is not a port")
    return stream


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        (item, _) = typing.get_args(kind)
        if not isinstance(value, list):
            raise ConfigError(f'{where}: expected a list, as in ["a", "b"], found {value!r}')
        return tuple(_convert(v, item, where) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f'{where}: expected a table, as in {{ a = "b" }}, found {value!r}')
        return types.MappingProxyType({str(k): str(v) for k, v in value.items()})
    if origin is types.UnionType:
        # TOML has no null: false means "no limit".
        return None if value is False else _convert(value, typing.get_args(kind)[0], where)
    if kind is Path and isinstance(value, str):
        return Path(os.path.expandvars(value)).expanduser()
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: expected a finite number, found {value!r}")
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def _validate(config: Config) -> None:
    if config.publish.min_tier not in ("bronze", "silver", "gold"):
        raise ConfigError(
            f"[publish] min_tier: {config.publish.min_tier!r} is not bronze, silver or gold"
        )
    for name in ("author_ivo",):
        if not getattr(config.publish, name).startswith("ivo://"):
            raise ConfigError(f"[publish] {name}: an IVOID starts with ivo://")
    if not config.vtp.local_ivo.startswith("ivo://"):
        raise ConfigError("[vtp] local_ivo: an IVOID starts with ivo://")
    ports = {
        "[kafka] port": config.kafka.port,
        "[kafka] controller_port": config.kafka.controller_port,
        "[vtp] receiver_port": config.vtp.receiver_port,
        "[vtp] broadcast_port": config.vtp.broadcast_port,
    }
    for where, port in ports.items():
        if not 0 <= port <= 65535:
            raise ConfigError(f"{where}: {port} is not a port (0 chooses a free one)")
    for remote in config.vtp.remotes:
        _, _, port_text = remote.rpartition(":")
        if not port_text.isdigit():
            raise ConfigError(f"[vtp] remotes: {remote!r} is not host:port")
    if config.gcn.enabled and not config.gcn.bootstrap and not config.gcn.client_id:
        raise ConfigError(
            "[gcn] enabled, but without client_id and client_secret; get them at"
            " https://gcn.nasa.gov/quickstart, or set bootstrap to a Kafka of your own"
        )
    for limit in dataclasses.fields(config.cuts):
        value = getattr(config.cuts, limit.name)
        if isinstance(value, int | float) and value < 0:
            raise ConfigError(f"[cuts] {limit.name}: {value} is negative")
    if config.listen.notice_seconds <= 0 or config.listen.notice_megabytes < 256:
        raise ConfigError("[listen] notice_seconds: above 0; notice_megabytes: at least 256")
    if config.listen.parser_seconds <= 0:
        raise ConfigError("[listen] parser_seconds: above 0")
    if not config.maps.retry_minutes or any(m < 0 for m in config.maps.retry_minutes):
        raise ConfigError("[maps] retry_minutes: at least one, none negative")
    _validate_cds(config.cds)
    _validate_names(config.match.catalogs, config.cds.catalogs)
    if config.archive.packets not in ("matched", "all", "none"):
        raise ConfigError(
            f"[archive] packets: matched, all or none, not {config.archive.packets!r}"
        )
    if config.archive.packets_gigabytes <= 0 or config.archive.compact_minutes <= 0:
        raise ConfigError("[archive] packets_gigabytes, compact_minutes: above 0")
    if not 0 <= config.archive.keep_free < 1:
        raise ConfigError("[archive] keep_free: a part of the disk, from 0 to below 1")
    if config.match.where not in ("driver", "workers"):
        raise ConfigError(f"[match] where: driver or workers, not {config.match.where!r}")
    if config.match.open_days < 0:
        raise ConfigError("[match] open_days: not negative")
    if config.match.max_offsets_per_trigger < 1:
        raise ConfigError("[match] max_offsets_per_trigger: at least 1")
    if config.match.starting_offsets not in ("earliest", "latest"):
        raise ConfigError("[match] starting_offsets: earliest or latest")


def _validate_cds(cds: Cds) -> None:
    for name in cds.catalogs:
        if not _CDS_NAME.fullmatch(name):
            raise ConfigError(
                f"[cds] catalogs: {name!r} is neither simbad nor a table of VizieR's, as in"
                " vizier:I/355/gaiadr3"
            )
    if len(set(cds.catalogs)) < len(cds.catalogs):
        raise ConfigError("[cds] catalogs: a name stands there twice")
    if cds.enabled and not cds.catalogs:
        raise ConfigError('[cds] enabled, but without catalogs; Simbad is catalogs = ["simbad"]')
    if not 0 < cds.radius_arcsec <= 60:
        raise ConfigError("[cds] radius_arcsec: above 0, at most 60")
    if cds.timeout_seconds <= 0 or cds.per_minute <= 0:
        raise ConfigError("[cds] timeout_seconds, per_minute: above 0")
    if not 1 <= cds.batch <= 10_000:
        raise ConfigError("[cds] batch: from 1 to 10000 positions")
    for where, url in (("url", cds.url), ("tap_url", cds.tap_url)):
        if not url.startswith(("https://", "http://")) and (url or where == "url"):
            raise ConfigError(f"[cds] {where}: {url!r} is no http(s) address")


def _validate_names(local: Sequence[str], remote: Collection[str]) -> None:
    """Candidates say by its name alone which catalogue was asked: each name is one catalogue."""
    names = [re.split("[=@]", spec, maxsplit=1)[0] for spec in local]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"[match] catalogs: {name} stands there twice")
        if name in remote:
            raise ConfigError(f"[match] catalogs: {name} stands in [cds] catalogs too")


def as_dict(config: Config) -> dict[str, Any]:
    """Configuration as plain values for ``config check --json``, secrets masked."""

    def plain(value: Any) -> Any:
        if isinstance(value, Window):
            return [value.start_days, value.end_days]
        if isinstance(value, Chain):
            # As the loader reads it: the name is the table's, false means no bound.
            fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {k: v for k, v in fields.items() if k != "name"}
        if isinstance(value, Selection):
            return value.name
        if isinstance(value, Cuts):
            fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return fields | {"selection": value.made.name}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                f.name: "***"
                if not f.repr and getattr(value, f.name)
                else plain(getattr(value, f.name))
                for f in dataclasses.fields(value)
            }
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    values: dict[str, Any] = plain(config)
    values["selections"] = {name: one.table() for name, one in config.selections.items()}
    return values
