"""Sources that single feeds have for themselves: a Kafka, a VTP broker, a folder.

Whatever comes by them is the feed's. What fails here fails for that feed alone: it is told,
and tried again, more and more seldom.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from broker import kafka_io
from crossmatch.errors import ConfigError
from gateway.feeds.registry import Registry
from gateway.feeds.spec import Feed
from gateway.listener.sources import Complaints, Deliver, FolderSource, KafkaSource, Link
from gateway.logs import EventLog

log = EventLog("listen")

MEMBER: Mapping[str, int] = {
    # A killed listener is out of its group after 10 s, and a new topic is seen within 30 s.
    "session_timeout_ms": 10_000,
    "topic_metadata_refresh_interval_ms": 30_000,
}
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""A source that worked this long is well again: its next failure is a first one."""
TOLD_FAILURES = 3
"""So many failures one after the other are trouble; fewer are a hiccup."""
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


class Running(Protocol):
    """A source that can be ended; ``trouble`` says what is wrong with it, if anything is."""

    @property
    def trouble(self) -> str:
        """A sentence, or empty."""

    def end(self) -> None:
        """Begin to end; does not wait."""

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""


def with_environment(
    properties: Mapping[str, str], environ: Mapping[str, str], where: str
) -> dict[str, str]:
    """``properties`` with ``$NAME`` and ``${NAME}`` replaced; ``$$`` stands for a dollar sign.

    Raises
    ------
    ConfigError
        Naming ``where`` and the variable that is not set.

    Examples
    --------
    >>> with_environment({"sasl.password": "$TEAM"}, {"TEAM": "s3"}, "team.toml")
    {'sasl.password': 's3'}
    """

    def value_of(match: re.Match[str]) -> str:
        dollar, plain, braced = match.groups()
        if dollar:
            return "$"
        name = plain or braced
        if name not in environ:
            raise ConfigError(
                f"{where}: [transport] properties: the environment variable {name} is not set"
            )
        return environ[name]

    return {key: _VARIABLE.sub(value_of, value) for key, value in properties.items()}


