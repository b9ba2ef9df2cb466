"""Jars come from a server on loopback here; the real ones are fetched by the integration tests."""

from __future__ import annotations

import gc
import hashlib
import io
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from broker.embedded import jars
from broker.embedded.jars import Jar, fetch_jars, locked
from crossmatch.errors import ServiceError

CONTENT = b"PK" + bytes(1000)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def maven(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "maven" / "a").mkdir(parents=True)
    (tmp_path / "maven" / "a" / "a-1.jar").write_bytes(CONTENT)
    handler = partial(Quiet, directory=str(tmp_path / "maven"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> list[Jar]:
    entries = [Jar("a/a-1.jar", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "kafka")]
    monkeypatch.setattr(jars, "locked", lambda: tuple(entries))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return entries


def fetch(tmp_path: Path, maven: str) -> tuple[list[Path], str]:
    console = Console(file=io.StringIO(), width=200)
    environ = {"MMGATEWAY_CACHE": str(tmp_path / "cache"), "MMGATEWAY_MAVEN": maven}
    found = fetch_jars("kafka", environ, console)
    return found, console.file.getvalue()  # type: ignore[attr-defined]


def test_second_call_needs_no_network(tmp_path: Path, maven: str, lock: list[Jar]) -> None:
    found, shown = fetch(tmp_path, maven)
    assert [p.read_bytes() for p in found] == [CONTENT]
    assert "1 jars from 127.0.0.1" in shown
    assert fetch(tmp_path, "http://127.0.0.1:1") == (found, "")


def test_file_that_was_put_there_by_hand_is_hashed(
    tmp_path: Path, maven: str, lock: list[Jar]
) -> None:
    file = tmp_path / "cache" / "jars" / "kafka" / "a-1.jar"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(len(CONTENT)))
    found, _ = fetch(tmp_path, maven)
    assert found == [file]
    assert file.read_bytes() == CONTENT


def test_truncated_file_is_fetched_again(tmp_path: Path, maven: str, lock: list[Jar]) -> None:
    (file,), _ = fetch(tmp_path, maven)
    file.write_bytes(CONTENT[:-1])
    fetch(tmp_path, maven)
    assert file.read_bytes() == CONTENT


def test_other_content_than_pinned_is_refused(tmp_path: Path, maven: str, lock: list[Jar]) -> None:
    lock[0] = Jar("a/a-1.jar", "0" * 64, len(CONTENT), "kafka")
    with pytest.raises(ServiceError, match=r"a-1\.jar .* is not the pinned file"):
        fetch(tmp_path, maven)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_missing_jar_is_named_with_status(tmp_path: Path, maven: str, lock: list[Jar]) -> None:
    lock[0] = Jar("a/b-2.jar", "0" * 64, 1, "kafka")
    with pytest.raises(ServiceError, match=r"b-2\.jar could not be downloaded.*HTTP status 404"):
        fetch(tmp_path, maven)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_unreachable_server_is_one_sentence(tmp_path: Path, lock: list[Jar]) -> None:
    with pytest.raises(ServiceError, match=r"a-1\.jar .*no connection; set MMGATEWAY_MAVEN"):
        fetch(tmp_path, "http://127.0.0.1:1")
    # urllib3 leaves refused sockets to the garbage collector: here, not in a later test.
    gc.collect()


def test_lock_file_is_complete() -> None:
    entries = locked()
    assert {jar.set for jar in entries} == {"kafka", "spark"}
    assert len({(jar.set, jar.name) for jar in entries}) == len(entries)
    for jar in entries:
        assert re.fullmatch(r"[\w./-]+\.jar", jar.path)
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)
        assert jar.size > 0
    names = {jar.name for jar in entries}
    assert {"kafka_2.13-4.1.2.jar", "spark-sql-kafka-0-10_2.13-4.1.3.jar"} <= names
