"""Rows of ``mmgateway bench late-region``: searches checked and timed, and the live path beside."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from broker.archive import AlertArchive
from broker.commit import Committer, Turnstile
from broker.embedded.jars import cache_folder
from broker.engine import Batch, Engine, Outcome
from broker.search import Commit, Searcher
from broker.writer import Writer
from crossmatch.cuts import Cuts
from crossmatch.errors import ServiceError
from gateway import services
from gateway.bench import sky30
from gateway.bench.late_region import (
    FIRST_BATCH,
    Answer,
    Late,
    answered,
    late_map,
    late_regions,
    new_engine,
    truth,
)
from gateway.bench.measure import OURS, Row, row_of
from gateway.config import load

NewCommit: TypeAlias = Callable[[Engine], Commit]
"""From an engine to what makes its steps and commits them."""
BENCH = "late-region"
PACKAGES = ("mmgateway", "deltalake", "pyarrow", "numpy", "healpy", "confluent-kafka")
BATCH = 50
"""Alerts of a live batch."""
INTERVAL_S = 0.2
_SETTINGS = "[paths]\nstate = {state}\n[kafka]\nport = 0\ncontroller_port = 0\n"
_SETTLE = 20

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured; ``batches`` of the live path without a search, and at least with."""

    nights: int = 30
    alerts: int = 1_000_000
    runs: int = 3
    batches: int = 150
    seed: int = 1


def archive(sizes: Sizes, folder: Path | None, advance: Callable[[int, int], None]) -> AlertArchive:
    """The archive to search in; made where it is not there, in the user's cache by default."""
    folder = folder or cache_folder(os.environ) / "bench"
    return sky30.stored(folder, sizes.nights, sizes.alerts, sizes.seed, advance)


def cases(
    sizes: Sizes, archive: AlertArchive, *, live: bool, kafka: bool, tell: Tell = lambda _: None
) -> list[Row]:
    """Rows of the searches, and of the live path without and with a search beside it."""
    cuts = load(None, environ={}).cuts
    with _commits(kafka, tell) as new_commit:
        rows = [
            _searched(late, archive, cuts, sizes, new_commit, kafka, tell)
            for late in late_regions(sizes.nights)
        ]
        if live:
            rows += _live(archive, cuts, sizes, new_commit, tell)
    return rows


@contextmanager
def _commits(kafka: bool, tell: Tell) -> Iterator[NewCommit]:
    """Makers of commits: to a Kafka of the bench's own, or to nowhere."""
    if not kafka:
        yield _to_nowhere
        return
    with tempfile.TemporaryDirectory(prefix="mmgateway-bench-") as folder:
        path = Path(folder) / "mmgateway.toml"
        path.write_text(_SETTINGS.format(state=json.dumps(f"{folder}/data")), "utf-8")
        config = load(path, environ={})
        tell("starting Kafka")
        try:
            services.up(config, ["kafka"], config_path=path, timeout=120)
            bootstrap = services.find_bootstrap(config)
            services.ensure_all_topics(config, bootstrap)
            writer = Writer(bootstrap, config.kafka.properties)
            writer.start()
            yield lambda engine: Committer(engine, writer, None).commit
        finally:
            services.down(config)


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


def _live(
    archive: AlertArchive, cuts: Cuts, sizes: Sizes, new_commit: NewCommit, tell: Tell
) -> list[Row]:
    """Latency of batches that come every fifth of a second, in a copy of the archive."""
    copy = archive.path.with_name(f"{archive.path.name}-live-{os.getpid()}")
    # Links: data files are never changed, only the log of the copy is to grow.
    shutil.copytree(archive.path, copy, copy_function=os.link)
    try:
        tell("the live path alone, then beside searches")
        alone, beside = _latencies(AlertArchive(copy), cuts, sizes, new_commit)
    finally:
        shutil.rmtree(copy)
    p50, p99 = np.percentile(alone, [50, 99])
    rows = []
    for name, taken in (("live, alone", alone), ("live, beside a search", beside)):
        mine50, mine99 = np.percentile(taken, [50, 99])
        facts: dict[str, float | int | str] = {
            "batches": len(taken),
            "p50_s": round(float(mine50), 4),
            "p99_s": round(float(mine99), 4),
            "max_s": round(max(taken), 4),
            "p50_ratio": round(float(mine50 / p50), 2),
            "p99_ratio": round(float(mine99 / p99), 2),
        }
        compared = f"{BATCH} alerts every {INTERVAL_S} s, from when they are due to their commit"
        rows.append(
            row_of(BENCH, name, OURS, BATCH, [float(mine50)], float(p50), equal=None,
                   compared=compared, facts=facts)
        )  # fmt: skip
    return rows


def _latencies(
    archive: AlertArchive, cuts: Cuts, sizes: Sizes, new_commit: NewCommit
) -> tuple[list[float], list[float]]:
    """Seconds from when a batch is due to its commit: without a search, and while one runs."""
    engine = new_engine(archive, cuts)
    commit = new_commit(engine)
    failures: list[Exception] = []
    searcher = Searcher(engine, archive, commit, failures.append)
    searcher.start()
    batches = _batches(sizes)
    began, done = time.monotonic(), 0

    def one(*records: Late) -> float:
        nonlocal done
        due = began + done * INTERVAL_S
        time.sleep(max(0.0, due - time.monotonic()))
        batch = Batch(FIRST_BATCH + done, next(batches), [late.record for late in records])
        commit(lambda: engine.step(batch))
        done += 1
        return time.monotonic() - due

    one()  # The numbers of all archived alerts are read with the first alert, once a start.
    began, done = time.monotonic() - INTERVAL_S, 1
    for _ in range(_SETTLE):
        one()
    alone = [one() for _ in range(sizes.batches)]
    beside: list[float] = []
    number = 0
    while len(beside) < sizes.batches:
        number += 1
        beside.append(one(late_map(sizes.nights, number)))
        searcher.wake()
        while engine.searches and not failures:
            beside.append(one())
        if failures:
            raise ServiceError(f"the search failed: {failures[0]}") from failures[0]
    searcher.stop()
    return alone, beside


def _batches(sizes: Sizes) -> Iterator[pa.Table]:
    """Alerts of the nights after those that are archived."""
    size = min(max(sizes.alerts, 1000), 100_000)
    sky_of = sky30.sources(size, sizes.seed)
    number = sizes.nights
    while True:
        rows = sky30.night(sky_of, number, size, sizes.seed)
        for at in range(0, size - BATCH + 1, BATCH):
            yield rows.slice(at, BATCH)
        number += 1
