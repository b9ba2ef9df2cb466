"""Batches of raw messages through a real Spark and the engine, to a writer that remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker import topics
from broker.groups import Group
from broker.regioncodec import encode_retraction
from broker.verdictlog import encode_verdict
from crossmatch.errors import ServiceError
from crossmatch.model import Circle
from crossmatch.verdicts import Verdict
from tests.endtoend import packets
from tests.integration.streaming import (
    ALERTS,
    DEC,
    RA,
    World,
    good,
    notice,
    region,
    with_history,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    return World(spark, tmp_path)


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
    world.matcher.settle()

    assert len(world.writer.outcomes) == 1


def test_a_batch_too_many_is_an_error_that_says_why(world: World):
    frame = world.frame((ALERTS, good()))
    world.matcher.take(frame, 0)

    with pytest.raises(ServiceError, match="not of one run"):
        world.matcher.take(frame, 2)
    assert isinstance(world.matcher.failure, ServiceError)


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
    assert len(world.matcher._writers.texts["ztf"]) == 1

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
    world.take((topics.REGION_LOG, region()), (ALERTS, with_history()))
    (group,) = world.engine.groups.values()

    assert Group.from_json(group.to_json()) == group
