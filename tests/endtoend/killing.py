"""Ends processes of a running gateway as a power cut would: SIGKILL, without a word before.

Used by the tests of restarts and by ``make chaos``. Only processes that the supervisor of the
given state folder started, and their children, are ever touched.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
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


def everything(state: Path, service: str) -> list[int]:
    """The service with its process group (a negative number) and all else that it started.

    Whom to kill is asked before the moment comes: looking through /proc takes longer than
    many a transaction.
    """
    pid = pid_of(state, service)
    if not pid:
        return []
    below = [process.pid for process in descendants(pid)]
    # Kafka tells of its JVM, so that it dies where /proc does not name children.
    java = (services.endpoint(state, service) or {}).get("java_pid")
    # Each service leads a process group of its own; Kafka's JVM leads another one.
    return list(dict.fromkeys([-pid, *below, *([java] if java else [])]))


def leader(state: Path, service: str) -> list[int]:
    """Only the Python process of a service; what it started is left behind."""
    pid = pid_of(state, service)
    return [pid] if pid else []


def below(state: Path, service: str, which: Callable[[Process], bool]) -> list[int]:
    """Only those of a service's children that ``which`` chooses."""
    return [p.pid for p in descendants(pid_of(state, service) or -1) if which(p)]


def kill(pids: Sequence[int]) -> bool:
    """Kill processes and, where negative, process groups; whether the first was there."""
    return [_kill(pid) for pid in pids][:1] == [True]


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
