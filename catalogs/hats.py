"""Catalogues in HATS layout: Parquet files by HEALPix pixel, margins, and what says so.

HATS 1.0, IVOA Note (https://www.ivoa.net/documents/Notes/HATS/): a collection holds a
primary table and a margin, each with ``properties``, ``partition_info.csv`` and
``dataset/Norder=k/Dir=d/Npix=n.parquet``. Written by hand, since the ``hats`` package
brings compilers and web clients along; the tests read the result with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.batches import PIXEL_COLUMN
from catalogs.sources import cells_touched
from crossmatch.model import IntArray
from crossmatch.sky import MAX_ORDER

HISTOGRAM_ORDER = 9
"""Partitions are at most of this order; HATS catalogues rarely go beyond 7."""
MARGIN_ARCSEC = 10.0
_MOST_ROWS = 1_000_000
_MOST_BYTES = 128e6
_DIRECTORY = 10_000
_HATS_VERSION = "v1.0"


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One pixel whose sources are one file."""

    order: int
    pixel: int

    @property
    def start(self) -> int:
        """Its first order-29 pixel."""
        return self.pixel << 2 * (MAX_ORDER - self.order)

    @property
    def end(self) -> int:
        """The order-29 pixel after its last."""
        return (self.pixel + 1) << 2 * (MAX_ORDER - self.order)

    @property
    def path(self) -> str:
        """Where its file lies in the ``dataset`` folder."""
        directory = self.pixel // _DIRECTORY * _DIRECTORY
        return f"Norder={self.order}/Dir={directory}/Npix={self.pixel}.parquet"


def partitions(counts: IntArray, row_bytes: float) -> list[Partition]:
    """Pixels with a bounded number of sources, in their order on the sky.

    Parameters
    ----------
    counts : (12 * 4**9,) int64
        Sources in each pixel of `HISTOGRAM_ORDER`.
    row_bytes : float
        Of a source in memory: a partition has at most 1,000,000 sources and 128 MB.
    """
    most = max(min(_MOST_ROWS, int(_MOST_BYTES / max(row_bytes, 1.0))), 10_000)
    ends = np.concatenate([[0], np.cumsum(counts)])

    def divided(order: int, pixel: int) -> list[Partition]:
        shift = 2 * (HISTOGRAM_ORDER - order)
        count = ends[(pixel + 1) << shift] - ends[pixel << shift]
        if count == 0:
            return []
        if count <= most or order == HISTOGRAM_ORDER:
            return [Partition(order, pixel)]
        return [p for child in range(4) for p in divided(order + 1, 4 * pixel + child)]

    return [p for base in range(12) for p in divided(0, base)]


