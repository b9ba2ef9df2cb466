"""Ends processes of a running gateway as a power cut would: SIGKILL, without a word before.

Used by the tests of restarts and by ``make chaos``. Only processes that the supervisor of the
given state folder started, and their children, are ever touched.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway import services
from gateway.runfiles import is_alive, pid_record


@dataclass(frozen=True)
class Process:
    """A process as /proc tells of it."""

    pid: int
    command: str


def pid_of(state: Path, service: str) -> int:
    """Process of a service, ready or still starting; 0 if it does not run."""
    record = pid_record(state, service)
    return int(record["pid"]) if record is not None and is_alive(record) else 0


def is_back(state: Path, service: str, old: int) -> bool:
    """Whether a service is ready again in another process than ``old``."""
    facts = services.endpoint(state, service)
    return facts is not None and facts["pid"] != old


def descendants(pid: int) -> list[Process]:
    """Children of a process and theirs, nearest first."""
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        try:
            tasks = list(Path(f"/proc/{waiting.pop(0)}/task").iterdir())
            children = [int(c) for t in tasks for c in (t / "children").read_text("ascii").split()]
        except OSError:
            continue
        waiting += children
        found += [Process(child, _command(child)) for child in children]
    return found


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return ""


def is_java(process: Process) -> bool:
    """Whether it is a JVM."""
    return process.command.partition(" ")[0].endswith("java")


def is_spark_worker(process: Process) -> bool:
    """Whether it is a Python worker of Spark's, or the daemon that forks them."""
    return "pyspark.daemon" in process.command or "pyspark.worker" in process.command


def is_reader(process: Process) -> bool:
    """Whether it is the process in which the listener reads notices."""
    return "sandbox" in process.command


def kill_all(state: Path, service: str) -> bool:
    """The service with its process group and all else that it started; whether it ran."""
    pid = pid_of(state, service)
    if not pid:
        return False
    below = [process.pid for process in descendants(pid)]
    # Kafka tells of its JVM, so that it dies where /proc does not name children.
    java = (services.endpoint(state, service) or {}).get("java_pid")
    with suppress(ProcessLookupError):
        # Each service leads a process group of its own; Kafka's JVM leads another one.
        os.killpg(pid, signal.SIGKILL)
    for child in {*below, *([java] if java else [])}:
        _kill(child)
    return True


def kill_leader(state: Path, service: str) -> bool:
    """Only the Python process of a service; what it started is left behind."""
    pid = pid_of(state, service)
    return bool(pid) and _kill(pid)


def kill_below(state: Path, service: str, which: Callable[[Process], bool]) -> bool:
    """Only those of a service's children that ``which`` chooses; whether there were any."""
    chosen = [p for p in descendants(pid_of(state, service) or -1) if which(p)]
    return [_kill(process.pid) for process in chosen].count(True) > 0


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
