"""Start, stop and look at the services; the embedded Kafka."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossmatch.errors import ConfigError, ServiceError
from gateway import runfiles, supervisor
from gateway.config import Config
from gateway.logs import EventLog
from gateway.runfiles import announce, endpoint, withdraw
from gateway.supervisor import SERVICES
from gateway.topicspecs import (
    ALERT_PARTITIONS,
    ensure_all_topics,
    ensure_topics,
    own_alert_topics,
    private_topic_specs,
    topic_specs,
)

__all__ = [
    "ALERT_PARTITIONS",
    "SERVICES",
    "ServiceStatus",
    "announce",
    "down",
    "endpoint",
    "ensure_all_topics",
    "ensure_topics",
    "find_bootstrap",
    "own_alert_topics",
    "private_topic_specs",
    "run_kafka",
    "run_supervisor",
    "status",
    "topic_specs",
    "until_signal",
    "up",
    "up_in_foreground",
    "withdraw",
]

MIN_FREE_BYTES = 500 * 2**20
"""Kafka and the archive fail in worse ways when the disk fills up while they write."""
_TRIES = 3

log = EventLog("services")


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service as ``mmgateway status`` shows it.

    ``state`` is stopped, waiting (for another service, or before a new try),
    starting, running, failed (not tried again) or external.
    """

    service: str
    state: str
    pid: int | None = None
    since: str = ""
    endpoint: str = ""
    memory_mb: float | None = None
    restarts: int = 0
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def find_bootstrap(config: Config) -> str:
    """Address of the Kafka that holds our topics: the configured one, or the embedded one.

    Raises
    ------
    ServiceError
        If it is the embedded one and does not run.
    """
    if config.kafka.bootstrap:
        return config.kafka.bootstrap
    facts = endpoint(config.paths.state, "kafka")
    if facts is None:
        raise ServiceError(
            "Kafka does not run: start it with 'mmgateway up kafka',"
            " or set [kafka] bootstrap to a Kafka of yours"
        )
    return str(facts["bootstrap"])


