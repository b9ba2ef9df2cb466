"""The match service: Spark, the engine, the archive and the writer wired together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from broker import checkpoint, cycles, stream, topics
from broker.archive import AlertArchive
from broker.aside import Aside
from broker.carried import Carried
from broker.chores import Chore, Chores
from broker.coldsqlite import SqliteColdStore
from broker.commit import Committed, Committer
from broker.details import packet_details
from broker.embedded.jars import fetch_jars
from broker.embedded.java import find_java
from broker.embedded.spark import spark_session
from broker.engine import Engine
from broker.kafka_io import PacketReader, send
from broker.kafka_io import producer as producer_of
from broker.lookups import SqliteAnswers
from broker.owed import told_key
from broker.rawquery import CHECKPOINT, RawQuery, RawReport, start_raw_query
from broker.search import Searcher
from broker.sources import Sources, raw_rows
from broker.stream import LiveMatcher
from broker.writer import Marker, Writer
from crossmatch.candidate import Versions
from crossmatch.errors import ServiceError
from gateway import runfiles, services
from gateway.config import Config
from gateway.logs import EventLog
from gateway.lookup import lookup_of, remote_of
from gateway.matcher import backfill
from gateway.matcher.packets import Storage
from gateway.matcher.progress import Progress
from gateway.matcher.restoring import Regions, check_fit, restore
from gateway.matcher.troubles import Troubles
from gateway.matcher.upkeep import chores
from gateway.matcher.wiring import (
    Readers,
    ahead_of,
    code_version,
    map_loader,
    selection_version,
    sources_of,
)

log = EventLog("match")
_EVENTS_A_STEP = 20


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
        self._failure: Exception | None = None
        self._query: Any = None
        self._raw: RawQuery | None = None
        self._matcher: LiveMatcher | None = None
        self._searcher: Searcher | None = None
        self._chores: Chores | None = None
        self._troubles: Troubles | None = None
        self._store: Storage | None = None
        self._backfill: backfill.BackfillThread | None = None

    def start(self) -> None:
        """Bring the state back from Kafka and start the query and what goes beside it.

        Raises
        ------
        ServiceError
            Kafka or Java missing, or a checkpoint that does not fit what was published.
        """
        config, properties = self._config, self._config.kafka.properties
        bootstrap = services.find_bootstrap(config)
        services.ensure_all_topics(config, bootstrap)
        sources = sources_of(config, bootstrap)
        writer = self._writer(bootstrap)
        marker = writer.start()
        archive = AlertArchive(self._state / "alerts")
        self._fit_checkpoint(marker, archive)
        regions = Regions(map_loader(self._state), config.chains)
        troubles = self._troubles = self._alarms(bootstrap)
        storage = self._store = self._storage(sources, bootstrap, troubles)
        aside = Aside(SqliteColdStore(self._state / "closed.sqlite"), regions.put_aside)
        carried = Carried(config.cuts, storage.keeper(Readers(storage.reader)).fetch)
        answers = SqliteAnswers(self._state / "lookups.sqlite")
        engine = self._engine(sources, archive, aside, storage, carried, answers)
        restore(engine, aside, writer, marker, regions, answers, bootstrap, properties)
        committer = Committer(engine, writer, marker, self._committed)
        self._searcher = Searcher(engine, archive, committer.commit, self._fail)
        self._reselect(engine, committer)
        # Before the matcher: columns are made in the JVM.
        spark = self._spark()
        self._matcher = LiveMatcher(
            engine=engine,
            committer=committer,
            sources=sources,
            new_reader=storage.reader,
            read_region=regions.read,
            query_id=lambda: checkpoint.checkpoint_id(self._checkpoint),
            now=self._now,
            carried=carried,
            ahead=ahead_of(config, sources),
        )
        progress = Progress(self._state, archive.nights)
        every = chores(
            config, bootstrap, engine, committer, archive, storage, progress, troubles, self._now
        )
        every += self._packet_chores(engine, storage, spark, sources)
        self._chores = Chores(every, troubles.chore)
        self._query = stream.start(self._matcher, raw_rows(spark, sources), self._checkpoint)
        self._begin(engine, bootstrap, 0 if marker is None else marker.lookups_next)

    def _writer(self, bootstrap: str) -> Writer:
        properties = self._config.kafka.properties

        def make_topics(stream: str) -> None:
            services.ensure_topics(bootstrap, properties, streams=[stream])

        return Writer(bootstrap, properties, make_topics=make_topics)

    def _fit_checkpoint(self, marker: Marker | None, archive: AlertArchive) -> None:
        """Take Spark's checkpoint back to what was committed; refuse one of another run."""
        query_id = checkpoint.checkpoint_id(self._checkpoint)
        check_fit(marker, query_id, self._checkpoint, archive)
        ahead = checkpoint.rewind(self._checkpoint, -1 if marker is None else marker.batch_id)
        if ahead:
            log.info("batches_taken_back", batches=ahead)

    def _packet_chores(
        self, engine: Engine, storage: Storage, spark: Any, sources: Sources
    ) -> list[Chore]:
        """What keeps whole packets, beside what steps store."""
        open_groups = list(engine.groups.values())
        found = [Chore("repair the packets", 5.0, lambda: storage.repair(open_groups), once=True)]
        if self._config.archive.packets == "all":
            found.append(Chore("copy packets", 5.0, lambda: self._copy_packets(spark, sources)))
        return found

    def _begin(self, engine: Engine, bootstrap: str, lookups_next: int) -> None:
        """Start what goes beside the query."""
        assert self._searcher is not None
        assert self._chores is not None
        assert self._troubles is not None
        self._searcher.start()
        self._searcher.wake()
        self._chores.start()
        self._backfill = backfill.started(
            self._config, bootstrap, engine, lookups_next, self._troubles.chore, self._now
        )
        self._troubles.start()
        log.info(
            "match_started",
            kafka=bootstrap,
            regions=len(engine.events.in_force()),
            searches=len(engine.searches),
        )

    def _alarms(self, bootstrap: str) -> Troubles:
        producer = producer_of(bootstrap, self._config.kafka.properties)

        def produce(key: bytes, value: bytes) -> None:
            send(producer, topics.ALARMS, value, key)

        path = runfiles.run_folder(self._state) / "match-alarms.json"
        return Troubles(self._config.alarms, path, self._now, produce)

    def _copy_packets(self, spark: Any, sources: Sources) -> None:
        """Keep the query going that copies packets; when it ended, say why and begin it anew.

        That there is no room for packets must not end the matching.
        """
        if self._raw is None:
            assert self._store is not None
            assert self._store.store is not None
            self._raw = start_raw_query(
                spark, sources, self._store.store, self._state / CHECKPOINT, on_batch=self._copied
            )
            return
        try:
            self._raw.alive()
        except ServiceError:
            self._raw = None
            raise

    def _copied(self, report: RawReport) -> None:
        log.info("packets_copied", batch=report.batch_id, packets=report.packets)
        for news in report.news:
            if self._troubles is not None:
                self._troubles.packets(self._now(), news)

    def _storage(self, sources: Sources, bootstrap: str, troubles: Troubles) -> Storage:
        properties = self._config.kafka.properties
        alerts_at = sources.alert_bootstrap or bootstrap
        alert_properties = sources.alert_properties if sources.alert_bootstrap else properties

        def reader() -> PacketReader:
            return PacketReader(alerts_at, alert_properties)

        return Storage.of(self._config, reader, self._now, troubles.packets)

    def _engine(
        self,
        sources: Sources,
        archive: AlertArchive,
        aside: Aside,
        storage: Storage,
        carried: Carried,
        answers: SqliteAnswers,
    ) -> Engine:
        config = self._config
        lookup, catalogs = lookup_of(config)
        collector = storage.collector(lambda: engine.step_number)
        engine = Engine(
            chains=config.chains,
            cuts=config.cuts,
            versions=Versions(
                cuts=selection_version(config), code=code_version(), catalogs=catalogs
            ),
            archive=archive,
            now=self._now,
            packets=packet_details(
                carried.fetch,
                sources.survey,
                sources.lsst_schemas,
                collector.collect,
                carried.records,
            ),
            lookup=lookup,
            include_tests=config.match.include_tests,
            aside=aside,
            remote=remote_of(config),
            answers=answers,
        )
        return engine

    def _reselect(self, engine: Engine, committer: Committer) -> None:
        """Judge everything open anew when the rules are others than before.

        In parts, each a step; the last one says by which rules all is judged. A process that
        ends before that begins once more, and says nothing twice.
        """
        before = "" if committer.marker is None else committer.marker.rules
        if not before or before == engine.rules:
            return
        log.info("selection_changed", before=before, now=engine.rules)
        events = engine.open_events()
        # Neither the old nor the new ones: whoever starts next, by either, begins once more.
        committer.rules = f"{before} > {engine.rules}"
        for begin in range(0, len(events), _EVENTS_A_STEP):
            part = events[begin : begin + _EVENTS_A_STEP]
            committer.commit(lambda: engine.reselect(part))  # noqa: B023
        committer.rules = engine.rules
        committer.commit(lambda: engine.reselect([]))

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

    def _committed(self, done: Committed) -> None:
        if done.outcome.searches and self._searcher is not None:
            self._searcher.wake()
        _log_step(done)

    def _fail(self, error: Exception) -> None:
        self._failure = error

    def alive(self) -> None:
        """Raise ServiceError when the query has ended by itself, with the reason."""
        if self._failure is not None:
            raise ServiceError(f"the search of the archive ended: {self._failure}") from (
                self._failure
            )
        if self._matcher is not None and self._matcher.failure is not None:
            raise self._matcher.failure
        if self._query is None or self._query.isActive:
            return
        error = self._query.exception()
        reason = "it stopped" if error is None else str(error).splitlines()[0][:500]
        raise ServiceError(f"the Spark query ended: {reason}")

    def stop(self) -> None:
        """End the query and what goes beside it."""
        if self._searcher is not None and self._searcher.is_alive():
            self._searcher.stop()
        for query in (self._query, self._raw):
            if query is not None:
                query.stop()
        if self._matcher is not None:
            self._matcher.close()
        if self._backfill is not None:
            self._backfill.stop()
        if self._chores is not None:
            self._chores.stop()
        if self._troubles is not None:
            self._troubles.stop()


def _log_step(done: Committed) -> None:
    outcome = done.outcome
    if outcome.ledger:
        log.info(
            "step",
            kind=outcome.kind,
            step=outcome.step,
            batch=outcome.batch_id,
            received=outcome.ledger.get("received", 0),
            matched=outcome.ledger.get("matched", 0),
            statements=outcome.ledger.get("statements", 0),
            step_s=round(done.step_seconds, 3),
            publish_s=round(done.publish_seconds, 3),
        )
    for told in outcome.search:
        if outcome.searches.get(told_key(told), ...) is None:
            log.info("search_done", event_id=told["event_id"], found=told["found"])


def run(config: Config) -> None:
    """Run the match service in the foreground until SIGTERM or SIGINT."""
    service = MatchService(config)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with cycles.rarely_looked_for():
        service.start()
        services.announce(config.paths.state, "match")
        try:
            while not over.wait(0.5):
                service.alive()
        finally:
            services.withdraw(config.paths.state, "match")
            service.stop()
