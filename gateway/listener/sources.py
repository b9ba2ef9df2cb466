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

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from crossmatch.errors import NoticeError, Rejected, ServiceError
from gateway.feeds.registry import HEARTBEAT
from gateway.logs import EventLog

log = EventLog("listen")

LAST_STORE_SECONDS = 5.0
"""How long a source that is told to stop still waits for its notices to be stored."""
NOTICE_SUFFIXES = (".xml", ".json")
MAX_NOTICE_BYTES = 7 * 2**20
"""Longer ones are refused, and only their beginning is kept: Kafka would not take them."""
KEPT_BYTES = 2**16
_BATCH = 100
PROBE_SECONDS = 10.0
"""How often a server that was away is asked whether it is back."""
_AWAY = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """The bytes of one message as they came, and where from.

    Parameters
    ----------
    raw : bytes
    source : str
        ``kafka``, ``vtp``, ``folder`` or ``map``, a colon, and the server, peer, file or host.
    topic : str
        Kafka topic it came on; empty elsewhere. Feeds are recognised by it.
    received : datetime
        UTC.
    partition, offset : int
        In ``topic``; -1 elsewhere.
    feed : str
        Name of the feed, when the source is its own.
    skymap : str
        SHA-256 of the sky map that was fetched for it.
    answers : str
        Key of the wanted map that this is the answer to.
    streams : tuple of str
        Private streams that alone may see it, as they were when it came: feed files change,
        but what came in private stays so. Empty for what is public by its door.
    refused : Rejected, optional
        Why the source already refused it; it is kept all the same.
    retry : int
        Offset on ``mm.retry`` of a dead letter that is sent again; -1 else.
    """

    raw: bytes
    source: str
    topic: str
    received: datetime
    partition: int = -1
    offset: int = -1
    feed: str = ""
    skymap: str = ""
    answers: str = ""
    streams: tuple[str, ...] = ()
    refused: Rejected | None = None
    retry: int = -1


def bounded(arrival: Arrival) -> Arrival:
    """``arrival``, or its beginning and the refusal if it is too long."""
    size = len(arrival.raw)
    if size <= MAX_NOTICE_BYTES:
        return arrival
    refusal = NoticeError("too_large", f"{size} bytes; at most {MAX_NOTICE_BYTES} are taken")
    return replace(arrival, raw=arrival.raw[:KEPT_BYTES], refused=refusal)


