"""Right ascensions and declinations in degrees, however a column has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy import units as u
from astropy.coordinates import Angle

from catalogs.tables import Table, is_text, numbers, texts, unit_factor
from crossmatch.errors import CatalogError
from crossmatch.model import FloatArray, IntArray

_DECIMAL, _SEXAGESIMAL = "a decimal number", "sexagesimal"


class Angles:
    """Angles of a column in degrees, batch after batch, all written in the same way.

    Numbers are degrees unless the column's unit says otherwise; text is sexagesimal unless
    it is a plain number. ``10`` is degrees and ``10:02:00`` hours: a column that has both
    says of no row for certain what is meant.

    Parameters
    ----------
    column : str
    sexagesimal : unit
        Of sexagesimal text.
    """

    def __init__(self, column: str, sexagesimal: u.UnitBase) -> None:
        self._column, self._unit = column, sexagesimal
        self._before: tuple[str, str] | None = None

    def of(self, table: Table, file: Path, first_row: int = 1) -> FloatArray:
        """Angle of each row in degrees, NaN where there is none, (n,).

        Parameters
        ----------
        table : Table
        file : Path
            Which the rows are of, and ``first_row`` the number of the first, for errors.

        Raises
        ------
        CatalogError
            ``wrong_unit`` for a unit that is no angle; ``not_a_position`` and
            ``mixed_positions`` with file, row and column.
        """
        column = table.columns[self._column]
        if not is_text(column.type):
            return numbers(column) * unit_factor(table, self._column, "deg")
        words = texts(column)
        plain = numbers(pa.chunked_array([words], pa.string()))
        there = np.array([word is not None for word in words], bool)
        decimal = there & ~np.isnan(plain)
        other = np.flatnonzero(there & ~decimal)
        found = np.full(len(words), np.nan)
        said = [words[row] or "" for row in other]
        found[other] = self._sexagesimal(said, first_row + other, file)
        for row in sorted(int(rows[0]) for rows in (other, np.flatnonzero(decimal)) if len(rows)):
            how, number = _DECIMAL if decimal[row] else _SEXAGESIMAL, first_row + row
            self._before = self._before or (how, f"{words[row]!r} in row {number} of {file.name}")
            if self._before[0] != how:
                raise CatalogError(
                    "mixed_positions",
                    f"{file}: row {number}, column {self._column}: {words[row]!r} is {how}, and"
                    f" {self._before[1]} is {self._before[0]}: write all of them in one way",
                )
        if decimal.any():
            found = plain * unit_factor(table, self._column, "deg")
        return np.where(there, found, np.nan)

    def _sexagesimal(self, words: Sequence[str], rows: IntArray, file: Path) -> FloatArray:
        """Angles of texts that are no plain numbers; ``rows`` are their numbers in the file."""
        try:
            return self._degrees(words)
        except ValueError as error:
            bad = self._first_bad(words)
            raise CatalogError(
                "not_a_position",
                f"{file}: row {rows[bad]}, column {self._column}: {words[bad][:40]!r} is neither"
                " a number nor a sexagesimal angle",
            ) from error

    def _degrees(self, words: Sequence[str]) -> FloatArray:
        if not words:
            return np.empty(0)
        return np.asarray(Angle(list(words), unit=self._unit).deg, np.float64)

    def _first_bad(self, words: Sequence[str]) -> int:
        """Index of the first that is no angle, found by halves; one of them is none."""
        low, high = 0, len(words)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._degrees(words[low:middle])
            except ValueError:
                high = middle
            else:
                low = middle
        return low


def positions(table: Table, ra: str, dec: str, file: Path) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination of all rows of a file in degrees; see `Angles`.

    Returns
    -------
    ra_deg, dec_deg : (n,) float64
    """
    return angles_of_ra(ra).of(table, file), angles_of_dec(dec).of(table, file)


def angles_of_ra(column: str) -> Angles:
    """Angles of right ascension: sexagesimal text is hours."""
    return Angles(column, u.hourangle)


def angles_of_dec(column: str) -> Angles:
    """Angles of declination: sexagesimal text is degrees."""
    return Angles(column, u.deg)
