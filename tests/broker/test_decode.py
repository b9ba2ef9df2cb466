"""Layouts and header texts; what Spark makes of them is an integration test."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker import decode, layouts, packets
from crossmatch.errors import AlertError

CANDIDATE = {
    "type": "record",
    "name": "candidate",
    "fields": [
        {"name": "jd", "type": "double"},
        {"name": "rb", "type": ["null", "float"]},
        {"name": "unused", "type": "bytes"},
    ],
}
ALERT = {
    "type": "record",
    "name": "alert",
    "namespace": "test",
    "fields": [
        {"name": "objectId", "type": "string", "doc": "not kept"},
        {"name": "candidate", "type": CANDIDATE},
        {"name": "prv_candidates", "type": {"type": "array", "items": "candidate"}},
    ],
}


def changed(name: str, kind: object) -> str:
    fields = [f | {"type": kind} if f["name"] == name else f for f in CANDIDATE["fields"]]
    alert = [*ALERT["fields"][:1], {"name": "candidate", "type": CANDIDATE | {"fields": fields}}]
    return json.dumps(ALERT | {"fields": alert})


def test_writer_is_cut_after_the_last_leaf() -> None:
    layout = layouts.layout_of("ztf", json.dumps(ALERT))
    assert [f["name"] for f in layout.writer["fields"]] == ["objectId", "candidate"]
    *inner, skipped = layout.writer["fields"][1]["type"]["fields"]
    assert inner == [{"name": "jd", "type": "double"}, {"name": "rb", "type": ["null", "float"]}]
    assert (skipped["type"]["type"], skipped["type"]["size"]) == ("fixed", 1)
    assert layout.rest_bytes == 1


def test_prefix_reads_what_the_whole_schema_wrote() -> None:
    stream = io.BytesIO()
    candidate = {"jd": 2460000.5, "rb": 0.5, "unused": b"x"}
    record = {"objectId": "ZTF1", "candidate": candidate, "prv_candidates": [candidate]}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(ALERT), record)
    stream.seek(0)
    layout = layouts.layout_of("ztf", json.dumps(ALERT))
    read = fastavro.schemaless_reader(stream, layout.writer, None)
    assert read["candidate"].pop("mmgateway_skipped")
    assert read == {"objectId": "ZTF1", "candidate": {"jd": 2460000.5, "rb": 0.5}}


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("double", 8),
        (["null", "double"], 1),
        (["float", "double"], 5),
        ("string", 1),
        ({"type": "array", "items": "double"}, 1),
        ({"type": "fixed", "name": "f", "size": 7}, 7),
        ({"type": "record", "name": "r", "fields": [{"name": "x", "type": "float"}] * 1}, 4),
        (["candidate", "null"], 1),
        ("candidate", 8 + 1 + 1),
    ],
)
def test_what_is_cut_off_takes_as_many_bytes_as_its_smallest_value(kind: Any, least: int) -> None:
    text = json.dumps(ALERT | {"fields": [*ALERT["fields"][:2], {"name": "more", "type": kind}]})
    assert layouts.layout_of("ztf", text).rest_bytes == least


def record_of(name: str, *kinds: Any) -> dict[str, Any]:
    fields = [{"name": f"x{i}", "type": kind} for i, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


def test_types_that_hold_others_twice_are_looked_at_once() -> None:
    doubling = [record_of("t0", "int", "int")]
    doubling += [record_of(f"t{i}", f"t{i - 1}", f"t{i - 1}") for i in range(1, 200)]
    more = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(doubling)]

    few = json.dumps(ALERT | {"fields": [*ALERT["fields"][:2], *more[:11]]})
    assert layouts.layout_of("ztf", few).rest_bytes == 2 * (2**11 - 1)

    many = json.dumps(ALERT | {"fields": [*ALERT["fields"][:2], *more]})
    with pytest.raises(AlertError, match=r"at least 3\.2e\+60 bytes"):
        layouts.layout_of("ztf", many)


def test_every_writer_of_a_survey_gives_one_shape() -> None:
    shapes = set()
    without = json.dumps({**ALERT, "fields": ALERT["fields"][:2]})
    for text in (json.dumps(ALERT), changed("rb", "double"), without):
        fields = layouts.layout_of("ztf", text).reader["fields"]
        shapes.add(json.dumps([[f["name"], len(f["type"][1])] for f in fields]))
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "bad_schema"),
        ('"string"', "bad_schema"),
        (changed("jd", "string"), "bad_schema"),
        (changed("jd", {"type": "array", "items": "double"}), "bad_schema"),
        (json.dumps({**ALERT, "fields": [{"name": "x", "type": "int"}]}), "no_leaves"),
        (json.dumps({**ALERT, "fields": [*ALERT["fields"], ALERT["fields"][0]]}), "bad_schema"),
        *(
            (changed("jd", {"type": "fixed", "name": "f", "size": size}), "bad_schema")
            for size in ("abc", True, -1, 1.5, None, 1 << 40)
        ),
    ],
)
def test_schema_that_cannot_be_read_in_the_jvm_is_refused(text: str, reason: str) -> None:
    with pytest.raises(AlertError) as caught:
        decode.check_schema("ztf", text)
    assert caught.value.reason == reason


def test_writer_schema_is_the_text_of_the_header() -> None:
    stream = io.BytesIO()
    fastavro.writer(stream, ALERT, [])
    packet = stream.getvalue()
    text = decode.writer_schema(packet)
    assert text is not None
    assert text.encode() in packet
    assert json.loads(text)["name"].endswith("alert")
    assert decode.writer_schema(packet[:60]) is None
    assert decode.writer_schema(b"\x00\x00\x00\x03\x84") is None
    assert decode.writer_schema(b"Obj\x01") is None
    endless = b"Obj\x01\x02\x16avro.schema" + b"\xff" * (15 << 20)
    assert decode.writer_schema(endless) is None
    assert decode.writer_schema(b"not a container, " + packet) is None


@pytest.mark.realdata
def test_folder_gives_every_version_by_its_number(shared_data: Path) -> None:
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    assert sorted(schemas) == [704, 800, 900, 1000, 1100]
    for text in schemas.values():
        decode.check_schema("lsst", text)


@pytest.mark.realdata
def test_when_a_source_was_taken_back_is_read_where_the_schema_tells_it(shared_data: Path) -> None:
    """And no more of a packet is read for it: what lies behind is needed anyway."""
    schemas = packets.read_lsst_schemas(shared_data / "schemas" / "lsst")
    name = "timeWithdrawnMjdTai"
    for number, text in schemas.items():
        layout = layouts.layout_of("lsst", text)
        written = {f["name"]: f["type"] for f in layout.writer["fields"]}
        (read,) = [f["type"] for f in layout.reader["fields"] if f["name"] == "diaSource"]
        assert list(written)[-1] == "diaObject"
        assert (name in _field_names(written["diaSource"])) == (number >= 900)
        assert name in _field_names(read)


def _field_names(kind: Any) -> list[str]:
    records = [k for k in (kind if isinstance(kind, list) else [kind]) if isinstance(k, dict)]
    return [field["name"] for record in records for field in record["fields"]]
