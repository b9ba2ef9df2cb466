"""Schemas by number, of a folder or a registry, and those that come while we run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from broker.lsstschemas import MAX_SOUGHT, LsstSchemas, from_registry
from crossmatch.errors import AlertError, ServiceError

PART = {
    "type": "record",
    "name": "part",
    "namespace": "lsst.v9_0",
    "fields": [{"name": "ra", "type": "double"}],
}
ALERT = {
    "type": "record",
    "name": "alert",
    "namespace": "lsst.v9_0",
    "fields": [{"name": "diaSource", "type": "lsst.v9_0.part"}],
}


def put(folder: Path, version: str, *, whole: bool = True) -> None:
    inside = folder / f"v{version}"
    inside.mkdir(exist_ok=True)
    name = f"lsst.v{version}"
    alert, part = (json.dumps(x).replace("lsst.v9_0", name) for x in (ALERT, PART))
    (inside / f"{name}.alert.avsc").write_text(alert)
    (inside / f"{name}.part.avsc").write_text(part if whole else part[:20])


class Registry(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = self.answers.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    Registry.asked.clear()
    Registry.answers = {
        "/schemas/ids/900": {"schema": '"string"'},
        "/schemas/ids/901": {"error_code": 50001},
        "/schemas": [{"id": 900, "schema": '"string"'}],
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ids", [(900,), ()])
def test_registry_gives_schemas_by_id(registry: str, ids: tuple[int, ...]) -> None:
    assert from_registry(registry, ids) == {900: '"string"'}


def test_registry_faults_are_named(registry: str) -> None:
    with pytest.raises(ServiceError, match="no schema in the answer"):
        from_registry(registry, [901])
    with pytest.raises(ServiceError, match="HTTP status 404"):
        from_registry(registry, [902])
    with pytest.raises(ServiceError, match="starts with http"):
        from_registry("file:///etc/passwd", [900])
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1/schemas"):
        from_registry("http://127.0.0.1:1", [])


def test_a_schema_that_comes_into_the_folder_later_is_found(tmp_path: Path) -> None:
    put(tmp_path, "9_0")
    schemas = LsstSchemas(str(tmp_path))
    assert schemas.seek([900, 1200]) == []
    put(tmp_path, "12_0")
    assert 1200 not in schemas
    assert schemas.seek([900, 1200]) == [1200]
    assert sorted(schemas) == [900, 1200]
    assert "lsst.v12_0.alert" in schemas[1200]


def test_a_schema_that_is_half_written_is_looked_for_again(tmp_path: Path) -> None:
    put(tmp_path, "9_0")
    schemas = LsstSchemas(str(tmp_path))
    put(tmp_path, "12_0", whole=False)
    assert schemas.seek([1200]) == []
    assert "v12_0" in schemas.advice(1200)
    assert "lsst.v12_0.part)" in schemas.advice(1200)
    put(tmp_path, "12_0")
    assert schemas.seek([1200]) == [1200]


def test_an_empty_folder_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AlertError, match="no_schemas"):
        LsstSchemas(str(tmp_path))


def test_a_schema_that_is_registered_later_is_found(registry: str) -> None:
    schemas = LsstSchemas(registry)
    assert schemas.seek([1200]) == []
    Registry.answers["/schemas/ids/1200"] = {"schema": '"int"'}
    assert schemas.seek([1200]) == [1200]
    assert schemas[1200] == '"int"'


def test_damaged_numbers_do_not_flood_the_registry(registry: str) -> None:
    schemas = LsstSchemas(registry)
    Registry.asked.clear()
    assert schemas.seek(range(2000, 4000)) == []
    assert len(Registry.asked) == MAX_SOUGHT


def test_a_registry_in_trouble_is_left_alone_for_a_while_and_told(registry: str) -> None:
    now = [0.0]
    schemas = LsstSchemas(registry, clock=lambda: now[0])
    Registry.asked.clear()
    assert schemas.seek([901, 902]) == []
    assert schemas.seek([902]) == []
    assert len(Registry.asked) == 1
    assert "no schema in the answer" in schemas.advice(901)
    now[0] = 31.0
    Registry.answers["/schemas/ids/902"] = {"schema": '"int"'}
    assert schemas.seek([902]) == [902]


def test_the_advice_says_what_to_do(tmp_path: Path, registry: str) -> None:
    put(tmp_path, "9_0")
    retry = "mmgateway deadletter retry --reason unknown_schema_id"
    for schemas, what in (
        (LsstSchemas(str(tmp_path)), f"put it into {tmp_path}/v12_1, then: {retry}"),
        (LsstSchemas(registry), f"once {registry} has it: {retry}"),
        (LsstSchemas(), f"set [match] lsst_schemas, start match anew, then: {retry}"),
    ):
        assert schemas.advice(1201).endswith(what)
    assert "(known: 900)" in LsstSchemas(known={900: "x"}).advice(1201)


def test_schemas_at_hand_are_not_looked_for_elsewhere() -> None:
    schemas = LsstSchemas.of({900: "x"})
    assert schemas.seek([900, 1200]) == []
    assert LsstSchemas.of(schemas) is schemas
