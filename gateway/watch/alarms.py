"""Alarms: what an operator should know without asking, told once when it begins and once after.

In the listener::

    announcer = Announcer(config.alarms, alarms_path(state), now=now, produce=send)
    announcer.start()
    watch = Watch(health, lambda: registry, config.alarms, announcer, now, refresh=update)
    watch.start()                # a thread of its own; or call watch.step(now()) from a timer
    ...
    watch.stop(); announcer.stop()

``produce(key, value)`` puts a message on ``mm.alarms``; ``refresh()`` tells the health what
only the listener knows (held messages, waiting maps, broken files). Commands, webhook and
topic are served by the announcer's own thread from a bounded queue: the listener never waits.

:func:`gateway.watch.alarmrules.alarms_in_force` is pure; ``mmgateway feeds stats`` uses it on a
snapshot.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from crossmatch.errors import ConfigError, GatewayError
from gateway.config import Alarms
from gateway.feeds.registry import Registry
from gateway.logs import EventLog
from gateway.runfiles import read_json, write_json
from gateway.watch.alarmrules import Alarm, AlarmKind, alarms_in_force
from gateway.watch.health import FeedHealth

__all__ = ["Alarm", "AlarmKind", "Announcer", "Watch", "alarms_in_force", "alarms_path"]

log = EventLog("listen")

Phase = Literal["begun", "over"]

_QUEUE = 100
_COMMAND_SECONDS = 30.0
_POST_SECONDS = 10.0
_POST_AGAIN = (1.0, 5.0, 30.0)


def alarms_path(state: Path) -> Path:
    """File in a state folder that remembers what was announced."""
    return state / "feeds" / "alarms.json"


class Announcer:
    """Tells each alarm once when it begins and once when it is over.

    Parameters
    ----------
    settings : Alarms
    path : Path
        Remembers what was told, so that a new start does not repeat it.
    now : callable
        UTC.
    produce : callable, optional
        Puts a key and a value on the topic of alarms.
    run, post : callable
        Run the command, with the JSON on its standard input, and return its exit status;
        send the JSON to the webhook. For tests.
    """

    def __init__(
        self,
        settings: Alarms,
        path: Path,
        *,
        now: Callable[[], datetime],
        produce: Callable[[bytes, bytes], object] | None = None,
        run: Callable[[Sequence[str], bytes], int] | None = None,
        post: Callable[[str, bytes], None] | None = None,
    ) -> None:
        if settings.webhook and not settings.webhook.startswith(("https://", "http://")):
            raise ConfigError("[alarms] webhook: expected an address that begins with https://")
        self._settings = settings
        self._path = path
        self._now = now
        self._produce = produce if settings.topic else None
        self._run = run or run_command
        self._post = post or post_json
        self._told = _read_told(path)
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(_QUEUE)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def told(self) -> list[Alarm]:
        """Alarms that were told and are not over."""
        return list(self._told.values())

    def start(self) -> None:
        """Begin to tell, in a thread of its own."""
        self._thread = threading.Thread(target=self._work, name="alarms", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Tell what waits, without trying anything twice, and end."""
        self._over.set()
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=timeout)
            except queue.Full:
                return
            self._thread.join(timeout)

    def announce(self, in_force: Sequence[Alarm]) -> list[tuple[Phase, Alarm]]:
        """Tell what is new and what is over; what that was.

        Raises
        ------
        ServiceError
            If it cannot be remembered; it was told all the same.
        """
        current = {alarm.key: alarm for alarm in in_force}
        begun = [a for key, a in current.items() if key not in self._told]
        over = [a for key, a in self._told.items() if key not in current]
        changes: list[tuple[Phase, Alarm]] = [
            *(("begun", a) for a in begun),
            *(("over", a) for a in over),
        ]
        for phase, alarm in changes:
            self._tell(phase, alarm)
        if changes:
            self._told = {k: self._told.get(k, a) for k, a in current.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"in_force": [a.as_dict() for a in self._told.values()]})
        return changes

    def _tell(self, phase: Phase, alarm: Alarm) -> None:
        tell = log.warning if phase == "begun" else log.info
        name = "alarm" if phase == "begun" else "alarm_over"
        tell(name, kind=alarm.kind, subject=alarm.subject, detail=alarm.sentence)
        told = {"phase": phase, "at": self._now().isoformat(), **alarm.as_dict()}
        try:
            self._queue.put_nowait((alarm.key, json.dumps(told).encode()))
        except queue.Full:
            log.error("alarm_not_sent", subject=alarm.subject, detail="too many wait to be sent")

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self.send(*item)

    def send(self, key: str, value: bytes) -> None:
        """Send one message to topic, command and webhook; failures are logged."""
        if self._produce is not None:
            try:
                self._produce(key.encode(), value)
            except Exception as error:
                # Whatever the topic's client raises: the command and the webhook are still told.
                log.error("alarm_not_sent", to="topic", alarm=key, detail=str(error))
        if self._settings.command:
            try:
                status = self._run(self._settings.command, value)
                log.info("alarm_command", alarm=key, exit_status=status)
            except (OSError, subprocess.SubprocessError) as error:
                # The text of some of these errors has the whole command line in it.
                detail = getattr(error, "strerror", None) or type(error).__name__
                log.error("alarm_not_sent", to="command", alarm=key, detail=detail)
        if self._settings.webhook:
            self._call(key, value)

    def _call(self, key: str, value: bytes) -> None:
        for wait in (*_POST_AGAIN, None):
            try:
                self._post(self._settings.webhook, value)
                return
            except (OSError, ValueError) as error:
                # The address may hold a secret, so it stays out of the log.
                detail = f"{type(error).__name__}: {error}".replace(self._settings.webhook, "***")
                log.error("alarm_not_sent", to="webhook", alarm=key, detail=detail)
            if wait is None or self._over.wait(wait):
                return


