"""Consoles and tables of all commands: on a terminal as wide as it is, piped as wide as needed."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED_WIDTH = 4000
"""Wider than anything that is printed: what goes to a file or program is never folded."""
_NARROWEST = 12


def screen(*, stderr: bool = False) -> Console:
    """Console for people, and for programs that read what people read.

    On a terminal lines fold at its width. Piped, each line stays whole whatever ``COLUMNS``
    says: ``grep`` and ``awk`` must find addresses, times and paths in one piece.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(stderr=stderr, width=width, soft_wrap=False)


def show_table(console: Console, table: Table) -> None:
    """Print a table whose ``no_wrap`` columns stay whole; the others fold to make room.

    Where the whole columns alone are wider than the terminal, the table is too: what the
    terminal breaks can still be copied in one piece.
    """
    from rich.measure import Measurement

    needed = 0
    options = console.options.update(max_width=PIPED_WIDTH)
    for column in table.columns:
        cells = [column.header, *column.cells]
        wide = max(Measurement.get(console, options, c).maximum for c in cells)
        wide = min(wide, column.max_width or wide)
        needed += (wide if column.no_wrap else min(wide, _NARROWEST)) + sum(table.padding[1::2])
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def show_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    """Print labels and texts, one below the other; empty texts are left out.

    Texts fold between words alone: addresses and paths stay whole.
    """
    from rich.text import Text

    shown = [(label, text) for label, text in facts if text]
    wide = max((len(label) for label, _ in shown), default=0)
    room = max(console.width - wide - 2, _NARROWEST)
    for label, text in shown:
        head = label
        for part in text.splitlines():
            for line in textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False):
                row = Text.assemble((f"{head:{wide}}  ", "dim"), line)
                console.print(row, soft_wrap=True)
                head = ""
