"""Packets from Kafka while it has them, and from the store afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from broker.diskguard import PacketNews
from broker.packetfiles import Address, Packet
from broker.packetstore import CHUNK_BYTES, Kept, PacketStore
from crossmatch.errors import ServiceError

_FIRST_GUESS = 128 * 1024


class PacketSource(Protocol):
    """Whoever has packets by their address: `broker.kafka_io.PacketReader`, or a test."""

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        """Packets at ``addresses``; those that are no longer there are left out."""


class PacketKeeper:
    """Stands wherever a `PacketReader` is asked for packets.

    Parameters
    ----------
    reader : PacketSource
        Kafka.
    store : PacketStore or None
        None: nothing is kept ([archive] packets = "none").
    now : callable
        The clock of the news.
    writes : bool
        False where a query of its own fills the store (packets = "all"): `keep` does nothing.
    on_news : callable
        Gets everything a person should hear of, with the time: for the log, the alarms and the
        ledger.

    Attributes
    ----------
    counts : Counter
        Packets by what became of them: ``from_kafka``, ``from_store``, ``gone``, ``unreadable``,
        ``stored``, ``known``, ``refused``, ``dropped``.
    """

    def __init__(
        self,
        reader: PacketSource,
        store: PacketStore | None,
        now: Callable[[], datetime],
        *,
        writes: bool = True,
        on_news: Callable[[datetime, PacketNews], None] = lambda _at, _news: None,
    ) -> None:
        self._reader = reader
        self._store = store
        self._now = now
        self._writes = writes
        self._on_news = on_news
        self._size = float(_FIRST_GUESS)
        self.counts: Counter[str] = Counter()

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        """Packets at ``addresses``: from Kafka, else from the store.

        What is in neither is left out. All are in memory at a time; `each` gives them in parts.

        Raises
        ------
        ServiceError
            When Kafka does not answer. A broken store only makes packets missing, and is told.
        """
        wanted = sorted(set(addresses))
        found = self._reader.fetch(wanted)
        self.counts["from_kafka"] += len(found)
        missing = [address for address in wanted if address not in found]
        if missing:
            found = found | self._from_store(missing)
        if found:
            # The latest packets tell how large the next ones will be.
            self._size = sum(map(len, found.values())) / len(found)
        return found

    def each(self, addresses: Iterable[Address]) -> Iterator[tuple[Address, bytes]]:
        """The same one after another, with about 64 MB of them in memory."""
        wanted = sorted(set(addresses))
        begin = 0
        while begin < len(wanted):
            part = wanted[begin : begin + max(1, int(CHUNK_BYTES / max(self._size, 1.0)))]
            begin += len(part)
            yield from self.fetch(part).items()

    def keep(self, packets: Sequence[Packet], step: int) -> Kept:
        """Store packets of a step; one that is stored already stays as it is.

        Raises
        ------
        ServiceError
            When the disk fails. That there is no room is told, not raised.
        """
        if self._store is None or not self._writes or not packets:
            return Kept()
        kept = self._store.put(packets, step)
        self.counts.update(stored=kept.stored, known=kept.known, refused=kept.refused)
        for news in kept.news:
            if news.kind == "dropped":
                self.counts["dropped"] += news.packets
            self._on_news(self._now(), news)
        return kept

    def _from_store(self, missing: Sequence[Address]) -> dict[Address, bytes]:
        found: dict[Address, bytes] = {}
        if self._store is not None:
            try:
                found = self._store.get(missing)
            except ServiceError as error:
                found = self._one_by_one(missing, error)
        self.counts["from_store"] += len(found)
        self.counts["gone"] += len(missing) - len(found)
        return found

    def _one_by_one(self, missing: Sequence[Address], error: ServiceError) -> dict[Address, bytes]:
        """What can still be read of a store with a broken file; the broken ones are told."""
        assert self._store is not None
        found: dict[Address, bytes] = {}
        broken = 0
        for address in missing:
            try:
                found |= self._store.get([address])
            except ServiceError:
                broken += 1
        self.counts["unreadable"] += broken
        news = PacketNews(kind="unreadable", packets=broken, bytes=0, text=str(error))
        self._on_news(self._now(), news)
        return found
