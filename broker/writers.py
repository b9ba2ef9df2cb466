"""Which writers' schemas Spark's JVM reads; packets bring new ones while the query runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column

from broker import decode
from broker.judge import Address
from broker.lsstschemas import LsstSchemas
from broker.sources import Sources, history_columns, slim_columns
from crossmatch.errors import AlertError

MAX_LEARNED = 8
"""Writers' schemas of a survey, and numbers of LSST's, that the JVM reads at a time, the latest."""

_MAX_SEEN_ONCE = 4 * MAX_LEARNED
_SURVEYS = ("ztf", "lsst")


class Writers:
    """The schemas that are read in the JVM, and the query's columns with them.

    Parameters
    ----------
    sources : Sources
    fetch : callable
        From addresses to packets, to see which schema their headers have.
    """

    def __init__(
        self, sources: Sources, fetch: Callable[[Sequence[Address]], Mapping[Address, bytes]]
    ) -> None:
        self.schemas = LsstSchemas.of(sources.lsst_schemas)
        self._sources = sources
        self._fetch = fetch
        self._texts: dict[str, tuple[str, ...]] = dict.fromkeys(_SURVEYS, ())
        self._numbers = readable(self.schemas, sorted(self.schemas))[-MAX_LEARNED:]
        self._seen_once: dict[str, bool] = {}
        self._columns: list[Column] | None = None
        self._histories: dict[str, Column] | None = None

    @property
    def columns(self) -> list[Column]:
        """As `broker.sources.slim_columns`; made once for a set of schemas, which takes longer
        than a batch."""
        if self._columns is None:
            self._columns = slim_columns(self._sources, self._texts, self._numbers)
        return self._columns

    @property
    def histories(self) -> dict[str, Column]:
        """As `broker.sources.history_columns`."""
        if self._histories is None:
            self._histories = history_columns(self._sources, self._texts, self._numbers)
        return self._histories

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """Schemas learned from the headers of containers, by survey."""
        return self._texts

    def learn(self, rows: pa.Table) -> int:
        """Note the schemas of packets that the JVM did not read.

        Parameters
        ----------
        rows : (n,) table
            A batch, as `columns` gives it.

        Returns
        -------
        int
            How many packets of the batch the JVM may read now, did it read them once more.
        """
        before = (self._texts, self._numbers)
        learned = 0
        for survey in _SURVEYS:
            if survey not in rows.column_names:
                continue
            unread = _unread(rows, survey)
            learned += self._learn_headers(unread, survey)
            if survey == "lsst":
                learned += self._learn_numbers(unread)
        if (self._texts, self._numbers) != before:
            self._columns = self._histories = None
        return learned

    def _learn_headers(self, unread: pa.Table, survey: str) -> int:
        """Schemas in containers' headers, of a sample of them."""
        contained = unread.filter(pc.is_null(unread["schema_id"]))
        addresses = [
            (row["topic"], row["partition"], row["offset"])
            for row in contained.select(["topic", "partition", "offset"]).to_pylist()
        ]
        if not addresses:
            return 0
        samples = self._fetch(addresses[:: max(1, len(addresses) // MAX_LEARNED)])
        known = self._texts[survey]
        for text in map(decode.writer_schema, samples.values()):
            if text is None or text in known or not self._is_seen_again(text):
                continue
            if _is_readable(survey, text):
                known = (*known, text)[-MAX_LEARNED:]
        if known == self._texts[survey]:
            return 0
        self._texts = self._texts | {survey: known}
        return len(addresses)

    def _is_seen_again(self, text: str) -> bool:
        """Whether another packet had this schema: a damaged one, of which each is another, would
        push out those that are needed."""
        is_known = self._seen_once.pop(text, False)
        if not is_known:
            self._seen_once[text] = True
            while len(self._seen_once) > _MAX_SEEN_ONCE:
                del self._seen_once[next(iter(self._seen_once))]
        return is_known

    def _learn_numbers(self, unread: pa.Table) -> int:
        """Schemas of messages by their numbers, the frequent ones first; all of them are seen."""
        counted: list[dict[str, Any]] = pc.value_counts(unread["schema_id"].drop_null()).to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in counted}
        self.schemas.seek(sorted(counts, key=lambda number: (-counts[number], number)))
        new = readable(self.schemas, [number for number in counts if number in self.schemas])
        self._numbers = (*self._numbers, *new)[-MAX_LEARNED:]
        return sum(counts[number] for number in new if number in self._numbers)


def readable(schemas: Mapping[int, str], numbers: Sequence[int]) -> tuple[int, ...]:
    """Those of the numbers whose schemas are such that the JVM can read LSST's alerts with them.

    A registry has other schemas too; and Python says what is wrong with a packet of such a one.
    """
    return tuple(number for number in numbers if _is_readable("lsst", schemas[number]))


def _is_readable(survey: str, text: str) -> bool:
    try:
        decode.check_schema(survey, text)
    except AlertError:
        # Python says what is wrong with such a packet, if anything is.
        return False
    return True


def _unread(rows: pa.Table, survey: str) -> pa.Table:
    """Address and ``schema_id`` of the rows that are for Python."""
    struct = rows[survey].combine_chunks()
    for_python = pc.equal(pc.struct_field(struct, "route"), decode.PYTHON)
    found = rows.select(["topic", "partition", "offset"]).append_column(
        "schema_id", pc.struct_field(struct, "schema_id")
    )
    return found.filter(pc.fill_null(for_python, False))
