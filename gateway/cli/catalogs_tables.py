"""Tables of ``mmgateway catalogs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer


def show_list(catalogs: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Catalogues, one version a line."""
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    if not catalogs:
        typer.echo(f"none yet in {folder}: mmgateway catalogs add PATH --name NAME")
        return
    table = Table(box=None, header_style="bold")
    for name in ("name", "version", "in use", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("sources", "radius"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("added", no_wrap=True)
    table.add_column("from", overflow="fold")
    for facts in catalogs:
        table.add_row(
            facts["name"],
            facts["version"],
            "yes" if facts["in_use"] else "",
            facts["kind"],
            f"{facts['rows']:,}",
            f"{facts['radius_arcsec']:g}″",
            facts["added"][:16].replace("T", " "),
            facts["source"],
        )
    show_table(screen(), table)


def show_facts_of(told: Mapping[str, Any]) -> None:
    """One catalogue."""
    from gateway.cli.screen import screen, show_facts

    motion = "none"
    if told["motion"]:
        motion = (
            f"{', '.join(map(str, told['motion']))}; the fastest moves"
            f" {told['fastest_mas_yr'] / 1000:.4g}″ a year, and the search is that much wider for"
            " each year between catalogue and alert"
        )
    roles = ", ".join(f"{role}: {column}" for role, column in told["roles"].items())
    units = told["units"]
    columns = [f"{n} ({units[n]})" if n in units else n for n in told["columns"]]
    show_facts(
        screen(),
        [
            ("name", told["name"]),
            ("version", f"{told['version']}{' (in use)' if told['in_use'] else ''}"),
            ("versions", ", ".join(told["versions"])),
            ("kind", told["kind"]),
            ("sources", f"{told['rows']:,}"),
            ("left out", f"{told['skipped']:,} rows without a position" if told["skipped"] else ""),
            ("radius", f"{told['radius_arcsec']:g}″"),
            ("position", ", ".join(told["position_columns"])),
            ("proper motion", motion),
            ("meaning", roles or "no column has a name that we know"),
            ("remarks", "; ".join(told["remarks"])),
            ("columns", ", ".join(columns)),
            ("added", told["added"]),
            ("from", f"{told['source']} ({told['source_kind']})"),
            ("folder", told["folder"]),
            ("HATS", f"{told['partitions']} partitions, {told['margin_rows']:,} rows of margin"),
        ],
    )


def show_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """What each catalogue has near a position."""
    from rich.table import Table

    from gateway.cli.screen import screen, show_table

    if not answers:
        typer.echo("no catalogues yet: mmgateway catalogs add PATH --name NAME")
        return
    table = Table(box=None, header_style="bold")
    table.add_column("catalogue", no_wrap=True)
    table.add_column("separation", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for answer in answers:
        for near in answer["found"]:
            what = near.text().split(", ", 2)[2:]
            star = ["star"] if near.is_star else []
            table.add_row(
                answer["catalog"],
                f"{near.separation_arcsec:.2f}″",
                ", ".join([answer["kind"], *star, *what]),
            )
        if not answer["found"]:
            table.add_row(answer["catalog"], "", f"nothing within {answer['radius_arcsec']:g}″")
    show_table(screen(), table)
