from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import topics
from crossmatch.errors import ConfigError, ServiceError
from gateway import logs, runfiles, services, supervisor
from gateway.config import Config, load
from gateway.supervisor import Supervisor

# Says that it is ready and waits for SIGTERM; what it is told on the command line it does first.
SERVICE = """\
import sys, pathlib, signal
from gateway.runfiles import announce
state, name, deed = sys.argv[1:4]
if deed == "wrong_configuration":
    print("mmgateway: [kafka] port: 1 is no port", file=sys.stderr)
    sys.exit(2)
if deed == "dies":
    print("mmgateway: the disk is full", file=sys.stderr)
    sys.exit(1)
announce(pathlib.Path(state), name, endpoint="here:1", bootstrap="here:1")
signal.pause()
"""


class Clock:
    """Monotonic seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A supervisor whose services are small scripts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.clock = Clock()
        self.deeds: dict[str, str] = {}
        self.keepers: list[Supervisor] = []
        self.config = load(None, {"MMGATEWAY_PATHS__STATE": f'"{state}"'})

    def supervisor(self) -> Supervisor:
        keeper = Supervisor(
            self.state,
            command=self._command,
            needs=lambda name: () if name == "kafka" else ("kafka",),
            clock=self.clock,
        )
        self.keepers.append(keeper)
        return keeper

    def collect(self) -> None:
        """Wait for the children, as init would after a supervisor was killed."""
        for keeper in self.keepers:
            for worker in keeper._workers.values():
                if worker.popen is not None:
                    worker.popen.wait(20)

    def _command(self, name: str) -> list[str]:
        deed = self.deeds.get(name, "runs")
        return [sys.executable, "-c", SERVICE, str(self.state), name, deed]

    def want(self, *names: str) -> None:
        with supervisor.locked(self.state):
            supervisor.change_wanted(self.state, drop=supervisor.SERVICES)
            supervisor.change_wanted(self.state, add=names)

    def until_state(self, keeper: Supervisor, name: str, state: str) -> services.ServiceStatus:
        def reached() -> bool:
            keeper.step()
            return services.status_of(self.config, name).state == state

        assert runfiles.wait_until(reached, 20), services.status_of(self.config, name)
        return services.status_of(self.config, name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    bench = Bench(tmp_path)
    yield bench
    services.down(bench.config)
    bench.collect()


def test_service_runs_once_what_it_needs_is_ready(bench: Bench) -> None:
    keeper = bench.supervisor()
    bench.want("listen")
    keeper.step()
    assert services.status_of(bench.config, "listen").state == "waiting"
    bench.want("kafka", "listen")
    one = bench.until_state(keeper, "listen", "running")
    assert one.endpoint == "here:1"
    assert one.pid != services.status_of(bench.config, "kafka").pid
    assert services.find_bootstrap(bench.config) == "here:1"
    bench.want()
    assert not keeper.step()
    assert {s.state for s in services.status(bench.config)} == {"stopped"}


def test_service_that_dies_is_started_again_after_a_pause(bench: Bench) -> None:
    keeper = bench.supervisor()
    bench.want("kafka")
    first = bench.until_state(keeper, "kafka", "running").pid
    assert first is not None
    os.kill(first, 9)
    waiting = bench.until_state(keeper, "kafka", "waiting")
    assert waiting.pid is None
    keeper.step()
    assert services.status_of(bench.config, "kafka").state == "waiting"
    bench.clock.now += supervisor.BACK_OFF_SECONDS[0]
    again = bench.until_state(keeper, "kafka", "running")
    assert again.pid != first
    assert again.restarts == 1
    bench.want()
    keeper.step()


def test_pauses_grow_while_it_keeps_dying(bench: Bench) -> None:
    bench.deeds["kafka"] = "dies"
    keeper = bench.supervisor()
    bench.want("kafka")

    def failures() -> int:
        return int((runfiles.pid_record(bench.state, "kafka") or {}).get("failures", 0))

    for number, pause in enumerate(supervisor.BACK_OFF_SECONDS[:3], start=1):
        assert runfiles.wait_until(lambda n=number: keeper.step() and failures() == n, 20)
        bench.clock.now += pause * 0.9
        keeper.step()
        assert services.status_of(bench.config, "kafka").state == "waiting"
        assert services.status_of(bench.config, "kafka").error == "the disk is full"
        bench.clock.now += pause * 0.2


def test_wrong_configuration_is_not_tried_again(bench: Bench) -> None:
    bench.deeds["kafka"] = "wrong_configuration"
    keeper = bench.supervisor()
    bench.want("kafka")
    failed = bench.until_state(keeper, "kafka", "failed")
    assert failed.error == "[kafka] port: 1 is no port"
    bench.clock.now += 1000
    keeper.step()
    assert services.status_of(bench.config, "kafka").state == "failed"
    bench.deeds.clear()
    bench.want("kafka")
    bench.until_state(keeper, "kafka", "running")
    bench.want()
    keeper.step()


def test_new_supervisor_takes_over_from_a_killed_one(bench: Bench) -> None:
    bench.want("kafka")
    first = bench.until_state(bench.supervisor(), "kafka", "running").pid
    second = bench.supervisor()
    second._adopt()
    second.step()
    assert services.status_of(bench.config, "kafka").pid == first
    bench.want()
    second.step()
    assert services.status_of(bench.config, "kafka").state == "stopped"


def test_down_without_a_supervisor_ends_what_it_left(bench: Bench) -> None:
    bench.want("kafka")
    pid = bench.until_state(bench.supervisor(), "kafka", "running").pid
    assert pid is not None
    services.down(bench.config)
    assert runfiles.start_mark(pid) == ""


def test_process_with_a_used_number_is_left_alone() -> None:
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        supervisor.stop_process(other.pid, "another start")
        assert runfiles.start_mark(other.pid) != ""
    finally:
        other.kill()
        other.wait()


def test_what_was_announced_counts_while_its_process_lives(tmp_path: Path) -> None:
    runfiles.announce(tmp_path, "listen", receiver_port=5)
    facts = runfiles.endpoint(tmp_path, "listen")
    assert facts is not None
    assert (facts["pid"], facts["receiver_port"]) == (os.getpid(), 5)
    runfiles.write_json(tmp_path / "run" / "listen.json", facts | {"start": "long ago"})
    assert runfiles.endpoint(tmp_path, "listen") is None
    runfiles.withdraw(tmp_path, "listen")
    assert not (tmp_path / "run" / "listen.json").exists()


def test_damaged_run_file_is_none(tmp_path: Path) -> None:
    (runfiles.run_folder(tmp_path) / "kafka.json").write_text("{")
    assert runfiles.endpoint(tmp_path, "kafka") is None


def configured(tmp_path: Path, **values: str) -> Config:
    environ = {f"MMGATEWAY_{key.upper()}": value for key, value in values.items()}
    return load(None, {"MMGATEWAY_PATHS__STATE": f'"{tmp_path}"', **environ})


def test_missing_kafka_is_a_sentence_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="mmgateway up kafka"):
        services.find_bootstrap(configured(tmp_path))


def test_full_disk_is_a_sentence_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"MiB free.*\[paths\] state"):
        services.check_disk(tmp_path, min_free_bytes=2**62)


def test_state_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"\[paths\] state"):
        services.check_disk(tmp_path / "file" / "state")


def test_external_kafka_is_not_ours_to_start(tmp_path: Path) -> None:
    config = configured(tmp_path, kafka__bootstrap="kafka:9092")
    assert services.status_of(config, "kafka").state == "external"
    with pytest.raises(ConfigError, match="nothing to start"):
        services.up(config, ["kafka"])


def test_neither_embedded_nor_external_kafka_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bootstrap"):
        services.up(configured(tmp_path, kafka__embedded="false"))


def test_every_topic_is_kept_as_it_must_be() -> None:
    specs = {s.name: s for s in services.topic_specs(["alerts.ztf"])}
    for name in ("mm.state", "mm.marker"):
        assert specs[name].config["cleanup.policy"] == "compact"
    kept = ("mm.notices", "mm.regionlog", "mm.regions", "mm.held", "mm.deadletter", "mm.ledger",
            "mm.alarms", "mm.voevents")  # fmt: skip
    for name in (*kept, "mm.candidates.gw", "mm.candidates.gw.test"):
        assert specs[name].config["retention.ms"] == "-1"
        assert specs[name].partitions == 1
    for name in (
        "mm.notices",
        "mm.regionlog",
        "mm.regions",
        "mm.held",
        "mm.state",
        "mm.deadletter",
        "alerts.ztf",
    ):
        assert specs[name].config["max.message.bytes"] == str(8 * 2**20)
    assert specs["alerts.ztf"].partitions == 4
    assert {"mm.candidates.gw", "mm.candidates.gw.test", "mm.voevents"} <= specs.keys()


def test_private_streams_have_topics_of_their_own_kept_as_the_public_ones() -> None:
    public = {s.name: s for s in services.topic_specs()}
    added = {s.name: s for s in services.topic_specs(streams=["b", "a", "b"])}
    private = [s for s in added.values() if s.name not in public]
    assert private == services.private_topic_specs(["a", "b"])
    assert len(private) == len({s.name for s in private}) == 2 * (4 + 12)
    for spec in private:
        topic, stream = topics.place_of(spec.name)
        assert stream in ("a", "b")
        assert (spec.partitions, spec.config) == (public[topic].partitions, public[topic].config)
    whats = {topics.place_of(s.name)[0] for s in private}
    assert whats - set(topics.all_candidates()) == {
        "mm.notices", "mm.regions", "mm.deadletter", "mm.voevents"
    }  # fmt: skip


def test_log_events_are_one_line_without_secrets() -> None:
    stream = io.StringIO()
    handler = logs.start_logging(stream)
    log = logs.EventLog("listen")
    log.warning("notice_rejected", detail='two\nlines "quoted"', client_secret="hush", offset=3)
    logging.getLogger("mmgateway").removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    assert "event=notice_rejected" in line
    assert r'detail="two\nlines \"quoted\""' in line
    assert "hush" not in line
    assert line.endswith("offset=3")


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_state_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    services.check_disk(state, 0)
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("usual_umask")
def test_state_folder_that_others_may_read_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    told = io.StringIO()
    handler = logs.start_logging(told)
    try:
        services.check_disk(state, 0)
        state.chmod(0o700)
        services.check_disk(state, 0)
    finally:
        logging.getLogger("mmgateway").removeHandler(handler)
    lines = told.getvalue().splitlines()
    assert len(lines) == 1
    assert "event=state_folder_open" in lines[0]
    assert "mode=755" in lines[0]


@pytest.mark.usefixtures("usual_umask")
def test_logs_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = supervisor.log_path(tmp_path / "state", "listen")
    for line in (b"one\n", b"two\n"):
        with supervisor.open_log(path) as file:
            file.write(line)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
