"""The one writer of candidates: everything a step says becomes visible in one transaction.

A transaction holds the statements (of a private event on the topics of its streams alone),
the changed groups (a compacted topic, read back at
start), the dead letters, the ledger and the batch's marker. A batch that Spark plays
again after a crash is skipped when its marker was committed, and done anew when not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from confluent_kafka import KafkaException

from broker import fold, kafka_io, topics
from broker.codec import encode_candidate
from broker.engine import Outcome
from broker.fold import Group, GroupKey
from crossmatch.errors import ServiceError

TRANSACTION_TIMEOUT_MS = 30_000
_MARKER_KEY = b"match"


@dataclass(frozen=True, slots=True)
class Marker:
    """The last committed batch.

    ``query`` is the id of Spark's checkpoint, ``regions_next`` the first message of
    ``mm.regionlog`` that no committed batch has taken in, ``totals`` the ledger so far,
    ``alerts_next`` the next offset of each alert partition, ``topic/partition``.
    """

    batch_id: int
    query: str
    regions_next: int
    totals: Mapping[str, int] = field(default_factory=dict)
    alerts_next: Mapping[str, int] = field(default_factory=dict)


class Writer:
    """Transactional producer for one broker.

    Parameters
    ----------
    bootstrap : str
    properties : mapping of str to str
        librdkafka properties of every client.
    name : str
        Transactional id; a second writer of the same name fences the first.
    make_topics : callable, optional
        Called with the name of a private stream before the first statement for it: the
        file of its feed may have come after the start.
    """

    def __init__(
        self,
        bootstrap: str,
        properties: Mapping[str, str],
        name: str = "mmgateway-match",
        make_topics: Callable[[str], object] = lambda stream: None,
    ) -> None:
        self._bootstrap = bootstrap
        self._properties = properties
        self._make_topics = make_topics
        self._known_streams: set[str] = set()
        self._producer = kafka_io.producer(
            bootstrap,
            properties,
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )

    def start(self) -> Marker | None:
        """Fence earlier writers of the same name; the last committed marker, if any."""
        try:
            self._producer.init_transactions(30)
        except KafkaException as error:
            raise ServiceError(
                f"Kafka at {self._bootstrap} does not take transactions: {error.args[0].str()}"
            ) from error
        marker = None
        for message in kafka_io.read_all(self._bootstrap, self._properties, topics.MARKER):
            if message.key == _MARKER_KEY:
                marker = Marker(**json.loads(message.value))
        return marker

    def groups(self) -> dict[GroupKey, Group]:
        """Groups as of the last committed transaction."""
        texts: dict[bytes, bytes] = {}
        for message in kafka_io.read_all(self._bootstrap, self._properties, topics.STATE):
            texts[message.key] = message.value
        groups = {}
        for text in texts.values():
            data = json.loads(text)
            groups[GroupKey.from_json(data["key"])] = Group.from_json(data["group"])
        return groups

    def publish(self, outcome: Outcome, marker: Marker, dead_letters: Sequence[bytes] = ()) -> None:
        """Say all of a step, or nothing.

        Raises
        ------
        ServiceError
            When the transaction could not be committed; the step must be done anew
            from the committed state.
        """
        statements = [copy for one in outcome.statements for copy in fold.copies(one)]
        self._know(stream for one in statements for stream in one["streams"])
        try:
            self._producer.begin_transaction()
            for statement in statements:
                self._say(statement)
            for key, group in outcome.groups.items():
                value = json.dumps(
                    {"key": key.to_json(), "group": group.to_json()}, allow_nan=False
                )
                self._send(topics.STATE, key.text.encode(), value.encode())
            for letter in dead_letters:
                self._send(topics.DEAD_LETTER, b"alert", letter)
            entry = {"batch_id": outcome.batch_id, "kind": "alerts", "counts": outcome.ledger}
            name = f"alerts/{outcome.batch_id}".encode()
            self._send(topics.LEDGER, name, json.dumps(entry).encode())
            self._send(topics.MARKER, _MARKER_KEY, json.dumps(asdict(marker)).encode())
            self._producer.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(
                f"batch {outcome.batch_id} was not published: {error.args[0].str()}"
            ) from error

    def _know(self, streams: Iterable[str]) -> None:
        for stream in sorted(set(streams) - self._known_streams):
            self._make_topics(stream)
            self._known_streams.add(stream)

    def _say(self, statement: Mapping[str, object]) -> None:
        self._send(
            str(statement["stream"]),
            str(statement["counterpart_id"]).encode(),
            encode_candidate(statement),
            [
                ("event_id", str(statement["event_id"]).encode()),
                ("alert_type", str(statement["alert_type"]).encode()),
                ("tier", str(statement["tier"]).encode()),
            ],
        )

    def _send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        kafka_io.send(self._producer, topic, value, key, headers)
