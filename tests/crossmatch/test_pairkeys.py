import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmatch import pairkeys
from crossmatch.model import IntArray


def keys_of(pairs: list[tuple[int, int]], doubt: list[bool], n: int, r: int) -> pairkeys.KeyArray:
    alerts, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    numbers = pairkeys.numbers_of(rows).reshape(-1, 2)[np.arange(len(rows)), np.array(doubt, int)]
    begun = pairkeys.above(alerts, n, r)
    return np.asarray(begun | numbers.astype(begun.dtype))


@pytest.mark.parametrize(
    ("n", "r", "bits"),
    [
        (1 << 16, 1 << 15, 32),
        ((1 << 16) + 1, 5, 64),
        (5, (1 << 15) + 1, 64),
        (1 << 31, 1 << 31, 64),
    ],
)
@given(data=st.data())
def test_keys_in_order_are_pairs_in_order(data: st.DataObject, n: int, r: int, bits: int) -> None:
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, r - 1))
    pairs = data.draw(st.lists(pair | st.just((n - 1, r - 1)), unique=True, max_size=20))
    doubt = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    keys = keys_of(pairs, doubt, n, r)
    assert keys.dtype.itemsize * 8 == bits
    alert, row = pairkeys.parted(np.sort(keys))
    assert list(zip(alert.tolist(), row.tolist(), strict=True)) == sorted(pairs)
    assert pairkeys.doubtful(keys).tolist() == doubt


def test_numbers_of_a_row_that_is_gone_are_gone() -> None:
    rows: IntArray = np.array([-1, 0, 3])
    assert pairkeys.numbers_of(rows).tolist() == [-1, -1, 0, 1, 6, 7]
