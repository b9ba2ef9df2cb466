"""What a catalogue must be like: positions that are some, in degrees, and identifiers once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from catalogs.angles import angles_of_dec, angles_of_ra
from catalogs.batches import Batch
from catalogs.roles import ID_NAMES
from catalogs.tables import DEC_NAMES, RA_NAMES, Table, is_text, not_numbers
from crossmatch.errors import CatalogError
from crossmatch.model import BoolArray, FloatArray, IntArray

# Of positions all over the sky in degrees a thousandth lies within 2 pi and pi/2 of (0, 0), and
# a fifteenth has a right ascension below 24: ten of ten by chance once in 10^30 and 10^11.
_FEW = 10
_FILE_BITS = 8
# 2^64 over the golden ratio: numbers one after another go far apart (Knuth, vol. 3, 6.4).
_MIXING = np.uint64(11400714819323198485)
_UNITS = {"deg": ("deg", "deg"), "rad": ("rad", "rad"), "hour": ("hourangle", "deg")}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that adding a catalogue needs; None: it has no such."""

    ra: str
    dec: str
    id: str | None
    unit: str | None


def position_columns(
    path: Path, table: Table, ra: str | None, dec: str | None, id_column: str | None
) -> Columns:
    """Columns with position and identifier, as asked for or by their usual names.

    Raises
    ------
    CatalogError
        ``no_such_column``, ``no_position_columns``, ``same_column``.
    """
    names = table.columns.column_names
    known = ", ".join(names[:40]) + (" …" if len(names) > 40 else "")
    for asked in (ra, dec, id_column):
        if asked is not None and asked not in names:
            raise CatalogError("no_such_column", f"{path} has no column {asked}: {known}")
    found_ra, found_dec = ra or table.find(RA_NAMES), dec or table.find(DEC_NAMES)
    if found_ra is None or found_dec is None:
        which = "right ascension" if found_ra is None else "declination"
        raise CatalogError(
            "no_position_columns",
            f"{path}: no column is the {which}; `mmgateway catalogs add` takes --ra and --dec:"
            f" {known}",
        )
    if found_ra == found_dec:
        raise CatalogError(
            "same_column", f"{path}: {found_ra} is to be right ascension and declination"
        )
    return Columns(found_ra, found_dec, id_column or table.find(ID_NAMES), None)


class Positions:
    """Positions of batch after batch, each row checked; then the whole of them.

    Parameters
    ----------
    columns : Columns
        With ``unit`` deg, rad or hour where the operator says so.
    skip : bool
        Leave rows without a position out, instead of refusing the catalogue.
    """

    def __init__(self, columns: Columns, *, skip: bool = False) -> None:
        self._columns, self._skip = columns, skip
        self._stated = columns.unit is not None
        self._ra, self._dec = angles_of_ra(columns.ra), angles_of_dec(columns.dec)
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self.taken = self.skipped = 0

    def of(self, batch: Batch) -> tuple[IntArray, FloatArray, FloatArray]:
        """Numbers of the rows that have a position, and the positions in degrees.

        Raises
        ------
        CatalogError
            ``no_position``, ``not_a_position``, ``mixed_positions``, ``out_of_range`` with row
            and column; ``wrong_unit``.
        """
        names = self._columns.ra, self._columns.dec
        table = batch.rows
        if self._columns.unit is not None:
            units = dict(zip(names, _UNITS[self._columns.unit], strict=True))
            table = replace(table, units={**table.units, **units})
        text = any(is_text(table.columns[name].type) for name in names)
        self._stated |= text or all(table.units.get(name) for name in names)
        ra, dec = (a.of(table, batch.file, batch.first_row) for a in (self._ra, self._dec))
        rows = self._rows(batch, ra, dec)
        ra, dec = ra[rows], dec[rows]
        span = "outside [-180, 360] degrees"
        refuse_values(batch, rows, (ra < -180) | (ra > 360), self._columns.ra, ra, span)
        span = "outside [-90, 90] degrees"
        refuse_values(batch, rows, np.abs(dec) > 90, self._columns.dec, dec, span)
        if len(rows):
            self._low = np.minimum(self._low, [ra.min(), dec.min()])
            self._high = np.maximum(self._high, [ra.max(), dec.max()])
        self.taken += len(rows)
        return rows, ra % 360.0, dec

    def refuse_odd_units(self, path: Path) -> None:
        """Raise CatalogError where numbers without a unit look like radians or hours.

        ``radians_suspected`` or ``hours_suspected``; not for few rows, and never where the
        file or the operator states the unit.
        """
        if self._stated or self.taken < _FEW:
            return
        (ra, dec), high = self._high, np.maximum(np.abs(self._low), np.abs(self._high))
        names = self._columns.ra, self._columns.dec
        where = ", ".join(
            f"column {name} from {low:.4g} to {top:.4g}"
            for name, low, top in zip(names, self._low, self._high, strict=True)
        )
        # Right ascensions may be in [0, 2 pi] or in [-pi, pi].
        if high[0] <= 2 * np.pi + 1e-6 and high[1] <= np.pi / 2 + 1e-6:
            raise CatalogError(
                "radians_suspected",
                f"{path}: {where}: radians? `mmgateway catalogs add` takes --unit rad,"
                " or --unit deg if they are degrees",
            )
        if self._low[0] >= 0 and ra <= 24 and high[1] > 30 and dec - self._low[1] > 60:
            raise CatalogError(
                "hours_suspected",
                f"{path}: {where}: hours? `mmgateway catalogs add` takes --unit hour, or --unit deg"
                " if they are degrees",
            )

    def _rows(self, batch: Batch, ra: FloatArray, dec: FloatArray) -> IntArray:
        there = np.isfinite(ra) & np.isfinite(dec)
        if not there.all():
            if not self._skip:
                row = int(np.flatnonzero(~there)[0])
                name = self._columns.dec if np.isfinite(ra[row]) else self._columns.ra
                raise CatalogError(
                    "no_position",
                    f"{batch.file}: row {batch.first_row + row}, column {name}: no value;"
                    " `mmgateway catalogs add --skip` leaves such rows out",
                )
            self.skipped += int((~there).sum())
        return np.flatnonzero(there)


