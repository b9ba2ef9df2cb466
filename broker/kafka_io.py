"""Kafka clients with our settings, and the few calls that several services make."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from crossmatch.errors import ConfigError, ServiceError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""A GW notice with two sky maps exceeds 2 MB; GCN's own limit is 4 MiB."""


ANSWER_SECONDS = 5.0
"""Who asks for the first time is told within this that no Kafka answers."""
REFUSED_SECONDS = 1.5
"""Sooner, where every broker refuses: one that just starts may have a moment."""
_READ_ON = 200
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that must exist, and how it is kept."""

    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


def _quiet(error: KafkaError) -> None:
    """Connection trouble is reported by the call that needed the connection."""


def _base(bootstrap: str, properties: Mapping[str, str]) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "log_level": 2,
        "error_cb": _quiet,
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 1000,
        **properties,
    }


def _made(kind: Callable[[dict[str, Any]], _T], settings: dict[str, Any]) -> _T:
    """A client; a property that librdkafka does not know is a fault of the configuration."""
    try:
        return kind(settings)
    except KafkaException as error:
        raise ConfigError(f"[kafka] properties: {error.args[0].str()}") from error


def producer(bootstrap: str, properties: Mapping[str, str], **extra: object) -> Producer:
    """Idempotent producer; ``extra`` uses underscores for dots (``transactional_id``)."""
    settings = {
        **_base(bootstrap, properties),
        "enable.idempotence": True,
        "linger.ms": 2,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "compression.type": "lz4",
        "queue.buffering.max.kbytes": 262144,
    }
    return _made(Producer, settings | {k.replace("_", "."): v for k, v in extra.items()})


def consumer(
    bootstrap: str, properties: Mapping[str, str], group: str, **extra: object
) -> Consumer:
    """``read_committed`` consumer that starts at the earliest message and commits by hand."""
    settings = {
        **_base(bootstrap, properties),
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": False,
        "fetch.wait.max.ms": 20,
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
    }
    return _made(Consumer, settings | {k.replace("_", "."): v for k, v in extra.items()})


def ensure_topics(
    bootstrap: str, properties: Mapping[str, str], specs: Iterable[TopicSpec], timeout: float = 20
) -> list[str]:
    """Create the topics that do not exist; the names of those created.

    Raises
    ------
    ServiceError
        If Kafka does not answer or refuses.
    """
    existing = set(topic_names(bootstrap, properties, min(timeout, ANSWER_SECONDS)))
    missing = [s for s in specs if s.name not in existing]
    if not missing:
        return []
    admin = _made(AdminClient, _base(bootstrap, properties))
    futures = admin.create_topics(
        [
            NewTopic(
                s.name, num_partitions=s.partitions, replication_factor=-1, config=dict(s.config)
            )
            for s in missing
        ],
        operation_timeout=timeout,
    )
    for name, future in futures.items():
        try:
            future.result(timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ServiceError(f"Kafka refused to create the topic {name}: {error}") from error
    return [s.name for s in missing]


def topic_names(
    bootstrap: str, properties: Mapping[str, str], timeout: float = ANSWER_SECONDS
) -> list[str]:
    """Names of all topics.

    Raises
    ------
    ServiceError
        If Kafka does not answer.
    """
    errors: dict[int, str] = {}

    def note(error: KafkaError) -> None:
        errors[error.code()] = error.str()

    admin = _made(AdminClient, _base(bootstrap, properties) | {"error_cb": note})
    began = time.monotonic()
    while True:
        try:
            return list(admin.list_topics(timeout=min(0.5, timeout)).topics)
        except KafkaException as error:
            # Only now are the errors of the connections handed over.
            admin.poll(0)
            limit = REFUSED_SECONDS if KafkaError._ALL_BROKERS_DOWN in errors else timeout
            if time.monotonic() - began < limit:
                continue
            why = errors.get(KafkaError._AUTHENTICATION) or error.args[0].str()
            raise ServiceError(
                f"no Kafka answers at {bootstrap} ({why});"
                " start it with 'mmgateway up kafka' or correct [kafka] bootstrap"
            ) from error


@dataclass(frozen=True, slots=True)
class Record:
    """One message, free of the client that read it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def record(message: Message) -> Record:
    """``message`` as a record.

    Raises
    ------
    ServiceError
        If it is none: errors arrive as messages too.
    """
    error = message.error()
    if error is not None:
        raise ServiceError(f"Kafka: {error.str()}")
    raw: Any = message
    return Record(
        topic=raw.topic(),
        partition=raw.partition(),
        offset=raw.offset(),
        key=raw.key() or b"",
        value=raw.value() or b"",
        headers=tuple((name, value or b"") for name, value in raw.headers() or ()),
    )


