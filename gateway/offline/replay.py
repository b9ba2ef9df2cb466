"""Files to Kafka topics: a night of alerts or a month of notices, sent once more.

What is sent are the bytes of the files, untouched. ``shift`` sends them now, at a chosen
rate or as fast as Kafka takes them; ``keep`` sorts them by the times inside and keeps their
intervals, divided by a speed.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossmatch.errors import ConfigError, ServiceError

PACKET_SUFFIXES = (".xml", ".json", ".avro", ".voevent")
"""What counts as a packet in a folder or tarball; a file that is named itself always does."""
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TABLES = (".parquet", ".csv", ".fits", ".vot")
_UNIX_EPOCH_JD = 2440587.5
_UNIX_EPOCH_MJD = 40587.0
# The first of these in a VOEvent says when it was issued, else when it happened.
_XML_TIMES = (
    re.compile(rb"<Date>\s*([^<]+?)\s*</Date>"),
    re.compile(rb"<ISOTime>\s*([^<]+?)\s*</ISOTime>"),
)
_JSON_TIMES = ("time_created", "alert_datetime", "trigger_time", "observation_start")


@dataclass(frozen=True, slots=True)
class Packet:
    """One file, or one member of a tarball, that becomes one message."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay did."""

    topic: str
    messages: int
    bytes: int
    seconds: float
    without_time: int


def packets(paths: Iterable[Path]) -> Iterator[Packet]:
    """Packets in files, folders (with all below, by name) and tarballs (in their order).

    Raises
    ------
    ConfigError
        If a path does not exist, is a table, or holds no packet.
    """
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        found = False
        for packet in _folder(path) if path.is_dir() else _file(path):
            found = True
            yield packet
        if not found:
            raise ConfigError(f"{path}: no packets in it ({', '.join(PACKET_SUFFIXES)})")


def _folder(folder: Path) -> Iterator[Packet]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if path.name.endswith(_TAR_SUFFIXES) or path.suffix in PACKET_SUFFIXES:
            yield from _file(path)


def _file(path: Path) -> Iterator[Packet]:
    if path.name.endswith(_TAR_SUFFIXES):
        yield from _tarball(path)
    elif path.suffix in _TABLES:
        raise ConfigError(
            f"{path}: a table, not packets as they are sent; 'mmgateway crossmatch' reads tables"
        )
    else:
        yield Packet(str(path), path.read_bytes)


def _tarball(path: Path) -> Iterator[Packet]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.isfile() or Path(member.name).suffix not in PACKET_SUFFIXES:
                    continue
                file = archive.extractfile(member)
                if file is not None:
                    yield Packet(f"{path}:{member.name}", io.BytesIO(file.read()).getvalue)
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read as a tarball: {error}") from error


def packet_time(raw: bytes) -> float | None:
    """When a packet was issued or observed, Unix seconds; None if it does not say.

    VOEvent: ``Who/Date``, else the first ``ISOTime``. JSON: its creation or alert time.
    Avro: exposure of the first alert (``candidate.jd``, or ``diaSource.midpointMjdTai`` as if
    UTC, since only intervals matter).
    """
    start = raw.lstrip()[:1]
    if start == b"<":
        for pattern in _XML_TIMES:
            match = pattern.search(raw)
            if match:
                return _iso_seconds(match.group(1).decode("ascii", "replace"))
        return None
    if start == b"{":
        return _json_time(raw)
    return _avro_time(raw)


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _json_time(raw: bytes) -> float | None:
    try:
        record = json.loads(raw)
    except ValueError:
        return None
    texts = (record.get(key) for key in _JSON_TIMES) if isinstance(record, dict) else ()
    return next((_iso_seconds(t) for t in texts if isinstance(t, str)), None)


def _avro_time(raw: bytes) -> float | None:
    import fastavro

    try:
        record: Any = next(fastavro.reader(io.BytesIO(raw)), None)
    except (ValueError, EOFError, IndexError, KeyError, TypeError):
        return None
    if not isinstance(record, Mapping):
        return None
    jd = (record.get("candidate") or {}).get("jd")
    if isinstance(jd, float):
        return (jd - _UNIX_EPOCH_JD) * 86400
    source = record.get("diaSource") or {}
    mjd = source.get("midpointMjdTai") or source.get("midPointTai")
    return (mjd - _UNIX_EPOCH_MJD) * 86400 if isinstance(mjd, float) else None


