"""The whole gateway, started by its own command as an operator starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import kafka_io, topics
from gateway import services
from gateway.config import Config, load

ROOT = Path(__file__).resolve().parents[2]


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
        groups = {}
        for value in self.messages(topics.STATE):
            data = json.loads(value)
            groups[(data["key"]["event_id"], data["key"]["object_id"])] = data["group"]
        return groups

    def ledger(self, kind: str) -> dict[str, int]:
        total: dict[str, int] = {}
        for value in self.messages(topics.LEDGER):
            entry = json.loads(value)
            if entry["kind"] == kind:
                for name, count in entry["counts"].items():
                    total[name] = total.get(name, 0) + count
        return total


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )


def until(condition: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether ``condition`` came true in time; the services answer in their own time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture
def gateway(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """All services with the TOML text that a test gives by ``indirect`` parametrization."""
    for name in ("MMGATEWAY_CONFIG", "MMGATEWAY_KAFKA__BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mmgateway.toml"
    state = json.dumps(str(tmp_path / "data"))
    path.write_text(f"[paths]\nstate = {state}\n{getattr(request, 'param', '')}", "utf-8")
    config = load(path, environ={})
    try:
        services.up(config, config_path=path)
        yield Gateway(config, path, services.find_bootstrap(config))
    finally:
        services.down(config)
