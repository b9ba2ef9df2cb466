"""Keeps notices and what they became in Kafka, so that nothing is lost or said twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from broker.codec import from_iso, iso
from crossmatch.errors import Rejected, ServiceError
from gateway.pipeline import Batch
from gateway.sources import Arrival

TRANSACTION_TIMEOUT_MS = 10_000
_MARKER_KEY = b"listen"
_NAME = "mmgateway-listen"
# A transaction that a killed matcher left open hides later markers for up to 40 s.
_READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The last committed transaction: next message of the notices topic, and all counts."""

    next_notice: int = 0
    totals: Mapping[str, int] | None = None


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
        progress = Progress()
        messages = kafka_io.read_all(
            self._bootstrap, self._properties, topics.MARKER, timeout=_READ_SECONDS
        )
        for message in messages:
            if message.key == _MARKER_KEY:
                progress = Progress(**json.loads(message.value))
        return progress

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
        """Publish regions, dead letters, ledger and position in one transaction."""
        marker = {"next_notice": batch.next_notice, "totals": dict(batch.totals)}
        ledger = {"kind": "notices", "counts": dict(batch.counts), "next": batch.next_notice}
        try:
            self._outputs.begin_transaction()
            for key, value in batch.regions:
                kafka_io.send(self._outputs, topics.REGIONS, value, key)
            for key, value in batch.dead_letters:
                kafka_io.send(self._outputs, topics.DEAD_LETTER, value, key)
            kafka_io.send(self._outputs, topics.LEDGER, json.dumps(ledger).encode(), b"notices")
            kafka_io.send(self._outputs, topics.MARKER, json.dumps(marker).encode(), _MARKER_KEY)
            self._outputs.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(f"regions were not published: {error.args[0].str()}") from error

    def regions(self) -> Iterator[bytes]:
        """All committed messages of the regions topic."""
        for message in kafka_io.read_all(self._bootstrap, self._properties, topics.REGIONS):
            yield message.value

    def stored_from(self, offset: int) -> Iterator[tuple[Arrival, int]]:
        """Notices that are stored at ``offset`` and after it."""
        stored = kafka_io.read_all(self._bootstrap, self._properties, topics.NOTICES, start=offset)
        for message in stored:
            yield arrival_of(message.value, message.headers), message.offset


def headers_of(arrival: Arrival) -> list[tuple[str, bytes]]:
    """Where the bytes came from, as headers of the stored message."""
    fields = {
        "source": arrival.source,
        "topic": arrival.topic,
        "partition": str(arrival.partition),
        "offset": str(arrival.offset),
        "received": iso(arrival.received),
        "feed": arrival.feed,
    }
    if arrival.refused is not None:
        fields |= {"refused": arrival.refused.reason, "detail": arrival.refused.detail}
    return [(name, text.encode()) for name, text in fields.items()]


def arrival_of(raw: bytes, headers: Iterable[tuple[str, bytes | None]]) -> Arrival:
    """The inverse of :func:`headers_of`."""
    fields = {name: (value or b"").decode("utf-8", "replace") for name, value in headers}
    refused = None
    if "refused" in fields:
        refused = Rejected(fields["refused"], fields.get("detail", ""))
    return Arrival(
        raw=raw,
        source=fields["source"],
        topic=fields["topic"],
        received=from_iso(fields["received"]),
        partition=int(fields["partition"]),
        offset=int(fields["offset"]),
        feed=fields.get("feed", ""),
        refused=refused,
    )
