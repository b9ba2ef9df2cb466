"""What the whole packets of matched alerts tell: light curves and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from broker import packets
from broker.containers import Record
from broker.history import history
from broker.judge import Address, PacketDetail, PacketSource, address_of
from crossmatch.counterpart import MatchedAlert
from crossmatch.errors import AlertError
from crossmatch.lightcurve import Detection


def packet_details(
    fetch: Callable[[Sequence[Address]], Mapping[Address, bytes]],
    survey_of: Mapping[str, str],
    lsst_schemas: Mapping[int, str],
    collect: Callable[[Sequence[tuple[MatchedAlert, bytes]]], object] = lambda _: None,
    read: Callable[[Sequence[Address]], Mapping[Address, Record]] = lambda _: {},
) -> PacketSource:
    """Source of whole packets for the engine: decoded in Python where the JVM did not.

    Parameters
    ----------
    fetch : callable
        From addresses to the packets that can still be had.
    survey_of : mapping of str to str
        Survey of each alert topic.
    lsst_schemas : mapping of int to str
    collect : callable, optional
        Gets the packets of matched alerts, to keep them.
    read : callable, optional
        From addresses to what the JVM read of these packets for their light curves.
    """

    def details(matched: Sequence[MatchedAlert]) -> dict[Address, PacketDetail]:
        # A topic that is no longer configured has no survey: its alerts stay as archived.
        known = {address_of(m.alert): m for m in matched if m.alert["topic"] in survey_of}
        records = read(list(known))
        found, kept = {}, []
        for address, value in fetch(list(known)).items():
            survey = survey_of[address[0]]
            curve = (
                tuple(history(records[address], survey))
                if address in records
                else _history(value, survey, lsst_schemas)
            )
            found[address] = PacketDetail(curve, hashlib.sha256(value).hexdigest())
            kept.append((known[address], value))
        collect(kept)
        return found

    return details


def _history(packet: bytes, survey: str, lsst_schemas: Mapping[int, str]) -> tuple[Detection, ...]:
    """Light curve of a packet; empty if it is broken behind the columns that matching reads."""
    try:
        records = packets.decode_packet(packet, survey, lsst_schemas)
    except AlertError:
        return ()
    return tuple(history(records[0], survey)) if len(records) == 1 else ()
