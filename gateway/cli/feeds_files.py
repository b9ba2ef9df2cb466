"""``mmgateway feeds try`` and ``check``: what the feeds make of messages in files."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import FAILED, options
from gateway.cli.feeds_manage import feed_store

if TYPE_CHECKING:
    from rich.console import Console

    from broker.archive import AlertArchive
    from gateway.config import Config
    from gateway.feeds.registry import Registry
    from gateway.offline.check import Account
    from gateway.understand import Understood

TRY_EPILOG = (
    "Examples:\n\nmmgateway feeds try notice.xml --plot region.png\n\n"
    "mmgateway feeds try new.json --feed ourteam --json\n\n"
    "mmgateway feeds try S240112e.json --since 2024-01-12\n\n"
    "curl -s https://example.org/notice.xml | mmgateway feeds try -\n\n"
    "Exit status: 0 understood, 1 a message was rejected, 2 bad usage."
)
CHECK_EPILOG = (
    "Examples:\n\nmmgateway feeds check notices/\n\n"
    "mmgateway feeds check month.tar.bz2 --out rows.csv --jobs 2\n\n"
    "mmgateway feeds check notices/ --json | jq .reasons\n\n"
    "Exit status: 0 also when messages are rejected (they are counted), 2 bad usage."
)
_OUTCOMES = ("region", "no_position", "retraction", "ignored", "rejected")
_MAX_REASONS = 15
_MAX_MATCHES = 20

FeedOption = Annotated[
    str, typer.Option("--feed", metavar="NAME", help="Use this feed; else it is recognised.")
]


def check(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, folders or tarballs.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One row a notice, as .csv, .jsonl or .parquet."),
    ] = None,
    feed: FeedOption = "",
    skymaps: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Sky maps of notices that give only an address, as EVENT/FILE, EVENT_FILE or"
            " EVENT.fits.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes to use.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Classify every message in files, folders and tarballs, and count by feed.

    Every file that is not hidden is read, whatever its name ends with.
    """
    from crossmatch.errors import ConfigError
    from gateway.offline import check as core

    config = options(context).load()
    if out is not None:
        core.check_output(out)
    if skymaps is not None and not skymaps.is_dir():
        raise ConfigError(f"{skymaps}: no such folder with sky maps")
    registry = _registry(context, feed)
    files = core.files_in(paths)
    reader = core.Reader(registry, config.chains, feed, skymaps)
    begin = time.monotonic()
    with ExitStack() as stack:
        advance = stack.enter_context(_bar(len(files), as_json))
        write = stack.enter_context(core.RowFile(out)).write if out is not None else _nothing
        account = core.check(files, reader, jobs=jobs, write=write, advance=advance)
    seconds = time.monotonic() - begin
    if as_json:
        typer.echo(json.dumps(account.as_dict(seconds)))
    else:
        _show_account(account, seconds, out)


def try_files(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Messages; - is standard input.")
    ],
    feed: FeedOption = "",
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the region: all-sky and zoom. Of several files the pictures are"
            " numbered, of those that have a region: FILE-1.png, FILE-2.png.",
        ),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="Also list archived alerts since then that would have matched:"
            " 2024-01-12 (UTC) or 7d.",
        ),
    ] = "",
    skymap: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The sky map that the notice names by its address."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list with one object a file.")
    ] = False,
) -> None:
    """Show what is understood of a message, or why nothing is; nothing is sent or kept."""
    from gateway.offline import archived, trial

    config = options(context).load()
    _check_try(files, plot, skymap)
    registry = _registry(context, feed)
    after = archived.parse_since(since, datetime.now(UTC)) if since else None
    archive = archived.archive_of(config.paths.state) if after else None
    results: list[dict[str, Any]] = []
    drawn = 0
    for name in files:
        raw, refused = _read(name)
        found = refused or _understood(registry, config, raw, feed, skymap)
        about = trial.details(registry, raw, trial.row_of(name, found), found, told=feed)
        about |= _claimed(registry, raw, feed)
        if skymap is not None and about.get("localized_by") != "map_folder":
            about["skymap_note"] = "the notice names no sky map by its address: --skymap not used"
        if plot is not None:
            where = plot if len(files) == 1 else plot.with_stem(f"{plot.stem}-{drawn + 1}")
            about |= _drawn(found, where)
            drawn += bool(about["plot"])
        if after is not None:
            about |= _searched(archive, found, config, after)
        results.append(about)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        _show_results(results)
    if any(one["outcome"] == "rejected" for one in results):
        raise typer.Exit(FAILED)


