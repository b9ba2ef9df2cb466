"""``mmgateway bench pipeline``: alerts a second from Kafka to candidates, beside Spark alone.

A Kafka and a Spark of the bench's own; all jobs read the same topic from its beginning, with a new
checkpoint each time, and take turns. Ours is the live matcher with its archive and its
transactions. Counted is what comes after the first batch, in which queries start.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from broker.embedded.java import find_java
from broker.embedded.kafka import EmbeddedKafka
from gateway.bench import pipeline_costs, sky30
from gateway.bench.measure import OURS, Row, row_of
from gateway.bench.own import own_spark
from gateway.bench.pipeline_costs import BARE, COUNTING, DECODING
from gateway.bench.pipeline_jobs import Jobs, Run, in_turns
from gateway.bench.pipeline_plain import of, one_after_another
from gateway.bench.pipeline_world import (
    CATALOGS,
    NIGHT,
    Sizes,
    Tell,
    lookup_of,
    named,
    regions,
    send,
)
from gateway.config import load

__all__ = ["BENCH", "PACKAGES", "Sizes", "cases"]
BENCH = "pipeline"
PACKAGES = ("mmgateway", "pyspark", "pyarrow", "deltalake", "confluent-kafka", "fastavro")


def cases(work: Path, sizes: Sizes, tell: Tell = lambda _: None) -> list[Row]:
    """Rows of the matcher and of Spark jobs on the same topic.

    Parameters
    ----------
    work : Path
        For Kafka's data, checkpoints and archives: twice the size of all packets.

    Raises
    ------
    ServiceError
        If Kafka or Spark does not start, or a query stops.
    """
    java = find_java(os.environ)
    tell(f"making {sizes.packets} packets and {sizes.regions} regions")
    sky_of = sky30.sources(sizes.packets, sizes.seed)
    alerts = named(sky30.night(sky_of, NIGHT, sizes.packets, sizes.seed), sizes.survey)
    late = regions(sizes.regions, sizes.seed)
    cuts = load(None, environ={}).cuts
    if sizes.sources:
        tell(f"making a catalogue of {sizes.sources:,} galaxies and four smaller ones")
    lookup = lookup_of(work, sizes)
    with EmbeddedKafka(work / "kafka", 0, 0, java) as kafka:
        mean = send(kafka.bootstrap, alerts, sizes, cuts)
        spark = own_spark(java, work)
        jobs = Jobs(spark, kafka.bootstrap, work, sizes, late, cuts, lookup)
        try:
            runs = _taken(jobs, sizes, tell)
        finally:
            spark.stop()
    tell(f"one region after another, {sizes.plain} packets")
    looked, expected, seconds = one_after_another(alerts, late, cuts, sizes)
    equal = bool(expected) and all(of(run.matches, looked) == expected for run in runs[OURS])
    return [
        *rates(runs, mean, sizes, equal),
        _plain(seconds, runs, mean, sizes, equal),
        *steps(runs, mean, sizes),
    ]


def _taken(jobs: Jobs, sizes: Sizes, tell: Tell) -> dict[str, list[Run]]:
    subjects = {OURS: jobs.matching, DECODING: jobs.decoding, COUNTING: jobs.counting}
    if sizes.sources:
        subjects[BARE] = jobs.bare
    return in_turns(subjects, sizes.runs, tell)


def rates(runs: Mapping[str, Sequence[Run]], mean: float, sizes: Sizes, equal: bool) -> list[Row]:
    """Rows of all jobs.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        By subject; those of the same place took turns.
    mean : float
        Bytes of a packet.
    equal : bool
        Whether ours found what plain looks at single regions find.
    """
    per_s = {name: [run.per_s for run in mine] for name, mine in runs.items()}
    made = [
        _row(name, per_s[name], per_s[OURS], mean, sizes, equal if name == OURS else None)
        for name in runs
    ]
    stated = round(statistics.median(run.statements for run in runs[OURS]), 3)
    return [
        replace(row, facts={**row.facts, "statements_per_alert": stated})
        if row.subject == OURS and stated
        else row
        for row in made
    ]


def steps(runs: Mapping[str, Sequence[Run]], mean: float, sizes: Sizes) -> list[Row]:
    """Rows of what the steps of ours cost; none if there is no batch after the first."""
    costs = [run.costs for run in runs[OURS] if run.costs]
    if not costs:
        return []
    reading, decoding = ([1 / run.per_s for run in runs[name]] for name in (COUNTING, DECODING))
    return _split(pipeline_costs.split(costs, reading, decoding), mean, sizes)


def _split(split: Mapping[str, Sequence[float]], mean: float, sizes: Sizes) -> list[Row]:
    # A spread that includes nothing at all tells no cost.
    told = {name: taken for name, taken in split.items() if min(taken) > 0}
    lost = [
        f". {name[:1].upper()}{name[1:]}: not measurable,"
        f" {min(taken) * 1e6:.2g} to {max(taken) * 1e6:.2g} µs"
        for name, taken in split.items()
        if name not in told
    ]
    whole = sum(statistics.median(seconds) for seconds in told.values())
    return [
        row_of(
            BENCH,
            f"{pipeline_costs.COST_BY_STEP}{_case(mean, sizes)}",
            name,
            sizes.packets,
            [seconds * sizes.packets for seconds in taken],
            whole * sizes.packets,
            equal=None,
            compared=(
                "what each step takes, the ratio is its part of all of them; the Java machine reads"
                " a batch while Python works on the one before, so that an alert does not wait for"
                " the sum. Reading and decoding as the jobs beside took for them; hand-over is what"
                " the matcher takes more for it, also since both want the processors"
                + "".join(lost)
            ),
        )
        for name, taken in told.items()
    ]


def _case(mean: float, sizes: Sizes) -> str:
    return f"{mean / 1e3:.0f} kB, {sizes.regions:,} regions"


def _plain(
    seconds: float, runs: Mapping[str, Sequence[Run]], mean: float, sizes: Sizes, equal: bool
) -> Row:
    return row_of(
        BENCH,
        _case(mean, sizes),
        "fastavro, one region after another",
        sizes.plain,
        [seconds],
        sizes.plain * statistics.median(1 / run.per_s for run in runs[OURS]),
        equal=equal,
        compared="whole records, cuts, then every region in turn, without Spark and Kafka",
    )


def _row(
    name: str,
    rates: Sequence[float],
    ours: Sequence[float],
    mean: float,
    sizes: Sizes,
    equal: bool | None,
) -> Row:
    parts = sorted(mine / rate for rate, mine in zip(rates, ours, strict=True))
    return row_of(
        BENCH,
        _case(mean, sizes),
        name,
        sizes.packets,
        [sizes.packets / rate for rate in rates],
        sizes.packets * statistics.median(1 / rate for rate in ours),
        equal=equal,
        compared=(
            f"{sizes.packets:,} alerts of {mean / 1e3:.0f} kB ({sizes.survey.upper()}),"
            f" {sizes.batch:,} a batch, at the rate after the first; ours with archive, cuts,"
            f" local catalogues of {sizes.sources:,} galaxies and {len(CATALOGS) - 1} more kinds"
            " with a tenth each, candidates and transactions, but without keeping whole packets."
            " Equal: events and objects, to whole records tried with one region after another"
        ),
        facts={
            "alerts_per_s": round(statistics.median(rates)),
            "MB_per_s": round(statistics.median(rates) * mean / 1e6, 1),
            "our_part_of_its_rate": round(statistics.median(parts), 3),
            "least": round(parts[0], 3),
            "most": round(parts[-1], 3),
        },
    )
