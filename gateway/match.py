"""The match service: Spark, the engine, the archive and the writer wired together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from broker import decode, stream, topics
from broker.archive import AlertArchive, CandidateArchive
from broker.codec import RegionRecord, decode_region
from broker.embedded.jars import fetch_jars
from broker.embedded.java import find_java
from broker.embedded.spark import spark_session
from broker.engine import Engine
from broker.kafka_io import PacketReader, read_all
from broker.sources import Sources, raw_rows
from broker.stream import BatchReport, LiveMatcher
from broker.writer import Marker, Writer
from crossmatch.candidate import Versions
from crossmatch.columns import CANDIDATE_FIELDS, arrow_schema
from crossmatch.errors import Rejected, ServiceError
from crossmatch.model import MultiOrderMap
from crossmatch.skymap import read_skymap
from gateway import services
from gateway.config import Config
from gateway.logs import EventLog
from gateway.lookup import local_lookup

log = EventLog("match")


def selection_version(config: Config) -> str:
    """Digest of everything that decides which alerts become candidates and how they are graded."""
    chains = {name: dataclasses.asdict(chain) for name, chain in sorted(config.chains.items())}
    text = json.dumps({"cuts": dataclasses.asdict(config.cuts), "chains": chains}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
        lsst_schemas=_lsst_schemas(match.lsst_schemas),
        starting_offsets=match.starting_offsets,
        max_offsets_per_trigger=match.max_offsets_per_trigger,
    )


def _lsst_schemas(where: str) -> dict[int, str]:
    if not where:
        return {}
    if where.startswith(("http://", "https://")):
        return decode.lsst_schema_registry(where, ())
    return decode.lsst_schema_folder(Path(where))


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


class MatchService:
    """One broker: started, watched and stopped.

    Parameters
    ----------
    config : Config
    now : callable
        The clock of the statements.
    """

    def __init__(
        self, config: Config, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._config = config
        self._now = now
        self._state = config.paths.state
        self._checkpoint = self._state / "checkpoint"
        self._query: Any = None
        self._matcher: LiveMatcher | None = None

    def start(self) -> None:
        """Bring the state back from Kafka and start the query.

        Raises
        ------
        ServiceError
            Kafka or Java missing, or a checkpoint that does not fit what was published.
        """
        config = self._config
        bootstrap = services.find_bootstrap(config)
        properties = config.kafka.properties
        services.ensure_all_topics(config, bootstrap)
        sources = sources_of(config, bootstrap)
        writer = Writer(
            bootstrap,
            properties,
            make_topics=lambda stream: services.ensure_topics(
                bootstrap, properties, streams=[stream]
            ),
        )
        marker = writer.start()
        query_id = stream.checkpoint_id(self._checkpoint)
        archive = AlertArchive(self._state / "alerts")
        _check_fit(marker, query_id, self._checkpoint, archive)
        load_map = map_loader(self._state)
        alerts_at = sources.alert_bootstrap or bootstrap
        alert_properties = sources.alert_properties if sources.alert_bootstrap else properties
        reader = PacketReader(alerts_at, alert_properties)
        engine = self._engine(reader, sources, archive)
        if marker is not None:
            messages = read_all(bootstrap, properties, topics.REGION_LOG, end=marker.regions_next)
            records = _region_records((m.value for m in messages), load_map)
            engine.restore(records, writer.groups())
        # Before the matcher: columns are made in the JVM.
        spark = self._spark()
        self._matcher = LiveMatcher(
            engine=engine,
            writer=writer,
            sources=sources,
            reader=reader,
            load_map=load_map,
            query_id=lambda: stream.checkpoint_id(self._checkpoint),
            statements=CandidateArchive(self._state / "candidates", arrow_schema(CANDIDATE_FIELDS)),
            now=self._now,
            marker=marker,
            on_batch=_log_batch,
        )
        rows = raw_rows(spark, sources)
        self._query = stream.start(self._matcher, rows, self._checkpoint)
        log.info("match_started", kafka=bootstrap, regions=len(engine.events.in_force()))

    def _engine(self, reader: PacketReader, sources: Sources, archive: AlertArchive) -> Engine:
        config = self._config
        lookup, catalogs = local_lookup(config.match.catalogs)
        return Engine(
            chains=config.chains,
            cuts=config.cuts,
            versions=Versions(
                cuts=selection_version(config),
                code=f"mmgateway {version('mmgateway')}",
                catalogs=catalogs,
            ),
            archive=archive,
            now=self._now,
            packets=stream.packet_details(reader, sources.survey, sources.lsst_schemas),
            lookup=lookup,
            include_tests=config.match.include_tests,
        )

    def _spark(self) -> Any:
        match = self._config.match
        return spark_session(
            master=match.master,
            driver_memory=match.driver_memory,
            jars=fetch_jars("spark"),
            java=find_java(os.environ),
            local_dir=self._state / "spark",
            extra=match.spark,
        )

    def alive(self) -> None:
        """Raise ServiceError when the query has ended by itself, with the reason."""
        if self._query is None or self._query.isActive:
            return
        if self._matcher is not None and self._matcher.failure is not None:
            raise self._matcher.failure
        error = self._query.exception()
        reason = "it stopped" if error is None else str(error).splitlines()[0][:500]
        raise ServiceError(f"the Spark query ended: {reason}")

    def stop(self) -> None:
        """End the query."""
        if self._query is not None:
            self._query.stop()


def _region_records(
    values: Any, load_map: Callable[[str, str], MultiOrderMap]
) -> list[RegionRecord]:
    """Records that decode; the others became dead letters when they came."""
    records = []
    for value in values:
        try:
            records.append(decode_region(value, load_map))
        except Rejected as error:
            log.warning("region_skipped", reason=error.reason, detail=error.detail)
    return records


def _check_fit(
    marker: Marker | None, query_id: str, checkpoint: Path, archive: AlertArchive
) -> None:
    """Raise ServiceError unless marker, checkpoint and archive are of one run."""
    if marker is None:
        # Batch 0 may have been archived by a process that died before it published it.
        if archive.last_batch() > 0:
            raise ServiceError(
                f"the archive {archive.path} has batches of a run of which Kafka holds nothing:"
                " restore Kafka's topics, or begin with a fresh [paths] state"
            )
        return
    if query_id and marker.query in ("", query_id):
        return
    found = f"belongs to another run ({query_id})" if query_id else "is missing"
    raise ServiceError(
        f"the checkpoint {checkpoint} {found}, while Kafka holds batch {marker.batch_id} of"
        f" run {marker.query or 'unknown'}: restore it, or start both anew with fresh topics"
        " and a fresh [paths] state"
    )


def _log_batch(report: BatchReport) -> None:
    ledger = report.outcome.ledger
    if ledger:
        log.info(
            "batch",
            id=report.outcome.batch_id,
            received=ledger.get("received", 0),
            matched=ledger.get("matched", 0),
            statements=ledger.get("statements", 0),
            decode_s=round(report.decode_seconds, 3),
            match_s=round(report.match_seconds, 3),
            publish_s=round(report.publish_seconds, 3),
        )


def run(config: Config) -> None:
    """Run the match service in the foreground until SIGTERM or SIGINT."""
    service = MatchService(config)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    service.start()
    services.announce(config.paths.state, "match")
    try:
        while not over.wait(0.5):
            service.alive()
    finally:
        services.withdraw(config.paths.state, "match")
        service.stop()
