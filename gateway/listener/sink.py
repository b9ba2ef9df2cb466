"""Keeps notices and what they became in Kafka, so that nothing is lost or said twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from broker.codec import decode
from crossmatch.errors import ServiceError
from gateway.listener.maps import Wanted
from gateway.listener.outbox import (
    NOTICE_OFFSET,
    Batch,
    Held,
    HeldPlace,
    Progress,
    arrival_of,
    headers_of,
)
from gateway.listener.sources import Arrival

TRANSACTION_TIMEOUT_MS = 10_000
_MARKER_KEY = b"listen"
_MAP_KEYS = b"map/"
_NAME = "mmgateway-listen"
# A transaction that a killed matcher left open hides later markers for up to 40 s.
_READ_SECONDS = 60.0

__all__ = ["KafkaSink", "arrival_of", "headers_of"]


class KafkaSink:
    """Keeps notices and what they became in Kafka.

    Parameters
    ----------
    bootstrap : str
    properties : mapping of str to str
        librdkafka properties of every client.
    name : str
        Transactional id: a second listener of the same name fences the first.
    """

    def __init__(self, bootstrap: str, properties: Mapping[str, str], name: str = _NAME) -> None:
        self._bootstrap = bootstrap
        self._properties = properties
        self._plain = kafka_io.producer(bootstrap, properties)
        self._outputs = kafka_io.producer(
            bootstrap,
            properties,
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )

    def start(self) -> Progress:
        """Fence earlier listeners; how far the last one came."""
        try:
            self._outputs.init_transactions(30)
        except KafkaException as error:
            raise ServiceError(
                f"Kafka at {self._bootstrap} does not take transactions: {error.args[0].str()}"
            ) from error
        place: dict[str, Any] = {}
        wanted: dict[str, Wanted] = {}
        messages = kafka_io.read_all(
            self._bootstrap, self._properties, topics.MARKER, timeout=_READ_SECONDS
        )
        for message in messages:
            if message.key == _MARKER_KEY:
                place = json.loads(message.value)
            elif message.key.startswith(_MAP_KEYS):
                wanted.pop(message.key.decode(), None)
                if message.value:
                    wanted[message.key.decode()] = _wanted_of(json.loads(message.value))
        return Progress(
            next_notice=place.get("next_notice", 0),
            totals=place.get("totals", {}),
            held={feed: HeldPlace(*numbers) for feed, numbers in place.get("held", {}).items()},
            wanted=wanted,
        )

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        """Send the raw bytes to the notices topic; their offsets once Kafka has them."""
        offsets: dict[int, int] = {}
        failures: list[str] = []

        def delivered(number: int) -> Callable[[Any, Any], None]:
            def note(error: Any, message: Any) -> None:
                if error is None:
                    offsets[number] = message.offset()
                else:
                    failures.append(error.str())

            return note

        for number, arrival in enumerate(arrivals):
            kafka_io.send(
                self._plain,
                topics.NOTICES,
                arrival.raw,
                headers=headers_of(arrival),
                on_delivery=delivered(number),
            )
        left = self._plain.flush(30)
        if failures or left:
            why = failures[0] if failures else "no answer within 30 s"
            raise ServiceError(f"notices could not be stored at {self._bootstrap}: {why}")
        return [offsets[number] for number in range(len(arrivals))]

    def commit(self, batch: Batch) -> None:
        """Publish records, ledger, wanted maps and position in one transaction."""
        marker = {
            "next_notice": batch.next_notice,
            "totals": dict(batch.totals),
            "held": batch.held,
        }
        ledger = {"kind": "notices", "counts": dict(batch.counts), "next": batch.next_notice}
        try:
            self._outputs.begin_transaction()
            for topic, key, value, headers in batch.records:
                kafka_io.send(self._outputs, topic, value, key, headers)
            for name, wanted in batch.markers.items():
                # Without a value the marker is dropped when the topic is compacted.
                text: Any = None if wanted is None else json.dumps(asdict(wanted)).encode()
                kafka_io.send(self._outputs, topics.MARKER, text, name.encode())
            if batch.counts:
                kafka_io.send(self._outputs, topics.LEDGER, json.dumps(ledger).encode(), b"notices")
            kafka_io.send(self._outputs, topics.MARKER, json.dumps(marker).encode(), _MARKER_KEY)
            self._outputs.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(f"regions were not published: {error.args[0].str()}") from error

    def alarm(self, key: bytes, value: bytes) -> None:
        """Put a message on the topic of alarms, at once and outside of any transaction."""
        kafka_io.send(self._plain, topics.ALARMS, value, key)
        self._plain.poll(0)

    def regions(self) -> Iterator[bytes]:
        """All committed messages of the log of regions."""
        for message in self._read(topics.REGION_LOG):
            yield message.value

    def stored_from(self, offset: int) -> Iterator[tuple[Arrival, int]]:
        """Notices that are stored at ``offset`` and after it."""
        for message in self._read(topics.NOTICES, offset):
            yield arrival_of(message.value, message.headers), message.offset

    def stored_at(self, offset: int) -> Arrival | None:
        """The notice that is stored at ``offset``; None if it is there no more.

        Raises
        ------
        ServiceError
            If Kafka does not answer.
        """
        found = kafka_io.read_all(
            self._bootstrap, self._properties, topics.NOTICES, start=offset, end=offset + 1
        )
        for message in found:
            return arrival_of(message.value, message.headers)
        return None

    def held(self, feed: str, offset: int) -> Iterator[Held]:
        """Messages of one feed on the held topic, at ``offset`` and after it."""
        for message in self._read(topics.HELD, offset):
            if message.key == feed.encode():
                headers = dict(message.headers)
                arrival = arrival_of(decode(message.value)["raw"], message.headers)
                yield Held(arrival, int(headers[NOTICE_OFFSET]), message.offset)

    def _read(self, topic: str, start: int = 0) -> Iterator[kafka_io.Record]:
        return kafka_io.read_all(self._bootstrap, self._properties, topic, start=start)


def _wanted_of(fields: dict[str, Any]) -> Wanted:
    return Wanted(**fields | {"streams": tuple(fields.get("streams", ()))})
