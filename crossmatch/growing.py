"""Arrays that grow at their end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST = 1024


class Growing:
    """Rows of equal length that grow at their end, as a (height, n) array.

    What was given out stays as it is: only columns behind it are written. There is room for
    half as much again (pages that nobody has written take no memory), so that a column more
    costs what it costs, and not a copy of all.
    """

    def __init__(self, height: int, dtype: type[np.generic]) -> None:
        self._data: NDArray[Any] = np.empty((height, 0), dtype)
        self._n = 0

    @property
    def view(self) -> NDArray[Any]:
        """(height, n) array of what is there."""
        return self._data[:, : self._n]

    def extend(self, columns: NDArray[Any]) -> None:
        """Put (height, m) columns after those that are there."""
        n = self._n + columns.shape[1]
        if n > self._data.shape[1]:
            room = np.empty((len(self._data), max(_LEAST, n + n // 2)), self._data.dtype)
            room[:, : self._n] = self.view
            self._data = room
        self._data[:, self._n : n] = columns
        self._n = n

    def keep(self, columns: NDArray[Any]) -> None:
        """Only ``columns``, a mask or their numbers, ascending."""
        kept = self.view[:, columns]
        self._data, self._n = np.empty((len(self._data), 0), self._data.dtype), 0
        self.extend(kept)
