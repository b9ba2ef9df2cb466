"""Where the publisher stands, kept on the marker topic rather than as consumer offsets.

Kafka forgets the offsets of a group that was idle for a week, and with them what was said
already. A message on ``mm.marker``, compacted and never expired, is kept for ever, and it
belongs to the transaction whose position it tells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from broker import kafka_io, topics
from broker.kafka_io import Record
from crossmatch.errors import ServiceError
from gateway.logs import EventLog

log = EventLog("publish")

PUBLISH_KEY = b"publish"
"""Next statement of each partition of the candidate topics that has no VOEvent yet."""
VTP_KEY = b"vtp"
"""Next VOEvent of each partition of ``mm.voevents``, and of the private topics in its place, that
was not broadcast yet."""
HEARD_PREFIX = b"heard/"
"""Followed by a pair (counterpart, event) of which VTP subscribers have heard; before the pair
stands the private stream, if it is one's."""
MADE_PREFIX = b"made/"
"""Followed by the IVOID of a VOEvent that was made from a statement that was sent again."""
LOOK_SECONDS = 30.0
"""A partition, or a private stream, that was added is read this soon."""

Position = Mapping[tuple[str, int], int]
"""Next offset by topic and partition; one that is not there begins at 0."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What the marker topic says of the publisher."""

    publish: Position = field(default_factory=dict)
    vtp: Position = field(default_factory=dict)
    heard: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()


def encode_position(position: Position) -> bytes:
    """Text of a marker message."""
    tables: dict[str, dict[str, int]] = {}
    for (topic, number), offset in sorted(position.items()):
        tables.setdefault(topic, {})[str(number)] = offset
    return json.dumps({"next": tables}).encode()


def decode_position(value: bytes) -> dict[tuple[str, int], int]:
    """The inverse of :func:`encode_position`."""
    tables = json.loads(value)["next"]
    return {
        (topic, int(number)): int(offset)
        for topic, numbers in tables.items()
        for number, offset in numbers.items()
    }


def marks_of(messages: Iterable[Record]) -> Marks:
    """The last word of the marker topic on each matter."""
    last = {m.key: m.value for m in messages}
    heard = {key.removeprefix(HEARD_PREFIX) for key in last if key.startswith(HEARD_PREFIX)}
    made = {key.removeprefix(MADE_PREFIX) for key in last if key.startswith(MADE_PREFIX)}
    return Marks(
        publish=decode_position(last[PUBLISH_KEY]) if PUBLISH_KEY in last else {},
        vtp=decode_position(last[VTP_KEY]) if VTP_KEY in last else {},
        heard=frozenset(pair.decode() for pair in heard),
        made=frozenset(ivoid.decode() for ivoid in made),
    )


class PartitionReader:
    """Reads every partition of some topics, each from the position that is given.

    With a topic come those that stand in its place for private streams. Topics that are
    not there yet, and partitions that are added, begin at 0.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
        Closed by :meth:`close`.
    names : sequence of str
        Public topics.
    position : mapping
        Where to begin.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        consumer: Any,
        names: Sequence[str],
        position: Position,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._names = tuple(names)
        self._next = dict(position)
        self._assigned: frozenset[tuple[str, int]] = frozenset()
        self._clock = clock
        self._look()

    @property
    def position(self) -> dict[tuple[str, int], int]:
        """Where to go on after what :meth:`read` gave so far."""
        return dict(self._next)

    def read(self, limit: int, wait_seconds: float = 0.05) -> list[Record]:
        """Up to ``limit`` messages; fewer, or none, when no more came while it waited."""
        if self._clock() >= self._look_at:
            try:
                self._look()
            except ServiceError as error:
                # What is assigned can still be read once Kafka is back.
                log.warning("partitions_not_listed", detail=str(error))
        found = [kafka_io.record(m) for m in self._consumer.consume(limit, timeout=wait_seconds)]
        for record in found:
            self._next[(record.topic, record.partition)] = record.offset + 1
        return found

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _look(self) -> None:
        self._look_at = self._clock() + LOOK_SECONDS
        try:
            known = self._consumer.list_topics(timeout=10).topics
        except KafkaException as error:
            raise ServiceError(f"Kafka does not list its topics: {error.args[0].str()}") from error
        found = frozenset(
            (name, number) for name, described in known.items()
            if topics.place_of(name)[0] in self._names
            for number in described.partitions
        )  # fmt: skip
        if found - self._assigned:
            self._assigned |= found
            self._consumer.assign(
                [TopicPartition(t, n, self._next.get((t, n), 0)) for t, n in sorted(self._assigned)]
            )
