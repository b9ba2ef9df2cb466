"""A matcher on a real Spark with all else in memory, and the query's rows from a real Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker import kafka_io, stream
from broker.ahead import Ahead
from broker.archive import AlertArchive
from broker.carried import Carried
from broker.codec import decode
from broker.commit import Committer
from broker.details import packet_details
from broker.engine import Engine, Outcome
from broker.ledger import alert_hole
from broker.regioncodec import encode_region
from broker.search import work_off
from broker.sources import Sources, raw_rows
from broker.stream import LiveMatcher
from broker.writer import Marker
from crossmatch.candidate import Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.counterpart import MatchedAlert
from crossmatch.cuts import Cuts
from crossmatch.errors import Rejected
from crossmatch.model import Circle, Notice
from crossmatch.region import make_region
from gateway import services
from gateway.matcher.restoring import Regions
from tests.endtoend import packets

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from broker.embedded.kafka import EmbeddedKafka

NOW = datetime(2026, 1, 4, tzinfo=UTC)
TRIGGER = datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)
ALERTS, LSST = "alerts.ztf", "alerts.lsst"
RA, DEC = packets.GBM_PLACE
CUTS = Cuts(
    enabled=True,
    min_real_bogus=0.55,
    min_deep_real_bogus=0.3,
    max_bad_pixels=0,
    max_mag_difference=None,
    require_positive=True,
    moving_radius_arcsec=5.0,
    min_star_score=0.76,
    star_radius_arcsec=2.0,
)
Address = tuple[str, int, int]


class Messages:
    """Kafka as the matcher sees it: messages by address."""

    def __init__(self) -> None:
        self.values: dict[Address, bytes] = {}
        self.taken: dict[tuple[str, int], int] = {}

    def add(self, topic: str, value: bytes | None) -> tuple[str, int, int, bytearray | None]:
        offset = self.taken.get((topic, 0), 0)
        self.taken[(topic, 0)] = offset + 1
        self.values[(topic, 0, offset)] = value or b""
        return (topic, 0, offset, None if value is None else bytearray(value))

    def fetch(self, addresses: Iterable[Address]) -> dict[Address, bytes]:
        return {a: self.values[a] for a in addresses if a in self.values}

    def low(self, topic: str, partition: int) -> int:
        return 0

    def close(self) -> None:
        """Nothing to leave."""


class MemoryWriter:
    """Remembers what was published."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.letters: list[dict[str, Any]] = []

    def publish(
        self,
        outcome: Outcome,
        marker: Marker,
        dead_letters: Sequence[bytes] = (),
        before: Marker | None = None,
    ) -> None:
        assert outcome.step == marker.step == (0 if before is None else before.step + 1)
        self.outcomes.append(outcome)
        self.letters += [decode(letter) for letter in dead_letters]

    @property
    def statements(self) -> list[dict[str, Any]]:
        return [s for o in self.outcomes for s in o.statements]