def by_time(source: Iterable[Packet]) -> tuple[list[tuple[float, Packet]], int]:
    """Packets with their times, sorted, and how many say no time.

    One without a time goes with the packet before it.
    """
    timed: list[tuple[float, Packet]] = []
    leading: list[Packet] = []
    previous: float | None = None
    without = 0
    for packet in source:
        moment = packet_time(packet.read())
        if moment is None:
            without += 1
            if previous is None:
                leading.append(packet)
                continue
            moment = previous
        previous = moment
        timed.append((moment, packet))
    first = min((t for t, _ in timed), default=0.0)
    timed = [(first, packet) for packet in leading] + timed
    timed.sort(key=lambda pair: pair[0])
    return timed, without


def schedule(
    source: Iterable[Packet], *, keep: bool, rate_per_s: float | None, speed: float
) -> tuple[Iterator[tuple[float, Packet]], int | None, int]:
    """When to send which packet, in seconds from the start; their number if known; untimed ones."""
    if keep:
        timed, without = by_time(source)
        first = timed[0][0] if timed else 0.0
        return (((t - first) / speed, p) for t, p in timed), len(timed), without
    step = 0.0 if rate_per_s is None else 1.0 / rate_per_s
    return ((i * step, p) for i, p in enumerate(source)), None, 0


def replay(
    source: Iterable[Packet],
    topic: str,
    send: Callable[[str, bytes], None],
    *,
    keep: bool = False,
    rate_per_s: float | None = None,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Summary:
    """Send every packet in its time.

    Parameters
    ----------
    source : iterable of Packet
    topic : str
        Named in the summary.
    send : callable
        Takes the name and the bytes of a packet.
    keep : bool
        Keep the intervals between the times inside, divided by ``speed``; else send at
        ``rate_per_s`` (None: no limit).
    progress : callable
        Told the number sent and, if known, the number of all.
    """
    plan, total, without = schedule(source, keep=keep, rate_per_s=rate_per_s, speed=speed)
    begin = clock()
    count = size = 0
    for due, packet in plan:
        wait = begin + due - clock()
        if wait > 0:
            sleep(wait)
        raw = packet.read()
        send(packet.name, raw)
        count += 1
        size += len(raw)
        progress(count, total)
    return Summary(topic, count, size, clock() - begin, without)


class KafkaSender:
    """Sends packets to one topic; :meth:`close` returns when Kafka has them all.

    Raises
    ------
    ServiceError
        By either method, naming the packet that Kafka did not take.
    """

    def __init__(self, bootstrap: str, properties: Mapping[str, str], topic: str) -> None:
        from broker import kafka_io

        self._producer = kafka_io.producer(bootstrap, properties)
        self._topic = topic
        self._failure = ""

    def __call__(self, name: str, raw: bytes) -> None:
        """Hand one packet to Kafka."""
        from confluent_kafka import KafkaException

        def delivered(error: Any, message: Any) -> None:
            if error is not None and not self._failure:
                self._failure = f"{name}: Kafka did not take it: {error.str()}"

        while True:
            try:
                self._producer.produce(self._topic, raw, on_delivery=delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise ServiceError(f"{name}: {error.args[0].str()}") from error
        self._producer.poll(0)
        self._check()

    def close(self, timeout: float = 60.0) -> None:
        """Wait until everything has been delivered."""
        left = self._producer.flush(timeout)
        self._check()
        if left:
            raise ServiceError(f"Kafka did not take {left} messages within {timeout:.0f} s")

    def _check(self) -> None:
        if self._failure:
            raise ServiceError(self._failure)


def parse_rate(text: str) -> float:
    """Messages per second from ``100``, ``100/s``, ``6000/min`` or ``36000/h``.

    Raises
    ------
    ConfigError
        If it is none of these, or not above zero.

    Examples
    --------
    >>> parse_rate("600/min")
    10.0
    """
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / {"": 1, "s": 1, "min": 60, "h": 3600}[unit.strip()]
    except (ValueError, KeyError):
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ConfigError(f"--rate: {text!r} is not a rate such as 100/s, 6000/min or 36000/h")
    return rate
