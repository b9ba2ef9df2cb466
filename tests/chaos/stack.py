"""A gateway of its own in a fresh folder, started as an operator starts it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import config as configuration
from gateway import services
from gateway.config import Config

from .killer import Killer
from .listening import Tail, Witness
from .outside import ALERT_TOPIC, Outside
from .robot import Robot

_SETTINGS = f"""\
[vtp]
receiver_port = 0
broadcast_port = 0

[maps]
fetch = false

[match]
alert_topics_ztf = ["{ALERT_TOPIC}"]
alert_topics_lsst = []
max_offsets_per_trigger = 500

[publish]
min_tier = "bronze"
"""
FEED = """\
name = "{name}"
title = "{mission}"
mission = "{mission}"
instrument = "camera"
messenger = "grb"
format = "json"
topics = ["{topic}"]
prefix = "{mission}"
systematic_included = true

[[kinds]]
name = "position"
"""
MISSIONS = {"Anteater": "anteater.events", "Badger": "badger.events"}
"""Missions that tell of bursts as JSON, on topics of their own."""


@dataclass
class Stack:
    """A running gateway, the world outside, and those who listen."""

    config: Config
    bootstrap: str
    outside: Outside
    witness: Witness
    tail: Tail
    robot: Robot

    @property
    def state(self) -> Path:
        """Folder of the gateway."""
        return self.config.paths.state

    def restarts(self) -> dict[str, int]:
        """How often each service was started anew."""
        return {s.service: s.restarts for s in services.status(self.config)}

    def is_up(self) -> bool:
        """Whether all services run and are ready."""
        return all(s.state == "running" for s in services.status(self.config))


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """A gateway in ``folder``, which must be empty; it is stopped at the end."""
    path = folder / "mmgateway.toml"
    state = folder / "data"
    port, controller_port = _low_ports(2)
    path.write_text(
        f"[paths]\nstate = {json.dumps(str(state))}\n\n"
        f"[kafka]\nport = {port}\ncontroller_port = {controller_port}\n\n{_SETTINGS}",
        "utf-8",
    )
    feeds = state / "feeds"
    feeds.mkdir(parents=True)
    state.chmod(0o700)
    for mission, topic in MISSIONS.items():
        text = FEED.format(name=mission.lower(), mission=mission, topic=topic)
        (feeds / f"{mission.lower()}.toml").write_text(text, "utf-8")
    config = configuration.load(path, environ={})
    services.up(config, config_path=path, timeout=400)
    try:
        yield from _with_listeners(config)
    finally:
        services.down(config)


def _with_listeners(config: Config) -> Iterator[Stack]:
    bootstrap = services.find_bootstrap(config)
    state = config.paths.state
    witness, tail = Witness(bootstrap), Tail(bootstrap)
    robot = Robot(lambda: _port(state, "publish", "broadcast_port"))
    outside = Outside(bootstrap, lambda: _port(state, "listen", "receiver_port"))
    try:
        yield Stack(config, bootstrap, outside, witness, tail, robot)
    finally:
        for listener in (robot, witness, tail):
            listener.close()


def _low_ports(count: int) -> list[int]:
    """Free ports below those that the system gives to clients.

    While Kafka is down, some client's own end of a connection may get a port from that range,
    and Kafka would come back elsewhere.
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(20_000, 32_000), 200):
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found


def _port(state: Path, service: str, name: str) -> int | None:
    facts: dict[str, Any] = services.endpoint(state, service) or {}
    return facts.get(name)


__all__ = ["FEED", "MISSIONS", "Killer", "Stack", "running"]
