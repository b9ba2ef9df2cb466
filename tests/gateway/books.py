"""A night's topics in memory, as the services write them, for what reads the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from broker import topics
from broker.codec import encode_candidate, encode_dead_letter
from broker.kafka_io import Record
from broker.ledger import added
from broker.tally import Tally
from gateway.listener.outbox import Headers, headers_of
from tests.gateway.memory import arrival
from tests.gateway.publishing import statement

NIGHT = "2026-01-01"
NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
MOMENT = "2026-01-02T04:00:0{}.000000Z"
GRB = topics.candidates("grb")


class MemoryTopics:
    """Topics of one partition; what is written in transactions leaves gaps."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Record]] = {}
        self.reads: list[str] = []

    def add(
        self,
        topic: str,
        value: bytes,
        key: bytes = b"",
        headers: Headers = (),
        step: int = 2,
    ) -> int:
        log = self.logs.setdefault(topic, [])
        offset = log[-1].offset + step if log else 0
        log.append(Record(topic, 0, offset, key, value, tuple(headers)))
        return offset

    def names(self) -> list[str]:
        return sorted(self.logs)

    def read(self, topic: str, start: int = 0) -> Iterable[Record]:
        self.reads.append(topic)
        return [r for r in list(self.logs[topic]) if r.offset >= start]


class Books:
    """A gateway that wrote down what it did, and an archive: it all adds up."""

    def __init__(self, state: Path) -> None:
        self.kafka = MemoryTopics()
        self.state = state
        self.totals: dict[str, int] = {}
        self.listened: dict[str, int] = {}
        self.steps = self.batches = self.notices = 0
        self.published: dict[str, dict[str, int]] = {}

    def entry(self, kind: str, **fields: Any) -> None:
        self.kafka.add(topics.LEDGER, json.dumps({"kind": kind, **fields}).encode())

    def mark(self, key: bytes, **fields: Any) -> None:
        self.kafka.add(topics.MARKER, json.dumps(fields).encode(), key)

    def alerts(self, said: Sequence[tuple[str, tuple[str, ...]]] = (), **counts: int) -> None:
        """A step of the live path: what became of the alerts, and statements for streams."""
        tally = Tally()
        tally.add("received", NIGHT, "ztf", sum(counts.values()))
        for name, n in counts.items():
            tally.add(name.replace("__", "."), NIGHT, "ztf", n)
        tally.add_total("statements", len(said))
        archived = sum(n for name, n in counts.items() if name in ("matched", "unmatched"))
        if archived:
            rows = pa.table(
                {"night": [NIGHT] * archived, "batch_id": pa.array([self.batches] * archived)}
            )
            write_deltalake(str(self.state / "alerts"), rows, mode="append")
        self.step("alerts", tally, said)
        self.batches += 1

    def step(
        self, kind: str, tally: Tally, said: Sequence[tuple[str, tuple[str, ...]]] = ()
    ) -> None:
        moment = MOMENT.format(self.steps)
        for name, streams in said:
            one = statement(name) | {"alert_datetime": moment, "streams": list(streams)}
            for topic in topics.seen_by(GRB, streams):
                self.kafka.add(topic, encode_candidate(one))
        batch = self.batches if kind == "alerts" else self.batches - 1
        self.entry(
            kind, step=self.steps, batch_id=batch, moment=moment,
            counts=tally.counts(), parts=tally.parts(),
            regions=[self.steps, self.steps + 1], verdicts=[0, 0],
        )  # fmt: skip
        self.totals = added([self.totals, tally.counts()])
        self.mark(b"match", step=self.steps, batch_id=batch, totals=self.totals)
        self.steps += 1

    def notice(self, *outcomes: str, feed: str = "svom") -> None:
        tally = Tally()
        for outcome in outcomes:
            self.kafka.add(topics.NOTICES, b"notice", headers=headers_of(arrival(b"n")), step=1)
            tally.add("received", NIGHT, feed)
            tally.add(outcome, NIGHT, feed)
        self.notices += len(outcomes)
        self.listened = added([self.listened, tally.counts()])
        self.entry(
            "notices", counts=tally.counts(), parts=tally.parts(), next=self.notices,
            moment=MOMENT.format(0),
        )  # fmt: skip
        self.mark(b"listen", totals=self.listened, next_notice=self.notices)

    def publish(self) -> None:
        """The publisher takes all that it has not taken."""
        n = 0
        for topic in self.kafka.names():
            public, stream = topics.place_of(topic)
            if public not in topics.all_candidates():
                continue
            begin = self.published.get(topic, {}).get("0", 0)
            for message in self.kafka.read(topic, begin):
                self.kafka.add(
                    topics.seen_by(topics.VOEVENTS, [stream] if stream else ())[0], b"<x/>"
                )
                self.published[topic] = {"0": message.offset + 1}
                n += 1
        counts = {"received": n, "made": n}
        self.entry("voevents", counts=counts, moment=MOMENT.format(0), next=self.published)

    def letter(
        self,
        raw: bytes = b"bytes",
        *,
        source: str = "vtp:broker",
        reason: str = "no_feed",
        headers: Headers = (),
        **fields: Any,
    ) -> int:
        values: dict[str, Any] = {"detail": "why", "received": NOW} | fields
        value = encode_dead_letter(reason=reason, source=source, raw=raw, **values)
        return self.kafka.add(topics.DEAD_LETTER, value, b"notice", headers)


def a_night(state: Path) -> Books:
    """Two batches, a search, notices of two feeds, public and private statements, VOEvents."""
    books = Books(state)
    books.notice("region", "retraction")
    books.notice("rejected", feed="unknown")
    books.alerts(matched=1, unmatched=2, said=[("C1", ()), ("C2", ("ours", "theirs"))])
    books.alerts(matched=1, duplicate=1, rejected__not_avro=2)
    found = Tally()
    found.add_total("statements", 1)
    books.step("search", found, [("C3", ())])
    books.publish()
    return books
