"""Alert packets and files of alerts in Python: decoding, native leaves, readers.

The stream decodes in the JVM; this is the path for everything that needs whole
packets: files, unusual containers, the history of what matched.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from broker import containers
from broker.containers import MAX_PACKET_BYTES, Record
from broker.history import ELASTICC_SIGN, ELASTICC_TO_NJY, has_old_flux
from broker.surveys import NATIVE_SCHEMAS
from crossmatch.errors import AlertError

ROWS_PER_BATCH = 50_000
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz")

ADDED = ("cdsxmatch",)
"""Columns of Fink's Parquet files that come along with the native ones."""


def _in(struct: str, *names: str) -> tuple[tuple[str, ...], ...]:
    return tuple((struct, name) for name in names)


# Where each native leaf stands in a packet; the first place that has a value counts.
# ELAsTiCC's simulated packets use the older names.
PLACES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "ztf": {n: _in("candidate", n) for n in NATIVE_SCHEMAS["ztf"].names[:-3]}
    | {
        "objectId": (("objectId",),),
        "candid": (("candid",), ("candidate", "candid")),
        "schemavsn": (("schemavsn",),),
    },
    "lsst": {n: _in("diaSource", n) for n in NATIVE_SCHEMAS["lsst"].names[:-3]}
    | {
        "diaObjectId": (("diaSource", "diaObjectId"), ("diaObject", "diaObjectId")),
        "midpointMjdTai": _in("diaSource", "midpointMjdTai", "midPointTai"),
        "dec": _in("diaSource", "dec", "decl"),
        "band": _in("diaSource", "band", "filterName"),
        "psfFlux": _in("diaSource", "psfFlux", "psFlux"),
        "psfFluxErr": _in("diaSource", "psfFluxErr", "psFluxErr"),
        "firstDiaSourceMjdTai": _in("diaObject", "firstDiaSourceMjdTai"),
        "nDiaSources": _in("diaObject", "nDiaSources"),
    },
}


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file, or the rest of one, that could not be read as alerts."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class NativeBatch:
    """Rows of one survey with its native columns, ready for `broker.surveys.normalise`."""

    survey: str
    native: pa.Table


def read_lsst_schemas(folder: Path) -> dict[int, str]:
    """Self-contained LSST alert schemas by their registry number, from ``v<major>_<minor>/``.

    The number is 100 x major + minor, as Rubin numbers them (9.0 is 900).

    Raises
    ------
    AlertError
        ``no_schemas`` when the folder has none, ``bad_schema`` when one does not parse.
    """
    schemas: dict[int, str] = {}
    for path in sorted(folder.glob("v*_*/lsst.v*.alert.avsc")):
        major, _, minor = path.parent.name.removeprefix("v").partition("_")
        if major.isdigit() and minor.isdigit():
            schemas[100 * int(major) + int(minor)] = containers.with_parts(path)
    if not schemas:
        raise AlertError("no_schemas", f"{folder} has no v<major>_<minor>/lsst.v*.alert.avsc")
    return schemas


def decode_packet(value: bytes, survey: str, lsst_schemas: Mapping[int, str]) -> list[Record]:
    """Records of one message.

    Parameters
    ----------
    value : bytes
        Avro object container (any codec, any number of records), or Confluent wire format.
    survey : {"ztf", "lsst"}
        The survey whose fields the records must have.
    lsst_schemas : mapping
        Schema JSON by registry number (`read_lsst_schemas`).

    Raises
    ------
    AlertError
        Reasons of `broker.containers.decode`, and ``not_an_alert`` when the fields
        are not those of ``survey``.
    """
    records = containers.decode(value, lsst_schemas)
    for record in records:
        if not isinstance(record, Mapping):
            kind = type(record).__name__
            raise AlertError("not_an_alert", f"expected an alert of {survey}, found {kind}")
        if survey_of(record) != survey:
            raise AlertError(
                "not_an_alert", f"expected an alert of {survey}, found fields {sorted(record)[:8]}"
            )
    return records


def survey_of(record: Mapping[str, Any]) -> str | None:
    """Survey that writes alerts with these fields, or None."""
    return _survey_of_names(
        {name: v.keys() if isinstance(v, Mapping) else () for name, v in record.items()}
    )


