"""The chores of the match service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from broker import kafka_io
from broker.archive import AlertArchive
from broker.chores import Chore
from broker.commit import Committer
from broker.diskguard import PacketNews
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


class Tables:
    """The tables that anybody may read beside the archive of alerts: written and kept tidy.

    Parameters
    ----------
    config : Config
    bootstrap : str
        Kafka, from whose topics they are written.
    """

    def __init__(self, config: Config, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._properties = config.kafka.properties
        path, schema = config.paths.state / "candidates", arrow_schema(CANDIDATE_FIELDS)
        self._candidates = CandidateArchive(path, schema)
        self._said = StatementLog(path, schema)
        self._ledger = LedgerTable(config.paths.state / "ledger")

    def write_candidates(self) -> None:
        """Add the statements that are new."""
        ends = kafka_io.committed_ends(self._bootstrap, self._properties, statement_topics)
        self._said.catch_up(self._read, ends)

    def write_ledger(self) -> None:
        """Add the entries that are new."""
        self._ledger.catch_up(self._bootstrap, self._properties)

    def tidy(self) -> None:
        """Make few files of the many of the candidates; the ledger tidies itself."""
        self._candidates.tidy()

    def _read(self, topic: str, start: int) -> Iterable[Record]:
        return kafka_io.read_all(self._bootstrap, self._properties, topic, start=start)


def put_aside(engine: Engine, committer: Committer, open_days: float) -> None:
    """Put events aside that ended so many days ago by the clock of the alerts, in steps."""
    before = engine.clock_jd - open_days
    while committer.commit(lambda: engine.close_ended(before)) is not None:
        pass


def compact_packets(storage: Storage) -> None:
    """Make few files of the many of each night, where the matcher writes them."""
    if storage.store is None or not storage.writes:
        return
    for night in storage.store.nights()[:-1]:
        # The last one still grows.
        if night.files > MANY_FILES:
            storage.store.compact(night.night)


def trim_packets(
    config: Config, storage: Storage, tell: Callable[[datetime, PacketNews], object], now: datetime
) -> None:
    """Drop the oldest packets until the configured limits hold, and tell of it."""
    if storage.store is None:
        return
    limit = int(config.archive.packets_gigabytes * 1e9)
    for news in storage.store.trim(limit, config.archive.keep_free):
        tell(now, news)


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
    tables = Tables(config, bootstrap)

    def tell_searches() -> None:
        progress.tell(list(engine.searches.values()))

    def close() -> None:
        put_aside(engine, committer, config.match.open_days)

    def trim() -> None:
        trim_packets(config, storage, troubles.packets, now())

    def tidy() -> None:
        archive.tidy(now())
        tables.tidy()
        compact_packets(storage)

    return [
        Chore("tell how searches go", 1.0, tell_searches, at_end=True),
        Chore("keep packets", 2.0, storage.flush, at_end=True),
        Chore("write the table of candidates", 5.0, tables.write_candidates, at_end=True),
        Chore("put ended events aside", 10.0, close),
        Chore("tell alarms", 5.0, troubles.announce),
        Chore("write the table of the ledger", 30.0, tables.write_ledger, at_end=True),
        Chore("trim the packets", 60.0, trim),
        Chore("tidy the tables", 60.0 * config.archive.compact_minutes, tidy),
    ]
