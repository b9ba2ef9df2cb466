"""``mmgateway ledger``: tables for people, JSON for programs, exit status for both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import topics
from broker.ledgertable import LedgerTable
from crossmatch.errors import ServiceError
from gateway import services
from gateway.cli import app, main
from gateway.offline import evidence
from tests.gateway.books import NIGHT, Books, a_night

runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    """The command finds these books instead of a Kafka."""
    monkeypatch.chdir(tmp_path)
    books = a_night(tmp_path / "mmgateway-data")
    monkeypatch.setattr(services, "find_bootstrap", lambda config: "memory:1")
    monkeypatch.setattr(evidence, "KafkaTopics", lambda *_: books.kafka)
    return books


def ledger(*arguments: str) -> Result:
    return runner.invoke(app, ["ledger", *arguments])


def test_ledger_that_adds_up_ends_with_0(books: Books) -> None:
    done = ledger()
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "The ledger adds up (6 entries).")


def test_table_has_a_row_for_each_night_and_feed(books: Books) -> None:
    lines = [line.split() for line in ledger().output.splitlines()]
    assert ["night", "feed", "received", "duplicate", "rejected", "unmatched", "matched"] in lines
    assert [NIGHT, "ztf", "7", "1", "2", "2", "2"] in lines
    assert [NIGHT, "svom", "2", "1", "1"] in lines


def test_hole_is_told_and_ends_with_1(books: Books) -> None:
    del books.kafka.logs[topics.NOTICES][0]
    done = ledger()
    assert done.exit_code == 1
    assert done.output.splitlines()[-2:] == [
        f"Notices of the night {NIGHT}: 3 were received, mm.notices has 2.",
        "The ledger does not add up: 1 hole.",
    ]


def test_json_has_everything(books: Books) -> None:
    del books.kafka.logs[topics.NOTICES][0]
    done = ledger("--json")
    record = json.loads(done.output)
    assert (done.exit_code, record["adds_up"], record["source"]) == (1, False, "topic")
    assert [(h["check"], h["night"], h["number"]) for h in record["holes"]] == [
        ("notices", NIGHT, 1)
    ]
    assert record["totals"]["alerts"]["rejected.not_avro"] == 2


def test_other_nights_and_feeds_are_left_out(books: Books) -> None:
    assert json.loads(ledger("--json", "--night", "2026-01-02").output)["rows"] == []
    assert json.loads(ledger("--json", "--since", "2026-01-02").output)["rows"] == []
    rows = json.loads(ledger("--json", "--since", NIGHT, "--feed", "svom").output)["rows"]
    assert [(row["kind"], row["feed"]) for row in rows] == [("notices", "svom")]


def test_hole_of_another_night_does_not_count(books: Books) -> None:
    del books.kafka.logs[topics.NOTICES][0]
    assert ledger("--night", "2026-01-02").exit_code == 0
    assert ledger("--night", NIGHT).exit_code == 1


def test_reasons_are_told_of_one_night(books: Books) -> None:
    assert "  ztf: 2 rejected.not_avro" in ledger("--night", NIGHT).output.splitlines()


@pytest.mark.parametrize("option", ["--night", "--since"])
@pytest.mark.parametrize("text", ["yesterday", "20260101", "2026-02-30"])
def test_what_is_no_date_is_bad_usage(books: Books, option: str, text: str) -> None:
    assert main(["ledger", option, text]) == 2


def test_without_kafka_the_table_is_shown(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgerTable(books.state / "ledger").take(lambda at: books.kafka.read(topics.LEDGER, at))

    def away(*_: object) -> None:
        raise ServiceError("no Kafka answers at memory:1")

    monkeypatch.setattr(evidence, "KafkaTopics", away)
    done = ledger()
    assert done.exit_code == 0
    assert done.output.startswith("no Kafka answers at memory:1. So this is the ledger's table")
    assert "Not checked without Kafka: markers, notices, statements, voevents." in done.output
    assert json.loads(ledger("--json").output)["source"] == "table"


def test_only_the_last_nights_are_shown_and_the_others_are_told(books: Books) -> None:
    for day in range(1, 21):
        night = f"2025-12-{day:02d}"
        counts = {"received": 1, "ignored": 1}
        books.entry("notices", counts=counts, parts=[
            {"night": night, "feed": "svom", "counts": counts}])  # fmt: skip
    lines = ledger().output.splitlines()
    assert "7 earlier nights are checked and not shown: --since or --json has them." in lines
    assert sum(line.startswith("2025-12-") for line in lines) == 13
