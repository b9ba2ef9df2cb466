"""The Java that layouts become; what it reads is an integration test (`test_decode.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker import decode, javacode, javarecords, layouts, packets
from crossmatch.errors import AlertError


def schema(*fields: Any) -> str:
    """Of a ZTF alert with these types before the one field that is needed."""
    unused = [{"name": f"secret{i}", "type": kind} for i, kind in enumerate(fields)]
    needed = {"name": "objectId", "type": "string"}
    return json.dumps({"type": "record", "name": "secret", "fields": [*unused, needed]})


def methods(text: str) -> str:
    return javarecords.java_methods("ztf", [layouts.layout_of("ztf", text)])


def test_nothing_of_a_schema_but_numbers_comes_into_the_code() -> None:
    enum = {"type": "enum", "name": "secretKind", "symbols": ["SECRET"]}
    fixed = {"type": "fixed", "name": "secretBytes", "size": 7_654_321}
    found = methods(schema("int", enum, fixed, ["null", "secretKind"]))
    assert "secret" not in found.lower()
    assert "after(p, 7654321, end)" in found


def test_a_long_record_is_read_by_several_methods() -> None:
    """Java machines do not compile a method of more than 8,000 bytes."""
    found = methods(schema(*[["null", "float"]] * 1000))
    assert found.count("p += 4;") == 1000
    assert max(map(len, found.split("private static"))) < 9_000


@pytest.mark.parametrize(
    "fields",
    [
        [["null", "float"]] * 5_000,
        [[{"type": "fixed", "name": f"f{i}", "size": 1} for i in range(4_000)]],
        [{"type": "fixed", "name": "f", "size": 1 << 31}],
    ],
    ids=["too many fields", "too many branches", "too large"],
)
def test_what_java_has_no_room_for_is_refused(fields: list[Any]) -> None:
    with pytest.raises(AlertError) as caught:
        decode.check_schema("ztf", schema(*fields))
    assert caught.value.reason == "bad_schema"


def test_the_class_bears_the_name_of_its_methods() -> None:
    """Two classes of one name cannot be told apart by those who get packets to read."""
    names = set()
    for text in (schema(), schema("int")):
        name, source = javacode.java_source(methods(text))
        assert f"public final class {name} " in source
        assert methods(text) in source
        names.add(name)
    assert len(names) == 2


@pytest.mark.realdata
def test_every_schema_of_rubin_becomes_code(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    known = [layouts.layout_of("lsst", text) for text in schemas.values()]
    found = javarecords.java_methods("lsst", known)
    assert all(f"case {i}: return" in found for i in range(len(known)))
