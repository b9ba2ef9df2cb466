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

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from broker.codec import decode, encode_dead_letter, iso
from broker.kafka_io import Record
from crossmatch.errors import NoticeError, Rejected, ServiceError
from gateway import services
from gateway.config import Config, Publish
from gateway.logs import EventLog
from gateway.publisher.outgoing import Packet, Packets
from gateway.publisher.positions import (
    HEARD_PREFIX,
    MADE_PREFIX,
    PUBLISH_KEY,
    VTP_KEY,
    Marks,
    PartitionReader,
    encode_position,
    marks_of,
)

log = EventLog("publish")

Send = Callable[[str, bytes], object]
TRANSACTION_TIMEOUT_MS = 10_000
_NAME = "mmgateway-publish"
# Partitions are assigned and no offset is committed, so the group is a name for rights only.
_GROUP = "mmgateway-reader"
_VTP_HEADER = "vtp"
RETRY_KEY = b"publish"
"""Key of the messages of ``mm.retry`` that the publisher takes."""
RETRY_TOPIC = "topic"
"""Their header with the topic of the statement."""
_BATCH = 500
_JOIN_SECONDS = 30.0
# A transaction that a killed matcher left open hides later markers for up to 40 s.
_READ_SECONDS = 60.0


class _Step(threading.Thread):
    """Reads and works until ``over`` or a failure, which is kept for whoever watches."""

    def __init__(self, name: str, reader: PartitionReader, over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._reader = reader
        self._over = over
        self.failure: Exception | None = None

    def run(self) -> None:
        """Work in this thread."""
        try:
            while not self._over.is_set():
                messages = self._reader.read(_BATCH)
                if messages:
                    self.work(messages)
        except Exception as error:
            # Whatever it is: a service that seems to run and does nothing is worse.
            log.error("step_failed", step=self.name, detail=str(error), exc_info=True)
            self.failure = error
            self._over.set()
        finally:
            self._reader.close()

    def work(self, messages: Sequence[Record]) -> None:
        """Do what is to be done with messages that came."""
        raise NotImplementedError


class VOEventWriter(_Step):
    """Step 1: statements to ``mm.voevents``, or to those of their stream, in transactions.

    Parameters
    ----------
    producer : Producer
        Transactional and initialised.
    reader : PartitionReader
        Of the candidate topics.
    packets : Packets
    over : threading.Event
        Set to end.
    now : callable
        The clock of dead letters and of the ledger.
    make_topics : callable, optional
        Called with the name of a private stream before the first VOEvent for it.
    made : iterable of str
        IVOIDs of the VOEvents that were made from statements that were sent again.
    """

    def __init__(
        self,
        producer: Any,
        reader: PartitionReader,
        packets: Packets,
        over: threading.Event,
        now: Callable[[], Any],
        make_topics: Callable[[str], object] = lambda stream: None,
        made: Iterable[str] = (),
    ) -> None:
        super().__init__("voevent-writer", reader, over)
        self._producer = producer
        self._packets = packets
        self._now = now
        self._make_topics = make_topics
        self._known_streams = {""}
        self._made = set(made)

    def work(self, messages: Sequence[Record]) -> None:
        """Their VOEvents and the position after them, visible together or not at all."""
        statements = [m for m in messages if m.topic != topics.RETRY or m.key == RETRY_KEY]
        for stream in {topics.place_of(_origin(m))[1] for m in statements} - self._known_streams:
            self._make_topics(stream)
            self._known_streams.add(stream)
        try:
            self._producer.begin_transaction()
            outcomes = Counter(self._produce(message) for message in statements)
            position = encode_position(self._reader.position)
            if statements:
                self._tell(outcomes, position)
            kafka_io.send(self._producer, topics.MARKER, position, PUBLISH_KEY)
            self._producer.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(f"VOEvents were not written: {error.args[0].str()}") from error
        log.info("voevents_written", count=outcomes["made"])

    def _tell(self, outcomes: Counter[str], position: bytes) -> None:
        """The entry of a transaction in the ledger."""
        entry = {
            "kind": "voevents",
            "moment": iso(self._now()),
            "counts": {"received": outcomes.total(), **outcomes},
            **json.loads(position),
        }
        kafka_io.send(self._producer, topics.LEDGER, json.dumps(entry).encode(), b"voevents")

    def _produce(self, message: Record) -> str:
        """Send the VOEvent of a statement, or the dead letter; the outcome for the ledger."""
        _, stream = topics.place_of(_origin(message))
        try:
            packet = self._made_of(message, stream)
        except Rejected as error:
            self._reject(error, message)
            return "rejected"
        except Exception as error:
            # A fault of ours must cost one statement, not the service, and be seen.
            log.error("voevent_failed", exc_info=True, topic=message.topic, offset=message.offset)
            self._reject(NoticeError("voevent_failed", f"{type(error).__name__}: {error}"), message)
            return "rejected"
        headers = [
            ("ivoid", packet.ivoid.encode()),
            (_VTP_HEADER, b"yes" if packet.by_vtp else b"no"),
        ]
        pair = packet.pair.encode()
        (topic,) = topics.seen_by(topics.VOEVENTS, _audience(stream))
        kafka_io.send(self._producer, topic, packet.xml, pair, headers=headers)
        if packet.first:
            kafka_io.send(self._producer, topics.MARKER, b"vtp", HEARD_PREFIX + pair)
        if message.topic == topics.RETRY:
            self._made.add(packet.ivoid)
            kafka_io.send(
                self._producer, topics.MARKER, b"made", MADE_PREFIX + packet.ivoid.encode()
            )
        return "made"

    def _made_of(self, message: Record, stream: str) -> Packet:
        """The VOEvent; refused if it was made from the same statement when that was sent before."""
        statement = decode(message.value)
        if message.topic == topics.RETRY:
            if topics.place_of(_origin(message))[0] not in topics.all_candidates():
                # Without it nobody knows whether it is private.
                raise NoticeError("no_topic", f"{_origin(message)!r} is no topic of candidates")
            ivoid = self._packets.ivoid(statement, stream)
            if ivoid in self._made:
                raise NoticeError("already_made", f"the VOEvent {ivoid} was made before")
        return self._packets.make(statement, stream)

    def _reject(self, error: Rejected, message: Record) -> None:
        log.error("voevent_rejected", reason=error.reason, detail=error.detail)
        streams = _audience(topics.place_of(_origin(message))[1])
        letter = encode_dead_letter(
            reason=error.reason,
            detail=error.detail,
            source="publish",
            raw=message.value,
            received=self._now(),
            # Of one that was sent again too the topic tells whose it is.
            topic=_origin(message),
            partition=message.partition,
            offset=-1 if message.topic == topics.RETRY else message.offset,
            streams=streams,
        )
        for topic in dict.fromkeys(
            (topics.DEAD_LETTER, *topics.seen_by(topics.DEAD_LETTER, streams))
        ):
            kafka_io.send(self._producer, topic, letter, b"voevent")


def _origin(message: Record) -> str:
    """Topic of a statement; of one that is sent again, the one on which it came first."""
    if message.topic != topics.RETRY:
        return message.topic
    return dict(message.headers).get(RETRY_TOPIC, b"").decode("utf-8", "replace")


def _audience(stream: str) -> tuple[str, ...]:
    return (stream,) if stream else ()


class Broadcasting(_Step):
    """Step 2: VOEvents marked for VTP to the broadcaster, one after another.

    Parameters
    ----------
    reader : PartitionReader
        Of ``mm.voevents``.
    send : callable
        From the private stream (empty: everybody) and a VOEvent: sends it to all
        subscribers of that stream and returns when it is on its way.
    keep : callable
        Keeps the position, as the text of a marker message.
    over : threading.Event
        Set to end.
    """

    def __init__(
        self,
        reader: PartitionReader,
        send: Send,
        keep: Callable[[bytes], None],
        over: threading.Event,
    ) -> None:
        super().__init__("vtp-broadcast", reader, over)
        self._send = send
        self._keep = keep
        self._sent = reader.position

    def work(self, messages: Sequence[Record]) -> None:
        """Broadcast those that are to be; keep the position after each, and at the end."""
        kept = True
        for message in messages:
            wanted = (_VTP_HEADER, b"yes") in message.headers
            if wanted:
                self._broadcast(message)
            self._sent[(message.topic, message.partition)] = message.offset + 1
            if wanted:
                self._keep(encode_position(self._sent))
            kept = wanted
        if not kept:
            self._keep(encode_position(self._sent))

    def _broadcast(self, message: Record) -> None:
        try:
            self._send(topics.place_of(message.topic)[1], message.value)
        except NoticeError as error:
            # Not of our making: whoever may write to the topic must not stop the others' events.
            log.error("not_broadcast", reason=error.reason, offset=message.offset)


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


__all__ = ["Broadcasting", "Packets", "Publisher", "VOEventWriter", "open_publisher", "run"]
