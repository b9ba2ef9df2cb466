"""Packets that come along with their slim rows, so that they need not be read a second time.

Of a batch the JVM hands over whole those packets that look as if they would pass the quality
cuts, as far as memory allows; all others are fetched from Kafka again when they matched. What
comes along decides about cost alone: the rule for what is selected stands in `crossmatch.cuts`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as sf

from broker import decode
from broker.judge import Address
from broker.surveys import FALSE_TEXTS, SENTINEL_BELOW
from crossmatch.cuts import Cuts

CARRIED_BYTES = 128 << 20
"""What is to come along with a batch, if packets go on as they were."""

MOST_BYTES = 2 << 30
"""What would come along if all at once every packet passed the cuts."""

FIRST_ROWS = 1024
"""Rows of a task whose packets may come along, before anything is known of them."""


class Carried:
    """Packets that came along with the batch that is worked on, and those that lie in Kafka.

    Parameters
    ----------
    cuts : Cuts
    fetch : callable
        From addresses to the packets that can still be had.
    """

    def __init__(
        self, cuts: Cuts, fetch: Callable[[Sequence[Address]], Mapping[Address, bytes]]
    ) -> None:
        self._cuts = cuts
        self._fetch = fetch
        self._held: Mapping[Address, pa.Scalar] = {}
        self.rows_of_task = FIRST_ROWS
        """How many of the first rows of a task of Spark's may bring their packets."""

    def columns(self, surveys: Sequence[str]) -> dict[str, Column]:
        """Columns ``task``, ``size``, ``good`` and ``packet`` of rows with structs and ``value``.

        ``size`` is in bytes; ``good`` tells whether an alert looks as if it passed the cuts,
        and is false for what is none; ``packet`` is null where it does not come along.
        """
        good = functools.reduce(
            operator.or_, (looks_good(survey, sf.col(survey), self._cuts) for survey in surveys)
        )
        # Spark numbers the rows of a task from 0 on in the lower 33 bits.
        row = sf.monotonically_increasing_id().bitwiseAND(sf.lit((1 << 33) - 1))
        comes = good & (row < self.rows_of_task)
        return {
            "task": sf.spark_partition_id(),
            "size": sf.octet_length("value"),
            "good": good,
            "packet": sf.when(comes, sf.col("value")),
        }

    def learn(self, rows: pa.Table, most: int) -> None:
        """See from a batch how much may come along with one of ``most`` rows.

        Parameters
        ----------
        rows : (n,) table
            With the columns of `columns`.
        most : int
            Alerts of a full batch.
        """
        size = pc.sum(rows["size"]).as_py()
        if not size:
            return
        good = pc.sum(pc.if_else(rows["good"], rows["size"], 0)).as_py()
        allowed = rows.num_rows * min(CARRIED_BYTES / max(good, 1), MOST_BYTES / size)
        tasks = pc.count_distinct(rows["task"]).as_py()
        # Each other number is other code for Spark to compile: powers of two change seldom.
        all_rows = 1 << math.ceil(math.log2(max(1.0, most / tasks)))
        self.rows_of_task = min(all_rows, 1 << math.floor(math.log2(max(1.0, allowed / tasks))))

    def hold(self, rows: pa.Table) -> None:
        """Take the packets of the batch that a step begins with, in place of those before."""
        mine = rows.filter(pc.is_valid(rows["packet"]))
        places = (mine[name].to_pylist() for name in ("topic", "partition", "offset"))
        self._held = dict(zip(zip(*places, strict=True), mine["packet"], strict=True))

    def release(self) -> None:
        """Let the packets go."""
        self._held = {}

    def fetch(self, addresses: Sequence[Address]) -> dict[Address, bytes]:
        """Packets at addresses: those that came along, and from Kafka the others it still has."""
        held = self._held
        found = {a: held[a].as_py() for a in addresses if a in held}
        missing = [a for a in addresses if a not in found]
        return found | dict(self._fetch(missing)) if missing else found


def looks_good(survey: str, native: Column, cuts: Cuts) -> Column:
    """Whether an alert looks as if it passed the cuts, in Spark; a missing value passes.

    Parameters
    ----------
    survey : {"ztf", "lsst"}
    native : Column
        Struct of the survey's native leaves and ``route``.
    cuts : Cuts

    Returns
    -------
    Column
        Boolean, false where the JVM did not read the packet.
    """
    tests = [native["route"] == decode.JVM]
    if cuts.enabled:
        failures = _ztf_failures if survey == "ztf" else _lsst_failures
        tests += [~sf.coalesce(test, sf.lit(False)) for test in failures(native, cuts)]
    return sf.coalesce(functools.reduce(operator.and_, tests), sf.lit(False))


def _ztf_failures(native: Column, cuts: Cuts) -> list[Column]:
    def number(name: str) -> Column:
        return sf.when(native[name] > SENTINEL_BELOW, native[name])

    score, deep = number("rb"), number("drb")
    reached = sf.greatest(score >= cuts.min_real_bogus, deep >= cuts.min_deep_real_bogus)
    found = [
        ~reached,
        native["nbad"] > cuts.max_bad_pixels,
        number("ssdistnr") <= cuts.moving_radius_arcsec,
        (number("distpsnr1") <= cuts.star_radius_arcsec)
        & (number("sgscore1") > cuts.min_star_score),
    ]
    if cuts.require_positive:
        found.append(sf.lower(native["isdiffpos"]).isin(FALSE_TEXTS.to_pylist()))
    if cuts.max_mag_difference is not None:
        found.append(sf.abs(number("magdiff")) >= cuts.max_mag_difference)
    return found


def _lsst_failures(native: Column, cuts: Cuts) -> list[Column]:
    found = [native["reliability"] < cuts.min_real_bogus, native["ssObjectId"] != 0]
    if cuts.require_positive:
        found.append(sf.coalesce(native["isNegative"], native["psfFlux"] <= 0))
    return found
