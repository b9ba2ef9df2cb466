"""``mmgateway crossmatch``: notices and alerts in files, without Kafka."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from gateway.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config import Config
    from gateway.offline.batch import BatchInput, BatchResult, Progress

EPILOG = (
    "Examples:\n\nmmgateway crossmatch --notices notices/ --alerts alerts/ --out pairs.csv\n\n"
    "mmgateway crossmatch --notices S240112e.json --alerts night.parquet --level 0.9"
    " --window 0..7d --no-quality --json\n\n"
    "mmgateway crossmatch --notices gbm_bursts.vot --alerts archive/ --window -600s..20d"
    " --out pairs.parquet\n\n"
    "mmgateway crossmatch --notices notices/ --alerts fink.parquet --selection cuts0"
)
_MAX_ROWS = 40
_MANY = ("--notices", "-n", "--alerts", "-a")


class ManyPaths(TyperCommand):
    """A command whose path options take several values: ``--notices A B --alerts C``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further path, which is what click understands."""
        return super().parse_args(ctx, list(repeated(args)))


def repeated(args: list[str]) -> Iterator[str]:
    """Arguments with each path option repeated before each of its further values."""
    current = ""
    fresh = False
    for arg in args:
        if arg.startswith("-") and arg != "-":
            name, _, value = arg.partition("=")
            current = name if name in _MANY else ""
            fresh = not value
        elif current and not fresh:
            yield current
        else:
            fresh = False
        yield arg


def crossmatch(
    context: typer.Context,
    notices: Annotated[
        list[Path],
        typer.Option(
            "--notices",
            "-n",
            metavar="PATH...",
            help="VOEvents, JSON notices, tables of events; files, folders, tarballs.",
        ),
    ],
    alerts: Annotated[
        list[Path],
        typer.Option(
            "--alerts",
            "-a",
            metavar="PATH...",
            help="ZTF and LSST alerts: Avro, Parquet; files, folders, tarballs.",
        ),
    ],
    level: Annotated[
        float | None,
        typer.Option(metavar="P", help="Credible level, in place of each chain's own."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="A..B", help="Time after the trigger (s, m, h, d), as 0..7d."),
    ] = None,
    no_quality: Annotated[bool, typer.Option("--no-quality", help="Make no quality cuts.")] = False,
    selection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Keep only pairs that pass a selection, or one cut."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pairs as .csv, .parquet or .jsonl."),
    ] = None,
    include_tests: Annotated[
        bool, typer.Option("--include-tests", help="Match test and mock events too.")
    ] = False,
    skymaps: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Sky maps of notices that give only an address, as EVENT/FILE, EVENT_FILE or"
            " EVENT.fits.",
        ),
    ] = None,
    lsst_schemas: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="LSST schemas, for alerts in Confluent wire format."),
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML: which columns of a table of events hold what."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Match notices with alerts from files: one row per event, version and alert.

    The same feeds, regions, cuts and matching as the live path, without Kafka. Every
    version of an event is matched; retracted ones and tests are left out.
    """
    from crossmatch.selections import named
    from gateway.offline import batch

    config = options(context).load()
    selections = {"default": config.cuts.made, **config.selections}
    if out is not None:
        batch.check_output(out)
    given = batch.BatchInput(
        notices=notices, alerts=alerts, level=level, skymaps=skymaps,
        window=None if window is None else batch.parse_window(window),
        quality=not no_quality, include_tests=include_tests,
        table_columns=None if columns is None else _read_columns(columns),
        selection=None if selection is None else named(selection, selections, "--selection"),
    )  # fmt: skip
    result = _matched(given, config, lsst_schemas)
    if out is not None:
        batch.write_pairs(result.pairs, out)
    _tell(result, out, as_json)
    _require_alerts(result)


def _matched(given: BatchInput, config: Config, lsst_schemas: Path | None) -> BatchResult:
    """All pairs, by the configuration's feeds, chains and cuts; bars show how far it is."""
    from broker.packets import read_lsst_schemas
    from gateway.cli.feeds_manage import store_of
    from gateway.offline import batch

    folder = lsst_schemas or _schema_folder(config.match.lsst_schemas)
    schemas = {} if folder is None else read_lsst_schemas(folder)
    with _progress() as progress:
        feeds = store_of(config).load(record=False).sound()
        return batch.crossmatch(given, feeds, config.chains, config.cuts, schemas, progress)


