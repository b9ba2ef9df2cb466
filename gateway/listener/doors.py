"""The doors of the listener: GCN's Kafka and ours, VTP, a folder, and the feeds' own sources."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from broker import kafka_io
from crossmatch.errors import Rejected, ServiceError
from gateway import services
from gateway.config import Config
from gateway.feeds.registry import HEARTBEAT, Registry
from gateway.feeds.spec import Feed
from gateway.listener.livefeeds import streams_of
from gateway.listener.retry import RetrySource
from gateway.listener.sources import Arrival, Complaints, FolderSource, KafkaSource, Link
from gateway.listener.transports import MEMBER, Transports, VtpSource
from gateway.listener.worker import Worker
from gateway.logs import EventLog
from voevents.validate import check_submission, validate_submission

log = EventLog("listen")

_LOOKS = 10
# Partitions are assigned and no offset is committed, so the group is a name for rights only.
_READER = "mmgateway-reader"
OURS: Mapping[str, int] = {**MEMBER, "topic_metadata_refresh_interval_ms": 1000}
"""On our own Kafka topics are made while we run, and asking it costs nothing."""


class Doors:
    """Opens the sources, has them hear what the feeds hear, and closes them.

    Parameters
    ----------
    config : Config
    bootstrap : str
        Our Kafka.
    reactor : twisted reactor
    worker : Worker
    now : callable
        UTC.
    failed : callable
        Told the error of a source that all feeds share (from any thread).
    link : Link, optional
        Told how the servers are.
    retry_from : int
        First message of ``mm.retry`` that was not taken in.
    """

    def __init__(
        self,
        config: Config,
        bootstrap: str,
        reactor: Any,
        worker: Worker,
        now: Callable[[], datetime],
        failed: Callable[[Exception], None],
        link: Link | None = None,
        retry_from: int = 0,
    ) -> None:
        self._config = config
        self._bootstrap = bootstrap
        self._reactor = reactor
        self._worker = worker
        self._now = now
        self._failed = failed
        self._link = link
        self._retry_from = retry_from
        self._stops: list[Callable[[], Any]] = []
        self._kafka: dict[str, KafkaSource] = {}
        self._remotes: list[VtpSource] = []
        self._unheard: dict[str, str] = {}
        self._transports = Transports(
            worker.deliver,
            now,
            config.listen.poll_seconds,
            reactor,
            self._subscriber_of,
            link=link,
        )
        self.receiver_port = 0

    def open(self, registry: Registry) -> None:
        """Open all; in the reactor's thread.

        Raises
        ------
        ServiceError
            If Kafka does not answer, or a port or folder cannot be used.
        """
        self.prepare(registry)
        self._open_folder()
        self._open_vtp()
        self._open_retries()
        self.follow(registry)

    def prepare(self, registry: Registry) -> None:
        """Make the topics that these feeds write to, and close what they no longer have."""
        specs = services.private_topic_specs(streams_of(registry))
        kafka_io.ensure_topics(self._bootstrap, self._config.kafka.properties, specs)
        self._transports.drop(registry)

    def follow(self, registry: Registry) -> None:
        """Hear the topics of these feeds, and their own sources."""
        config = self._config
        wanted = list(config.gcn.topics) or list(registry.topics())
        subscribed = config.gcn.enabled and config.gcn.bootstrap == self._bootstrap
        asked = wanted if config.gcn.topics or subscribed else topics_for_others(registry)
        if not config.kafka.bootstrap:
            # Before they are asked for: who asks for a topic that is not there asks again late.
            large = {"max.message.bytes": str(kafka_io.MAX_MESSAGE_BYTES)}
            specs = [kafka_io.TopicSpec(name, 1, large) for name in wanted]
            for _ in range(_LOOKS):
                # A topic that was made is not seen at once.
                if not kafka_io.ensure_topics(self._bootstrap, config.kafka.properties, specs):
                    break
        if config.gcn.enabled and asked:
            # Another Kafka with the same topics need not have the heartbeat.
            beats = [] if config.gcn.bootstrap or HEARTBEAT in asked else [HEARTBEAT]
            self._hear("gcn", [*asked, *beats])
        if not config.kafka.bootstrap and wanted and not subscribed:
            self._hear("own", wanted)
        own = [] if config.kafka.bootstrap else wanted
        self._tell_unheard(registry, {*own, *(asked if config.gcn.enabled else ())})
        self._transports.open(registry)

    def tell(self, link: Link) -> None:
        """Tell ``link`` which VTP brokers are connected (from any thread)."""
        for remote in self._remotes:
            remote.tell(link, self._now())
        self._transports.tell(link)

    def broken(self) -> dict[str, str]:
        """What is wrong with where feeds are heard, by feed (from any thread)."""
        return {**self._unheard, **self._transports.broken()}

    def close(self) -> Any:
        """Close all; a Deferred. While the reactor still runs, so that VTP closes in order."""
        from twisted.internet.defer import DeferredList, maybeDeferred

        self._transports.close()
        return DeferredList([maybeDeferred(stop) for stop in self._stops], consumeErrors=True)

    def _tell_unheard(self, registry: Registry, heard: Collection[str]) -> None:
        """Private feeds that no Kafka is asked for: that of others never hears their names."""
        found = {f.name: _unheard(f) for f in registry.feeds if _is_unheard(f, heard)}
        for name in sorted(found.keys() - self._unheard.keys()):
            log.error("feed_broken", feed=name, detail=found[name])
        self._unheard = found

    def _hear(self, which: str, wanted: Sequence[str]) -> None:
        source = self._kafka.get(which)
        if source is not None:
            source.subscribe(wanted)
            return
        complaints = Complaints()
        make = _gcn_consumer if which == "gcn" else _own_consumer
        name, client = make(self._config, self._bootstrap, {"error_cb": complaints})
        if self._link is not None:
            gcn = self._config.gcn
            self._link.opened(name, credentials=which == "gcn" and not gcn.bootstrap)
        source = KafkaSource(name, client, wanted, self._worker.deliver, self._now, link=self._link)
        complaints.source = source
        source.start(self._failed)
        self._kafka[which] = source
        self._stops.append(source.stop)
        log.info("kafka_subscribed", server=name, topics=len(wanted))

    def _open_folder(self) -> None:
        if not self._config.listen.folder:
            return
        folder = Path(self._config.listen.folder).expanduser()
        source = FolderSource(folder, self._worker.deliver, self._now)
        over = threading.Event()

        def watch() -> None:
            try:
                while not over.wait(self._config.listen.poll_seconds):
                    source.poll()
            except Exception as error:
                self._failed(error)

        threading.Thread(target=watch, name="folder", daemon=True).start()
        self._stops.append(over.set)
        log.info("folder_watched", folder=folder)

    def _open_retries(self) -> None:
        properties = self._config.kafka.properties
        client = kafka_io.consumer(self._bootstrap, properties, _READER)
        source = RetrySource(client, self._retry_from, self._worker.deliver, self._now)
        source.start(self._failed)
        self._stops.append(source.stop)

    def _open_vtp(self) -> None:
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
            check=validate_submission if vtp.strict else check_submission,
            **common,
        )
        self.receiver_port = receiver.listen()
        self._stops.append(receiver.stop)
        for remote in vtp.remotes:
            host, _, port = remote.rpartition(":")
            subscriber = Subscriber(
                self._reactor, host, int(port), vtp.local_ivo, self._packet, **common
            )
            self._hear_broker(remote, subscriber)

    def _hear_broker(self, remote: str, subscriber: Any) -> None:
        if self._link is not None:
            self._link.opened(remote)
        self._remotes.append(VtpSource(self._reactor, remote, lambda: subscriber))
        self._stops.append(subscriber.stop)

    def _subscriber_of(self, host: str, port: int, feed: str) -> Any:
        """A subscription of one feed; its memory is its own, for it may be private."""
        from voevents.vtp import Subscriber

        return Subscriber(
            self._reactor,
            host,
            port,
            self._config.vtp.local_ivo,
            lambda raw, peer: self._packet(raw, peer, feed),
            on_reject=lambda error, raw, peer: self._refused(error, raw, peer, feed),
        )

    def _packet(self, raw: bytes, peer: str, feed: str = "") -> Any:
        """A packet by VTP; the Deferred fires once it is stored, so that only then it is acked."""
        from twisted.internet.defer import Deferred

        answer: Deferred[None] = Deferred()
        arrival = Arrival(raw, f"vtp:{peer}", "", self._now(), feed=feed)

        def stored() -> None:
            self._reactor.callFromThread(answer.callback, None)

        if not self._worker.offer(arrival, stored):
            # The peer gets no receipt and sends it again.
            raise ServiceError("too many notices wait to be stored")
        return answer

    def _refused(self, error: Rejected, raw: bytes, peer: str, feed: str = "") -> None:
        """What VTP refused is kept as well, with the reason."""
        arrival = Arrival(raw, f"vtp:{peer}", "", self._now(), feed=feed, refused=error)
        if not self._worker.offer(arrival, lambda: None):
            log.error("refused_packet_lost", peer=peer, reason=error.reason, bytes=len(raw))


def _is_unheard(feed: Feed, heard: Collection[str]) -> bool:
    """Whether a private feed has topics, but neither of them nor a source of its own is heard."""
    transport = feed.transport
    return (
        feed.enabled
        and bool(feed.audience and feed.topics)
        and not (transport.kafka or transport.vtp or transport.folder)
        and not set(feed.topics) & set(heard)
    )


def _unheard(feed: Feed) -> str:
    return (
        f"{feed.source or feed.name}: no Kafka is asked for {', '.join(feed.topics)}, because the"
        " feed is private and the name may be a secret; write [transport] kafka ="
        ' "host:port" with the Kafka that has it, or delete topics if the messages come by VTP or'
        " a folder"
    )


def topics_for_others(registry: Registry) -> list[str]:
    """Topics that somebody else's Kafka may be asked for: a private name betrays its feed.

    All of public feeds, and of private ones those that are that Kafka's own by their names.
    """
    public = {t for feed in registry.feeds if not feed.audience for t in feed.topics}
    return [t for t in registry.topics() if t in public or t.startswith(("gcn.", "igwn."))]


def _own_consumer(config: Config, bootstrap: str, extra: dict[str, Any]) -> tuple[str, Any]:
    """Name and a consumer of our own Kafka, where others may put notices too."""
    group = f"{config.gcn.group_id}-own"
    # A named member takes the place of its killed predecessor at once, not after 45 s.
    return "own", kafka_io.consumer(
        bootstrap, {**config.kafka.properties, **extra}, group, group_instance_id=group, **OURS
    )


def _gcn_consumer(config: Config, bootstrap: str, extra: dict[str, Any]) -> tuple[str, Any]:
    """Name of the server and a consumer of GCN's topics, or of those of another Kafka."""
    gcn = config.gcn
    if gcn.bootstrap:
        return gcn.bootstrap, kafka_io.consumer(
            gcn.bootstrap,
            {**gcn.properties, **extra},
            gcn.group_id,
            **(OURS if gcn.bootstrap == bootstrap else MEMBER),
        )
    import gcn_kafka

    settings: dict[str, Any] = {
        "domain": gcn.domain,
        "client_id": gcn.client_id,
        "client_secret": gcn.client_secret,
        "group.id": gcn.group_id,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": MEMBER["session_timeout_ms"],
        "topic.metadata.refresh.interval.ms": MEMBER["topic_metadata_refresh_interval_ms"],
        "fetch.message.max.bytes": kafka_io.MAX_MESSAGE_BYTES,
        "log_level": 2,
        **gcn.properties,
        **extra,
    }
    client = gcn_kafka.Consumer(settings)
    return f"kafka.{gcn.domain}", client
