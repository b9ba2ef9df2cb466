"""``mmgateway ledger``: tables for people, JSON for programs, exit status for both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import topics
from broker.ledger import added
from broker.ledgertable import LedgerTable
from broker.tally import Tally
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
    of_night(books, "2025-12-20")
    done = ledger("--night", "2025-12-20")
    assert (done.exit_code, done.output.splitlines()[-2:]) == (
        0,
        [
            "1 hole elsewhere: mmgateway ledger without options tells.",
            "The night 2025-12-20 adds up (1 entry).",
        ],
    )
    assert json.loads(ledger("--json", "--night", "2025-12-20").output)["holes_elsewhere"] == 1
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
    assert done.exit_code == 1
    assert done.output.startswith("no Kafka answers at memory:1. So this is the ledger's table")
    assert done.output.splitlines()[-2:] == [
        "Kafka does not answer, so markers, notices, statements and voevents were not checked.",
        "What could be checked without Kafka adds up (6 entries).",
    ]
    assert json.loads(ledger("--json").output)["source"] == "table"


def test_offline_does_without_kafka(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgerTable(books.state / "ledger").take(lambda at: books.kafka.read(topics.LEDGER, at))
    monkeypatch.delattr(evidence, "KafkaTopics")
    done = ledger("--offline", "--feed", "svom")
    assert done.exit_code == 0
    assert done.output.startswith("This is the ledger's table")
    assert done.output.splitlines()[-1] == (
        "What could be checked without Kafka of feed svom adds up (1 entry)."
    )
    assert ledger("--offline", "--feed", "nope").exit_code == 1


def test_offline_without_a_table_ends_with_1(books: Books) -> None:
    done = ledger("--offline")
    assert (done.exit_code, done.output.splitlines()[-1]) == (
        1,
        "There is nothing in the ledger's table.",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--night", NIGHT], f"The night {NIGHT} adds up (6 entries)."),
        (["--since", NIGHT], f"Nights since {NIGHT} add up (6 entries)."),
        (["--feed", "svom"], "Feed svom adds up (1 entry)."),
        (["--since", NIGHT, "--feed", "ztf"], f"Feed ztf of nights since {NIGHT} adds up"
         " (2 entries)."),
    ],
)  # fmt: skip
def test_the_last_line_says_what_adds_up(books: Books, arguments: list[str], sentence: str) -> None:
    done = ledger(*arguments)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, sentence)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--night", "2001-01-01"], "the night 2001-01-01"),
        (["--since", "2026-01-02"], "nights since 2026-01-02"),
        (["--feed", "nope"], "feed nope"),
        (["--night", NIGHT, "--feed", "nope"], f"feed nope of the night {NIGHT}"),
    ],
)
def test_of_what_is_not_there_nothing_adds_up(
    books: Books, arguments: list[str], what: str
) -> None:
    done = ledger(*arguments)
    assert (done.exit_code, done.output.splitlines()) == (
        1,
        [f"There is nothing of {what} in the ledger."],
    )


def test_steps_and_what_searches_found_are_named(books: Books) -> None:
    found = Tally()
    found.add_total("found", 454)
    books.step("search", found)
    for arguments in ([], ["--feed", "ztf"], ["--night", NIGHT, "--feed", "ztf"]):
        assert (
            "Searches of the archive in these nights found 454 more alerts, of all feeds"
            in ledger(*arguments).output
        )
    assert "Searches" not in ledger("--feed", "svom").output
    lines = [" ".join(line.split()) for line in ledger().output.splitlines()]
    steps = lines.index("night steps of alerts steps of searches found by searches statements")
    assert lines[steps + 1] == f"{NIGHT} 2 2 454 3"


def of_night(books: Books, night: str, feed: str = "svom") -> None:
    """An entry of a notice that another night had, without its message."""
    counts = {"received": 0, "ignored": 1, "released": 1}
    parts = [{"night": night, "feed": feed, "counts": counts}]
    books.listened = added([books.listened, counts])
    books.entry("notices", counts=counts, parts=parts, next=books.notices)
    books.mark(b"listen", totals=books.listened)


def test_nights_asked_for_are_all_shown(books: Books) -> None:
    for day in range(1, 21):
        of_night(books, f"2025-12-{day:02d}")
    lines = ledger("--since", "2025-12-02", "--feed", "svom").output.splitlines()
    assert sum(line.startswith("2025-12-") for line in lines) == 19
    assert lines[-1] == "Feed svom of nights since 2025-12-02 adds up (20 entries)."


def test_what_has_no_known_night_is_never_left_out(books: Books) -> None:
    for day in range(1, 15):
        of_night(books, f"2025-12-{day:02d}")
    of_night(books, "", "ztf")
    lines = ledger().output.splitlines()
    assert any(line.startswith("not known") for line in lines)
    assert "1 earlier night is checked and not shown: --since or --json has them." in lines
    assert any(x.startswith("not known") for x in ledger("--since", NIGHT).output.splitlines())
    assert "not known" not in ledger("--night", NIGHT).output


def test_only_the_last_nights_are_shown_and_the_others_are_told(books: Books) -> None:
    for day in range(1, 21):
        night = f"2025-12-{day:02d}"
        counts = {"received": 1, "ignored": 1}
        books.entry("notices", counts=counts, parts=[
            {"night": night, "feed": "svom", "counts": counts}])  # fmt: skip
    lines = ledger().output.splitlines()
    assert "7 earlier nights are checked and not shown: --since or --json has them." in lines
    assert sum(line.startswith("2025-12-") for line in lines) == 13
