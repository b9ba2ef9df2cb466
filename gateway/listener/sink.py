"""Keeps notices and what they became in Kafka, so that nothing is lost or said twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

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
    Record,
    TooLarge,
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
        self._name = name
        self._plain = kafka_io.producer(bootstrap, properties)
        self._outputs = self._transactional()

    def _transactional(self) -> Producer:
        return kafka_io.producer(
            self._bootstrap,
            self._properties,
            transactional_id=self._name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )

    def _fence(self) -> None:
        """End what earlier producers of our name began."""
        try:
            self._outputs.init_transactions(30)
        except KafkaException as error:
            raise ServiceError(
                f"Kafka at {self._bootstrap} does not take transactions: {error.args[0].str()}"
            ) from error

    def start(self) -> Progress:
        """Fence earlier listeners; how far the last one came."""
        self._fence()
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
            next_retry=place.get("next_retry", 0),
        )

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        """Send the raw bytes to the notices topic; their offsets once Kafka has them."""
        offsets: dict[int, int] = {}
        failures: list[str] = []
        large: list[int] = []

        def delivered(number: int) -> Callable[[Any, Any], None]:
            def note(error: Any, message: Any) -> None:
                if error is None:
                    offsets[number] = message.offset()
                elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    large.append(number)
                else:
                    failures.append(error.str())

            return note

        for number, arrival in enumerate(arrivals):
            try:
                kafka_io.send(
                    self._plain,
                    topics.NOTICES,
                    arrival.raw,
                    headers=headers_of(arrival),
                    on_delivery=delivered(number),
                )
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise _failure("notices could not be stored", error) from error
                large.append(number)
        left = self._plain.flush(30)
        if failures or left:
            why = failures[0] if failures else "no answer within 30 s"
            raise ServiceError(f"notices could not be stored at {self._bootstrap}: {why}")
        if large:
            raise TooLarge(f"Kafka takes no such message on {topics.NOTICES}", offsets)
        return [offsets[number] for number in range(len(arrivals))]

    def commit(self, batch: Batch) -> None:
        """Publish records, ledger, wanted maps and position in one transaction."""
        marker = {
            "next_notice": batch.next_notice,
            "totals": dict(batch.totals),
            "held": batch.held,
            "next_retry": batch.next_retry,
        }
        ledger = {
            "kind": "notices",
            "moment": batch.moment,
            "counts": dict(batch.counts),
            "parts": batch.tally.parts(),
            "next": batch.next_notice,
        }
        records = list(batch.records)
        for name, wanted in batch.markers.items():
            # Without a value the marker is dropped when the topic is compacted.
            text: Any = None if wanted is None else json.dumps(asdict(wanted)).encode()
            records.append(Record(topics.MARKER, name.encode(), text))
        if batch.counts:
            records.append(Record(topics.LEDGER, b"notices", json.dumps(ledger).encode()))
        records.append(Record(topics.MARKER, _MARKER_KEY, json.dumps(marker).encode()))
        large = ""
        try:
            self._outputs.begin_transaction()
            large = self._send(records)
            if not large:
                self._outputs.commit_transaction(30)
        except KafkaException as error:
            raise _failure("regions were not published", error) from error
        if large:
            # After a refusal librdkafka misses a number in its sequence and goes no further with
            # it; another producer of the same name aborts what this one began.
            self._outputs.purge()
            self._outputs = self._transactional()
            self._fence()
            raise TooLarge(f"Kafka takes no such message on {large}")

    def _send(self, records: Sequence[Record]) -> str:
        """Send messages; the topic of one that is too large for ever, else empty."""
        large: list[str] = []

        def note(error: Any, message: Any) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                large.append(message.topic())

        for topic, key, value, headers in records:
            try:
                kafka_io.send(self._outputs, topic, value, key, headers, note)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                large.append(topic)
            if large:
                break
        # What the broker says of each is only heard here; a commit would only say that it failed.
        self._outputs.flush(30)
        return large[0] if large else ""

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


def _failure(what: str, error: KafkaException) -> ServiceError:
    return ServiceError(f"{what}: {error.args[0].str()}")


def _wanted_of(fields: dict[str, Any]) -> Wanted:
    return Wanted(**fields | {"streams": tuple(fields.get("streams", ()))})
