"""Who runs: one small JSON file a service under ``<state>/run``, and the processes behind them.

``<service>.json`` is written by the service itself once it is ready (its *endpoint*);
``<service>.pid.json`` by the supervisor that started it. A process is known by its
number *and* its start time, since numbers are used again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossmatch.errors import ServiceError


def make_state(state: Path) -> None:
    """Make the state folder for its owner alone, who sees what is private; as it is if it is there.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    state.mkdir(mode=0o700, exist_ok=True)


def run_folder(state: Path) -> Path:
    """``<state>/run``, made if it is not there.

    Raises
    ------
    ServiceError
        If it cannot be made or written to.
    """
    folder = state / "run"
    try:
        make_state(state)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"{folder}: cannot be made: {error.strerror}; set [paths] state to a folder of yours"
        ) from error
    return folder


def write_json(path: Path, record: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write ``record`` so that a reader sees the old file or the whole new one.

    Without ``indent`` much faster: for files that are large and written often.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(record, indent=indent))
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ServiceError(f"{path}: cannot be written: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The record in ``path``; None if there is none or it is damaged."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def announce(state: Path, service: str, **facts: Any) -> None:
    """Say that ``service``, this process, is ready; others read ``facts`` (ports, addresses)."""
    pid = os.getpid()
    record = {
        "service": service,
        "pid": pid,
        "start": start_mark(pid),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
    write_json(run_folder(state) / f"{service}.json", record)


def withdraw(state: Path, service: str) -> None:
    """Take back what this process announced."""
    path = state / "run" / f"{service}.json"
    record = read_json(path)
    if record is not None and record.get("pid") == os.getpid():
        path.unlink(missing_ok=True)


def endpoint(state: Path, service: str) -> dict[str, Any] | None:
    """What ``service`` announced, if the process that did so is alive."""
    record = read_json(state / "run" / f"{service}.json")
    return record if is_alive(record) else None


def pid_record(state: Path, service: str) -> dict[str, Any] | None:
    """What the supervisor wrote about ``service``, whether it is alive or not."""
    return read_json(state / "run" / f"{service}.pid.json")


def is_alive(record: Mapping[str, Any] | None) -> bool:
    """Whether the very process that ``record`` names (pid and start) still runs."""
    if record is None or not isinstance(record.get("pid"), int) or not record.get("start"):
        return False
    return bool(start_mark(record["pid"]) == record["start"])


def start_mark(pid: int) -> str:
    """What tells process ``pid`` from a later one with its number; empty if it does not run.

    A process that has ended and waits to be collected (a zombie) does not run.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _start_by_ps(pid)
    except (OSError, ValueError):
        return ""
    # The name in parentheses may hold spaces: count from its end (proc(5), fields 3 and 22).
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{_boot_id()}:{fields[19]}"


def _boot_id() -> str:
    # Start times count from boot, so they may repeat after one.
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    except OSError:
        return "boot"


def _start_by_ps(pid: int) -> str:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, start = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else start.strip()


def memory_mb(pid: int) -> float | None:
    """Resident memory of ``pid`` and its children in MiB; None where /proc does not tell."""
    total = 0.0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            pages = int(Path(f"/proc/{current}/statm").read_text("ascii").split()[1])
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(p) for p in (task / "children").read_text("ascii").split()]
        except (OSError, IndexError, ValueError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return total or None


def wait_until(condition: Any, timeout: float, step: float = 0.05) -> bool:
    """Whether ``condition()`` became true within ``timeout`` seconds."""
    limit = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= limit:
            return False
        time.sleep(step)
    return True
