"""VOEvent XML to a frozen packet: bounded, without DTD, entities or network.

Element names are matched by their local part, because packets occur with the
``voe:`` prefix, with a default namespace, and, after a journey through other
brokers, with no namespace at all. Versions 1.1, 2.0 and 2.1 are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxml.etree import _Element as Element

from crossmatch.errors import NoticeError
from voevents.document import safe_root
from voevents.schema import NAMESPACE_2_0, schema_fault
from voevents.times import TIME_SYSTEMS, parse_time, truncated_julian_time

MAX_IVOID = 1000

# Above this a packet is read, but no longer compared with the schema.
MAX_VALIDATED = 256 * 1024

VERSIONS = ("1.0", "1.1", "2.0", "2.1")
ROLES = ("observation", "prediction", "utility", "test")
CITES = ("followup", "supersedes", "retraction")
FRAMES = ("ICRS", "FK5")
_NOWHERE = (-1.0, -999.0)

_KNOWN_NAMESPACES = re.compile(r"http://www\.ivoa\.net/xml/VOEvent/v(1\.1|2\.0|2\.1)$")
_DEGREES = {
    "deg": 1.0, "degree": 1.0, "degrees": 1.0, "deg deg": 1.0, "deg-deg": 1.0, "": 1.0,
    "rad": 180 / math.pi, "radian": 180 / math.pi, "arcmin": 1 / 60, "arcsec": 1 / 3600,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """What one VOEvent says, normalised as far as every mission agrees.

    ``params`` maps each Param's name to its value, in document order; a grouped
    Param is there as ``Group.name`` too, and yields the plain name to an
    ungrouped one. ``isotime`` and ``date`` are UTC, whatever ``time_system`` says.
    The position is in degrees, ICRS or FK5 (they agree within 0.03 arcsec); it
    is ``None`` when absent or a sentinel. ``error_deg`` may be 0 or
    negative: what that means is the mission's affair. ``citations`` holds
    (cite, IVOID). ``notes`` tells departures from the schema that do no harm.
    ``time_fault`` says what is wrong with an ISOTime that cannot be read; ``isotime``
    is then what the Params say, if they do.
    """

    ivoid: str
    role: str
    version: str
    author_ivoid: str
    date: datetime | None
    params: Mapping[str, str]
    isotime: datetime | None
    time_system: str
    coord_system: str
    ra_deg: float | None
    dec_deg: float | None
    error_deg: float | None
    position_note: str
    citations: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    concepts: tuple[str, ...]
    importance: float | None
    description: str
    packet_type: int | None
    notes: tuple[str, ...]
    time_fault: str = ""


def parse_voevent(data: bytes) -> Packet:
    """Packet of one VOEvent document.

    Parameters
    ----------
    data : bytes
        UTF-8, ASCII or Latin XML of at most 4 MiB and 64 levels.

    Returns
    -------
    Packet

    Raises
    ------
    NoticeError
        With the reason ``too_large``, ``too_deep``, ``xml_encoding``, ``xml_dtd``,
        ``xml_broken``, ``not_voevent``, ``bad_version``, ``no_ivoid``, ``bad_ivoid``,
        ``bad_role``, ``bad_position`` or ``bad_citation``.
    """
    root = safe_root(data)
    notes: list[str] = []
    _check_envelope(root, notes)
    _compare_with_schema(root, len(data), notes)
    who, what = _child(root, "Who"), _child(root, "What")
    where_when, why = _child(root, "WhereWhen"), _child(root, "Why")
    params = _params(what, notes)
    coords = _coords(where_when)
    time_system, frame, coord_system = _coord_system(where_when, coords, notes)
    isotime, time_fault = _time(coords, time_system, params, notes)
    ra, dec, error, position_note = _position(coords, frame)
    return Packet(
        ivoid=root.get("ivorn", "").strip(),
        role=root.get("role") or "observation",
        version=root.get("version", ""),
        author_ivoid=_text(_child(who, "AuthorIVORN")) or _text(_child(who, "AuthorIVOID")),
        date=_date(who, notes),
        params=params,
        isotime=isotime,
        time_system=time_system,
        coord_system=coord_system,
        ra_deg=ra,
        dec_deg=dec,
        error_deg=error,
        position_note=position_note or _text(_child(where_when, "Description")),
        citations=_citations(root),
        references=tuple(r.get("uri", "") for r in _all(root, "Reference") if r.get("uri")),
        concepts=tuple(filter(None, (_text(c) for c in _all(why, "Concept")))),
        importance=_number(why.get("importance")) if why is not None else None,
        description=_text(_child(root, "Description")),
        packet_type=_integer(params.get("Packet_Type")),
        notes=tuple(notes),
        time_fault=time_fault,
    )


def _check_envelope(root: Element, notes: list[str]) -> None:
    namespace, _, local = str(root.tag).rpartition("}")
    namespace = namespace.removeprefix("{")
    if local != "VOEvent":
        raise NoticeError("not_voevent", f"root element {local[:60]!r}; expected VOEvent")
    if not namespace:
        notes.append("no namespace")
    elif not _KNOWN_NAMESPACES.match(namespace):
        notes.append(f"unknown namespace {namespace[:80]}")
    version = root.get("version", "")
    if not version:
        notes.append("no version")
    elif version not in VERSIONS:
        raise NoticeError(
            "bad_version", f"VOEvent version {version[:20]!r}; expected 1.1, 2.0, 2.1"
        )
    ivoid = root.get("ivorn", "").strip()
    if not ivoid:
        raise NoticeError("no_ivoid", "the VOEvent element has no ivorn")
    if len(ivoid) > MAX_IVOID:
        raise NoticeError("bad_ivoid", f"an ivorn of {len(ivoid)} characters; at most {MAX_IVOID}")
    if not ivoid.startswith("ivo://") or len(ivoid.split()) != 1:
        notes.append("ivorn is not an IVOID")
    role = root.get("role")
    if role is None:
        notes.append("no role: observation by default")
    elif role not in ROLES:
        raise NoticeError("bad_role", f"role {role[:40]!r}; expected one of {', '.join(ROLES)}")


def _compare_with_schema(root: Element, size: int, notes: list[str]) -> None:
    """Missions send what the schema forbids (GECAM: ``datatype``): read all the same, and noted."""
    if root.tag != f"{{{NAMESPACE_2_0}}}VOEvent" or root.get("version") != "2.0":
        return
    if size > MAX_VALIDATED:
        notes.append("schema: not compared, too large")
        return
    fault = schema_fault(root)
    if fault is not None:
        notes.append(f"schema: {fault[1].replace(f'{{{NAMESPACE_2_0}}}', '')[:200]}")


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _child(element: Element | None, name: str) -> Element | None:
    if element is None:
        return None
    for child in element:
        if _local(child) == name:
            return child
    return None


def _all(element: Element | None, name: str) -> Iterator[Element]:
    return iter(()) if element is None else element.iterdescendants(name, f"{{*}}{name}")


def _text(element: Element | None) -> str:
    return "" if element is None or element.text is None else element.text.strip()


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text and len(text) < 19 else None
    except ValueError:
        return None


def _params(what: Element | None, notes: list[str]) -> dict[str, str]:
    """Params by name; ``Group.name`` besides, and the ungrouped one wins the plain name."""
    params: dict[str, str] = {}
    grouped: dict[str, str] = {}
    for element in () if what is None else what.iterdescendants("Param", "{*}Param"):
        name = element.get("name")
        if not name:
            notes.append("Param without name")
            continue
        value = element.get("value")
        if value is None:
            value = _text(_child(element, "Value"))
        parent = element.getparent()
        group = "" if parent is None or parent is what else parent.get("name") or parent.get("type")
        if group or parent is not what:
            grouped.setdefault(name, value)
            if group:
                params.setdefault(f"{group}.{name}", value)
        elif name in params:
            notes.append(f"Param {name[:40]} repeated")
        else:
            params[name] = value
    for name, value in grouped.items():
        params.setdefault(name, value)
    return params


def _coords(where_when: Element | None) -> Element | None:
    """AstroCoords of the observation; those of the observatory are another place."""
    for location in _all(where_when, "ObservationLocation"):
        return next(_all(location, "AstroCoords"), None)
    return None


def _coord_system(
    where_when: Element | None, coords: Element | None, notes: list[str]
) -> tuple[str, str, str]:
    """Time system, celestial frame and the whole identifier, as in ``UTC-FK5-GEO``."""
    if coords is None:
        return "UTC", "ICRS", ""
    name = coords.get("coord_system_id") or ""
    if not name:
        location = next(_all(where_when, "ObservationLocation"), None)
        system = _child(location, "AstroCoordSystem")
        name = "" if system is None else system.get("id", "")
    parts = re.split(r"[-_ ]+", name.upper())
    if len(parts) < 2:
        notes.append(f"coordinate system {name[:40]!r} taken as UTC-ICRS")
        return "UTC", "ICRS", name
    time_system, frame = parts[:2]
    if time_system in FRAMES:
        # Version 1.1 packets write FK5-UTC-GEO, later ones UTC-FK5-GEO.
        time_system, frame = frame, time_system
    return time_system, frame, name


# The time of the event as GCN's Params give it: truncated Julian day, second of the day (UTC).
_TIME_PARAMS = (
    ("Burst_TJD", "Burst_SOD"),
    ("Event_TJD", "Event_SOD"),
    ("Trigger_TJD", "Trigger_SOD"),
    ("EVENT_DATE", "EVENT_TIME"),
)


def _time(
    coords: Element | None, time_system: str, params: Mapping[str, str], notes: list[str]
) -> tuple[datetime | None, str]:
    """Time of the observation, by the Params if ISOTime cannot be read, and what is wrong with it.

    GECAM wrote ``2023-05-09T8582729.92``: one part that cannot be read is no reason to
    lose the others.
    """
    element = None if coords is None else next(_all(coords, "ISOTime"), None)
    text = _text(element)
    if not text:
        return None, ""
    try:
        if time_system not in TIME_SYSTEMS:
            known = ", ".join(TIME_SYSTEMS)
            raise NoticeError("bad_time", f"time system {time_system[:20]!r}; expected {known}")
        return parse_time(text, time_system), ""
    except NoticeError as error:
        fault = error.detail
    for day, second in _TIME_PARAMS:
        moment = truncated_julian_time(_number(params.get(day)), _number(params.get(second)))
        if moment is not None:
            notes.append(f"ISOTime: {fault}; taken from {day} and {second}")
            return moment, fault
    notes.append(f"ISOTime: {fault}")
    return None, fault


def _date(who: Element | None, notes: list[str]) -> datetime | None:
    text = _text(_child(who, "Date"))
    if not text:
        notes.append("no Date")
        return None
    try:
        return parse_time(text)
    except NoticeError as error:
        notes.append(f"Date: {error.detail}")
        return None


def _position(
    coords: Element | None, frame: str
) -> tuple[float | None, float | None, float | None, str]:
    nothing = (None, None, None, "")
    if coords is None:
        return nothing
    element = _child(coords, "Position2D")
    if element is None:
        element = _child(coords, "Position3D")
    if element is None:
        return nothing
    values = next((e for e in element if _local(e) in ("Value2", "Value3")), None)
    if values is None:
        return nothing
    first, second = _text(_child(values, "C1")), _text(_child(values, "C2"))
    if not first and not second:
        return nothing
    if frame not in FRAMES:
        raise NoticeError("bad_position", f"celestial frame {frame[:20]!r}; expected ICRS or FK5")
    if _text(_child(element, "Name1")).lower() in ("dec", "declination"):
        first, second = second, first
    scale = _scale(element.get("unit", ""))
    ra, dec = _finite(first, "C1"), _finite(second, "C2")
    error_text = _text(_child(element, "Error2Radius"))
    error = _finite(error_text, "Error2Radius") if error_text else None
    if is_sentinel(ra, dec, error):
        return None, None, None, "sentinel"
    ra, dec = ra * scale, dec * scale
    check_position(ra, dec)
    return ra % 360.0, dec, None if error is None else error * scale, ""


def _scale(unit: str) -> float:
    try:
        return _DEGREES[" ".join(unit.lower().split())]
    except KeyError:
        raise NoticeError("bad_position", f"position in unit {unit[:20]!r}; expected deg") from None


def _finite(text: str, name: str) -> float:
    value = _number(text)
    if value is None:
        raise NoticeError("bad_position", f"{name} is {text[:40]!r}; expected a finite number")
    return value


def is_sentinel(lon: float, lat: float, error: float | None) -> bool:
    """Whether a position says that there is none: (-1, -1) or (-999, -999), without an error."""
    return lon == lat and lon in _NOWHERE and (error is None or error <= 0)


def check_position(ra_deg: float, dec_deg: float) -> None:
    """Refuse a position off the sphere: right ascension in [0, 360], declination in [-90, 90].

    Raises
    ------
    NoticeError
        ``bad_position``.
    """
    if not (0.0 <= ra_deg <= 360.0 and -90.0 <= dec_deg <= 90.0):
        raise NoticeError(
            "bad_position", f"({ra_deg:g}, {dec_deg:g}) deg is not on the sphere (0..360, -90..90)"
        )


def _citations(root: Element) -> tuple[tuple[str, str], ...]:
    """(cite, IVOID) of all ``Citations``: the schema has one, but a second may retract."""
    found: list[tuple[str, str]] = []
    for child in (c for element in root if _local(element) == "Citations" for c in element):
        if _local(child) not in ("EventIVORN", "EventIVOID"):
            continue
        cite, ivoid = child.get("cite") or "followup", _text(child)
        if cite not in CITES:
            raise NoticeError("bad_citation", f"cite {cite[:40]!r}; expected {', '.join(CITES)}")
        if ivoid:
            found.append((cite, ivoid))
    return tuple(found)
