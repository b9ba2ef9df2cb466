"""What the steps of the pipeline cost, from the times that the matcher tells and a few more."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import pyarrow as pa

from broker.archive import Seen
from broker.commit import Committed
from broker.judge import Judge, PacketSource
from broker.steps import Archive
from crossmatch.ahead import Found
from crossmatch.cuts import CutResult, Cuts
from crossmatch.index import RegionIndex
from crossmatch.match import Pairs

READ, DECODE, HAND_OVER, COLUMNS = "reading", "decoding in the JVM", "hand-over", "columns"
ARCHIVE, JOIN, PACKETS = "archive", "cuts and join", "whole packets of matches"
CANDIDATES, PUBLISH = "candidates", "publishing"
DECODING = "Spark, reading and decoding the prefix"
COUNTING = "Spark, counting bytes"
BARE = "mmgateway without catalogues"
"""Subjects beside ours."""
COST_BY_STEP = "cost by step, "
"""How cases begin whose subjects are steps."""
STEPS = (READ, DECODE, HAND_OVER, COLUMNS, ARCHIVE, JOIN, PACKETS, CANDIDATES, PUBLISH)
"""In the order in which an alert goes through them."""
_IN_STEP = (ARCHIVE, JOIN, PACKETS)
# What older lines have for a step whose cost was below the noise.
_LEAST_S = 1e-9

Clock = Callable[[], float]
P = ParamSpec("P")
T = TypeVar("T")


class Watch:
    """Seconds by name, as they come."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self._clock = clock

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        begin = self._clock()
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - begin  # type: ignore[assignment]

    def timed(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, timed."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.on(name):
                return function(*args, **kwargs)

        return call


class TimedArchive:
    """An archive whose writing and asking is timed."""

    def __init__(self, archive: Archive, watch: Watch) -> None:
        self._archive, self._watch = archive, watch

    def append(self, alerts: pa.Table, batch_id: int) -> None:
        """As the archive does."""
        with self._watch.on(ARCHIVE):
            self._archive.append(alerts, batch_id)

    def seen(self, alerts: pa.Table, before_batch: int) -> Seen:
        """As the archive tells."""
        with self._watch.on(ARCHIVE):
            return self._archive.seen(alerts, before_batch)


class TimedJudge(Judge):
    """A judge whose cuts, join and packets are timed."""

    def __init__(self, cuts: Cuts, packets: PacketSource, watch: Watch) -> None:
        super().__init__(cuts, watch.timed(PACKETS, packets))
        self._watch = watch

    def cut(self, alerts: pa.Table) -> CutResult:
        """As a judge does."""
        with self._watch.on(JOIN):
            return super().cut(alerts)

    def pairs(self, alerts: pa.Table, index: RegionIndex, found: Found | None = None) -> Pairs:
        """As a judge does."""
        with self._watch.on(JOIN):
            return super().pairs(alerts, index, found)


@dataclass(slots=True)
class Costs:
    """Seconds of the batches of a run, as the live matcher tells them."""

    watch: Watch = field(default_factory=Watch)
    clock: Clock = time.perf_counter
    _decoded: list[tuple[float, float]] = field(default_factory=list)
    _committed: list[tuple[float, int, Committed]] = field(default_factory=list)
    _inside: list[Counter[str]] = field(default_factory=list)

    def decoded(self, seconds: float) -> None:
        """A batch was decoded, and its step begins now."""
        self._decoded.append((self.clock(), seconds))

    def committed(self, done: Committed) -> None:
        """A step is visible now."""
        alerts = done.outcome.ledger.get("received", 0)
        self._committed.append((self.clock(), alerts, done))
        self._inside.append(self.watch.seconds.copy())

    def per_alert(self) -> dict[str, float]:
        """Seconds an alert of every step, after the first batch.

        What comes before the step is what passes from its begin to its commit, without the
        making of the step and its publishing. ``HAND_OVER`` holds reading and decoding, too.
        """
        later = self._committed[1:]
        alerts = sum(n for _, n, _ in later)
        if not alerts:
            return {}
        steps = sum(done.step_seconds for _, _, done in later)
        publish = sum(done.publish_seconds for _, _, done in later)
        begun = [at for at, _ in self._decoded[1 : len(self._committed)]]
        whole = sum(end - at for at, (end, _, _) in zip(begun, later, strict=True))
        inside = {n: self._inside[-1][n] - self._inside[0][n] for n in _IN_STEP}
        seconds = {
            HAND_OVER: sum(s for _, s in self._decoded[1 : len(self._committed)]),
            COLUMNS: max(0.0, whole - steps - publish),
            **inside,
            CANDIDATES: max(0.0, steps - sum(inside.values())),
            PUBLISH: publish,
        }
        return {name: value / alerts for name, value in seconds.items()}

    def statements_per_alert(self) -> float:
        """How many statements an alert made, a mean; after the first batch, too."""
        ledgers = [done.outcome.ledger for _, _, done in self._committed[1:]]
        alerts = sum(ledger.get("received", 0) for ledger in ledgers)
        return sum(ledger.get("statements", 0) for ledger in ledgers) / alerts if alerts else 0.0


def split(
    ours: Sequence[Mapping[str, float]], reading: Sequence[float], decoding: Sequence[float]
) -> dict[str, list[float]]:
    """Seconds an alert of each of `STEPS`, of each run; not above zero where noise is as large.

    Parameters
    ----------
    ours : sequence of mapping
        `Costs.per_alert` of the runs.
    reading, decoding : sequence of float
        Seconds an alert of jobs that only read, and that read and decode. Their medians are
        taken from what ours takes for the same and more.
    """
    read, both = statistics.median(reading), statistics.median(decoding)
    found: dict[str, list[float]] = {
        READ: list(reading),
        DECODE: [seconds - read for seconds in decoding],
        HAND_OVER: [costs[HAND_OVER] - both for costs in ours],
    }
    return found | {name: [costs[name] for costs in ours] for name in STEPS[3:]}


def measurable(line: Mapping[str, Any]) -> bool:
    """Whether what a line of a bench tells is more than noise; of all but steps it is."""
    least = float(line.get("seconds_min", line["seconds"])) / int(line["items"])
    return not str(line["case"]).startswith(COST_BY_STEP) or least > 1.001 * _LEAST_S
