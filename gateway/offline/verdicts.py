"""Verdicts of people: made, sent to ``mm.verdicts``, read again, and what they will do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from crossmatch.errors import ConfigError, Rejected, ServiceError
from crossmatch.verdicts import (
    CLASSIFICATIONS,
    EFFECTS,
    SYNONYMS,
    Effect,
    Verdict,
    checked,
    content_id,
    holding,
    known_word,
)
from gateway.near import did_you_mean
from gateway.offline.counterparts import Counterpart, Track

SEND_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Log:
    """All verdicts in the order of the topic, and how many messages were none."""

    verdicts: tuple[Verdict, ...]
    unreadable: int = 0

    def of(self, counterpart_id: str) -> list[Verdict]:
        """The verdicts on one counterpart."""
        return [v for v in self.verdicts if v.counterpart_id == counterpart_id]

    def holds(self) -> set[str]:
        """Ids of the verdicts that hold for some event: others are superseded."""
        by_counterpart: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in self.verdicts:
            by_counterpart[verdict.counterpart_id].append(verdict)
        found = set()
        for verdicts in by_counterpart.values():
            for event in {v.event_id for v in verdicts}:
                latest = holding(verdicts, event)
                found |= {latest.verdict_id} if latest else set()
        return found


def stamp(moment: datetime) -> str:
    """ISO 8601 UTC with microseconds and Z, as verdicts are stated."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def classification(word: str) -> str:
    """The classification that ``word`` means.

    Raises
    ------
    ConfigError
        When it is none; the sentence has the nearest ones and all.
    """
    found = known_word(word)
    if found is not None:
        return found
    hint = did_you_mean(word.strip().lower(), [*CLASSIFICATIONS, *SYNONYMS])
    known = f"known are {', '.join(CLASSIFICATIONS)}"
    raise ConfigError(f"no verdict is called {word!r}; " + (f"{hint} {known}" if hint else known))


def new_verdict(
    counterpart_id: str,
    word: str,
    *,
    now: datetime,
    event_id: str = "",
    note: str = "",
    reference: str = "",
    author: str = "",
    effect: Effect | None = None,
) -> Verdict:
    """A verdict given now; its id is the digest of what it says and when.

    Raises
    ------
    ConfigError
        For a word that is no classification, or texts that are too long or no text.
    """
    name = classification(word)
    does = effect or EFFECTS[name]
    stated = stamp(now)
    parts = (counterpart_id, event_id, name, does, note, reference, author, stated)
    try:
        return checked(
            Verdict(
                verdict_id=content_id(*parts),
                counterpart_id=counterpart_id,
                classification=name,
                effect=does,
                stated=stated,
                author=author,
                note=note,
                reference=reference,
                event_id=event_id,
            )
        )
    except Rejected as error:
        raise ConfigError(f"the verdict cannot be sent: {error.detail}") from error


def touched(verdict: Verdict, counterpart: Counterpart) -> list[Track]:
    """Candidates in force that the verdict is about."""
    return [t for t in counterpart.tracks if t.in_force and verdict.event_id in ("", t.event_id)]


def consequence(verdict: Verdict, track: Track) -> str:
    """What a verdict will do to the tier of a candidate, for people."""
    tier = track.latest["tier"]
    if verdict.effect == "demote":
        return "stays bronze" if tier == "bronze" else f"falls from {tier} to bronze"
    if verdict.effect == "confirm":
        if track.latest["role"] == "test":
            return f"stays {tier}: the event is a test"
        return "stays gold" if tier == "gold" else f"rises from {tier}, to gold if its chain may"
    said = track.latest.get("verdict_effect") or "neutral"
    return f"stays {tier}" if said == "neutral" else f"is {tier}; will be as the rules say"


def as_record(verdict: Verdict) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(verdict)


def send(bootstrap: str, properties: Mapping[str, str], verdicts: Sequence[Verdict]) -> None:
    """Put verdicts on ``mm.verdicts``; returns when Kafka has them all.

    Raises
    ------
    ServiceError
        When Kafka does not take them.
    """
    from broker import kafka_io, topics
    from broker.verdictlog import encode_verdict
    from gateway.topicspecs import topic_specs

    wanted = [s for s in topic_specs() if s.name == topics.VERDICTS]
    kafka_io.ensure_topics(bootstrap, properties, wanted)
    failed: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error.str())

    producer = kafka_io.producer(bootstrap, properties)
    for verdict in verdicts:
        kafka_io.send(
            producer,
            topics.VERDICTS,
            encode_verdict(verdict),
            verdict.counterpart_id.encode(),
            on_delivery=delivered,
        )
    left = producer.flush(SEND_SECONDS)
    if left or failed:
        why = failed[0] if failed else f"no answer within {SEND_SECONDS:.0f} s"
        raise ServiceError(
            f"{len(failed) or left} of {len(verdicts)} verdicts were not sent: {why};"
            " to try again does no harm"
        )


def read(bootstrap: str, properties: Mapping[str, str]) -> Log:
    """All verdicts on ``mm.verdicts``, each id once; none when there is no such topic yet.

    Raises
    ------
    ServiceError
        When Kafka does not answer.
    """
    from broker import kafka_io, topics
    from gateway.topicspecs import topic_specs

    wanted = [s for s in topic_specs() if s.name == topics.VERDICTS]
    kafka_io.ensure_topics(bootstrap, properties, wanted)
    return read_log(r.value for r in kafka_io.read_all(bootstrap, properties, topics.VERDICTS))


def read_log(messages: Iterable[bytes]) -> Log:
    """Verdicts of messages, each id once; what is none is counted."""
    from broker.verdictlog import decode_verdict

    found: dict[str, Verdict] = {}
    unreadable = 0
    for message in messages:
        try:
            verdict = decode_verdict(message)
        except Rejected:
            # The matcher has put it to the dead letters, with the reason.
            unreadable += 1
            continue
        found.setdefault(verdict.verdict_id, verdict)
    return Log(tuple(found.values()), unreadable)
