"""Light curves look at nothing but what is said: the JVM reads no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from broker.history import ELASTICC_SIGN, FIELDS, history
from tests.broker.test_packets import LSST, ZTF

RECORDS: list[tuple[str, Mapping[str, Any]]] = [
    ("ztf", ZTF),
    ("lsst", LSST),
    ("lsst", LSST | {"diaObject": {ELASTICC_SIGN: None, "other": 1}}),
    (
        "lsst",
        {
            "prvDiaSources": [
                {"midPointTai": 60900.5, "psFlux": -9.0, "psFluxErr": 1.0, "filterName": "LSST_g"},
                {"midPointTai": 60901.5, "psFlux": 9.0, "psFluxErr": 1.0, "band": "z"}
                | {"timeWithdrawnMjdTai": 60902.0},
            ],
            "prvDiaNondetectionLimits": [{"midPointTai": 60899.5, "diaNoise": 5.0, "band": "y"}],
        },
    ),
]


def only_fields(record: Mapping[str, Any], survey: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, fields in FIELDS[survey].items():
        value = record.get(name)
        if isinstance(value, list):
            found[name] = [{n: v for n, v in x.items() if n in fields} for x in value]
        elif value is not None:
            found[name] = {n: v for n, v in value.items() if n in fields}
    return found


@pytest.mark.parametrize(("survey", "record"), RECORDS)
def test_other_fields_do_not_matter(survey: str, record: Mapping[str, Any]) -> None:
    with_others = dict(record) | {"other": [{"jd": 2461042.5}]}
    found = history(with_others, survey)
    assert found
    assert history(only_fields(with_others, survey), survey) == found


@pytest.mark.parametrize(("survey", "record"), RECORDS)
def test_absent_fields_are_as_nulls(survey: str, record: Mapping[str, Any]) -> None:
    padded = {
        name: [dict.fromkeys(FIELDS[survey][name]) | x for x in value]
        if isinstance(value, list)
        else value
        for name, value in only_fields(record, survey).items()
    }
    assert history(padded, survey) == history(record, survey)


def test_a_source_in_old_units_is_scaled() -> None:
    (plain,) = history({"prvDiaSources": RECORDS[3][1]["prvDiaSources"]}, "lsst")
    old = {"diaObject": {ELASTICC_SIGN: None}}
    (scaled,) = history(old | {"prvDiaSources": RECORDS[3][1]["prvDiaSources"]}, "lsst")
    assert plain.mag is not None
    assert scaled.mag == pytest.approx(plain.mag - 3.9)
    assert plain.positive is False
