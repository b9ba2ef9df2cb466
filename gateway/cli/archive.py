"""``mmgateway archive``: what is kept of the alerts, objects over all nights, order in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import options
from gateway.cli.verdict_tables import counted

if TYPE_CHECKING:
    from broker.archive import AlertArchive
    from gateway.config import Config
    from gateway.offline.history import ObjectHistory

app = typer.Typer(
    name="archive",
    help="The archive of all accepted alerts: what is in it, and objects over all nights.",
    no_args_is_help=True,
)
STATUS_EPILOG = (
    "Examples:\n\nmmgateway archive status\n\n"
    "mmgateway archive status --json | jq '.nights[-1]'\n\n"
    "Exit status: 0 done; 1 no archive yet; 2 bad usage or configuration."
)
HISTORY_EPILOG = (
    "Examples:\n\nmmgateway archive history ZTF17aabcdef\n\n"
    "mmgateway archive history ZTF17aabcdef --plot curve.png\n\n"
    "mmgateway archive history 1234567890 --survey lsst --near 197.45 -23.38\n\n"
    "mmgateway archive history ZTF17aabcdef --json | jq '.curve[] | [.time_jd, .filter, .mag]'\n\n"
    "Exit status: 0 done; 1 no archive yet; 2 no such object, bad usage or configuration."
)
COMPACT_EPILOG = (
    "Examples:\n\nmmgateway archive compact\n\nmmgateway archive compact --night 2024-03-01\n\n"
    "Exit status: 0 done; 1 no archive, or another process is at it; 2 bad usage."
)
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
WAITS = "none yet: the gateway is running and waits for alerts"
_UNITS = ("B", "kB", "MB", "GB", "TB")


@app.command("status", epilog=STATUS_EPILOG)
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the nights of the archive: rows, files and bytes, and the packets that are kept."""
    config = options(context).load()
    waits = _waits(config)
    record = _nothing(config) if waits else _status(_archive(config), config)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    elif waits:
        typer.echo(WAITS)
    else:
        _show_status(record)


