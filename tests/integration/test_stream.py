"""Batches of raw messages through a real Spark and the engine, to a writer that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import kafka_io, stream, topics
from broker.archive import AlertArchive
from broker.codec import decode, encode, encode_region, encode_retraction
from broker.commit import Committer
from broker.engine import Engine, Outcome
from broker.groups import Group
from broker.ledger import alert_hole
from broker.search import work_off
from broker.sources import Sources, jvm_properties, raw_rows
from broker.stream import LiveMatcher
from broker.verdictlog import encode_verdict
from broker.writer import Marker
from crossmatch.candidate import MatchedAlert, Versions
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.cuts import Cuts
from crossmatch.errors import GatewayError, Rejected, ServiceError
from crossmatch.model import Circle, Notice
from crossmatch.region import make_region
from crossmatch.verdicts import Verdict
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
NewTopic = Callable[..., str]


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
    """A matcher with everything around it in memory, except Spark and the archive."""

    def __init__(self, spark: SparkSession, folder: Path, **sources: Any) -> None:
        self.spark = spark
        self.messages = Messages()
        self.writer = MemoryWriter()
        self.kept: list[tuple[MatchedAlert, bytes]] = []
        self.archive = AlertArchive(folder / "alerts")
        names: dict[str, Any] = {"ztf": (ALERTS,), "lsst": (LSST,)} | sources
        self.sources = Sources(bootstrap="", properties={}, **names)
        reader: Any = self.messages
        self.engine = Engine(
            chains=DEFAULT_CHAINS,
            cuts=CUTS,
            versions=Versions(cuts="test", code="test"),
            archive=self.archive,
            now=lambda: NOW,
            packets=stream.packet_details(
                reader.fetch, self.sources.survey, self.sources.lsst_schemas, self.kept.extend
            ),
        )
        self.committer = Committer(self.engine, self.writer, None)  # type: ignore[arg-type]
        self.matcher = LiveMatcher(
            engine=self.engine,
            committer=self.committer,
            sources=self.sources,
            reader=reader,
            read_region=Regions(_no_map, DEFAULT_CHAINS).read,
            query_id=lambda: "query",
            now=lambda: NOW,
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


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    return World(spark, tmp_path)


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


def reasons(world: World) -> list[str]:
    return [letter["reason"] for letter in world.writer.letters]


def test_an_alert_in_a_region_becomes_a_candidate_with_the_digest_of_its_packet(world: World):
    outcome = world.take((topics.REGION_LOG, region()), (ALERTS, good()))

    (statement,) = outcome.statements
    assert statement["event_id"] == "Fermi_1"
    assert len(statement["alert_sha256"]) == 64
    assert outcome.ledger["received"] == outcome.ledger["matched"] == 1


def test_a_batch_that_spark_gives_again_is_not_published_again(world: World):
    frame = world.frame((topics.REGION_LOG, region()), (ALERTS, good()))

    world.matcher.take(frame, 0)
    world.matcher.take(frame, 0)

    assert len(world.writer.outcomes) == 1


def test_a_batch_too_many_is_an_error_that_says_why(world: World):
    frame = world.frame((ALERTS, good()))
    world.matcher.take(frame, 0)

    with pytest.raises(ServiceError, match="not of one run"):
        world.matcher.take(frame, 2)
    assert isinstance(world.matcher.failure, ServiceError)


FOREIGN = encode(
    "deadletter",
    dict.fromkeys(("reason", "detail", "source", "topic", "received"), "")
    | {"partition": 0, "offset": 0, "raw": b""},
)


def _damaged_fields(**changed: Any) -> bytes:
    return encode("region", decode(region()) | changed)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"garbage", id="not Avro"),
        pytest.param(b"Obj\x01" + bytes(40), id="an empty container"),
        pytest.param(region()[:-30], id="truncated"),
        pytest.param(region().replace(b"avro.codec\x08null", b"avro.codec\x08nulx"), id="codec"),
        pytest.param(region()[:200] + b"\xff" * 40 + region()[240:], id="damaged schema"),
        pytest.param(None, id="no value"),
        pytest.param(FOREIGN, id="another record"),
        pytest.param(_damaged_fields(shape="blob"), id="unknown shape"),
        pytest.param(_damaged_fields(shape="map", skymap_sha256="0"), id="missing map"),
        pytest.param(_damaged_fields(trigger_time="yesterday"), id="no time"),
        pytest.param(_damaged_fields(trigger_time=None), id="time is null"),
        pytest.param(_damaged_fields(radii_deg=[]), id="no radius"),
        pytest.param(_damaged_fields(radii_deg=[-1.0]), id="negative radius"),
        pytest.param(_damaged_fields(dec=float("nan")), id="position not a number"),
        pytest.param(_damaged_fields(window_days=[]), id="no window"),
        pytest.param(_damaged_fields(chain="nonsense"), id="unknown chain"),
        pytest.param(_damaged_fields(level=7.0), id="level above one"),
    ],
)
def test_a_message_on_the_regions_topic_that_is_no_region_costs_nothing_else(
    world: World, value: bytes | None
):
    world.take(
        (topics.REGION_LOG, value), (topics.REGION_LOG, region(event_id="Good")), (ALERTS, good())
    )

    assert [s["event_id"] for s in world.writer.statements] == ["Good"]
    (letter,) = world.writer.letters
    assert (letter["topic"], letter["offset"]) == (topics.REGION_LOG, 0)
    assert letter["raw"] == (value or b"")


def _with_history() -> bytes:
    record = packets.record(100, RA, DEC)
    record["prv_candidates"] = [packets.previous(-1), packets.previous(-2)]
    return packets.container(record)


def _broken_behind_the_leaves() -> bytes:
    """Right size, right markers, good leaves; the light curve behind them is rubbish."""
    packet = bytearray(_with_history())
    packet[-180:-100] = b"\xff" * 80
    return bytes(packet)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, "", id="no value"),
        pytest.param(b"garbage", "", id="not Avro"),
        pytest.param(good()[:-40], "", id="truncated"),
        pytest.param(good()[:5000], "", id="header only"),
        pytest.param(packets.alert(100, 720.0, 0.0), "ra_out_of_range", id="RA 720"),
        pytest.param(packets.alert(100, RA, float("nan")), "null_required", id="NaN position"),
        pytest.param(packets.alert(100, RA, DEC, days=1e6), "time_out_of_range", id="year 4763"),
        pytest.param(b"\x00\x00\x00\x03\x84abc", "", id="Confluent on a ZTF topic"),
    ],
)
def test_a_bad_alert_costs_only_itself(world: World, value: bytes | None, reason: str):
    outcome = world.take((topics.REGION_LOG, region()), (ALERTS, value), (ALERTS, good(200)))

    assert [s["id"] for s in outcome.statements] == ["ZTF260000002"]
    assert outcome.ledger["received"] == 2
    (letter,) = world.writer.letters
    assert letter["reason"] == reason or not reason
    assert letter["detail"]
    assert letter["raw"] == (value or b"")


def test_a_packet_that_is_broken_behind_what_matching_needs_does_not_end_the_service(world: World):
    """The JVM reads no further than its leaves; Python, asked for the light curve, stumbles."""
    world.take((ALERTS, good(900)))
    outcome = world.take(
        (topics.REGION_LOG, region()), (ALERTS, _broken_behind_the_leaves()), (ALERTS, good(200))
    )

    assert "ZTF260000002" in [s["id"] for s in outcome.statements]


def test_containers_of_other_codecs_and_with_several_records_are_read(world: World):
    several = packets.container(packets.record(100, RA, DEC), packets.record(200, RA, DEC))
    deflated = packets.container(packets.record(300, RA, DEC), codec="deflate")

    outcome = world.take((topics.REGION_LOG, region()), (ALERTS, several), (ALERTS, deflated))

    assert outcome.ledger["received"] == outcome.ledger["matched"] == 3
    assert len(outcome.statements) == 3


def test_an_alert_that_comes_again_is_a_duplicate_in_the_same_batch_and_later(world: World):
    first = world.take((ALERTS, good()), (ALERTS, good()))
    later = world.take((ALERTS, good()))

    assert first.ledger == {"messages": 2, "received": 2, "duplicate": 1, "unmatched": 1}
    assert later.ledger == {"messages": 1, "received": 1, "duplicate": 1}


def test_regions_before_and_after_the_alerts_give_the_same_candidates(
    world: World, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
):
    other = World(spark, tmp_path_factory.mktemp("other"))
    alerts = [(ALERTS, good(i * 100)) for i in range(1, 4)]
    world.take((topics.REGION_LOG, region()))
    world.take(*alerts)
    other.take(*alerts)
    other.take((topics.REGION_LOG, region()))
    assert len(other.search()) == 3

    def groups(of: World) -> dict[str, Any]:
        return {
            k.text: group.to_json() | {"last": {**(group.last or {}), "reason": "", "cause": ""}}
            for k, group in of.engine.groups.items()
        }

    assert groups(world) == groups(other)
    assert len(groups(world)) == 3


def test_what_falls_and_matches_again_in_the_same_batch_is_one_update_that_says_why(
    world: World,
):
    world.take((topics.REGION_LOG, region()), (ALERTS, packets.alert(100, RA + 4, DEC)))
    smaller = region(
        localization=Circle(RA, DEC, 1.0, 0.9), order=(2.0, 0, 2), sha256="2", alert_type="update"
    )
    again = packets.record(101, RA, DEC) | {"objectId": world.writer.statements[0]["id"]}

    outcome = world.take((topics.REGION_LOG, smaller), (ALERTS, packets.container(again)))

    (told,) = outcome.statements
    assert (told["alert_type"], told["state"]) == ("update", "in_force")
    assert told["reason"] == "new_candidate"
    assert told["n_alerts"] == 1


def test_a_region_finds_archived_alerts_of_a_topic_that_is_no_longer_read(
    spark: SparkSession, tmp_path: Path
):
    before = World(spark, tmp_path, ztf=("alerts.old",))
    before.take(("alerts.old", good()))
    after = World(spark, tmp_path)
    after.messages, after.batch = before.messages, before.batch
    after.engine.restore([], {}, step=0, batch_id=0)
    after.committer.marker = before.committer.marker
    after.take((topics.REGION_LOG, region()))
    (statement,) = after.search()

    assert statement["alert_sha256"] is None


def test_a_retraction_withdraws_all_candidates_of_its_event(world: World):
    world.take((topics.REGION_LOG, region()), (ALERTS, good()))
    cancel = notice(alert_type="retraction", localization=None, order=(3.0, 0, 3), sha256="3")

    outcome = world.take((topics.REGION_LOG, encode_retraction(cancel)))

    assert [(s["state"], s["reason"]) for s in outcome.statements] == [
        ("withdrawn", "event_retracted")
    ]


def test_a_test_event_with_the_name_of_a_real_one_changes_nothing(
    spark: SparkSession, tmp_path: Path
):
    world = World(spark, tmp_path)
    world.engine.events._include_tests = True
    world.take((topics.REGION_LOG, region()), (ALERTS, good()))
    cancel = notice(
        alert_type="retraction", localization=None, order=(3.0, 0, 3), sha256="3", role="test"
    )

    outcome = world.take((topics.REGION_LOG, encode_retraction(cancel)))

    assert outcome.statements == []


def test_only_one_of_two_notices_of_the_same_moment_holds_whatever_their_order(
    spark: SparkSession, tmp_path: Path
):
    """The listener orders them by identifier, then digest: so must whoever matches."""
    wide = region(notice_id="ivo://test/b", sha256="b")
    narrow = region(notice_id="ivo://test/a", sha256="a", localization=Circle(RA, DEC, 1.0, 0.9))
    held = []
    for name, order in (("one", (wide, narrow)), ("two", (narrow, wide))):
        world = World(spark, tmp_path / name)
        for value in order:
            world.take((topics.REGION_LOG, value))
        (held_region,) = world.engine.events.in_force()
        held.append(held_region.notice_id)

    assert held == ["ivo://test/b", "ivo://test/b"]


def test_a_schema_not_seen_before_is_read_by_python_and_then_learned(world: World):
    outcome = world.take(*((ALERTS, good(i * 100)) for i in range(1, 4)))
    assert outcome.ledger["received"] == 3
    assert len(world.matcher._learned["ztf"]) == 1

    assert world.take((ALERTS, good(1000))).ledger == {"messages": 1, "received": 1, "unmatched": 1}


def test_packets_of_matched_alerts_are_handed_over_to_be_kept(world: World):
    far = packets.alert(300, RA + 40, DEC)
    world.take((topics.REGION_LOG, region()), (ALERTS, good(200)), (ALERTS, far))

    assert [(m.alert["alert_id"], data) for m, data in world.kept] == [(200, good(200))]


def test_a_verdict_demotes_a_candidate_and_one_that_is_none_is_a_dead_letter(world: World):
    world.take((topics.REGION_LOG, region()), (ALERTS, good()))
    (candidate,) = world.writer.statements
    verdict = Verdict(
        verdict_id="v1",
        counterpart_id=candidate["counterpart_id"],
        classification="asteroid",
        effect="demote",
        stated="2026-01-02T00:00:00.000000Z",
    )

    outcome = world.take((topics.VERDICTS, encode_verdict(verdict)), (topics.VERDICTS, b"nonsense"))

    (statement,) = outcome.statements
    assert (statement["verdict"], statement["reason"]) == ("asteroid", "verdict")
    assert statement["cause"] == "v1"
    (letter,) = world.writer.letters
    assert (letter["topic"], letter["offset"], letter["source"]) == (topics.VERDICTS, 1, "verdicts")
    assert world.committer.marker is not None
    assert world.committer.marker.verdicts_next == 2


def test_groups_survive_their_text_form(world: World):
    world.take((topics.REGION_LOG, region()), (ALERTS, _with_history()))
    (group,) = world.engine.groups.values()

    assert Group.from_json(group.to_json()) == group


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


@pytest.fixture
def real(kafka: EmbeddedKafka, spark: SparkSession, tmp_path: Path) -> Stream:
    return Stream(kafka, spark, tmp_path)


def test_a_start_at_the_latest_alerts_still_reads_all_regions(real: Stream, topic: NewTopic):
    alerts = topic("alerts")
    real.send(topics.REGION_LOG, b"an early region")
    real.send(alerts, b"an early alert")

    with real.running(ztf=(alerts,), starting_offsets="latest"):
        real.send(alerts, b"a late alert")

    assert b"a late alert" in real.values
    assert b"an early alert" not in real.values
    assert b"an early region" in real.values


def test_alerts_of_another_kafka_come_with_our_regions(
    real: Stream, topic: NewTopic, kafka: EmbeddedKafka
):
    alerts = topic("alerts")
    real.send(topics.REGION_LOG, b"our region")
    real.send(alerts, b"their alert")

    with real.running(ztf=(alerts,), alert_bootstrap=kafka.bootstrap):
        real.send(alerts, b"another alert")

    assert {b"our region", b"their alert", b"another alert"} <= set(real.values)


def test_a_topic_of_alerts_can_be_added_later(real: Stream, topic: NewTopic):
    one, two = topic("alerts"), topic("alerts")
    real.send(one, b"one")
    with real.running(ztf=(one,)):
        pass
    real.send(two, b"two")
    with real.running(ztf=(one, two)):
        real.send(one, b"three")

    assert [v for v in real.values if v in (b"one", b"two", b"three")] == [b"one", b"two", b"three"]


def test_alerts_that_kafka_deleted_while_nobody_matched_do_not_end_the_service(
    real: Stream, topic: NewTopic, kafka: EmbeddedKafka
):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    alerts = topic("alerts")
    real.send(alerts, b"before")
    with real.running(ztf=(alerts,)):
        pass
    real.send(alerts, b"gone", b"gone", b"after")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(alerts, 0, 3)]).values():
        done.result(30)

    with real.running(ztf=(alerts,)):
        pass

    assert real.values[-1] == b"after"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, {}),
        ({"client.id": "me", "queue.buffering.max.ms": "5"}, {"kafka.client.id": "me"}),
        (
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "gateway",
                "sasl.password": 'a"b\\c',
                "ssl.ca.location": "/etc/ca.pem",
            },
            {
                "kafka.security.protocol": "SASL_SSL",
                "kafka.sasl.mechanism": "SCRAM-SHA-512",
                "kafka.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required"
                    ' username="gateway" password="a\\"b\\\\c";'
                ),
                "kafka.ssl.truststore.type": "PEM",
                "kafka.ssl.truststore.location": "/etc/ca.pem",
            },
        ),
        (
            {"sasl.mechanisms": "PLAIN", "sasl.username": "u", "sasl.password": "p"},
            {
                "kafka.sasl.mechanism": "PLAIN",
                "kafka.sasl.jaas.config": (
                    "org.apache.kafka.common.security.plain.PlainLoginModule required"
                    ' username="u" password="p";'
                ),
            },
        ),
        pytest.param(
            {"ssl.endpoint.identification.algorithm": "none"},
            {"kafka.ssl.endpoint.identification.algorithm": ""},
        ),
    ],
    ids=["none", "client", "scram", "plain", "no host names"],
)
def test_properties_of_librdkafka_in_the_words_of_the_jvm(
    properties: Mapping[str, str], expected: Mapping[str, str]
):
    assert jvm_properties(properties) == expected


@pytest.mark.parametrize("name", ["ssl.certificate.location", "sasl.oauthbearer.client.id"])
def test_a_security_property_that_the_jvm_has_no_word_for_is_refused(name: str):
    with pytest.raises(GatewayError, match=name):
        jvm_properties({"security.protocol": "SSL", name: "x"})
