"""The rights of deploy/kafka-acls.sh suffice: the services run on a Kafka that checks them."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker import kafka_io, topics
from broker.codec import decode, encode_candidate
from broker.embedded.jars import KAFKA, fetch_jars
from broker.embedded.java import find_java
from broker.embedded.kafka import HOST, EmbeddedKafka, _free_ports
from broker.ledger import alert_hole
from crossmatch.columns import CANDIDATE_FIELDS
from crossmatch.errors import ServiceError
from gateway import services

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "kafka-acls.sh"
NOTICE = ROOT / "tests" / "data" / "notices" / "gbm_final.xml"
PASSWORD = 'pa ss"wo=rd,'
NEVER = 60.0
OTHERS = ("match", "publish", "alerts", "operator", "reader", "stream-ourteam", "stream-otherteam")
OURS = "mm.private.ourteam.candidates.gw"


class SecuredKafka(EmbeddedKafka):
    """With a second listener that asks for SCRAM, and with rights that are checked there."""

    secured = ""

    def _write_settings(self, controller_port: int) -> None:
        super()._write_settings(controller_port)
        port, _ = _free_ports((0, 0))
        self.secured = f"{HOST}:{port}"
        file = self.directory / "server.properties"
        lines = [
            f"{line},SECURED://{self.secured}"
            if line.startswith(("listeners=", "advertised.listeners="))
            else line
            for line in file.read_text("utf-8").splitlines()
            if not line.startswith("auto.create")
        ]
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        lines += [
            "listener.security.protocol.map="
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_PLAINTEXT",
            "listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"listener.name.secured.scram-sha-512.sasl.jaas.config={scram} required;",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
            "auto.create.topics.enable=false",
        ]
        file.write_text("\n".join(lines) + "\n", "utf-8")


def properties(user: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": PASSWORD,
    }


def run_script(kafka: SecuredKafka, tools: Path, action: str, **environ: str) -> None:
    subprocess.run(
        ["sh", str(SCRIPT), action],
        env=os.environ
        | {"KAFKA_BOOTSTRAP": kafka.bootstrap, "KAFKA_BIN": str(tools), "KAFKA_ADMIN": ""}
        | environ,
        check=True,
        capture_output=True,
    )


def make_tools(folder: Path) -> None:
    """``kafka-configs.sh`` as it is; ``kafka-acls.sh``, whose jar we lack, notes its arguments."""
    java = find_java(os.environ).executable
    classpath = os.pathsep.join(map(str, fetch_jars(KAFKA)))
    folder.mkdir()
    for name, line in {
        "kafka-configs.sh": f"{shlex.quote(str(java))} -XX:TieredStopAtLevel=1"
        f' -cp {shlex.quote(classpath)} kafka.admin.ConfigCommand "$@"',
        "kafka-acls.sh": f'echo "$*" >> {shlex.quote(str(folder / "calls"))}',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)


def binding(call: str) -> list[AclBinding]:
    """What one call of Kafka's own kafka-acls.sh would give."""
    words = call.split()
    given = dict(itertools.pairwise(words))
    operations = [words[i + 1] for i, word in enumerate(words) if word == "--operation"]
    kinds = {
        "--topic": ResourceType.TOPIC,
        "--group": ResourceType.GROUP,
        "--transactional-id": ResourceType.TRANSACTIONAL_ID,
    }
    (option,) = kinds.keys() & given.keys()
    return [
        AclBinding(
            kinds[option],
            given[option],
            ResourcePatternType[given["--resource-pattern-type"].upper()],
            given["--allow-principal"],
            "*",
            AclOperation[operation.upper()],
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    folder = tmp_path_factory.mktemp("secured")
    make_tools(folder / "tools")
    with SecuredKafka(folder / "kafka", 0, 0, find_java(os.environ)) as running:
        run_script(running, folder / "tools", "acls", STREAMS="ourteam otherteam")
        calls = (folder / "tools" / "calls").read_text("utf-8").splitlines()
        admin = AdminClient({"bootstrap.servers": running.bootstrap})
        bindings = [entry for call in calls for entry in binding(call)]
        for future in admin.create_acls(bindings).values():
            future.result(NEVER)
        # One by the script, which starts a Java machine for each; the others by a shorter way.
        run_script(running, folder / "tools", "users", LISTEN_PASSWORD=PASSWORD)
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
        others = [f"mmgateway-{name}" for name in OTHERS]
        made = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, scram, PASSWORD.encode()) for name in others]
        )
        for future in made.values():
            future.result(NEVER)
        yield running


