"""Whole packets of matched alerts: read again for their light curves, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from broker.archive import night_of
from broker.diskguard import Limits, PacketNews
from broker.groups import Group
from broker.judge import address_of
from broker.kafka_io import PacketReader
from broker.packetfiles import Address, Packet
from broker.packetkeeper import PacketKeeper, PacketSource
from broker.packetstore import PacketStore
from crossmatch.counterpart import MatchedAlert
from gateway.config import Config
from gateway.logs import EventLog

log = EventLog("match")

_HELD_BYTES = 64 << 20
REPAIR_DAYS = 8.0
"""A day more than Kafka keeps packets if it is not told otherwise."""
_ASKED = 10_000
_NO_STEP = -1


@dataclass(frozen=True, slots=True)
class Repaired:
    """Packets of candidates that were not stored, and how many of them are now."""

    missing: int
    stored: int


@dataclass(frozen=True, slots=True)
class Storage:
    """How whole packets are read and kept, by ``[archive] packets``.

    Parameters
    ----------
    store : PacketStore or None
        None: none are kept.
    writes : bool
        Whether matched packets are stored; not where a query of its own stores all.
    reader : callable
        Makes a reader of Kafka's packets.
    now : callable
        The clock of the news.
    on_news : callable
        Told what was dropped, refused or could not be read.
    """

    store: PacketStore | None
    writes: bool
    reader: Callable[[], PacketReader]
    now: Callable[[], datetime]
    on_news: Callable[[datetime, PacketNews], None]
    collectors: list[Collector] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        config: Config,
        reader: Callable[[], PacketReader],
        now: Callable[[], datetime],
        on_news: Callable[[datetime, PacketNews], None],
    ) -> Storage:
        """As configured."""
        settings = config.archive
        store = None
        if settings.packets != "none":
            store = PacketStore(
                config.paths.state / "packets",
                Limits(int(settings.packets_gigabytes * 1e9), settings.keep_free),
            )
        return cls(store, settings.packets == "matched", reader, now, on_news)

    def keeper(self, source: PacketSource) -> PacketKeeper:
        """Packets from ``source``, else from the store."""
        return PacketKeeper(source, self.store, self.now, writes=self.writes, on_news=self.on_news)

    def collector(self, step: Callable[[], int]) -> Collector:
        """Where packets of matched alerts go."""
        made = Collector(self.keeper(_Nowhere()), step)
        self.collectors.append(made)
        return made

    def flush(self) -> None:
        """Store what is held."""
        for collector in self.collectors:
            collector.flush()

    def repair(self, groups: Iterable[Group]) -> Repaired:
        """Store packets of open groups that a killed process held in memory.

        Those that Kafka has no more stay away. About 64 MB are in memory at a time.

        Parameters
        ----------
        groups : iterable of Group
            Alerts exposed within ``REPAIR_DAYS`` of the newest one are looked at.

        Raises
        ------
        ServiceError
            When Kafka does not answer or the disk fails; what was stored until then stays.
        """
        if self.store is None or not self.writes:
            return Repaired(0, 0)
        lost = missing(groups, self.store)
        if not lost:
            return Repaired(0, 0)
        reader = self.reader()
        try:
            keeper = self.keeper(reader)
            collector = Collector(keeper, lambda: _NO_STEP)
            for address, data in keeper.each(lost):
                collector.collect([(lost[address], data)])
            collector.flush()
        finally:
            reader.close()
        done = Repaired(len(lost), keeper.counts["stored"])
        log.info("packets_repaired", missing=done.missing, stored=done.stored)
        return done


def missing(groups: Iterable[Group], store: PacketStore) -> dict[Address, MatchedAlert]:
    """Alerts of the last days whose packets are not stored, by the address of these."""
    matched = [m for group in groups for m in list(group.alerts.values())]
    newest = max((m.alert["time_jd"] for m in matched), default=0.0)
    recent = {address_of(m.alert): m for m in matched if m.alert["time_jd"] >= newest - REPAIR_DAYS}
    addresses = sorted(recent)
    for begin in range(0, len(addresses), _ASKED):
        for address in store.known(addresses[begin : begin + _ASKED]):
            del recent[address]
    return recent


class _Nowhere:
    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        """No packets: a collector only stores."""
        return {}


class Collector:
    """Holds packets until they are stored, which takes longer than an alert should wait.

    Parameters
    ----------
    keeper : PacketKeeper
    step : callable
        Number of the step under way.
    """

    def __init__(self, keeper: PacketKeeper, step: Callable[[], int]) -> None:
        self._keeper = keeper
        self._step = step
        self._lock = threading.Lock()
        self._held: list[Packet] = []
        self._bytes = 0

    def collect(self, packets: Sequence[tuple[MatchedAlert, bytes]]) -> None:
        """Hold packets; they are stored at once when there are many."""
        with self._lock:
            for matched, data in packets:
                self._held.append(packet_of(matched.alert, data))
                self._bytes += len(data)
            full = self._bytes >= _HELD_BYTES
        if full:
            self.flush()

    def flush(self) -> None:
        """Store what is held."""
        with self._lock:
            held, self._held, self._bytes = self._held, [], 0
        if held:
            self._keeper.keep(held, self._step())


def packet_of(alert: Any, data: bytes) -> Packet:
    """A packet with what it is filed under: its alert's night."""
    night = str(night_of(np.array([alert["time_jd"]]))[0])
    return Packet(
        address_of(alert), alert["survey"], alert["object_id"], alert["alert_id"], night, data
    )
