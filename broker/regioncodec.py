"""Regions and retractions as records of ``mm.regionlog`` and ``mm.regions``, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.codec import decode, encode, from_iso, iso
from crossmatch import sky
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
"""Finest order of the MOC that travels with a region: 3.4 arcmin, so messages stay small."""
# A map of noise has millions of separate cells; Kafka takes messages of 1 MiB. Wider cells do.
MOC_LENGTH = 256 * 1024


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
