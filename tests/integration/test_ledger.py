"""The ledger, its table and retried dead letters on a real Kafka."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import kafka_io, topics
from broker.codec import decode, encode_candidate, encode_dead_letter
from broker.embedded.java import Java
from broker.embedded.kafka import EmbeddedKafka
from broker.ledgertable import LedgerTable
from broker.tally import Tally
from crossmatch.errors import NoticeError
from gateway import services
from gateway.cli import app
from gateway.config import load
from gateway.intake import EventBook
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.retry import RetrySource
from gateway.listener.sink import KafkaSink
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.publisher import service as publish
from tests.gateway.memory import Direct, arrival, sample
from tests.gateway.publishing import statement

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
MOMENT = "2026-01-02T04:00:00.000000Z"
GW = topics.candidates("gw")
ALERTS = "alerts.ztf"
runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})


@pytest.fixture(scope="module")
def own_kafka(java: Java, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One with the gateway's topics, which have fixed names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("ledger"), 0, 0, java) as kafka:
        services.ensure_topics(kafka.bootstrap, {}, [ALERTS])
        yield kafka


class Gateway:
    """The listener's and publisher's own parts on a real Kafka, and the command."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self._folder = bootstrap, folder
        (folder / "mmgateway.toml").write_text(
            f'[paths]\nstate = "{folder}/state"\n[kafka]\nbootstrap = "{bootstrap}"\n'
            f'[match]\nalert_topics_ztf = ["{ALERTS}"]\nalert_topics_lsst = []\n'
        )

    def pipeline(self) -> NoticePipeline:
        """Of a listener that has just been started."""
        direct, sink = Direct(), KafkaSink(self.bootstrap, {})
        return NoticePipeline(
            direct.understand, EventBook(), sink, SkymapStore(self._folder),
            sink.start(), audience=direct.audience, now=lambda: NOW,
        )  # fmt: skip

    def command(self, *arguments: str) -> Result:
        return runner.invoke(app, ["-c", str(self._folder / "mmgateway.toml"), *arguments])

    def holes(self) -> list[str]:
        record = json.loads(self.command("ledger", "--json").output)
        assert record["source"] == "topic"
        return [hole["sentence"] for hole in record["holes"]]

    def letters(self) -> list[int]:
        record = json.loads(self.command("deadletter", "list", "--json").output)
        return [one["id"] for one in record["letters"] if one["state"] == "open"]

    def count(self, topic: str) -> int:
        return sum(1 for _ in kafka_io.read_all(self.bootstrap, {}, topic, timeout=60))

    def step(self, number: int, *values: bytes) -> None:
        """A step of the matcher that says these statements."""
        producer = kafka_io.producer(self.bootstrap, {}, transactional_id="matcher")
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            kafka_io.send(producer, GW, value)
        tally = Tally()
        tally.add_total("statements", len(values))
        entry = {
            "kind": "search", "step": number, "batch_id": -1, "moment": MOMENT,
            "counts": tally.counts(), "parts": [],
        }  # fmt: skip
        marker = {"step": number, "batch_id": -1, "totals": tally.counts()}
        kafka_io.send(producer, topics.LEDGER, json.dumps(entry).encode())
        kafka_io.send(producer, topics.MARKER, json.dumps(marker).encode(), b"match")
        producer.commit_transaction(30)

    def publish_until(self, topic: str, n: int) -> None:
        """A publisher in this process, until a topic has so many messages."""
        over = threading.Event()
        both = publish.open_publisher(
            self.bootstrap, {}, load(None, {}).publish, lambda *_: None, over, lambda: NOW
        )
        both.start()
        limit = time.monotonic() + 60
        while self.count(topic) < n and time.monotonic() < limit:
            over.wait(0.05)
        over.set()
        both.join()
        assert both.failure is None
        assert self.count(topic) == n

    def take_retries(self, pipeline: NoticePipeline, n: int) -> list[str]:
        """Work through messages of ``mm.retry``, from where the listener stands."""
        taken: list[Arrival] = []
        over = threading.Event()

        def deliver(
            arrivals: Sequence[Arrival],
            stored: Callable[[], None] | None = None,
            done: Callable[[Sequence[str]], None] | None = None,
        ) -> None:
            taken.extend(arrivals)
            assert stored is not None
            stored()
            if len(taken) >= n:
                over.set()

        client = kafka_io.consumer(self.bootstrap, {}, "mmgateway-reader")
        source = RetrySource(client, pipeline.next_retry, deliver, lambda: NOW)
        source.start(lambda error: over.set())
        over.wait(30)
        source.stop()
        return pipeline.take(taken)


