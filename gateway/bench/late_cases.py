"""Rows of ``mmgateway bench late-region``: searches checked and timed, and the live path beside."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from broker.archive import AlertArchive
from broker.commit import Committer, Turnstile
from broker.embedded.jars import cache_folder
from broker.engine import Engine, Outcome
from broker.search import Commit
from broker.writer import Writer
from crossmatch.cuts import Cuts
from gateway import services
from gateway.bench import latency, own, sky30
from gateway.bench.late_region import (
    Answer,
    Late,
    answered,
    late_regions,
    truth,
)
from gateway.bench.measure import OURS, Row, row_of
from gateway.config import load

NewCommit: TypeAlias = Callable[[Engine], Commit]
"""From an engine to what makes its steps and commits them."""
BENCH = "late-region"
PACKAGES = ("mmgateway", "deltalake", "pyarrow", "numpy", "healpy", "confluent-kafka")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    nights: int = 30
    alerts: int = 1_000_000
    runs: int = 3
    seed: int = 1


def archive(sizes: Sizes, folder: Path | None, advance: Callable[[int, int], None]) -> AlertArchive:
    """The archive to search in; made where it is not there, in the user's cache by default."""
    folder = folder or cache_folder(os.environ) / "bench"
    return sky30.stored(folder, sizes.nights, sizes.alerts, sizes.seed, advance)


def cases(
    sizes: Sizes, archive: AlertArchive, *, live: bool, kafka: bool, tell: Tell = lambda _: None
) -> list[Row]:
    """Rows of the searches, and of the live path without and with searches beside it."""
    cuts = load(None, environ={}).cuts
    with _commits(kafka, tell) as new_commit:
        rows = [
            _searched(late, archive, cuts, sizes, new_commit, kafka, tell)
            for late in late_regions(sizes.nights)
        ]
    if live:
        rows += _live(archive, sizes, tell)
    return rows


def _live(archive: AlertArchive, sizes: Sizes, tell: Tell) -> list[Row]:
    """Latency of live alerts through the whole gateway, alone and beside searches of the map."""
    asked = latency.Sizes(searches=sizes.runs, nights=sizes.nights, seed=sizes.seed)
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
        found = latency.cases(Path(folder), asked, archive, tell)
    return [replace(row, bench=BENCH, case=f"live alerts, {row.case}") for row in found]


@contextmanager
def _commits(kafka: bool, tell: Tell) -> Iterator[NewCommit]:
    """Makers of commits: to a Kafka of the bench's own, or to nowhere."""
    if not kafka:
        yield _to_nowhere
        return
    tell("starting Kafka")
    with (
        tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder,
        own.running(Path(folder), ["kafka"]) as gateway,
    ):
        services.ensure_all_topics(gateway.config, gateway.bootstrap)
        writer = Writer(gateway.bootstrap, gateway.config.kafka.properties)
        writer.start()
        yield lambda engine: Committer(engine, writer, None).commit


def _to_nowhere(_: Engine) -> Commit:
    lock = Turnstile()

    def commit(take: Callable[[], Outcome | None]) -> Outcome | None:
        with lock:
            return take()

    return commit


def _searched(
    late: Late,
    archive: AlertArchive,
    cuts: Cuts,
    sizes: Sizes,
    new_commit: NewCommit,
    kafka: bool,
    tell: Tell,
) -> Row:
    tell(f"{late.name}: a plain look at every row")
    expected, looked, inside = truth(late, archive, cuts)
    answers: list[Answer] = []
    for number in range(sizes.runs):
        tell(f"{late.name}: search {number + 1} of {sizes.runs}")
        answers.append(answered(late, archive, cuts, new_commit))
    seconds = [answer.seconds for answer in answers]
    middle = sorted(answers, key=lambda a: a.seconds)[len(answers) // 2]
    where = "read_committed on the topic" if kafka else "stated, not sent"
    return row_of(
        BENCH,
        late.name,
        OURS,
        looked,
        seconds,
        statistics.median(seconds),
        equal=all(answer.found == expected for answer in answers),
        compared=(
            f"{late.region.area90_deg2:,.2f} deg² (90 %) against {sizes.nights} nights of"
            f" {sizes.alerts:,} alerts, from the region's record to its last candidate, {where};"
            " equal: objects and alerts, to a plain look at every row"
        ),
        facts={
            "in_region_and_window": inside,
            "alerts_matched": len(expected),
            "candidates": middle.candidates,
            "statements": middle.statements,
            "first_candidate_s": round(middle.first_seconds, 3),
            **{name: round(value, 3) for name, value in middle.parts.items()},
            "bar_s": late.bar_s,
            "within_bar": "yes" if statistics.median(seconds) < late.bar_s else "no",
        },
    )
