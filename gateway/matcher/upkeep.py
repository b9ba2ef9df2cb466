"""The chores of the match service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from broker import kafka_io
from broker.archive import AlertArchive
from broker.chores import Chore
from broker.commit import Committer
from broker.engine import Engine
from broker.kafka_io import Record
from broker.ledgertable import LedgerTable
from broker.statementlog import StatementLog, statement_topics
from broker.statements import CandidateArchive
from crossmatch.columns import CANDIDATE_FIELDS, arrow_schema
from gateway.config import Config
from gateway.matcher.packets import Storage
from gateway.matcher.progress import Progress
from gateway.matcher.troubles import Troubles

MANY_FILES = 8
"""A night's packets in more files than this are put into few."""


def chores(
    config: Config,
    bootstrap: str,
    engine: Engine,
    committer: Committer,
    archive: AlertArchive,
    storage: Storage,
    progress: Progress,
    troubles: Troubles,
    now: Callable[[], datetime],
) -> list[Chore]:
    """What is done beside the steps, and how often."""
    state, properties = config.paths.state, config.kafka.properties
    statements = CandidateArchive(state / "candidates", arrow_schema(CANDIDATE_FIELDS))
    said = StatementLog(statements.path, arrow_schema(CANDIDATE_FIELDS))
    ledger = LedgerTable(state / "ledger")

    def read(topic: str, start: int) -> Iterable[Record]:
        return kafka_io.read_all(bootstrap, properties, topic, start=start)

    def close() -> None:
        before = engine.clock_jd - config.match.open_days
        while committer.commit(lambda: engine.close_ended(before)) is not None:
            pass

    def tidy() -> None:
        archive.tidy(now())
        statements.tidy()
        if storage.store is not None and storage.writes:
            for night in storage.store.nights()[:-1]:
                # The last one still grows.
                if night.files > MANY_FILES:
                    storage.store.compact(night.night)

    def trim() -> None:
        if storage.store is not None:
            for news in storage.store.trim(
                int(config.archive.packets_gigabytes * 1e9), config.archive.keep_free
            ):
                troubles.packets(now(), news)

    def tell_statements() -> None:
        said.catch_up(read, kafka_io.committed_ends(bootstrap, properties, statement_topics))

    return [
        Chore(
            "tell how searches go",
            1.0,
            lambda: progress.tell(list(engine.searches.values())),
            at_end=True,
        ),
        Chore("keep packets", 2.0, storage.flush, at_end=True),
        Chore("write the table of candidates", 5.0, tell_statements, at_end=True),
        Chore("put ended events aside", 10.0, close),
        Chore("tell alarms", 5.0, troubles.announce),
        Chore(
            "write the table of the ledger",
            30.0,
            lambda: ledger.catch_up(bootstrap, properties),
            at_end=True,
        ),
        Chore("trim the packets", 60.0, trim),
        Chore("tidy the tables", 60.0 * config.archive.compact_minutes, tidy),
    ]