def send(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes]] = (),
    on_delivery: Callable[[Any, Any], None] | None = None,
    poll: bool = True,
) -> None:
    """Hand a message to ``producer``; waits while its queue is full.

    A ``value`` of None lets a compacted topic forget the key. Without ``poll`` callbacks wait for
    the next call that polls, such as a flush or a commit.
    """
    options: dict[str, Any] = {"headers": list(headers)}
    if on_delivery is not None:
        options["on_delivery"] = on_delivery
    while True:
        try:
            producer.produce(topic, value, key, **options)
            break
        except BufferError:
            producer.poll(0.1)
    if poll:
        producer.poll(0)


def next_offsets(records: Sequence[Record]) -> list[TopicPartition]:
    """Where to go on after ``records``, one entry a partition."""
    ends: dict[tuple[str, int], int] = {}
    for r in records:
        ends[(r.topic, r.partition)] = max(ends.get((r.topic, r.partition), 0), r.offset + 1)
    return [TopicPartition(topic, number, end) for (topic, number), end in ends.items()]


def read_all(
    bootstrap: str,
    properties: Mapping[str, str],
    topic: str,
    *,
    start: int = 0,
    end: int | None = None,
    timeout: float = 30,
) -> Iterator[Record]:
    """Committed messages of ``topic`` from ``start`` to its end as of now, or before ``end``.

    Aborted transactions and the marks of committed ones leave gaps, so that the last
    message is known by position, or by the end of the partition. A transaction of somebody
    else that is still open hides what was committed after it began: that is waited for.

    Raises
    ------
    ServiceError
        When Kafka does not answer.
    """
    client = consumer(bootstrap, properties, "mmgateway-reader", enable_partition_eof=True)
    try:
        stops: dict[int, int] = {}
        assignment = []
        for number, high in ends(bootstrap, properties, topic, timeout).items():
            low, _ = client.get_watermark_offsets(TopicPartition(topic, number), timeout)
            begin, stop = max(low, start), high if end is None else min(high, end)
            if begin < stop:
                assignment.append(TopicPartition(topic, number, begin))
                stops[number] = stop
        client.assign(assignment)
        while stops:
            message: Any = client.poll(timeout)
            if message is None:
                raise ServiceError(f"Kafka gave nothing of {topic} for {timeout:.0f} s")
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                if message.offset() >= stops.get(message.partition(), 0):
                    stops.pop(message.partition(), None)
                continue
            found = record(message)
            stop = stops.get(found.partition, 0)
            if found.offset < stop:
                yield found
            if found.offset >= stop - 1:
                stops.pop(found.partition, None)
    except KafkaException as error:
        raise ServiceError(f"cannot read {topic} at {bootstrap}: {error.args[0].str()}") from error
    finally:
        client.close()


def ends(
    bootstrap: str, properties: Mapping[str, str], topic: str, timeout: float = 30
) -> dict[int, int]:
    """End of each partition, open transactions included."""
    admin = _made(AdminClient, _base(bootstrap, properties))
    every = _ends(
        admin, lambda names: {topic} & set(names), IsolationLevel.READ_UNCOMMITTED, timeout
    )
    if topic not in every:
        raise ServiceError(f"there is no topic {topic} at {bootstrap}")
    return every[topic]


def committed_ends(
    bootstrap: str,
    properties: Mapping[str, str],
    choose: Callable[[Iterable[str]], Iterable[str]],
    timeout: float = 30,
) -> dict[str, dict[int, int]]:
    """End of each partition of some topics, before transactions that are open: one question.

    Parameters
    ----------
    bootstrap : str
    properties : mapping
    choose : callable
        From the names of all topics to those that are asked for.
    timeout : float
        Seconds.

    Raises
    ------
    ServiceError
        When Kafka does not answer.
    """
    admin = _made(AdminClient, _base(bootstrap, properties))
    try:
        return _ends(admin, choose, IsolationLevel.READ_COMMITTED, timeout)
    except KafkaException as error:
        raise ServiceError(
            f"Kafka at {bootstrap} does not tell where topics end: {error.args[0].str()}"
        ) from error