class Watch:
    """Looks at the health again and again, writes it down and has alarms told.

    Parameters
    ----------
    health : FeedHealth
    registry : callable
        The feeds as they are now.
    settings : Alarms
    announcer : Announcer
    now : callable
        UTC.
    refresh : callable
        Tells the health what only the listener knows, before each look.
    """

    def __init__(
        self,
        health: FeedHealth,
        registry: Callable[[], Registry],
        settings: Alarms,
        announcer: Announcer,
        now: Callable[[], datetime],
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self._health = health
        self._registry = registry
        self._settings = settings
        self._announcer = announcer
        self._now = now
        self._refresh = refresh
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, now: datetime) -> list[tuple[Phase, Alarm]]:
        """One look; what was told. A full disk is logged and does not end the watch."""
        self._refresh()
        try:
            self._health.save()
            registry = self._registry()
            health = self._health.snapshot()
            found = alarms_in_force(health, registry.feeds, self._settings, now, registry.paused)
            return self._announcer.announce(found)
        except (GatewayError, OSError) as error:
            log.error("watch_failed", detail=str(error))
            return []

    def start(
        self, every_seconds: float = 5.0, failed: Callable[[Exception], None] | None = None
    ) -> None:
        """Look every few seconds in a thread of its own; ``failed`` is told what ends it."""

        def work() -> None:
            try:
                while not self._over.wait(every_seconds):
                    self.step(self._now())
            except Exception as error:
                log.error("watch_ended", exc_info=True, detail=str(error))
                if failed is not None:
                    failed(error)

        self._thread = threading.Thread(target=work, name="watch", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End, and write the health down a last time."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout)
        try:
            self._health.save(at_once=True)
        except (GatewayError, OSError) as error:
            log.error("watch_failed", detail=str(error))


def run_command(command: Sequence[str], value: bytes) -> int:
    """Exit status of a command that gets ``value`` on standard input; no shell is involved.

    Raises
    ------
    OSError, subprocess.TimeoutExpired
    """
    done = subprocess.run(
        list(command),
        input=value,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    return done.returncode


def post_json(address: str, value: bytes) -> None:
    """POST ``value`` as JSON.

    Raises
    ------
    OSError
        When that fails, or is answered by an error status.
    """
    request = urllib.request.Request(
        address, value, {"Content-Type": "application/json", "User-Agent": "mmgateway"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_POST_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from error


def _read_told(path: Path) -> dict[str, Alarm]:
    told = {}
    for row in (read_json(path) or {}).get("in_force", []):
        try:
            since = datetime.fromisoformat(row["since"])
            alarm = Alarm(**{**row, "since": since if since.tzinfo else since.replace(tzinfo=UTC)})
        except (TypeError, ValueError, KeyError) as error:
            log.warning("alarms_not_read", file=path, detail=str(error))
            continue
        told[alarm.key] = alarm
    return told
