"""Candidates as VOEvents: one record in, one valid VOEvent 2.0 document out.

The same record gives the same bytes: dates come from the record, never from a
clock. ``voeventparse`` makes the skeleton; its list helpers (``add_citations``
and others) need ``collections.Iterable``, gone since Python 3.10, so children
are appended here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import voeventparse
from lxml import etree, objectify

from crossmatch.columns import CANDIDATE_FIELDS, Field
from crossmatch.errors import NoticeError
from voevents.validate import ROLES, validate_voevent

# What a robot decides on stands first, in the order in which it asks.
GROUPS: dict[str, tuple[str, ...]] = {
    "Candidate": (
        "role", "alert_type", "counterpart_id", "tier",
        "ra", "dec", "ra_dec_error",
        "mag", "filter", "observation_start", "mag_error", "mag_system",
        "fade_rate", "fade_rate_error", "fade_filter",
        "expires",
        "state", "reason", "candidate_id", "record_number", "supersedes",
        "alert_datetime", "alert_tense", "stream", "streams", "score", "factors",
    ),
    "Event": (
        "event_id", "event_name", "messenger", "ref_type", "ref_instrument", "ref_ID",
        "event_version", "event_trigger_time", "event_far", "event_class", "event_area_90",
        "significant", "luminosity_distance", "luminosity_distance_error",
        "systematic_included", "containment_probability",
        "credible_level", "probability_density", "separation",
    ),
    "Counterpart": (
        "survey", "id", "alert_id", "n_alerts", "n_detections", "first_detection",
        "last_detection", "time_offset_first", "time_offset_last", "real_bogus",
    ),
    "Photometry": (
        "limiting_mag", "last_nondetection_time", "last_nondetection_mag", "rise_rate",
        "color", "color_filters", "absolute_magnitude",
    ),
    "Context": (
        "host_name", "host_distance", "host_offset", "redshift", "p_cc",
        "simbad_name", "simbad_type", "simbad_distance",
        "star_distance", "star_significance", "star_galaxy_score", "nearest_star_distance",
        "agn_name", "agn_distance", "known_transient", "known_transient_distance",
        "variable_name", "variable_type", "variable_distance",
        "minor_planet", "minor_planet_distance",
        "nearby", "looked_up", "galactic_latitude", "ecliptic_latitude",
    ),
    "Provenance": (
        "feed", "feed_version", "notice_sha256", "skymap_sha256", "alert_sha256",
        "catalog_versions", "cuts_version", "code_version",
    ),
}  # fmt: skip

IMPORTANCE = {"bronze": 0.2, "silver": 0.5, "gold": 0.9}
OBSERVATORIES = MappingProxyType({"ztf": "Palomar", "lsst": "Cerro Pachon"})
# Error2Radius is mandatory; single-epoch astrometry of both surveys is well within this.
POSITION_ERROR_DEG = 1.0 / 3600.0

_FIELDS: dict[str, Field] = {field.name: field for field in CANDIDATE_FIELDS}
_DATA_TYPES = {"double": "float", "int": "int", "long": "int"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Allowed as they are in the local part of an IVOID (IVOA Identifiers 2.0, section 2.3.4).
_LOCAL_SAFE = "-._~:+=,;@"


def candidate_ivoid(candidate: Mapping[str, Any], author_ivo: str, stream: str = "") -> str:
    """IVOID of a statement: ``<author_ivo>/candidates#<candidate_id>``, percent-encoded.

    Different ``candidate_id`` give different IVOIDs. The copy for a private stream is
    ``<author_ivo>/private/<stream>/candidates#<candidate_id>``, so that it never has the
    name of a public one, whatever a feed calls its events.
    """
    return _minted(author_ivo, _resource("candidates", stream), str(candidate["candidate_id"]))


def reference_ivoid(candidate: Mapping[str, Any], author_ivo: str, stream: str = "") -> str:
    """IVOID of the notice that ``candidate`` follows up.

    ``ref_ID`` itself where the mission gave an IVOID. Notices that come as JSON
    have none; then a stable one is made in the author's own name space,
    ``<author_ivo>/notices#<ref_ID>``: names under a mission's authority are the
    mission's to give. Characters that an IVOID may not have are percent-encoded.
    """
    reference = str(candidate["ref_ID"])
    if reference.startswith("ivo://"):
        return _text(reference)
    return _minted(author_ivo, _resource("notices", stream), reference)


def build_voevent(
    candidate: Mapping[str, Any],
    *,
    author_ivo: str,
    contact_name: str = "",
    contact_email: str = "",
    observatory: Mapping[str, str] = OBSERVATORIES,
    stream: str = "",
) -> bytes:
    """VOEvent 2.0 document of one candidate record, UTF-8, checked with the schema.

    Parameters
    ----------
    candidate : mapping
        Keys of `crossmatch.columns.CANDIDATE_FIELDS`; None or a missing key
        leaves the Param out. ``alert_datetime`` becomes ``Who/Date``.
    author_ivo : str
        Author's IVOID without a local part, for example ``ivo://org.mmgateway``.
    contact_name, contact_email : str
        Whom to ask; empty: left out.
    observatory : mapping of str to str
        Survey to ``ObservatoryLocation``; one that is not there is on the Earth's
        surface (``GEOSURFACE``).
    stream : str
        Private stream that this copy is for; empty: everybody.

    Returns
    -------
    bytes
        Citations: ``followup`` of the event's notice (see `reference_ivoid`);
        an update ``supersedes`` the statement before; a withdrawal cites that
        one as ``retraction`` and nothing else, with the reason, because
        a retraction concerns all that it is said of.

    Raises
    ------
    NoticeError
        ``candidate_incomplete`` if a value that the document needs is missing,
        ``wrong_stream`` if the candidate may not be seen there, ``candidate_invalid``
        for a number that is not finite, a position off
        the sky, a role that is none or a time that is none; ``schema_invalid``.
    """
    _require(candidate)
    _require_audience(candidate, stream)
    event = voeventparse.Voevent(
        stream=f"{_authority(author_ivo)}/{_resource('candidates', stream)}",
        stream_id=_local(str(candidate["candidate_id"])),
        role=candidate["role"],
    )
    _add_who(event, candidate, author_ivo, contact_name, contact_email)
    _add_what(event, candidate)
    _add_where_when(event, candidate, observatory.get(candidate["survey"]) or "GEOSURFACE")
    _add_how(event, candidate)
    _add_why(event, candidate)
    _add_citations(event, candidate, author_ivo, stream)
    document: bytes = voeventparse.dumps(event, pretty_print=True)
    validate_voevent(document)
    return document


def _require(candidate: Mapping[str, Any]) -> None:
    for name in ("candidate_id", "role", "alert_type", "alert_datetime", "ref_ID", "ra", "dec",
                 "observation_start", "tier", "survey", "id", "event_name"):  # fmt: skip
        if candidate.get(name) in (None, ""):
            raise NoticeError("candidate_incomplete", f"the candidate has no {name}")
    if candidate["role"] not in ROLES:
        raise NoticeError("candidate_invalid", f"role {candidate['role']!r} is none of {ROLES}")
    if not (0.0 <= candidate["ra"] < 360.0 and -90.0 <= candidate["dec"] <= 90.0):
        where = f"({candidate['ra']}, {candidate['dec']})"
        raise NoticeError("candidate_invalid", f"position {where} is not on the sky")
    if candidate["alert_type"] == "retraction" and not candidate.get("supersedes"):
        raise NoticeError("candidate_incomplete", "a retraction that does not say what of")


def _require_audience(candidate: Mapping[str, Any], stream: str) -> None:
    streams = candidate.get("streams") or ()
    if stream not in (streams or ("",)):
        where = f"the private stream {stream}" if stream else "everybody"
        raise NoticeError("wrong_stream", f"for {', '.join(streams) or 'everybody'}, not {where}")


def _add_who(
    event: Any, candidate: Mapping[str, Any], author_ivo: str, name: str, email: str
) -> None:
    voeventparse.set_who(event, author_ivorn=_authority(author_ivo))
    event.Who.Date = _iso(candidate["alert_datetime"], "alert_datetime")
    event.Who.Description = "Optical counterpart candidate, stated by a program."
    voeventparse.set_author(
        event,
        title="Multi-messenger crossmatch and event gateway",
        shortName="mmgateway",
        contactName=_text(name) or None,
        contactEmail=_text(email) or None,
    )


def _add_what(event: Any, candidate: Mapping[str, Any]) -> None:
    named = {name for names in GROUPS.values() for name in names}
    unsorted = tuple(name for name in _FIELDS if name not in named)
    for group, names in GROUPS.items():
        # A column that joins later without a place of its own is context.
        wanted = names + unsorted if group == "Context" else names
        told = [(_FIELDS[name], candidate.get(name)) for name in wanted]
        params = [_param(field, value) for field, value in told if not _is_nothing(value)]
        if params:
            event.What.append(voeventparse.Group(params, name=group))


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and not value)


def _param(field: Field, value: Any) -> Any:
    param = voeventparse.Param(
        name=field.name,
        value=_value(field, value),
        unit=field.unit or None,
        ucd=field.ucd or None,
        dataType=_DATA_TYPES.get(field.kind, "string"),
    )
    if field.doc:
        param.Description = field.doc
    return param


def _value(field: Field, value: Any) -> str:
    """Text of a value; floats in the shortest form that reads back the same."""
    if field.kind == "double":
        if not math.isfinite(value):
            raise NoticeError("candidate_invalid", f"{field.name} is {value}")
        return repr(float(value))
    if field.kind in ("int", "long"):
        return str(int(value))
    if field.kind == "boolean":
        return "true" if value else "false"
    if field.kind == "strings":
        return _text("; ".join(str(item) for item in value))
    return _text(str(value))


def _add_where_when(event: Any, candidate: Mapping[str, Any], location: str) -> None:
    error = candidate.get("ra_dec_error")
    voeventparse.add_where_when(
        event,
        coords=voeventparse.Position2D(
            ra=float(candidate["ra"]),
            dec=float(candidate["dec"]),
            err=POSITION_ERROR_DEG if error is None else float(error),
            units="deg",
            system="UTC-ICRS-TOPO",
        ),
        obs_time=_time(candidate["observation_start"], "observation_start"),
        observatory_location=_text(location),
    )
    position = event.find(".//Position2D")
    # repr keeps every digit; the library's own conversion does not promise to.
    position.Value2.C1 = repr(float(candidate["ra"]))
    position.Value2.C2 = repr(float(candidate["dec"]))


def _add_how(event: Any, candidate: Mapping[str, Any]) -> None:
    voeventparse.add_how(
        event,
        descriptions=_text(
            f"Alert {candidate.get('alert_id') or ''} of {candidate['survey']} object"
            f" {candidate['id']}, matched in position and time with notice"
            f" {candidate['ref_ID']}. The hashes under Provenance name the inputs."
        ),
    )


def _add_why(event: Any, candidate: Mapping[str, Any]) -> None:
    withdrawn = candidate["alert_type"] == "retraction"
    voeventparse.add_why(
        event, importance=0.0 if withdrawn else IMPORTANCE.get(candidate["tier"], 0.0)
    )
    if candidate.get("expires"):
        event.Why.attrib["expires"] = _iso(candidate["expires"], "expires")
    _child(event.Why, "Concept", "process.variation.burst;em.opt")
    _child(event.Why, "Description", f"{candidate['tier']}: {candidate.get('reason') or ''}")
    if withdrawn:
        return
    inference = voeventparse.Inference(relation="associated", name=_text(candidate["event_name"]))
    level = candidate.get("credible_level")
    if level is not None:
        text = f"The position lies at credible level {_value(_FIELDS['credible_level'], level)}"
        _child(inference, "Description", f"{text} of the event's localisation.")
    event.Why.append(inference)


def _add_citations(event: Any, candidate: Mapping[str, Any], author_ivo: str, stream: str) -> None:
    before = candidate.get("supersedes")
    cited: list[tuple[str, str]] = []
    if before:
        retracted = candidate["alert_type"] == "retraction"
        cite = "retraction" if retracted else "supersedes"
        cited.append((_minted(author_ivo, _resource("candidates", stream), str(before)), cite))
    if candidate["alert_type"] != "retraction":
        cited.append((reference_ivoid(candidate, author_ivo, stream), "followup"))
    citations = etree.SubElement(event, "Citations")
    for ivoid, cite in cited:
        citations.append(voeventparse.EventIvorn(ivoid, cite))
    if candidate.get("reason"):
        _child(citations, "Description", candidate["reason"])


def _child(parent: Any, name: str, text: str) -> None:
    element = objectify.SubElement(parent, name)
    parent[name][-1] = _text(text)
    del element


def _authority(author_ivo: str) -> str:
    return author_ivo.removeprefix("ivo://").split("#", 1)[0].rstrip("/")


def _local(name: str) -> str:
    return quote(_text(name), safe=_LOCAL_SAFE)


def _resource(name: str, stream: str) -> str:
    return f"private/{stream}/{name}" if stream else name


def _minted(author_ivo: str, resource: str, name: str) -> str:
    return f"ivo://{_authority(author_ivo)}/{resource}#{_local(name)}"


def _text(text: str) -> str:
    """Text with what XML cannot carry replaced, so that a stray byte loses no candidate."""
    return _NOT_XML.sub("\ufffd", text)


def _time(value: str | datetime, name: str) -> datetime:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError as error:
        raise NoticeError("candidate_invalid", f"{name} {value!r} is not a time") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _iso(value: str | datetime, name: str) -> str:
    """ISO 8601 in UTC without a designator, as VOEvent has it."""
    return _time(value, name).replace(tzinfo=None).isoformat()
