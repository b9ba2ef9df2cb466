"""What comes out of arrivals, as messages for topics, and how far the work has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from broker.codec import from_iso, iso
from broker.tally import Tally
from crossmatch.errors import Rejected, ServiceError
from gateway.listener.maps import Wanted
from gateway.listener.sources import Arrival

Headers = tuple[tuple[str, bytes], ...]

NOTICE_OFFSET = "notice_offset"
"""Header of a held message: where its bytes lie in the notices topic."""


class TooLarge(ServiceError):
    """Kafka does not take a message of that size, and never will.

    Parameters
    ----------
    detail : str
    stored : mapping of int to int
        Offsets, by number, of those arrivals that were stored all the same.
    """

    def __init__(self, detail: str, stored: Mapping[int, int] | None = None) -> None:
        super().__init__(detail)
        self.stored = stored or {}


class Record(NamedTuple):
    """One message for one topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


class HeldPlace(NamedTuple):
    """Of a paused feed: the first message of the held topic not yet released, and how many wait."""

    next: int = 0
    waiting: int = 0


class Held(NamedTuple):
    """A message of the held topic."""

    arrival: Arrival
    notice_offset: int
    held_offset: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What the last committed transaction says.

    ``next_notice`` is the next message of the notices topic, ``next_retry`` of the topic of
    dead letters that are sent again, ``totals`` are all counts,
    ``held`` tells of feeds with messages that waited once, ``wanted`` of maps by marker key.
    """

    next_notice: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, HeldPlace] = field(default_factory=dict)
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    next_retry: int = 0


@dataclass(slots=True)
class Batch:
    """What came out of some arrivals; it becomes visible as a whole or not at all.

    ``counts`` holds these arrivals, ``totals`` all since the topics began, ``next_notice``
    the first message of the notices topic that is not in it, ``held`` the places of all
    feeds. ``markers`` are the wanted maps that changed: None when one is wanted no more.
    ``tally`` has the counts by night and feed, ``next_retry`` and ``moment`` say how far the
    topic of retries was taken in and when.
    """

    next_notice: int
    records: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    outcomes: list[str] = field(default_factory=list)
    held: dict[str, HeldPlace] = field(default_factory=dict)
    markers: dict[str, Wanted | None] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    next_retry: int = 0
    moment: str = ""

    def add(self, topics: Iterable[str], key: bytes, value: bytes, headers: Headers = ()) -> None:
        """The same message for each of some topics."""
        self.records.extend(Record(topic, key, value, headers) for topic in topics)

    def count(self, night: str, feed: str, *names: str) -> None:
        """Count one message, of a night and a feed, under each of some names."""
        self.counts.update(names)
        for name in names:
            self.tally.add(name, night, feed)

    def of(self, topic: str) -> Iterator[bytes]:
        """Values for one topic, in order."""
        return (r.value for r in self.records if r.topic == topic)


class Sink(Protocol):
    """Where notices and what they became are kept."""

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        """Keep the raw bytes; return their offsets once they are safe.

        Raises
        ------
        TooLarge
            With those that are safe, if others never can be.
        """

    def commit(self, batch: Batch) -> None:
        """Publish a batch, all or nothing.

        Raises
        ------
        TooLarge
            If one of its messages never can be published; then none was.
        """


def wanted_key(wanted: Wanted) -> str:
    """Key of the marker of a wanted map; what is private has a marker of its own.

    Examples
    --------
    >>> wanted = Wanted(
    ...     url="https://x/a.fits", notice_offset=0, notice_sha256="0f", event_id="e",
    ...     feed="f", since="", streams=("ourteam",),
    ... )
    >>> wanted_key(wanted)
    'map/0f/ourteam'
    """
    return "/".join(["map", wanted.notice_sha256, *wanted.streams])


def headers_of(arrival: Arrival) -> Headers:
    """Where the bytes came from, as headers of the stored message."""
    fields = {
        "source": arrival.source,
        "topic": arrival.topic,
        "partition": str(arrival.partition),
        "offset": str(arrival.offset),
        "received": iso(arrival.received),
        "feed": arrival.feed,
    }
    if arrival.skymap:
        fields |= {"skymap": arrival.skymap, "answers": arrival.answers}
    if arrival.streams:
        fields["streams"] = ",".join(arrival.streams)
    if arrival.refused is not None:
        fields |= {"refused": arrival.refused.reason, "detail": arrival.refused.detail}
    if arrival.retry >= 0:
        fields["retry"] = str(arrival.retry)
    return tuple((name, text.encode()) for name, text in fields.items())


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
        skymap=fields.get("skymap", ""),
        answers=fields.get("answers", ""),
        streams=tuple(filter(None, fields.get("streams", "").split(","))),
        refused=refused,
        retry=int(fields.get("retry", -1)),
    )
