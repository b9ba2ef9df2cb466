"""Play the night through the live gateway and tell what came out.

Everything goes the way of real data: notices to Kafka topics named like GCN's (one by
VTP, with ``comet-sendvo``), alerts to the alert topic, and what is shown was read back
from the output topics by an ordinary subscriber.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from broker.archive import AlertArchive
from crossmatch.errors import ConfigError, ServiceError
from crossmatch.times import jd_from_datetime
from gateway import config as configuration
from gateway import services
from gateway.config import ENV_PREFIX, Config
from gateway.night import report
from gateway.night.alerts import TimedAlert, alerts
from gateway.night.facts import facts
from gateway.night.notices import Timed, notices
from gateway.night.play import ALERT_TOPIC, Player, Sent, until_quiet, vtp_subscriber
from gateway.night.plot import LightCurve, night_plot
from gateway.night.screen import Screen
from gateway.night.tell import Teller, finish, how_to_use, introduce
from gateway.night.timeline import Schedule
from gateway.night.watch import Watcher

FOLDER = Path("mmgateway-demo")
SEED = 170817
_MARK = "# Written by mmgateway demo; this folder is made anew by the next one."
_KEPT_VARIABLES = {"MMGATEWAY_CACHE", "MMGATEWAY_MAVEN"}


def run(console: Console, *, scale: int, keep: bool, folder: Path = FOLDER) -> dict[str, Any]:
    """Play the night; the summary object of :func:`gateway.night.report.summary`.

    Parameters
    ----------
    console : Console
        Where people read along.
    scale : int
        Number of optical alerts.
    keep : bool
        Leave the gateway up.
    folder : Path
        Made anew: everything that the gateway keeps lies in it.
    """
    screen = Screen(console)
    introduce(screen)
    config, path = _fresh(folder)
    schedule = Schedule.of_night()
    night_notices = notices(SEED)
    night_alerts = _generate(screen, scale)
    _start(screen, config, path)
    try:
        result = _play(screen, config, schedule, night_notices, night_alerts)
        finish(screen, config, folder, result)
        if keep:
            how_to_use(screen, config, path)
    finally:
        if not keep:
            services.down(config)
    _check(result, config)
    return result


def _start(screen: Screen, config: Config, path: Path) -> None:
    began = time.monotonic()
    screen.say("Starting Kafka, the listener, Spark and the publisher …")

    def tell(one: services.ServiceStatus) -> None:
        if one.state == "running":
            seconds = time.monotonic() - began
            screen.say(f"  {one.service:<8} up after {seconds:4.1f} s  {escape(one.endpoint)}")

    services.up(config, config_path=path, report=tell)
    screen.say("")


def _check(result: dict[str, Any], config: Config) -> None:
    """Raise ServiceError when something that was sent did not come out."""
    logs = config.paths.state / "logs"
    if not result["complete"]:
        raise ServiceError(f"the gateway did not answer for everything in time; see {logs}")
    for kind in ("alerts", "notices"):
        hole = result["ledger"][f"{kind}_unaccounted"]
        if hole:
            raise ServiceError(f"{hole} {kind} are not accounted for; see {logs}")


def _fresh(folder: Path) -> tuple[Config, Path]:
    """A configuration of its own in an empty ``folder``, untouched by the environment."""
    path = folder / "mmgateway.toml"
    if folder.exists():
        if not path.is_file() or not path.read_text("utf-8").startswith(_MARK):
            raise ConfigError(f"{folder.resolve()} is not a folder of the demo; move it away")
        services.down(configuration.load(path, environ={}))
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    state = json.dumps(str((folder / "data").resolve()))
    path.write_text(
        f"{_MARK}\n[paths]\nstate = {state}\n\n[match]\ncatalogs = ["
        f'"nearby_galaxies"]\nalert_topics_ztf = ["{ALERT_TOPIC}"]\nalert_topics_lsst = []\n\n'
        '[publish]\nobservatory = { ztf = "Cerro Pachon (demo night)" }\n',
        "utf-8",
    )
    for name in [n for n in os.environ if n.startswith(ENV_PREFIX) and n not in _KEPT_VARIABLES]:
        del os.environ[name]
    return configuration.load(path, environ={}), path


def _generate(screen: Screen, scale: int) -> list[TimedAlert]:
    made: list[TimedAlert] = []
    with screen.progress("Generating alerts", scale) as bar:
        for alert in alerts(scale, SEED):
            made.append(alert)
            if len(made) % 1000 == 0:
                bar.update(len(made), f"{len(made):,}")
    return made


def _play(
    screen: Screen,
    config: Config,
    schedule: Schedule,
    night_notices: list[Timed],
    night_alerts: list[TimedAlert],
) -> dict[str, Any]:
    bootstrap = services.find_bootstrap(config)
    sent = Sent()
    teller = Teller(screen)
    watcher = Watcher(bootstrap, sent.times, teller.region, teller.statement)
    watcher.start()
    publish = services.endpoint(config.paths.state, "publish") or {}
    with vtp_subscriber(int(publish["broadcast_port"])) as received:
        with screen.progress("The night", len(night_alerts)) as bar:
            player = Player(config, bootstrap, sent, teller, watcher, bar, len(night_alerts))
            player.play(schedule, night_notices, night_alerts)
            complete = until_quiet(watcher, sent, received, bar)
        watcher.stop()
        if watcher.failure is not None:
            raise ServiceError(f"the topics could not be read: {watcher.failure}")
        result = report.summary(watcher.seen, len(received))
    result["complete"] = complete
    result["statements"] = len(watcher.seen.statements)
    result["dead_letters"] = len(watcher.seen.dead_letters)
    _draw(config, result)
    return result


def _draw(config: Config, result: dict[str, Any]) -> None:
    """The picture, from the archive: all alerts, and the light curve of the best candidate."""
    archive = AlertArchive(config.paths.state / "alerts")
    best = result["candidates"][0] if result["candidates"] else None
    trigger = jd_from_datetime(facts()["merger"]["time"])
    found = archive.of_object("" if best is None else best["object_id"]).to_pylist()
    seen = [r for r in found if r["mag"] is not None and r["mag_error"] is not None]
    measured = LightCurve(
        days=np.array([r["time_jd"] - trigger for r in seen]),
        mag=np.array([r["mag"] for r in seen]),
        mag_error=np.array([r["mag_error"] for r in seen]),
        filters=[r["filter"] for r in seen],
    )
    in_force = sum(c["state"] == "in_force" for c in result["candidates"])
    subtitle = f"{result['alerts']:,} alerts, {in_force:,} candidates in force"
    if best is not None:
        subtitle += f", best: {best['object_id']} for {best['event_id']} ({best['tier']})"
    png = night_plot(*archive.positions(), measured, subtitle=subtitle)
    (config.paths.state.parent / "night.png").write_bytes(png)