@pytest.mark.timeout(240)
def test_ledger_adds_up_over_dead_letters_and_retries(
    own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    gateway = Gateway(own_kafka.bootstrap, tmp_path)
    pipeline = gateway.pipeline()
    burst = sample("gbm_final.xml")
    refused = arrival(burst, source="vtp:broker", refused=NoticeError("not_valid", "why"))
    assert pipeline.take([refused, arrival(b"<x/>")]) == ["rejected", "rejected"]
    good = statement("C1") | {"alert_datetime": MOMENT, "streams": []}
    bad = good | {"candidate_id": "C2/E1/1", "tier": "platinum"}
    gateway.step(0, encode_candidate(good), encode_candidate(bad))
    gateway.publish_until(topics.DEAD_LETTER, 3)
    assert gateway.holes() == []

    first, second, third = gateway.letters()
    done = gateway.command("deadletter", "retry", str(first), str(third))
    assert done.output.splitlines()[-1] == "2 sent again, 0 not."
    assert gateway.letters() == [second]
    # What the door refused is read now; what no VOEvent can be made of is a letter once more.
    assert gateway.take_retries(pipeline, 1) == ["region"]
    gateway.publish_until(topics.DEAD_LETTER, 4)
    assert gateway.holes() == []
    assert len(gateway.letters()) == 2
    # A new listener goes on behind what was taken in.
    assert gateway.pipeline().next_retry == pipeline.next_retry > 0

    table = LedgerTable(tmp_path / "state" / "ledger")
    taken = table.catch_up(own_kafka.bootstrap, {})
    assert (taken, table.catch_up(own_kafka.bootstrap, {})) == (gateway.count(topics.LEDGER), 0)


@pytest.mark.timeout(120)
def test_alert_goes_back_to_its_topic(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    gateway = Gateway(own_kafka.bootstrap, tmp_path)
    producer = kafka_io.producer(own_kafka.bootstrap, {})
    whole = b"p" * (2**20 + 5)
    places: list[tuple[int, int]] = []
    kafka_io.send(
        producer, ALERTS, whole,
        on_delivery=lambda error, m: places.append((m.partition(), m.offset())),
    )  # fmt: skip
    producer.flush(30)
    ((partition, offset),) = places
    for place, raw in ((offset, whole[: 2**20]), (offset + 1, b"")):
        letter = encode_dead_letter(
            reason="not_avro", detail="why", source="alerts", raw=raw, received=NOW,
            topic=ALERTS, partition=partition, offset=place,
        )  # fmt: skip
        kafka_io.send(producer, topics.DEAD_LETTER, letter, b"alert")
    producer.flush(30)
    done = gateway.command("deadletter", "retry", "--reason", "not_avro")
    assert done.exit_code == 1
    assert "its bytes were not kept, and Kafka no longer has the packet" in done.output
    values = [m.value for m in kafka_io.read_all(own_kafka.bootstrap, {}, ALERTS)]
    assert values == [whole, whole]
    letters = [
        decode(m.value) for m in kafka_io.read_all(own_kafka.bootstrap, {}, topics.DEAD_LETTER)
    ]
    assert [x["reason"] for x in letters].count("not_avro") == 2
