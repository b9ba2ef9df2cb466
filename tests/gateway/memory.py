"""The listener's surroundings in memory: a sink, notices, a reader without a process of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.table import Table

from broker import topics
from broker.regioncodec import decode_region
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import Rejected, ServiceError
from crossmatch.region import make_region
from gateway.feeds.registry import Registry, load_feeds
from gateway.listener.maps import Wanted
from gateway.listener.outbox import (
    NOTICE_OFFSET,
    Batch,
    Held,
    HeldPlace,
    Progress,
    TooLarge,
    arrival_of,
)
from gateway.listener.sources import Arrival
from gateway.understand import SkymapFile, Understood, placed, understand

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[1] / "data" / "notices"
REGISTRY = load_feeds()


class Direct:
    """Reads messages in this process; :class:`gateway.listener.sandbox.Sandbox` in another."""

    def __init__(self, registry: Registry = REGISTRY) -> None:
        self.registry = registry

    def replace(self, registry: Registry) -> None:
        self.registry = registry

    def understand(
        self,
        raw: bytes,
        *,
        topic: str = "",
        feed: str = "",
        skymap: SkymapFile | None = None,
        heed_pause: bool = True,
        audience: tuple[str, ...] = (),
    ) -> Understood:
        return understand(
            self.registry,
            DEFAULT_CHAINS,
            raw,
            topic=topic,
            feed=feed,
            find_map=lambda notice: skymap,
            heed_pause=heed_pause,
            audience=audience,
        )

    def audience(self, feed: str) -> tuple[str, ...]:
        return self.registry.feed(feed).audience


MAP_URL = "https://maps.example.org/bn99/map.fits"


class Mapped(Direct):
    """Every notice with a position names a map by its address too."""

    def understand(
        self,
        raw: bytes,
        *,
        topic: str = "",
        feed: str = "",
        skymap: SkymapFile | None = None,
        heed_pause: bool = True,
        audience: tuple[str, ...] = (),
    ) -> Understood:
        found = super().understand(
            raw, topic=topic, feed=feed, heed_pause=heed_pause, audience=audience
        )
        if found.notice is None or found.region is None:
            return found
        try:
            named = replace(found.notice, skymap_url=MAP_URL)
            notice = placed(named, lambda _: skymap)
            region = make_region(notice, 1, DEFAULT_CHAINS)
        except Rejected as error:
            return replace(found, outcome="rejected", rejected=error, region=None)
        return replace(found, notice=notice, region=region)


def a_map() -> bytes:
    """All of the sky in 12 cells."""
    table = Table({"UNIQ": np.arange(4, 16), "PROBDENSITY": np.full(12, 1 / (4 * np.pi))})
    table.meta.update({"ORDERING": "NUNIQ", "COORDSYS": "C", "MOCORDER": 0})
    file = io.BytesIO()
    table.write(file, format="fits")
    return file.getvalue()


@dataclass
class MemorySink:
    """Keeps everything, and the order in which it came."""

    stored: list[Arrival] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    full: bool = False
    fail_commits: int = 0
    # What a topic takes at most, bytes.
    limits: dict[str, int] = field(default_factory=dict)

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        if self.full:
            raise ServiceError("no space left")
        self.events.append("store")
        offsets = {}
        for number, one in enumerate(arrivals):
            if len(one.raw) <= self.limits.get(topics.NOTICES, len(one.raw)):
                offsets[number] = len(self.stored)
                self.stored.append(one)
        if len(offsets) < len(arrivals):
            # A small one that was sent with it is refused too.
            if len(offsets) > 1 and self.stored.pop():
                offsets.popitem()
            raise TooLarge("too large for mm.notices", offsets)
        return list(offsets.values())

    def commit(self, batch: Batch) -> None:
        for record in batch.records:
            if len(record.value) > self.limits.get(record.topic, len(record.value)):
                raise TooLarge(f"too large for {record.topic}")
        if self.fail_commits:
            self.fail_commits -= 1
            raise ServiceError("Kafka is away")
        self.events.append("commit")
        self.batches.append(batch)

    def values(self, topic: str) -> list[bytes]:
        return [value for batch in self.batches for value in batch.of(topic)]

    def names(self) -> set[str]:
        return {record.topic for batch in self.batches for record in batch.records}

    def regions(self, topic: str = topics.REGION_LOG) -> list[dict[str, Any]]:
        return [dict(decode_region(v).fields) for v in self.values(topic)]

    def letters(self, topic: str = topics.DEAD_LETTER) -> list[dict[str, Any]]:
        values = self.values(topic)
        return [record for v in values for record in fastavro.reader(io.BytesIO(v))]  # type: ignore[misc]

    def held(self, feed: str, offset: int) -> Iterator[Held]:
        records = [r for b in self.batches for r in b.records if r.topic == topics.HELD]
        for number, record in enumerate(records):
            if number >= offset and record.key == feed.encode():
                (letter,) = fastavro.reader(io.BytesIO(record.value))
                arrival = arrival_of(letter["raw"], record.headers)  # type: ignore[index,call-overload]
                yield Held(arrival, int(dict(record.headers)[NOTICE_OFFSET]), number)

    def progress(self) -> Progress:
        """What a new listener would find."""
        wanted: dict[str, Wanted] = {}
        totals: Mapping[str, int] = {}
        held: Mapping[str, HeldPlace] = {}
        next_notice = next_retry = 0
        for batch in self.batches:
            next_notice, totals, held = batch.next_notice, batch.totals, batch.held
            next_retry = batch.next_retry
            for key, value in batch.markers.items():
                wanted.pop(key, None)
                if value is not None:
                    wanted[key] = value
        return Progress(next_notice, totals, held, wanted, next_retry)


def arrival(raw: bytes, **facts: Any) -> Arrival:
    values: dict[str, Any] = {"source": "test:here", "topic": "", "received": NOW}
    return Arrival(raw=raw, **(values | facts))


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def gbm(number: int, second: int) -> bytes:
    """A later or earlier final position of the same burst."""
    text = sample("gbm_final.xml")
    start, end = text.index(b"<Date>") + 6, text.index(b"</Date>")
    issued = f"2026-01-02T04:00:{second:02d}".encode()
    changed = text[:start] + issued + text[end:]
    return changed.replace(b"</voe:VOEvent>", f"<!-- {number} --></voe:VOEvent>".encode())


def private_registry(name: str = "fermi_gbm", stream: str = "ourteam") -> Registry:
    """The built-in feeds and a private copy of one of them, which is only used when named."""
    feed = REGISTRY.feed(name)
    own = replace(feed, name="own", enabled=True, ivoids=("ivo://nobody",), streams=(stream,),
                  topics=("own.topic",))  # fmt: skip
    parsers = {**REGISTRY.parsers, "own": REGISTRY.parsers[name]}
    return replace(REGISTRY, feeds=(*REGISTRY.feeds, own), parsers=parsers)
