"""The two steps of the publish service: VOEvents are written, VOEvents are broadcast."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from broker.codec import decode, encode_dead_letter, iso
from broker.kafka_io import Record
from crossmatch.errors import NoticeError, Rejected, ServiceError
from gateway.logs import EventLog
from gateway.publisher.outgoing import Packet, Packets
from gateway.publisher.positions import (
    HEARD_PREFIX,
    MADE_PREFIX,
    PUBLISH_KEY,
    PartitionReader,
    encode_position,
)

log = EventLog("publish")

Send = Callable[[str, bytes], object]
RETRY_KEY = b"publish"
"""Key of the messages of ``mm.retry`` that the publisher takes."""
RETRY_TOPIC = "topic"
"""Their header with the topic of the statement."""
MAKE_SECONDS = 1.0
"""What was made in this time goes out before more is made; one VOEvent takes some ms."""
_BATCH = 500
_VTP_HEADER = "vtp"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that is ready to be sent."""

    topic: str
    value: bytes
    key: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Step(threading.Thread):
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


class VOEventWriter(Step):
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
    clock : callable, optional
        Monotonic seconds.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("voevent-writer", reader, over)
        self._producer = producer
        self._packets = packets
        self._now = now
        self._make_topics = make_topics
        self._known_streams = {""}
        self._made = set(made)
        self._clock = clock
        self._done = reader.position

    def work(self, messages: Sequence[Record]) -> None:
        """Their VOEvents and the position after them, visible together or not at all.

        Where making them takes long there are several transactions, one after another.
        """
        rest = deque(messages)
        while rest and not self._over.is_set():
            outcomes, ready = self._make(rest)
            self._commit(outcomes, ready)

    def _make(self, rest: deque[Record]) -> tuple[Counter[str], list[Outgoing]]:
        """What is to be sent for messages taken from the left of ``rest``, as time allows.

        A transaction is open for some seconds at most, so nothing is made while one is.
        """
        until = self._clock() + MAKE_SECONDS
        outcomes: Counter[str] = Counter()
        ready: list[Outgoing] = []
        while rest:
            message = rest.popleft()
            if message.topic != topics.RETRY or message.key == RETRY_KEY:
                outcome, some = self._made_from(message)
                outcomes[outcome] += 1
                ready += some
            self._done[(message.topic, message.partition)] = message.offset + 1
            if self._clock() >= until:
                break
        return outcomes, ready

    def _commit(self, outcomes: Counter[str], ready: Sequence[Outgoing]) -> None:
        position = encode_position(self._done)
        if outcomes:
            ready = [*ready, self._entry(outcomes, position)]
        try:
            self._producer.begin_transaction()
            for one in (*ready, Outgoing(topics.MARKER, position, PUBLISH_KEY)):
                kafka_io.send(self._producer, one.topic, one.value, one.key, headers=one.headers)
            self._producer.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(f"VOEvents were not written: {error.args[0].str()}") from error
        log.info("voevents_written", count=outcomes["made"])

    def _entry(self, outcomes: Counter[str], position: bytes) -> Outgoing:
        """The entry of a transaction in the ledger."""
        entry = {
            "kind": "voevents",
            "moment": iso(self._now()),
            "counts": {"received": outcomes.total(), **outcomes},
            **json.loads(position),
        }
        return Outgoing(topics.LEDGER, json.dumps(entry).encode(), b"voevents")

    def _made_from(self, message: Record) -> tuple[str, list[Outgoing]]:
        """The outcome for the ledger, and the VOEvent of a statement or the dead letter."""
        _, stream = topics.place_of(_origin(message))
        self._know(stream)
        try:
            packet = self._packet_of(message, stream)
        except Rejected as error:
            return "rejected", self._letters(error, message)
        except Exception as error:
            # A fault of ours must cost one statement, not the service, and be seen.
            log.error("voevent_failed", exc_info=True, topic=message.topic, offset=message.offset)
            fault = NoticeError("voevent_failed", f"{type(error).__name__}: {error}")
            return "rejected", self._letters(fault, message)
        headers = (
            ("ivoid", packet.ivoid.encode()),
            (_VTP_HEADER, b"yes" if packet.by_vtp else b"no"),
        )
        pair = packet.pair.encode()
        (topic,) = topics.seen_by(topics.VOEVENTS, _audience(stream))
        ready = [Outgoing(topic, packet.xml, pair, headers)]
        if packet.first:
            ready.append(Outgoing(topics.MARKER, b"vtp", HEARD_PREFIX + pair))
        if message.topic == topics.RETRY:
            self._made.add(packet.ivoid)
            key = MADE_PREFIX + packet.ivoid.encode()
            ready.append(Outgoing(topics.MARKER, b"made", key))
        return "made", ready

    def _know(self, stream: str) -> None:
        """Make the topics of a private stream before something is sent to them."""
        if stream not in self._known_streams:
            self._make_topics(stream)
            self._known_streams.add(stream)

    def _packet_of(self, message: Record, stream: str) -> Packet:
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

    def _letters(self, error: Rejected, message: Record) -> list[Outgoing]:
        """The dead letter, for the operator and for the private stream whose statement it is."""
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
        places = (topics.DEAD_LETTER, *topics.seen_by(topics.DEAD_LETTER, streams))
        return [Outgoing(topic, letter, b"voevent") for topic in dict.fromkeys(places)]


def _origin(message: Record) -> str:
    """Topic of a statement; of one that is sent again, the one on which it came first."""
    if message.topic != topics.RETRY:
        return message.topic
    return dict(message.headers).get(RETRY_TOPIC, b"").decode("utf-8", "replace")


def _audience(stream: str) -> tuple[str, ...]:
    return (stream,) if stream else ()


class Broadcasting(Step):
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
