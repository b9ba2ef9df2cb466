"""What the match service is made of: from the configuration to sources, maps and versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from broker.ahead import Ahead
from broker.judge import Address
from broker.kafka_io import PacketReader
from broker.lsstschemas import LsstSchemas
from broker.sources import Sources
from crossmatch.chains import Chain
from crossmatch.cuts import Cuts
from crossmatch.errors import Rejected
from crossmatch.model import MultiOrderMap
from crossmatch.skymap import read_skymap
from gateway.config import Config


def code_version() -> str:
    """What the code calls itself in candidates."""
    return f"mmgateway {version('mmgateway')}"


def selection_version(config: Config) -> str:
    """Digest of everything that decides which alerts become candidates and how they are graded."""
    chains = {name: _plain(chain) for name, chain in sorted(config.chains.items())}
    text = json.dumps({"cuts": _plain(config.cuts), "chains": chains}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(rules: Chain | Cuts) -> dict[str, Any]:
    """Fields, of selections those that are named: what nobody chose changes no digest."""
    found = dataclasses.asdict(rules)
    for name in ("selection", "demands", "silver_demands"):
        if found.get(name) is None:
            found.pop(name, None)
    return found


def sources_of(config: Config, bootstrap: str) -> Sources:
    """What the query reads, from the configuration."""
    match = config.match
    return Sources(
        bootstrap=bootstrap,
        properties=config.kafka.properties,
        ztf=match.alert_topics_ztf,
        lsst=match.alert_topics_lsst,
        alert_bootstrap=match.alert_bootstrap,
        alert_properties=match.alert_properties,
        lsst_schemas=LsstSchemas(match.lsst_schemas),
        starting_offsets=match.starting_offsets,
        max_offsets_per_trigger=match.max_offsets_per_trigger,
    )


def ahead_of(config: Config, sources: Sources) -> Ahead | None:
    """What lets Spark's workers match; None where the driver does."""
    if config.match.where == "driver":
        return None
    return Ahead(config.cuts, sources, config.paths.state / "spark" / "regions")


def map_loader(state: Path) -> Callable[[str, str], MultiOrderMap]:
    """Reader of the store of sky maps, with the latest maps kept in memory."""

    @lru_cache(maxsize=64)
    def load(sha256: str, path: str) -> MultiOrderMap:
        file = state / "skymaps" / f"{sha256}.fits"
        try:
            return read_skymap(file.read_bytes())
        except OSError as error:
            raise Rejected("map_missing", f"sky map {path or file} cannot be read") from error

    return load


class Readers:
    """Fetches packets from Kafka for any thread: a reader must not serve two at a time.

    Parameters
    ----------
    make : callable
        Makes a reader.
    """

    def __init__(self, make: Callable[[], PacketReader]) -> None:
        self._make = make
        self._own = threading.local()

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        """Packets at ``addresses``; those that Kafka no longer has are left out."""
        if not hasattr(self._own, "reader"):
            self._own.reader = self._make()
        found: dict[Address, bytes] = self._own.reader.fetch(addresses)
        return found
