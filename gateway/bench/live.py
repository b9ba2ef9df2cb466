"""Notice to region on the topic, through a listener and a Kafka of the bench's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from broker import kafka_io, topics
from broker.codec import decode
from crossmatch.errors import ServiceError
from gateway.bench import own, samples
from gateway.bench.measure import Row, delays_row

TOPIC = "gcn.classic.voevent.FERMI_GBM_FLT_POS"


def latency(
    folder: Path,
    *,
    per_second: float,
    count: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Row:
    """Time from sending a notice to its region being read by a ``read_committed`` consumer.

    Parameters
    ----------
    folder : Path
        For the state of the gateway that is started here and stopped again.
    per_second : float
        Notices are sent at this rate, whatever comes back.
    count : int
        Notices sent, after as many warm ones as are sent in two seconds.

    Raises
    ------
    ServiceError
        If the gateway does not start, or regions are missing.
    """
    tell("starting Kafka and the listener")
    with own.running(folder, ["kafka", "listen"]) as gateway:
        warm = int(2 * per_second)
        raws = samples.gbm_voevents(warm + count, seed)
        tell(f"{count} notices at {per_second:g} a second")
        seconds = _seconds(gateway.bootstrap, raws, per_second)[warm:]
    return delays_row(
        "notices",
        "latency",
        seconds,
        seconds,
        per_second,
        compared=(
            f"from sending each of {count:,} VOEvents to reading its region, read_committed;"
            " seconds are the median, and the spread holds 98 % of them"
        ),
    )


def _seconds(bootstrap: str, raws: Sequence[bytes], per_second: float) -> list[float]:
    """Seconds from sending to reading, of each notice in the order of sending."""
    sent: dict[str, float] = {}
    read: dict[str, float] = {}
    over = threading.Event()
    reader = threading.Thread(target=_read, args=(bootstrap, read, len(raws), over), daemon=True)
    reader.start()
    producer = kafka_io.producer(bootstrap, {})
    began = time.monotonic()
    for number, raw in enumerate(raws):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        sent[_trigger(raw)] = time.monotonic()
        kafka_io.send(producer, TOPIC, raw)
        producer.poll(0)
    producer.flush(30)
    reader.join(60)
    over.set()
    missing = len(raws) - len(read)
    if missing:
        raise ServiceError(f"{missing} of {len(raws)} regions did not come within a minute")
    return [read[trigger] - when for trigger, when in sent.items()]


def _trigger(raw: bytes) -> str:
    return raw.split(b'name="TrigID" value="', 1)[1].split(b'"', 1)[0].decode()


def _read(bootstrap: str, read: dict[str, float], count: int, over: threading.Event) -> None:
    consumer = kafka_io.consumer(bootstrap, {}, "mmgateway-bench")
    consumer.subscribe([topics.REGIONS])
    while len(read) < count and not over.is_set():
        for message in consumer.consume(100, timeout=0.02):
            value = message.value()
            if message.error() is None and value is not None:
                fields: Mapping[str, object] = decode(value)
                read.setdefault(str(fields["trigger_id"]), time.monotonic())
    consumer.close()
