"""The publisher on a real Kafka: killed in the middle, nothing is said twice or lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker import kafka_io, topics
from broker.codec import encode_candidate
from broker.embedded.java import Java
from broker.embedded.kafka import EmbeddedKafka
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import ServiceError
from gateway import services
from gateway.config import load
from gateway.publisher import service as publish
from gateway.publisher.positions import HEARD_PREFIX, PUBLISH_KEY, VTP_KEY, decode_position

GW = topics.candidates("gw")
COUNT = 40

# A publisher that dies when a given number of VOEvents lies in an open transaction on the broker.
VICTIM = """\
import os, signal, sys, threading
from datetime import UTC, datetime
from broker import kafka_io, topics
from gateway.publisher import service as publish
from gateway.publisher import steps
from gateway.config import load

bootstrap, fatal = sys.argv[1], int(sys.argv[2])
steps._BATCH = 7
made = 0
send = kafka_io.send

def deadly(producer, topic, value, key=None, headers=(), on_delivery=None):
    global made
    send(producer, topic, value, key, headers, on_delivery)
    made += topic == topics.VOEVENTS
    if made >= fatal:
        producer.flush(10)
        print("in the middle", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

kafka_io.send = deadly
over = threading.Event()
both = publish.open_publisher(
    bootstrap, {}, load(None, {}).publish, lambda stream, xml: None, over, lambda: datetime.now(UTC)
)
# Only the first step: what goes out by VTP is counted elsewhere.
both.writer.start()
both.writer.join()
"""


@pytest.fixture(scope="module")
def own_kafka(java: Java, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One with the gateway's topics, which have fixed names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("publish"), 0, 0, java) as kafka:
        services.ensure_topics(kafka.bootstrap, {})
        yield kafka


def statement(number: int, **changed: Any) -> bytes:
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True, "strings": ["a"],
    }  # fmt: skip
    times = [
        "alert_datetime", "event_trigger_time", "observation_start", "first_detection",
        "last_detection", "last_nondetection_time", "expires",
    ]  # fmt: skip
    return encode_candidate(
        {
            **{field.name: values[field.kind] for field in CANDIDATE_FIELDS},
            **dict.fromkeys(times, "2026-01-02T03:04:05.000000Z"),
            "candidate_id": f"C{number}/E1/1",
            "counterpart_id": f"C{number}",
            "event_id": "E1",
            "alert_type": "initial",
            "state": "in_force",
            "supersedes": None,
            "role": "observation",
            "stream": GW,
            "streams": [],
            "messenger": "gw",
            "tier": "gold" if number % 4 == 0 else "silver",
            "alert_id": "1",
            **changed,
        }
    )


def say(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = kafka_io.producer(bootstrap, {})
    for value in values:
        kafka_io.send(producer, topic, value, b"key")
    assert producer.flush(30) == 0


def told(bootstrap: str) -> Counter[str]:
    """VOEvents that a ``read_committed`` reader sees, by name."""
    messages = kafka_io.read_all(bootstrap, {}, topics.VOEVENTS, timeout=60)
    return Counter(dict(m.headers)["ivoid"].decode().rpartition("#")[2] for m in messages)


def run_publisher(
    bootstrap: str, send: Callable[[str, bytes], object], enough: Callable[[], bool]
) -> None:
    """A publisher in this process, until there is enough."""
    over = threading.Event()
    both = publish.open_publisher(
        bootstrap, {}, load(None, {}).publish, send, over, lambda: datetime.now(UTC)
    )
    both.start()
    limit = time.monotonic() + 60
    while not enough() and not over.is_set() and time.monotonic() < limit:
        time.sleep(0.05)
    over.set()
    both.join()
    assert both.failure is None
    assert enough()


def marker(bootstrap: str, key: bytes) -> dict[tuple[str, int], int]:
    found = [m.value for m in kafka_io.read_all(bootstrap, {}, topics.MARKER) if m.key == key]
    return decode_position(found[-1])


@pytest.mark.timeout(300)
def test_kill_between_produce_and_commit_neither_loses_nor_repeats(
    own_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    bootstrap = own_kafka.bootstrap
    say(bootstrap, GW, [statement(n) for n in range(COUNT)])
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)
    for fatal in (3, 10, 12):
        done = subprocess.run(
            [sys.executable, str(script), bootstrap, str(fatal)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert "in the middle" in done.stdout

    robot: list[bytes] = []
    run_publisher(
        bootstrap,
        lambda stream, xml: robot.append(xml),
        lambda: told(bootstrap).total() >= COUNT and len(robot) >= COUNT // 4,
    )
    found = told(bootstrap)
    assert set(found.values()) == {1}
    assert set(found) == {f"C{n}%2FE1%2F1" for n in range(COUNT)}
    assert marker(bootstrap, PUBLISH_KEY) == {(GW, 0): COUNT}
    assert len(robot) == len(set(robot)) == COUNT // 4

    # A later one goes on: nothing again on the topic or by VTP, and a fall is told to who heard.
    say(bootstrap, GW, [statement(0, tier="bronze", candidate_id="C0/E1/2")])
    later: list[bytes] = []
    run_publisher(bootstrap, lambda stream, xml: later.append(xml), lambda: bool(later))
    assert len(later) == 1
    assert b"C0%2FE1%2F2" in later[0]
    assert told(bootstrap).total() == COUNT + 1
    heard = {
        m.key
        for m in kafka_io.read_all(bootstrap, {}, topics.MARKER)
        if m.key.startswith(HEARD_PREFIX)
    }
    assert heard == {f"heard/C{n}/E1".encode() for n in range(0, COUNT, 4)}
    (at,) = marker(bootstrap, VTP_KEY).values()
    assert at > COUNT


def test_reading_waits_for_what_an_open_transaction_hides(
    kafka: EmbeddedKafka, topic: Callable[..., str]
) -> None:
    """A place that was kept must be found though another service died in a transaction."""
    name = topic()
    stuck = kafka_io.producer(kafka.bootstrap, {}, transactional_id=f"{name}-stuck")
    stuck.init_transactions(30)
    stuck.begin_transaction()
    stuck.produce(name, b"never")
    stuck.flush(30)
    say(kafka.bootstrap, name, [b"behind it"])
    with pytest.raises(ServiceError, match="gave nothing"):
        list(kafka_io.read_all(kafka.bootstrap, {}, name, timeout=3))
    closing = threading.Timer(1.0, stuck.abort_transaction, [30])
    closing.start()
    found = [m.value for m in kafka_io.read_all(kafka.bootstrap, {}, name)]
    closing.join()
    assert found == [b"behind it"]
    assert [m.value for m in kafka_io.read_all(kafka.bootstrap, {}, name)] == [b"behind it"]
