"""Statements go from the topics into their table once, wherever the reading stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker import statementlog, topics
from broker.codec import encode_candidate
from broker.kafka_io import Record
from broker.statementlog import StatementLog, statement_topics
from crossmatch.columns import CANDIDATE_FIELDS, arrow_schema
from crossmatch.errors import ServiceError
from tests.gateway.candidatefiles import read_table

GRB = topics.candidates("grb")
PRIVATE = "mm.private.ours.candidates.grb"
NAMES = [GRB, PRIVATE, topics.LEDGER, "alerts.ztf", "mm.private.ours.regions"]
SCHEMA = arrow_schema(CANDIDATE_FIELDS)


def statement(name: str, topic: str) -> bytes:
    values: dict[str, Any] = {
        "string": "text", "double": 0.5, "int": 1, "long": 1, "boolean": True, "strings": ["a"],
    }  # fmt: skip
    columns = {field.name: values[field.kind] for field in CANDIDATE_FIELDS}
    return encode_candidate(columns | {"candidate_id": name, "stream": topic})


class Kafka:
    """Topics in memory; every third offset is taken by the mark of a transaction."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.asked: list[str] = []

    def say(self, topic: str, *names: str) -> None:
        held = self.records.setdefault(topic, [])
        for name in names:
            offset = 3 * len(held) // 2
            held.append(Record(topic, 0, offset, b"", statement(name, topic)))

    def read(self, topic: str, start: int) -> list[Record]:
        self.asked.append(topic)
        return [r for r in self.records.get(topic, []) if r.offset >= start]

    @property
    def ends(self) -> dict[str, dict[int, int]]:
        """Ends of the topics of statements: behind the mark of the last transaction."""
        held = {topic: self.records.get(topic) or [] for topic in statement_topics(NAMES)}
        return {t: {0: records[-1].offset + 2 if records else 0} for t, records in held.items()}


def told(path: Path) -> list[str]:
    return sorted(str(r["candidate_id"]) for r in read_table(path))


def test_each_statement_is_in_the_table_once_over_restarts(tmp_path: Path):
    kafka = Kafka()
    kafka.say(GRB, "a", "b")
    assert StatementLog(tmp_path, SCHEMA).catch_up(kafka.read, kafka.ends) == 2
    kafka.say(GRB, "c")
    kafka.say(PRIVATE, "p")

    log = StatementLog(tmp_path, SCHEMA)

    assert log.catch_up(kafka.read, kafka.ends) == 2
    assert log.catch_up(kafka.read, kafka.ends) == 0
    assert told(tmp_path) == ["a", "b", "c", "p"]
    assert log.position(GRB) == 4
    assert log.position(topics.candidates("gw")) == 0


def test_a_reading_that_breaks_off_leaves_what_was_written_and_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(statementlog, "_PART", 2)
    monkeypatch.setattr(statementlog, "_TOGETHER", 1)
    kafka = Kafka()
    kafka.say(GRB, *"abcde")

    def breaks(topic: str, start: int):
        for number, record in enumerate(kafka.read(topic, start)):
            if number == 3:
                raise OSError("gone")
            yield record

    log = StatementLog(tmp_path, SCHEMA)
    with pytest.raises(OSError, match="gone"):
        log.catch_up(breaks, kafka.ends)
    assert told(tmp_path) == ["a", "b"]

    assert log.catch_up(kafka.read, kafka.ends) == 3
    assert told(tmp_path) == list("abcde")


def test_topics_without_news_are_not_read(tmp_path: Path):
    kafka = Kafka()
    kafka.say(GRB, "a")
    log = StatementLog(tmp_path, SCHEMA)
    for _ in range(3):
        log.catch_up(kafka.read, kafka.ends)
    assert kafka.asked == [GRB]

    kafka.say(PRIVATE, "p")
    log.catch_up(kafka.read, kafka.ends)
    assert kafka.asked == [GRB, PRIVATE]


def test_a_topic_whose_reading_failed_is_read_again(tmp_path: Path):
    kafka = Kafka()
    kafka.say(GRB, "a")
    log = StatementLog(tmp_path, SCHEMA)

    def fails(topic: str, start: int) -> list[Record]:
        raise ServiceError("away")

    with pytest.raises(ServiceError):
        log.catch_up(fails, kafka.ends)
    assert log.catch_up(kafka.read, kafka.ends) == 1


def test_what_came_after_the_ends_were_asked_for_is_not_passed_over(tmp_path: Path):
    kafka = Kafka()
    kafka.say(GRB, "a")
    before = kafka.ends
    kafka.say(GRB, "b")
    log = StatementLog(tmp_path, SCHEMA)
    log.catch_up(lambda topic, start: kafka.read(topic, start)[:1], before)
    assert log.catch_up(kafka.read, kafka.ends) == 1


def test_only_topics_of_statements_are_read():
    assert statement_topics(NAMES) == [GRB, PRIVATE]
