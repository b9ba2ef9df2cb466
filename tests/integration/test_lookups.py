"""Messages of ``mm.lookups`` on their way through Spark into a step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from broker import topics
from broker.lookuplog import encode_answer
from crossmatch.remote import Answer

from .streaming import DEC, RA, World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ANSWER = Answer(
    "MM-ZTF-a", "simbad", "2026-01-02", RA, DEC, 2.0, "2026-01-02T00:00:00.000Z", "xmatch"
)


def test_answer_is_taken_in_and_one_that_is_none_is_a_dead_letter(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path)

    outcome = world.take((topics.LOOKUPS, encode_answer(ANSWER)), (topics.LOOKUPS, b"nonsense"))

    assert outcome.ledger == {"lookups": 1}
    assert world.engine.answers.of(["MM-ZTF-a"]) == {"MM-ZTF-a": (ANSWER,)}
    (letter,) = world.writer.letters
    assert (letter["topic"], letter["offset"], letter["source"]) == (topics.LOOKUPS, 1, "lookups")
    assert letter["reason"] == "not_json"
    assert world.committer.marker is not None
    assert (world.committer.marker.lookups_next, world.committer.marker.lookups) == (2, 1)
