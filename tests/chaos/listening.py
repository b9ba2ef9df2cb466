"""Two readers of the gateway's topics, both from before the first message to after the last.

One is an ordinary consumer (``read_committed``): what it was given while everything was being
killed is compared with what lies there at the end. The other sees messages of transactions that
are still open, which tells when to kill, and at the end how many transactions were cut.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from broker import kafka_io, topics
from broker.kafka_io import Record

CANDIDATES = topics.all_candidates()
TRANSACTIONAL = (*CANDIDATES, topics.VOEVENTS, topics.REGION_LOG, topics.LEDGER)
"""Written in transactions only, and never compacted: every offset that was written stays."""


def owner_of(topic: str, key: bytes) -> str:
    """The service that writes a message."""
    if topic in CANDIDATES:
        return "match"
    if topic == topics.VOEVENTS:
        return "publish"
    if topic == topics.REGION_LOG:
        return "listen"
    kind = key.decode("utf-8", "replace").partition("/")[0]
    return {"notices": "listen", "voevents": "publish"}.get(kind, "match")


@dataclass(frozen=True)
class Seen:
    """A message of a transaction, committed or not, and when it was written."""

    topic: str
    offset: int
    owner: str
    written: float


class _Reader(threading.Thread):
    """Consumes some topics, one partition each, in a thread; goes on after whatever happens."""

    def __init__(self, name: str, bootstrap: str, names: Sequence[str], **extra: object) -> None:
        super().__init__(name=name, daemon=True)
        self._over = threading.Event()
        self._client = kafka_io.consumer(bootstrap, {}, f"chaos-{name}", **extra)
        self._client.assign([TopicPartition(n, 0, 0) for n in names])
        self.failure: Exception | None = None

    def run(self) -> None:
        """Until :meth:`close`."""
        try:
            while not self._over.is_set():
                # One at a time: several would be waited for, and a transaction does not wait.
                message = self._client.poll(0.05)
                error = None if message is None else message.error()
                if message is not None and error is None:
                    self.take(message)
                elif error and (error.code() == KafkaError._AUTO_OFFSET_RESET or error.fatal()):
                    raise RuntimeError(error.str())
        except Exception as error:
            # Looked at by whoever waits for what this thread would read.
            self.failure = error
        finally:
            self._client.close()

    def take(self, message: Any) -> None:
        """One message."""
        raise NotImplementedError

    def close(self) -> None:
        """End it."""
        self._over.set()
        self.join(10)


class Witness(_Reader):
    """An ordinary consumer of everything."""

    def __init__(self, bootstrap: str) -> None:
        self.records: dict[str, list[Record]] = defaultdict(list)
        self.latest: dict[tuple[str, bytes], bytes] = {}
        """Last value of each key of the compacted topics."""
        self.last_news = time.monotonic()
        names = (*TRANSACTIONAL, topics.NOTICES, topics.STATE, topics.MARKER, topics.DEAD_LETTER)
        super().__init__("witness", bootstrap, names)
        self.start()

    def take(self, message: Any) -> None:
        """Keep it; of states only what is owed."""
        record = kafka_io.record(message)
        self.last_news = time.monotonic()
        if record.topic == topics.STATE:
            if record.key.startswith(b"search/"):
                self.latest[(topics.STATE, record.key)] = record.value
        elif record.topic == topics.MARKER:
            self.latest[(topics.MARKER, record.key)] = record.value
        else:
            self.records[record.topic].append(record)

    def statements(self) -> int:
        """How many statements it was given."""
        return sum(len(self.records[name]) for name in CANDIDATES)

    def marker(self, key: bytes) -> bytes:
        """Last marker of a service; empty if there is none."""
        return self.latest.get((topics.MARKER, key), b"")

    def owed(self) -> int:
        """Searches of the archive that are not done."""
        return sum(bool(v) for (topic, _), v in list(self.latest.items()) if topic == topics.STATE)


class Tail(_Reader):
    """Sees messages as soon as they are written, whether their transaction is committed or not."""

    def __init__(self, bootstrap: str) -> None:
        self.seen: list[Seen] = []
        self._news = threading.Condition()
        self._counts: dict[str, int] = defaultdict(int)
        super().__init__(
            "tail",
            bootstrap,
            TRANSACTIONAL,
            isolation_level="read_uncommitted",
            fetch_wait_max_ms=5,
        )
        self.start()

    def take(self, message: Any) -> None:
        """Note it, and wake who waits for it."""
        topic = message.topic()
        owner = owner_of(topic, message.key() or b"")
        _, milliseconds = message.timestamp()
        self.seen.append(Seen(topic, message.offset(), owner, milliseconds / 1000))
        with self._news:
            self._counts[owner] += 1
            self._news.notify_all()

    def wait(self, owner: str, seconds: float) -> bool:
        """Until a service writes something (any service if empty); False if it did not."""

        def count() -> int:
            return self._counts[owner] if owner else sum(self._counts.values())

        with self._news:
            before = count()
            return self._news.wait_for(lambda: count() > before, seconds)


def cut(seen: Iterable[Seen], committed: Iterable[Record]) -> list[Seen]:
    """Messages that were written and never became visible: their transactions were cut."""
    kept = {(r.topic, r.offset) for r in committed}
    return [s for s in seen if (s.topic, s.offset) not in kept]
