"""A message as it came, before and after a feed was found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

from lxml import etree

from voevents.digest import event_digest
from voevents.document import safe_root
from voevents.parse import Packet


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is no notice of an event (heartbeat, pointing, data product), and why.

    What it says of itself is there as far as it could be read cheaply: texts are empty and the
    time is ``None`` otherwise.
    """

    reason: str
    feed: str
    notice_id: str
    kind: str = ""
    role: str = ""
    event_id: str = ""
    trigger_time: datetime | None = None


@dataclass(frozen=True)
class Message:
    """One message as it came, and as far as it was read to recognise it.

    ``packet`` is there for VOEvents, ``record`` for JSON objects.
    """

    raw: bytes = field(repr=False)
    topic: str = ""
    packet: Packet | None = None
    record: Mapping[str, Any] | None = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Digest in hexadecimal: of a VOEvent's ``VOEvent`` element, of all bytes of others."""
        if self.packet is not None:
            return event_digest(self.raw).hex()
        return sha256(self.raw).hexdigest()

    @cached_property
    def tree(self) -> Any:
        """Elements of a VOEvent by local names, for XPath; read when first asked for."""
        return local_tree(self.raw)


def local_tree(data: bytes) -> etree._Element:
    """Tree of a VOEvent, read as safely as everywhere, with local names only.

    Packets occur with the ``voe:`` prefix, with a default namespace and with none; a path
    fits all of them.
    """
    root = safe_root(data)
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    return root
