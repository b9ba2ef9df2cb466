"""Notice to region on the topic, through a listener and a Kafka of the bench's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from broker import kafka_io, topics
from broker.codec import decode
from crossmatch.errors import ServiceError
from gateway.bench import own, samples
from gateway.bench.measure import Row, delays_row

VOEVENTS = "gcn.classic.voevent.FERMI_GBM_FLT_POS"
RECORDS = "gcn.notices.icecube.gold_bronze_track_alerts"
_PATIENCE_S = 60.0

Read = dict[tuple[str, bool], float]
"""When the region of a trigger was read first: a circle, or a map."""


def cases(
    folder: Path,
    *,
    per_second: float,
    count: int,
    maps: int,
    cells: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Rows of times from sending a notice to its region being read by a committed consumer.

    Parameters
    ----------
    folder : Path
        For the state of the gateway that is started here and stopped again.
    per_second : float
        Notices are sent at this rate, whatever comes back.
    count : int
        Notices sent, after as many warm ones as are sent in two seconds.
    maps, cells : int
        Notices whose sky maps of so many cells lie at an address, one after another; 0: none.

    Raises
    ------
    ServiceError
        If the gateway does not start, or regions are missing.
    """
    tell("starting Kafka and the listener")
    with (
        _served(cells, seed) as served,
        own.running(folder, ["kafka", "listen"], hosts=[served.address]) as gateway,
        _reading(gateway.bootstrap) as read,
    ):
        warm = int(2 * per_second)
        raws = samples.gbm_voevents(warm + count, seed)
        tell(f"{count} notices at {per_second:g} a second")
        seconds = _seconds(gateway.bootstrap, raws, per_second, read)[warm:]
        rows = [_row("latency", seconds, per_second, "each of many VOEvents")]
        if maps:
            tell(f"{maps} notices with maps of {cells:,} cells")
            seconds = [_mapped(gateway.bootstrap, n, served, read) for n in range(maps + 1)][1:]
            told = f"notices of sky maps of {cells:,} cells, each fetched from this machine,"
            rows.append(_row("latency, large maps", seconds, 1 / max(seconds), told))
    return rows


def _row(case: str, seconds: Sequence[float], per_second: float, what: str) -> Row:
    told = (
        f"from sending {what} to reading its region, read_committed; seconds are the median, and"
        " the spread holds 98 % of them"
    )
    return delays_row("notices", case, seconds, seconds, round(per_second, 1), compared=told)


def _seconds(bootstrap: str, raws: Sequence[bytes], per_second: float, read: Read) -> list[float]:
    """Seconds from sending to reading, of each notice in the order of sending."""
    sent: dict[tuple[str, bool], float] = {}
    producer = kafka_io.producer(bootstrap, {})
    began = time.monotonic()
    for number, raw in enumerate(raws):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        sent[_trigger(raw), False] = time.monotonic()
        kafka_io.send(producer, VOEVENTS, raw)
        producer.poll(0)
    producer.flush(30)
    _wait(lambda: sent.keys() <= read.keys())
    return [read[key] - when for key, when in sent.items()]


def _mapped(bootstrap: str, number: int, maps: _Maps, read: Read) -> float:
    """Seconds from sending a notice to reading the region that its map became."""
    trigger, raw = samples.mapped_record(number, maps.make(number))
    producer = kafka_io.producer(bootstrap, {})
    began = time.monotonic()
    kafka_io.send(producer, RECORDS, raw)
    producer.flush(30)
    _wait(lambda: (trigger, True) in read)
    return read[trigger, True] - began


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise ServiceError(f"regions of notices did not come within {_PATIENCE_S:.0f} s")
        time.sleep(0.01)


def _trigger(raw: bytes) -> str:
    return raw.split(b'name="TrigID" value="', 1)[1].split(b'"', 1)[0].decode()


@contextmanager
def _reading(bootstrap: str) -> Iterator[Read]:
    """What is read from the topic of regions meanwhile."""
    read: Read = {}

    def take(record: kafka_io.Record) -> None:
        fields: Mapping[str, object] = decode(record.value)
        key = str(fields["trigger_id"]), fields["shape"] == "map"
        read.setdefault(key, time.monotonic())

    with own.listening(bootstrap, [topics.REGIONS], take):
        yield read


class _Maps:
    """Sky maps by their paths, and where they are served."""

    def __init__(self, cells: int, seed: int) -> None:
        self._cells, self._seed = cells, seed
        self.made: dict[str, bytes] = {}
        self.address = ""

    def make(self, number: int) -> str:
        """Address of a map that is like no other; those before are gone."""
        path = f"/{number}.fits"
        self.made = {path: samples.large_map(self._cells, self._seed + number)}
        return f"http://{self.address}{path}"


@contextmanager
def _served(cells: int, seed: int) -> Iterator[_Maps]:
    """Maps that a server of this machine has meanwhile."""
    maps = _Maps(cells, seed)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = maps.made.get(self.path)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    maps.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield maps
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
