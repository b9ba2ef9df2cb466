"""Transport messages: ``iamalive``, ``ack``, ``nak``, ``authenticate``.

Comet's own builders ask the clock themselves, so these take the time. Order of
the children as in ``transport-1.1.xsd``: Origin, Response, TimeStamp, Meta.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from lxml import etree

_NAMESPACE = "http://www.telescope-networks.org/xml/Transport/v1.1"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_LOCATION = (
    "http://telescope-networks.org/schema/Transport/v1.1"
    " http://www.telescope-networks.org/schema/Transport-v1.1.xsd"
)

Role = Literal["iamalive", "ack", "nak", "authenticate"]


def transport_message(
    role: Role,
    *,
    origin: str,
    now: datetime,
    response: str = "",
    result: str = "",
    filters: Sequence[str] = (),
) -> bytes:
    """One Transport message.

    Parameters
    ----------
    role : str
        What it says.
    origin : str
        IVOID of the event that is answered, or of the broker that speaks first.
    now : datetime
        With time zone; written in UTC.
    response : str
        IVOID of whoever answers; empty when nothing is answered.
    result : str
        For people: why a packet was refused.
    filters : sequence of str
        XPath expressions that we ask another broker to apply.
    """
    root = etree.Element(
        f"{{{_NAMESPACE}}}Transport",
        attrib={"role": role, "version": "1.0", f"{{{_XSI}}}schemaLocation": _LOCATION},
        nsmap={"trn": _NAMESPACE, "xsi": _XSI},
    )
    etree.SubElement(root, "Origin").text = origin
    if response:
        etree.SubElement(root, "Response").text = response
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    etree.SubElement(root, "TimeStamp").text = stamp
    if result or filters:
        meta = etree.SubElement(root, "Meta")
        for xpath in filters:
            etree.SubElement(meta, "Param", attrib={"name": "xpath-filter", "value": xpath})
        if result:
            etree.SubElement(meta, "Result").text = _printable(result)
    message: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return message


def frame(payload: bytes) -> bytes:
    """``payload`` behind its length, four bytes, big-endian."""
    return struct.pack(">I", len(payload)) + payload


def _printable(text: str) -> str:
    # Reasons quote what came in, and not all of that is allowed in XML.
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:1000]
