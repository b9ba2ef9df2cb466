"""The whole gateway, started by its own command as an operator starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import kafka_io, topics
from broker.owed import PREFIX
from gateway import services
from gateway.config import ENV_PREFIX, Config, load

ROOT = Path(__file__).resolve().parents[2]
_KEPT = ("MMGATEWAY_CACHE", "MMGATEWAY_MAVEN")
# So that a test never speaks to a gateway that happens to run here.
FREE_PORTS = """
[kafka]
port = 0
controller_port = 0
[vtp]
receiver_port = 0
broadcast_port = 0
"""


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its configuration and where its Kafka is."""

    config: Config
    path: Path
    bootstrap: str

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command("--config", str(self.path), *arguments)

    def send(self, topic: str, values: list[bytes]) -> None:
        producer = kafka_io.producer(self.bootstrap, {})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(60) == 0

    def messages(self, topic: str) -> list[bytes]:
        return [m.value for m in kafka_io.read_all(self.bootstrap, {}, topic)]

    def state(self) -> dict[tuple[str, str], dict]:
        """Groups as stored: (event, object) to alerts and last statement."""
        return {
            (data["key"]["event_id"], data["key"]["object_id"]): data["group"]
            for name, data in self._state().items()
            if not name.startswith(PREFIX)
        }

    def searched(self) -> bool:
        """Whether no region is owed a search of the archive."""
        return not any(name.startswith(PREFIX) for name in self._state())

    def _state(self) -> dict[str, dict]:
        texts = {
            m.key.decode(): m.value for m in kafka_io.read_all(self.bootstrap, {}, topics.STATE)
        }
        return {name: json.loads(text) for name, text in texts.items() if text}

    def ledger(self, kind: str) -> dict[str, int]:
        total: dict[str, int] = {}
        for value in self.messages(topics.LEDGER):
            entry = json.loads(value)
            if entry["kind"] == kind:
                for name, count in entry["counts"].items():
                    total[name] = total.get(name, 0) + count
        return total


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``mmgateway`` as an operator calls it, whatever the environment of the tests says."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX) or k in _KEPT}
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env=environ,
    )


def until(condition: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether ``condition`` came true in time; the services answer in their own time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def running(folder: Path, settings: str = "", services_: Sequence[str] = ()) -> Iterator[Gateway]:
    """A gateway in ``folder`` with this TOML text, all services if none are named."""
    path = folder / "mmgateway.toml"
    state = json.dumps(str(folder / "data"))
    path.write_text(f"[paths]\nstate = {state}\n{FREE_PORTS}{settings}", "utf-8")
    config = load(path, environ={})
    try:
        done = command("--config", str(path), "up", *services_)
        assert done.returncode == 0, done.stderr
        yield Gateway(config, path, services.find_bootstrap(config))
    finally:
        done = command("--config", str(path), "down")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """All services with the TOML text that a test gives by ``indirect`` parametrization."""
    with running(tmp_path, getattr(request, "param", "")) as started:
        yield started
