"""What Spark's Python workers do with alerts: normalise, cut and match, as the driver would.

Workers import this module: it needs neither Spark's session nor Kafka.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from broker.surveys import NATIVE_SCHEMAS, Normalised, RejectedRow, normalise
from crossmatch.ahead import ROWS, rows_of
from crossmatch.columns import ALERT_SCHEMA
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.index import RegionIndex
from crossmatch.match import match
from crossmatch.tables import Tables

ADDRESS = ("topic", "partition", "offset")
_ELSEWHERE = ("survey", *ADDRESS)
FIELDS: tuple[pa.Field, ...] = (
    *(field.with_nullable(True) for field in ALERT_SCHEMA if field.name not in _ELSEWHERE),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
    pa.field("regions", ROWS),
)
"""An alert without its address and survey, or why it is none; rows of its regions."""

_held: dict[str, Tables] = {}


@dataclass(frozen=True, slots=True)
class Shipped:
    """Tables of regions as a worker finds them: in a folder, or sent along file by file.

    Parameters
    ----------
    folder : str
        Where the driver wrote them; names them, too.
    files : broadcast of a mapping of str to bytes, optional
        What the folder has, for workers that do not see it.
    """

    folder: str
    files: Any = None

    def tables(self) -> Tables:
        """The tables, mapped into memory; those that this process had before are let go."""
        if self.folder not in _held:
            _held.clear()
            folder = Path(self.folder) if self.files is None else self._unpacked()
            _held[self.folder] = RegionIndex.load(folder)
        return _held[self.folder]

    def _unpacked(self) -> Path:
        """A folder that all Python processes of this executor map; older ones are removed."""
        from pyspark import SparkFiles

        root = Path(SparkFiles.getRootDirectory()) / "regions"
        folder = root / hashlib.sha256(self.folder.encode()).hexdigest()[:16]
        if not folder.exists():
            write_whole(folder, self.files.value)
            for other in root.iterdir():
                # What is mapped stays readable; what has a dot is being written.
                if other != folder and not other.suffix:
                    shutil.rmtree(other, ignore_errors=True)
        return folder


def write_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder with these files: it is there with all of them, or not at all."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}")
    part.mkdir(parents=True)
    for name, content in files.items():
        (part / name).write_bytes(content)
    try:
        part.rename(folder)
    except OSError:
        # Another process was faster.
        shutil.rmtree(part)
        if not folder.exists():
            raise


def judged(
    survey: str,
    topics: Sequence[str],
    cuts: Cuts,
    tables: Tables,
    rows: pa.Table,
    jvm: str = "jvm",
) -> pa.StructArray:
    """Alerts of a survey among rows of the query, with the regions that hold them.

    Parameters
    ----------
    survey : {"ztf", "lsst"}
    topics : sequence of str
        That have the survey's alerts.
    cuts : Cuts
    tables : Tables
    rows : (n,) table
        Address, native columns and ``route``.
    jvm : str
        Route of rows whose native columns were read.

    Returns
    -------
    (n,) struct array
        `FIELDS`; null for rows that are no alerts of the survey, or not read. A row that
        cannot be an alert has a reason and nothing else. ``regions`` is null for alerts that
        do not pass the cuts: they are not looked up.
    """
    which = pc.and_(
        pc.is_in(rows["topic"], value_set=pa.array(topics, pa.string())),
        pc.equal(rows["route"], jvm),
    )
    mine = rows.filter(pc.fill_null(which, False))
    schema = NATIVE_SCHEMAS[survey]
    done = normalise(survey, mine.select(schema.names).cast(schema))
    columns = _columns(done, regions_of(done.alerts, cuts, tables), mine.num_rows)
    found = pa.StructArray.from_arrays(columns, fields=list(FIELDS))
    taken = np.asarray(pc.fill_null(which, False))
    number = np.cumsum(taken) - 1
    return found.take(pa.array(number, mask=~taken))


def regions_of(alerts: pa.Table, cuts: Cuts, tables: Tables) -> pa.ListArray:
    """Rows of the regions of each of (n,) alerts, (n,) lists; null for those that are cut."""
    keep = apply_cuts(alerts, cuts).keep
    good = alerts.filter(pa.array(keep))
    time_jd, ra, dec = (good[name].to_numpy() for name in ("time_jd", "ra_deg", "dec_deg"))
    pairs = match(time_jd, ra, dec, tables)
    rows = rows_of(pairs, good.num_rows)
    return rows.take(pa.array(np.cumsum(keep) - 1, mask=~keep))


def _columns(done: Normalised, regions: pa.ListArray, count: int) -> list[pa.Array]:
    """Columns of `FIELDS` in order of the ``count`` rows that were normalised."""
    wrong = {fault.row: fault for fault in done.rejected}
    good = np.ones(count, np.bool_)
    good[list(wrong)] = False
    place = pa.array(np.cumsum(good) - 1, mask=~good)
    alerts = done.alerts.combine_chunks()
    columns = [
        _single(alerts[field.name]).take(place)
        for field in FIELDS
        if field.name in ALERT_SCHEMA.names
    ]
    faults = [wrong.get(row) for row in range(count)] if wrong else []
    for name in ("reason", "detail"):
        told = [None if fault is None else getattr(fault, name) for fault in faults]
        columns.append(pa.array(told, pa.string()) if wrong else pa.nulls(count, pa.string()))
    return [*columns, regions.take(place)]


def _single(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)


def alerts_of(survey: str, rows: pa.Table) -> tuple[Normalised, pa.ListArray]:
    """What workers made of rows of the query: alerts and rejections, and the regions of alerts.

    Parameters
    ----------
    survey : {"ztf", "lsst"}
    rows : (n,) table
        Address, and ``judged`` with the structs of :func:`judged`, none of them null.

    Returns
    -------
    Normalised
        As `broker.surveys.normalise` gives of the same rows.
    (m,) array of lists of int32
        Rows of the regions of each alert.
    """
    struct = _single(rows["judged"])
    columns = dict(zip(struct.type.names, struct.flatten(), strict=True))
    columns |= {name: rows[name] for name in ADDRESS}
    columns["survey"] = pa.repeat(pa.scalar(survey), rows.num_rows)
    good = pc.is_null(columns["reason"])
    alerts = pa.table({name: columns[name] for name in ALERT_SCHEMA.names}).filter(good)
    wrong = np.flatnonzero(~np.asarray(good)).tolist()
    faults = [
        columns[name].take(pa.array(wrong, pa.int64())).to_pylist() for name in ("reason", "detail")
    ]
    rejected = [RejectedRow(*fault) for fault in zip(wrong, *faults, strict=True)]
    return Normalised(alerts.cast(ALERT_SCHEMA).combine_chunks(), rejected), columns[
        "regions"
    ].filter(good)
