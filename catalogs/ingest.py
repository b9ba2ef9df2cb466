"""From a catalogue file to a version in the store: HATS, and an index to be memory-mapped.

Two passes: batches are checked, sorted and put aside; then pixel after pixel is written.
CSV is read once before them, for the types of its columns. Between them positions by time
become segments; see `catalogs.ephemeris`.
Memory is that of one batch or one partition, and a quarter of a byte a row for identifiers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalogs import ephemeris, hats
from catalogs.batches import DEC, PIXEL_COLUMN, RA, Source, source_of
from catalogs.checks import Columns, Identifiers, Positions, position_columns, refuse_text
from catalogs.indexfiles import IndexFiles, digest, digests
from catalogs.kinds import MAX_GAP_HOURS, RADIUS_ARCSEC, Kind, Scale
from catalogs.motions import EPOCH, PMDEC, PMRA, motions
from catalogs.roles import EPOCH_NAMES, PMDEC_NAMES, PMRA_NAMES, Roles
from catalogs.runs import Runs
from catalogs.segments import ARRAYS
from crossmatch.errors import CatalogError
from crossmatch.sky import ipix29

FACTS = "catalog.json"
_OWN = (PIXEL_COLUMN, RA, DEC, PMRA, PMDEC, EPOCH, *ARRAYS)

Advance = Callable[[str, float], None]
"""Told what is being done, and the part of it that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How a file becomes a catalogue.

    Parameters
    ----------
    name : str
        What the configuration and candidates call it.
    kind : Kind
    radius_arcsec : float or None
        Of look-ups; None: what is usual for the kind.
    ra, dec, id : str or None
        Columns; None: the usual names. ``id`` has no value twice; of minor planets it says
        which object a row is of.
    columns : sequence of str
        Columns to keep beside the position; none: all.
    unit : str or None
        deg, rad or hour, where the file does not say it.
    epoch : float or None
        Julian year of the positions; None: column ``ref_epoch``, if there is one.
    skip : bool
        Leave rows without a position out.
    time : str or None
        Column with the times of minor planets; None: the usual names.
    scale : Scale or None
        Of these times; None: what the name of the column says, or UTC.
    max_gap_hours : float
        Between times of an object that are farther apart nothing is known; not more than
        `catalogs.kinds.MOST_GAP_HOURS`.
    """

    name: str
    kind: Kind = Kind.other
    radius_arcsec: float | None = None
    ra: str | None = None
    dec: str | None = None
    id: str | None = None
    columns: Sequence[str] = ()
    unit: str | None = None
    epoch: float | None = None
    skip: bool = False
    time: str | None = None
    scale: Scale | None = None
    max_gap_hours: float = MAX_GAP_HOURS


@dataclass(frozen=True, slots=True)
class _Plan:
    """Columns by what they are for."""

    position: Columns
    motion: tuple[str, str, float | str] | None
    read: tuple[str, ...]
    stored: tuple[str, ...]
    in_degrees: bool
    units: Mapping[str, str]
    ways: ephemeris.Columns | None
    figures: tuple[str, ...]


def ingest(path: Path, wanted: Wanted, folder: Path, now: datetime, advance: Advance) -> str:
    """Write the catalogue into an empty folder; its version.

    The version is the first 12 digits of a SHA-256 over everything that a look-up reads.

    Raises
    ------
    CatalogError
        Whatever is wrong with the file; see `catalogs.checks`, `catalogs.batches` and
        `catalogs.ephemeris`.
    """
    source = source_of(path).settled(lambda done: advance("looking through", done))
    plan = _plan(source, wanted)
    places = Positions(plan.position, skip=wanted.skip)
    segments: dict[str, Any] | None = None
    if plan.ways is None:
        runs = _sorted_runs(source, plan, places, folder, advance)
    else:
        runs, segments = ephemeris.segment_runs(
            source, plan.ways, places, plan.read, plan.stored, plan.figures,
            wanted.max_gap_hours, folder, advance,
        )  # fmt: skip
    index = IndexFiles(folder / "index", runs.rows)
    told = _write(runs, plan, wanted, folder, index, now, advance)
    runs.remove()
    found = index.finish()
    facts: dict[str, Any] = {
        "name": wanted.name,
        "kind": str(wanted.kind),
        "radius_arcsec": _radius(wanted),
        **found,
        **told,
        "segments": None if segments is None else {**found["segments"], **segments},
        "skipped": places.skipped,
        "added": now.isoformat(timespec="seconds"),
        "source": str(path),
        "source_kind": source.kind,
        "position_columns": [plan.position.ra, plan.position.dec],
        "id_column": plan.position.id,
        "hats_files": hats_digests(folder, wanted.name),
    }
    version = version_of(facts, facts["files"])
    facts["version"] = version
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return version


def _plan(source: Source, wanted: Wanted) -> _Plan:
    head = next(source.batches(rows=200)).rows
    ra, dec = wanted.ra or source.ra, wanted.dec or source.dec
    ways: ephemeris.Columns | None = None
    if wanted.kind is Kind.minor_planets:
        ways = ephemeris.columns_of(source.path, head, wanted.id, wanted.time, wanted.scale)
    position = position_columns(source.path, head, ra, dec, wanted.id)
    motion = head.find(PMRA_NAMES), head.find(PMDEC_NAMES)
    epoch = head.find(EPOCH_NAMES)
    needed = [position.ra, position.dec, position.id, *motion, epoch, *(ways.all if ways else ())]
    names = head.columns.column_names
    if wanted.columns:
        missing = [c for c in wanted.columns if c not in names]
        if missing:
            known = ", ".join(names[:40])
            raise CatalogError("no_such_column", f"{source.path} has no {missing[0]}: {known}")
        keep = {*wanted.columns, position.ra, position.dec, *filter(None, motion)}
        names = [n for n in names if n in {*keep, *filter(None, needed)}]
    stored = tuple(n for n in names if n not in _OWN)
    since, moves = wanted.epoch or epoch, None
    if ways is None and since and motion[0] and motion[1]:
        moves = motion[0], motion[1], since
    places = [(head.columns[c].type, head.units.get(c, "")) for c in (position.ra, position.dec)]
    # Where segments have their middles no column of the file says.
    in_degrees = (
        ways is None
        and wanted.unit in (None, "deg")
        and all(pa.types.is_float64(kind) and unit in ("", "deg") for kind, unit in places)
    )
    units = {n: head.units[n] for n in stored if head.units.get(n)}
    # Of an object there are many rows.
    position = replace(position, unit=wanted.unit, id=None if ways else position.id)
    roles = Roles.of(wanted.kind, stored, units)
    roles.refuse_wrong(source.path)
    others = (*(moves or ()), *((ways and ways.rates) or ()))
    figures = tuple(dict.fromkeys([*roles.figures, *(c for c in others if isinstance(c, str))]))
    return _Plan(position, moves, tuple(names), stored, in_degrees, units, ways, figures)


def _sorted_runs(
    source: Source,
    plan: _Plan,
    places: Positions,
    folder: Path,
    advance: Advance,
) -> Runs:
    """First pass: every row checked and put aside."""
    (folder / "runs").mkdir(parents=True)
    runs, identifiers = Runs(folder / "runs"), Identifiers(plan.position.id, folder / "ids")
    for batch in source.batches(plan.read):
        rows, ra, dec = places.of(batch)
        refuse_text(batch, plan.figures)
        identifiers.take(batch)
        table = batch.rows.columns.select(list(plan.stored))
        if len(rows) < table.num_rows:
            table = table.take(pa.array(rows))
        own = {PIXEL_COLUMN: ipix29(ra, dec), RA: ra, DEC: dec}
        if plan.motion is not None:
            own |= motions(batch, plan.motion, rows)
        kept = {name: table[name] for name in plan.stored}
        runs.add(pa.table({**own, **kept}))
        advance("reading", batch.done)
    places.refuse_odd_units(source.path)
    identifiers.refuse_twice()
    if runs.rows == 0:
        raise CatalogError("empty", f"{source.path}: no rows with a position")
    return runs


def _write(
    runs: Runs,
    plan: _Plan,
    wanted: Wanted,
    folder: Path,
    index: IndexFiles,
    now: datetime,
    advance: Advance,
) -> dict[str, Any]:
    """Second pass: pixel after pixel into HATS, margin and index."""
    schema = runs.schema
    parts = hats.partitions(runs.counts, runs.bytes / runs.rows)
    names = _hats_names(plan, schema)
    public = pa.schema(
        [
            pa.field(new, schema.field(old).type, metadata=_said(plan, old))
            for old, new in names.items()
        ]
    )
    primary = hats.Writer(folder / wanted.name, public)
    beside = hats.Writer(folder / f"{wanted.name}_margin", public)
    margin = hats.Margin(parts, folder / "margins")
    for number, part in enumerate(parts):
        rows = runs.between(part.start, part.end)
        table = rows.select(list(names)).rename_columns(list(names.values()))
        primary.write(part, table)
        pixels = rows[PIXEL_COLUMN].to_numpy()
        margin.take(number, pixels, table)
        index.write(rows, plan.stored)
        advance("writing", (number + 1) / len(parts))
    margin_rows = margin.write(beside)
    told = hats.properties_of(
        wanted.name, *_hats_position(plan, names), list(names.values())[:12], now
    )
    primary.close(told)
    beside.close(hats.margin_properties(told, f"{wanted.name}_margin"))
    hats.write_properties(
        folder,
        ("collection.properties",),
        hats.collection_properties(wanted.name, f"{wanted.name}_margin", now),
    )
    return {
        "columns": {n: str(schema.field(n).type) for n in plan.stored},
        "units": dict(plan.units),
        "motion": None if plan.motion is None else list(plan.motion),
        "partitions": len(parts),
        "margin_rows": margin_rows,
    }


def _said(plan: _Plan, column: str) -> dict[str, str] | None:
    """What is told of a column to who reads our HATS files."""
    return {"unit": plan.units[column]} if column in plan.units else None


def _hats_names(plan: _Plan, schema: pa.Schema) -> Mapping[str, str]:
    """Columns of the HATS files and what they are called there.

    HATS wants degrees as numbers: where the file has other positions, ours stand beside.
    """
    kinds = [schema.field(name).type for name in (plan.position.ra, plan.position.dec)]
    ours = [name for name in ARRAYS if name in schema.names]
    if not plan.in_degrees or not all(pa.types.is_float64(kind) for kind in kinds):
        ours = [RA, DEC, *ours]
    names = {own: own.lstrip("_") for own in ours}
    if any(n in plan.stored for n in names.values()):
        names = {own: own for own in ours}
    return {PIXEL_COLUMN: PIXEL_COLUMN, **names, **{n: n for n in plan.stored}}


def _hats_position(plan: _Plan, names: Mapping[str, str]) -> tuple[str, str]:
    if RA in names:
        return names[RA], names[DEC]
    return plan.position.ra, plan.position.dec


def _radius(wanted: Wanted) -> float:
    radius = wanted.radius_arcsec
    return RADIUS_ARCSEC[wanted.kind] if radius is None else radius


def hats_digests(folder: Path, name: str) -> dict[str, str]:
    """SHA-256 of each file of a version that is HATS, by its path.

    They are no part of the version, since the properties say when they were made.
    """
    said = [p for p in (folder / "collection.properties",) if p.is_file()]
    tables = (name, f"{name}_margin")
    return {p.name: digest(p) for p in said} | {
        f"{table}/{file}": found
        for table in tables
        for file, found in digests(folder / table).items()
    }


def version_of(facts: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Version of a catalogue with these facts, if its index files have these digests.

    The first 12 digits of a SHA-256 over all that a look-up reads; the name is left out.
    """
    names = (
        *("kind", "radius_arcsec", "rows", "order", "epochs", "fastest_mas_yr"),
        *("columns", "units", "skipped"),
    )
    read = {**{name: facts[name] for name in names}, "files": dict(files)}
    if facts.get("segments") is not None:
        read["segments"] = facts["segments"]
    text = json.dumps(read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
