"""``mmgateway bench cluster``: matching in the driver and in Spark's workers, on both masters.

One machine is both times below it: threads of one Java machine, or two executors, each a process
of its own with what goes between them by sockets, as on a cluster.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.kafka import EmbeddedKafka
from broker.embedded.spark import spark_session
from gateway.bench import sky30
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.pipeline_jobs import Jobs, Run
from gateway.bench.pipeline_world import NIGHT, Sizes, Tell, lookup_of, named, regions, send
from gateway.config import load

BENCH = "cluster"
PACKAGES = ("mmgateway", "pyspark", "pyarrow", "numpy")
MASTERS = ("local[2]", "local-cluster[2,1,1024]")
SIZES = Sizes(packets=100_000, stamp_bytes=0, batch=20_000, runs=3, survey="lsst", sources=0)
DRIVER, WORKERS = "driver", "workers"


def cases(
    work: Path, sizes: Sizes = SIZES, masters: Sequence[str] = MASTERS, tell: Tell = lambda _: None
) -> list[Row]:
    """Rows of the live matcher for each master, matching in the driver and in the workers.

    Parameters
    ----------
    work : Path
        For Kafka's data, checkpoints and archives: twice the size of all packets.
    sizes : Sizes
    masters : sequence of str
        Of Spark, one after another; with each the two places take turns.

    Raises
    ------
    ServiceError
        If Kafka or Spark does not start, or a query stops.
    """
    java = find_java(os.environ)
    tell(f"making {sizes.packets} packets and {sizes.regions} regions")
    sky_of = sky30.sources(sizes.packets, sizes.seed)
    alerts = named(sky30.night(sky_of, NIGHT, sizes.packets, sizes.seed), sizes.survey)
    late, cuts = regions(sizes.regions, sizes.seed), load(None, environ={}).cuts
    runs: dict[str, list[Run]] = {}
    with EmbeddedKafka(work / "kafka", 0, 0, java) as kafka:
        mean = send(kafka.bootstrap, alerts, sizes, cuts)
        for number, master in enumerate(masters):
            folder = work / f"master-{number}"
            folder.mkdir()
            spark = spark_session(
                java=java, jars=fetch_jars(SPARK), local_dir=folder / "spark", master=master
            )
            jobs = Jobs(spark, kafka.bootstrap, folder, sizes, late, cuts, lookup_of(folder, sizes))
            try:
                runs |= _taken(jobs, master, sizes, tell)
            finally:
                spark.stop()
    return _rows(runs, mean, sizes)


def _taken(jobs: Jobs, master: str, sizes: Sizes, tell: Tell) -> dict[str, list[Run]]:
    """Runs in both places, which take turns; one of each is made before and not counted."""
    subjects = {
        f"{OURS}, {where}, {master}": partial(jobs.matching, in_workers=where == WORKERS)
        for where in (DRIVER, WORKERS)
    }
    runs: dict[str, list[Run]] = {name: [] for name in subjects}
    for number in range(sizes.runs + 1):
        for name, run in subjects.items():
            tell(f"run {number} of {sizes.runs}: {name}")
            done = run()
            if number:
                runs[name].append(done)
    return runs


def _rows(runs: Mapping[str, Sequence[Run]], mean: float, sizes: Sizes) -> list[Row]:
    first = next(iter(runs.values()))
    ours = sizes.packets * statistics.median(1 / run.per_s for run in first)
    return [
        row_of(
            BENCH,
            f"{mean / 1e3:.0f} kB, {sizes.regions:,} regions",
            name,
            sizes.packets,
            [sizes.packets / run.per_s for run in mine],
            ours,
            equal=bool(first[0].matches) and all(r.matches == first[0].matches for r in mine),
            compared=(
                f"{sizes.packets:,} alerts, {sizes.batch:,} a batch, at the rate after the first"
                " batch, with archive, cuts, candidates and transactions; all of it, Kafka"
                " included, on one machine. Equal: events and objects"
            ),
            facts={"alerts_per_s": round(statistics.median(run.per_s for run in mine))},
        )
        for name, mine in runs.items()
    ]
