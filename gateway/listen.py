"""The listener: notices in by Kafka, VTP and files; raw bytes, regions and dead letters out.

Sources hand arrivals to one worker thread, so that the reactor answers VTP peers while a
sky map is read. The worker stores the raw bytes first; what they became is then committed
in one Kafka transaction together with the position in the notices topic. A notice that
was stored when the process died is therefore worked through at the next start, once.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker import kafka_io
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import Notice
from gateway import services
from gateway.config import Config
from gateway.feeds.registry import Registry, load_feeds
from gateway.intake import EventBook
from gateway.logs import EventLog
from gateway.mapfolder import find_map
from gateway.pipeline import Batch, NoticePipeline, SkymapStore
from gateway.sink import KafkaSink
from gateway.sources import Arrival, FolderSource, KafkaSource

log = EventLog("listen")

_BATCH = 64
_BATCH_BYTES = 64 * 2**20
_WAITING = 1000
# A killed listener is out of its group after 10 s, and a new topic is seen within 30 s.
_MEMBER = {"session_timeout_ms": 10_000, "topic_metadata_refresh_interval_ms": 30_000}

__all__ = ["Batch", "KafkaSink", "Listener", "NoticePipeline", "SkymapStore", "Worker", "run"]


@dataclass(frozen=True, slots=True)
class _Job:
    arrivals: Sequence[Arrival]
    stored: Callable[[], None] | None
    done: Callable[[Sequence[str]], None] | None


class Worker:
    """One thread that feeds a pipeline from a bounded queue, in batches.

    Parameters
    ----------
    pipeline : NoticePipeline
    failed : callable
        Told the error that ended the thread.
    """

    def __init__(self, pipeline: NoticePipeline, failed: Callable[[Exception], None]) -> None:
        self._pipeline = pipeline
        self._failed = failed
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Work through what waits, then end."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def deliver(
        self,
        arrivals: Sequence[Arrival],
        stored: Callable[[], None] | None = None,
        done: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Take arrivals; see :class:`gateway.sources.Deliver`."""
        job = _Job(arrivals, stored, done)
        while not self._over.is_set():
            try:
                self._jobs.put(job, timeout=0.5)
                return
            except queue.Full:
                continue

    def offer(self, arrival: Arrival, stored: Callable[[], None]) -> bool:
        """As :meth:`deliver`, but never blocks; False when too much is waiting."""
        try:
            self._jobs.put_nowait(_Job([arrival], stored, None))
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        try:
            while True:
                jobs, last = self._next()
                if jobs:
                    self.work(jobs)
                if last:
                    return
        except Exception as error:
            self._failed(error)
        finally:
            self._over.set()

    def _next(self) -> tuple[list[_Job], bool]:
        """What waits, up to a batch, and whether it is the last."""
        jobs: list[_Job] = []
        size = 0
        while len(jobs) < _BATCH and size < _BATCH_BYTES:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
            size += sum(len(a.raw) for a in job.arrivals)
        return jobs, False

    def work(self, jobs: Sequence[_Job]) -> None:
        """Take the arrivals of some jobs as one batch and tell their sources."""

        def stored() -> None:
            for job in jobs:
                if job.stored is not None:
                    job.stored()

        outcomes = self._pipeline.take([a for job in jobs for a in job.arrivals], stored)
        begin = 0
        for job in jobs:
            end = begin + len(job.arrivals)
            if job.done is not None:
                job.done(outcomes[begin:end])
            begin = end


