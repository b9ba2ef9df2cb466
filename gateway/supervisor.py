"""The process that keeps the services running: starts, watches, restarts with back-off, stops.

It is told what to keep running by ``run/wanted.json`` and answers by the files of
:mod:`gateway.runfiles`, so ``up``, ``down`` and ``status`` need no connection to it,
and a supervisor that was killed is replaced by one that takes over its services.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from crossmatch.errors import ServiceError
from gateway import runfiles
from gateway.logs import EventLog

SERVICES = ("kafka", "listen", "match", "publish")
"""In the order of starting; they stop in the reverse order."""

BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
"""A service that ran this long starts again from the shortest back-off."""
GRACE_SECONDS = 30.0
"""Between SIGTERM and SIGKILL."""
_BAD_CONFIGURATION = 2
_LOG_LIMIT_BYTES = 20_000_000

log = EventLog("supervisor")


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Holds the lock under which ``wanted.json`` changes and supervisors come and go."""
    path = runfiles.run_folder(state) / "lock"
    try:
        file = path.open("a")
    except OSError as error:
        raise ServiceError(f"{path}: cannot be opened: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def wanted(state: Path) -> tuple[tuple[str, ...], int]:
    """Services that should run, in the order of starting, and the number of the request."""
    record = runfiles.read_json(state / "run" / "wanted.json") or {}
    names = record.get("services", [])
    return tuple(s for s in SERVICES if s in names), int(record.get("request", 0))


def change_wanted(state: Path, *, add: Iterable[str] = (), drop: Iterable[str] = ()) -> int:
    """Ask for more or fewer services, under :func:`locked`; the number of this request."""
    names, request = wanted(state)
    chosen = (set(names) | set(add)) - set(drop)
    record = {"services": [s for s in SERVICES if s in chosen], "request": request + 1}
    runfiles.write_json(runfiles.run_folder(state) / "wanted.json", record)
    return request + 1


def log_path(state: Path, service: str) -> Path:
    """Where the output of ``service`` goes."""
    return state / "logs" / f"{service}.log"


def open_log(path: Path) -> BinaryIO:
    """File of a service's output, for its owner alone: it has names of private events.

    Raises
    ------
    OSError
        If it cannot be made or written to.
    """
    runfiles.make_state(path.parent.parent)
    path.parent.mkdir(exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def stop_process(pid: int, start: str, grace: float = GRACE_SECONDS) -> None:
    """End process ``pid`` (if it is still the one that began at ``start``) and its group.

    The process gets SIGTERM and ``grace`` seconds to stop its own children in order;
    what is left of its group is killed.
    """
    record = {"pid": pid, "start": start}
    if not runfiles.is_alive(record):
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not runfiles.wait_until(lambda: not runfiles.is_alive(record), grace):
        log.warning("service_killed", pid=pid, after_s=grace)
    _kill_group(pid)
    runfiles.wait_until(lambda: not runfiles.is_alive(record), 5)


def _kill_group(pid: int) -> None:
    # Each service leads a session, so the group holds what it started and left behind.
    if pid != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


@dataclass(slots=True)
class _Worker:
    """What the supervisor knows of one service."""

    popen: subprocess.Popen[bytes] | None = None
    pid: int = 0
    start: str = ""
    started_at: float = 0.0
    failures: int = 0
    restarts: int = 0
    next_start: float = 0.0
    log_start: int = 0
    given_up: bool = False
    status: int | None = None

    @property
    def known(self) -> bool:
        return self.pid != 0


class Supervisor:
    """Keeps the wanted services of one state folder running.

    Parameters
    ----------
    state : Path
    command : callable
        From the name of a service to the command that runs it in the foreground.
    needs : callable
        From the name of a service to what must be ready before it.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        state: Path,
        command: Callable[[str], list[str]],
        needs: Callable[[str], tuple[str, ...]] = lambda service: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._command = command
        self._needs = needs
        self._clock = clock
        self._workers = {name: _Worker() for name in SERVICES}
        self._request = -1
        self._stopping = False

    def run(self, step_seconds: float = 0.2) -> None:
        """Work until nothing is wanted any more or :meth:`stop` was called."""
        self._adopt()
        try:
            while not self._stopping:
                if not self.step() and self._leave():
                    return
                time.sleep(step_seconds)
            self._stop_all()
        finally:
            runfiles.withdraw(self._state, "supervisor")

    def stop(self) -> None:
        """Stop all services, then return from :meth:`run` (may be called in a signal handler)."""
        self._stopping = True

    def step(self) -> bool:
        """Bring what runs nearer to what is wanted; whether anything is wanted or runs."""
        names, request = wanted(self._state)
        if request != self._request:
            # A new request gives services that had been given up another chance.
            self._request = request
            for name, worker in self._workers.items():
                worker.given_up, worker.failures, worker.next_start = False, 0, 0.0
                if worker != _Worker():
                    self._write(name)
        for name in reversed(SERVICES):
            if name not in names:
                self._stop(name)
        for name in names:
            self._keep(name)
        return bool(names)

    def _keep(self, name: str) -> None:
        worker = self._workers[name]
        now = self._clock()
        if worker.known and not self._has_ended(worker):
            if worker.failures and now - worker.started_at > STEADY_SECONDS:
                worker.failures = 0
                self._write(name)
            return
        if worker.known:
            self._note_end(name, worker, now)
        if worker.given_up or now < worker.next_start:
            return
        if all(runfiles.endpoint(self._state, need) for need in self._needs(name)):
            self._start(name, worker, now)

    def _has_ended(self, worker: _Worker) -> bool:
        if worker.popen is None:
            return not runfiles.is_alive({"pid": worker.pid, "start": worker.start})
        # Look without collecting: until then its number, and that of its group, stay taken.
        found = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def _note_end(self, name: str, worker: _Worker, now: float) -> None:
        if worker.popen is not None:
            _kill_group(worker.pid)
            worker.status = worker.popen.wait()
        worker.given_up = worker.status == _BAD_CONFIGURATION
        pause = BACK_OFF_SECONDS[min(worker.failures, len(BACK_OFF_SECONDS) - 1)]
        worker.failures += 1
        worker.next_start = now + pause
        worker.pid, worker.popen = 0, None
        log.warning(
            "service_ended",
            name=name,
            status=worker.status,
            restart_in_s=None if worker.given_up else pause,
        )
        self._write(name)

    def _start(self, name: str, worker: _Worker, now: float) -> None:
        path = log_path(self._state, name)
        try:
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                path.replace(path.with_suffix(".log.1"))
            with open_log(path) as output:
                worker.log_start = output.tell()
                popen = subprocess.Popen(
                    self._command(name),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            worker.failures += 1
            worker.next_start = now + BACK_OFF_SECONDS[-1]
            log.error("service_not_started", name=name, reason=error.strerror)
            return
        if worker.failures:
            worker.restarts += 1
        worker.popen, worker.pid = popen, popen.pid
        worker.start = runfiles.start_mark(popen.pid)
        worker.started_at, worker.status = now, None
        log.info("service_started", name=name, pid=popen.pid)
        self._write(name)

    def _stop(self, name: str) -> None:
        worker = self._workers[name]
        if worker == _Worker():
            return
        if worker.known and not self._has_ended(worker):
            stop_process(worker.pid, worker.start)
        if worker.popen is not None:
            worker.popen.wait()
        (self._state / "run" / f"{name}.pid.json").unlink(missing_ok=True)
        log.info("service_stopped", name=name)
        self._workers[name] = _Worker()

    def _stop_all(self) -> None:
        with locked(self._state):
            change_wanted(self._state, drop=SERVICES)
        self.step()

    def _leave(self) -> bool:
        """Go, unless something was wanted again in the meantime."""
        with locked(self._state):
            if wanted(self._state)[0]:
                return False
            for name in SERVICES:
                (self._state / "run" / f"{name}.pid.json").unlink(missing_ok=True)
            runfiles.withdraw(self._state, "supervisor")
            return True

    def _adopt(self) -> None:
        """Take over what a killed supervisor left running."""
        for name, worker in self._workers.items():
            record = runfiles.pid_record(self._state, name)
            if record is not None and runfiles.is_alive(record):
                worker.pid, worker.start = record["pid"], record["start"]
                worker.started_at = self._clock()
                worker.restarts = int(record.get("restarts", 0))
                log.info("service_adopted", name=name, pid=worker.pid)

    def _write(self, name: str) -> None:
        worker = self._workers[name]
        record = {
            "service": name,
            "request": self._request,
            "pid": worker.pid,
            "start": worker.start,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "failures": worker.failures,
            "restarts": worker.restarts,
            "given_up": worker.given_up,
            "status": worker.status,
            "log_start": worker.log_start,
        }
        try:
            runfiles.write_json(runfiles.run_folder(self._state) / f"{name}.pid.json", record)
        except ServiceError as error:
            # A full disk must not leave the services without a supervisor.
            log.error("state_not_written", name=name, detail=str(error))
