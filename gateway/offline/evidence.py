"""What the ledger is checked against: markers, topics and archive, read in the right order.

The gateway may run meanwhile, so nothing that is compared is read at the same time. First
come the markers, then the ledger, whose end is the mark; then the archive and the topics, which
have all that the mark counts and perhaps more; at last what came to the ledger meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.dataset as pads
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from broker import kafka_io, topics
from broker.codec import decode
from broker.kafka_io import Record
from broker.ledger import KINDS, night_of_arrival
from broker.ledgertable import LedgerTable
from crossmatch.errors import Rejected, ServiceError
from gateway.listener.outbox import arrival_of
from gateway.offline.accounts import Entry, Evidence, of_kind
from gateway.publisher.service import RETRY_KEY

_READ_SECONDS = 60.0
"""A transaction that a killed process left open hides what came after it for up to 40 s."""
_UNREAD = "Kafka does not answer"


class Topics(Protocol):
    """Kafka, as far as it is read here."""

    def names(self) -> Sequence[str]:
        """All topics."""

    def read(self, topic: str, start: int = 0) -> Iterable[Record]:
        """Committed messages of a topic from an offset to its end as of now."""


class KafkaTopics:
    """The topics of a real Kafka.

    Raises
    ------
    ServiceError
        At once, if it does not answer.
    """

    def __init__(self, bootstrap: str, properties: Mapping[str, str]) -> None:
        self._bootstrap = bootstrap
        self._properties = properties
        self.names()

    def names(self) -> list[str]:
        """All topics, sorted."""
        return sorted(kafka_io.topic_names(self._bootstrap, self._properties))

    def read(self, topic: str, start: int = 0) -> Iterable[Record]:
        """Committed messages of a topic from an offset to its end as of now."""
        return kafka_io.read_all(
            self._bootstrap, self._properties, topic, start=start, timeout=_READ_SECONDS
        )


def from_topics(kafka: Topics, state: Path) -> Evidence:
    """Everything: the ledger of the topic, and all that it is checked against."""
    names = set(kafka.names())
    markers = _markers(kafka) if topics.MARKER in names else {}
    entries, unreadable, end = _entries(kafka, 0) if topics.LEDGER in names else ([], [], 0)
    handed, statements, wrong = _statements(kafka, names, _position(entries))
    return Evidence(
        entries=entries,
        unreadable=unreadable,
        match=markers.get(b"match"),
        listen=markers.get(b"listen"),
        archive=_archive(state / "alerts", entries),
        notices=_notices(kafka, entries) if topics.NOTICES in names else None,
        statements=statements,
        wrong_copies=wrong,
        handed=handed,
        voevents=sum(
            1
            for name in sorted(names)
            if topics.place_of(name)[0] == topics.VOEVENTS
            for _ in kafka.read(name)
        ),
        newer=_entries(kafka, end)[0] if topics.LEDGER in names else [],
    )


def entries(kafka: Topics) -> list[Entry]:
    """The entries of the ledger alone, in their order."""
    return _entries(kafka, 0)[0] if topics.LEDGER in kafka.names() else []


def from_table(state: Path, why: str = _UNREAD) -> Evidence:
    """What can be told without Kafka: the ledger's table, and the archive.

    Parameters
    ----------
    state : Path
    why : str
        Why Kafka is not read.
    """
    entries = LedgerTable(state / "ledger").entries()
    what = ("markers", "notices", "statements", "voevents")
    return Evidence(
        entries=entries,
        archive=_archive(state / "alerts", entries),
        unchecked=dict.fromkeys(what, why),
    )


def _markers(kafka: Topics) -> dict[bytes, Any]:
    last = {m.key: m.value for m in kafka.read(topics.MARKER) if m.key in (b"match", b"listen")}
    return {key: json.loads(value) for key, value in last.items() if value}


def _entries(kafka: Topics, start: int) -> tuple[list[Entry], list[int], int]:
    """Entries, offsets of messages that are none, and where what comes next will be."""
    entries: list[Entry] = []
    unreadable = []
    for message in kafka.read(topics.LEDGER, start):
        start = message.offset + 1
        entry = _entry(message.value)
        if entry is None:
            unreadable.append(message.offset)
        else:
            entries.append(entry)
    return entries, unreadable, start


def _entry(value: bytes) -> Entry | None:
    try:
        entry = json.loads(value)
    except ValueError:
        return None
    known = isinstance(entry, dict) and entry.get("kind") in KINDS
    return entry if known and isinstance(entry.get("counts"), dict) else None


def _archive(path: Path, entries: Sequence[Entry]) -> dict[str, int] | None:
    """Rows of the archive by night, of the batches that are in the ledger."""
    batches = [int(e["batch_id"]) for e in of_kind(entries, "alerts") if "batch_id" in e]
    try:
        dataset = DeltaTable(str(path)).to_pyarrow_dataset()
        where = pads.field("batch_id") <= max(batches, default=-1)
        found: Counter[str] = Counter()
        for rows in dataset.to_batches(columns=["night"], filter=where):
            counted = rows["night"].value_counts().to_pylist()
            found.update({str(one["values"]): one["counts"] for one in counted})
    except TableNotFoundError:
        return {}
    except (DeltaError, OSError) as error:
        raise ServiceError(f"the archive {path} cannot be read: {error}") from error
    return dict(found)


def _notices(kafka: Topics, entries: Sequence[Entry]) -> dict[str, int]:
    """Messages by night, of those before the last position of the listener."""
    ends = [int(e["next"]) for e in of_kind(entries, "notices") if "next" in e]
    end = max(ends, default=0)
    found: Counter[str] = Counter()
    for message in kafka.read(topics.NOTICES):
        if message.offset >= end:
            break
        found[night_of_arrival(arrival_of(b"", message.headers).received)] += 1
    return dict(found)


def _position(entries: Sequence[Entry]) -> dict[tuple[str, int], int]:
    """Where the publisher stood after the last of its entries, by topic and partition."""
    last = of_kind(entries, "voevents")[-1:]
    tables = last[0].get("next", {}) if last else {}
    return {
        (topic, int(number)): int(offset)
        for topic, numbers in tables.items()
        for number, offset in numbers.items()
    }


def _statements(
    kafka: Topics, names: Iterable[str], position: Mapping[tuple[str, int], int]
) -> tuple[int, dict[str, int], list[tuple[str, str]]]:
    """Statements before the publisher's position, statements by moment, and wrong copies."""
    handed = 0
    copies: dict[tuple[str, tuple[str, ...]], tuple[str, list[str]]] = {}
    wrong: list[tuple[str, str]] = []
    for name in sorted(n for n in names if topics.place_of(n)[0] in topics.all_candidates()):
        for message in kafka.read(name):
            handed += message.offset < position.get((name, message.partition), 0)
            try:
                statement = decode(message.value)
            except Rejected as error:
                wrong.append((name, f"message {message.offset} is no statement ({error.reason})"))
                continue
            key = (str(statement["candidate_id"]), tuple(sorted(statement["streams"])))
            moment = str(statement["alert_datetime"])
            copies.setdefault(key, (moment, []))[1].append(name)
    if topics.RETRY in names:
        end = position.get((topics.RETRY, 0), 0)
        retried = (m for m in kafka.read(topics.RETRY) if m.key == RETRY_KEY)
        handed += sum(m.offset < end for m in retried)
    moments = Counter(moment for moment, _ in copies.values())
    for (candidate, streams), (_, found) in copies.items():
        wrong += _wrong(candidate, streams, found)
    return handed, dict(moments), wrong


def _wrong(candidate: str, streams: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """What is wrong with the topics on which a statement was found, each named once a copy."""
    public = topics.place_of(found[0])[0]
    counted = Counter(found)
    wrong = []
    for topic in sorted({*counted, *topics.seen_by(public, streams)}):
        wanted = topic in topics.seen_by(public, streams)
        if wanted and counted[topic] == 0:
            wrong.append((topic, f"{candidate} is missing"))
        elif wanted and counted[topic] > 1:
            wrong.append((topic, f"{candidate} is there {counted[topic]} times"))
        elif not wanted:
            wrong.append((topic, f"{candidate} is there, and should not be"))
    return wrong


Reader = Callable[[], Topics]
"""Opens Kafka; raises ServiceError if it does not answer."""


def evidence(open_kafka: Reader, state: Path) -> tuple[Evidence, str]:
    """Everything that can be had, and why it is from the table, empty if it is not.

    Raises
    ------
    ServiceError
        If Kafka does not answer and there is no table either.
    """
    try:
        return from_topics(open_kafka(), state), ""
    except ServiceError as error:
        found = from_table(state)
        if not found.entries:
            raise
        return found, str(error)
