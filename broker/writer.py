"""The one writer of candidates: everything a step says becomes visible in one transaction.

A transaction holds the statements (of a private event on the topics of its streams alone),
the changed groups and owed searches (a compacted topic, read back at start), the dead
letters, the step's entry in the ledger and the marker. A batch that Spark plays again after
a crash is skipped when its marker was committed, and done anew when not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from confluent_kafka import KafkaException

from broker import fold, jsontext, kafka_io, topics
from broker.codec import encode_candidate
from broker.engine import Outcome
from broker.groups import Group, GroupKey, Packets
from broker.owed import PREFIX, OwedSearch
from crossmatch.errors import ServiceError

TRANSACTION_TIMEOUT_MS = 180_000
"""A retraction of an event with a hundred thousand candidates takes half a minute to tell. What a
killed matcher left open is ended by the next one when it starts, not by this."""
_COMMIT_SECONDS = 120.0
_MARKER_KEY = b"match"


@dataclass(frozen=True, slots=True)
class Marker:
    """The last committed step.

    Parameters
    ----------
    batch_id : int
        Last batch of Spark's; -1 before the first.
    query : str
        Id of Spark's checkpoint.
    regions_next, verdicts_next, lookups_next : int
        First messages of ``mm.regionlog``, ``mm.verdicts`` and ``mm.lookups`` that no committed
        step took in.
    totals : mapping of str to int
        The ledger so far.
    alerts_next : mapping of str to int
        Next offset of each alert partition, ``topic/partition``.
    step : int
        Number of the step.
    selection : str
        Versions of cuts, chains, catalogues and code that made the step.
    rules : str
        Of these, by what everything open is judged; told apart so that a new version of the
        code alone does not tell every candidate anew.
    archived : int
        Last batch of which the archive got alerts.
    groups, aside : int
        How many groups are open, and how many families of events are put aside: what a start
        must find.
    lookups : int
        How many answers of ``mm.lookups`` were taken in.
    """

    batch_id: int
    query: str
    regions_next: int
    totals: Mapping[str, int] = field(default_factory=dict)
    alerts_next: Mapping[str, int] = field(default_factory=dict)
    verdicts_next: int = 0
    step: int = -1
    selection: str = ""
    rules: str = ""
    archived: int = -1
    groups: int = 0
    aside: int = 0
    lookups_next: int = 0
    lookups: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What the state topic holds."""

    groups: dict[GroupKey, Group]
    searches: list[OwedSearch]


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
        return read_marker(self._bootstrap, self._properties)

    def state(self) -> State:
        """Groups and owed searches as of the last committed transaction."""
        return read_state(self._bootstrap, self._properties)

    def publish(
        self,
        outcome: Outcome,
        marker: Marker,
        dead_letters: Sequence[bytes] = (),
        before: Marker | None = None,
    ) -> None:
        """Say all of a step, or nothing; ``before`` is the marker of the step before.

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
            self._keep(outcome)
            for letter in dead_letters:
                self._send(topics.DEAD_LETTER, b"alert", letter)
            name = f"{outcome.kind}/{outcome.step}".encode()
            entry = json.dumps(entry_of(outcome, marker, before))
            self._send(topics.LEDGER, name, entry.encode())
            self._send(topics.MARKER, _MARKER_KEY, json.dumps(asdict(marker)).encode())
            self._producer.commit_transaction(_COMMIT_SECONDS)
        except KafkaException as error:
            raise ServiceError(
                f"step {outcome.step} was not published: {error.args[0].str()}"
            ) from error

    def _keep(self, outcome: Outcome) -> None:
        packets = Packets()
        for key, group in outcome.groups.items():
            value = None
            if group is not None:
                value = jsontext.dumps({"key": key.to_json(), "group": group.to_json(packets)})
            self._send(topics.STATE, key.text.encode(), value)
        for name, search in outcome.searches.items():
            value = None if search is None else json.dumps(search.to_json()).encode()
            self._send(topics.STATE, name.encode(), value)

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
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        # The commit tells what became of all.
        kafka_io.send(self._producer, topic, value, key, headers, poll=False)


def read_marker(bootstrap: str, properties: Mapping[str, str]) -> Marker | None:
    """The last committed marker, if any; anybody may ask."""
    marker = None
    for message in kafka_io.read_all(bootstrap, properties, topics.MARKER):
        if message.key == _MARKER_KEY:
            marker = Marker(**json.loads(message.value))
    return marker


def read_state(bootstrap: str, properties: Mapping[str, str]) -> State:
    """Groups and owed searches as of the last committed transaction; anybody may ask."""
    texts: dict[bytes, bytes | None] = {}
    for message in kafka_io.read_all(bootstrap, properties, topics.STATE):
        texts[message.key] = message.value
    state = State({}, [])
    for key, text in texts.items():
        if not text:
            continue
        data = json.loads(text)
        if key.startswith(PREFIX.encode()):
            state.searches.append(OwedSearch.from_json(data))
        else:
            state.groups[GroupKey.from_json(data["key"])] = Group.from_json(data["group"])
    return state


def entry_of(outcome: Outcome, marker: Marker, before: Marker | None) -> dict[str, Any]:
    """Entry of a step in the ledger: what it counted, and what one needs to do it once more."""
    was = before or Marker(-1, "", 0)
    return {
        "kind": outcome.kind,
        "step": outcome.step,
        "batch_id": outcome.batch_id,
        "moment": outcome.moment,
        "counts": outcome.ledger,
        "parts": outcome.parts,
        "regions": [was.regions_next, marker.regions_next],
        "verdicts": [was.verdicts_next, marker.verdicts_next],
        "lookups": [was.lookups_next, marker.lookups_next],
        "searches": list(outcome.search),
        "selection": marker.selection,
    }
