"""What came over the wire: a VOEvent or a Transport message, recognised by local name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lxml import etree

from crossmatch.errors import NoticeError
from voevents.document import safe_root
from voevents.validate import local_name

# No line breaks or blanks: the identifier goes into receipts and logs.
_PLAIN = re.compile(r"[!-~\u00a1-\uffff]{1,1024}")
_IVORN = re.compile(rb"""\sivorn\s*=\s*["']\s*(ivo://[!#-%(-;=-~]{1,1000})["']""")


@dataclass(frozen=True, slots=True)
class Packet:
    """One well-formed message.

    ``role`` is empty when the attribute is missing; ``ivoid`` is the event's
    identifier, or the ``Origin`` of a Transport message.
    """

    kind: Literal["voevent", "transport"]
    role: str
    ivoid: str
    raw: bytes = field(repr=False)
    root: etree._Element = field(repr=False, compare=False)

    def values(self, name: str) -> list[str]:
        """Texts of all elements with this local name."""
        return [(e.text or "").strip() for e in self.root.iter() if local_name(e) == name]

    def asks_for_filters(self) -> bool:
        """Whether an ``authenticate`` answer carries XPath filters, new or old style."""
        return any(
            (local_name(e) == "Param" and e.get("name") == "xpath-filter")
            or (local_name(e) == "filter" and e.get("type", "xpath") == "xpath")
            for e in self.root.iter()
        )


def read_packet(raw: bytes) -> Packet:
    """Packet in ``raw``.

    Raises
    ------
    NoticeError
        As :func:`voevents.document.safe_root` for what is no XML; ``bad_ivoid`` for a
        VOEvent without an identifier or with blanks in it; ``not_voevent`` for a
        document that is neither a VOEvent nor a Transport message. Three namespaces of
        Transport are in use, so names are compared without theirs.
    """
    root = safe_root(raw)
    name = local_name(root)
    role = root.get("role", "").strip()
    if name == "VOEvent":
        ivoid = (root.get("ivorn") or "").strip()
        if not _PLAIN.fullmatch(ivoid):
            raise NoticeError("bad_ivoid", f"ivorn {ivoid[:200]!r} cannot be an identifier")
        return Packet("voevent", role, ivoid, raw, root)
    if name == "Transport":
        origin = next((e.text or "" for e in root.iter() if local_name(e) == "Origin"), "").strip()
        return Packet("transport", role, origin if _PLAIN.fullmatch(origin) else "", raw, root)
    raise NoticeError("not_voevent", f"a {name[:60]}, neither VOEvent nor Transport")


def guessed_ivoid(raw: bytes) -> str:
    """IVOID that stands in a broken packet, so that a ``nak`` can name it; or empty."""
    found = _IVORN.search(raw[:4096])
    return found[1].decode("ascii") if found else ""
