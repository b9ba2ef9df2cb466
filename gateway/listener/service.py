"""The listener: notices in by Kafka, VTP and files; raw bytes, regions and dead letters out.

Sources hand arrivals to a worker of two threads. One stores the raw bytes, so that VTP peers
have their receipts while a sky map is read. The other commits what they became in one Kafka
transaction together with the position in the notices topic. A notice that
was stored when the process died is therefore worked through at the next start, once.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crossmatch.errors import ServiceError
from crossmatch.model import Notice
from gateway import services
from gateway.config import Config
from gateway.feeds.drafts.unknown import Unknown
from gateway.feeds.store import FeedStore
from gateway.intake import EventBook
from gateway.listener.doors import Doors
from gateway.listener.livefeeds import LiveFeeds, streams_of
from gateway.listener.maps import MapFetcher, Wanted
from gateway.listener.outbox import Progress, wanted_key
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.sandbox import Sandbox
from gateway.listener.sink import KafkaSink
from gateway.listener.skymaps import SkymapStore
from gateway.listener.worker import Worker
from gateway.logs import EventLog
from gateway.mapfolder import find_map
from gateway.understand import SkymapFile
from gateway.watch.alarms import Announcer, Watch, alarms_path
from gateway.watch.health import FeedHealth, snapshot_path

log = EventLog("listen")


class Listener:
    """The service: feeds, sources, worker and maps on one reactor.

    Parameters
    ----------
    config : Config
    reactor : twisted reactor
    now : callable
        UTC.
    """

    def __init__(
        self, config: Config, reactor: Any, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._now = now
        self._closers: list[Callable[[], Any]] = []
        self._health = FeedHealth(snapshot_path(config.paths.state), now)
        self._unknown = Unknown(config.paths.state)
        self._skymaps = SkymapStore(config.paths.state)
        self.receiver_port = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Bring back what is known, finish what was stored, open the sources.

        Raises
        ------
        ServiceError
            If Kafka does not answer, or a port or folder cannot be used.
        ConfigError
            If the feeds cannot be used at all.
        """
        config = self._config
        bootstrap = services.find_bootstrap(config)
        store = FeedStore(config.feed_folders, config.paths.state, self._now)
        loaded = store.load()
        services.ensure_topics(
            bootstrap,
            config.kafka.properties,
            services.own_alert_topics(config),
            {*config.streams, *streams_of(loaded.registry)},
        )
        self._sink = KafkaSink(bootstrap, config.kafka.properties)
        self._fetcher = MapFetcher(config.maps, self.deliver_map, self.give_up, now=self._now)
        sandbox = Sandbox(
            loaded.registry,
            config.chains,
            seconds=config.listen.notice_seconds,
            megabytes=config.listen.notice_megabytes,
            parser_seconds=config.listen.parser_seconds,
            paused=lambda feed, why: self._feeds.give_up(feed, why),
        )
        self._closers.append(sandbox.close)
        sandbox.start()
        self.pipeline = self._pipeline_of(sandbox, self._sink.start())
        self._feeds = LiveFeeds(store, loaded, sandbox, self.pipeline, self._sink.held)
        self._catch_up()
        self._worker = Worker(self.pipeline, self.fail, self._feeds.heard)
        self._worker.start()
        self._fetcher.start(self.fail)
        self._doors = Doors(
            config,
            bootstrap,
            self._reactor,
            self._worker,
            self._now,
            self.fail,
            self._health,
            self.pipeline.next_retry,
        )
        self._doors.open(loaded.registry)
        self.receiver_port = self._doors.receiver_port
        self._feeds.start(self._worker, self._doors, config.listen.feeds_poll_seconds, self.fail)
        self._start_watch()

    def _start_watch(self) -> None:
        """Keep the health of the feeds, and tell operators what they should know."""
        config = self._config
        announcer = Announcer(
            config.alarms, alarms_path(config.paths.state), now=self._now, produce=self._sink.alarm
        )
        watch = Watch(
            self._health,
            lambda: self._feeds.registry,
            config.alarms,
            announcer,
            self._now,
            refresh=self._note,
        )
        announcer.start()
        watch.start()
        self._closers += [watch.stop, announcer.stop]

    def _note(self) -> None:
        """Tell the health of the feeds what no message tells."""
        held = {feed: place.waiting for feed, place in list(self.pipeline.held.items())}
        self._health.note_held(held)
        self._health.note_waiting(self._fetcher.waiting)
        self._health.note_broken(self._feeds.broken, self._doors.broken())
        self._doors.tell(self._health)

    def _pipeline_of(self, sandbox: Sandbox, progress: Progress) -> NoticePipeline:
        return NoticePipeline(
            sandbox.understand,
            EventBook(),
            self._sink,
            self._skymaps,
            progress,
            audience=lambda feed: self._feeds.audience(feed),
            find_map=self._find_map,
            want=self._fetcher.want if self._config.maps.fetch else None,
            answered=self.map_answered,
            recall=self._sink.regions,
            observers=(self._health, self._unknown),
            now=self._now,
        )

    def _catch_up(self) -> None:
        """What earlier runs published, stored, held and wanted."""
        first = self.pipeline.next_notice
        self.pipeline.restore(self._sink.regions())
        for arrival, offset in self._sink.stored_from(first):
            self.pipeline.resume([(arrival, offset)])
            log.info("notice_resumed", offset=offset, source=arrival.source)
        self._feeds.release()
        for wanted in self.pipeline.wanted.values():
            self._fetcher.want(wanted)

    def _find_map(self, notice: Notice) -> SkymapFile | None:
        folder = self._config.listen.folder
        return find_map(Path(folder).expanduser() / "maps" if folder else None, notice)

    def deliver_map(self, wanted: Wanted, fits: bytes) -> None:
        """A map came: its notice is worked through once more, with it (from any thread)."""
        try:
            arrival = self._sink.stored_at(wanted.notice_offset)
        except ServiceError as error:
            log.warning("map_must_wait", event_id=wanted.event_id, detail=str(error))
            self._fetcher.refuse(wanted, "kafka_away", patient=True)
            return
        if arrival is None:
            log.error("map_without_notice", event_id=wanted.event_id, offset=wanted.notice_offset)
            self._fetcher.settle(wanted)
            self.give_up(wanted, "notice_gone")
            return
        self._skymaps.put(fits)
        again = replace(
            arrival,
            source=f"map:{urlsplit(wanted.url).hostname}",
            received=self._now(),
            feed=wanted.feed,
            skymap=hashlib.sha256(fits).hexdigest(),
            answers=wanted_key(wanted),
            streams=tuple(sorted({*arrival.streams, *wanted.streams})),
        )
        self._worker.deliver([again])

    def map_answered(self, wanted: Wanted, reason: str) -> None:
        """A map was read; why it will not do, empty if it does (in the worker's thread)."""
        if reason:
            self._fetcher.refuse(wanted, reason)
        else:
            self._health.map_came(wanted)
            self._fetcher.settle(wanted)

    def give_up(self, wanted: Wanted, reason: str) -> None:
        """A map will not come (from any thread)."""
        self._health.map_given_up(wanted, reason, self._now())
        self._worker.call(lambda: self.pipeline.give_up(wanted_key(wanted)))

    def fail(self, error: Exception) -> None:
        """End the service because of ``error`` (from any thread)."""
        if self.failure is None:
            self.failure = error
            log.error("listener_failed", detail=str(error))
        self._reactor.callFromThread(self.end)

    def end(self) -> None:
        """End the reactor, in its thread."""
        if self._reactor.running:
            self._reactor.stop()

    def stop(self) -> Any:
        """Close the sources, then work through what they handed over; a Deferred.

        While the reactor still runs, so that VTP connections are closed in order.
        """
        from twisted.internet.threads import deferToThread

        def finish(closed: object) -> Any:
            return deferToThread(self._finish)

        # Without waiting in this thread: what the sources wait for may need the reactor.
        stopped = deferToThread(self._feeds.stop)
        return stopped.addCallback(lambda _: self._doors.close()).addCallback(finish)

    def _finish(self) -> None:
        self._fetcher.stop()
        self._worker.stop()
        for close in self._closers:
            close()
        self._unknown.flush()


def run(config: Config) -> None:
    """Run the listener in the foreground until SIGTERM or SIGINT."""
    from twisted.internet import reactor as installed

    # Its methods are added when it is installed: no type names them all.
    reactor: Any = installed
    listener = Listener(config, reactor)
    state = config.paths.state
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reactor.callFromThread(listener.end))

    def ready() -> None:
        services.announce(
            state,
            "listen",
            endpoint=f"vtp://{config.vtp.host}:{listener.receiver_port}",
            receiver_port=listener.receiver_port,
        )
        log.info("listener_started", receiver_port=listener.receiver_port)

    listener.start()
    reactor.callWhenRunning(ready)
    reactor.addSystemEventTrigger("before", "shutdown", listener.stop)
    try:
        reactor.run(installSignalHandlers=False)
    finally:
        services.withdraw(state, "listen")
    if listener.failure is not None:
        raise listener.failure
