"""Services of the bench's own: on ports that are free, in a folder that goes away with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from broker import kafka_io
from broker.embedded.jars import SPARK, fetch_jars
from broker.embedded.java import Java
from broker.embedded.spark import spark_session
from gateway import services
from gateway.config import Config, load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SETTINGS = """\
[paths]
state = {state}
[kafka]
port = 0
controller_port = 0
[vtp]
receiver_port = 0
broadcast_port = 0
[match]
alert_topics_ztf = {alerts}
[maps]
hosts = {hosts}
"""


# Each run is a query of its own, whose consumers Spark keeps for five minutes with what they have
# fetched: in the end, hundreds of megabytes.
_FORGETTING = {
    f"spark.kafka.consumer.{cache}.{name}": seconds
    for cache in ("cache", "fetchedData.cache")
    for name, seconds in (("timeout", "20s"), ("evictorThreadRunInterval", "5s"))
}


@dataclass(frozen=True, slots=True)
class Own:
    """What runs: its configuration, and the address of its Kafka."""

    config: Config
    bootstrap: str


def own_spark(java: Java, work: Path) -> SparkSession:
    """A Spark for many queries one after another, its files in a folder below ``work``."""
    return spark_session(
        java=java, jars=fetch_jars(SPARK), local_dir=work / "spark", extra=_FORGETTING
    )


def state_folder(folder: Path) -> Path:
    """Where services that :func:`running` starts in a folder keep what they know."""
    return folder / "data"


@contextmanager
def running(
    folder: Path,
    names: Sequence[str],
    *,
    alerts: Sequence[str] = (),
    hosts: Sequence[str] = (),
    more: str = "",
    timeout: float = 180.0,
) -> Iterator[Own]:
    """Services that run meanwhile, all but their ports and topics as configured by default.

    Parameters
    ----------
    folder : Path
        For their configuration and state.
    names : sequence of str
        ``kafka``, ``listen``, ``match``.
    alerts : sequence of str
        Topics of ZTF's alerts.
    hosts : sequence of str
        That sky maps are fetched from.
    more : str
        Further tables of the configuration, as TOML.
    timeout : float
        Seconds within which they must be ready.

    Raises
    ------
    ServiceError
        If one does not start.
    """
    path = folder / "mmgateway.toml"
    state = json.dumps(str(state_folder(folder)))
    lists = {"alerts": json.dumps(list(alerts)), "hosts": json.dumps(list(hosts))}
    path.write_text(_SETTINGS.format(state=state, **lists) + more, "utf-8")
    config = load(path, environ={})
    try:
        services.up(config, list(names), config_path=path, timeout=timeout)
        yield Own(config, services.find_bootstrap(config))
    finally:
        services.down(config)


@contextmanager
def listening(
    bootstrap: str, names: Sequence[str], take: Callable[[kafka_io.Record], None]
) -> Iterator[None]:
    """Hand over meanwhile what is committed to topics, as soon as it can be read.

    What ended the reading is raised in the end: who waits for a message waits in vain then.
    """
    over = threading.Event()
    with ThreadPoolExecutor(1, "bench-listen") as pool:
        reader = pool.submit(_listen, bootstrap, names, take, over)
        try:
            yield
        finally:
            over.set()
            reader.result()


def _listen(
    bootstrap: str,
    names: Sequence[str],
    take: Callable[[kafka_io.Record], None],
    over: threading.Event,
) -> None:
    consumer = kafka_io.consumer(bootstrap, {}, "mmgateway-bench")
    try:
        consumer.subscribe(list(names))
        while not over.is_set():
            for message in consumer.consume(100, timeout=0.01):
                take(kafka_io.record(message))
    finally:
        consumer.close()
