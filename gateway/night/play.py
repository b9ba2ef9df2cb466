"""Send the notices and alerts of the night when their moment comes on the accelerated clock."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from broker import kafka_io
from crossmatch.errors import ServiceError
from gateway import services
from gateway.config import Config
from gateway.night.alerts import TimedAlert
from gateway.night.notices import Timed
from gateway.night.screen import Bar
from gateway.night.tell import Teller
from gateway.night.timeline import Schedule
from gateway.night.watch import Watcher

ALERT_TOPIC = "alerts.ztf"
_QUIET_SECONDS = 60.0


@dataclass
class Sent:
    """Wall times of sending, by notice digest and by alert id, and how many went out."""

    times: dict[str, float] = field(default_factory=dict)
    notices: int = 0
    alerts: int = 0


class Player:
    """Sends notices and alerts when their moment comes on the accelerated clock."""

    def __init__(
        self,
        config: Config,
        bootstrap: str,
        sent: Sent,
        teller: Teller,
        watcher: Watcher,
        bar: Bar,
        total: int,
    ) -> None:
        self._producer: Producer = kafka_io.producer(bootstrap, config.kafka.properties)
        listen = services.endpoint(config.paths.state, "listen") or {}
        self._receiver_port = int(listen["receiver_port"])
        self._sent = sent
        self._teller = teller
        self._watcher = watcher
        self._bar = bar
        self._total = total
        self._begin = time.monotonic()

    def play(
        self, schedule: Schedule, night_notices: list[Timed], night_alerts: list[TimedAlert]
    ) -> None:
        """Send everything in order."""
        self._begin = time.monotonic()
        for item in schedule.merged(night_notices, night_alerts):
            self._wait_for(schedule.wall_seconds(item.sent), item)
            if isinstance(item, Timed):
                self._notice(item)
            else:
                self._alert(item)
        self._producer.flush(60)

    def _wait_for(self, wall_seconds: float, item: Timed | TimedAlert) -> None:
        moment = self._begin + wall_seconds
        if self._sent.alerts % 200 and moment - time.monotonic() < 0.02:
            return
        self._teller.clock = item.sent.strftime("%d %H:%M")
        self._show()
        while (left := moment - time.monotonic()) > 0:
            self._producer.poll(min(left, 0.1))
            self._show()

    def _show(self) -> None:
        seen = self._watcher.seen
        seconds = max(time.monotonic() - self._begin, 0.1)
        self._bar.update(
            self._sent.alerts,
            f"{self._teller.clock} UTC  {self._sent.alerts:,} alerts"
            f" ({self._sent.alerts / seconds:,.0f}/s)  {seen.alert_ledger['matched']:,} matched"
            f"  {len(seen.statements):,} statements",
        )

    def _notice(self, timed: Timed) -> None:
        self._catch_up()
        self._teller.tell_withdrawn()
        self._teller.notice(timed)
        self._sent.times[hashlib.sha256(timed.payload).hexdigest()] = time.time()
        self._sent.notices += 1
        if timed.via == "vtp":
            _comet_sendvo(timed.payload, self._receiver_port)
        else:
            self._producer.produce(timed.topic, timed.payload)
            self._producer.flush(30)

    def _catch_up(self) -> None:
        """Let the broker take in the alerts before a notice first, as the night did.

        A slow machine would otherwise meet a region and its revision in one batch; the
        clock stands still meanwhile.
        """
        self._producer.flush(30)
        began = time.monotonic()
        while self._watcher.seen.alert_ledger["received"] < self._sent.alerts:
            if time.monotonic() - began > _QUIET_SECONDS or self._watcher.failure is not None:
                break
            time.sleep(0.05)
            self._show()
        self._begin += time.monotonic() - began

    def _alert(self, alert: TimedAlert) -> None:
        self._sent.times[str(alert.candid)] = time.time()
        self._sent.alerts += 1
        kafka_io.send(self._producer, ALERT_TOPIC, alert.payload, alert.object_id.encode())


def _comet_sendvo(packet: bytes, port: int) -> None:
    """Submit a VOEvent as any author does, with Comet's own program."""
    program = Path(sys.executable).parent / "comet-sendvo"
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(packet)
        file.flush()
        done = subprocess.run(
            [program, "--host=127.0.0.1", f"--port={port}", "-f", file.name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.returncode != 0:
        raise ServiceError(f"comet-sendvo was refused: {(done.stderr or done.stdout)[-300:]}")


@contextmanager
def vtp_subscriber(port: int) -> Iterator[list[bytes]]:
    """What a VTP client gets over TCP while the night is played."""
    from twisted.internet import reactor

    from voevents.vtp import Subscriber

    running: Any = reactor
    received: list[bytes] = []
    client: Any = Subscriber(
        running,
        "127.0.0.1",
        port,
        "ivo://org.mmgateway.demo/robot",
        lambda packet, _: received.append(packet),
    )
    running.callWhenRunning(client.start)
    thread = threading.Thread(
        target=running.run, kwargs={"installSignalHandlers": False}, daemon=True
    )
    thread.start()
    try:
        yield received
    finally:
        running.callFromThread(running.stop)
        thread.join(10)


def until_quiet(watcher: Watcher, sent: Sent, received: list[bytes], bar: Bar) -> bool:
    """Wait until everything that was sent is accounted for and published; False if in vain."""
    deadline = time.monotonic() + _QUIET_SECONDS + sent.alerts / 2000

    def complete() -> bool:
        seen = watcher.seen
        return (
            seen.alert_ledger["received"] >= sent.alerts
            and seen.notice_ledger["received"] >= sent.notices
            and seen.voevents >= len(seen.statements)
            and len(received) >= seen.for_vtp
            and watcher.failure is None
        )

    calm = 0
    while calm < 10 and time.monotonic() < deadline and watcher.failure is None:
        calm = calm + 1 if complete() else 0
        bar.update(sent.alerts, "waiting for the last answers")
        time.sleep(0.1)
    return calm >= 10
