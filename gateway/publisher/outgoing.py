"""VOEvents as they leave: made from statements, and which of them VTP subscribers hear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crossmatch.model import TIERS
from gateway.config import Publish
from voevents.build import build_voevent, candidate_ivoid


@dataclass(frozen=True, slots=True)
class Packet:
    """A VOEvent made from a statement.

    ``first`` when it is the first of its pair that VTP subscribers hear of.
    """

    ivoid: str
    pair: str
    xml: bytes
    by_vtp: bool
    first: bool


class Packets:
    """Makes VOEvents and remembers which candidates VTP subscribers have heard of.

    Parameters
    ----------
    settings : Publish
    heard : iterable of str
        Pairs of counterpart and event, with their private stream if any, that were marked
        for VTP before.
    """

    def __init__(self, settings: Publish, heard: Iterable[str] = ()) -> None:
        self._settings = settings
        self._heard = set(heard)

    def ivoid(self, statement: Mapping[str, Any], stream: str = "") -> str:
        """IVOID of the VOEvent that :meth:`make` would give."""
        return candidate_ivoid(statement, self._settings.author_ivo, stream)

    def make(self, statement: Mapping[str, Any], stream: str = "") -> Packet:
        """VOEvent of one statement, as everybody or as a private stream shall see it."""
        settings = self._settings
        # Streams have small letters, counterparts begin with capitals.
        private = f"{stream}/" if stream else ""
        pair = f"{private}{statement['counterpart_id']}/{statement['event_id']}"
        good = TIERS.index(statement["tier"]) >= TIERS.index(settings.min_tier)
        heard = pair in self._heard
        by_vtp = heard or (good and statement["state"] == "in_force")
        packet = Packet(
            ivoid=self.ivoid(statement, stream),
            pair=pair,
            xml=build_voevent(
                statement,
                author_ivo=settings.author_ivo,
                contact_name=settings.contact_name,
                contact_email=settings.contact_email,
                observatory=settings.observatory,
                stream=stream,
            ),
            by_vtp=by_vtp,
            first=by_vtp and not heard,
        )
        # Only now: nobody hears of what could not be built.
        if by_vtp:
            self._heard.add(pair)
        return packet
