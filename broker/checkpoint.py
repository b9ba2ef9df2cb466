"""Spark's notes of its batches, taken back to the last step that was committed.

The query may be a batch ahead: it reads and decodes the next one while the step before is made
(:class:`broker.stream.LiveMatcher`). What counts is the marker in Kafka. Spark plays the batch
that it planned last once more unless it is noted as done, so a start behind batch *b* needs the
plan of *b* + 1 at most, and no note that anything above *b* is done.
"""

from __future__ import annotations

import json
from pathlib import Path

from crossmatch.errors import ServiceError


def not_of_one_run(checkpoint: str, reached: int, published: int) -> ServiceError:
    """Error for a checkpoint that has come to another batch than what Kafka has as the last one."""
    last = "none" if published < 0 else f"batch {published} as the last one"
    return ServiceError(
        f"{checkpoint} is at batch {reached}, but Kafka has {last}: they are not of one run;"
        " restore what belongs together, or start all anew"
    )


def checkpoint_id(folder: Path) -> str:
    """Id of the query that a checkpoint belongs to; empty if there is no checkpoint yet."""
    try:
        return str(json.loads((folder / "metadata").read_text("utf-8"))["id"])
    except FileNotFoundError:
        return ""


def rewind(folder: Path, batch_id: int) -> int:
    """Let the query begin behind a batch; how many batches it was ahead: none or one.

    Parameters
    ----------
    folder : Path
        Checkpoint of a query that does not run.
    batch_id : int
        Last committed batch; -1 before the first.

    Raises
    ------
    ServiceError
        When it is farther ahead, as one of another run is, or the disk refuses.
    """
    try:
        done = [(n, file) for n, file in _numbered(folder / "commits") if n > batch_id]
        planned = [(n, file) for n, file in _numbered(folder / "offsets") if n > batch_id + 1]
        if len(done) > 1 or len(planned) > 1:
            reached = max(n for n, _ in done + planned)
            raise not_of_one_run(f"the checkpoint {folder}", reached, batch_id)
        for _, file in [*done, *planned]:
            _remove(file)
    except OSError as error:
        raise ServiceError(f"the checkpoint {folder} cannot be taken back: {error}") from error
    return len(done)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Files that are named by the number of a batch, the latest first."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(((int(f.name), f) for f in files if f.name.isdigit()), reverse=True)


def _remove(file: Path) -> None:
    file.unlink()
    # Hadoop's checksum lies beside it, and would not fit a file of the same name.
    (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