def _tell(result: BatchResult, out: Path | None, as_json: bool) -> None:
    """Print the account of what was read and matched, as JSON or as tables."""
    if as_json:
        account = {**result.as_dict(), "out": None if out is None else str(out)}
        typer.echo(json.dumps(account))
    else:
        _show(result, out)


def _require_alerts(result: BatchResult) -> None:
    """Raise AlertError when there were alert files but none could be read."""
    from crossmatch.errors import AlertError

    if result.alerts_read == 0 and result.bad_alert_files:
        bad = result.bad_alert_files[0]
        raise AlertError(
            "no_alerts",
            f"none of the {len(result.bad_alert_files)} alert files could be read;"
            f" {bad.path}: {bad.reason}",
        )


def _schema_folder(configured: str) -> Path | None:
    # A registry's address serves the live path; files carry on without.
    return Path(configured) if configured and "://" not in configured else None


def _read_columns(path: Path) -> dict[str, Any]:
    from crossmatch.errors import ConfigError

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--columns {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--columns {path}: not valid TOML: {error}") from error


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Bars on standard error while it is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich_progress

    from gateway.cli.screen import screen

    with rich_progress.Progress(console=screen(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._notices = bars.add_task("notices", total=None)
        self._alerts = bars.add_task("alerts", total=None, start=False)

    def notice_file(self, name: str) -> None:
        """One more file of notices was read."""
        self._bars.advance(self._notices)

    def alerts_total(self, size: int) -> None:
        """Bytes of alerts to come."""
        self._bars.stop_task(self._notices)
        self._bars.update(self._alerts, total=size)
        self._bars.start_task(self._alerts)

    def alert_bytes(self, size: int) -> None:
        """Bytes of alerts that were read."""
        self._bars.advance(self._alerts, size)


def _show(result: BatchResult, out: Path | None) -> None:
    from gateway.cli.screen import screen

    console = screen()
    _show_account(result, console)
    _show_events(result, console)
    for bad in result.bad_alert_files[:10]:
        console.print(f"{bad.path}: {bad.reason}: {bad.detail}", style="yellow", markup=False)
    for notice in [*result.bad_localizations, *result.notices.rejected][:10]:
        line = f"{notice.file}: {notice.reason}: {notice.detail}"
        console.print(line, style="yellow", markup=False)
    if out is not None:
        console.print(f"{result.pairs.num_rows} pairs in {out}", markup=False)


def _show_account(result: BatchResult, console: Console) -> None:
    from rich.table import Table

    table = Table(title="Read", title_justify="left")
    table.add_column("what")
    table.add_column("number", justify="right")
    add: Callable[[str, int], None] = lambda what, n: table.add_row(what, f"{n:,}")  # noqa: E731
    add("notices read", result.notices.read)
    for reason, number in sorted(result.notices.ignored.items()):
        add(f"  ignored: {reason}", number)
    for reason, number in sorted(result.rejected_notices().items()):
        add(f"  rejected: {reason}", number)
    for reason, number in sorted(result.without_region.items()):
        add(f"  no region: {reason}", number)
    add("regions", len(result.regions))
    add("alerts read", result.alerts_read)
    for reason, number in sorted(result.alerts_rejected.items()):
        add(f"  rejected: {reason}", number)
    for name, number in result.alerts_cut.items():
        add(f"  cut: {name}", number)
    for what, number in (
        ("  repeated", result.alerts_repeated),
        ("alert files not read", len(result.bad_alert_files)),
    ):
        if number:
            add(what, number)
    add("alerts matched", result.alerts_matched)
    for name, number in result.pairs_cut.items():
        add(f"  pairs cut: {name}", number)
    add("pairs", result.pairs.num_rows)
    console.print(table)


def _show_events(result: BatchResult, console: Console) -> None:
    from rich.table import Table

    from gateway.cli.screen import show_table

    counts = result.pairs_by_version()
    rows = [m for m in result.regions if counts[m.region.event_id, m.region.version]]
    if not rows:
        return
    table = Table(title="Pairs", title_justify="left")
    for name in ("event", "version", "kind", "90 % deg2", "in force", "pairs"):
        text = name in ("event", "kind")
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    for matched in rows[:_MAX_ROWS]:
        region = matched.region
        table.add_row(
            region.event_id,
            str(region.version),
            f"{region.mission} {region.kind}",
            f"{region.area90_deg2:,.1f}",
            "yes" if matched.numbered.in_force else "no",
            f"{counts[region.event_id, region.version]:,}",
        )
    show_table(console, table)
    if len(rows) > _MAX_ROWS:
        console.print(f"and {len(rows) - _MAX_ROWS} more events and versions")
