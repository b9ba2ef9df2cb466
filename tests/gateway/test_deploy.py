"""What lies in deploy/ fits the code and itself; no container engine is needed."""

from __future__ import annotations

import configparser
import fnmatch
import inspect
import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from broker import topics
from broker.writer import Writer
from gateway import runfiles, services, topicspecs
from gateway.cli import app, main
from gateway.config import as_dict, load
from gateway.listener.sink import KafkaSink
from gateway.publisher import service as publish

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PRODUCTION = DEPLOY / "mmgateway.production.toml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCHEMA = ROOT / "tests" / "data" / "compose.schema.json"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OURS = ("listen", "match", "publish")
DUMMY = "replace-me"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def filled(text: str) -> str:
    """A value with each ``${NAME:-default}`` replaced by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def settings(service: dict[str, Any]) -> dict[str, str]:
    return {name: filled(str(value)) for name, value in service["environment"].items()}


def secrets(name: str, *, commented: bool = False) -> dict[str, str]:
    """Variables of one block of env.example, as systemd and Compose read them."""
    text = (DEPLOY / "env.example").read_text("utf-8")
    block = re.search(rf"^# --- {re.escape(name)}$(.*?)(?=^# ---|\Z)", text, re.M | re.S)
    assert block is not None, name
    start = "#?" if commented else ""
    found = re.findall(rf"^{start}([A-Z][A-Z0-9_]*)=(.*)$", block.group(1), re.M)
    return {key: value.removeprefix("'").removesuffix("'") for key, value in found}


def instructions(name: str) -> list[str]:
    """What follows one instruction in the image recipe, continuation lines joined."""
    text = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", text, re.M)


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text("utf-8"))
    return parser


# --- Compose


def test_compose_file_fits_the_specification(compose: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(compose, schema)


def test_schema_refuses_a_misspelt_key(compose: dict[str, Any]) -> None:
    broken = compose | {"services": {"kafka": compose["services"]["kafka"] | {"port": ["1:1"]}}}
    with pytest.raises(jsonschema.ValidationError, match="port"):
        jsonschema.validate(broken, json.loads(SCHEMA.read_text("utf-8")))


def test_what_services_refer_to_is_defined(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file()


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_commands_that_exist(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    (command,) = service["command"]
    assert command in COMMANDS
    assert service["image"] == f"mmgateway:{PYPROJECT['project']['version']}"
    context = (DEPLOY / service["build"]["context"]).resolve()
    assert (context, context / service["build"]["dockerfile"]) == (ROOT, DEPLOY / "Containerfile")


def test_ports_are_on_loopback_unless_asked_otherwise(compose: dict[str, Any]) -> None:
    ports = [port for s in compose["services"].values() for port in s.get("ports", ())]
    assert ports
    for port in ports:
        assert filled(port).startswith("127.0.0.1:")


def test_ports_are_the_same_in_all_files(compose: dict[str, Any]) -> None:
    vtp = load(PRODUCTION, {}).vtp

    def published(name: str) -> list[str]:
        return [filled(port).split(":", 1)[1] for port in compose["services"][name]["ports"]]

    assert published("listen") == [f"{vtp.receiver_port}:{vtp.receiver_port}"]
    assert published("publish") == [f"{vtp.broadcast_port}:{vtp.broadcast_port}"]
    exposed = {int(port) for line in instructions("EXPOSE") for port in line.split()}
    assert exposed == {vtp.receiver_port, vtp.broadcast_port}


def test_services_ask_the_kafka_of_the_network(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]["environment"]
    advertised = dict(
        entry.split("://") for entry in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    )
    assert (
        settings(compose["services"]["match"])["MMGATEWAY_KAFKA__BOOTSTRAP"]
        == (advertised[kafka["KAFKA_INTER_BROKER_LISTENER_NAME"]])
    )
    port = advertised["HOST"].split(":")[1]
    assert compose["services"]["kafka"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    protocols = dict(
        entry.split(":") for entry in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    listeners = {entry.split("://")[0] for entry in kafka["KAFKA_LISTENERS"].split(",")}
    assert set(advertised) <= listeners <= set(protocols)
    assert kafka["KAFKA_MESSAGE_MAX_BYTES"] == int(topicspecs._LARGE["max.message.bytes"])


@pytest.mark.parametrize("name", OURS)
def test_configuration_in_compose_is_valid(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    environ = settings(service)
    mounted = {v.split(":")[1]: v.split(":")[0] for v in service["volumes"]}
    configuration = DEPLOY / mounted[environ["MMGATEWAY_CONFIG"]]
    for file in service.get("env_file", ()):
        environ = secrets(file["path"], commented=True) | environ
    config = load(configuration, environ)
    assert (config.kafka.bootstrap, dict(config.kafka.properties)) == ("kafka:9092", {})
    assert config.match.alert_bootstrap == ""
    assert config.vtp.host == "0.0.0.0"
    state = str(config.paths.state)
    kept_at = [v.split(":")[1] for v in service["volumes"]]
    kept_at += [entry.split(":")[0] for entry in service["tmpfs"]]
    assert state in kept_at


def test_this_machine_may_use_vtp_of_the_containers(compose: dict[str, Any]) -> None:
    (network,) = compose["networks"]["inside"]["ipam"]["config"]
    host = ipaddress.ip_address(network["gateway"])
    assert host in ipaddress.ip_network(network["subnet"])
    vtp = load(PRODUCTION, settings(compose["services"]["publish"])).vtp
    for allowed in (vtp.author_allow, vtp.subscriber_allow):
        assert any(host in ipaddress.ip_network(entry) for entry in allowed)
        assert not any(ipaddress.ip_network(entry).prefixlen == 0 for entry in allowed)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
@pytest.mark.parametrize("name", OURS)
def test_health_check_tells_running_from_stopped(
    compose: dict[str, Any], name: str, tmp_path: Path
) -> None:
    kind, *command = compose["services"][name]["healthcheck"]["test"]
    assert kind == "CMD"
    program = tmp_path / "mmgateway"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gateway.cli "$@"\n')
    program.chmod(0o755)
    environ = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MMGATEWAY_PATHS__STATE": str(tmp_path / "state"),
    }

    def healthy() -> bool:
        return subprocess.run(command, env=environ, cwd=tmp_path).returncode == 0

    assert not healthy()
    runfiles.announce(tmp_path / "state", name)
    assert healthy()


# --- Production configuration and secrets


def test_production_configuration_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(PRODUCTION), "config", "check"]) == 0
    assert "valid" in capsys.readouterr().out


@pytest.mark.parametrize("name", OURS)
def test_production_configuration_is_valid_with_the_secrets_of(name: str) -> None:
    config = load(PRODUCTION, secrets(f"{name}.env", commented=True))
    kafka = config.kafka.properties
    assert kafka["sasl.username"] == f"mmgateway-{name}"
    assert (kafka["security.protocol"], kafka["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    plain = load(PRODUCTION, {}).kafka.properties
    assert {key: kafka[key] for key in plain} == dict(plain)
    assert config.gcn.enabled == (name == "listen")
    assert DUMMY not in json.dumps(as_dict(config)["kafka"])


def test_production_configuration_listens_on_loopback_and_to_known_networks_only() -> None:
    config = load(PRODUCTION, {})
    assert config.vtp.host == "127.0.0.1"
    for entry in config.vtp.author_allow + config.vtp.subscriber_allow:
        assert ipaddress.ip_network(entry).prefixlen > 0
    assert not config.kafka.embedded


def test_no_secret_lies_in_the_files() -> None:
    said = re.compile(r"""(?:password|secret)["']?\s*=\s*["']?([^\s"',}]+)""", re.IGNORECASE)
    for path in (p for p in DEPLOY.rglob("*") if p.is_file() and p.suffix != ".env"):
        for value in said.findall(path.read_text("utf-8")):
            assert value == DUMMY or value.startswith(("$", "%s")), f"{path.name}: {value}"


# --- Image


def test_everything_that_the_image_copies_exists_and_is_not_ignored() -> None:
    patterns = (DEPLOY / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in patterns if line.startswith("!")}
    assert "*" in patterns
    sources = [
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    ]
    assert {s for s in sources if not (ROOT / s).exists()} == set()
    assert set(sources) == kept


def test_image_holds_every_package() -> None:
    wanted = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {word for line in instructions("COPY") for word in line.split()[:-1]}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages = {p for p in packages if any(fnmatch.fnmatch(p, pattern) for pattern in wanted)}
    assert packages <= copied


def test_image_runs_our_command_without_rights() -> None:
    (entry,) = (json.loads(line) for line in instructions("ENTRYPOINT"))
    assert entry[0] in PYPROJECT["project"]["scripts"]
    (user,) = instructions("USER")
    assert user.split(":")[0] not in ("0", "root")
    assert instructions("HEALTHCHECK")
    bases = [line.split()[0] for line in instructions("FROM")]
    assert all(re.search(r"/python:3\.12-slim$", base) for base in bases)


def test_image_gets_the_jars_where_the_services_look_for_them() -> None:
    from broker.embedded import jars

    text = (DEPLOY / "Containerfile").read_text("utf-8")
    assert "from broker.embedded.jars import fetch_jars; fetch_jars()" in text
    assert callable(jars.fetch_jars)
    folders = set(re.findall(r"MMGATEWAY_CACHE=(\S+)", text))
    for path in UNITS:
        folders |= set(re.findall(r"MMGATEWAY_CACHE=(\S+)", path.read_text("utf-8")))
    (folder,) = folders
    assert jars.cache_folder({"MMGATEWAY_CACHE": folder}) == Path(folder)


# --- systemd

UNIT_KEYS = frozenset(
    [
        "Description",
        "After",
        "Wants",
        "PartOf",
        "StartLimitIntervalSec",
        "Type",
        "ExecStart",
        "User",
        "Group",
        "Environment",
        "EnvironmentFile",
        "StateDirectory",
        "StateDirectoryMode",
        "WorkingDirectory",
        "Restart",
        "RestartPreventExitStatus",
        "RestartSec",
        "RestartSteps",
        "RestartMaxDelaySec",
        "KillMode",
        "TimeoutStopSec",
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "AmbientCapabilities",
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "RemoveIPC",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "SystemCallErrorNumber",
        "UMask",
        "LimitNOFILE",
        "TasksMax",
        "MemoryMax",
        "WantedBy",
    ]
)


def test_there_is_a_unit_for_every_service() -> None:
    assert {path.stem for path in UNITS} == {f"mmgateway-{name}" for name in services.SERVICES}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_unit(path: Path) -> None:
    """It parses, runs a command that exists as an ordinary user, and is confined."""
    parsed = unit(path)
    assert {key for section in parsed.values() for key in section} <= UNIT_KEYS
    service = parsed["Service"]
    program, option, file, command = shlex.split(service["ExecStart"])
    assert (program, option, file) == (
        "/opt/mmgateway/bin/mmgateway",
        "--config",
        "/etc/mmgateway/mmgateway.toml",
    )
    assert command in COMMANDS
    assert command == path.stem.removeprefix("mmgateway-")
    assert service["User"] == service["Group"] == "mmgateway"
    assert f"/var/lib/{service['StateDirectory']}" == str(load(PRODUCTION, {}).paths.state)
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["Restart"] == "on-failure"
    if command in OURS:
        file = Path(service["EnvironmentFile"])
        assert file.parent == Path("/etc/mmgateway")
        assert secrets(file.name, commented=True)


def test_target_wants_units_that_exist() -> None:
    wanted = unit(DEPLOY / "systemd" / "mmgateway.target")["Unit"]["Wants"].split()
    assert set(wanted) <= {path.name for path in UNITS}
    for path in UNITS:
        assert unit(path)["Install"]["WantedBy"] == "mmgateway.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in [*UNITS, DEPLOY / "systemd" / "mmgateway.target"]:
        text = path.read_text("utf-8").replace("/opt/mmgateway/bin/mmgateway", sys.executable)
        # Older systemds do not know the growing pause and say so.
        text = re.sub(r"^Restart(?:Steps|MaxDelaySec)=.*\n", "", text, flags=re.M)
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
    )
    said = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "mmgateway" in line
    ]
    assert said == []


# --- Rights on Kafka


# One name begins as the other does.
STREAMS = ("our", "our-team")


@cache
def rights() -> list[tuple[str, set[str], str, str, str]]:
    """Rows of the table: user, operations, resource, pattern, name."""
    text = subprocess.run(
        ["sh", str(DEPLOY / "kafka-acls.sh"), "print"],
        env=os.environ | {"STREAMS": " ".join(STREAMS)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in text.splitlines()]
    return [(user, set(ops.split(",")), kind, how, name) for user, ops, kind, how, name in rows]


def may(user: str, operation: str, kind: str, name: str) -> bool:
    return any(
        user == who
        and (operation in ops or (operation == "Describe" and ops & {"Read", "Write"}))
        and kind == what
        and (name == pattern if how == "literal" else name.startswith(pattern))
        for who, ops, what, how, pattern in rights()
    )


def test_every_service_may_see_and_make_every_topic() -> None:
    config = load(PRODUCTION, {"MMGATEWAY_MATCH__ALERT_BOOTSTRAP": ""})
    specs = services.topic_specs(services.own_alert_topics(config), STREAMS)
    names = [spec.name for spec in specs]
    for service in OURS:
        for operation in ("Describe", "Create"):
            refused = [n for n in names if not may(f"mmgateway-{service}", operation, "topic", n)]
            assert refused == []


def test_groups_and_transactions_are_those_of_the_code() -> None:
    for user, named in (("mmgateway-listen", KafkaSink), ("mmgateway-match", Writer)):
        name = inspect.signature(named).parameters["name"].default
        assert may(user, "Write", "transactional-id", name)
    assert may("mmgateway-publish", "Write", "transactional-id", publish._NAME)
    assert may("mmgateway-publish", "Read", "group", publish._GROUP)


def test_every_service_may_keep_its_place() -> None:
    for service in OURS:
        for operation in ("Read", "Write"):
            assert may(f"mmgateway-{service}", operation, "topic", topics.MARKER)


def readable(user: str) -> set[str]:
    names = {spec.name for spec in services.topic_specs(["alerts.ztf"], [*STREAMS, "third"])}
    return {name for name in names if may(user, "Read", "topic", name)}


PUBLIC = {topics.REGIONS, topics.VOEVENTS, *topics.all_candidates()}


def test_readers_read_what_is_public_and_nothing_else() -> None:
    assert readable("mmgateway-reader") == PUBLIC


@pytest.mark.parametrize("stream", STREAMS)
def test_stream_reads_its_own_topics_and_what_is_public(stream: str) -> None:
    own = {spec.name for spec in services.private_topic_specs([stream])}
    assert readable(f"mmgateway-stream-{stream}") == PUBLIC | own


def test_operators_read_all_that_is_ours() -> None:
    assert readable("mmgateway-operator") >= PUBLIC | topics.OPERATOR_ONLY


def test_operators_give_verdicts_and_send_dead_letters_again_and_write_nothing_else() -> None:
    assert may("mmgateway-operator", "Write", "transactional-id", "mmgateway-retry")
    again = {topics.RETRY, topics.REGION_LOG, topics.MARKER, topics.VERDICTS, topics.LOOKUPS}
    everything = again | PUBLIC | topics.OPERATOR_ONLY
    assert {n for n in everything if may("mmgateway-operator", "Write", "topic", n)} == again


def test_who_reads_cannot_write_nor_take_the_place_of_another() -> None:
    readers = ["reader", *(f"stream-{s}" for s in STREAMS)]
    mine = [row for row in rights() if row[0].removeprefix("mmgateway-") in readers]
    assert all(operations == {"Read"} for _, operations, *_ in mine)
    groups = [name for _, _, kind, how, name in mine if (kind, how) == ("group", "prefixed")]
    assert len(groups) == len(readers)
    used = [publish._GROUP, "mmgateway-packets", "spark-kafka-source-1", *groups]
    assert not [(g, name) for g in groups for name in used if name != g and name.startswith(g)]


def test_services_write_and_read_what_is_theirs_of_private_streams() -> None:
    (regions,) = topics.seen_by(topics.REGIONS, ["our"])
    (voevents,) = topics.seen_by(topics.VOEVENTS, ["our"])
    (statements,) = topics.seen_by(topics.candidates("gw"), ["our"])
    assert may("mmgateway-listen", "Write", "topic", regions)
    assert may("mmgateway-match", "Write", "topic", statements)
    assert may("mmgateway-match", "Read", "topic", topics.REGION_LOG)
    assert may("mmgateway-publish", "Read", "topic", statements)
    assert may("mmgateway-publish", "Write", "topic", voevents)
    assert may("mmgateway-publish", "Read", "topic", voevents)


@pytest.mark.parametrize("name", ["*", "Our", "a.b", "x;id", "9a", "a b$(id)"])
def test_name_that_no_stream_has_gets_no_rights(name: str) -> None:
    done = subprocess.run(
        ["sh", str(DEPLOY / "kafka-acls.sh"), "print"],
        env=os.environ | {"STREAMS": name},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "a stream's name has" in done.stderr


# --- Documents


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "decisions" / "0007-dependencies.md").read_text("utf-8")
    named = re.findall(r"^\| `([^`]+)` \| \S.*\|$", text, re.M)
    project = PYPROJECT["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert sorted(named) == sorted(re.match(r"[\w-]+", line).group() for line in wanted)  # type: ignore[union-attr]


def test_decisions_are_numbered_and_say_what_a_decision_says() -> None:
    paths = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text("utf-8")
        assert text.startswith(f"# {path.name[:4]} ")
        headings = re.findall(r"^## (.*)$", text, re.M)
        assert headings == ["Context", "Decision", "Consequences", "What would change it"], path


def test_commands_and_files_of_the_guide_exist() -> None:
    text = (ROOT / "docs" / "howto" / "deploy.md").read_text("utf-8")
    said = re.findall(r"(?:`|\n|exec \w+ )mmgateway (?:--config \S+ )?([a-z]+)", text)
    assert set(said) >= {"listen", "match", "publish", "status", "config"}
    assert set(said) <= set(COMMANDS)
    for name in re.findall(r"deploy/([\w./*-]+)", text):
        assert list(DEPLOY.glob(name)) or name == ".env", name
