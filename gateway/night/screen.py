"""What the night shows: lines as things happen, a bar with the clock, a table at the end.

On a terminal the bar stays below the lines; elsewhere only plain lines are written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

_COLOURS = {"gold": "bold yellow", "silver": "bold white", "bronze": "dark_orange3"}
_PLAIN_EVERY_SECONDS = 5.0


class Screen:
    """Lines, progress and tables on one console; safe to use from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.Lock()

    def say(self, markup: str) -> None:
        """One line, above any bar."""
        with self._lock:
            self.console.print(markup, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Bar]:
        """A bar that counts to ``total``, with a text beside it."""
        if not self.console.is_terminal:
            bar = _PlainBar(self, title, total)
            yield bar
            bar.finish()
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield _RichBar(progress, progress.add_task(title, total=total, note=""))

    def candidates(self, rows: list[dict[str, Any]], most: int) -> None:
        """Table of the best candidates in force."""
        table = Table(title="Candidates in force, best first", title_justify="left", box=None)
        shown = [c for c in _COLUMNS if self.console.width >= c.from_width]
        for column in shown:
            table.add_column(
                column.title, justify="right" if column.is_number else "left", no_wrap=True
            )
        in_force = [r for r in rows if r["state"] == "in_force"]
        for row in in_force[:most]:
            table.add_row(*(column.cell(row) for column in shown))
        with self._lock:
            self.console.print(table)
            if len(in_force) > most:
                self.console.print(f"  … and {len(in_force) - most} more", style="dim")


class Bar:
    """How far a task is."""

    def update(self, done: int, note: str = "") -> None:
        """``done`` of the total, and what to say beside it (markup)."""


class _RichBar(Bar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=note)


class _PlainBar(Bar):
    def __init__(self, screen: Screen, title: str, total: int) -> None:
        self._screen = screen
        self._title = title
        self._total = total
        self._begin = self._said = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        if time.monotonic() - self._said < _PLAIN_EVERY_SECONDS:
            return
        self._said = time.monotonic()
        share = 100 * done // max(self._total, 1)
        self._screen.say(f"{self._title}: {share} % {note}".rstrip())

    def finish(self) -> None:
        """Say how long it took."""
        self._screen.say(f"{self._title}: done in {time.monotonic() - self._begin:.1f} s")


def tier_markup(tier: str) -> str:
    """The tier in its colour."""
    return f"[{_COLOURS[tier]}]{tier}[/]"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table, shown on consoles at least ``from_width`` wide."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    is_number: bool = False
    from_width: int = 0


def _mag(row: Mapping[str, Any]) -> str:
    return "" if row["mag"] is None else f"{row['filter']}={row['mag']:.2f}"


def _fade(row: Mapping[str, Any]) -> str:
    return "" if row["fade_rate"] is None else f"{row['fade_rate']:+.2f}/d"


_COLUMNS = (
    _Column("rank", lambda r: str(r["rank"]), is_number=True),
    _Column("event", lambda r: escape(r["event_id"])),
    _Column("object", lambda r: escape(r["object_id"])),
    _Column("tier", lambda r: tier_markup(r["tier"])),
    _Column("level", lambda r: f"{r['credible_level']:.3f}", is_number=True),
    _Column("mag", _mag, is_number=True),
    _Column("fade", _fade, is_number=True, from_width=86),
    _Column("host", lambda r: escape(r["host_name"] or ""), from_width=98),
    _Column("score", lambda r: f"{r['score']:.2f}", is_number=True, from_width=98),
)
