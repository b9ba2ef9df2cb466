"""Appends to a Delta table by an entry of its log, written as the protocol has it.

``deltalake`` looks at all files of the table with every append: 0.1 ms for each, which is a
quarter of a second after a night of small files. An append that reads nothing needs only
the next number of the log (Delta Lake protocol, "Delta Log Entries" and "Add File").
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from crossmatch.errors import ServiceError

_PLAIN_WRITER = 2
_MAX_TRIES = 1000


def is_plain(table: DeltaTable) -> bool:
    """Whether a table asks of writers no more than what is done here."""
    protocol = table.protocol()
    return protocol.min_writer_version <= _PLAIN_WRITER and not protocol.writer_features


def add_action(path: str, partition: Mapping[str, str], file: Path, statistics: str) -> Any:
    """Entry for a data file that was written; ``path`` is relative to the table."""
    status = file.stat()
    return {
        "add": {
            "path": path,
            "partitionValues": dict(partition),
            "size": status.st_size,
            "modificationTime": int(status.st_mtime * 1000),
            "dataChange": True,
            "stats": statistics,
        }
    }


def append(log: Path, after: int, adds: Sequence[Any], app: str, step: int, moment_ms: int) -> int:
    """Commit data files as the first free version after a known one.

    Parameters
    ----------
    log : Path
        Folder ``_delta_log``.
    after : int
        A version that is there.
    adds : sequence
        From `add_action`.
    app, step : str, int
        Transaction: an application's own version.
    moment_ms : int
        Unix time.

    Returns
    -------
    int
        The version.

    Raises
    ------
    ServiceError
        When another process wrote the same application's steps meanwhile, or changed the
        columns.
    """
    info = {
        "timestamp": moment_ms,
        "operation": "WRITE",
        "operationParameters": {"mode": "Append"},
        "isBlindAppend": True,
        "engineInfo": "mmgateway",
    }
    step_taken = {"txn": {"appId": app, "version": step, "lastUpdated": moment_ms}}
    actions = [{"commitInfo": info}, step_taken, *adds]
    text = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    draft = log / f".{uuid.uuid4()}.tmp"
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        for version in range(after + 1, after + _MAX_TRIES):
            try:
                # Fails when the version exists, and is whole when it does not.
                os.link(draft, entry(log, version))
            except FileExistsError:
                _check_compatible(entry(log, version), app)
                continue
            return version
    finally:
        draft.unlink(missing_ok=True)
    raise ServiceError(f"{log}: others wrote {_MAX_TRIES} versions meanwhile; try again")


def entry(log: Path, version: int) -> Path:
    """File of a version."""
    return log / f"{version:020d}.json"


def _check_compatible(path: Path, app: str) -> None:
    for line in path.read_text("utf-8").splitlines():
        action = json.loads(line)
        if "metaData" in action or "protocol" in action:
            raise ServiceError(f"{path}: another process changed the table; start again")
        if action.get("txn", {}).get("appId") == app:
            raise ServiceError(
                f"{path}: another process archives to this folder; only one 'match' may run"
            )