@app.command("history", epilog=HISTORY_EPILOG)
def history(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT", help="The survey's name of it.")],
    survey: Annotated[
        str | None,
        typer.Option(
            "--survey", help="ztf or lsst; without it: ztf for names that begin with ZTF."
        ),
    ] = None,
    near: Annotated[
        tuple[float, float] | None,
        typer.Option("--near", metavar="RA DEC", help="ICRS degrees: where to look, faster."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the light curve.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an object's alerts over all nights: beyond the 30 days of its packets."""
    from crossmatch.errors import ConfigError
    from gateway.offline.history import history_plot

    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: pictures are PNG; write a name that ends in .png")
    if survey not in (None, "ztf", "lsst"):
        raise ConfigError(f"unknown survey {survey}: ztf or lsst")
    if near is not None and not (0 <= near[0] < 360 and -90 <= near[1] <= 90):
        raise ConfigError(
            "--near: write right ascension (0 to 360) and declination (-90 to 90) in degrees"
        )
    found = _history(options(context).load(), object_id, survey, near)
    if plot is not None:
        plot.write_bytes(history_plot(found))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _show_history(found, plot)


@app.command("compact", epilog=COMPACT_EPILOG)
def compact(
    context: typer.Context,
    night: Annotated[
        str | None, typer.Option("--night", metavar="YYYY-MM-DD", help="Only this night.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make few files of many, sorted by place; 'match' does it by itself while it runs.

    Appends go on meanwhile. Files that were replaced stay for an hour, for those who read
    them.
    """
    from crossmatch.errors import ConfigError

    archive = _archive(options(context).load())
    nights = [one.night for one in archive.summary()]
    if night is not None and night not in nights:
        raise ConfigError(
            f"--night {night!r}: the archive has {counted(len(nights), 'night')},"
            f" {nights[0]} to {nights[-1]}, and not this one"
        )
    done = archive.compact(night, now=datetime.now(UTC))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "nights": list(done.nights),
                    "files_before": done.files_before,
                    "files_after": done.files_after,
                    "deleted": done.deleted,
                }
            )
        )
    elif done.nights:
        typer.echo(
            f"{len(done.nights)} of {counted(len(nights), 'night')} sorted:"
            f" {counted(done.files_before, 'file')} became {done.files_after:,}."
        )
    else:
        typer.echo("Nothing to do: every night is sorted already.")


def _archive(config: Config) -> AlertArchive:
    from crossmatch.errors import ServiceError
    from gateway.offline.archived import archive_of

    archive = archive_of(config.paths.state)
    if archive is None and _waits(config):
        raise ServiceError(f"there is no archive of alerts; {WAITS}")
    if archive is None:
        raise ServiceError(
            f"there is no archive of alerts in {config.paths.state / 'alerts'} yet;"
            " 'mmgateway match' makes it, 'mmgateway up' starts that"
        )
    return archive


def _waits(config: Config) -> bool:
    """Whether the matcher runs and has not archived any alert yet."""
    from gateway import services
    from gateway.offline.archived import archive_of

    state = config.paths.state
    return services.endpoint(state, "match") is not None and archive_of(state) is None


def _nothing(config: Config) -> dict[str, Any]:
    """The status of an archive to which nothing came."""
    return {
        "path": str(config.paths.state / "alerts"),
        **dict.fromkeys(("rows", "files", "bytes"), 0),
        **dict.fromkeys(("last_batch", "oldest", "newest")),
        "nights": [],
        "packets": {"kept": config.archive.packets, "files": 0, "bytes": 0},
    }


def _status(archive: AlertArchive, config: Config) -> dict[str, Any]:
    from gateway.offline.history import folder_bytes

    nights = archive.summary()
    files, size = folder_bytes(config.paths.state / "packets")
    return {
        "path": str(archive.path),
        "rows": sum(n.rows for n in nights),
        "files": sum(n.files for n in nights),
        "bytes": sum(n.bytes for n in nights),
        "last_batch": archive.last_batch(),
        "oldest": nights[0].night,
        "newest": nights[-1].night,
        "nights": [
            {"night": n.night, "rows": n.rows, "files": n.files, "bytes": n.bytes} for n in nights
        ],
        "packets": {"kept": config.archive.packets, "files": files, "bytes": size},
    }


def _show_status(record: dict[str, Any]) -> None:
    from rich.table import Table

    from gateway.cli.screen import screen, show_facts, show_table

    console = screen()
    table = Table(box=None, pad_edge=False)
    table.add_column("night", no_wrap=True)
    for title in ("alerts", "files", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for night in record["nights"]:
        size = _size(night["bytes"])
        table.add_row(night["night"], f"{night['rows']:,}", f"{night['files']:,}", size)
    show_table(console, table)
    nights, packets = record["nights"], record["packets"]
    kept = f"{packets['kept']}: {_size(packets['bytes'])} in {counted(packets['files'], 'file')}"
    facts = [
        ("archive", record["path"]),
        ("nights", f"{len(nights):,}, {record['oldest']} to {record['newest']}"),
        ("alerts", f"{record['rows']:,}"),
        ("size", f"{_size(record['bytes'])} in {counted(record['files'], 'file')}"),
        ("packets", kept),
    ]
    show_facts(console, facts)


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"


def _history(
    config: Config, object_id: str, survey: str | None, near: tuple[float, float] | None
) -> ObjectHistory:
    from broker.packets import read_lsst_schemas
    from broker.packetstore import PacketStore
    from gateway.offline.history import object_history

    archive = _archive(config)
    if survey is None:
        survey = "ztf" if object_id.startswith("ZTF") else "lsst"
    where = config.match.lsst_schemas
    local = where and not where.startswith(("http://", "https://"))
    schemas = read_lsst_schemas(Path(where)) if survey == "lsst" and local else {}
    packets = PacketStore(config.paths.state / "packets")
    return object_history(archive, survey, object_id, near, packets, schemas)


def _show_history(found: ObjectHistory, plot: Path | None) -> None:
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    console = screen()
    table = Table(box=None, pad_edge=False)
    for title in ("time (UTC)", "filter"):
        table.add_column(title, no_wrap=True)
    for title in ("mag", "error", "limit", "real", "arcsec"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("alert", "note"):
        table.add_column(title, no_wrap=True)
    for alert in found.alerts:
        table.add_row(*_row(alert, found.position))
    show_table(console, table)
    ra, dec = found.position
    count = len(found.alerts)
    text = (
        f"{found.survey} {found.object_id} at {ra:.5f} {dec:+.5f}: {counted(count, 'alert')}"
        f" in {counted(found.nights, 'night')}"
    )
    if len(found.curve) > count:
        text += f", {len(found.curve):,} points of its light curve with those of kept packets"
    console.print(text, markup=False, highlight=False)
    if found.broken:
        console.print(f"{counted(found.broken, 'kept packet')} could not be read.", style="yellow")
    if plot is not None:
        console.print(f"Light curve: {plot}", markup=False, highlight=False)


def _row(alert: dict[str, Any], position: tuple[float, float]) -> list[str]:
    from crossmatch.sky import separation_deg

    away = separation_deg(*position, alert["ra_deg"], alert["dec_deg"])
    notes = []
    if alert["withdrawn"]:
        notes.append("withdrawn")
    if alert["positive"] is False:
        notes.append("fainter than reference")
    return [
        alert["time_utc"][:19].replace("T", " "),
        alert["filter"] or "",
        _number(alert["mag"], 2),
        _number(alert["mag_error"], 2),
        _number(alert["limiting_mag"], 2),
        _number(alert["real_bogus"], 2),
        f"{float(away) * 3600:.1f}",
        str(alert["alert_id"]),
        ", ".join(notes),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
