"""One real Kafka node (KRaft, no ZooKeeper) on loopback, as a child process."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.embedded.jars import KAFKA, fetch_jars
from broker.embedded.java import Java
from crossmatch.errors import ServiceError

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Where free ports are looked for: below those that systems give to clients."""
# GW notices with two sky maps exceed 2 MB, GCN's own limit is 4 MiB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024

# Retention goes by the broker's clock, for replayed packets may carry the time of their night.
# After a kill the node may join again only when its old session has ended: 5 s, not 9.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
message.max.bytes={max_bytes}
replica.fetch.max.bytes={max_bytes}
socket.request.max.bytes=104857600
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.max.timeout.ms=900000
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
log.retention.hours=168
log.message.timestamp.type=LogAppendTime
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=5000
"""

_LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRefs = file
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}}{{UTC}} %p %c: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A Kafka that some process started on a folder: process id and address."""

    pid: int
    bootstrap: str


class EmbeddedKafka:
    """A one-node Kafka that keeps its data in ``directory``.

    Parameters
    ----------
    directory : Path
        Data, settings, logs and the file ``kafka.pid``; the same folder continues the same data.
    port, controller_port : int
        Wanted ports on 127.0.0.1. Where one is 0 or taken, a free one is used instead.
    java : Java
        From `broker.embedded.java.find_java`.
    heap_mb : int
        Heap of the Java machine, in MiB.
    patience : float
        Seconds to wait for the wanted port, if clients that run know no other.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        controller_port: int,
        java: Java,
        *,
        heap_mb: int = 512,
        patience: float = 0.0,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.java = java
        self._wanted = (port, controller_port)
        self._patience = patience
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._attempts = 3
        self._log_start = 0
        self.port = port
        self.log = self.directory / "kafka.log"
        self.pid_file = self.directory / "kafka.pid"

    @property
    def bootstrap(self) -> str:
        """Address for clients; right once `start` has returned."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while the child that we started runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it takes connections a few seconds later (`wait_ready`).

        Raises
        ------
        ServiceError
            If the folder is in use or cannot be written, or Java does not start.
        """
        if self.pid is not None:
            return
        other = running(self.directory)
        if other is not None:
            raise ServiceError(
                f"{self.directory}: in use by a Kafka on {other.bootstrap} (process {other.pid})"
            )
        self.port, controller_port = _free_ports(self._wanted, self._patience)
        classpath = fetch_jars(KAFKA)
        try:
            self._write_settings(controller_port)
            if not (self.directory / "data" / "meta.properties").exists():
                self._format(classpath)
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            with (self.directory / "kafka.out").open("wb") as out:
                self._process = subprocess.Popen(
                    self._command(classpath, "kafka.Kafka", "server.properties"),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    # Of its own session: Ctrl-C at our terminal must not end it before its clients.
                    start_new_session=True,
                )
            self.pid_file.write_text(
                json.dumps({"pid": self._process.pid, "bootstrap": self.bootstrap}) + "\n"
            )
        except OSError as error:
            self.stop()
            raise ServiceError(
                f"Kafka cannot start in {self.directory}: {error.strerror}"
            ) from error

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when clients can list topics.

        Raises
        ------
        ServiceError
            If the process ends, or is not ready after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                self._try_again()
            if time.monotonic() > deadline:
                self.stop()
                raise ServiceError(f"Kafka was not ready after {timeout:.0f} s; see {self.log}")
            time.sleep(0.05)

    def stop(self, timeout: float = 20.0) -> None:
        """End the process: SIGTERM, and SIGKILL after ``timeout`` seconds; twice does no harm."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.pid_file.unlink(missing_ok=True)

    def __enter__(self) -> EmbeddedKafka:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _write_settings(self, controller_port: int) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "server.properties").write_text(
            _PROPERTIES.format(
                host=HOST,
                port=self.port,
                controller_port=controller_port,
                data=_escaped(self.directory / "data"),
                max_bytes=MAX_MESSAGE_BYTES,
            )
        )
        (self.directory / "log4j2.properties").write_text(_LOG4J.format(log=_escaped(self.log)))

    def _command(self, classpath: Sequence[Path], main: str, *arguments: str) -> list[str]:
        return [
            str(self.java.executable),
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseG1GC",
            "-XX:TieredStopAtLevel=1" if main != "kafka.Kafka" else "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={(self.directory / 'log4j2.properties').as_uri()}",
            f"-Dmmgateway.kafka={self.directory}",
            "-cp",
            os.pathsep.join(map(str, classpath)),
            main,
            *arguments,
        ]

    def _format(self, classpath: Sequence[Path]) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if cluster.startswith("-"):
            # The tool would take it for an option.
            cluster = "A" + cluster[1:]
        run = subprocess.run(
            self._command(
                classpath,
                "kafka.tools.StorageTool",
                *("format", "-t", cluster, "-c", "server.properties"),
            ),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            lines = (run.stderr or run.stdout).strip().splitlines()
            raise ServiceError(
                f"Kafka's storage in {self.directory} could not be made:"
                f" {lines[-1] if lines else f'status {run.returncode}'}"
            )

    def _try_again(self) -> None:
        """Start once more if another program was faster at our port; else raise the reason."""
        self.stop()
        reason, taken = self._reason()
        self._attempts -= 1
        if not taken or not self._attempts:
            raise ServiceError(f"Kafka ended while starting: {reason}")
        self._wanted = (self.port if self._patience else 0, 0)
        self.start()

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        # A look at the port first: librdkafka would back off for seconds after a refusal.
        try:
            socket.create_connection((HOST, self.port), 0.5).close()
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(admin.list_topics(timeout=2.0).brokers)
        except (OSError, KafkaException):
            return False

    def _reason(self) -> tuple[str, bool]:
        """Why it ended, as its output says, and whether a port was taken."""
        texts = []
        for file, start in ((self.directory / "kafka.out", 0), (self.log, self._log_start)):
            with contextlib.suppress(OSError):
                texts.append(file.read_bytes()[start:][-20_000:].decode("utf-8", "replace"))
        text = "\n".join(texts)
        known = {
            "No space left on device": f"no space left on the disk of {self.directory}",
            "Address already in use": f"port {self.port} was taken meanwhile",
            "Failed to acquire lock": f"{self.directory} is in use by another Kafka",
            "OutOfMemoryError": f"{self._heap_mb} MiB of heap do not suffice",
        }
        for sign, reason in known.items():
            if sign in text:
                return reason, sign == "Address already in use"
        lines = [x for x in text.splitlines() if "ERROR" in x or "FATAL" in x or "Error" in x]
        return (lines[-1].strip() if lines else f"no reason in {self.log}"), False


def running(directory: Path) -> Running | None:
    """The Kafka that runs on ``directory``, whoever started it; None if there is none."""
    directory = Path(directory).resolve()
    try:
        state = json.loads((directory / "kafka.pid").read_text("utf-8"))
        found = Running(int(state["pid"]), str(state["bootstrap"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # Process ids are used again: the command line must be ours.
    run = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(found.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return found if f"-Dmmgateway.kafka={directory} " in run.stdout else None


def stop_running(directory: Path, timeout: float = 20.0) -> bool:
    """End the Kafka that some process left running on ``directory``; whether there was one."""
    found = running(directory)
    if found is None:
        return False
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while running(directory) is not None:
        if time.monotonic() > deadline:
            os.kill(found.pid, signal.SIGKILL)
            deadline += timeout
        time.sleep(0.05)
    (Path(directory) / "kafka.pid").unlink(missing_ok=True)
    return True


def _escaped(path: Path) -> str:
    # In Java's property files a backslash escapes; log.dirs is split at commas.
    if "," in str(path):
        raise ServiceError(f"{path}: Kafka cannot keep data in a folder with a comma in its name")
    return str(path).replace("\\", "\\\\")


def _free_ports(wanted: tuple[int, int], patience: float = 0.0) -> tuple[int, int]:
    """Two ports on loopback: the wanted ones where they are free in time, else any."""
    with contextlib.ExitStack() as held:
        # Both are held until both are known, so that they differ.
        bound = [_bound(held, port, patience) for port in wanted]
        return bound[0], bound[1]


def _bound(held: contextlib.ExitStack, wanted: int, patience: float) -> int:
    deadline = time.monotonic() + patience
    while wanted and not _bind(held, wanted):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    else:
        if wanted:
            return wanted
    # Not from the system's own range: while Kafka is down, a client that keeps trying to reach
    # a port of that range may be given the same one for its own end, and keep Kafka out for good.
    for port in random.sample(_PORTS, 100):
        if _bind(held, port):
            return port
    probe = held.enter_context(socket.socket())
    probe.bind((HOST, 0))
    return int(probe.getsockname()[1])


def _bind(held: contextlib.ExitStack, port: int) -> bool:
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True