def _survey_of_names(fields: Mapping[str, Collection[str]]) -> str | None:
    """Survey by the names of the fields and of the fields inside them."""
    # Palomar Gattini and WINTER packets look like ZTF's, but lack one of these.
    if "objectId" in fields and {"jd", "fid", "ra", "dec", "magpsf"} <= {
        *fields.get("candidate", ())
    }:
        return "ztf"
    if {"diaSourceId", "ra"} <= {*fields.get("diaSource", ())}:
        return "lsst"
    return None


def native_row(record: Mapping[str, Any], survey: str) -> dict[str, Any]:
    """Native leaves of one packet, by name; None where the packet has no value.

    Raises
    ------
    AlertError
        ``wrong_type`` when a leaf has a type that its survey does not write.
    """
    schema = NATIVE_SCHEMAS[survey]
    row = {n: _leaf(record, places, schema, n) for n, places in PLACES[survey].items()}
    if survey == "lsst" and has_old_flux(record):
        for name in ("psfFlux", "psfFluxErr"):
            row[name] = None if row[name] is None else row[name] * ELASTICC_TO_NJY
    return row


def _leaf(
    record: Mapping[str, Any], places: tuple[tuple[str, ...], ...], schema: pa.Schema, name: str
) -> Any:
    value: Any = None
    for place in places:
        value = record
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            break
    if value is None:
        return None
    kind = schema.field(name).type
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else str(value)
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        return value
    if pa.types.is_floating(kind) and isinstance(value, int | float):
        return float(value)
    if pa.types.is_integer(kind) and isinstance(value, int) and not isinstance(value, bool):
        if not -(1 << kind.bit_width - 1) <= value < 1 << kind.bit_width - 1:
            raise AlertError("wrong_type", f"{name} is {value}, expected {kind}")
        return value
    raise AlertError("wrong_type", f"{name} is {type(value).__name__}, expected {kind}")


def read_alerts(
    paths: Iterable[Path],
    lsst_schemas: Mapping[int, str],
    *,
    report: Callable[[BadFile], None],
    progress: Callable[[int], None] | None = None,
) -> Iterator[NativeBatch]:
    """Native rows of all alerts in files and folders.

    Parameters
    ----------
    paths : iterable of Path
        Avro files (containers, Confluent wire format), Parquet files, tarballs of Avro
        files; folders are searched for them.
    lsst_schemas : mapping
        Schema JSON by registry number, for the Confluent wire format.
    report : callable
        Called with each file that cannot be read; reading goes on with the next.
    progress : callable, optional
        Called with the number of bytes read since the last call.

    Yields
    ------
    NativeBatch
        At most about `ROWS_PER_BATCH` rows. ``topic`` is the file (and member),
        ``partition`` 0 and ``offset`` the row in the file.
    """
    waiting: dict[str, list[dict[str, Any]]] = {}
    for path in alert_files(paths):
        size = path.stat().st_size if path.exists() else 0
        try:
            if _is_parquet(path):
                yield from _read_parquet(path)
            else:
                for survey, row in _read_rows(path, lsst_schemas, report):
                    waiting.setdefault(survey, []).append(row)
                    if len(waiting[survey]) >= ROWS_PER_BATCH:
                        yield _batch(survey, waiting.pop(survey))
        except AlertError as error:
            report(BadFile(str(path), error.reason, error.detail))
        except (OSError, EOFError, tarfile.TarError, pa.ArrowException) as error:
            report(BadFile(str(path), "unreadable", f"{type(error).__name__}: {error}"))
        if progress is not None:
            progress(size)
    for survey, rows in waiting.items():
        yield _batch(survey, rows)


