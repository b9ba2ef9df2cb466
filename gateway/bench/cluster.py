"""``mmgateway bench cluster``: matching in the driver and in Spark's workers.

Once with threads of one Java machine and once with two executors, each a process of its own to
which everything goes by sockets, as on a cluster; both on one machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.find_spark_home import _find_spark_home

from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.kafka import EmbeddedKafka
from broker.embedded.spark import spark_session
from gateway.bench import sky30
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.pipeline_costs import HAND_OVER
from gateway.bench.pipeline_jobs import Jobs, Run, in_turns
from gateway.bench.pipeline_world import (
    NIGHT,
    Matches,
    Sizes,
    Tell,
    lookup_of,
    named,
    regions,
    send,
)
from gateway.config import load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BENCH = "cluster"
PACKAGES = ("mmgateway", "pyspark", "pyarrow", "numpy")
MASTERS = ("local[2]", "local-cluster[2,1,1024]")
SIZES = Sizes(packets=100_000, stamp_bytes=0, batch=20_000, runs=3, survey="lsst", sources=0)
IN_WORKERS = f"{OURS}, matching in workers"


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
    runs: dict[str, dict[str, list[Run]]] = {}
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
                runs[master] = _taken(jobs, master, sizes, tell)
            finally:
                left = executors_folder(spark)
                spark.stop()
                shutil.rmtree(left, ignore_errors=True)
    expected = runs[masters[0]][OURS][0].matches
    return [
        row
        for master, mine in runs.items()
        for row in rows(f"{mean / 1e3:.0f} kB, {master}", mine, sizes, expected)
    ]


def executors_folder(spark: SparkSession) -> Path:
    """Where executors of a ``local-cluster`` work; Spark leaves it behind."""
    home = _find_spark_home()  # type: ignore[no-untyped-call]
    return Path(home) / "work" / spark.sparkContext.applicationId


def _taken(jobs: Jobs, master: str, sizes: Sizes, tell: Tell) -> dict[str, list[Run]]:
    subjects: dict[str, Callable[[], Run]] = {
        OURS: jobs.matching,
        IN_WORKERS: partial(jobs.matching, in_workers=True),
    }
    return in_turns(subjects, sizes.runs, tell, f", {master}")


def rows(
    case: str, runs: Mapping[str, Sequence[Run]], sizes: Sizes, expected: Matches
) -> list[Row]:
    """Rows of one master, by who matches; equal where each run found what is expected."""
    ours = sizes.packets * statistics.median(1 / run.per_s for run in runs[OURS])
    return [
        row_of(
            BENCH,
            case,
            name,
            sizes.packets,
            [sizes.packets / run.per_s for run in mine],
            ours,
            equal=bool(expected) and all(run.matches == expected for run in mine),
            compared=(
                f"{sizes.packets:,} alerts, {sizes.regions:,} regions, {sizes.batch:,} a batch, at"
                " the rate after the first batch, with archive, cuts, candidates and transactions;"
                " all of it, Kafka included, on one machine. Equal: events and objects, to those"
                " of the first run"
            ),
            facts={
                "alerts_per_s": round(statistics.median(run.per_s for run in mine)),
                "driver_us_per_alert": round(1e6 * statistics.median(map(_in_driver, mine)), 1),
            },
        )
        for name, mine in runs.items()
    ]


def _in_driver(run: Run) -> float:
    """Seconds that the driver's Python takes for an alert, beside receiving it."""
    return sum(seconds for step, seconds in run.costs.items() if step != HAND_OVER)
