"""Matching in Spark's Python workers, one batch ahead of the steps.

The driver writes the tables of its regions to a folder whenever they changed; workers map its
files into memory. Whatever changed since, the step mends (`crossmatch.ahead`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyspark import SparkContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.pandas.types import from_arrow_schema

from broker import decode, worker
from broker.sources import Sources
from broker.worker import ADDRESS, FIELDS, Shipped
from crossmatch.ahead import View
from crossmatch.cuts import Cuts
from crossmatch.errors import ServiceError

_ONE_MACHINE = re.compile(r"local(\[.*\])?")
_TYPE = from_arrow_schema(pa.schema(FIELDS))


class Ahead:
    """Columns of what workers find, by the regions of the moment in which a batch is read.

    Parameters
    ----------
    cuts : Cuts
    sources : Sources
    folder : Path
        For the tables of regions; what is in it is removed. Workers of other hosts get its
        files from Spark, those of this process read them there.
    """

    def __init__(self, cuts: Cuts, sources: Sources, folder: Path) -> None:
        self._cuts = cuts
        self._topics = {"ztf": tuple(sources.ztf), "lsst": tuple(sources.lsst)}
        self._folder = folder
        self._view: View | None = None
        self._shipped = Shipped("")
        self._number = 0
        shutil.rmtree(folder, ignore_errors=True)

    def judged(self, slim: DataFrame, view: View) -> DataFrame:
        """The query's slim rows with what workers find in place of the native columns.

        Structs of surveys have ``route``, ``schema_id`` and ``judged`` (`broker.worker`).

        Raises
        ------
        ServiceError
            If the tables cannot be written.
        """
        shipped = self._ship(view)
        surveys = [survey for survey in self._topics if survey in slim.columns]
        return slim.withColumns({survey: self._column(survey, shipped) for survey in surveys})

    def _column(self, survey: str, shipped: Shipped) -> Column:
        native = sf.col(survey)
        finder = _finder(survey, self._topics[survey], self._cuts, shipped)
        # Its stubs ask for a kind of function that it warns of when the function has types.
        find = arrow_udf(finder, _TYPE)  # type: ignore[call-overload]
        found = find(*ADDRESS, native)
        return sf.struct(native["route"], native["schema_id"], found.alias("judged"))

    def _ship(self, view: View) -> Shipped:
        """Tables of a view for workers; those of the views before are removed.

        Nobody reads these any more: a batch is read whole before the next one begins.
        """
        if self._view is not None and self._view.tables is view.tables:
            return self._shipped
        before, self._number = self._shipped, self._number + 1
        folder = self._folder / str(self._number)
        try:
            view.save(folder)
            self._shipped = _shipped(folder)
        except OSError as error:
            raise ServiceError(f"{folder}: cannot be written: {error.strerror}") from error
        self._view = view
        if before.folder:
            shutil.rmtree(before.folder, ignore_errors=True)
        if before.files is not None:
            before.files.destroy()
        return self._shipped


def _shipped(folder: Path) -> Shipped:
    context = SparkContext._active_spark_context
    if context is None or _ONE_MACHINE.fullmatch(context.master or ""):
        return Shipped(str(folder))
    # Not SparkContext.addFile: what was added once is sent to each new executor for ever.
    return Shipped(
        str(folder), context.broadcast({p.name: p.read_bytes() for p in folder.iterdir()})
    )


def _finder(
    survey: str, topics: tuple[str, ...], cuts: Cuts, shipped: Shipped
) -> Callable[[pa.Array, pa.Array, pa.Array, pa.Array], pa.Array]:
    """The function that is sent to workers: small, for tables are named, not sent along."""
    jvm = decode.JVM

    def find(topic: pa.Array, partition: pa.Array, offset: pa.Array, native: pa.Array) -> pa.Array:
        rows = dict(zip(ADDRESS, (topic, partition, offset), strict=True))
        rows |= dict(zip(native.type.names, native.flatten(), strict=True))
        tables = shipped.tables()
        return worker.judged(survey, topics, cuts, tables, pa.table(rows), jvm)

    return find
