"""``mmgateway config``: write, check and show the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import DEFAULT_FILE, Options, options

if TYPE_CHECKING:
    from gateway.config import Config

app = typer.Typer(
    help="Write, check and show the configuration.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command(
    epilog="Examples:\n\nmmgateway config check\n\nmmgateway --config /etc/mmgateway.toml config"
    " check --json"
)
def check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Read the configuration and everything it names; say what is wrong."""
    from crossmatch.errors import ConfigError
    from gateway.config import as_dict

    chosen = options(context)
    try:
        config = chosen.load()
        _check_files(config)
        notes = _notes(config)
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"ok": False, "error": str(error)}))
        raise
    if as_json:
        report = {"ok": True, "source": config.source, "notes": notes, "config": as_dict(config)}
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{config.source}: valid")
    for note in notes:
        typer.echo(f"  {note}")


def _check_files(config: Config) -> None:
    """Raise ConfigError for what the configuration names and the services could not use."""
    from crossmatch.errors import ConfigError
    from gateway.cli.feeds_manage import store_of
    from gateway.lookup import lookup_of

    for folder in config.paths.feeds:
        if not folder.is_dir():
            raise ConfigError(f"{config.source}: [paths] feeds: {folder} is not a folder")
    store_of(config).load(record=False).sound()
    try:
        lookup_of(config)
    except ConfigError as error:
        raise ConfigError(f"{config.source}: {error}") from error
    _check_schemas(config)


def _check_schemas(config: Config) -> None:
    from broker.packets import read_lsst_schemas
    from crossmatch.errors import AlertError, ConfigError

    where = config.match.lsst_schemas
    place = f"{config.source}: [match] lsst_schemas"
    if not where or where.startswith(("http://", "https://")):
        return
    if "://" in where:
        raise ConfigError(f"{place}: {where}: the address of a registry starts with http(s)://")
    if not Path(where).is_dir():
        raise ConfigError(f"{place}: {where} is not a folder")
    try:
        read_lsst_schemas(Path(where))
    except AlertError as error:
        raise ConfigError(f"{place}: {error.detail} ({error.reason})") from error


def _notes(config: Config) -> list[str]:
    """What the configuration means, in sentences."""
    kafka = config.kafka.bootstrap or f"embedded, port {config.kafka.port or 'free'}"
    gcn = "not asked"
    if config.gcn.enabled:
        gcn = config.gcn.bootstrap or f"kafka.{config.gcn.domain} as {config.gcn.client_id}"
    return [
        f"state: {config.paths.state.expanduser().absolute()}",
        f"Kafka: {kafka}",
        f"GCN: {gcn}",
        f"VTP: authors at {config.vtp.host}:{config.vtp.receiver_port}, subscribers at"
        f" {config.vtp.host}:{config.vtp.broadcast_port}, remotes:"
        f" {', '.join(config.vtp.remotes) or 'none'}",
        f"watched folder: {config.listen.folder or 'none'}",
        f"Spark: {config.match.master}",
        f"catalogues: {', '.join(config.match.catalogs) or 'none'}",
    ]


@app.command(
    epilog="Examples:\n\nmmgateway config init\n\nmmgateway config init /etc/mmgateway.toml"
)
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented configuration with every default."""
    from crossmatch.errors import ConfigError
    from gateway.config import default_toml

    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_toml())
    except FileExistsError as error:
        raise ConfigError(f"{path} exists; --force replaces it") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(str(path))


@app.command(
    epilog="Examples:\n\nmmgateway config show\n\nMMGATEWAY_KAFKA__PORT=0 mmgateway config show"
    " --json"
)
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the values in force after file and environment; secrets are masked."""
    from gateway.config import as_dict

    chosen: Options = options(context)
    values = as_dict(chosen.load())
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    typer.echo(f"# {values.pop('source')}")
    for table, keys in values.items():
        typer.echo(_toml(table, keys), nl=False)


def _toml(table: str, keys: dict[str, Any]) -> str:
    """One table as TOML text; null, which TOML lacks, is ``false``."""
    if table == "chains":
        return "".join(_toml(f"chains.{name}", chain) for name, chain in keys.items())
    lines = [f"\n[{table}]"]
    lines += [f"{key} = {_toml_value(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if value is None:
        return "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return json.dumps(value, ensure_ascii=False)
