"""``mmgateway deadletter list|show|retry``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker import kafka_io, topics
from gateway import services
from gateway.cli import app, deadletter, main
from gateway.listener.outbox import Record
from gateway.offline import deadletters, evidence
from tests.gateway.books import Books

runner = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})


class Outbox:
    """Sends to the topics of the books."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def start(self) -> None:
        pass

    def commit(self, records: Sequence[Record]) -> None:
        for one in records:
            self._books.kafka.add(one.topic, one.value, one.key, one.headers)


class NoPackets:
    def __init__(self, *_: object) -> None:
        pass

    def fetch(self, addresses: object) -> dict[object, bytes]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    """The commands find these books instead of a Kafka; letters 0, 2 and 4."""
    monkeypatch.chdir(tmp_path)
    books = Books(tmp_path / "mmgateway-data")
    monkeypatch.setattr(services, "find_bootstrap", lambda config: "memory:1")
    monkeypatch.setattr(evidence, "KafkaTopics", lambda *_: books.kafka)
    monkeypatch.setattr(deadletters, "KafkaOutbox", lambda *_: Outbox(books))
    monkeypatch.setattr(kafka_io, "PacketReader", NoPackets)
    monkeypatch.setattr(deadletter, "_user", lambda: "ada")
    books.letter(b"<x/>")
    books.letter(b"\xff\x00", source="publish", reason="voevent_failed")
    books.letter(b"", source="alerts", reason="packet_gone", topic="alerts.ztf")
    return books


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["deadletter", *arguments])


def test_list_has_a_line_a_letter(books: Books) -> None:
    lines = [line.split() for line in run("list").output.splitlines()]
    assert lines[0] == ["id", "received", "(UTC)", "source", "reason", "state", "bytes", "detail"]
    assert lines[1] == ["0", "2026-01-02", "04:00:00", "notices", "no_feed", "open", "4",
                        "vtp:broker:", "why"]  # fmt: skip
    assert [line[0] for line in lines[1:]] == ["0", "2", "4"]


def test_list_is_chosen_and_limited(books: Books) -> None:
    assert [x["id"] for x in json.loads(run("list", "--source", "publish", "--json").output)[
        "letters"]] == [2]  # fmt: skip
    found = json.loads(run("list", "--limit", "1", "--json").output)
    assert (found["count"], [x["id"] for x in found["letters"]]) == (3, [4])
    assert "There is no such dead letter." in run("list", "--since", "2027-01-01").output


def test_show_tells_all_and_writes_the_bytes(books: Books, tmp_path: Path) -> None:
    output = run("show", "0").output
    assert "no_feed" in output
    assert "<x/>" in output
    assert run("show", "2", "--raw", "raw.bin").exit_code == 0
    assert (tmp_path / "raw.bin").read_bytes() == b"\xff\x00"


def test_show_as_json_has_text_or_base64(books: Books) -> None:
    assert json.loads(run("show", "0", "--json").output)["text"] == "<x/>"
    assert json.loads(run("show", "2", "--json").output)["base64"] == "/wA="


def test_bytes_that_are_no_text_are_shown_as_numbers(books: Books) -> None:
    assert "ff00" in run("show", "2").output


def test_unknown_letter_is_bad_usage(books: Books) -> None:
    assert main(["deadletter", "show", "1"]) == 2
    assert main(["deadletter", "retry", "0", "1"]) == 2
    assert topics.RETRY not in books.kafka.names()


def test_retry_sends_and_tells(books: Books) -> None:
    done = run("retry", "0", "2")
    assert (done.exit_code, done.output.splitlines()) == (
        0,
        [
            "0: sent to mm.retry (no_feed)",
            "2: sent to mm.retry (voevent_failed)",
            "2 sent again, 0 not.",
        ],
    )
    listed = json.loads(run("list", "--json").output)["letters"]
    assert [x["state"] for x in listed] == ["retried", "retried", "open"]
    assert listed[0]["retried"]["who"] == "ada"


def test_what_cannot_be_sent_ends_with_1(books: Books) -> None:
    done = run("retry", "0", "4", "--json")
    record = json.loads(done.output)
    assert (done.exit_code, record["sent"], record["refused"]) == (1, 1, 1)
    assert record["letters"][1]["refused"] == (
        "its bytes were not kept, and Kafka no longer has the packet"
    )


def test_retry_by_reason_leaves_out_what_was_sent(books: Books) -> None:
    books.letter(b"<y/>")
    assert run("retry", "0").exit_code == 0
    output = run("retry", "--reason", "no_feed").output
    assert output.splitlines() == ["6: sent to mm.retry (no_feed)", "1 sent again, 0 not."]
    done = run("retry", "--reason", "no_feed")
    assert (done.exit_code, done.output) == (
        0,
        "Nothing to send: 2 letters were sent again before; --again does so once more.\n",
    )
    assert "2 sent again" in run("retry", "--reason", "no_feed", "--again").output


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--all"], ["--again"]])
def test_retry_by_a_reason_that_no_letter_has_ends_with_1(books: Books, more: list[str]) -> None:
    done = run("retry", "--reason", "nosuch", *more)
    assert done.exit_code == 1
    assert done.output.startswith("There is no dead letter with the reason nosuch; '")
    done = run("retry", "--reason", "nosuch", "--source", "notices", *more)
    assert done.output.startswith("There is no dead letter with the reason nosuch from notices; '")
    done = run("retry", "--reason", "nosuch", "--json", *more)
    assert (done.exit_code, json.loads(done.output)["letters"]) == (1, [])
    assert topics.RETRY not in books.kafka.names()


def test_retry_of_all_of_none_is_no_failure(books: Books) -> None:
    del books.kafka.logs[topics.DEAD_LETTER]
    done = run("retry", "--all")
    assert (done.exit_code, done.output[:26]) == (0, "There is no dead letter; '")


def test_list_names_the_source_that_the_option_takes(books: Books) -> None:
    line = run("list", "--source", "alerts").output.splitlines()[1].split()
    assert (line[3], line[-1]) == ("alerts", "why")
    shown = run("show", "0").output
    assert [x.split() for x in shown.splitlines() if x.startswith(("source", "door"))] == [
        ["source", "notices"],
        ["door", "vtp:broker"],
    ]


def test_dry_run_sends_nothing(books: Books) -> None:
    assert "0: would go to mm.retry (no_feed)" in run("retry", "0", "--dry-run").output
    assert topics.RETRY not in books.kafka.names()


def test_many_are_only_sent_with_all(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletter, "RETRIED_AT_A_TIME", 1)
    books.letter(b"<y/>")
    assert main(["deadletter", "retry", "--reason", "no_feed"]) == 2
    assert run("retry", "--reason", "no_feed", "--all").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [["retry"], ["retry", "0", "--reason", "no_feed"], ["list", "--since", "yesterday"]],
)
def test_bad_usage_ends_with_2(books: Books, arguments: list[str]) -> None:
    assert main(["deadletter", *arguments]) == 2
