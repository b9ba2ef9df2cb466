"""The publish service: candidate statements become VOEvents, on Kafka and by VTP.

Two steps, each resumed where it stopped:

1. Every statement becomes a VOEvent on ``mm.voevents``. The VOEvents and the offsets of
   the statements that they came from are committed in one Kafka transaction, so each
   statement gives one VOEvent whatever crashes.
2. VOEvents marked for VTP are broadcast, then their offset is committed. After a crash
   between the two the last one is sent again, byte for byte the same, as VTP allows.

A VOEvent is marked for VTP when its candidate has the tier for it, or had it once: a
robot that heard of a candidate also hears of its fall and withdrawal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException

from broker import kafka_io, topics
from broker.codec import decode, encode_dead_letter
from broker.kafka_io import Record
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import TIERS
from gateway import services
from gateway.config import Config, Publish
from gateway.logs import EventLog
from voevents.build import build_voevent, candidate_ivoid

log = EventLog("publish")

_GROUP = "mmgateway-voevents"
_BROADCAST_GROUP = "mmgateway-vtp"
_VTP_HEADER = "vtp"


@dataclass(frozen=True, slots=True)
class Packet:
    """A VOEvent made from a statement."""

    ivoid: str
    pair: str
    xml: bytes
    by_vtp: bool


class Packets:
    """Makes VOEvents and remembers which candidates VTP subscribers have heard of.

    Parameters
    ----------
    settings : Publish
    heard : iterable of str
        Pairs of counterpart and event that were marked for VTP before.
    """

    def __init__(self, settings: Publish, heard: set[str]) -> None:
        self._settings = settings
        self._heard = heard

    def make(self, statement: Mapping[str, Any]) -> Packet:
        """VOEvent of one statement."""
        settings = self._settings
        pair = f"{statement['counterpart_id']}/{statement['event_id']}"
        good = TIERS.index(statement["tier"]) >= TIERS.index(settings.min_tier)
        by_vtp = pair in self._heard or (good and statement["state"] == "in_force")
        if by_vtp:
            self._heard.add(pair)
        return Packet(
            ivoid=candidate_ivoid(statement, settings.author_ivo),
            pair=pair,
            xml=build_voevent(
                statement,
                author_ivo=settings.author_ivo,
                contact_name=settings.contact_name,
                contact_email=settings.contact_email,
            ),
            by_vtp=by_vtp,
        )


class VOEventWriter(threading.Thread):
    """Step 1: statements to ``mm.voevents``, in transactions.

    Parameters
    ----------
    bootstrap, properties
        Of our Kafka.
    settings : Publish
    over : threading.Event
        Set to end.
    now : callable
        The clock of dead letters.
    """

    def __init__(
        self,
        bootstrap: str,
        properties: Mapping[str, str],
        settings: Publish,
        over: threading.Event,
        now: Callable[[], Any],
    ) -> None:
        super().__init__(name="voevent-writer", daemon=True)
        self._over = over
        self._now = now
        self.failure: Exception | None = None
        self._producer = kafka_io.producer(
            bootstrap, properties, transactional_id="mmgateway-publish"
        )
        try:
            self._producer.init_transactions(30)
        except KafkaException as error:
            raise ServiceError(
                f"Kafka at {bootstrap} does not take transactions: {error.args[0].str()}"
            ) from error
        self._packets = Packets(settings, _heard_before(bootstrap, properties))
        self._consumer = kafka_io.consumer(
            bootstrap, properties, _GROUP, topic_metadata_refresh_interval_ms=5000
        )
        names = [
            topics.candidates(m, r) for m in topics.MESSENGERS for r in ("observation", "test")
        ]
        self._consumer.subscribe(names)

    def run(self) -> None:
        """Until ``over`` or a failure, which is kept for whoever watches."""
        try:
            while not self._over.is_set():
                messages = self._consumer.consume(500, timeout=0.05)
                if messages:
                    self._commit([kafka_io.record(m) for m in messages])
        except (KafkaException, ServiceError) as error:
            self.failure = error
            self._over.set()
        finally:
            self._consumer.close()

    def _commit(self, messages: Sequence[Record]) -> None:
        self._producer.begin_transaction()
        for message in messages:
            self._produce(message)
        self._producer.send_offsets_to_transaction(
            kafka_io.next_offsets(messages), self._consumer.consumer_group_metadata()
        )
        self._producer.commit_transaction(30)
        log.info("voevents_written", count=len(messages))

    def _produce(self, message: Record) -> None:
        try:
            packet = self._packets.make(decode(message.value))
        except Rejected as error:
            log.error("voevent_rejected", reason=error.reason, detail=error.detail)
            letter = encode_dead_letter(
                reason=error.reason,
                detail=error.detail,
                source="publish",
                raw=message.value,
                received=self._now(),
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
            )
            kafka_io.send(self._producer, topics.DEAD_LETTER, letter, b"voevent")
            return
        kafka_io.send(
            self._producer,
            topics.VOEVENTS,
            packet.xml,
            packet.pair.encode(),
            headers=[
                ("ivoid", packet.ivoid.encode()),
                (_VTP_HEADER, b"yes" if packet.by_vtp else b"no"),
            ],
        )


def _heard_before(bootstrap: str, properties: Mapping[str, str]) -> set[str]:
    messages = kafka_io.read_all(bootstrap, properties, topics.VOEVENTS)
    return {m.key.decode() for m in messages if _by_vtp(m)}


def _by_vtp(message: Record) -> bool:
    return (_VTP_HEADER, b"yes") in message.headers


class Broadcasting(threading.Thread):
    """Step 2: VOEvents marked for VTP to the broadcaster, offset after offset.

    Parameters
    ----------
    consumer : Consumer
        Subscribed to ``mm.voevents``.
    send : callable
        Sends one VOEvent to all subscribers and returns when it is on its way.
    over : threading.Event
    """

    def __init__(
        self, consumer: Consumer, send: Callable[[bytes], None], over: threading.Event
    ) -> None:
        super().__init__(name="vtp-broadcast", daemon=True)
        self._consumer = consumer
        self._send = send
        self._over = over
        self.failure: Exception | None = None

    def run(self) -> None:
        """Until ``over`` or a failure, which is kept for whoever watches."""
        try:
            while not self._over.is_set():
                messages = [kafka_io.record(m) for m in self._consumer.consume(100, timeout=0.05)]
                for message in messages:
                    if _by_vtp(message):
                        self._send(message.value)
                if messages:
                    self._consumer.commit(
                        offsets=kafka_io.next_offsets(messages), asynchronous=False
                    )
        except (KafkaException, ServiceError) as error:
            self.failure = error
            self._over.set()
        finally:
            self._consumer.close()


def run(config: Config, now: Callable[[], Any]) -> None:
    """Run the publish service in the foreground until SIGTERM or SIGINT."""
    from twisted.internet import reactor, threads

    from voevents.vtp import Broadcaster

    bootstrap = services.find_bootstrap(config)
    properties = config.kafka.properties
    services.ensure_topics(bootstrap, properties, services.own_alert_topics(config))
    broadcaster: Any = Broadcaster(
        reactor,
        config.vtp.host,
        config.vtp.broadcast_port,
        config.vtp.local_ivo,
        allow=config.vtp.subscriber_allow,
    )
    over = threading.Event()
    writer = VOEventWriter(bootstrap, properties, config.publish, over, now)
    consumer = kafka_io.consumer(bootstrap, properties, _BROADCAST_GROUP)
    consumer.subscribe([topics.VOEVENTS])

    def send(xml: bytes) -> None:
        threads.blockingCallFromThread(reactor, broadcaster.publish, xml)

    sender = Broadcasting(consumer, send, over)
    port = broadcaster.listen()
    writer.start()
    sender.start()
    services.announce(
        config.paths.state,
        "publish",
        endpoint=f"vtp://{config.vtp.host}:{port}",
        broadcast_port=port,
    )
    log.info("publish_started", kafka=bootstrap, broadcast_port=port)
    _run_reactor(reactor, over)
    services.withdraw(config.paths.state, "publish")
    for thread in (writer, sender):
        if thread.failure is not None:
            raise ServiceError(f"publishing ended: {thread.failure}") from thread.failure


def _run_reactor(reactor: Any, over: threading.Event) -> None:
    """Run the reactor until a signal or ``over``."""
    from twisted.internet.task import LoopingCall

    def watch() -> None:
        if over.is_set() and reactor.running:
            reactor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    LoopingCall(watch).start(0.2)
    reactor.run(installSignalHandlers=False)


__all__ = ["Broadcasting", "Packets", "VOEventWriter", "run"]
