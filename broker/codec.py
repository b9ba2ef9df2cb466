"""Records of our topics as Avro object containers, one record each.

``fastavro.reader(io.BytesIO(value))`` reads every one of them without our code.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, cast

import fastavro

from broker.flatavro import body_writer, varint
from crossmatch import sky
from crossmatch.columns import CANDIDATE_FIELDS, Field
from crossmatch.errors import RegionError, Rejected
from crossmatch.model import (
    Circle,
    Ellipse,
    Localization,
    MultiOrderMap,
    Notice,
    Polygon,
    Region,
    SystematicTerm,
    Window,
)
from crossmatch.region import best_position, cover_ranges
from crossmatch.shapes import shape_of

MOC_ORDER = 10
# A map of noise has millions of separate cells; Kafka takes messages of 1 MiB. Wider cells do.
MOC_LENGTH = 256 * 1024
"""Finest order of the MOC that travels with a region: 3.4 arcmin, so messages stay small."""

_AVRO_TYPES: Mapping[str, Any] = {
    "string": "string",
    "double": "double",
    "int": "int",
    "long": "long",
    "boolean": "boolean",
    "bytes": "bytes",
    "strings": {"type": "array", "items": "string"},
}
_SYNC = b"mmgateway.v1-rec"  # A constant marker: the same record always gives the same bytes.


def avro_schema(name: str, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Avro record schema of a column table; optional fields are unions with null."""

    def column(f: Field) -> dict[str, Any]:
        kind = _AVRO_TYPES[f.kind]
        doc = "; ".join(part for part in (f.doc, f.unit and f"unit {f.unit}", f.ucd) if part)
        base = {"name": f.name, "doc": doc}
        if f.required:
            return base | {"type": kind}
        return base | {"type": ["null", kind], "default": None}

    return {
        "type": "record",
        "name": name,
        "namespace": "mmgateway.v1",
        "fields": [column(f) for f in fields],
    }


_FILES = ("deadletter", "region", "verdict")
"""Schemas that stand in files."""


@cache
def _schema(name: str) -> Any:
    if name == "candidate":
        return parsed(avro_schema("Candidate", CANDIDATE_FIELDS))
    text = resources.files("broker").joinpath(f"schemas/{name}.avsc").read_text("utf-8")
    return parsed(json.loads(text))


def parsed(schema: dict[str, Any]) -> Any:
    """``schema`` as fastavro writes with it: in every process the same text in the container."""
    return _ordered(fastavro.parse_schema(schema))


