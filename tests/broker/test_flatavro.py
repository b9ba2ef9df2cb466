"""Bodies of flat records are those that fastavro writes."""

from __future__ import annotations

import io
import math
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.codec import avro_schema, encode_candidate
from broker.flatavro import body_writer, varint
from crossmatch.columns import CANDIDATE_FIELDS

SCHEMA = avro_schema("Candidate", CANDIDATE_FIELDS)
PLAIN = {
    "string": st.text(max_size=80),
    "double": st.floats(allow_nan=True),
    "long": st.integers(-(2**63), 2**63 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.none() | values(kind[1])
    return st.lists(st.text(max_size=9), max_size=70) if isinstance(kind, dict) else PLAIN[kind]


def one_of_each_kind() -> dict[str, Any]:
    kinds = ["string", "double", "long", "int", "boolean", {"type": "array", "items": "string"}]
    fields = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]
    fields += [{"name": f"n{i}", "type": ["null", kind]} for i, kind in enumerate(kinds)]
    return {"type": "record", "name": "Every", "fields": fields}


EVERY = one_of_each_kind()


def by_fastavro(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, record)
    return buffer.getvalue()


@given(st.fixed_dictionaries({f["name"]: values(f["type"]) for f in EVERY["fields"]}))
def test_the_bytes_are_those_of_fastavro(record: dict[str, Any]):
    assert body_writer(EVERY)(record) == by_fastavro(EVERY, record)


@given(st.fixed_dictionaries({f["name"]: values(f["type"]) for f in SCHEMA["fields"]}))
def test_a_candidate_is_read_as_it_was(record: dict[str, Any]):
    (read,) = fastavro.reader(io.BytesIO(encode_candidate(record)))
    assert read.keys() == record.keys()
    for name, value in read.items():
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(record[name])
        else:
            assert value == record[name]


def test_zeros_of_both_signs_are_told_apart():
    write = body_writer({"fields": [{"name": "x", "type": "double"}]})
    assert write({"x": 0.0}) != write({"x": -0.0})


def test_what_may_be_null_may_be_left_out():
    write = body_writer({"fields": [{"name": "x", "type": ["null", "long"]}]})
    assert write({}) == write({"x": None}) == b"\x00"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("string", v) for v in (None, 5, b"bytes")),
        *(("double", v) for v in (None, "1.0")),
        *(("long", v) for v in (None, "1", 2.5)),
        *(("boolean", v) for v in (None, 1, "true")),
        *(({"type": "array", "items": "string"}, v) for v in ([1], 7)),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(kind: Any, value: Any):
    write = body_writer({"fields": [{"name": "x", "type": kind}]})
    with pytest.raises(TypeError, match=r"x is .* of another kind"):
        write({"x": value})


def test_a_missing_value_and_an_unknown_field_are_refused_by_name():
    write = body_writer({"fields": [{"name": "x", "type": "string"}]})
    with pytest.raises(ValueError, match="x must have a value"):
        write({})
    with pytest.raises(ValueError, match="no field y"):
        write({"x": "a", "y": 1})


@pytest.mark.parametrize(
    "kind", ["bytes", ["string", "null"], {"type": "array", "items": "int"}, {"type": "map"}]
)
def test_a_type_that_no_flat_record_has_is_refused(kind: Any):
    with pytest.raises(ValueError, match="no type of a flat record"):
        body_writer({"fields": [{"name": "x", "type": kind}]})


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_those_of_avro(number: int):
    assert varint(number) == by_fastavro("long", number)  # type: ignore[arg-type]