def _nothing(row: object) -> None:
    """No file to write to."""


def _registry(context: typer.Context, feed: str) -> Registry:
    """The feeds as the listener has them; ConfigError when the one asked for is not usable."""
    from crossmatch.errors import ConfigError

    store = feed_store(context)
    loaded = store.load(record=False)
    for problem in loaded.problems:
        if feed and feed in (problem.feed, problem.path.stem):
            raise ConfigError(problem.sentence)
        print(f"mmgateway: {problem.sentence}", file=sys.stderr)
    if feed:
        store.require(feed)
    return loaded.registry


@contextmanager
def _bar(total: int, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of files on standard error for people, else nothing."""
    if as_json or not sys.stderr.isatty():
        yield lambda files, notices: None
        return
    from rich import progress

    from gateway.cli.screen import screen

    with progress.Progress(
        progress.TextColumn("files"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[notices]:,} notices"),
        progress.TimeElapsedColumn(),
        console=screen(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task("files", total=total, notices=0)
        seen = 0

        def advance(files: int, notices: int) -> None:
            nonlocal seen
            seen += notices
            bars.update(task, advance=files, notices=seen)

        yield advance


def _show_account(account: Account, seconds: float, out: Path | None) -> None:
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    console = screen()
    outcomes = [o for o in _OUTCOMES if account.outcomes[o]]
    table = Table(box=None, pad_edge=False)
    table.add_column("feed", no_wrap=True)
    for name in (*outcomes, "all"):
        table.add_column(name, justify="right", no_wrap=True)
    for feed, counts in sorted(account.feeds.items()):
        cells = [f"{counts[o]:,}" if counts[o] else "" for o in outcomes]
        table.add_row(feed or "(none)", *cells, f"{counts.total():,}")
    table.add_section()
    table.add_row("all", *(f"{account.outcomes[o]:,}" for o in outcomes), f"{account.notices:,}")
    show_table(console, table)
    if account.reasons:
        console.print()
        for reason, number in account.reasons.most_common(_MAX_REASONS):
            console.print(f"{number:>8,}  {reason}", markup=False, highlight=False)
        if len(account.reasons) > _MAX_REASONS:
            console.print(f"          and {len(account.reasons) - _MAX_REASONS} more reasons")
    console.print(
        f"\n{account.notices:,} notices of {account.events:,} events,"
        f" {account.duplicates:,} repeats, in {seconds:.1f} s",
        highlight=False,
    )
    if out is not None:
        console.print(f"rows in {out}", markup=False, highlight=False)


def _check_try(files: list[str], plot: Path | None, skymap: Path | None) -> None:
    from crossmatch.errors import ConfigError

    for name in files:
        if name != "-" and Path(name).is_dir():
            raise ConfigError(f"{name} is a folder; 'mmgateway feeds check' reads folders")
        # Pipes and devices are as good as files: curl ... | try /dev/stdin, try <(curl ...).
        if name != "-" and not Path(name).exists():
            raise ConfigError(f"{name}: no such file")
    if files.count("-") > 1:
        raise ConfigError("- (standard input) can be given once")
    if skymap is not None and len(files) > 1:
        raise ConfigError("--skymap goes with one FILE: a map belongs to one notice")
    if skymap is not None and not skymap.is_file():
        raise ConfigError(f"--skymap {skymap}: no such file")
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: name a file ending in .png")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise ConfigError(f"--plot {plot}: there is no folder {plot.absolute().parent}")


def _understood(
    registry: Registry, config: Config, raw: bytes, feed: str, skymap: Path | None
) -> Understood:
    from crossmatch.errors import NoticeError
    from gateway.understand import SkymapFile, Understood, understand

    given = None if skymap is None else SkymapFile(skymap.read_bytes(), "folder")
    try:
        return understand(
            registry,
            config.chains,
            raw,
            feed=feed,
            find_map=lambda notice: given,
            heed_pause=False,
        )
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return Understood("rejected", feed, rejected=NoticeError("parser_failed", detail))


def _read(name: str) -> tuple[bytes, Understood | None]:
    """Bytes of a message, or why the listener would not take them; of pipes, no more than that."""
    from crossmatch.errors import ConfigError
    from gateway.listener.sources import MAX_NOTICE_BYTES
    from gateway.offline.check import too_large
    from gateway.understand import Understood

    most = MAX_NOTICE_BYTES + 1
    try:
        if name == "-":
            raw, size = sys.stdin.buffer.read(most), 0
        else:
            with open(name, "rb") as file:
                raw, size = file.read(most), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) < most:
        return raw, None
    return raw, Understood("rejected", rejected=too_large(max(size, len(raw))))


def _claimed(registry: Registry, raw: bytes, told: str) -> dict[str, Any]:
    """Which feeds know the message too, and which of them has it."""
    from gateway.offline.claims import claim_on

    claim = claim_on(registry, raw, told)
    return {"also_known_by": list(claim.others), "claim": claim.sentence}


def _drawn(found: Understood, path: Path) -> dict[str, str]:
    """The picture's path, or why there is none."""
    from crossmatch.errors import ServiceError

    if found.region is None:
        return {"plot": "", "plot_note": "none: there is no region to draw"}
    from gateway.offline.plot import region_plot

    picture = region_plot(found.region)
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise ServiceError(f"--plot {path}: cannot be written: {error.strerror}") from error
    return {"plot": str(path)}


def _searched(
    archive: AlertArchive | None, found: Understood, config: Config, since: datetime
) -> dict[str, Any]:
    from dataclasses import asdict

    from gateway.offline.archived import archived_matches

    if archive is None:
        where = config.paths.state / "alerts"
        why = f"there is no archive of alerts in {where} yet; 'mmgateway match' makes it"
        return {"archived_alerts": None, "archive_note": why}
    if found.region is None:
        why = "without a region there is nothing to search for"
        return {"archived_alerts": None, "archive_note": why}
    note = ""
    if found.region.role != "observation" and not config.match.include_tests:
        note = f"the live broker leaves it out: its role is {found.region.role}"
    searched = archived_matches(archive, found.region, config.cuts, since)
    counts = asdict(searched)
    matches = counts.pop("matches")
    return {"archived_alerts": matches, "archive_counts": counts, "archive_note": note}


def _show_results(results: list[dict[str, Any]]) -> None:
    from gateway.cli.screen import screen
    from gateway.cli.trial_text import show_trial

    console = screen()
    for number, about in enumerate(results):
        if number:
            console.print()
        show_trial(console, about)
        if "archived_alerts" in about:
            _show_matches(console, about)


def _show_matches(console: Console, about: dict[str, Any]) -> None:
    from rich.table import Table

    from gateway.cli.screen import show_table

    matches, note = about["archived_alerts"], about["archive_note"]
    if note:
        console.print(f"{note[0].upper()}{note[1:]}.", style="yellow", markup=False)
    if matches is None:
        return
    counts = about["archive_counts"]
    console.print(
        f"Archived alerts since then: {counts['looked_at']:,}; in the window:"
        f" {counts['in_window']:,}; of these in the region: {counts['in_region']:,}; of these cut:"
        f" {counts['cut']:,}.",
        highlight=False,
    )
    alerts = "alert" if len(matches) == 1 else "alerts"
    console.print(f"{len(matches):,} archived {alerts} would have matched.", highlight=False)
    if not matches:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("object", "exposed (UTC)", "offset d", "sep deg", "level", "mag", "band"):
        numeric = name in ("offset d", "sep deg", "level", "mag")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for one in matches[:_MAX_MATCHES]:
        table.add_row(
            one["object_id"],
            one["time_utc"],
            f"{one['time_offset_days']:+.3f}",
            f"{one['separation_deg']:.4g}",
            f"{one['credible_level']:.3f}",
            "" if one["mag"] is None else f"{one['mag']:.2f}",
            one["filter"] or "",
        )
    show_table(console, table)
    if len(matches) > _MAX_MATCHES:
        console.print(f"and {len(matches) - _MAX_MATCHES:,} more; --json lists all")
