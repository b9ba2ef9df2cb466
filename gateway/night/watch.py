"""What an observer of the topics sees during the night: regions, candidates, VOEvents, counts."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker import kafka_io, topics
from broker.codec import decode
from broker.kafka_io import Record
from broker.ledger import KINDS

Statement = dict[str, Any]


@dataclass
class Seen:
    """Everything that came over the topics so far."""

    regions: list[dict[str, Any]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    voevents: int = 0
    for_vtp: int = 0
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    alert_ledger: Counter[str] = field(default_factory=Counter)
    notice_ledger: Counter[str] = field(default_factory=Counter)
    region_latency_s: list[float] = field(default_factory=list)
    candidate_latency_s: list[float] = field(default_factory=list)


class Watcher(threading.Thread):
    """Reads the topics as any subscriber would (``read_committed``).

    Parameters
    ----------
    bootstrap : str
    sent : mapping of str to float
        Wall times at which notices (by SHA-256) and alerts (by id) were sent.
    on_region, on_statement : callable
        Called in this thread for each one that comes.
    """

    def __init__(
        self,
        bootstrap: str,
        sent: Mapping[str, float],
        on_region: Callable[[dict[str, Any]], None],
        on_statement: Callable[[Statement], None],
    ) -> None:
        super().__init__(name="watcher", daemon=True)
        self.seen = Seen()
        self.failure: Exception | None = None
        self._sent = sent
        self._on_region = on_region
        self._on_statement = on_statement
        self._over = threading.Event()
        self._consumer = kafka_io.consumer(bootstrap, {}, f"demo-{time.time_ns()}")
        candidates = [
            topics.candidates(m, r) for m in topics.MESSENGERS for r in ("observation", "test")
        ]
        self._consumer.subscribe(
            [topics.REGIONS, topics.VOEVENTS, topics.LEDGER, topics.DEAD_LETTER, *candidates]
        )

    def run(self) -> None:
        """Until :meth:`stop`, or a failure, which is kept."""
        try:
            while not self._over.is_set():
                for message in self._consumer.consume(1000, timeout=0.05):
                    self._take(kafka_io.record(message))
        except Exception as error:
            # Whatever it is, the demo must not wait for a thread that has ended.
            self.failure = error
        finally:
            self._consumer.close()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._over.set()
        self.join(10)

    def _take(self, message: Record) -> None:
        match message.topic:
            case topics.REGIONS:
                self._region(decode(message.value))
            case topics.VOEVENTS:
                self.seen.voevents += 1
                self.seen.for_vtp += ("vtp", b"yes") in message.headers
            case topics.DEAD_LETTER:
                self.seen.dead_letters.append(decode(message.value))
            case topics.LEDGER:
                self._ledger(json.loads(message.value))
            case _:
                self._statement(decode(message.value))

    def _region(self, region: dict[str, Any]) -> None:
        self.seen.regions.append(region)
        sent = self._sent.get(region["notice_sha256"])
        if sent is not None:
            self.seen.region_latency_s.append(time.time() - sent)
        self._on_region(region)

    def _statement(self, statement: Statement) -> None:
        self.seen.statements.append(statement)
        sent = self._sent.get(statement["alert_id"])
        if sent is not None and statement["reason"] in ("new_candidate", "new_alert"):
            self.seen.candidate_latency_s.append(time.time() - sent)
        self._on_statement(statement)

    def _ledger(self, entry: dict[str, Any]) -> None:
        match entry["kind"]:
            case "alerts":
                self.seen.alert_ledger.update(entry["counts"])
            case "notices":
                self.seen.notice_ledger.update(entry["counts"])
            case kind if kind not in KINDS:
                raise ValueError(f"an entry of the ledger of kind {kind!r}")