def _ordered(schema: Any) -> Any:
    """The library leaves some keys in the order of a set, which changes with each process."""
    if isinstance(schema, list):
        return [_ordered(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Its own notes, which it does not write, are left as they are.
    return {
        key: value if key.startswith("__") else _ordered(value)
        for key, value in sorted(schema.items())
    }


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """``record`` as an Avro object container with the schema ``name``, always the same bytes."""
    body = _body_writer(name)(record)
    # One block: one record, its length, itself, and the mark that the header announced. To
    # write the header anew for each record would take four times as long.
    return b"".join((_header(name), varint(1), varint(len(body)), body, _SYNC))


@cache
def _body_writer(name: str) -> Callable[[Mapping[str, Any]], bytes]:
    schema = _schema(name)
    if name == "candidate":
        return body_writer(schema)

    def body(record: Mapping[str, Any]) -> bytes:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, record, strict_allow_default=True)
        return buffer.getvalue()

    return body


@cache
def _header(name: str) -> bytes:
    """What every container of a schema begins with."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, _schema(name), [], sync_marker=_SYNC)
    return buffer.getvalue()


def decode(data: bytes) -> dict[str, Any]:
    """The one record of an Avro object container.

    Raises
    ------
    Rejected
        ``not_avro`` when it is none.
    """
    try:
        header = data[: data.find(_SYNC) + len(_SYNC)]
        schema = _schemas_by_header().get(header)
        (record,) = (
            fastavro.reader(io.BytesIO(data)) if schema is None else _block(data, header, schema)
        )
    except (ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise Rejected("not_avro", f"not an Avro container with one record: {error}") from error
    return cast(dict[str, Any], record)


@cache
def _schemas_by_header() -> Mapping[bytes, Any]:
    """Schemas of what this version writes: to read each header anew takes most of the time."""
    return {_header(name): _schema(name) for name in ("candidate", *_FILES)}


def _block(data: bytes, header: bytes, schema: Any) -> list[Any]:
    """Records of the one block that follows a header."""
    body = io.BytesIO(data)
    body.seek(len(header))
    count, size = (cast(int, fastavro.schemaless_reader(body, "long", None)) for _ in range(2))
    end = body.tell() + size
    records = [fastavro.schemaless_reader(body, schema, None) for _ in range(min(count, 2))]
    if body.tell() != end or data[end:] != _SYNC:
        raise ValueError("the block does not end where it says")
    return records


def encode_candidate(candidate: Mapping[str, Any]) -> bytes:
    """A candidate statement with the columns of ``CANDIDATE_FIELDS``."""
    return encode("candidate", candidate)


def encode_dead_letter(
    *,
    reason: str,
    detail: str,
    source: str,
    raw: bytes,
    received: datetime,
    topic: str = "",
    partition: int = -1,
    offset: int = -1,
    streams: Iterable[str] = (),
) -> bytes:
    """A rejected input with its reason and bytes; ``streams`` are those that may see it."""
    return encode(
        "deadletter",
        {
            "reason": reason,
            "detail": detail,
            "source": source,
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "received": iso(received),
            "raw": raw,
            "streams": list(streams),
        },
    )


def iso(moment: datetime) -> str:
    """ISO 8601 UTC with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_iso(text: str) -> datetime:
    """The inverse of :func:`iso`."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """A message of ``mm.regionlog`` or ``mm.regions``: a region, or the retraction of an event.

    ``region`` is None for a retraction, and ``fields`` has all that was sent. ``streams``
    are the private streams that may see it; empty: everybody may. ``raw`` is the message.
    """

    event_id: str
    notice_id: str
    alert_type: str
    order: tuple[float, int, int]
    retracts: tuple[str, ...]
    notice_sha256: str
    fields: Mapping[str, Any]
    region: Region | None
    streams: tuple[str, ...] = ()
    raw: bytes = field(default=b"", repr=False)

    @property
    def key(self) -> bytes:
        """Key of the message: event and version."""
        return region_key(self.event_id, self.order)

    @property
    def skymap_sha256(self) -> str:
        """Digest of the sky map that is the localisation; empty without one."""
        return str(self.fields["skymap_sha256"])


def region_key(event_id: str, order: tuple[float, int, int]) -> bytes:
    """Key of a region message: versions of one event differ, repeats do not."""
    return f"{event_id}/{order[0]:.3f}/{order[1]}/{order[2]}".encode()


def encode_region(
    region: Region,
    *,
    trigger_id: str = "",
    retracts: tuple[str, ...] = (),
    skymap_path: str = "",
    received: str = "",
) -> bytes:
    """A region as it goes to our topics; of a sky map only hash, path and MOC travel."""
    ra, dec = best_position(region.localization)
    record = {
        "event_id": region.event_id,
        "trigger_id": trigger_id,
        "notice_id": region.notice_id,
        "alert_type": region.alert_type,
        "version": region.version,
        "order": _order_record(region.order),
        "retracts": list(retracts),
        "role": region.role,
        "feed": region.feed,
        "mission": region.mission,
        "instrument": region.instrument,
        "kind": region.kind,
        "messenger": region.messenger,
        "issued": iso(region.issued),
        "received": received,
        "trigger_time": iso(region.trigger_time),
        "expires": iso(region.expires),
        "significant": region.significant,
        "far_hz": region.far_hz,
        "event_class": region.event_class,
        "distance_mpc": region.distance_mpc,
        "distance_error_mpc": region.distance_error_mpc,
        "chain": region.chain,
        "window_days": [region.window.start_days, region.window.end_days],
        "level": region.level,
        "level_silver": region.level_silver,
        "area90_deg2": region.area90_deg2,
        "systematic_included": region.systematic_included,
        "ra": float(ra),
        "dec": float(dec),
        "skymap_sha256": region.skymap_sha256,
        "skymap_path": skymap_path,
        "moc": sky.short_moc(
            cover_ranges(region.localization, region.level), MOC_ORDER, MOC_LENGTH
        ),
        "notice_sha256": region.notice_sha256,
        "streams": list(region.streams),
        "feed_version": region.feed_version,
        "localized_by": region.localized_by,
    }
    return encode("region", record | _shape_record(region.localization))


def encode_retraction(notice: Notice, *, received: str = "") -> bytes:
    """The retraction of an event as it goes to our topics."""
    return encode(
        "region",
        {
            "event_id": notice.event_id,
            "trigger_id": notice.trigger_id,
            "notice_id": notice.notice_id,
            "alert_type": "retraction",
            "version": 0,
            "order": _order_record(notice.order),
            "retracts": list(notice.retracts),
            "role": notice.role,
            "feed": notice.feed,
            "mission": notice.mission,
            "instrument": notice.instrument,
            "kind": notice.kind,
            "messenger": notice.messenger,
            "issued": iso(notice.issued),
            "received": received,
            "trigger_time": None if notice.trigger_time is None else iso(notice.trigger_time),
            "significant": notice.significant,
            "far_hz": notice.far_hz,
            "event_class": notice.event_class,
            "chain": "",
            "window_days": [],
            "level": 0.0,
            "level_silver": 0.0,
            "systematic_included": False,
            "shape": "none",
            "notice_sha256": notice.sha256,
            "streams": list(notice.streams),
            "feed_version": notice.feed_version,
        },
    )


def decode_region(
    data: bytes, load_map: Callable[[str, str], MultiOrderMap] | None = None
) -> RegionRecord:
    """A message of ``mm.regionlog`` or ``mm.regions``.

    Parameters
    ----------
    data : bytes
    load_map : callable, optional
        From (hash, path) to the sky map. Without it, regions of shape ``map``
        come with ``region`` None, which is enough to know what is in force.
    """
    fields = decode(data)
    try:
        order = fields["order"]
        shape = fields["shape"]
        region = None
        if shape != "none" and (shape != "map" or load_map is not None):
            region = _checked(_region(fields, _localization(fields, load_map)))
        return RegionRecord(
            event_id=fields["event_id"],
            notice_id=fields["notice_id"],
            alert_type=fields["alert_type"],
            order=(order["issued_unix"], order["kind_rank"], order["serial"]),
            retracts=tuple(fields["retracts"]),
            notice_sha256=fields["notice_sha256"],
            fields=fields,
            region=region,
            streams=tuple(fields["streams"]),
            raw=data,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RegionError("bad_region", f"no region record of ours: {error!r}") from error


def _checked(region: Region) -> Region:
    """``region`` if alerts can be matched with it.

    Raises
    ------
    RegionError
        ``level_invalid``, ``window_invalid``, or what is wrong with the localisation.
    """
    if not (0 < region.level <= 1 and 0 < region.level_silver <= 1):
        raise RegionError("level_invalid", f"levels {region.level}, {region.level_silver}")
    if not region.window.start_days < region.window.end_days:
        raise RegionError("window_invalid", f"from {region.window.start_days} days on")
    if not isinstance(region.localization, MultiOrderMap):
        # Maps were checked when they were read.
        shape_of(region.localization)
    return region


def _order_record(order: tuple[float, int, int]) -> dict[str, float | int]:
    return {"issued_unix": order[0], "kind_rank": order[1], "serial": order[2]}


def _shape_record(localization: Localization) -> dict[str, Any]:
    match localization:
        case Circle():
            return {
                "shape": "circle",
                "radii_deg": [localization.radius_deg],
                "containment": localization.containment,
                "systematic": [
                    {"radius68_deg": t.radius68_deg, "weight": t.weight}
                    for t in localization.systematic
                ],
            }
        case Ellipse():
            return {
                "shape": "ellipse",
                "radii_deg": [
                    localization.semi_major_deg,
                    localization.semi_minor_deg,
                    localization.position_angle_deg,
                ],
                "containment": localization.containment,
            }
        case Polygon():
            return {
                "shape": "polygon",
                "vertices_deg": [v for vertex in localization.vertices_deg for v in vertex],
                "containment": localization.containment,
            }
        case MultiOrderMap():
            return {"shape": "map"}


def _localization(
    fields: Mapping[str, Any], load_map: Callable[[str, str], MultiOrderMap] | None
) -> Localization:
    match fields["shape"]:
        case "circle":
            (radius,) = fields["radii_deg"]
            return Circle(
                ra_deg=fields["ra"],
                dec_deg=fields["dec"],
                radius_deg=radius,
                containment=fields["containment"],
                systematic=tuple(SystematicTerm(**term) for term in fields["systematic"]),
            )
        case "ellipse":
            major, minor, angle = fields["radii_deg"]
            return Ellipse(fields["ra"], fields["dec"], major, minor, angle, fields["containment"])
        case "polygon":
            flat = fields["vertices_deg"]
            return Polygon(tuple(zip(flat[::2], flat[1::2], strict=True)), fields["containment"])
        case "map" if load_map is not None:
            return load_map(fields["skymap_sha256"], fields["skymap_path"])
    raise Rejected("unknown_shape", f"region of shape {fields['shape']!r}")


def _region(fields: Mapping[str, Any], localization: Localization) -> Region:
    order = fields["order"]
    start, end = fields["window_days"]
    return Region(
        event_id=fields["event_id"],
        version=fields["version"],
        notice_id=fields["notice_id"],
        mission=fields["mission"],
        instrument=fields["instrument"],
        kind=fields["kind"],
        messenger=fields["messenger"],
        role=fields["role"],
        alert_type=fields["alert_type"],
        issued=from_iso(fields["issued"]),
        order=(order["issued_unix"], order["kind_rank"], order["serial"]),
        trigger_time=from_iso(fields["trigger_time"]),
        localization=localization,
        chain=fields["chain"],
        window=Window(start, end),
        level=fields["level"],
        level_silver=fields["level_silver"],
        area90_deg2=fields["area90_deg2"],
        significant=fields["significant"],
        far_hz=fields["far_hz"],
        event_class=fields["event_class"],
        distance_mpc=fields["distance_mpc"],
        distance_error_mpc=fields["distance_error_mpc"],
        expires=from_iso(fields["expires"]),
        notice_sha256=fields["notice_sha256"],
        skymap_sha256=fields["skymap_sha256"],
        feed=fields["feed"],
        systematic_included=fields["systematic_included"],
        localized_by=fields["localized_by"],
        streams=tuple(fields["streams"]),
        feed_version=fields["feed_version"],
    )