class Listener:
    """The service: sources, worker and VTP on one reactor.

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
        self._stops: list[Callable[[], Any]] = []
        self._worker: Worker | None = None
        self.pipeline: NoticePipeline | None = None
        self.receiver_port = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Bring back what is known, finish what was stored, open the sources.

        Raises
        ------
        ServiceError
            If Kafka does not answer, or a port or folder cannot be used.
        """
        config = self._config
        bootstrap = services.find_bootstrap(config)
        properties = config.kafka.properties
        services.ensure_topics(bootstrap, properties, services.own_alert_topics(config))
        registry = load_feeds(config.paths.feeds)
        sink = KafkaSink(bootstrap, properties)
        progress = sink.start()
        self.pipeline = NoticePipeline(
            registry,
            EventBook(),
            config.chains,
            sink,
            SkymapStore(config.paths.state),
            progress.totals,
            self._find_map,
        )
        self.pipeline.restore(sink.regions())
        self._finish(self.pipeline, sink.stored_from(progress.next_notice))
        self._worker = Worker(self.pipeline, self.fail)
        self._worker.start()
        self._start_kafka(registry, bootstrap)
        self._start_folder()
        self._start_vtp()

    def _find_map(self, notice: Notice) -> bytes | None:
        folder = self._config.listen.folder
        return find_map(Path(folder).expanduser() / "maps" if folder else None, notice)

    def _finish(self, pipeline: NoticePipeline, stored: Iterable[tuple[Arrival, int]]) -> None:
        for arrival, offset in stored:
            pipeline.resume([(arrival, offset)])
            log.info("notice_resumed", offset=offset, source=arrival.source)

    def _start_kafka(self, registry: Registry, own: str) -> None:
        config = self._config
        wanted = list(config.gcn.topics) or list(registry.topics())
        if config.gcn.enabled and wanted:
            self._add_kafka(*_gcn_consumer(config), wanted)
        embedded = not config.kafka.bootstrap
        subscribed = config.gcn.enabled and config.gcn.bootstrap == own
        if embedded and wanted and not subscribed:
            large = {"max.message.bytes": str(kafka_io.MAX_MESSAGE_BYTES)}
            specs = [kafka_io.TopicSpec(name, 1, large) for name in wanted]
            kafka_io.ensure_topics(own, config.kafka.properties, specs)
            group = f"{config.gcn.group_id}-own"
            # A named member takes the place of its killed predecessor at once, not after 45 s.
            client = kafka_io.consumer(
                own, config.kafka.properties, group, group_instance_id=group, **_MEMBER
            )
            self._add_kafka("own", client, wanted)

    def _add_kafka(self, name: str, client: Any, wanted: Sequence[str]) -> None:
        assert self._worker is not None
        source = KafkaSource(name, client, wanted, self._worker.deliver, self._now)
        source.start(self.fail)
        self._stops.append(source.stop)
        log.info("kafka_subscribed", server=name, topics=len(wanted))

    def _start_folder(self) -> None:
        if not self._config.listen.folder:
            return
        assert self._worker is not None
        folder = Path(self._config.listen.folder).expanduser()
        source = FolderSource(folder, self._worker.deliver, self._now)
        over = threading.Event()

        def watch() -> None:
            try:
                while not over.wait(self._config.listen.poll_seconds):
                    source.poll()
            except Exception as error:
                self.fail(error)

        threading.Thread(target=watch, name="folder", daemon=True).start()
        self._stops.append(over.set)
        log.info("folder_watched", folder=folder)

    def _start_vtp(self) -> None:
        from voevents.vtp import Receiver, Subscriber
        from voevents.vtp.seen import SeenEvents

        vtp = self._config.vtp
        # One memory for all: an event that comes by two brokers is one event.
        common: dict[str, Any] = {"on_reject": self._refused, "seen": SeenEvents()}
        receiver = Receiver(
            self._reactor,
            vtp.host,
            vtp.receiver_port,
            vtp.local_ivo,
            self._packet,
            vtp.author_allow,
            **common,
        )
        self.receiver_port = receiver.listen()
        self._stops.append(receiver.stop)
        for remote in vtp.remotes:
            host, _, port = remote.rpartition(":")
            subscriber = Subscriber(
                self._reactor, host, int(port), vtp.local_ivo, self._packet, **common
            )
            subscriber.start()
            self._stops.append(subscriber.stop)

    def _packet(self, raw: bytes, peer: str) -> Any:
        """A packet by VTP; the Deferred fires once it is stored, so that only then it is acked."""
        from twisted.internet.defer import Deferred

        answer: Deferred[None] = Deferred()
        arrival = Arrival(raw, f"vtp:{peer}", "", self._now())

        def stored() -> None:
            self._reactor.callFromThread(answer.callback, None)

        if self._worker is None or not self._worker.offer(arrival, stored):
            # The peer gets no receipt and sends it again.
            raise ServiceError("too many notices wait to be stored")
        return answer

    def _refused(self, error: Rejected, raw: bytes, peer: str) -> None:
        """What VTP refused is kept as well, with the reason."""
        arrival = Arrival(raw, f"vtp:{peer}", "", self._now(), refused=error)
        if self._worker is None or not self._worker.offer(arrival, lambda: None):
            log.error("refused_packet_lost", peer=peer, reason=error.reason, bytes=len(raw))

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
        from twisted.internet.defer import DeferredList, maybeDeferred
        from twisted.internet.threads import deferToThread

        def finish(closed: object) -> Any:
            return None if self._worker is None else deferToThread(self._worker.stop)

        closing = DeferredList([maybeDeferred(stop) for stop in self._stops], consumeErrors=True)
        return closing.addCallback(finish)


def _gcn_consumer(config: Config) -> tuple[str, Any]:
    """Name of the server and a consumer of GCN's topics, or of those of another Kafka."""
    gcn = config.gcn
    if gcn.bootstrap:
        return gcn.bootstrap, kafka_io.consumer(
            gcn.bootstrap, gcn.properties, gcn.group_id, **_MEMBER
        )
    import gcn_kafka

    settings: dict[str, Any] = {
        "domain": gcn.domain,
        "client_id": gcn.client_id,
        "client_secret": gcn.client_secret,
        "group.id": gcn.group_id,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": _MEMBER["session_timeout_ms"],
        "topic.metadata.refresh.interval.ms": _MEMBER["topic_metadata_refresh_interval_ms"],
        "fetch.message.max.bytes": kafka_io.MAX_MESSAGE_BYTES,
        "log_level": 2,
        **gcn.properties,
    }
    client = gcn_kafka.Consumer(settings)
    return f"kafka.{gcn.domain}", client


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
