"""Dead letters: where each goes when it is sent again, and what is not sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker import topics
from crossmatch.errors import NoticeError, ServiceError
from gateway.listener.outbox import Record, arrival_of, headers_of
from gateway.offline.deadletters import Sending, Wanted, letters, retry
from tests.gateway.books import NOW, Books
from tests.gateway.memory import arrival

OWN = ("alerts.ztf",)
PLACE = {"source": "alerts", "topic": "alerts.ztf", "partition": 2, "offset": 9}


class Sent:
    """An outbox in memory; what it sends is on the topics."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.records: list[Record] = []
        self.started = False
        self.failure: Exception | None = None

    def start(self) -> None:
        self.started = True

    def commit(self, records: Sequence[Record]) -> None:
        if self.failure is not None:
            raise self.failure
        for one in records:
            self._books.kafka.add(one.topic, one.value, one.key, one.headers)
        self.records += records

    def of(self, topic: str) -> list[Record]:
        return [r for r in self.records if r.topic == topic]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


@pytest.fixture
def outbox(books: Books) -> Sent:
    return Sent(books)


def send(
    books: Books,
    outbox: Sent | None,
    *ids: int,
    packets: Mapping[tuple[str, int, int], bytes] | None = None,
    again: bool = False,
) -> list[Sending]:
    return list(
        retry(
            books.kafka,
            Wanted(ids=frozenset(ids)),
            outbox=outbox,
            fetch=lambda addresses: packets or {},
            own_alert_topics=OWN,
            who="ada",
            now=lambda: NOW,
            again=again,
        )
    )


def test_letters_are_known_by_their_offsets(books: Books) -> None:
    ids = [books.letter(), books.letter(source="publish"), books.letter(b"", **PLACE)]
    found = list(letters(books.kafka, Wanted()))
    assert [(x.id, x.kind, x.size, x.state, x.raw) for x in found] == [
        (ids[0], "notices", 5, "open", b""),
        (ids[1], "publish", 5, "open", b""),
        (ids[2], "alerts", 0, "open", b""),
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(reason="no_feed"), [0]),
        (Wanted(kind="alerts"), [2]),
        (Wanted(since="2026-01-02T05"), []),
        (Wanted(ids=frozenset([2])), [2]),
    ],
)
def test_letters_are_chosen(books: Books, wanted: Wanted, expected: list[int]) -> None:
    books.letter()
    books.letter(reason="not_avro", **PLACE)
    assert [x.id for x in letters(books.kafka, wanted)] == expected


def test_alert_goes_back_to_its_topic(books: Books, outbox: Sent) -> None:
    number = books.letter(b"packet", **PLACE)
    (one,) = send(books, outbox, number)
    assert one.refused == ""
    assert [r.value for r in outbox.of("alerts.ztf")] == [b"packet"]


def test_alert_that_was_cut_is_fetched(books: Books, outbox: Sent) -> None:
    number = books.letter(b"p" * 2**20, **PLACE)
    whole = b"p" * 2**20 + b"acket"
    send(books, outbox, number, packets={("alerts.ztf", 2, 9): whole})
    assert [r.value for r in outbox.of("alerts.ztf")] == [whole]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "its bytes were not kept, and Kafka no longer has the packet"),
        (b"p" * 2**20, "only its beginning was kept, and Kafka no longer has the packet"),
    ],
)
def test_alert_that_is_gone_is_refused(
    books: Books, outbox: Sent, raw: bytes, sentence: str
) -> None:
    number = books.letter(raw, **PLACE)
    assert [one.refused for one in send(books, outbox, number)] == [sentence]
    assert outbox.records == []


def test_another_packet_at_that_address_is_not_sent(books: Books, outbox: Sent) -> None:
    """The topic was made anew since: what lies there now is another alert."""
    number = books.letter(b"packet", **PLACE)
    send(books, outbox, number, packets={("alerts.ztf", 2, 9): b"other"})
    assert [r.value for r in outbox.of("alerts.ztf")] == [b"packet"]


def test_nothing_is_written_to_the_alert_topics_of_others(books: Books, outbox: Sent) -> None:
    number = books.letter(b"packet", **{**PLACE, "topic": "ztf_20260101"})
    (one,) = send(books, outbox, number)
    assert "ztf_20260101 is not among the alert topics on our own Kafka" in one.refused


