"""The publish service: candidate statements become VOEvents, on Kafka and by VTP.

Each transaction has an entry in the ledger: statements received, VOEvents made, rejected. A
statement that became a dead letter may be sent again by ``mm.retry``; of each statement and
stream one VOEvent is made that way, however often it is sent.

Two steps, each resumed where it stopped:

1. Every statement becomes a VOEvent on ``mm.voevents``, or on the topic that stands in its
   place for the private stream whose it is. The VOEvents and the position in
   the candidate topics (:mod:`gateway.publisher.positions`) are committed in one Kafka transaction,
   so each statement gives one VOEvent whatever crashes.
2. VOEvents marked for VTP are broadcast, then their position is kept. After a crash
   between the two the last one is sent again, byte for byte the same, as VTP allows.

A VOEvent is marked for VTP when its candidate has the tier for it, or had it once: a
robot that heard of a candidate also hears of its fall and withdrawal. Those of a private
stream go out on the port of that stream, if it has one, and on no other.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from crossmatch.errors import ServiceError
from gateway import services
from gateway.config import Config, Publish
from gateway.logs import EventLog
from gateway.publisher.outgoing import Packets
from gateway.publisher.positions import VTP_KEY, Marks, PartitionReader, marks_of
from gateway.publisher.steps import RETRY_KEY, RETRY_TOPIC, Broadcasting, Send, VOEventWriter

log = EventLog("publish")

TRANSACTION_TIMEOUT_MS = 10_000
_NAME = "mmgateway-publish"
# Partitions are assigned and no offset is committed, so the group is a name for rights only.
_GROUP = "mmgateway-reader"
_JOIN_SECONDS = 30.0
# A transaction that a killed matcher left open hides later markers for up to 40 s.
_READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Publisher:
    """Both steps, ready to start."""

    writer: VOEventWriter
    sender: Broadcasting

    def start(self) -> None:
        """Start both threads."""
        self.writer.start()
        self.sender.start()

    def join(self) -> None:
        """Wait until both have ended what they were doing."""
        for step in (self.writer, self.sender):
            step.join(_JOIN_SECONDS)

    @property
    def failure(self) -> Exception | None:
        """What ended the first step that failed."""
        return self.writer.failure or self.sender.failure


def open_publisher(
    bootstrap: str,
    properties: Mapping[str, str],
    settings: Publish,
    send: Send,
    over: threading.Event,
    now: Callable[[], Any],
) -> Publisher:
    """Fence earlier publishers, find where they stopped and go on there.

    Private streams are found by their topics, those that are added later too.

    Raises
    ------
    ServiceError
        If Kafka does not answer or takes no transactions.
    """
    producer = kafka_io.producer(
        bootstrap,
        properties,
        transactional_id=_NAME,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
    )
    try:
        producer.init_transactions(30)
    except KafkaException as error:
        raise ServiceError(
            f"Kafka at {bootstrap} does not take transactions: {error.args[0].str()}"
        ) from error
    marks: Marks = marks_of(
        kafka_io.read_all(bootstrap, properties, topics.MARKER, timeout=_READ_SECONDS)
    )

    def reader(names: Sequence[str], position: Any) -> PartitionReader:
        return PartitionReader(kafka_io.consumer(bootstrap, properties, _GROUP), names, position)

    return Publisher(
        VOEventWriter(
            producer,
            reader((*topics.all_candidates(), topics.RETRY), marks.publish),
            Packets(settings, marks.heard),
            over,
            now,
            lambda stream: services.ensure_topics(bootstrap, properties, streams=[stream]),
            marks.made,
        ),
        Broadcasting(
            reader([topics.VOEVENTS], marks.vtp),
            send,
            _keeper(bootstrap, properties),
            over,
        ),
    )


def _keeper(bootstrap: str, properties: Mapping[str, str]) -> Callable[[bytes], None]:
    """Writes the position of the broadcast; outside transactions, of which it is no part."""
    producer = kafka_io.producer(bootstrap, properties)

    def keep(position: bytes) -> None:
        failures: list[str] = []

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failures.append(error.str())

        kafka_io.send(producer, topics.MARKER, position, VTP_KEY, on_delivery=delivered)
        if producer.flush(30) or failures:
            why = failures[0] if failures else "no answer within 30 s"
            raise ServiceError(f"the position of the broadcast was not kept: {why}")

    return keep


def run(config: Config, now: Callable[[], Any]) -> None:
    """Run the publish service in the foreground until SIGTERM or SIGINT."""
    from twisted.internet import reactor, threads
    from twisted.internet.defer import DeferredList

    from voevents.vtp import Broadcaster

    bootstrap = services.find_bootstrap(config)
    properties = config.kafka.properties
    services.ensure_all_topics(config, bootstrap)
    doors = {"": (config.vtp.broadcast_port, config.vtp.subscriber_allow)} | {
        name: (stream.broadcast_port, stream.subscriber_allow)
        for name, stream in sorted(config.streams.items())
        if stream.broadcast_port
    }
    broadcasters: dict[str, Any] = {
        stream: Broadcaster(reactor, config.vtp.host, port, config.vtp.local_ivo, allow=allow)
        for stream, (port, allow) in doors.items()
    }
    over = threading.Event()

    def send(stream: str, xml: bytes) -> None:
        # A stream without a port has no VTP subscribers: Kafka is its only way.
        if stream in broadcasters:
            threads.blockingCallFromThread(reactor, broadcasters[stream].publish, xml)

    def stop() -> Any:
        # First the steps, which need the reactor, then the connections: what a step gave
        # to the broadcaster still goes out to whoever reads it.
        over.set()
        ended = threads.deferToThread(publisher.join)
        return ended.addCallback(lambda _: DeferredList([b.stop() for b in broadcasters.values()]))

    publisher = open_publisher(bootstrap, properties, config.publish, send, over, now)
    ports = {stream: broadcaster.listen() for stream, broadcaster in broadcasters.items()}
    port = ports.pop("")
    publisher.start()
    services.announce(
        config.paths.state,
        "publish",
        endpoint=f"vtp://{config.vtp.host}:{port}",
        broadcast_port=port,
        private_ports=ports,
    )
    log.info("publish_started", kafka=bootstrap, broadcast_port=port, private=len(ports))
    try:
        _run_reactor(reactor, over, stop)
    finally:
        services.withdraw(config.paths.state, "publish")
    if publisher.failure is not None:
        raise ServiceError(f"publishing ended: {publisher.failure}") from publisher.failure


def _run_reactor(reactor: Any, over: threading.Event, stop: Callable[[], Any]) -> None:
    """Run the reactor until a signal or ``over``, then ``stop`` while it still runs."""
    from twisted.internet.task import LoopingCall

    def watch() -> None:
        if over.is_set() and reactor.running:
            watching.stop()
            reactor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    watching = LoopingCall(watch)
    watching.start(0.2)
    reactor.run(installSignalHandlers=False)


__all__ = ["RETRY_KEY", "RETRY_TOPIC", "Publisher", "open_publisher", "run"]
