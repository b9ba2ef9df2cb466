"""The ledger as a Delta table: each entry of ``mm.ledger`` once, a row for each count.

The table holds its own position: the next offset of ``mm.ledger`` is the transaction version
of each commit, so that rows and position are written together or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from broker import kafka_io, topics
from broker.kafka_io import Record
from crossmatch.errors import ServiceError

_APP = "mmgateway-ledger"
_COMPACT_AT = 64
_PART = 10_000
_KEPT = timedelta(days=1)
SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("night", pa.string()),
        pa.field("feed", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("step", pa.int64()),
        pa.field("batch_id", pa.int64()),
        pa.field("next", pa.int64()),
        pa.field("moment", pa.string()),
    ]
)
"""``offset`` is that of the entry on ``mm.ledger``; ``night`` and ``feed`` are null for counts
that belong to none, empty where they are not known; ``reason`` is null in the one row of an
entry that counts nothing. ``step`` and ``batch_id`` are the matcher's, ``next`` the listener's."""

Source = Callable[[int], Iterable[Record]]


def rows_of(entry: Mapping[str, Any], offset: int) -> Iterator[dict[str, Any]]:
    """Rows of one entry of the ledger.

    Examples
    --------
    >>> entry = {"kind": "notices", "next": 4, "counts": {"received": 1, "region": 1}, "parts": [
    ...     {"night": "2026-01-01", "feed": "svom", "counts": {"received": 1, "region": 1}}]}
    >>> [(row["night"], row["reason"], row["count"]) for row in rows_of(entry, 7)]
    [('2026-01-01', 'received', 1), ('2026-01-01', 'region', 1)]
    """
    next_ = entry.get("next")
    common = {
        "offset": offset,
        "kind": entry["kind"],
        "step": entry.get("step"),
        "batch_id": entry.get("batch_id"),
        "next": next_ if isinstance(next_, int) else None,
        "moment": entry.get("moment"),
        "night": None,
        "feed": None,
    }
    left = dict(entry["counts"])
    for part in entry.get("parts", ()):
        for name, n in part["counts"].items():
            left[name] = left.get(name, 0) - n
            yield common | {
                "night": part["night"],
                "feed": part["feed"],
                "reason": name,
                "count": n,
            }
    for name, n in left.items():
        if n:
            yield common | {"reason": name, "count": n}
    if not entry["counts"] and not entry.get("parts"):
        yield common | {"reason": None, "count": 0}


class LedgerTable:
    """The ledger as a Delta table.

    Parameters
    ----------
    path : Path
        Folder of the table; made at the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._appended = 0

    def catch_up(self, bootstrap: str, properties: Mapping[str, str]) -> int:
        """Add what came to ``mm.ledger`` since; the number of entries. For one process at a time.

        Raises
        ------
        ServiceError
            When Kafka does not answer or the disk refuses.
        """

        def source(start: int) -> Iterable[Record]:
            return kafka_io.read_all(bootstrap, properties, topics.LEDGER, start=start)

        return self.take(source)

    def take(self, source: Source) -> int:
        """Add the entries that ``source`` has from an offset on; their number."""
        records = iter(source(self.position()))
        entries = 0
        # In parts: the ledger of a year is not to lie in memory as rows.
        while part := list(islice(records, _PART)):
            self._append(part)
            entries += len(part)
        return entries

    def _append(self, records: Sequence[Record]) -> None:
        rows = [row for r in records for row in rows_of(json.loads(r.value), r.offset)]
        position = Transaction(_APP, records[-1].offset + 1)
        try:
            write_deltalake(
                str(self.path),
                pa.Table.from_pylist(rows, schema=SCHEMA),
                mode="append",
                commit_properties=CommitProperties(app_transactions=[position]),
            )
            self._tidy()
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the ledger {self.path} cannot be written: {error}") from error

    def position(self) -> int:
        """First offset of ``mm.ledger`` that is not in the table."""
        table = self._table()
        version = None if table is None else table.transaction_version(_APP)
        return 0 if version is None else version

    def compact(self) -> None:
        """Few large files instead of many small ones; what they replace goes a day later."""
        table = self._table()
        if table is None:
            return
        table.optimize.compact()
        table.vacuum(
            retention_hours=int(_KEPT.total_seconds() // 3600),
            enforce_retention_duration=False,
            dry_run=False,
        )

    def entries(self) -> list[dict[str, Any]]:
        """Entries in the order of the topic, with what the table has of each.

        The ranges of regions and verdicts of the matcher's steps are on the topic alone.
        """
        table = self._table()
        if table is None:
            return []
        try:
            rows = table.to_pyarrow_table(columns=SCHEMA.names)
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the ledger {self.path} cannot be read: {error}") from error
        found: dict[int, list[dict[str, Any]]] = {}
        for row in rows.sort_by("offset").to_pylist():
            found.setdefault(row["offset"], []).append(row)
        return [_entry(rows_) for rows_ in found.values()]

    def _tidy(self) -> None:
        self._appended += 1
        if self._appended >= _COMPACT_AT:
            self._appended = 0
            self.compact()

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.path))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise ServiceError(f"the ledger {self.path} cannot be read: {error}") from error


def _entry(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry that :func:`rows_of` made these rows of."""
    first = rows[0]
    counts: dict[str, int] = {}
    parts: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        name, n = row["reason"], row["count"]
        if name is None:
            continue
        counts[name] = counts.get(name, 0) + n
        if row["night"] is not None:
            parts.setdefault((row["night"], row["feed"]), {})[name] = n
    known = {k: first[k] for k in ("step", "batch_id", "next", "moment") if first[k] is not None}
    return {
        "offset": first["offset"],
        "kind": first["kind"],
        "counts": counts,
        "parts": [
            {"night": night, "feed": feed, "counts": c} for (night, feed), c in parts.items()
        ],
        **known,
    }