def alert_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Files that may hold alerts: each path that is a file, and those below folders, sorted."""
    for path in paths:
        if path.is_dir():
            yield from (
                p
                for p in sorted(path.rglob("*"))
                if p.name.lower().endswith((".avro", ".parquet", *_TAR_SUFFIXES)) and p.is_file()
            )
        else:
            yield path


def read_packets(
    paths: Iterable[Path], *, report: Callable[[BadFile], None]
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each Avro file, also in folders and tarballs, as Kafka would carry it."""
    for path in alert_files(paths):
        try:
            if not _is_parquet(path):
                for name, file in _open_members(path):
                    yield name, file.read()
        except (OSError, EOFError, tarfile.TarError) as error:
            report(BadFile(str(path), "unreadable", f"{type(error).__name__}: {error}"))


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _open_members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    if not path.name.lower().endswith(_TAR_SUFFIXES):
        with path.open("rb") as file:
            yield str(path), file
        return
    # A stream: a member is read when its turn comes, so that a tar of a night needs no memory.
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if not member.isfile() or not member.name.endswith(".avro"):
                continue
            extracted = archive.extractfile(member)
            if extracted is not None:
                yield f"{path}:{member.name}", extracted  # type: ignore[misc]


def _read_rows(
    path: Path, lsst_schemas: Mapping[int, str], report: Callable[[BadFile], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, file in _open_members(path):
        try:
            for number, record in enumerate(_records(file, lsst_schemas)):
                survey = survey_of(record)
                if survey is None:
                    raise AlertError("unknown_survey", f"fields {sorted(record)[:8]}")
                row = native_row(record, survey)
                yield survey, {**row, "topic": name, "partition": 0, "offset": number}
        except AlertError as error:
            report(BadFile(name, error.reason, error.detail))


def _records(file: BinaryIO, lsst_schemas: Mapping[int, str]) -> Iterator[Record]:
    head = file.read(4)
    stream = _Rejoined(head, file)
    if containers.is_container(head):
        yield from containers.read_container(stream)  # type: ignore[arg-type]
    else:
        yield from containers.decode(stream.read(MAX_PACKET_BYTES + 1), lsst_schemas)


class _Rejoined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head + self._file.read(size - len(head)) if len(head) < size else head


def _batch(survey: str, rows: list[dict[str, Any]]) -> NativeBatch:
    return NativeBatch(survey, pa.Table.from_pylist(rows, schema=NATIVE_SCHEMAS[survey]))


def _read_parquet(path: Path) -> Iterator[NativeBatch]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        survey = _survey_of_names({f.name: _children(f) for f in schema})
        if survey is None:
            raise AlertError("unknown_survey", f"columns {schema.names[:8]}")
        places = {
            name: [p for p in found if _has(schema, p)] for name, found in PLACES[survey].items()
        }
        wanted = sorted({".".join(p) for found in places.values() for p in found})
        # What brokers added at the top: it is no part of the survey's packet.
        added = [name for name in ADDED if _has(schema, (name,))]
        old_flux = _has(schema, ("diaObject", ELASTICC_SIGN))
        first_row = 0
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=[*wanted, *added]):
            columns = {n: _coalesced(batch, found) for n, found in places.items() if found}
            if old_flux:
                for name in ("psfFlux", "psfFluxErr"):
                    columns[name] = pc.multiply(columns[name], ELASTICC_TO_NJY)
            columns |= {name: batch.column(name) for name in added}
            rows = batch.num_rows
            columns["topic"] = pa.repeat(pa.scalar(str(path)), rows)
            columns["partition"] = pa.repeat(pa.scalar(0, pa.int32()), rows)
            columns["offset"] = pa.array(np.arange(first_row, first_row + rows))
            first_row += rows
            yield NativeBatch(survey, pa.table(columns))


def _children(field: pa.Field) -> list[str]:
    return [child.name for child in field.type] if pa.types.is_struct(field.type) else []


def _has(schema: pa.Schema, place: tuple[str, ...]) -> bool:
    if place[0] not in schema.names:
        return False
    return len(place) == 1 or place[1] in _children(schema.field(place[0]))


def _coalesced(batch: pa.RecordBatch, places: list[tuple[str, ...]]) -> pa.Array:
    found = [
        batch.column(p[0]) if len(p) == 1 else pc.struct_field(batch.column(p[0]), p[1])
        for p in places
    ]
    # A column that is null throughout has no type of its own.
    typed = [column for column in found if not pa.types.is_null(column.type)]
    return pc.coalesce(*typed) if typed else found[0]
