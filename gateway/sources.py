"""Where notices come from: Kafka topics and a watched folder (VTP is in :mod:`voevents.vtp`).

A source hands over :class:`Arrival` records and is told when their bytes are stored and
what became of them. Only then does it commit an offset or move a file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from crossmatch.errors import NoticeError, Rejected, ServiceError
from gateway.logs import EventLog

log = EventLog("listen")

LAST_STORE_SECONDS = 5.0
"""How long a source that is told to stop still waits for its notices to be stored."""
NOTICE_SUFFIXES = (".xml", ".json")
MAX_NOTICE_BYTES = 7 * 2**20
"""Longer ones are refused, and only their beginning is kept: Kafka would not take them."""
_KEPT_BYTES = 2**16
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """The bytes of one message as they came, and where from.

    Parameters
    ----------
    raw : bytes
    source : str
        ``kafka``, ``vtp`` or ``folder``, a colon, and the server, peer or file.
    topic : str
        Kafka topic it came on; empty elsewhere. Feeds are recognised by it.
    received : datetime
        UTC.
    partition, offset : int
        In ``topic``; -1 elsewhere.
    feed : str
        Name of the feed, when the source knows it.
    refused : Rejected, optional
        Why the source already refused it; it is kept all the same.
    """

    raw: bytes
    source: str
    topic: str
    received: datetime
    partition: int = -1
    offset: int = -1
    feed: str = ""
    refused: Rejected | None = None


def bounded(arrival: Arrival) -> Arrival:
    """``arrival``, or its beginning and the refusal if it is too long."""
    size = len(arrival.raw)
    if size <= MAX_NOTICE_BYTES:
        return arrival
    refusal = NoticeError("too_large", f"{size} bytes; at most {MAX_NOTICE_BYTES} are taken")
    return replace(arrival, raw=arrival.raw[:_KEPT_BYTES], refused=refusal)


class Deliver(Protocol):
    """Takes arrivals; calls ``stored`` when their bytes are safe, ``done`` with their outcomes."""

    def __call__(
        self,
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Hand over ``arrivals``; blocks while too much is waiting."""


class KafkaSource:
    """Reads topics in a thread of its own; an offset is committed once its bytes are stored.

    Parameters
    ----------
    name : str
        Server, for logs and headers.
    client : confluent_kafka.Consumer
    topics : sequence of str
    deliver : Deliver
    now : callable
        UTC.
    """

    def __init__(
        self,
        name: str,
        client: Any,
        topics: Sequence[str],
        deliver: Deliver,
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._client = client
        self._topics = list(topics)
        self._deliver = deliver
        self._now = now
        self._over = threading.Event()
        self._complained: set[str] = set()
        self._thread: threading.Thread | None = None

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to read; ``failed`` is called if reading cannot go on."""

        def work() -> None:
            try:
                self._client.subscribe(self._topics)
                while not self._over.is_set():
                    self.step()
            except Exception as error:
                failed(error)
            finally:
                self._client.close()

        self._thread = threading.Thread(target=work, name=f"kafka {self._name}", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Read no more and leave the group."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def step(self, wait_seconds: float = 0.2) -> int:
        """Hand over what has come; the number of notices."""
        first = self._client.poll(wait_seconds)
        if first is None:
            return 0
        # `consume` waits for a full batch or the whole time: ask it only for what is there.
        messages = [first, *self._client.consume(_BATCH - 1, 0)]
        good = [m for m in messages if self._is_notice(m)]
        if not good:
            return 0
        stored = threading.Event()
        self._deliver([bounded(self._arrival(m)) for m in good], stored=stored.set)
        while not stored.wait(0.2):
            if self._over.is_set() and not stored.wait(LAST_STORE_SECONDS):
                # Not stored, so not committed: they come again at the next start.
                return 0
        self._commit(good)
        return len(good)

    def _is_notice(self, message: Any) -> bool:
        """Errors arrive as messages too: a topic may not exist, a server may be away."""
        error = message.error()
        if error is None:
            return message.value() is not None
        text = f"{message.topic() or ''} {error.str()}".strip()
        if error.fatal():
            raise ServiceError(f"{self._name}: {text}")
        if text not in self._complained:
            self._complained.add(text)
            log.warning("kafka_trouble", server=self._name, detail=text)
        return False

    def _arrival(self, message: Any) -> Arrival:
        return Arrival(
            raw=message.value(),
            source=f"kafka:{self._name}",
            topic=message.topic(),
            received=self._now(),
            partition=message.partition(),
            offset=message.offset(),
        )

    def _commit(self, messages: Sequence[Any]) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        ends: dict[tuple[str, int], int] = {}
        for m in messages:
            key = (m.topic(), m.partition())
            ends[key] = max(ends.get(key, 0), m.offset() + 1)
        try:
            self._client.commit(
                offsets=[TopicPartition(t, p, end) for (t, p), end in ends.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            # They come again, and are then duplicates.
            log.warning("offset_not_committed", server=self._name, detail=error.args[0].str())


class FolderSource:
    """A watched folder: files go in, and move to ``done/`` or ``rejected/``.

    A file counts as complete when its size and time are the same in two looks.

    Raises
    ------
    ServiceError
        If the folder cannot be made or read.
    """

    def __init__(self, folder: Path, deliver: Deliver, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._deliver = deliver
        self._now = now
        self._seen: dict[Path, tuple[int, int]] = {}
        self._underway: set[Path] = set()
        try:
            for name in ("done", "rejected"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(
                f"{folder}: cannot be watched: {error.strerror}; correct [listen] folder"
            ) from error

    def poll(self) -> int:
        """Hand over the files that are complete; their number."""
        try:
            found = sorted(p for p in self._folder.iterdir() if p.suffix in NOTICE_SUFFIXES)
        except OSError as error:
            raise ServiceError(f"{self._folder}: cannot be read: {error.strerror}") from error
        looks: dict[Path, tuple[int, int]] = {}
        ready = []
        for path in found:
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if path.name.startswith(".") or not path.is_file() or path in self._underway:
                continue
            looks[path] = (facts.st_size, facts.st_mtime_ns)
            if self._seen.get(path) == looks[path]:
                ready.append(path)
        self._seen = looks
        for path in ready:
            self._take(path)
        return len(ready)

    def _take(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            log.warning("file_not_read", file=path.name, detail=error.strerror)
            return
        self._underway.add(path)

        def done(outcomes: Sequence[str]) -> None:
            self._move(path, "rejected" if "rejected" in outcomes else "done")

        arrival = bounded(Arrival(raw, f"folder:{path.name}", "", self._now()))
        self._deliver([arrival], done=done)

    def _move(self, path: Path, into: str) -> None:
        target = self._folder / into / path.name
        number = 1
        while target.exists():
            target = target.with_name(f"{path.stem}-{number}{path.suffix}")
            number += 1
        try:
            path.rename(target)
        except OSError as error:
            # It stays in `_underway`, so it is not read again and again.
            log.error("file_not_moved", file=path.name, into=into, detail=error.strerror)
            return
        self._underway.discard(path)
