"""JSON of groups: as the standard module's, and never null where a number is broken."""

from __future__ import annotations

import json

import numpy as np
import pytest

from broker import jsontext

VALUE = {
    "text": 'é "quoted" \u2028 \x00',
    "numbers": [0, -1, 2**63 - 1, -(2**63), 0.1, 1e-320, 1.7976931348623157e308, 1e16, -0.0],
    "nested": {"points": [(2460000.123456789, "g", None)], "empty": {}, "none": None, "yes": True},
}


def test_it_reads_back_as_what_it_was():
    read = json.loads(jsontext.dumps(VALUE))
    assert read == json.loads(json.dumps(VALUE))
    assert [repr(x) for x in read["numbers"]] == [repr(x) for x in VALUE["numbers"]]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), np.float64("nan")])
@pytest.mark.parametrize(
    "place",
    [lambda x: {"a": x}, lambda x: {"a": [1.0, x]}, lambda x: {"a": [{"b": (None, x)}]}],
)
def test_a_number_that_is_none_is_refused(broken, place):
    with pytest.raises((ValueError, TypeError), match=r"no number of JSON|numpy\.float64"):
        jsontext.dumps(place(broken))


def test_numbers_of_numpy_are_numbers():
    assert jsontext.dumps({"a": np.float64(0.1)}) == b'{"a":0.1}'


def test_what_is_no_plain_value_is_refused():
    with pytest.raises(TypeError):
        jsontext.dumps({"a": {1, 2}})
