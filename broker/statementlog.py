"""Statements from the topics into their table: each one once, wherever the reading stopped.

The table is written beside the steps, not in them: a step that was never committed leaves
nothing in it. The next offset of each topic stands in the table's log, committed with the
rows before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from broker import topics
from broker.codec import decode
from broker.kafka_io import Record
from crossmatch.errors import ServiceError

_APP = "mmgateway-candidates/"
_PART = 20_000
_TOGETHER = 250
"""Statements made into columns at a time: nothing else runs in Python meanwhile."""


def statement_topics(names: Iterable[str]) -> list[str]:
    """Topics among ``names`` that bear statements, public ones and those of private streams."""
    public = set(topics.all_candidates())
    return sorted(name for name in names if topics.place_of(name)[0] in public)


class StatementLog:
    """Fills the table of candidate statements.

    Parameters
    ----------
    path : Path
        Folder of the table; made at the first statement.
    schema : pyarrow.Schema
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        # The mark of a transaction lies between the last statement and the end of a topic:
        # from the table alone nobody could tell that there is nothing new.
        self._ends: dict[str, dict[int, int]] = {}

    def catch_up(
        self,
        read: Callable[[str, int], Iterable[Record]],
        ends: Mapping[str, Mapping[int, int]],
    ) -> int:
        """Add what came to the topics since; how many statements.

        Parameters
        ----------
        read : callable
            From a topic and an offset to the committed messages from there on.
        ends : mapping
            For each topic of statements the ends of its partitions. A topic that ends where
            it did when it was last read is not read.

        Raises
        ------
        ServiceError
            When Kafka does not answer or the disk refuses.
        """
        count = 0
        for topic, now in sorted(ends.items()):
            if any(now.values()) and self._ends.get(topic) != now:
                count += self._take(read, topic)
                self._ends[topic] = dict(now)
        return count

    def position(self, topic: str) -> int:
        """First offset of a topic that is not in the table."""
        try:
            version = DeltaTable(str(self._path)).transaction_version(_APP + topic)
        except TableNotFoundError:
            return 0
        return 0 if version is None else int(version)

    def _take(self, read: Callable[[str, int], Iterable[Record]], topic: str) -> int:
        count, after = 0, 0
        parts: list[pa.Table] = []
        for some in _in_parts(read(topic, self.position(topic)), _TOGETHER):
            rows = [decode(record.value) for record in some]
            parts.append(pa.Table.from_pylist(rows, schema=self._schema))
            after = some[-1].offset + 1
            if sum(part.num_rows for part in parts) >= _PART:
                count += self._append(parts, topic, after)
                parts = []
        return count + (self._append(parts, topic, after) if parts else 0)

    def _append(self, parts: Sequence[pa.Table], topic: str, after: int) -> int:
        rows: pa.Table = pa.concat_tables(parts)
        try:
            write_deltalake(
                str(self._path),
                rows,
                mode="append",
                schema_mode="merge",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(_APP + topic, after)]
                ),
            )
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the table {self._path} cannot be written: {error}") from error
        return int(rows.num_rows)


def _in_parts(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    left = iter(records)
    while part := list(islice(left, size)):
        yield part
