"""Dead letters: listed, and sent again to where they came in.

A letter is known by its offset on ``mm.deadletter``. That it was sent again, by whom and when,
stands on ``mm.marker`` under ``deadletter/<offset>``, written in the transaction that sends it.
What fails again becomes another letter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from confluent_kafka import KafkaException

from broker import kafka_io, topics
from broker.codec import decode, from_iso, iso
from broker.regioncodec import decode_region
from crossmatch.errors import Rejected, ServiceError
from gateway.listener.outbox import Headers, Record, arrival_of
from gateway.listener.retry import NOTICE_KEY, retry_headers
from gateway.listener.sources import Arrival
from gateway.offline.evidence import Topics
from gateway.publisher.service import RETRY_KEY, RETRY_TOPIC

MARK_PREFIX = b"deadletter/"
_NAME = "mmgateway-retry"
_CUT_NOTICES = ("too_large", "too_large_for_kafka")
_CUT_AT = 1 << 20
"""Of longer packets of alerts only this much is kept (``broker.rejections.MAX_LETTER_BYTES``)."""
_PART = 100
_PART_BYTES = 32 << 20
_LOGS = {
    "regions": topics.REGION_LOG,
    "verdicts": topics.VERDICTS,
    "lookups": topics.LOOKUPS,
}
"""Topics of ours that the matcher reads, by the source of letters from them."""
_DOORS = ("alerts", "publish", *_LOGS)

Address = tuple[str, int, int]
Fetch = Callable[[Sequence[Address]], Mapping[Address, bytes]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Parameters
    ----------
    id : int
        Offset on ``mm.deadletter``.
    fields : mapping
        As in the schema ``deadletter``, but ``raw``.
    raw : bytes
        The input, or its beginning; empty in lists, where ``size`` tells.
    headers : tuple
        Of a notice: its door.
    mark : mapping
        ``when``, ``who`` and ``to`` of the last time it was sent again, and ``times``.
    """

    id: int
    fields: Mapping[str, Any]
    raw: bytes
    size: int
    headers: Headers = ()
    mark: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``alerts``, ``regions``, ``verdicts``, ``lookups``, ``publish``; ``notices`` else."""
        source = str(self.fields["source"])
        return source if source in _DOORS else "notices"

    @property
    def state(self) -> str:
        """``open``, or ``retried`` when it was sent again."""
        return "retried" if self.mark else "open"

    @property
    def address(self) -> Address:
        """Topic, partition and offset of the input."""
        return self.fields["topic"], self.fields["partition"], self.fields["offset"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the bytes."""
        return {
            "id": self.id,
            "kind": self.kind,
            **self.fields,
            "size": self.size,
            "state": self.state,
            "retried": dict(self.mark) or None,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are asked for; empty: all."""

    reason: str = ""
    kind: str = ""
    since: str = ""
    ids: frozenset[int] = frozenset()

    def has(self, letter: Letter) -> bool:
        """Whether a letter is asked for."""
        return (
            self.reason in ("", letter.fields["reason"])
            and self.kind in ("", letter.kind)
            and self.since <= letter.fields["received"]
            and (not self.ids or letter.id in self.ids)
        )


def letters(kafka: Topics, wanted: Wanted, *, bytes_too: bool = False) -> Iterator[Letter]:
    """Letters in their order; their bytes only on demand, for they may be many gigabytes."""
    names = set(kafka.names())
    if topics.DEAD_LETTER not in names:
        return
    marks = _marks(kafka) if topics.MARKER in names else {}
    last = max(wanted.ids, default=-1)
    for message in kafka.read(topics.DEAD_LETTER, min(wanted.ids, default=0)):
        if wanted.ids and message.offset > last:
            break
        fields = decode(message.value)
        raw = bytes(fields.pop("raw"))
        kept = raw if bytes_too else b""
        mark = marks.get(message.offset, {})
        letter = Letter(message.offset, fields, kept, len(raw), message.headers, mark)
        if wanted.has(letter):
            yield letter


def _marks(kafka: Topics) -> dict[int, Mapping[str, Any]]:
    return {
        int(m.key.removeprefix(MARK_PREFIX)): json.loads(m.value)
        for m in kafka.read(topics.MARKER)
        if m.key.startswith(MARK_PREFIX) and m.value
    }


@dataclass(frozen=True, slots=True)
class Sending:
    """What becomes of a letter: the message that is sent, or why none is."""

    letter: Letter
    record: Record | None = None
    refused: str = ""


class _Refused(Exception):
    """Why a letter cannot be sent again."""


def sending(
    letter: Letter,
    own_alert_topics: Sequence[str],
    packets: Mapping[Address, bytes],
    *,
    again: bool,
) -> Sending:
    """The message that brings a letter in again, or why there is none.

    Parameters
    ----------
    letter : Letter
        With its bytes.
    own_alert_topics : sequence of str
        Alert topics on our own Kafka.
    packets : mapping
        Packets of alerts that Kafka still has, by address.
    again : bool
        Also what was sent again already.
    """
    try:
        if letter.mark and not again:
            when, who = letter.mark["when"], letter.mark["who"]
            raise _Refused(f"{who} sent it again at {when}; --again does so once more")
        match letter.kind:
            case "alerts":
                record = _alert(letter, own_alert_topics, packets)
            case "regions" | "verdicts" | "lookups":
                record = Record(_LOGS[letter.kind], _key_of(letter), _whole(letter))
            case "publish":
                origin = str(letter.fields["topic"]).encode()
                record = Record(
                    topics.RETRY, RETRY_KEY, _whole(letter), ((RETRY_TOPIC, origin), _id(letter))
                )
            case _:
                record = _notice(letter)
    except _Refused as error:
        return Sending(letter, refused=str(error))
    return Sending(letter, record)


def _id(letter: Letter) -> tuple[str, bytes]:
    return "letter", str(letter.id).encode()


def _alert(letter: Letter, own_topics: Sequence[str], packets: Mapping[Address, bytes]) -> Record:
    topic = str(letter.fields["topic"])
    if topic not in own_topics:
        raise _Refused(
            f"its topic {topic} is not among the alert topics on our own Kafka, and on another"
            " one nothing is written"
        )
    packet = packets.get(letter.address)
    if packet is not None and packet.startswith(letter.raw):
        return Record(topic, b"", packet, (_id(letter),))
    if not letter.raw:
        raise _Refused("its bytes were not kept, and Kafka no longer has the packet")
    if len(letter.raw) >= _CUT_AT:
        raise _Refused("only its beginning was kept, and Kafka no longer has the packet")
    return Record(topic, b"", letter.raw, (_id(letter),))


def _whole(letter: Letter) -> bytes:
    if not letter.raw:
        raise _Refused("its bytes were not kept")
    if letter.kind in _LOGS and len(letter.raw) >= _CUT_AT:
        raise _Refused("only its beginning was kept")
    return letter.raw


def _key_of(letter: Letter) -> bytes:
    """Key of a region message, if so much of it can be read."""
    try:
        return decode_region(letter.raw).key
    except Rejected:
        return b""


def _notice(letter: Letter) -> Record:
    if letter.fields["reason"] in _CUT_NOTICES:
        raise _Refused(f"only its first {letter.size} bytes were kept")
    arrival = _arrival(letter)
    return Record(topics.RETRY, NOTICE_KEY, letter.raw, (*retry_headers(arrival), _id(letter)))


def _arrival(letter: Letter) -> Arrival:
    """The notice as it came first; private to all who were to see it, and to nobody else."""
    fields = letter.fields
    headers = dict(letter.headers)
    if "source" not in headers:
        known = ("source", "topic", "received")
        headers |= {name: str(fields[name]).encode() for name in known}
        headers |= {name: str(fields[name]).encode() for name in ("partition", "offset")}
    streams = {*headers.get("streams", b"").decode().split(","), *fields["streams"]} - {""}
    headers["streams"] = ",".join(sorted(streams)).encode()
    return arrival_of(letter.raw, tuple(headers.items()))


class Outbox(Protocol):
    """Where letters are sent from."""

    def start(self) -> None:
        """End what others of our name began; before the marks are read."""

    def commit(self, records: Sequence[Record]) -> None:
        """Send all of some messages, or none."""


class KafkaOutbox:
    """A transactional producer: one of two that retry at a time gives way.

    Parameters
    ----------
    bootstrap : str
    properties : mapping of str to str
    """

    def __init__(self, bootstrap: str, properties: Mapping[str, str]) -> None:
        self._bootstrap = bootstrap
        self._producer = kafka_io.producer(
            bootstrap, properties, transactional_id=_NAME, transaction_timeout_ms=10_000
        )

    def start(self) -> None:
        """Fence others."""
        try:
            self._producer.init_transactions(30)
        except KafkaException as error:
            raise ServiceError(
                f"Kafka at {self._bootstrap} does not take transactions: {error.args[0].str()}"
            ) from error

    def commit(self, records: Sequence[Record]) -> None:
        """Send in one transaction."""
        try:
            self._producer.begin_transaction()
            for topic, key, value, headers in records:
                kafka_io.send(self._producer, topic, value, key or None, headers)
            self._producer.commit_transaction(30)
        except KafkaException as error:
            raise ServiceError(f"nothing was sent again: {error.args[0].str()}") from error


def retry(
    kafka: Topics,
    wanted: Wanted,
    *,
    outbox: Outbox | None,
    fetch: Fetch,
    own_alert_topics: Sequence[str],
    who: str,
    now: Callable[[], datetime],
    again: bool = False,
) -> Iterator[Sending]:
    """Send letters again; what became of each, once that is certain.

    Parameters
    ----------
    outbox : Outbox, optional
        None: nothing is sent, and told is what would be.
    fetch : callable
        Packets of alerts by address, those that are still there.

    Raises
    ------
    ServiceError
        If Kafka does not answer; what was yielded before was sent.
    """
    if outbox is not None:
        outbox.start()
    for part in _in_parts(letters(kafka, wanted, bytes_too=True)):
        alerts = [
            x.address for x in part if x.kind == "alerts" and x.address[0] in own_alert_topics
        ]
        packets = fetch(alerts) if alerts else {}
        found = [sending(x, own_alert_topics, packets, again=again) for x in part]
        records = [
            record
            for one in found
            if one.record is not None
            for record in (one.record, _mark(one.letter, one.record.topic, who, now()))
        ]
        if outbox is not None and records:
            outbox.commit(records)
        yield from found


def _mark(letter: Letter, topic: str, who: str, when: datetime) -> Record:
    times = int(letter.mark.get("times", 0)) + 1
    value = {"when": iso(when), "who": who, "to": topic, "times": times}
    return Record(topics.MARKER, MARK_PREFIX + str(letter.id).encode(), json.dumps(value).encode())


def _in_parts(found: Iterable[Letter]) -> Iterator[list[Letter]]:
    part: list[Letter] = []
    for letter in found:
        part.append(letter)
        if len(part) >= _PART or sum(len(one.raw) for one in part) >= _PART_BYTES:
            yield part
            part = []
    if part:
        yield part


def since_text(text: str) -> str:
    """A moment or a day as letters have it, for :class:`Wanted`; ValueError if it is none.

    Examples
    --------
    >>> since_text("2026-01-31")
    '2026-01-31T00:00:00.000000Z'
    """
    moment = from_iso(text)
    return iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