class Writer:
    """Writes one table of a HATS collection, partition by partition.

    Parameters
    ----------
    folder : Path
        To be made.
    schema : Schema
        With `PIXEL_COLUMN` first.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._metadata: list[pq.FileMetaData] = []
        self._rows: list[tuple[Partition, int]] = []
        (folder / "dataset").mkdir(parents=True)

    @property
    def files(self) -> list[Path]:
        """Every Parquet file so far."""
        return [self._folder / "dataset" / p.path for p, _ in self._rows]

    def write(self, partition: Partition, table: pa.Table) -> None:
        """Write the file of a partition; ``table`` is sorted by pixel."""
        path = self._folder / "dataset" / partition.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table,
            path,
            compression="zstd",
            metadata_collector=self._metadata,
            write_statistics=True,
        )
        self._metadata[-1].set_file_path(partition.path)
        self._rows.append((partition, table.num_rows))

    def close(self, told: Mapping[str, object]) -> None:
        """Write metadata, list of partitions and properties."""
        dataset = self._folder / "dataset"
        pq.write_metadata(self._schema, dataset / "_common_metadata")
        pq.write_metadata(self._schema, dataset / "_metadata", self._metadata or None)
        rows = sorted(self._rows, key=lambda row: (row[0].start, row[0].order))
        lines = [f"{p.order},{p.pixel},{count}" for p, count in rows]
        (self._folder / "partition_info.csv").write_text(
            "\n".join(["Norder,Npix,num_rows", *lines]) + "\n", "utf-8"
        )
        total = sum(count for _, count in rows)
        told = {**told, "hats_nrows": total, "hats_max_rows": max((c for _, c in rows), default=0)}
        write_properties(self._folder, ("properties", "hats.properties"), told)


def properties_of(
    name: str, ra: str, dec: str, columns: Sequence[str], made: datetime
) -> dict[str, object]:
    """Properties of the primary table (HATS 1.0, "properties")."""
    return {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_col_ra": ra,
        "hats_col_dec": dec,
        "hats_col_healpix": PIXEL_COLUMN,
        "hats_col_healpix_order": MAX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_cols_default": " ".join(c for c in columns if " " not in c),
        "hats_builder": "mmgateway",
        "hats_version": _HATS_VERSION,
        "hats_creation_date": made.strftime("%Y-%m-%dT%H:%MUTC"),
    }


def margin_properties(primary: Mapping[str, object], name: str) -> dict[str, object]:
    """Properties of the margin beside a primary table."""
    return {
        **primary,
        "obs_collection": name,
        "dataproduct_type": "margin",
        "hats_primary_table_url": primary["obs_collection"],
        "hats_margin_threshold": MARGIN_ARCSEC,
    }


def collection_properties(name: str, margin: str, made: datetime) -> dict[str, object]:
    """Properties of the folder that holds both."""
    return {
        "obs_collection": name,
        "hats_primary_table_url": name,
        "all_margins": margin,
        "default_margin": margin,
        "hats_builder": "mmgateway",
        "hats_version": _HATS_VERSION,
        "hats_creation_date": made.strftime("%Y-%m-%dT%H:%MUTC"),
    }


def write_properties(folder: Path, names: Sequence[str], told: Mapping[str, object]) -> None:
    """Write properties, one ``key=value`` a line, colons escaped as Java wants them."""
    lines = [f"{key}={str(value).replace(':', chr(92) + ':')}" for key, value in told.items()]
    for name in names:
        (folder / name).write_text("#HATS catalog\n" + "\n".join(lines) + "\n", "utf-8")


class Margin:
    """Collects on disk, for each partition, the sources of others that lie near its border.

    Parameters
    ----------
    parts : sequence of Partition
    folder : Path
        To be made; `write` removes it.
    """

    def __init__(self, parts: Sequence[Partition], folder: Path) -> None:
        self._parts, self._folder = list(parts), folder
        folder.mkdir()
        self._starts = np.array([p.start for p in parts], np.int64)
        self._ends = np.array([p.end for p in parts], np.int64)
        self._found: defaultdict[int, list[Path]] = defaultdict(list)

    def take(self, number: int, pixels: IntArray, table: pa.Table) -> None:
        """Sources of partition ``number``, sorted: which of them others want too."""
        near, cell = cells_touched(pixels, self._parts[number].order, MARGIN_ARCSEC)
        owner = np.searchsorted(self._starts, cell, side="right") - 1
        known = (owner >= 0) & (cell < self._ends[np.maximum(owner, 0)]) & (owner != number)
        pairs = np.unique(np.stack([owner[known], near[known]]), axis=1)
        for other in np.unique(pairs[0]).tolist():
            rows = pairs[1][pairs[0] == other]
            path = self._folder / f"{number}-{other}.arrow"
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
                file.write_table(table.take(pa.array(rows)))
            self._found[other].append(path)

    def write(self, writer: Writer) -> int:
        """Write the margin's files; how many rows they have."""
        total = 0
        for number in sorted(self._found):
            table = pa.concat_tables(pa.ipc.open_file(p).read_all() for p in self._found[number])
            order = np.argsort(table[PIXEL_COLUMN].to_numpy(), kind="stable")
            writer.write(self._parts[number], table.take(pa.array(order)))
            total += table.num_rows
            for path in self._found[number]:
                path.unlink()
        self._folder.rmdir()
        return total