class Deliver(Protocol):
    """Takes arrivals; calls ``stored`` when their bytes are safe, ``done`` with their outcomes."""

    def __call__(
        self,
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Hand over ``arrivals``; blocks while too much is waiting."""


class Link(Protocol):
    """Is told how a server is; from any thread (:class:`gateway.watch.health.FeedHealth`)."""

    def opened(self, server: str, *, credentials: bool = False) -> None:
        """This run hears it; ``credentials``: they lapse when they are idle."""

    def contact(self, server: str, when: datetime) -> None:
        """It answered."""

    def lost(self, server: str, detail: str, when: datetime) -> None:
        """It is away, until the next contact."""

    def beat(self, source: str, topic: str, when: datetime) -> None:
        """A heartbeat came."""


class Complaints:
    """Hands librdkafka's ``error_cb`` to a source, which is made after its client."""

    def __init__(self) -> None:
        self.source: KafkaSource | None = None

    def __call__(self, error: Any) -> None:
        """Tell the source, once it is there."""
        if self.source is not None:
            self.source.trouble(error)


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
    feed : str
        The feed whose own source it is.
    over : threading.Event, optional
        Set by others to end it.
    link : Link, optional
        Told of trouble and of its end. Heartbeats (``gateway.feeds.registry.HEARTBEAT``), one a
        second, go to it alone.
    """

    def __init__(
        self,
        name: str,
        client: Any,
        topics: Sequence[str],
        deliver: Deliver,
        now: Callable[[], datetime],
        feed: str = "",
        over: threading.Event | None = None,
        link: Link | None = None,
    ) -> None:
        self._name = name
        self._client = client
        self._topics = list(topics)
        self._subscribed: list[str] = []
        self._deliver = deliver
        self._now = now
        self._feed = feed
        self._link = link
        self._lost_at: datetime | None = None
        self._asked = now()
        self._over = over or threading.Event()
        self._complained: set[str] = set()
        self._thread: threading.Thread | None = None

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to read; ``failed`` is called if reading cannot go on."""

        def work() -> None:
            try:
                self.run()
            except Exception as error:
                failed(error)

        self._thread = threading.Thread(target=work, name=f"kafka {self._name}", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Read in this thread until it is told to stop, then leave the group."""
        try:
            while not self._over.is_set():
                self.step()
        finally:
            self._client.close()

    def subscribe(self, topics: Sequence[str]) -> None:
        """Read these topics from the next step on, without leaving the group."""
        self._topics = list(topics)

    def stop(self, timeout: float = 10.0) -> None:
        """Read no more and leave the group."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def step(self, wait_seconds: float = 0.2) -> int:
        """Hand over what has come; the number of notices."""
        wanted = self._topics
        if wanted != self._subscribed:
            # In this thread, which alone uses the client.
            self._listen_to(wanted)
            self._subscribed = wanted
        first = self._client.poll(wait_seconds)
        if first is None:
            self._probe()
            return 0
        # `consume` waits for a full batch or the whole time: ask it only for what is there.
        messages = [first, *self._client.consume(_BATCH - 1, 0)]
        good = [m for m in messages if self._is_notice(m) and not self._is_beat(m)]
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

    def _listen_to(self, names: Sequence[str]) -> None:
        self._client.subscribe(list(names))

    def _is_notice(self, message: Any) -> bool:
        """Errors arrive as messages too: a topic may not exist, a server may be away."""
        error = message.error()
        if error is None:
            self._found()
            return message.value() is not None
        text = f"{message.topic() or ''} {error.str()}".strip()
        if error.fatal():
            raise ServiceError(f"{self._name}: {text}")
        self._complain(text)
        return False

    def trouble(self, error: Any) -> None:
        """What librdkafka says of its connections (``error_cb``)."""
        self._complain(error.str())
        if error.retriable() or error.code() in _AWAY:
            self._lost_at = self._lost_at or self._now()
            if self._link is not None:
                self._link.lost(self._name, error.str(), self._lost_at)

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            log.warning("kafka_trouble", server=self._name, feed=self._feed, detail=text)

    def _found(self) -> None:
        """It answered after trouble; the same trouble is told again when it comes again."""
        if self._lost_at is None:
            return
        self._lost_at = None
        self._complained.clear()
        log.info("kafka_back", server=self._name, feed=self._feed)
        if self._link is not None:
            self._link.contact(self._name, self._now())

    def _probe(self) -> None:
        """Ask a server that was away and sends nothing now and then whether it is back."""
        now = self._now()
        if self._lost_at is None or (now - self._asked).total_seconds() < PROBE_SECONDS:
            return
        self._asked = now
        try:
            self._client.list_topics(timeout=1.0)
        except KafkaException:
            return
        self._found()

    def _is_beat(self, message: Any) -> bool:
        if message.topic() != HEARTBEAT:
            return False
        if self._link is not None:
            self._link.beat(f"kafka:{self._name}", HEARTBEAT, self._now())
        return True

    def _arrival(self, message: Any) -> Arrival:
        return Arrival(
            raw=message.value(),
            source=f"kafka:{self._name}",
            topic=message.topic(),
            received=self._now(),
            partition=message.partition(),
            offset=message.offset(),
            feed=self._feed,
        )

    def _commit(self, messages: Sequence[Any]) -> None:
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

    A file counts as complete when its size and time are the same in two looks. ``feed`` is
    the feed whose own folder it is.

    Raises
    ------
    ServiceError
        If the folder cannot be made or read.
    """

    def __init__(
        self, folder: Path, deliver: Deliver, now: Callable[[], datetime], feed: str = ""
    ) -> None:
        self._folder = folder
        self._feed = feed
        self._deliver = deliver
        self._now = now
        self._seen: dict[Path, tuple[int, int]] = {}
        self._underway: set[Path] = set()
        try:
            for name in ("done", "rejected"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = f"folder of the feed {feed}" if feed else "[listen] folder"
            raise ServiceError(
                f"{folder}: cannot be watched: {error.strerror}; correct {where}"
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

        arrival = bounded(Arrival(raw, f"folder:{path.name}", "", self._now(), feed=self._feed))
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
