"""When everything that was sent has had its whole effect."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from broker import kafka_io, topics
from gateway.publisher.positions import PUBLISH_KEY, VTP_KEY, decode_position

from .listening import CANDIDATES
from .outside import ALERT_TOPIC
from .stack import Stack

CALM_SECONDS = 3.0
"""So long nothing new may come: three times what any service waits for by itself."""


@dataclass(frozen=True)
class Quiet:
    """Whether all is quiet, what is still missing, and how long it took."""

    missing: list[str]
    seconds: float


def until_quiet(stack: Stack, timeout: float = 180.0) -> Quiet:
    """Wait until nothing is left to do."""
    begin = time.monotonic()
    missing = ["nothing was looked at yet"]
    while missing and time.monotonic() < begin + timeout:
        stack.outside.poll(0.3)
        missing = unfinished(stack)
    return Quiet(missing, time.monotonic() - begin)


def unfinished(stack: Stack) -> list[str]:
    """Sentences about what is not done yet."""
    witness = stack.witness
    if witness.failure is not None:
        return [f"the reader of the topics ended: {witness.failure}"]
    left = [
        ("not sent", stack.outside.unsent),
        ("notices to be stored", _unstored(stack)),
        ("notices to be read", len(witness.records[topics.NOTICES]) - _notices_read(stack)),
        ("regions to be taken in", _regions_left(stack)),
        ("searches owed", witness.owed()),
        ("statements without a VOEvent", _statements_left(stack)),
        ("VOEvents to be broadcast", _voevents_left(stack)),
    ]
    sentences = [f"{number} {what}" for what, number in left if number > 0]
    if sentences:
        return sentences
    if time.monotonic() - witness.last_news < CALM_SECONDS:
        return ["something came a moment ago"]
    # Last, as Kafka has to be asked for it.
    alerts = alert_messages(stack) - ledger(stack, "alerts")["received"]
    return [f"{alerts} alerts to be taken in"] if alerts else []


def ledger(stack: Stack, kind: str) -> Counter[str]:
    """Sum of the counts of a kind that the witness was given."""
    total: Counter[str] = Counter()
    for record in stack.witness.records[topics.LEDGER]:
        entry = json.loads(record.value)
        if entry["kind"] == kind:
            total.update(entry["counts"])
    return total


def alert_messages(stack: Stack) -> int:
    """Messages on the alert topic, repeats too; their producer makes no transactions."""
    client = kafka_io.consumer(stack.bootstrap, {}, "chaos-counter")
    try:
        total = 0
        for number in client.list_topics(timeout=30).topics[ALERT_TOPIC].partitions:
            place = TopicPartition(ALERT_TOPIC, number)
            low, high = client.get_watermark_offsets(place, timeout=30)
            total += high - low
        return total
    finally:
        client.close()


def _unstored(stack: Stack) -> int:
    stored = {hashlib.sha256(r.value).digest() for r in stack.witness.records[topics.NOTICES]}
    told = {hashlib.sha256(raw).digest() for _, raw in stack.outside.told.notices}
    return len(told - stored)


def _notices_read(stack: Stack) -> int:
    return ledger(stack, "notices")["received"]


def _regions_left(stack: Stack) -> int:
    taken = json.loads(stack.witness.marker(b"match") or b"{}").get("regions_next", 0)
    return sum(r.offset >= taken for r in stack.witness.records[topics.REGION_LOG])


def _statements_left(stack: Stack) -> int:
    marker = stack.witness.marker(PUBLISH_KEY)
    at = decode_position(marker) if marker else {}
    return sum(
        r.offset >= at.get((name, 0), 0) for name in CANDIDATES for r in stack.witness.records[name]
    )


def _voevents_left(stack: Stack) -> int:
    marker = stack.witness.marker(VTP_KEY)
    at = decode_position(marker).get((topics.VOEVENTS, 0), 0) if marker else 0
    return sum(r.offset >= at for r in stack.witness.records[topics.VOEVENTS])