class Persistent:
    """Runs a source in a thread of its own, again after a pause whenever it fails.

    Parameters
    ----------
    feed : str
    door : str
        What it is, for the log.
    run : callable
        Gets an event and works until that is set; raises when it cannot go on.
    monotonic : callable
        Seconds.
    """

    def __init__(
        self,
        feed: str,
        door: str,
        run: Callable[[threading.Event], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._door = door
        self._run = run
        self._monotonic = monotonic
        # Failures one after the other, what the last one was, and since when it has worked.
        self._failures = 0
        self._detail = ""
        self._since: float | None = None
        self._unusable = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"{door} {feed}", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What is wrong, for whoever runs the gateway; empty: nothing, or not for long."""
        if self._unusable:
            return self._unusable
        since = self._since
        steady = since is not None and self._monotonic() - since >= STEADY_SECONDS
        if steady or self._failures < TOLD_FAILURES:
            return ""
        return f"the {self._door} of the feed {self._feed} fails: {self._detail}"

    def end(self) -> None:
        """Begin to end; does not wait."""
        self._over.set()

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout)

    def _work(self) -> None:
        while not self._over.is_set():
            begin = self._since = self._monotonic()
            try:
                self._run(self._over)
            except ConfigError as error:
                # Nothing but another file or another start can mend it.
                self._unusable = str(error)
                log.error("transport_unusable", feed=self._feed, detail=str(error))
                return
            except Exception as error:
                self._since = None
                if self._monotonic() - begin >= STEADY_SECONDS:
                    self._failures = 0
                pause = min(FIRST_PAUSE_SECONDS * 2**self._failures, LONGEST_PAUSE_SECONDS)
                # Beyond this the pause is the longest one.
                self._failures = min(self._failures + 1, 30)
                self._detail = str(error)
                log.warning(
                    "transport_failed",
                    feed=self._feed,
                    door=self._door,
                    detail=str(error),
                    again_in_seconds=pause,
                )
                self._over.wait(pause)


class Unusable:
    """A source that cannot be, and why: the feed file or the environment must be mended."""

    def __init__(self, feed: str, trouble: str) -> None:
        self.trouble = trouble
        log.error("transport_unusable", feed=feed, detail=trouble)

    def end(self) -> None:
        """Nothing to end."""

    def join(self, timeout: float) -> None:
        """Nothing to wait for."""


class VtpSource:
    """A subscription to one VTP broker; it connects again by itself.

    Parameters
    ----------
    reactor : twisted reactor
    server : str
        ``host:port``.
    subscriber : callable
        Makes a `voevents.vtp.Subscriber`, in the reactor's thread.
    """

    def __init__(self, reactor: Any, server: str, subscriber: Callable[[], Any]) -> None:
        self._reactor = reactor
        self.server = server
        self.trouble = ""  # a broker that is away is told to the link
        self._subscriber: Any = None

        def begin() -> None:
            self._subscriber = subscriber()
            self._subscriber.start()

        reactor.callFromThread(begin)

    def tell(self, link: Link, now: datetime) -> None:
        """Tell ``link`` whether the broker is connected."""
        if self._subscriber is not None and self._subscriber.connected:
            link.contact(self.server, now)
        else:
            link.lost(self.server, "there is no connection", now)

    def end(self) -> None:
        """Begin to end; does not wait."""
        self._reactor.callFromThread(lambda: self._subscriber.stop())

    def join(self, timeout: float) -> None:
        """Nothing to wait for: the reactor closes the connection."""


class Transports:
    """The feeds' own sources, kept as the feed files have them.

    Parameters
    ----------
    deliver : Deliver
    now : callable
        UTC.
    poll_seconds : float
        Between two looks at a folder.
    reactor : twisted reactor
    subscriber : callable
        From (host, port, feed) to a `voevents.vtp.Subscriber` that is not started.
    environ : mapping, optional
        Where ``$NAME`` in properties is looked up.
    link : Link, optional
        Told how the servers are.
    """

    def __init__(
        self,
        deliver: Deliver,
        now: Callable[[], datetime],
        poll_seconds: float,
        reactor: Any,
        subscriber: Callable[[str, int, str], Any],
        environ: Mapping[str, str] = os.environ,
        link: Link | None = None,
    ) -> None:
        self._deliver = deliver
        self._now = now
        self._poll_seconds = poll_seconds
        self._reactor = reactor
        self._subscriber = subscriber
        self._environ = environ
        self._link = link
        self._running: dict[str, tuple[Any, list[Running]]] = {}

    def drop(self, registry: Registry) -> None:
        """End the sources that the feeds no longer have as they were."""
        wanted = {feed.name: _facts(feed) for feed in _with_transport(registry)}
        gone = [n for n, (facts, _) in self._running.items() if wanted.get(n) != facts]
        self._end(gone)

    def open(self, registry: Registry) -> None:
        """Begin those that do not run."""
        for feed in _with_transport(registry):
            if feed.name not in self._running:
                self._running[feed.name] = (_facts(feed), list(self._begin(feed)))

    def tell(self, link: Link) -> None:
        """Tell ``link`` which VTP brokers are connected (from any thread)."""
        for _, sources in list(self._running.values()):
            for source in sources:
                if isinstance(source, VtpSource):
                    source.tell(link, self._now())

    def broken(self) -> dict[str, str]:
        """What is wrong with the sources, by feed (from any thread)."""
        found = {}
        for name, (_, sources) in list(self._running.items()):
            troubles = [source.trouble for source in sources if source.trouble]
            if troubles:
                found[name] = "; ".join(troubles)
        return found

    def close(self) -> None:
        """End all."""
        self._end(list(self._running))

    def _end(self, names: Iterable[str]) -> None:
        sources = [source for name in names for source in self._running.pop(name)[1]]
        for source in sources:
            source.end()
        for source in sources:
            source.join(10.0)

    def _begin(self, feed: Feed) -> Iterable[Running]:
        transport = feed.transport
        if transport.kafka:
            yield from self._begin_kafka(feed)
        if transport.folder:
            yield Persistent(feed.name, "folder", lambda over: self._watch_folder(feed, over))
        if transport.vtp:
            host, _, port = transport.vtp.rpartition(":")
            if not host or not port.isdigit():
                detail = f"{feed.source}: [transport] vtp: {transport.vtp!r} is not host:port"
                yield Unusable(feed.name, detail)
            else:
                if self._link is not None:
                    self._link.opened(transport.vtp)
                yield VtpSource(
                    self._reactor,
                    transport.vtp,
                    lambda: self._subscriber(host, int(port), feed.name),
                )
        doors = [d for d in ("kafka", "vtp", "folder") if getattr(transport, d)]
        log.info("transport_opened", feed=feed.name, doors=",".join(doors))

    def _begin_kafka(self, feed: Feed) -> Iterable[Running]:
        try:
            properties = with_environment(
                feed.transport.properties, self._environ, feed.source or feed.name
            )
        except ConfigError as error:
            yield Unusable(feed.name, str(error))
            return
        yield Persistent(feed.name, "kafka", lambda over: self._hear_kafka(feed, properties, over))

    def _hear_kafka(self, feed: Feed, properties: Mapping[str, str], over: threading.Event) -> None:
        transport = feed.transport
        complaints = Complaints()
        extra: dict[str, Any] = {"error_cb": complaints}
        try:
            client = kafka_io.consumer(
                transport.kafka,
                {**properties, **extra},
                transport.group or f"mmgateway-{feed.name}",
                **MEMBER,
            )
        except ConfigError as error:
            raise ConfigError(f"{feed.source}: [transport] {error}") from error
        if self._link is not None:
            self._link.opened(transport.kafka)
        complaints.source = KafkaSource(
            transport.kafka,
            client,
            feed.topics,
            self._deliver,
            self._now,
            feed.name,
            over,
            self._link,
        )
        complaints.source.run()

    def _watch_folder(self, feed: Feed, over: threading.Event) -> None:
        folder = Path(feed.transport.folder).expanduser()
        source = FolderSource(folder, self._deliver, self._now, feed.name)
        while not over.wait(self._poll_seconds):
            source.poll()


def _with_transport(registry: Registry) -> Iterable[Feed]:
    """Feeds that are on or paused and have a source of their own."""
    for feed in registry.feeds:
        if feed.enabled and (feed.transport.kafka or feed.transport.vtp or feed.transport.folder):
            yield feed


def _facts(feed: Feed) -> Any:
    """What a running source depends on."""
    return feed.transport, feed.topics