def test_notice_comes_again_by_its_door(books: Books, outbox: Sent) -> None:
    first = arrival(
        b"<x/>", source="vtp:broker", feed="own", streams=("ours",), skymap="0f",
        answers="map/0f", refused=NoticeError("not_valid", "why"),
    )  # fmt: skip
    number = books.letter(first.raw, headers=headers_of(first), streams=["ours", "theirs"])
    send(books, outbox, number)
    (record,) = outbox.of(topics.RETRY)
    again = arrival_of(record.value, record.headers)
    streams = ("ours", "theirs")
    assert again == replace(first, refused=None, answers="", streams=streams)
    assert record.key == b"notice"


def test_notice_of_an_old_letter_comes_by_what_the_letter_tells(books: Books, outbox: Sent) -> None:
    number = books.letter(b"<x/>", source="kafka:gcn", topic="gcn.x", partition=1, offset=4)
    send(books, outbox, number)
    (record,) = outbox.of(topics.RETRY)
    again = arrival_of(record.value, record.headers)
    assert (again.source, again.topic, again.partition, again.offset, again.received) == (
        "kafka:gcn", "gcn.x", 1, 4, NOW,
    )  # fmt: skip


def test_notice_that_was_cut_is_refused(books: Books, outbox: Sent) -> None:
    number = books.letter(b"<x", reason="too_large")
    assert [one.refused for one in send(books, outbox, number)] == [
        "only its first 2 bytes were kept"
    ]


@pytest.mark.parametrize(
    ("source", "topic"), [("regions", topics.REGION_LOG), ("verdicts", topics.VERDICTS)]
)
def test_what_the_matcher_read_goes_to_its_topic(
    books: Books, outbox: Sent, source: str, topic: str
) -> None:
    number = books.letter(b"record", source=source)
    send(books, outbox, number)
    assert [r.value for r in outbox.of(topic)] == [b"record"]


def test_statement_goes_to_the_publisher_with_its_topic(books: Books, outbox: Sent) -> None:
    topic = "mm.private.ours.candidates.grb"
    number = books.letter(b"statement", source="publish", topic=topic, offset=3)
    send(books, outbox, number)
    (record,) = outbox.of(topics.RETRY)
    assert (record.key, dict(record.headers)["topic"]) == (b"publish", topic.encode())


def test_retry_is_marked_in_the_same_transaction(books: Books, outbox: Sent) -> None:
    number = books.letter(b"packet", **PLACE)
    send(books, outbox, number)
    (mark,) = outbox.of(topics.MARKER)
    assert (mark.key, json.loads(mark.value)) == (
        f"deadletter/{number}".encode(),
        {"when": "2026-01-02T04:00:00.000000Z", "who": "ada", "to": "alerts.ztf", "times": 1},
    )
    assert [x.state for x in letters(books.kafka, Wanted())] == ["retried"]


def test_second_retry_must_be_asked_for(books: Books, outbox: Sent) -> None:
    number = books.letter(b"packet", **PLACE)
    send(books, outbox, number)
    (one,) = send(books, outbox, number)
    assert one.refused.startswith("ada sent it again at 2026-01-02T04:00:00")
    (one,) = send(books, outbox, number, again=True)
    assert (one.refused, len(outbox.of("alerts.ztf"))) == ("", 2)
    assert json.loads(outbox.of(topics.MARKER)[-1].value)["times"] == 2


def test_marks_are_read_after_others_were_fenced(books: Books, outbox: Sent) -> None:
    """Somebody else's retry that is under way must not be overlooked."""
    number = books.letter(b"packet", **PLACE)

    class Late(Sent):
        def start(self) -> None:
            send(books, outbox, number)

    assert [one.record for one in send(books, Late(books), number)] == [None]


def test_dry_run_sends_nothing(books: Books) -> None:
    number = books.letter(b"packet", **PLACE)
    (one,) = send(books, None, number)
    assert one.record is not None
    assert topics.MARKER not in books.kafka.names()


def test_what_kafka_refused_is_not_marked(books: Books, outbox: Sent) -> None:
    number = books.letter(b"packet", **PLACE)
    outbox.failure = ServiceError("nothing was sent again")
    with pytest.raises(ServiceError):
        send(books, outbox, number)
    assert [x.state for x in letters(books.kafka, Wanted())] == ["open"]


def test_many_letters_go_in_several_transactions(books: Books, outbox: Sent) -> None:
    ids = [books.letter(b"packet", **PLACE) for _ in range(150)]
    sizes: list[int] = []
    commit = outbox.commit

    def counted(records: Sequence[Record]) -> None:
        sizes.append(len(records))
        commit(records)

    outbox.commit = counted  # type: ignore[method-assign]
    sent: list[Any] = send(books, outbox, *ids)
    assert (len(sent), sizes) == (150, [200, 100])
