"""The world outside: missions and surveys that send until somebody has taken it.

What they send arrives at least once. When Kafka is killed they send again, as the brokers of
GCN and of the surveys do, so the same bytes may lie there twice; the gateway counts those.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import kafka_io

ALERT_TOPIC = "alerts.ztf"


@dataclass
class Told:
    """Everything that was sent, each once: alerts, what is none, and notices with their topic."""

    packets: dict[bytes, None] = field(default_factory=dict)
    garbage: set[bytes] = field(default_factory=set)
    notices: dict[tuple[str, bytes], None] = field(default_factory=dict)
    """A notice by VTP has no topic."""


class Outside:
    """Sends alerts and notices; keeps what it sent.

    Parameters
    ----------
    bootstrap : str
    receiver_port : callable
        Port of the VTP receiver, None while there is none.
    """

    def __init__(self, bootstrap: str, receiver_port: Callable[[], int | None]) -> None:
        self.told = Told()
        self.again = 0
        """Messages that had to be handed to the client anew."""
        self._waiting = 0
        self._receiver_port = receiver_port
        self._authors: list[threading.Thread] = []
        # Without idempotence: its own bookkeeping may end a producer for good when a broker
        # dies; a repeated message is what missions send as well.
        self._producer = kafka_io.producer(
            bootstrap, {}, enable_idempotence=False, acks="all", message_timeout_ms=120_000
        )

    def alert(self, packet: bytes, key: bytes = b"") -> None:
        """One alert packet."""
        self.told.packets[packet] = None
        self._send(ALERT_TOPIC, packet, key)

    def garbage(self, packet: bytes) -> None:
        """Bytes on the alert topic that are no alert."""
        self.told.garbage.add(packet)
        self._send(ALERT_TOPIC, packet, b"")

    def notice(self, topic: str, payload: bytes) -> None:
        """One notice by a Kafka topic, or by VTP when ``topic`` is empty."""
        self.told.notices[(topic, payload)] = None
        if topic:
            self._send(topic, payload, b"")
            return
        author = threading.Thread(target=self._submit, args=(payload,), daemon=True)
        author.start()
        self._authors.append(author)

    @property
    def unsent(self) -> int:
        """Messages that nobody has taken yet."""
        self._producer.poll(0)
        return self._waiting + sum(author.is_alive() for author in self._authors)

    def poll(self, seconds: float) -> None:
        """Let the client work."""
        self._producer.poll(seconds)

    def _send(self, topic: str, value: bytes, key: bytes) -> None:
        self._waiting += 1

        def delivered(error: Any, _: Any) -> None:
            self._waiting -= 1
            if error is not None:
                self.again += 1
                self._send(topic, value, key)

        kafka_io.send(self._producer, topic, value, key, on_delivery=delivered)

    def _submit(self, packet: bytes) -> None:
        """Submit a VOEvent with Comet's own program until it has its receipt."""
        program = Path(sys.executable).parent / "comet-sendvo"
        with tempfile.NamedTemporaryFile(suffix=".xml") as file:
            file.write(packet)
            file.flush()
            while not self._submitted(program, file.name):
                self.again += 1
                time.sleep(0.3)

    def _submitted(self, program: Path, name: str) -> bool:
        port = self._receiver_port()
        if port is None:
            return False
        command = [program, "--host=127.0.0.1", f"--port={port}", "-f", name]
        try:
            done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0
