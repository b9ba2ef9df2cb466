"""``mmgateway catalogs``: local catalogues added, listed, tried, verified and removed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalogs.kinds import MAX_GAP_HOURS, MOST_GAP_HOURS, Kind, Scale
from crossmatch.times import iso_utc, jd_from_datetime
from gateway.cli import FAILED, backfill, options
from gateway.cli.catalogs_tables import (
    covers,
    facts_told,
    iso_of,
    say_added,
    show_answers,
    show_facts_of,
    show_list,
)
from gateway.cli.catalogs_usage import julian_date, progress, radius_arcsec, usable

if TYPE_CHECKING:
    from catalogs.store import Store

app = typer.Typer(
    name="catalogs",
    help="Local catalogues: survivors of matching are looked up in them.",
    no_args_is_help=True,
)
app.add_typer(backfill.app)
ADD_EPILOG = (
    "Examples:\n\nmmgateway catalogs add gaia.parquet --name gaia --kind stars\n\n"
    "mmgateway catalogs add glade.csv --name glade --kind galaxies --columns name,distmpc,magb\n\n"
    "mmgateway catalogs add hats/gaia_dr3 --name gaia --kind stars"
    " --columns source_id,parallax,parallax_error --radius 2\n\n"
    "mmgateway catalogs add ephemeris.csv --name asteroids --kind minor_planets\n\n"
    "Exit status: 0 added, or that version was there already; 2 bad usage, or a file that"
    " is no catalogue."
)
LIST_EPILOG = (
    "Examples:\n\nmmgateway catalogs list\n\n"
    "mmgateway catalogs list --json | jq '.catalogs[] | [.name, .version, .rows]'"
)
SHOW_EPILOG = (
    "Examples:\n\nmmgateway catalogs show gaia\n\n"
    "mmgateway catalogs show gaia --version 0123456789ab --json"
)
TRY_EPILOG = (
    "Examples:\n\nmmgateway catalogs try 197.4504 -23.3815\n\n"
    "mmgateway catalogs try 269.452 4.693 --time 2026-03-01T00:00:00 --name gaia\n\n"
    "mmgateway catalogs try 197.4504 -23.3815 --radius 30 --json"
)
USE_EPILOG = "Examples:\n\nmmgateway catalogs use gaia 0123456789ab"
REMOVE_EPILOG = (
    "Examples:\n\nmmgateway catalogs remove gaia --version 0123456789ab\n\n"
    "mmgateway catalogs remove gaia --all\n\n"
    "mmgateway catalogs remove asteroids --older-than 7"
)
VERIFY_EPILOG = (
    "Examples:\n\nmmgateway catalogs verify\n\nmmgateway catalogs verify gaia --json\n\n"
    "Exit status: 0 all is as it was added, 1 it is not, 2 bad usage or configuration."
)
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="Default: the one in use.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the list has it.")]


@app.command("add", epilog=ADD_EPILOG)
def add(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="CSV, VOTable, FITS or Parquet file, or HATS folder."),
    ],
    name: Annotated[str, typer.Option("--name", help="What configuration and candidates call it.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What its sources are.")] = Kind.other,
    ra: Annotated[
        str | None, typer.Option("--ra", metavar="COL", help="Column; default: usual names.")
    ] = None,
    dec: Annotated[
        str | None, typer.Option("--dec", metavar="COL", help="Column; default: usual names.")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", metavar="UNIT", help="Of ra and dec: deg, rad or hour (ra only)."),
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Columns to keep; default: all.")
    ] = "",
    radius: Annotated[
        float | None,
        typer.Option(
            "--radius",
            metavar="ARCSEC",
            callback=radius_arcsec,
            help="Of look-ups; default: 60 for galaxies, 5 for minor_planets, 3 for agn,"
            " 2 for transients, else 1.5.",
        ),
    ] = None,
    identifier: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COL",
            help="Column that must have no value twice; of minor_planets: which object it is.",
        ),
    ] = None,
    epoch: Annotated[
        float | None,
        typer.Option(
            "--epoch", metavar="YEAR", min=1800.0, max=2200.0, help="Of positions; for motions."
        ),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave rows without a position out.")
    ] = False,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="COL", help="Of minor_planets; default: usual names."),
    ] = None,
    scale: Annotated[
        Scale | None,
        typer.Option("--scale", help="Of these times; default: utc, or as the column's name says."),
    ] = None,
    max_gap: Annotated[
        float,
        typer.Option(
            "--max-gap",
            metavar="HOURS",
            min=0.0,
            max=MOST_GAP_HOURS,
            help="Between times of a minor planet that are farther apart nothing is known.",
        ),
    ] = MAX_GAP_HOURS,
    as_json: JsonOption = False,
) -> None:
    """Add a catalogue, or a new version of one, and put it in use.

    The file is checked first; nothing is added if anything is wrong with it. A running
    matcher takes the new version with its next batch.
    """
    from catalogs.ingest import Wanted

    if unit not in (None, "deg", "rad", "hour"):
        raise typer.BadParameter(f"{unit} is none of deg, rad, hour", param_hint="--unit")
    if kind is not Kind.minor_planets and (time, scale, max_gap) != (None, None, MAX_GAP_HOURS):
        raise typer.BadParameter("--time, --scale and --max-gap are for --kind minor_planets")
    if kind is Kind.minor_planets and epoch is not None:
        raise typer.BadParameter("minor planets have a time in each row", param_hint="--epoch")
    wanted = Wanted(
        name=name,
        kind=kind,
        radius_arcsec=radius,
        ra=ra,
        dec=dec,
        id=identifier,
        columns=tuple(c.strip() for c in columns.split(",") if c.strip()),
        unit=unit,
        epoch=epoch,
        skip=skip,
        time=time,
        scale=scale,
        max_gap_hours=max_gap,
    )
    with usable(), progress(quiet=as_json) as advance:
        store = _store(context)
        added = store.add(path, wanted, datetime.now(UTC), advance)
        remarks = store.open(name, added.version).remarks
    if as_json:
        plain = {"known": added.known, **facts_told(added.facts, used=True)}
        typer.echo(json.dumps({**plain, "remarks": list(remarks)}, indent=2))
    else:
        say_added(added.facts, remarks, known=added.known)


@app.command("list", epilog=LIST_EPILOG)
def list_catalogs(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all catalogues and their versions."""
    with usable():
        store = _store(context)
        found = [
            facts_told(store.facts(name, version), used=version == store.latest(name))
            for name in store.names()
            for version in store.versions(name)
        ]
    if as_json:
        typer.echo(json.dumps({"folder": str(store.root), "catalogs": found}, indent=2))
    else:
        show_list(found, store.root, iso_utc(datetime.now(UTC)))