class World:
    """A matcher with everything around it in memory, except Spark and the archive.

    With ``bootstrap`` in ``sources`` and readers, packets come from a Kafka. ``in_workers``:
    Spark's workers match.
    """

    def __init__(
        self,
        spark: SparkSession,
        folder: Path,
        new_reader: Callable[[], Any] | None = None,
        in_workers: bool = False,
        **sources: Any,
    ) -> None:
        self.spark = spark
        self.messages = Messages()
        self.writer = MemoryWriter()
        self.kept: list[tuple[MatchedAlert, bytes]] = []
        self.archive = AlertArchive(folder / "alerts")
        names: dict[str, Any] = {"bootstrap": "", "ztf": (ALERTS,), "lsst": (LSST,)}
        self.sources = Sources(properties={}, **(names | sources))
        new_reader = new_reader or (lambda: self.messages)
        self.carried = Carried(CUTS, new_reader().fetch)
        self.engine = Engine(
            chains=DEFAULT_CHAINS,
            cuts=CUTS,
            versions=Versions(cuts="test", code="test"),
            archive=self.archive,
            now=lambda: NOW,
            packets=packet_details(
                self.carried.fetch,
                self.sources.survey,
                self.sources.lsst_schemas,
                self.kept.extend,
                self.carried.records,
            ),
        )
        self.committer = Committer(self.engine, self.writer, None)  # type: ignore[arg-type]
        self.matcher = LiveMatcher(
            engine=self.engine,
            committer=self.committer,
            sources=self.sources,
            new_reader=new_reader,
            read_region=Regions(_no_map, DEFAULT_CHAINS).read,
            query_id=lambda: "query",
            now=lambda: NOW,
            carried=self.carried,
            ahead=Ahead(CUTS, self.sources, folder / "regions") if in_workers else None,
        )
        self.batch = -1

    def frame(self, *messages: tuple[str, bytes | None]) -> DataFrame:
        rows = [self.messages.add(topic, value) for topic, value in messages]
        return self.spark.createDataFrame(
            rows, "topic string, partition int, offset bigint, value binary"
        )

    def take(self, *messages: tuple[str, bytes | None]) -> Outcome:
        """Do these messages as the next batch; every ledger must add up."""
        self.batch += 1
        self.matcher.take(self.frame(*messages), self.batch)
        self.matcher.settle()
        outcome = self.writer.outcomes[-1]
        assert outcome.batch_id == self.batch
        assert alert_hole(outcome.ledger) == 0
        return outcome

    def search(self) -> list[dict[str, Any]]:
        """Do the searches that are owed; what they made known."""
        before = len(self.writer.statements)
        work_off(self.engine, self.archive, self.committer.commit)
        return self.writer.statements[before:]


def _no_map(sha256: str, path: str) -> Any:
    raise Rejected("map_missing", "there are no maps here")


class Stream:
    """The query's rows from a real Kafka, without an engine behind them."""

    def __init__(self, kafka: EmbeddedKafka, spark: SparkSession, folder: Path) -> None:
        self._kafka, self._spark, self._folder = kafka, spark, folder
        self.values: list[bytes] = []
        services.ensure_topics(kafka.bootstrap, {})

    def send(self, topic: str, *values: bytes) -> None:
        producer = kafka_io.producer(self._kafka.bootstrap, {})
        for value in values:
            kafka_io.send(producer, topic, value)
        assert producer.flush(30) == 0

    @contextmanager
    def running(self, **sources: Any) -> Iterator[StreamingQuery]:
        """The query with a checkpoint that stays; all batches are done when it ends."""
        what = Sources(bootstrap=self._kafka.bootstrap, properties={}, **({"lsst": ()} | sources))
        rows = raw_rows(self._spark, what)
        matcher: Any = type("M", (), {"take": staticmethod(self._take)})
        query = stream.start(matcher, rows, self._folder / "checkpoint")
        try:
            query.processAllAvailable()
            yield query
            query.processAllAvailable()
        finally:
            query.stop()

    def _take(self, frame: DataFrame, batch_id: int) -> None:
        self.values += [bytes(row.value) for row in frame.select("value").collect()]


def notice(**changed: Any) -> Notice:
    fields: dict[str, Any] = {
        "feed": "test",
        "mission": "Fermi",
        "instrument": "GBM",
        "kind": "GBM_Fin_Pos",
        "notice_id": "ivo://test/1",
        "event_id": "Fermi_1",
        "trigger_id": "1",
        "messenger": "grb",
        "role": "observation",
        "alert_type": "initial",
        "issued": TRIGGER + timedelta(minutes=5),
        "order": (1.0, 0, 1),
        "trigger_time": TRIGGER,
        "localization": Circle(RA, DEC, 5.0, 0.9),
        "sha256": "1",
    }
    return Notice(**(fields | changed))


def region(**changed: Any) -> bytes:
    return encode_region(make_region(notice(**changed), 1, DEFAULT_CHAINS))


def good(candid: int = 100) -> bytes:
    return packets.alert(candid, RA, DEC)


def with_history(candid: int = 100) -> bytes:
    record = packets.record(candid, RA, DEC)
    record["prv_candidates"] = [packets.previous(-1), packets.previous(-2)]
    return packets.container(record)
