"""Statements on the topics of candidates, and how those made once more compare with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from broker.codec import decode, encode_candidate
from broker.statementlog import statement_topics
from gateway.offline.evidence import Topics

MOST = 20
"""Differences that are told in full."""


@dataclass(frozen=True, slots=True)
class Place:
    """A statement on its topic: where it lies, and the digest of its bytes."""

    offset: int
    sha256: bytes


Thread = tuple[str, str, str]
"""Topic, event and counterpart: its statements are numbered from 1."""


@dataclass(slots=True)
class Account:
    """What became of an event's statements when they were made once more.

    ``statements`` were published. Of these ``identical + different + missing +
    other_selection``; ``extra`` were made once more and never published. Those of another
    selection were made after the cuts, chains, code or catalogues had changed.
    """

    event_id: str
    statements: int = 0
    identical: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    other_selection: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether every byte was made once more, and no other."""
        return self.identical == self.statements and self.extra == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """A statement that was not made once more as it was published, by column.

    ``kind`` is different, missing or extra; ``columns`` has (published, made once more).
    """

    kind: str
    topic: str
    candidate_id: str
    event_id: str
    columns: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        columns = {
            name: {"published": was, "made": now} for name, (was, now) in self.columns.items()
        }
        return {
            "kind": self.kind,
            "topic": self.topic,
            "candidate_id": self.candidate_id,
            "event_id": self.event_id,
            "columns": columns,
        }


class Published:
    """Statements about some events on the topics of candidates, as digests.

    Parameters
    ----------
    kafka : Topics
    events : container of str
    """

    def __init__(self, kafka: Topics, events: Container[str]) -> None:
        self._kafka = kafka
        self._threads: dict[str, dict[Thread, list[Place]]] = {}
        for topic in statement_topics(kafka.names()):
            for message in kafka.read(topic):
                event = dict(message.headers).get("event_id", b"").decode()
                if event in events:
                    place = Place(message.offset, hashlib.sha256(message.value).digest())
                    thread = (topic, event, message.key.decode())
                    self._threads.setdefault(event, {}).setdefault(thread, []).append(place)

    def compare(
        self,
        events: Iterable[str],
        made: Sequence[Mapping[str, Any]],
        *,
        stopped: bool,
        told: list[Difference],
    ) -> dict[str, Account]:
        """Accounts of some events, ordered; the first differences are added to ``told``.

        Parameters
        ----------
        events : iterable of str
            All that the statements are about, and those that were to have any.
        made : sequence
            Statements as they would go to their topics, in their order.
        stopped : bool
            Whether the selection changed later: what is missing at the end is of another one.
        told : list of Difference
            Kept below ``MOST``.
        """
        accounts = {event: Account(event) for event in sorted(events)}
        threads: dict[Thread, list[Mapping[str, Any]]] = {}
        for one in made:
            thread = (one["stream"], one["event_id"], one["counterpart_id"])
            threads.setdefault(thread, []).append(one)
            accounts.setdefault(one["event_id"], Account(one["event_id"]))
        for event in list(accounts):
            for thread in self._threads.get(event, ()):
                threads.setdefault(thread, [])
        for thread in sorted(threads):
            _, event, _ = thread
            places = self._threads.get(event, {}).get(thread, [])
            self._compare(thread, places, threads[thread], accounts[event], stopped, told)
        return accounts

    def _compare(
        self,
        thread: Thread,
        places: Sequence[Place],
        made: Sequence[Mapping[str, Any]],
        account: Account,
        stopped: bool,
        told: list[Difference],
    ) -> None:
        account.statements += len(places)
        digests = [hashlib.sha256(encode_candidate(one)).digest() for one in made]
        common = Counter(p.sha256 for p in places) & Counter(digests)
        account.identical += common.total()
        old = _without([p.sha256 for p in places], common)
        new = _without(digests, common)
        both = min(len(old), len(new))
        account.different += both
        if stopped:
            account.other_selection += len(old) - both
        else:
            account.missing += len(old) - both
        account.extra += len(new) - both
        for i in range(max(len(old), len(new))):
            if len(told) >= MOST or (stopped and i >= both and i < len(old)):
                break
            was = self._statement(thread[0], places[old[i]]) if i < len(old) else None
            told.append(_difference(thread, was, made[new[i]] if i < len(new) else None))

    def _statement(self, topic: str, place: Place) -> dict[str, Any]:
        for message in self._kafka.read(topic, place.offset):
            if message.offset == place.offset:
                return decode(message.value)
            break
        return {}


def _without(digests: Sequence[bytes], common: Mapping[bytes, int]) -> list[int]:
    """Numbers of those that are left when what is common was taken away."""
    left = dict(common)
    found = []
    for i, digest in enumerate(digests):
        if left.get(digest, 0):
            left[digest] -= 1
        else:
            found.append(i)
    return found


def _difference(
    thread: Thread, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Difference:
    topic, event, _ = thread
    one = now or was or {}
    kind = "missing" if now is None else "extra" if was is None else "different"
    columns = {}
    if was is not None and now is not None:
        names = dict.fromkeys((*was, *now))
        columns = {n: (was.get(n), now.get(n)) for n in names if was.get(n) != now.get(n)}
    return Difference(kind, topic, str(one.get("candidate_id")), event, columns)