@app.command("show", epilog=SHOW_EPILOG)
def show(
    context: typer.Context,
    name: NameArgument,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one catalogue: where it came from, its columns and what they mean to us."""
    with usable():
        store = _store(context)
        latest = store.latest(name)
        catalog = store.open(name, version)
        told = facts_told(store.facts(name, version or latest), used=(version or latest) == latest)
    told |= {
        "roles": dict(catalog.roles.columns),
        "remarks": list(catalog.remarks),
        "folder": str(catalog.folder),
        "versions": store.versions(name),
        "padding_arcsec_in_10_years": catalog.padding_arcsec(10.0),
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        show_facts_of(told)


@app.command("try", epilog=TRY_EPILOG, context_settings={"ignore_unknown_options": True})
def try_position(
    context: typer.Context,
    ra_deg: Annotated[float, typer.Argument(metavar="RA", help="Degrees, ICRS.")],
    dec_deg: Annotated[float, typer.Argument(metavar="DEC", help="Degrees, ICRS.")],
    names: Annotated[
        list[str] | None, typer.Option("--name", help="Only this catalogue. Repeatable.")
    ] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            "--radius", metavar="ARCSEC", callback=radius_arcsec, help="Default: each catalogue's."
        ),
    ] = None,
    time: Annotated[
        str,
        typer.Option(
            "--time",
            metavar="TIME",
            help="UTC, ISO 8601 or Julian date; for proper motions and minor planets, which are"
            " looked for now without it.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show every source within the radius of a position, in each catalogue."""
    import numpy as np

    from catalogs.answers import described

    if not (-360 <= ra_deg <= 360 and -90 <= dec_deg <= 90):
        raise typer.BadParameter("RA in [-360, 360] and DEC in [-90, 90] degrees")
    asked_jd = julian_date(time) if time else None
    place = np.array([ra_deg]), np.array([dec_deg])
    answers: list[dict[str, Any]] = []
    with usable():
        store = _store(context)
        for name in names or store.names():
            catalog = store.open(name)
            jd = asked_jd
            if jd is None and catalog.covers_jd is not None:
                jd = jd_from_datetime(datetime.now(UTC))
            at = None if jd is None else np.array([jd])
            found = described(catalog, catalog.within(*place, radius, at))
            answers.append(
                {
                    "catalog": name,
                    "version": catalog.version,
                    "kind": str(catalog.kind),
                    "radius_arcsec": catalog.radius_arcsec if radius is None else radius,
                    "time": None if jd is None else iso_of(jd),
                    "covers": covers(store.facts(name, catalog.version)),
                    "found": found,
                }
            )
    if as_json:
        from dataclasses import asdict

        plain = [{**a, "found": [asdict(n) for n in a["found"]]} for a in answers]
        typer.echo(json.dumps({"ra": ra_deg, "dec": dec_deg, "catalogs": plain}, indent=2))
    else:
        show_answers(answers)


@app.command("use", epilog=USE_EPILOG)
def use(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As the list has it.")],
) -> None:
    """Put another version in use that is there already."""
    with usable():
        _store(context).use(name, version)
    typer.echo(f"{name}@{version}: in use")


@app.command("remove", epilog=REMOVE_EPILOG)
def remove(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Only this version.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every version of it.")] = False,
    older: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            max=36_500,
            help="Versions that were added before, but not the one in use, nor one that the"
            " configuration names.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove versions of a catalogue, or all; candidates that name it stay as they are."""
    if everything + (version is not None) + (older is not None) != 1:
        raise typer.BadParameter("either --version VERSION or --all, or --older-than DAYS")
    with usable():
        store = _store(context)
        if older is None:
            removed = store.remove(name, version)
        else:
            specs = options(context).load().match.catalogs
            keep = [at[2] for at in (spec.partition("@") for spec in specs) if at[0] == name]
            removed = store.remove_older(name, datetime.now(UTC) - timedelta(days=older), keep)
    if as_json:
        typer.echo(json.dumps({"name": name, "removed": removed}, indent=2))
    else:
        typer.echo(f"{name}: removed {', '.join(removed) or 'nothing'}")


@app.command("verify", epilog=VERIFY_EPILOG)
def verify(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: all.")] = None,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the files with what was added: digests, rows, version."""
    if version is not None and name is None:
        raise typer.BadParameter("--version belongs to one NAME")
    results = []
    with usable():
        store = _store(context)
        for each in [name] if name else store.names():
            for one in [version or store.latest(each)] if name else store.versions(each):
                results.append({"name": each, "version": one, "faults": store.verify(each, one)})
    if as_json:
        typer.echo(json.dumps({"catalogs": results}, indent=2))
    else:
        for result in results:
            said = "; ".join(result["faults"]) or "as it was added"
            typer.echo(f"{result['name']}@{result['version']}: {said}")
    if any(result["faults"] for result in results):
        raise typer.Exit(FAILED)


def _store(context: typer.Context) -> Store:
    from gateway.lookup import store_of

    return store_of(options(context).load())
