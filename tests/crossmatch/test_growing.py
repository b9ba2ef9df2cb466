import numpy as np

from crossmatch.growing import Growing


def test_columns_come_after_those_that_are_there() -> None:
    growing = Growing(2, np.int64)
    for i in range(0, 5000, 500):
        growing.extend(np.arange(2 * i, 2 * i + 1000).reshape(2, 500))
    assert growing.view.shape == (2, 5000)
    assert growing.view[:, 501].tolist() == [1001, 1501]


def test_what_was_given_out_stays_as_it_was() -> None:
    growing = Growing(1, np.float64)
    growing.extend(np.arange(10.0)[None])
    before = growing.view
    growing.extend(np.full((1, 5000), -1.0))
    growing.keep(np.arange(5, 5010))
    growing.extend(np.full((1, 3), 7.0))
    assert before.tolist() == [list(range(10))]
    assert growing.view[0, :5].tolist() == [5, 6, 7, 8, 9]
    assert growing.view.shape == (1, 5008)


def test_adding_one_more_does_not_copy_all() -> None:
    growing = Growing(1, np.float64)
    growing.extend(np.zeros((1, 10_000)))
    before = growing.view
    growing.extend(np.ones((1, 1)))
    assert np.shares_memory(before, growing.view)
