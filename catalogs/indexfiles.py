"""The files of a look-up index: arrays to be memory-mapped, and columns as mapped Arrow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from catalogs.batches import PIXEL_COLUMN
from catalogs.segments import ARRAYS, START, SegmentFacts
from catalogs.sources import table_order
from crossmatch.model import IntArray
from crossmatch.sky import MAX_ORDER

COLUMNS = "columns.arrow"
# Names in a run of rows, and those of the files.
_ARRAYS = {
    PIXEL_COLUMN: ("ipix29", np.int64),
    "_ra_deg": ("ra", np.float64),
    "_dec_deg": ("dec", np.float64),
    "_pmra": ("pmra", np.float32),
    "_pmdec": ("pmdec", np.float32),
    "_epoch": ("epoch", np.float64),
    **{own: (name, np.float64) for own, name in ARRAYS.items()},
}
_SLICE = 4_000_000
FAST_MAS_YR = 200.0
"""Sources that move faster are listed apart, so that the others need no wide search."""


class IndexFiles:
    """Writes the index, one run of sorted rows after another.

    Parameters
    ----------
    folder : Path
        To be made.
    rows : int
        How many there will be.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir(parents=True)
        self._folder, self._rows, self._done = folder, rows, 0
        self._arrays: dict[str, BinaryIO] = {}
        self._columns: pa.ipc.RecordBatchFileWriter | None = None
        self._sink: pa.OSFile | None = None
        self._fastest = 0.0
        self._epochs = (np.inf, -np.inf)
        self._segments: SegmentFacts | None = None

    def write(self, rows: pa.Table, columns: Sequence[str]) -> None:
        """Append rows; ``columns`` go into the Arrow file, as one batch."""
        for own, (name, kind) in _ARRAYS.items():
            if own not in rows.column_names:
                continue
            if name not in self._arrays:
                self._arrays[name] = self._begun(name, kind)
            values = np.ascontiguousarray(rows[own].to_numpy(), kind)
            self._arrays[name].write(values.data)
        if "_pmra" in rows.column_names:
            speed = np.hypot(rows["_pmra"].to_numpy(), rows["_pmdec"].to_numpy())
            years = rows["_epoch"].to_numpy()
            self._fastest = max(self._fastest, float(speed.max()))
            self._epochs = min(self._epochs[0], years.min()), max(self._epochs[1], years.max())
        if START in rows.column_names:
            self._segments = self._segments or SegmentFacts()
            self._segments.take(rows)
        table = rows.select(list(columns))
        if self._columns is None:
            self._sink = pa.OSFile(str(self._folder / COLUMNS), "wb")
            self._columns = pa.ipc.new_file(self._sink, table.schema)
        for batch in table.combine_chunks().to_batches():
            self._columns.write_batch(batch)
        self._done += rows.num_rows

    def finish(self) -> dict[str, Any]:
        """Write the table of pixels and close everything; facts about the index.

        ``fastest_mas_yr`` and ``epochs``, the first and the last, are null without proper
        motions, ``segments`` of anything but positions by time.
        """
        assert self._done == self._rows, "as many rows as were promised"
        assert self._columns is not None
        assert self._sink is not None
        self._columns.close()
        self._sink.close()
        for file in self._arrays.values():
            file.close()
        order = table_order(self._rows)
        self._write_offsets(order)
        moves = "pmra" in self._arrays
        if moves:
            np.save(self._folder / "fast.npy", self._fast())
        segments = None if self._segments is None else self._segments.told()
        low, high = self._epochs
        if moves and low == high:
            (self._folder / "epoch.npy").unlink()
        return {
            "rows": self._rows,
            "order": order,
            "epochs": [float(low), float(high)] if moves else None,
            "fastest_mas_yr": round(self._fastest, 3) if moves else None,
            "segments": segments,
            "files": digests(self._folder),
        }

    def _begun(self, name: str, kind: type) -> BinaryIO:
        """An array's file after its head; written, not mapped, so that no page stays."""
        file = (self._folder / f"{name}.npy").open("wb")
        head = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(file, head)
        return file

    def _slices(self, name: str) -> Iterator[tuple[int, Any]]:
        """An array read again in slices: its first row, and the values."""
        for start in range(0, self._rows, _SLICE):
            # Mapped anew each time: the pages of the slice before are let go.
            array = np.load(self._folder / f"{name}.npy", mmap_mode="r")
            yield start, np.array(array[start : start + _SLICE])

    def _fast(self) -> IntArray:
        """Rows of the sources that move fast."""
        found = [
            start + np.flatnonzero(np.hypot(pmra, pmdec) > FAST_MAS_YR)
            for (start, pmra), (_, pmdec) in zip(
                self._slices("pmra"), self._slices("pmdec"), strict=True
            )
        ]
        return np.concatenate(found)

    def _write_offsets(self, order: int) -> None:
        kind = np.int32 if self._rows < 2**31 else np.int64
        offsets = np.lib.format.open_memmap(
            self._folder / "offsets.npy", mode="w+", dtype=kind, shape=(12 * 4**order + 1,)
        )
        for _, pixels in self._slices("ipix29"):
            some = pixels >> 2 * (MAX_ORDER - order)
            first = int(some[0])
            counts = np.bincount(some - first)
            offsets[first + 1 : first + 1 + len(counts)] += counts.astype(kind)
        np.cumsum(offsets, out=offsets)
        offsets.flush()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder and the folders in it, by its path; none without it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