def _ends(
    admin: AdminClient,
    choose: Callable[[Iterable[str]], Iterable[str]],
    isolation: IsolationLevel,
    timeout: float,
) -> dict[str, dict[int, int]]:
    # All topics are listed: asking for one by name would make it.
    described = admin.list_topics(timeout=timeout).topics
    found: dict[str, dict[int, int]] = {name: {} for name in choose(described)}
    spec: Any = OffsetSpec
    asked = {
        TopicPartition(name, number): spec.latest()
        for name in found
        for number in described[name].partitions
    }
    if asked:
        told = admin.list_offsets(asked, isolation_level=isolation, request_timeout=timeout)
        for place, future in told.items():
            found[place.topic][place.partition] = future.result(timeout).offset
    return found


class PacketReader:
    """Fetches single messages again by (topic, partition, offset), bounded."""

    def __init__(self, bootstrap: str, properties: Mapping[str, str], timeout: float = 5.0) -> None:
        self._client = consumer(
            bootstrap, properties, "mmgateway-packets", enable_partition_eof=True
        )
        self._timeout = timeout
        self._from: dict[tuple[str, int], int] = {}

    def fetch(self, addresses: Iterable[tuple[str, int, int]]) -> dict[tuple[str, int, int], bytes]:
        """Values at ``addresses``; those that Kafka no longer has are left out.

        Raises
        ------
        ServiceError
            When Kafka does not answer: silence is not absence.
        """
        wanted: dict[tuple[str, int], deque[int]] = {}
        for topic, partition, offset in sorted(set(addresses)):
            wanted.setdefault((topic, partition), deque()).append(offset)
        self._from = {place: offsets[0] for place, offsets in wanted.items()}
        found: dict[tuple[str, int, int], bytes] = {}
        try:
            # All partitions at a time: each jump costs a round trip, which the others use.
            self._client.assign([TopicPartition(*place, o[0]) for place, o in wanted.items()])
            while wanted:
                message: Any = self._client.poll(self._timeout)
                if message is None:
                    raise ServiceError("Kafka gives no packets: it does not answer")
                self._take(message, wanted, found)
            self._client.unassign()
        except KafkaException as error:
            raise ServiceError(f"Kafka gives no packets: {error.args[0].str()}") from error
        return found

    def low(self, topic: str, partition: int) -> int:
        """First offset that Kafka still has."""
        try:
            low, _ = self._client.get_watermark_offsets(
                TopicPartition(topic, partition), self._timeout
            )
        except KafkaException as error:
            raise ServiceError(f"Kafka does not answer: {error.args[0].str()}") from error
        return int(low)

    def _take(
        self,
        message: Any,
        wanted: dict[tuple[str, int], deque[int]],
        found: dict[tuple[str, int, int], bytes],
    ) -> None:
        place = (message.topic(), message.partition())
        offsets = wanted.get(place)
        if offsets is None:
            return
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise ServiceError(f"Kafka: {error.str()}")
            offsets.clear()
        here = message.offset()
        if here < self._from[place]:
            # Kafka began anew at its first message: what is looked for lies behind its last one,
            # as in a topic that was deleted and made again.
            offsets.clear()
        # Kafka goes on at the first message it still has: what lies before it is gone.
        while offsets and offsets[0] < here:
            offsets.popleft()
        if offsets and offsets[0] == here and error is None:
            found[(*place, here)] = message.value() or b""
            offsets.popleft()
        if not offsets:
            del wanted[place]
            self._client.incremental_unassign([TopicPartition(*place)])
        elif offsets[0] > here + _READ_ON:
            # Reading on is cheaper than a jump when the next one is near.
            self._from[place] = offsets[0]
            self._client.seek(TopicPartition(*place, offsets[0]))

    def close(self) -> None:
        """Leave Kafka."""
        self._client.close()
