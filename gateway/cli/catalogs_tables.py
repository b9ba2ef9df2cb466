"""What ``mmgateway catalogs`` says: facts of catalogues for programs, tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from crossmatch.times import datetime_from_jd, iso_utc


def facts_told(facts: Mapping[str, Any], *, used: bool) -> dict[str, Any]:
    """Facts for people and programs: without the digests of single files."""
    told = {k: v for k, v in facts.items() if k not in ("files", "hats_files", "order")}
    return {**told, "covers": covers(facts), "in_use": used}


def covers(facts: Mapping[str, Any]) -> list[str] | None:
    """First and last time of a table of positions by time; None of other catalogues."""
    segments = facts.get("segments")
    return segments and [iso_of(segments[name]) for name in ("first_jd", "last_jd")]


def iso_of(jd: float) -> str:
    """ISO 8601 of a Julian date, UTC."""
    return iso_utc(datetime_from_jd(jd))


def say_added(facts: Mapping[str, Any], remarks: Sequence[str], *, known: bool) -> None:
    """What adding a file came to."""
    said = "was there already and is in use" if known else "added and in use"
    count, segments = f"{facts['rows']:,} {facts['kind']}", facts.get("segments")
    if segments:
        count = f"{segments['objects']:,} {facts['kind']} in {facts['rows']:,} segments"
    typer.echo(f"{facts['name']}@{facts['version']}: {count}, {said}")
    if facts["skipped"]:
        typer.echo(f"  {facts['skipped']:,} rows without a position left out")
    if facts["motion"]:
        typer.echo(f"  proper motion from {', '.join(map(str, facts['motion']))}")
    if segments:
        typer.echo(f"  {_times(facts)}")
    for remark in remarks:
        typer.echo(f"  {remark}")


def _times(facts: Mapping[str, Any]) -> str:
    segments, (first, last) = facts["segments"], covers(facts) or ("", "")
    return (
        f"from {first} to {last}, by column {segments['time_column']} ({segments['scale']}),"
        f" straight between times up to {segments['max_gap_hours']:g} hours apart"
    )


def show_list(catalogs: Sequence[Mapping[str, Any]], folder: Path, now: str) -> None:
    """Catalogues, one version a line; ``now`` as `iso_utc` gives it."""
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
    by_time = any(facts["covers"] for facts in catalogs)
    if by_time:
        table.add_column("covers", no_wrap=True)
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
            *([_days(facts["covers"], now)] if by_time else []),
            facts["added"][:16].replace("T", " "),
            facts["source"],
        )
    show_table(screen(), table)


def _days(times: Sequence[str] | None, now: str) -> str:
    if times is None:
        return ""
    return f"{times[0][:10]} – {times[1][:10]}{', over' if times[1] < now else ''}"


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
            ("segments" if told["covers"] else "sources", f"{told['rows']:,}"),
            ("objects", f"{told['segments']['objects']:,}" if told["covers"] else ""),
            ("left out", f"{told['skipped']:,} rows without a position" if told["skipped"] else ""),
            ("radius", f"{told['radius_arcsec']:g}″"),
            ("position", ", ".join(told["position_columns"])),
            ("proper motion", "" if told["covers"] else motion),
            ("times", _times(told) if told["covers"] else ""),
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
            nothing = f"nothing within {answer['radius_arcsec']:g}″"
            if answer["covers"]:
                nothing += f" at {answer['time']}; it covers {' – '.join(answer['covers'])}"
            table.add_row(answer["catalog"], "", nothing)
    show_table(screen(), table)
