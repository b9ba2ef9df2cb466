"""Is this a VOEvent? The schema, and the checks that the schema cannot express.

XML is read without DTD, entities or network, and libxml2's limits on depth and text
length stay on.
"""

from __future__ import annotations

import math

from lxml import etree

from crossmatch.errors import NoticeError
from voevents.parse import ROLES, VERSIONS, parse_voevent
from voevents.schema import NAMESPACE_2_0, schema_fault
from voevents.times import parse_time

__all__ = [
    "NAMESPACE_2_0",
    "ROLES",
    "check_submission",
    "local_name",
    "parse_xml",
    "validate_submission",
    "validate_voevent",
]


def parse_xml(data: bytes) -> etree._Element:
    """Root element of a document, read with nothing but the bytes given.

    Raises
    ------
    NoticeError
        ``xml_broken`` if it is not well-formed, ``xml_dtd`` if it has a
        document type declaration (where entities are defined).
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise NoticeError("xml_broken", f"not well-formed XML: {error}") from error
    if root.getroottree().docinfo.doctype:
        raise NoticeError("xml_dtd", "a VOEvent needs no DOCTYPE and may not bring one")
    return root


def local_name(element: etree._Element) -> str:
    """Name of ``element`` without its namespace; empty for comments and the like."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def validate_voevent(data: bytes) -> None:
    """Pass silently if ``data`` is a VOEvent 2.0 document by its XML schema.

    Compiled at the first call; safe to call from several threads.

    Raises
    ------
    NoticeError
        ``xml_broken``, ``xml_dtd`` or ``schema_invalid``, the last with
        the line and what the schema expected there.
    """
    _validate_root(parse_xml(data))


def check_submission(data: bytes) -> None:
    """Pass silently if ``data`` is a VOEvent that we can read, whatever the schema says of it.

    Missions send packets that fail the schema (GECAM's ``datatype``), and a ``nak`` would
    be for ever. Refused is what no region could be made of: see
    :func:`voevents.parse.parse_voevent`, and ``bad_time`` for a position at no readable time.

    Raises
    ------
    NoticeError
        With the reason.
    """
    packet = parse_voevent(data)
    if packet.time_fault and packet.isotime is None and packet.ra_deg is not None:
        raise NoticeError("bad_time", packet.time_fault)


def validate_submission(data: bytes) -> None:
    """Pass silently if ``data`` is a VOEvent that follows the rules to the letter.

    VOEvent 2.0 must satisfy the schema. Of versions 1.1 and 2.1, for which we
    ship none, only what follows is asked. In all versions positions in degrees
    must be finite, with \\|C1\\| <= 360 and \\|C2\\| <= 90 (missions that know no
    position send -1, so the sign is not ours to refuse), and an ``ISOTime``
    must be a time.

    Raises
    ------
    NoticeError
        As `validate_voevent`; ``not_a_voevent``, ``version_unknown``,
        ``position_invalid``, ``bad_time``.
    """
    root = parse_xml(data)
    if local_name(root) != "VOEvent":
        raise NoticeError("not_a_voevent", f"the document is a {local_name(root)}, not a VOEvent")
    version = root.get("version", "")
    if version not in VERSIONS:
        raise NoticeError(
            "version_unknown", f"version {version[:20]!r} is none of {', '.join(VERSIONS)}"
        )
    if version == "2.0":
        _validate_root(root)
    _check_positions(root)
    _check_times(root)


def _validate_root(root: etree._Element) -> None:
    fault = schema_fault(root)
    if fault is not None:
        raise NoticeError("schema_invalid", f"line {fault[0]}: {fault[1]}")


def _elements(root: etree._Element, name: str) -> list[etree._Element]:
    return [element for element in root.iter() if local_name(element) == name]


def _check_positions(root: etree._Element) -> None:
    for position in _elements(root, "Position2D"):
        if position.get("unit", "deg") not in ("deg", "degree", "degrees"):
            continue
        for name, limit in (("C1", 360.0), ("C2", 90.0)):
            for element in _elements(position, name):
                text = (element.text or "").strip()
                if not _within(text, limit):
                    raise NoticeError(
                        "position_invalid", f"{name} is {text!r}, not within {limit:g} degrees"
                    )


def _within(text: str, limit: float) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and abs(value) <= limit


def _check_times(root: etree._Element) -> None:
    for element in _elements(root, "ISOTime"):
        parse_time(element.text or "")
