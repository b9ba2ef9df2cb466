"""Is this a VOEvent? The schema, and the checks that the schema cannot express.

The XSD is the one that the package ``comet`` carries (``comet/schema``). XML is
read without DTD, entities or network, and libxml2's limits on depth and text
length stay on.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from importlib import resources

from lxml import etree

from crossmatch.errors import NoticeError
from voevents.times import parse_time

NAMESPACE_2_0 = "http://www.ivoa.net/xml/VOEvent/v2.0"
VERSIONS = ("1.0", "1.1", "2.0", "2.1")
ROLES = ("observation", "prediction", "utility", "test")

# lxml keeps the error log of a validation on the schema object, so one thread at a time.
_LOCK = threading.Lock()


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


def validate_submission(data: bytes) -> None:
    """Pass silently if ``data`` is a VOEvent that a broker should accept from an author.

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


@cache
def _schema() -> etree.XMLSchema:
    path = resources.files("comet") / "schema" / "VOEvent-v2.0.xsd"
    return etree.XMLSchema(etree.fromstring(path.read_bytes()))


def _validate_root(root: etree._Element) -> None:
    with _LOCK:
        schema = _schema()
        if schema.validate(root):
            return
        first = schema.error_log[0]
        where, what = first.line, first.message
    raise NoticeError("schema_invalid", f"line {where}: {what}")


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