def check_disk(state: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise ServiceError when ``state`` cannot be written or its disk is nearly full.

    It is made for its owner alone if it is not there.
    """
    folder = runfiles.run_folder(state)
    mode = state.stat().st_mode & 0o777
    if mode & 0o077:
        # Its owner may have reasons: it is not changed.
        log.warning(
            "state_folder_open",
            folder=state,
            mode=f"{mode:o}",
            detail="others may look at private events: chmod 700 unless they should",
        )
    if not os.access(folder, os.W_OK):
        raise ServiceError(f"{folder}: not writable; set [paths] state to a folder of yours")
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise ServiceError(
            f"{state}: only {free // 2**20} MiB free, {min_free_bytes // 2**20} MiB are needed;"
            " make room or set [paths] state to another disk"
        )


def up(
    config: Config,
    services: Iterable[str] = (),
    *,
    config_path: Path | None = None,
    timeout: float = 180.0,
    report: Callable[[ServiceStatus], None] | None = None,
) -> list[ServiceStatus]:
    """Start services and return when they are ready.

    Parameters
    ----------
    config : Config
    services : iterable of str
        Empty: all. The embedded Kafka is started with any of them.
    config_path : Path, optional
        File that ``config`` was read from; the services read it again.
    timeout : float
        Seconds until all must be ready.
    report : callable, optional
        Called when the state of a service changes.

    Raises
    ------
    ServiceError
        If one does not start; those that this call asked for are stopped again.
    ConfigError
        If there is nothing that could be started.
    """
    state = config.paths.state
    names = _selected(config, services)
    check_disk(state)
    if config.kafka.bootstrap:
        ensure_all_topics(config, config.kafka.bootstrap)
    with supervisor.locked(state):
        before = supervisor.wanted(state)[0]
        if endpoint(state, "supervisor") is None:
            # What an earlier supervisor was asked for is not asked for now, unless it still runs.
            gone = [n for n in before if not runfiles.is_alive(runfiles.pid_record(state, n))]
            supervisor.change_wanted(state, drop=gone)
            before = supervisor.wanted(state)[0]
        names = tuple(n for n in names if n in before or not endpoint(state, n))
        request = supervisor.change_wanted(state, add=names)
        if endpoint(state, "supervisor") is None:
            _start_supervisor(state, config_path)
    try:
        _wait_ready(config, names, request, timeout, report)
    except ServiceError:
        down(config, [n for n in names if n not in before])
        raise
    return status(config)


def _selected(config: Config, services: Iterable[str]) -> tuple[str, ...]:
    chosen = set(services)
    unknown = chosen - set(SERVICES)
    if unknown:
        raise ConfigError(f"no such service: {min(unknown)}; known: {', '.join(SERVICES)}")
    external = bool(config.kafka.bootstrap)
    if external and chosen == {"kafka"}:
        raise ConfigError(
            f"[kafka] bootstrap is {config.kafka.bootstrap}: nothing to start; leave it empty"
            " for the embedded Kafka"
        )
    if not external and not config.kafka.embedded:
        raise ConfigError("[kafka] has neither bootstrap nor embedded = true: set one of them")
    chosen = chosen or set(SERVICES)
    chosen = chosen - {"kafka"} if external else chosen | {"kafka"}
    return tuple(s for s in SERVICES if s in chosen)


def service_command(service: str, config_path: Path | None) -> list[str]:
    """The command line that runs one service (or ``supervisor``) in the foreground."""
    options = [] if config_path is None else ["--config", str(config_path.resolve())]
    return [sys.executable, "-m", "gateway.cli", *options, service]


def _start_supervisor(state: Path, config_path: Path | None) -> None:
    path = supervisor.log_path(state, "supervisor")
    try:
        with supervisor.open_log(path) as output:
            begin = output.tell()
            process = subprocess.Popen(
                service_command("supervisor", config_path),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceError(f"{path}: cannot be written: {error.strerror}") from error
    ready = runfiles.wait_until(
        lambda: endpoint(state, "supervisor") or process.poll() is not None, 30
    )
    if not ready or process.poll() is not None:
        raise ServiceError(f"the supervisor did not start: {_last_words(path, begin)}")


def _wait_ready(
    config: Config,
    names: tuple[str, ...],
    request: int,
    timeout: float,
    report: Callable[[ServiceStatus], None] | None,
) -> None:
    shown: dict[str, str] = {}

    def ready() -> bool:
        statuses = [status_of(config, name) for name in names]
        for one in statuses:
            if shown.get(one.service) != one.state:
                shown[one.service] = one.state
                if report is not None:
                    report(one)
            record = runfiles.pid_record(config.paths.state, one.service) or {}
            # What failed before this request does not count.
            current = record.get("request", -1) >= request
            over = record.get("given_up") or record.get("failures", 0) >= _TRIES
            # While it starts once more there is nothing to tell yet.
            if current and over and one.state in ("waiting", "failed"):
                raise ServiceError(f"{one.service} does not start: {one.error}")
        return all(one.state == "running" for one in statuses)

    if not runfiles.wait_until(ready, timeout, 0.1):
        late = ", ".join(n for n in names if shown.get(n) != "running")
        folder = supervisor.log_path(config.paths.state, late.partition(",")[0])
        raise ServiceError(f"not ready after {timeout:.0f} s: {late}; see {folder}")


def down(config: Config, services: Iterable[str] = ()) -> list[ServiceStatus]:
    """Stop services (empty: all) in the reverse order of starting, and wait for it.

    Only processes that the supervisor started are ended.
    """
    state = config.paths.state
    chosen = set(services) or set(SERVICES)
    unknown = chosen - set(SERVICES)
    if unknown:
        raise ConfigError(f"no such service: {min(unknown)}; known: {', '.join(SERVICES)}")
    if not (state / "run").is_dir():
        return status(config)
    with supervisor.locked(state):
        supervisor.change_wanted(state, drop=chosen)
        last = not supervisor.wanted(state)[0]
        keeper = endpoint(state, "supervisor")
        if keeper is None:
            _stop_orphans(state, chosen)
    patience = len(chosen) * (supervisor.GRACE_SECONDS + 10)
    if keeper is not None:
        runfiles.wait_until(lambda: _all_gone(state, chosen, keeper, last), patience)
        if not _all_gone(state, chosen, keeper, last):
            raise ServiceError(
                f"not all services stopped; see {supervisor.log_path(state, 'supervisor')}"
            )
    return status(config)


def _all_gone(state: Path, chosen: set[str], keeper: Mapping[str, Any], last: bool) -> bool:
    if last or not runfiles.is_alive(keeper):
        return not runfiles.is_alive(keeper)
    return all(runfiles.pid_record(state, name) is None for name in chosen)


def _stop_orphans(state: Path, chosen: set[str]) -> None:
    for name in reversed(SERVICES):
        record = runfiles.pid_record(state, name)
        if name in chosen and record is not None:
            if runfiles.is_alive(record):
                supervisor.stop_process(record["pid"], record["start"])
            (state / "run" / f"{name}.pid.json").unlink(missing_ok=True)


def status(config: Config) -> list[ServiceStatus]:
    """How every service is, in the order of starting."""
    return [status_of(config, name) for name in SERVICES]


def status_of(config: Config, service: str) -> ServiceStatus:
    """How one service is."""
    state = config.paths.state
    if service == "kafka" and config.kafka.bootstrap:
        return ServiceStatus("kafka", "external", endpoint=config.kafka.bootstrap)
    facts = endpoint(state, service)
    record = runfiles.pid_record(state, service) or {}
    restarts = int(record.get("restarts", 0))
    if facts is not None:
        return ServiceStatus(
            service,
            "running",
            pid=facts["pid"],
            since=facts["since"],
            endpoint=str(facts.get("endpoint") or facts.get("bootstrap") or ""),
            memory_mb=runfiles.memory_mb(facts["pid"]),
            restarts=restarts,
        )
    if runfiles.is_alive(record):
        memory = runfiles.memory_mb(record["pid"])
        return ServiceStatus(
            service, "starting", record["pid"], record["since"], "", memory, restarts
        )
    error = ""
    if record.get("failures"):
        error = _last_words(supervisor.log_path(state, service), int(record.get("log_start", 0)))
    if service not in supervisor.wanted(state)[0]:
        return ServiceStatus(service, "stopped")
    if record.get("given_up"):
        return ServiceStatus(service, "failed", restarts=restarts, error=error)
    return ServiceStatus(service, "waiting", restarts=restarts, error=error)


def _last_words(path: Path, begin: int) -> str:
    """What a service said last: its sentence for people, or else its last line."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            lines = file.read()[-20_000:].decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    lines = [line.strip() for line in lines if line.strip()]
    sentences = [line for line in lines if line.startswith("mmgateway: ")]
    if sentences:
        return sentences[-1].removeprefix("mmgateway: ")
    return f"{lines[-1]} (see {path})" if lines else f"it said nothing (see {path})"


def run_supervisor(config: Config, config_path: Path | None) -> None:
    """Be the supervisor until nothing is wanted any more, or SIGTERM or SIGINT."""
    state = config.paths.state
    external = bool(config.kafka.bootstrap)
    keeper = supervisor.Supervisor(
        state,
        command=lambda service: service_command(service, config_path),
        needs=lambda service: () if external or service == "kafka" else ("kafka",),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: keeper.stop())
    announce(state, "supervisor")
    keeper.run()


def up_in_foreground(config: Config, services: Iterable[str], *, config_path: Path | None) -> None:
    """Be the supervisor of ``services`` (empty: all) until SIGTERM or SIGINT, then stop them.

    Raises
    ------
    ServiceError
        If another supervisor runs on the same state.
    """
    state = config.paths.state
    names = _selected(config, services)
    check_disk(state)
    if config.kafka.bootstrap:
        ensure_all_topics(config, config.kafka.bootstrap)
    with supervisor.locked(state):
        other = endpoint(state, "supervisor")
        if other is not None:
            raise ServiceError(
                f"the gateway is up already (process {other['pid']}); 'mmgateway down' stops it"
            )
        supervisor.change_wanted(state, drop=SERVICES)
        supervisor.change_wanted(state, add=names)
    run_supervisor(config, config_path)


_OLD_PORT_SECONDS = 20.0


def run_kafka(config: Config) -> None:
    """Be the embedded Kafka, with all topics made, until SIGTERM or SIGINT."""
    from broker.embedded.java import find_java
    from broker.embedded.kafka import EmbeddedKafka, stop_running

    state = config.paths.state
    check_disk(state)
    folder = state / "kafka"
    # One that a killed predecessor left behind would hold the data, and nobody would watch it.
    if stop_running(folder):
        log.warning("kafka_left_behind_stopped", folder=folder)
    # After a crash the port of before, if it can be had: running clients know no other.
    before = runfiles.read_json(state / "run" / "kafka.json") or {}
    port = int(before.get("port", config.kafka.port))
    kafka = EmbeddedKafka(
        folder,
        port,
        config.kafka.controller_port,
        find_java(os.environ),
        patience=_OLD_PORT_SECONDS if before else 0.0,
    )

    def check() -> None:
        if kafka.pid is None:
            raise ServiceError(f"Kafka ended by itself; see {kafka.log}")

    try:
        kafka.start()
        kafka.wait_ready(60)
        ensure_all_topics(config, kafka.bootstrap)
        announce(state, "kafka", bootstrap=kafka.bootstrap, port=kafka.port, java_pid=kafka.pid)
        log.info("kafka_ready", bootstrap=kafka.bootstrap)
        until_signal(check)
    finally:
        withdraw(state, "kafka")
        kafka.stop()


def until_signal(check: Callable[[], None] = lambda: None) -> None:
    """Block until SIGTERM or SIGINT; ``check`` is called every second and may raise."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    while not over.wait(1.0):
        check()