def refuse_values(
    batch: Batch, rows: IntArray, bad: BoolArray, column: str, values: FloatArray, what: str
) -> None:
    """Raise CatalogError ``out_of_range`` with row, column and the first bad value.

    Parameters
    ----------
    rows : (n,) int64
        Their numbers in the batch, from 0.
    bad : (n,) bool
    values : (n,) float64
    what : str
        What is wrong with a bad value.
    """
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise CatalogError(
            "out_of_range",
            f"{batch.file}: row {batch.first_row + int(rows[first])}, column {column}:"
            f" {values[first]:g} is {what}",
        )


def refuse_text(batch: Batch, columns: Iterable[str]) -> None:
    """Raise CatalogError ``not_a_number`` with row, column and text, for columns of numbers.

    Marks of no value are no text: blanks, ``---``, ``null`` and the like.
    """
    for name in columns:
        bad = not_numbers(batch.rows.columns[name])
        if bad.size:
            said = str(batch.rows.columns[name][int(bad[0])].as_py())[:40]
            raise CatalogError(
                "not_a_number",
                f"{batch.file}: row {batch.first_row + int(bad[0])}, column {name}: {said!r} is no"
                " number; `mmgateway catalogs add --columns` leaves columns out",
            )


class Identifiers:
    """Identifiers of batch after batch, 64 bits each, on disk.

    They lie in many files, equal ones in the same one, which are looked at one by one: of
    a billion sources that takes a quarter of a gigabyte.

    Parameters
    ----------
    column : str or None
        None: nothing is remembered.
    folder : Path
        To be made.
    """

    def __init__(self, column: str | None, folder: Path) -> None:
        self._column, self._folder = column, folder
        self._starts: list[tuple[int, Path, int]] = []
        self._count = 0
        folder.mkdir()

    def take(self, batch: Batch) -> None:
        """Remember those of a batch; rows without one do not matter."""
        if self._column is None:
            return
        column = batch.rows.columns[self._column]
        rows = self._count + np.flatnonzero(column.is_valid().to_numpy())
        some = column.drop_null()
        if pa.types.is_integer(some.type):
            seen = some.cast(pa.int64(), safe=False).to_numpy().view(np.uint64)
        else:
            texts = some.cast(pa.string()).to_pandas().astype(object).to_numpy()
            seen = pd.util.hash_array(texts, categorize=False)
        self._starts.append((self._count, batch.file, batch.first_row))
        self._count += len(column)
        self._put(seen, rows)

    def refuse_twice(self) -> None:
        """Raise CatalogError ``duplicate_id`` with the rows, if one came twice; else clear up."""
        count, both = 0, (self._count, self._count)
        for path in sorted(self._folder.iterdir()):
            pairs = np.fromfile(path, np.uint64).reshape(-1, 2)
            pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
            again = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0])
            count += len(again)
            rows = pairs[:, 1].astype(np.int64)
            # The first in the catalogue that was there before.
            both = min([both, *zip(rows[again + 1].tolist(), rows[again].tolist(), strict=True)])
            path.unlink()
        self._folder.rmdir()
        if not count:
            return
        second, first = (self._place(row) for row in both)
        raise CatalogError(
            "duplicate_id",
            f"{second[0]}: row {second[1]}, column {self._column}: the same as row {first[1]}"
            + (f" of {first[0]}" if first[0] != second[0] else "")
            + f" ({count} such)",
        )

    def _put(self, seen: NDArray[np.uint64], rows: IntArray) -> None:
        """Append identifiers and rows to the files, which take equal shares of them."""
        file_of = (seen * _MIXING >> np.uint64(64 - _FILE_BITS)).astype(np.uint8)
        order = np.argsort(file_of, kind="stable")
        pairs = np.stack([seen, rows.astype(np.uint64)], axis=1)[order]
        ends = np.searchsorted(file_of[order], np.arange(2**_FILE_BITS + 1))
        for number, (low, high) in enumerate(pairwise(ends.tolist())):
            with (self._folder / str(number)).open("ab") as file:
                file.write(pairs[low:high].tobytes())

    def _place(self, number: int) -> tuple[Path, int]:
        """File and row of the ``number``-th row of all."""
        after = [*self._starts, (self._count, self._starts[-1][1], 0)]
        start = next(a for a, b in pairwise(after) if a[0] <= number < b[0])
        return start[1], start[2] + number - start[0]
