"""Light curves that Java is to read: of which schemas, and what Python makes of what it read.

What Java reads is an integration test (`tests/integration/test_curves.py`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from broker import curves, javacode, packets
from broker.history import ELASTICC_SIGN, FIELDS, history
from crossmatch.errors import AlertError

ENTRY: dict[str, Any] = {
    "type": "record",
    "name": "secretEntry",
    "fields": [{"name": "jd", "type": "double"}, {"name": "secret", "type": "string"}],
}
CURVE = pa.struct(
    {
        "prvDiaSources": pa.list_(
            pa.struct({"midpointMjdTai": pa.float64(), "band": pa.string(), "psFlux": pa.float64()})
        ),
        "diaObject": pa.struct({ELASTICC_SIGN: pa.float64()}),
    }
)


def record(name: str, **fields: Any) -> dict[str, Any]:
    found = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": name, "fields": found}


def schema(**fields: Any) -> str:
    """Of an alert with these fields."""
    candidate = dict.fromkeys(("jd", "fid", "ra", "dec", "magpsf"), "double")
    source = dict.fromkeys(("diaSourceId", "ra"), "double")
    alert = (
        {"diaSource": ["null", record("d", **source)]}
        if "diaObject" in fields
        else {"objectId": "string", "candidate": record("c", **candidate)}
    )
    return json.dumps(record("alert", **(alert | fields)))


def entries(**fields: Any) -> dict[str, Any]:
    return {
        "type": "array",
        "items": ENTRY | {"fields": [{"name": n, "type": kind} for n, kind in fields.items()]},
    }


def test_nothing_of_a_schema_but_numbers_comes_into_the_code() -> None:
    text = schema(
        secret="string",
        objectId="string",
        prv_candidates=["null", {"type": "array", "items": ENTRY}],
    )
    found = curves.java_methods("ztf", [curves.layout_of("ztf", text)])
    assert "secret" not in found.lower()
    assert "entries.add(" in found
    name, source = javacode.java_source(found)
    assert f"public final class {name} " in source


@pytest.mark.parametrize(
    "fields",
    [
        {"prv_candidates": "string"},
        {"prv_candidates": {"type": "map", "values": ENTRY}},
        {"prv_candidates": {"type": "array", "items": {"type": "map", "values": "double"}}},
        {"prv_candidates": {"type": "array", "items": ["null", ENTRY, "string"]}},
        {"prv_candidates": entries(jd="string")},
        {"prv_candidates": entries(jd=["null", "boolean"])},
        {"prv_candidates": entries(fid={"type": "array", "items": "int"})},
        {"prv_candidates": entries(isdiffpos="boolean")},
        {"prv_candidates": entries(isdiffpos=["null", "bytes"])},
        {"prv_candidates": entries(isdiffpos="int")},
        {"x": {"type": "fixed", "name": "f", "size": 1 << 31}},
        {"objectId": "string", "candidate": "string"},
        {"candidate": record("c", jd="double")},
    ],
)
def test_what_only_python_can_make_something_of_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(AlertError) as caught:
        curves.java_methods("ztf", [curves.layout_of("ztf", schema(**fields))])
    assert caught.value.reason == "bad_schema"


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "map", "values": "float"},
        "string",
        [
            ENTRY,
            {"type": "record", "name": "o", "fields": [{"name": ELASTICC_SIGN, "type": "float"}]},
        ],
    ],
)
def test_an_object_that_may_have_other_fluxes_is_for_python(kind: Any) -> None:
    with pytest.raises(AlertError, match="diaObject"):
        curves.layout_of("lsst", schema(diaObject=kind))


@pytest.mark.realdata
def test_every_schema_of_rubin_becomes_code(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    known = [curves.layout_of("lsst", text) for text in schemas.values()]
    found = curves.java_methods("lsst", known)
    assert all(f"case {i}: return" in found for i in range(len(known)))


def test_columns_become_records() -> None:
    one = {"midpointMjdTai": 61042.5, "band": "r"}
    other = {"midpointMjdTai": None, "band": None}
    rows = [
        {"prvDiaSources": [one, other, one], "diaObject": None},
        {"prvDiaSources": None, "diaObject": {ELASTICC_SIGN: None}},
        {"prvDiaSources": [], "diaObject": {ELASTICC_SIGN: 1.0}},
        {"prvDiaSources": [one], "diaObject": None},
    ]
    column = pa.array(rows, CURVE)
    for begin in range(4):
        found = curves.records(column.slice(begin))
        assert [r["prvDiaSources"] for r in found] == [r["prvDiaSources"] for r in rows[begin:]]
        signs = [r["diaObject"] is not None and ELASTICC_SIGN in r["diaObject"] for r in found]
        assert signs == [False, True, True, False][begin:]


def test_a_missing_number_is_none_and_one_that_is_none_stays_nan() -> None:
    """Only of the former an older name is looked at."""
    numbers = [1.5, None, math.nan]
    entries = [{"midpointMjdTai": 61042.0 + n} | {"psFlux": x} for n, x in enumerate(numbers)]
    (found,) = curves.records(pa.array([{"prvDiaSources": entries}], CURVE))
    fluxes = [entry["psFlux"] for entry in found["prvDiaSources"]]
    assert fluxes[:2] == [1.5, None]
    assert math.isnan(fluxes[2])


def test_no_rows_are_no_records() -> None:
    assert curves.records(pa.array([], CURVE)) == []
    assert history(curves.records(pa.array([{}], CURVE))[0], "lsst") == []


def test_every_field_has_a_column() -> None:
    for survey, arrays in FIELDS.items():
        row = curves.row_type(survey)
        assert row.names == list(arrays)
