"""Packets that come along with their rows, in a real Spark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import functions as sf

from broker import decode, topics
from broker.carried import Carried, looks_good
from broker.surveys import NATIVE_SCHEMAS, normalise
from crossmatch.cuts import Cuts, apply_cuts
from crossmatch.selections import BUILT_IN, selection_of
from tests.integration.streaming import ALERTS, CUTS, World, good, region

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_REQUIRED = {
    "ztf": {"objectId": "ZTF1", "candid": 1, "jd": 2461042.5, "fid": 1, "ra": 1.0, "dec": 1.0}
    | {"magpsf": 18.0, "sigmapsf": 0.1},
    "lsst": {"diaSourceId": 1, "diaObjectId": 2, "midpointMjdTai": 61042.0, "ra": 1.0, "dec": 1.0}
    | {"psfFluxErr": 10.0, "band": "r"},
}
_CHOICES: dict[str, dict[str, list[Any]]] = {
    "ztf": {
        "isdiffpos": ["t", "f", "1", "0", "T", "False", None, "?"],
        "rb": [0.0, 0.55, 0.9, None, -999.0],
        "drb": [0.0, 0.3, 0.9, None, -999.0],
        "nbad": [0, 1, None],
        "magdiff": [0.05, -0.2, 0.1, None, -999.0],
        "ssdistnr": [0.0, 5.0, 5.1, None, -999.0],
        "distpsnr1": [0.5, 2.0, 2.1, None, -999.0],
        "sgscore1": [0.76, 0.77, 0.1, None, -999.0],
    },
    "lsst": {
        "psfFlux": [100.0, -100.0, 0.0, None],
        "reliability": [0.0, 0.55, 0.9, None],
        "isNegative": [True, False, None],
        "ssObjectId": [0, 7, None],
    },
}


def natives(survey: str, rows: int) -> pa.Table:
    """Native rows with every kind of value that the cuts look at."""
    rng = np.random.default_rng(5)
    picked = [
        {name: options[rng.integers(len(options))] for name, options in _CHOICES[survey].items()}
        for _ in range(rows)
    ]
    return pa.Table.from_pylist(
        [_REQUIRED[survey] | one | {"topic": "t", "partition": 0, "offset": 0} for one in picked],
        schema=NATIVE_SCHEMAS[survey],
    )


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
@pytest.mark.parametrize(
    "cuts",
    [CUTS, replace(CUTS, max_mag_difference=0.1, require_positive=False)],
    ids=["default", "others"],
)
def test_in_spark_an_alert_looks_good_when_it_passes_the_cuts(
    spark: SparkSession, survey: str, cuts: Cuts
) -> None:
    native = natives(survey, 500)
    rows = spark.createDataFrame(native).withColumn("route", sf.lit(decode.JVM))
    struct = sf.struct(*rows.columns)

    looks = rows.select(looks_good(survey, struct, cuts).alias("good")).toArrow()["good"]

    keep = apply_cuts(normalise(survey, native).alerts, cuts).keep
    assert looks.to_pylist() == keep.tolist()
    assert 0 < keep.sum() < len(keep)


def test_in_spark_an_alert_looks_good_when_it_passes_a_selection(spark: SparkSession) -> None:
    mine = selection_of("mine", ["fink", {"cut": "star", "radius_arcsec": 1.5}], BUILT_IN)
    native = natives("ztf", 500)
    rows = spark.createDataFrame(native).withColumn("route", sf.lit(decode.JVM))
    struct = sf.struct(*rows.columns)
    alerts = normalise("ztf", native).alerts

    def looks(cuts: Cuts) -> list[bool]:
        good = looks_good("ztf", struct, cuts).alias("good")
        found: list[bool] = rows.select(good).toArrow()["good"].to_pylist()
        return found

    cuts = replace(CUTS, selection=mine)
    keep = apply_cuts(alerts, cuts).keep
    assert looks(cuts) == keep.tolist()
    assert 0 < keep.sum() < len(keep)
    # What has no twin in Spark is not cut there.
    faint = selection_of("faint", ["mine", {"cut": "magnitude", "faintest": 1.0}], {"mine": mine})
    assert looks(replace(CUTS, selection=faint)) == keep.tolist()


def test_what_the_jvm_does_not_read_looks_not_good(spark: SparkSession) -> None:
    rows = spark.createDataFrame(natives("ztf", 3)).withColumn("route", sf.lit(decode.PYTHON))
    struct = sf.struct(*rows.columns)
    cuts = replace(CUTS, enabled=False)

    looks = rows.select(looks_good("ztf", struct, cuts).alias("good")).toArrow()["good"]

    assert looks.to_pylist() == [False] * 3


def test_the_packet_of_a_candidate_is_not_fetched_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path)
    world.take((ALERTS, good()))  # Its schema is learned from packets that Python reads.
    world.take((ALERTS, good()))
    asked: list[Any] = []
    world.messages.fetch = lambda addresses: asked.extend(addresses) or {}  # type: ignore

    outcome = world.take((topics.REGION_LOG, region()), (ALERTS, good(candid=7)))

    (statement,) = [s for s in outcome.statements if s["alert_id"] == "7"]
    assert len(statement["alert_sha256"]) == 64
    assert not asked


def test_columns_are_made_once_for_a_number_of_rows(spark: SparkSession) -> None:
    packets = Carried(CUTS, lambda _: {})

    first = packets.columns(["ztf"])
    assert packets.columns(["ztf"]) is first

    packets.rows_of_task //= 2
    assert packets.columns(["ztf"]) is not first
