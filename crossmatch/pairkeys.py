"""Pairs of an alert and a region as single numbers: one sort of them puts pairs in order.

The alert's row stands above; below it is the region's number in the lists of intervals, twice its
row, and one more where it is only known that the alert may be inside. Numbers of 32 bits, wherever
they suffice, are sorted in half the time of those of 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crossmatch.model import BoolArray, IntArray

KeyArray: TypeAlias = NDArray[np.unsignedinteger[Any]]

NUMBERS_PER_ROW = 2


def above(alert_rows: IntArray, n_alerts: int, n_regions: int) -> KeyArray:
    """Keys of alerts without a region, (n,), of numbers that hold so many of both."""
    half = 1 << 16
    short = n_alerts <= half and NUMBERS_PER_ROW * n_regions <= half
    kind: type[np.unsignedinteger[Any]] = np.uint32 if short else np.uint64
    return np.asarray(alert_rows.astype(kind) << _half(kind))


def widened(numbers: NDArray[np.int32], kind: np.dtype[Any]) -> KeyArray:
    """Numbers of intervals' lists as keys are; a copy only where those are wider."""
    return np.asarray(numbers.view(np.uint32).astype(kind, copy=False))


def doubtful(keys: KeyArray) -> BoolArray:
    """Whether it is only known that the alert may be inside, (p,)."""
    return (keys & 1).astype(np.bool_)


def parted(keys: KeyArray) -> tuple[IntArray, IntArray]:
    """Rows of alerts and of regions, each (p,) int64."""
    return parted_all([keys], 0)


def parted_all(parts: Sequence[KeyArray], step: int) -> tuple[IntArray, IntArray]:
    """Rows of alerts and of regions of several parts, one after another, each (p,) int64.

    The rows of alerts of each part begin with ``step`` more than those of the part before.
    """
    ends = np.cumsum([0, *map(len, parts)])
    alert, row = np.empty((2, ends[-1]), np.int64)
    for number, (keys, begin, end) in enumerate(zip(parts, ends[:-1], ends[1:], strict=True)):
        kind = keys.dtype.type
        half = _half(kind)
        np.right_shift(keys, half, out=alert[begin:end])
        alert[begin:end] += number * step
        np.right_shift(keys & kind((1 << int(half)) - 1), 1, out=row[begin:end])
    return alert, row


def numbers_of(rows: IntArray) -> IntArray:
    """Both numbers of each row, -1 where a row is -1: (2 r,)."""
    numbers = NUMBERS_PER_ROW * rows[:, None] + np.arange(NUMBERS_PER_ROW)
    return np.where(rows[:, None] < 0, -1, numbers).ravel()


def _half(kind: type[np.unsignedinteger[Any]]) -> np.unsignedinteger[Any]:
    return kind(8 * kind(0).itemsize // 2)