def table(values: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in values.items()) + " }"


class Gateway:
    """Three services, each with the user of its own."""

    def __init__(self, kafka: SecuredKafka, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def environ(self, service: str) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("MMGATEWAY_")}
        return plain | {
            "MMGATEWAY_PATHS__STATE": str(self.folder / "state"),
            "MMGATEWAY_KAFKA__BOOTSTRAP": self.kafka.secured,
            "MMGATEWAY_KAFKA__PROPERTIES": table(properties(f"mmgateway-{service}")),
            "MMGATEWAY_MATCH__ALERT_BOOTSTRAP": "",
            "MMGATEWAY_MATCH__DRIVER_MEMORY": "1g",
            "MMGATEWAY_VTP__RECEIVER_PORT": "0",
            "MMGATEWAY_VTP__BROADCAST_PORT": "0",
            "MMGATEWAY_LISTEN__FOLDER": str(self.folder / "inbox"),
            "MMGATEWAY_PUBLISH__MIN_TIER": "bronze",
            "PYTHONPATH": str(ROOT),
        }

    def command(self, service: str, *arguments: str) -> list[str]:
        production = ROOT / "deploy" / "mmgateway.production.toml"
        return [
            sys.executable,
            "-m",
            "gateway.cli",
            "--config",
            str(production),
            "--debug",
            *arguments,
        ]

    def start(self, service: str) -> None:
        with (self.folder / f"{service}.log").open("wb") as log:
            self.running[service] = subprocess.Popen(
                self.command(service, service),
                env=self.environ(service),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text("utf-8", "replace")

    def wait_ready(self, service: str) -> None:
        limit = time.monotonic() + 2 * NEVER
        while not services.endpoint(self.folder / "state", service):
            assert self.running[service].poll() is None, self.log(service)
            assert time.monotonic() < limit, self.log(service)
            time.sleep(0.2)

    def stop(self) -> dict[str, int]:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        statuses = {}
        for name, process in self.running.items():
            try:
                statuses[name] = process.wait(NEVER)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                statuses[name] = process.wait()
        return statuses

    def read(
        self, topic: str, enough: Callable[[list[Any]], bool], user: str = "reader"
    ) -> list[Any]:
        """Messages of a topic, as a reader from outside gets them, until there are enough."""
        prefix = user.replace("stream-", "stream.") + ("." if "stream-" in user else "-")
        client = kafka_io.consumer(
            self.kafka.secured, properties(f"mmgateway-{user}"), f"{prefix}{uuid.uuid4()}"
        )
        client.subscribe([topic])
        found: list[Any] = []
        limit = time.monotonic() + NEVER
        try:
            while not enough(found):
                assert time.monotonic() < limit, f"{topic}: {len(found)}\n{self.log('match')}"
                found += [m.value() for m in client.consume(100, 0.5) if m.error() is None]
        finally:
            client.close()
        return found

    def ledger(self, kind: str, outcome: str) -> dict[str, int]:
        """The first entry of a kind that counts something under an outcome."""

        def entries(values: list[Any]) -> list[dict[str, int]]:
            found = [json.loads(value) for value in values]
            return [e["counts"] for e in found if e["kind"] == kind and outcome in e["counts"]]

        return entries(self.read(topics.LEDGER, lambda values: bool(entries(values)), "operator"))[
            0
        ]


@pytest.fixture(scope="module")
def gateway(kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(kafka, tmp_path_factory.mktemp("gateway"))
    (running.folder / "inbox").mkdir()
    try:
        # The first one makes the topics, and may.
        for service in ("listen", "match", "publish"):
            running.start(service)
        for service in ("listen", "match", "publish"):
            running.wait_ready(service)
        yield running
    finally:
        running.stop()


def test_a_notice_becomes_a_region(gateway: Gateway) -> None:
    shutil.copy(NOTICE, gateway.folder / "inbox" / "notice.xml")
    (region,) = gateway.read(topics.REGIONS, bool)
    assert decode(region)["event_id"]
    assert gateway.ledger("notices", "region") == {"received": 1, "region": 1}


def test_an_alert_is_read_and_its_refusal_is_told(gateway: Gateway) -> None:
    producer = kafka_io.producer(gateway.kafka.secured, properties("mmgateway-alerts"))
    producer.produce("alerts.ztf", b"no alert")
    assert producer.flush(NEVER) == 0
    counts = gateway.ledger("alerts", "received")
    assert alert_hole(counts) == 0
    assert any(name.startswith("rejected.") for name in counts)


def test_a_candidate_becomes_a_voevent(gateway: Gateway) -> None:
    candidate = an_example()
    # Without the transaction of the running service, which it would shut out.
    producer = kafka_io.producer(gateway.kafka.secured, properties("mmgateway-match"))
    producer.produce(candidate["stream"], encode_candidate(candidate), b"key")
    assert producer.flush(NEVER) == 0
    (packet,) = gateway.read(topics.VOEVENTS, bool)
    assert candidate["counterpart_id"].encode() in packet


def test_a_private_candidate_becomes_a_voevent_that_its_stream_reads(gateway: Gateway) -> None:
    """The topics of the stream are not there before; the publisher looks again after 30 s."""
    candidate = an_example() | {"stream": OURS, "streams": ["ourteam"], "reason": "secret"}
    services.ensure_topics(
        gateway.kafka.secured, properties("mmgateway-match"), streams=["ourteam"]
    )
    producer = kafka_io.producer(gateway.kafka.secured, properties("mmgateway-match"))
    producer.produce(OURS, encode_candidate(candidate), b"key")
    assert producer.flush(NEVER) == 0
    (packet,) = gateway.read("mm.private.ourteam.voevents", bool, "stream-ourteam")
    assert b"secret" in packet
    assert gateway.read(OURS, bool, "stream-ourteam") == [encode_candidate(candidate)]


@pytest.mark.parametrize("topic", [OURS, *sorted(topics.OPERATOR_ONLY)])
def test_others_do_not_even_see_what_is_private(gateway: Gateway, topic: str) -> None:
    services.ensure_topics(gateway.kafka.bootstrap, {}, streams=["ourteam"])

    def answer(user: str) -> str | None:
        client = kafka_io.consumer(gateway.kafka.secured, properties(f"mmgateway-{user}"), "none")
        try:
            error = client.list_topics(topic, NEVER).topics[topic].error
            return error and error.name()
        finally:
            client.close()

    users = ("operator", "reader", "stream-otherteam")
    refused = "TOPIC_AUTHORIZATION_FAILED"
    assert [answer(user) for user in users] == [None, refused, refused]


@pytest.mark.parametrize("topic", [topics.REGIONS, "mm.candidates.gw", topics.VOEVENTS])
def test_a_reader_may_not_write(gateway: Gateway, topic: str) -> None:
    producer = Producer(
        properties("mmgateway-reader") | {"bootstrap.servers": gateway.kafka.secured}
    )
    failures: list[Any] = []

    def note(error: Any, _: Any) -> None:
        failures.append(error and error.name())

    producer.produce(topic, b"x", on_delivery=note)
    assert producer.flush(NEVER) == 0
    assert failures == ["TOPIC_AUTHORIZATION_FAILED"]


def test_a_wrong_password_is_named_as_such(kafka: SecuredKafka) -> None:
    wrong = properties("mmgateway-listen") | {"sasl.password": "wrong"}
    with pytest.raises(ServiceError, match="uthentication"):
        services.ensure_topics(kafka.secured, wrong)


def test_services_stop_in_order(gateway: Gateway) -> None:
    assert gateway.stop() == {"listen": 0, "match": 0, "publish": 0}, "\n".join(
        gateway.log(name) for name in gateway.running
    )


def an_example() -> dict[str, Any]:
    """A statement with every column filled."""
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True, "strings": ["a"],
    }  # fmt: skip
    moment = "2026-01-02T03:04:05.000000Z"
    return {field.name: values[field.kind] for field in CANDIDATE_FIELDS} | {
        "candidate_id": "MM26test/E1/1",
        "counterpart_id": "MM26test",
        "alert_type": "initial",
        "state": "in_force",
        "supersedes": None,
        "alert_datetime": moment,
        "alert_tense": "current",
        "role": "observation",
        "stream": topics.candidates("gw"),
        "streams": [],
        "messenger": "gw",
        "event_trigger_time": moment,
        "observation_start": moment,
        "first_detection": moment,
        "last_detection": moment,
        "last_nondetection_time": moment,
        "expires": moment,
        "filter": "r",
        "tier": "gold",
        "alert_id": "1",
    }
