"""Damaged alert packets by the thousand through the live query, from a real Kafka.

``MMGATEWAY_MUTATED`` sets how many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import kafka_io, stream, topics
from broker.kafka_io import PacketReader
from broker.ledger import added
from broker.lsstschemas import LsstSchemas
from broker.packets import decode_packet, native_row
from broker.sources import raw_rows
from gateway import services
from tests.integration import mutations
from tests.integration.streaming import World, region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from broker.embedded.kafka import EmbeddedKafka

COUNT = int(os.environ.get("MMGATEWAY_MUTATED", "1536"))
SEED = 20260102
EVENT = "Fermi_mutated"
WHOLE = [
    (kind, packet)
    for i, kind in enumerate(mutations.KINDS)
    for packet in mutations.good(kind, 3, 10 * COUNT + 10 * i)
]
pytestmark = pytest.mark.timeout(60 + COUNT // 5)


def send(bootstrap: str, sent: Sequence[tuple[str, bytes]]) -> None:
    producer = kafka_io.producer(bootstrap, {})
    for topic, value in sent:
        kafka_io.send(producer, topic, value)
    assert producer.flush(60) == 0


def test_each_damaged_packet_is_accounted_for_and_the_query_goes_on(
    spark: SparkSession, kafka: EmbeddedKafka, topic: Callable[..., str], tmp_path: Path
) -> None:
    services.ensure_topics(kafka.bootstrap, {})
    ztf, lsst = topic("mutated.ztf"), topic("mutated.lsst")
    live = World(
        spark,
        tmp_path,
        lambda: PacketReader(kafka.bootstrap, {}),
        bootstrap=kafka.bootstrap,
        ztf=(ztf,),
        lsst=(lsst,),
        lsst_schemas=LsstSchemas(known=mutations.LSST_SCHEMAS),
        max_offsets_per_trigger=1000,
    )
    send(kafka.bootstrap, [(topics.REGION_LOG, region(event_id=EVENT, trigger_id="mutated"))])
    damaged = mutations.mutated(COUNT, SEED)
    send(kafka.bootstrap, [(lsst if k == "lsst" else ztf, packet) for k, _, packet in damaged])
    query = stream.start(live.matcher, raw_rows(spark, live.sources), tmp_path / "checkpoint")
    try:
        query.processAllAvailable()
        send(kafka.bootstrap, [(lsst if k == "lsst" else ztf, p) for k, p in WHOLE])
        query.processAllAvailable()
        live.matcher.settle()
        assert query.exception() is None
    finally:
        query.stop()

    assert live.matcher.failure is None
    ledger = added(outcome.ledger for outcome in live.writer.outcomes)
    assert ledger["messages"] == COUNT + len(WHOLE)
    assert ledger["received"] >= COUNT + len(WHOLE)
    letters = [x for x in live.writer.letters if x["topic"] in (ztf, lsst)]
    rejected = sum(n for name, n in ledger.items() if name.startswith("rejected."))
    assert rejected == len(letters) == len({(x["topic"], x["offset"]) for x in letters})
    assert all(letter["reason"] and letter["detail"] for letter in letters)
    assert _accounted(live, letters, ledger) == ledger["received"]
    told = {s["id"] for s in live.writer.statements if s["event_id"] == EVENT}
    assert told >= {_object(kind, packet) for kind, packet in WHOLE}
    _tell(letters)


def _accounted(live: World, letters: Sequence[Any], ledger: dict[str, int]) -> int:
    """Messages with a letter, rows of the archive, and alerts that came twice; none is two."""
    archived = {
        (row["topic"], row["offset"])
        for outcome in live.writer.outcomes
        for row in live.archive.batch(outcome.batch_id).to_pylist()
    }
    refused = {(x["topic"], x["offset"]) for x in letters}
    assert not archived & refused
    return len(archived) + len(refused) + ledger.get("duplicate", 0)


def _object(kind: str, packet: bytes) -> str:
    survey = "lsst" if kind == "lsst" else "ztf"
    (record,) = decode_packet(packet, survey, mutations.LSST_SCHEMAS)
    row = native_row(record, survey)
    return str(row["objectId"] if survey == "ztf" else row["diaObjectId"])


def _tell(letters: Sequence[Any]) -> None:
    """What became of them, for whoever runs it with ``-s``."""
    for reason, count in Counter(x["reason"] for x in letters).most_common():
        print(f"{reason:24} {count}")
    print(f"{'accepted':24} {COUNT - len(letters)} of {COUNT}")
