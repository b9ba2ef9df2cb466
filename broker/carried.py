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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as sf

from broker import curves, decode
from broker.containers import Record
from broker.judge import Address
from broker.sources import HISTORY
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

    Of those that came along the JVM has read light curves, too.

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
        self._rows: Mapping[Address, int] = {}
        self._packets: Any = ()
        self._histories: Sequence[pa.StructArray] = ()
        self._columns: tuple[Any, dict[str, Column]] = (None, {})
        self.rows_of_task = FIRST_ROWS
        """How many of the first rows of a task of Spark's may bring their packets."""

    def columns(self, surveys: Sequence[str]) -> dict[str, Column]:
        """Columns ``task``, ``size``, ``good`` and ``packet`` of rows with structs and ``value``.

        ``size`` is in bytes; ``good`` tells whether an alert looks as if it passed the cuts,
        and is false for what is none; ``packet`` is null where it does not come along. They
        are made once for a number of rows: making them takes 60 ms.
        """
        of = (tuple(surveys), self.rows_of_task)
        if self._columns[0] != of:
            self._columns = of, self._made(surveys)
        return self._columns[1]

    def _made(self, surveys: Sequence[str]) -> dict[str, Column]:
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

    def hold(self, rows: pa.Table) -> pa.Table:
        """Take the packets of the batch that a step begins with, in place of those before.

        Returns
        -------
        table
            The batch without packets and light curves.
        """
        with_packet = pc.indices_nonzero(pc.is_valid(rows["packet"]))
        mine = rows.select(["topic", "partition", "offset"]).take(with_packet)
        addresses = zip(*(column.to_pylist() for column in mine.columns), strict=True)
        self._rows = dict(zip(addresses, with_packet.to_pylist(), strict=True))
        self._packets = rows["packet"]
        names = [name for name in HISTORY.values() if name in rows.column_names]
        self._histories = [rows[name].combine_chunks() for name in names]
        return rows.drop_columns(["packet", *names])

    def release(self) -> None:
        """Let the packets go."""
        self._rows, self._packets, self._histories = {}, (), ()

    def fetch(self, addresses: Sequence[Address]) -> dict[Address, bytes]:
        """Packets at addresses: those that came along, and from Kafka the others it still has."""
        rows = self._rows
        found = {a: self._packets[rows[a]].as_py() for a in addresses if a in rows}
        missing = [a for a in addresses if a not in found]
        return found | dict(self._fetch(missing)) if missing else found

    def records(self, addresses: Sequence[Address]) -> dict[Address, Record]:
        """What `broker.history` looks at, of packets that came along and the JVM read wholly."""
        found: dict[Address, Record] = {}
        mine = [a for a in addresses if a in self._rows]
        rows = pa.array([self._rows[a] for a in mine], pa.int64())
        for column in self._histories:
            curve = column.take(rows)
            there = curve.is_valid()
            known = (a for a, is_there in zip(mine, there.to_pylist(), strict=True) if is_there)
            found |= zip(known, curves.records(curve.filter(there)), strict=True)
        return found


def looks_good(survey: str, native: Column, cuts: Cuts) -> Column:
    """Whether an alert looks as if it passed the cuts, in Spark.

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
        # A cut that has no twin here removes nothing: more packets come along than are wanted.
        for step in cuts.made.steps:
            test = None if step.negated else failures(native, step.cut, dict(step.parameters))
            if test is not None:
                tests.append(~sf.coalesce(test, sf.lit(step.missing == "fail")))
    return sf.coalesce(functools.reduce(operator.and_, tests), sf.lit(False))


def _ztf_failures(native: Column, cut: str, given: Mapping[str, Any]) -> Column | None:
    """Whether an alert fails a cut; null where a value is missing, None if it has no twin."""

    def number(name: str) -> Column:
        return sf.when(native[name] > SENTINEL_BELOW, native[name])

    fails: Column | None = None
    if cut == "real_bogus":
        minima = (("rb", given["min_real_bogus"]), ("drb", given["min_deep_real_bogus"]))
        reached = [number(name) >= least for name, least in minima if least is not None]
        # The greatest of one alone is refused; of two, one that is null is left out.
        fails = ~sf.greatest(*reached, reached[-1]) if reached else None
    elif cut == "star":
        near = number("distpsnr1") <= given["radius_arcsec"]
        fails = near & (number("sgscore1") > given["min_star_score"])
    elif cut == "positive":
        fails = sf.lower(native["isdiffpos"]).isin(FALSE_TEXTS.to_pylist())
    elif cut == "bad_pixels":
        fails = native["nbad"] > given["max_bad_pixels"]
    elif cut == "moving":
        fails = number("ssdistnr") <= given["radius_arcsec"]
    elif cut == "mag_difference":
        fails = sf.abs(number("magdiff")) >= given["max_mag_difference"]
    return fails


def _lsst_failures(native: Column, cut: str, given: Mapping[str, Any]) -> Column | None:
    fails: Column | None = None
    if cut == "real_bogus" and given["min_real_bogus"] is not None:
        fails = native["reliability"] < given["min_real_bogus"]
    elif cut == "moving":
        fails = native["ssObjectId"] != 0
    elif cut == "positive":
        fails = sf.coalesce(native["isNegative"], native["psfFlux"] <= 0)
    return fails
