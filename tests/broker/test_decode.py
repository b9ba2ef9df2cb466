"""Layouts, header texts and schema sources; what Spark makes of them is an integration test."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import pytest

from broker import decode, layouts
from crossmatch.errors import AlertError, ServiceError

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
    inner = layout.writer["fields"][1]["type"]["fields"]
    assert inner == [{"name": "jd", "type": "double"}, {"name": "rb", "type": ["null", "float"]}]


def test_prefix_reads_what_the_whole_schema_wrote() -> None:
    stream = io.BytesIO()
    candidate = {"jd": 2460000.5, "rb": 0.5, "unused": b"x"}
    record = {"objectId": "ZTF1", "candidate": candidate, "prv_candidates": [candidate]}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(ALERT), record)
    stream.seek(0)
    layout = layouts.layout_of("ztf", json.dumps(ALERT))
    read = fastavro.schemaless_reader(stream, layout.writer, None)
    assert read == {"objectId": "ZTF1", "candidate": {"jd": 2460000.5, "rb": 0.5}}


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


class Registry(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, Any]] = {
        "/schemas/ids/900": {"schema": '"string"'},
        "/schemas/ids/901": {"error_code": 40403},
        "/schemas": [{"id": 900, "schema": '"string"'}],
    }

    def do_GET(self) -> None:
        found = self.answers.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ids", [(900,), ()])
def test_registry_gives_schemas_by_id(registry: str, ids: tuple[int, ...]) -> None:
    assert decode.lsst_schema_registry(registry, ids) == {900: '"string"'}


def test_registry_faults_are_named(registry: str) -> None:
    with pytest.raises(ServiceError, match="no schema in the answer"):
        decode.lsst_schema_registry(registry, [901])
    with pytest.raises(ServiceError, match="HTTP status 404"):
        decode.lsst_schema_registry(registry, [902])
    with pytest.raises(ServiceError, match="starts with http"):
        decode.lsst_schema_registry("file:///etc/passwd", [900])
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1/schemas"):
        decode.lsst_schema_registry("http://127.0.0.1:1", [])


@pytest.mark.realdata
def test_folder_gives_every_version_by_its_number(shared_data: Path) -> None:
    schemas = decode.lsst_schema_folder(shared_data / "schemas" / "lsst")
    assert sorted(schemas) == [704, 800, 900, 1000, 1100]
    for text in schemas.values():
        decode.check_schema("lsst", text)


@pytest.mark.realdata
def test_when_a_source_was_taken_back_is_read_where_the_schema_tells_it(shared_data: Path) -> None:
    """And no more of a packet is read for it: what lies behind is needed anyway."""
    schemas = decode.lsst_schema_folder(shared_data / "schemas" / "lsst")
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
