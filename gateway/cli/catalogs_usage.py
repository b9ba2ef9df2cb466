"""What commands on catalogues share: values that are checked, errors, bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import typer

from catalogs.kinds import MAX_RADIUS_ARCSEC, is_radius
from crossmatch.times import jd_from_datetime


def radius_arcsec(arcsec: float | None) -> float | None:
    """Radius of a look-up, if one is given."""
    if arcsec is not None and not is_radius(arcsec):
        raise typer.BadParameter(f"{arcsec:g}: above 0, at most {MAX_RADIUS_ARCSEC:g}")
    return arcsec


def julian_date(text: str) -> float:
    """Julian date (UTC) of a text that is one, or ISO 8601."""
    from catalogs.timecolumns import is_julian_date

    with suppress(ValueError):
        if is_julian_date(float(text)):
            return float(text)
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 time and no Julian date", param_hint="--time"
        ) from error
    return jd_from_datetime(time if time.tzinfo else time.replace(tzinfo=UTC))


@contextmanager
def usable() -> Iterator[None]:
    """What is wrong with a catalogue is bad usage: exit status 2."""
    from crossmatch.errors import CatalogError, ConfigError

    try:
        yield
    except CatalogError as error:
        raise ConfigError(f"{error.detail} ({error.reason})") from error


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Bars on standard error, one for each thing that is done, while it is a terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from gateway.cli.screen import screen

    columns = (TextColumn("{task.description:8}"), BarColumn(), TaskProgressColumn())
    console = screen(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=done)

        yield advance
