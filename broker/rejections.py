"""What a batch rejects: dead letters, and counts by reason and topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import pyarrow as pa

from broker import packets
from broker.codec import encode_dead_letter
from broker.judge import Address
from broker.kafka_io import PacketReader
from broker.sources import Sources
from crossmatch.errors import AlertError, Rejected

MAX_LETTERS_BYTES = 32 << 20
"""Bytes of rejected packets that one batch copies; a transaction is to stay short."""

MAX_LETTER_BYTES = 1 << 20
"""More of a rejected packet than this is not copied; topic and offset tell where it lies."""

FETCH = 500
"""Packets in memory at a time."""


class Rejections:
    """What is rejected of one batch.

    Parameters
    ----------
    reader : PacketReader
        Of packets whose rows are rejected.
    sources : Sources
    now : callable
        The clock of the letters.
    """

    def __init__(self, reader: PacketReader, sources: Sources, now: Callable[[], datetime]) -> None:
        self.letters: list[bytes] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        """Of alerts, by reason and topic."""
        self._reader = reader
        self._sources = sources
        self._now = now
        self._bytes_left = MAX_LETTERS_BYTES

    def message(self, error: Rejected, address: Address, raw: bytes, source: str) -> None:
        """A message of ours that says nothing."""
        # What exceeds the bounds is not copied: topic and offset tell where it lies.
        copied = raw[: max(0, min(MAX_LETTER_BYTES, self._bytes_left))]
        self._bytes_left -= len(copied)
        letter = encode_dead_letter(
            reason=error.reason,
            detail=error.detail,
            source=source,
            raw=copied,
            received=self._now(),
            topic=address[0],
            partition=address[1],
            offset=address[2],
        )
        self.letters.append(letter)

    def alert(self, error: AlertError, address: Address, packet: bytes) -> None:
        """An alert, with its packet as far as that is there."""
        self.counts[error.reason, address[0]] += 1
        self.message(error, address, packet, "alerts")

    def alerts(self, native: pa.Table, rejected: Sequence[tuple[int, str, str]]) -> None:
        """Rows of a table, each with reason and detail; their packets are fetched."""
        if not rejected:
            return
        places = addresses(native.take([row for row, _, _ in rejected]))
        for begin in range(0, len(places), FETCH):
            part = slice(begin, begin + FETCH)
            wanted = places[part] if self._bytes_left > 0 else []
            raw = self._reader.fetch(wanted)
            for (_, reason, detail), address in zip(rejected[part], places[part], strict=True):
                packet = raw.get(address)
                error = self._better(AlertError(reason, detail), packet, address[0])
                self.alert(error, address, packet or b"")

    def _better(self, error: AlertError, packet: bytes | None, topic: str) -> AlertError:
        """What Python says is wrong with a packet that the JVM gave only nulls for."""
        if error.reason != "null_required" or packet is None:
            return error
        try:
            packets.decode_packet(packet, self._sources.survey[topic], self._sources.lsst_schemas)
        except AlertError as better:
            return better
        return error


def addresses(rows: pa.Table) -> list[Address]:
    """Where the packets of rows lie."""
    columns = (rows[name].to_pylist() for name in ("topic", "partition", "offset"))
    return list(zip(*columns, strict=True))
