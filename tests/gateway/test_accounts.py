"""The ledger adds up, or a sentence says where the hole is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker import topics
from broker.codec import encode_candidate
from broker.kafka_io import Record
from broker.ledgertable import LedgerTable
from broker.tally import Tally
from crossmatch.errors import ServiceError
from gateway.offline import evidence
from gateway.offline.accounts import Hole, holes, rows
from tests.gateway.books import GRB, MOMENT, NIGHT, Books, a_night
from tests.gateway.publishing import statement

OURS = "mm.private.ours.candidates.grb"


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return a_night(tmp_path)


def found(books: Books) -> list[Hole]:
    return holes(evidence.from_topics(books.kafka, books.state))


def rewrite(books: Books, kind: str, change: Callable[[dict[str, Any]], None], at: int = 0) -> None:
    """Change the entry of a kind that stands at a place."""
    log = books.kafka.logs[topics.LEDGER]
    places = [i for i, r in enumerate(log) if json.loads(r.value)["kind"] == kind]
    entry = json.loads(log[places[at]].value)
    change(entry)
    log[places[at]] = replace(log[places[at]], value=json.dumps(entry).encode())


def drop(books: Books, topic: str, at: int) -> None:
    del books.kafka.logs[topic][at]


def test_a_night_adds_up(books: Books) -> None:
    assert found(books) == []


def test_an_empty_gateway_adds_up(tmp_path: Path) -> None:
    assert found(Books(tmp_path)) == []


def test_alert_without_an_outcome_is_a_hole_of_its_night_and_feed(books: Books) -> None:
    def lose(entry: dict[str, Any]) -> None:
        for counts in (entry["counts"], entry["parts"][0]["counts"]):
            counts["rejected.not_avro"] = 1

    rewrite(books, "alerts", lose, 1)
    hole = found(books)[0]
    assert (hole.check, hole.night, hole.feed, hole.number) == ("received", NIGHT, "ztf", 1)
    assert hole.sentence == (
        f"alerts of the night {NIGHT} from ztf: 7 came in, 6 are accounted for"
    )


def test_parts_that_are_not_the_counts_are_a_hole(books: Books) -> None:
    rewrite(books, "alerts", lambda entry: entry["parts"].clear())
    sentences = [h.sentence for h in found(books) if h.check == "parts"]
    assert "step 0 (alerts) counts 3 received, its nights and feeds 0" in sentences


def test_statement_that_the_publisher_did_not_account_for_is_a_hole(books: Books) -> None:
    rewrite(books, "voevents", lambda entry: entry["counts"].update(received=5))
    sentence = "statements for the publisher: 5 came in, 4 are accounted for"
    assert [(h.check, h.sentence) for h in found(books)][:1] == [("received", sentence)]


@pytest.mark.parametrize(
    ("at", "sentences"),
    [
        (1, ["step 1 is missing", "batch 1 is missing"]),
        (2, ["step 2 is missing"]),
    ],
)
def test_missing_step_is_named(tmp_path: Path, at: int, sentences: list[str]) -> None:
    books = Books(tmp_path)
    books.alerts(unmatched=1)
    books.alerts(unmatched=1)
    books.step("close", Tally())
    books.alerts(unmatched=1)
    drop(books, topics.LEDGER, at)
    assert [h.sentence for h in found(books) if h.check == "steps"][: len(sentences)] == sentences


def test_step_that_was_committed_twice_is_a_hole(books: Books) -> None:
    rewrite(books, "search", lambda entry: entry.update(step=1))
    assert "step 1 stands again after step 1" in [h.sentence for h in found(books)]


def test_regions_that_no_step_took_in_are_a_hole(books: Books) -> None:
    rewrite(books, "search", lambda entry: entry.update(regions=[5, 6]))
    sentence = "step 2 (search) goes on at message 5 of the regions: 3 messages were skipped"
    assert [h.sentence for h in found(books)] == [sentence]


def test_position_of_the_listener_that_skips_is_a_hole(books: Books) -> None:
    rewrite(books, "notices", lambda entry: entry.update(next=5), 1)
    (hole,) = [h for h in found(books) if h.check == "positions"]
    assert (hole.number, hole.night) == (2, NIGHT)


def test_notices_that_are_worked_through_in_another_order_are_no_hole(books: Books) -> None:
    rewrite(books, "notices", lambda entry: entry.update(next=3), 0)
    assert found(books) == []


def test_totals_of_a_marker_are_those_of_the_entries(books: Books) -> None:
    totals = books.totals | {"matched": 7}
    books.mark(b"match", step=2, batch_id=1, totals=totals)
    books.mark(b"listen", totals=books.listened | {"region": 9}, next_notice=3)
    assert [h.sentence for h in found(books)] == [
        "the marker of the matcher has 7 matched in all, its entries in the ledger have 2",
        "the marker of the listener has 9 region in all, its entries in the ledger have 1",
    ]


def test_archive_without_an_accepted_alert_is_a_hole(books: Books) -> None:
    def more(entry: dict[str, Any]) -> None:
        for counts in (entry["counts"], entry["parts"][0]["counts"]):
            counts["cut.star"] = 1
            counts["received"] += 1

    rewrite(books, "alerts", more)
    (hole,) = [h for h in found(books) if h.check == "archive"]
    sentence = f"alerts of the night {NIGHT}: 5 were accepted, the archive has 4"
    assert (hole.sentence, hole.night, hole.number) == (sentence, NIGHT, 1)


def test_notice_that_is_not_on_its_topic_is_a_hole(books: Books) -> None:
    drop(books, topics.NOTICES, 1)
    (hole,) = found(books)
    sentence = f"notices of the night {NIGHT}: 3 were received, mm.notices has 2"
    assert (hole.check, hole.sentence) == ("notices", sentence)


def test_statement_that_is_not_on_its_topic_is_a_hole(books: Books) -> None:
    drop(books, GRB, 1)
    sentence = "step 2 (search) counts 1 statement, the topics of candidates have 0 of it"
    assert sentence in [h.sentence for h in found(books)]


def test_private_statement_must_be_with_each_of_its_streams(books: Books) -> None:
    drop(books, OURS, 0)
    sentences = [h.sentence for h in found(books)]
    assert f"{OURS}: C2/E1/1 is missing" in sentences


def test_private_statement_on_a_public_topic_is_a_hole(books: Books) -> None:
    books.kafka.add(GRB, books.kafka.logs[OURS][0].value)
    assert f"{GRB}: C2/E1/1 is there, and should not be" in [h.sentence for h in found(books)]


def test_statement_that_stands_twice_is_a_hole(books: Books) -> None:
    books.kafka.add(GRB, books.kafka.logs[GRB][0].value)
    assert [h.sentence for h in found(books)] == [f"{GRB}: C1/E1/1 is there 2 times"]


def test_statement_of_no_step_is_a_hole(books: Books) -> None:
    one = statement("C9") | {"alert_datetime": MOMENT.format(8), "streams": []}
    books.kafka.add(GRB, encode_candidate(one))
    (hole,) = found(books)
    assert (hole.check, hole.number) == ("statements", -1)


def test_voevent_too_few_is_a_hole(books: Books) -> None:
    drop(books, "mm.private.ours.voevents", 0)
    sentence = "the publisher counts 4 VOEvents made, their topics have 3"
    assert [h.sentence for h in found(books)] == [sentence]


def test_voevent_too_many_is_a_hole(books: Books) -> None:
    books.kafka.add(topics.VOEVENTS, b"<x/>")
    assert [(h.check, h.number) for h in found(books)] == [("voevents", -1)]


def test_statement_that_the_publisher_passed_over_is_a_hole(books: Books) -> None:
    rewrite(books, "voevents", lambda entry: entry["counts"].update(received=3, made=3))
    sentence = "the publisher went past 4 statements, and counts 3 received"
    assert sentence in [h.sentence for h in found(books)]


def test_statements_that_the_publisher_has_still_before_it_are_no_hole(books: Books) -> None:
    books.alerts(matched=1, said=[("C5", ())])
    assert found(books) == []


def test_retried_statement_is_received_once_more(books: Books) -> None:
    books.kafka.add(topics.RETRY, b"notice", b"notice")
    books.kafka.add(topics.RETRY, b"statement", b"publish")
    books.kafka.add(topics.VOEVENTS, b"<x/>")
    position = books.published | {topics.RETRY: {"0": 3}}
    books.entry("voevents", counts={"received": 1, "made": 1}, next=position)
    assert found(books) == []


def test_what_is_no_entry_is_a_hole(books: Books) -> None:
    books.kafka.add(topics.LEDGER, b"{")
    books.kafka.add(topics.LEDGER, b'{"kind": "unheard of", "counts": {}}')
    assert [h.check for h in found(books)] == ["entries", "entries"]


class Busy:
    """A Kafka to which the gateway writes between any two reads."""

    def __init__(self, books: Books, at: int) -> None:
        self._books, self._left = books, at

    def names(self) -> list[str]:
        return self._books.kafka.names()

    def read(self, topic: str, start: int = 0) -> list[Record]:
        if not self._left:
            self._books.notice("region")
            self._books.alerts(matched=1, unmatched=3, said=[("C7", ()), ("C8", ("ours",))])
            self._books.publish()
        self._left -= 1
        return list(self._books.kafka.read(topic, start))


@pytest.mark.parametrize("at", range(11))
def test_a_gateway_that_works_meanwhile_is_no_hole(books: Books, at: int) -> None:
    assert holes(evidence.from_topics(Busy(books, at), books.state)) == []


@pytest.mark.parametrize("at", range(11))
def test_a_hole_is_found_while_the_gateway_works(books: Books, at: int) -> None:
    drop(books, topics.NOTICES, 0)
    assert [h.check for h in holes(evidence.from_topics(Busy(books, at), books.state))] == [
        "notices"
    ]


def test_rows_are_by_night_kind_and_feed(books: Books) -> None:
    shown = rows(evidence.from_topics(books.kafka, books.state).entries)
    assert [(r["night"], r["kind"], r["feed"]) for r in shown] == [
        (NIGHT, "alerts", "ztf"),
        (NIGHT, "notices", "svom"),
        (NIGHT, "notices", "unknown"),
        (NIGHT, "steps", ""),
        (NIGHT, "voevents", ""),
    ]
    assert shown[3]["counts"] == {"alerts": 2, "search": 1, "statements": 3}


def away() -> evidence.Topics:
    raise ServiceError("no Kafka answers")


def test_without_kafka_the_table_is_checked(books: Books) -> None:
    LedgerTable(books.state / "ledger").take(lambda at: books.kafka.read(topics.LEDGER, at))
    seen, why = evidence.evidence(away, books.state)
    assert (holes(seen), why) == ([], "no Kafka answers")
    assert len(seen.entries) == 6
    assert set(seen.unchecked) == {"markers", "notices", "statements", "voevents"}


def test_without_kafka_and_table_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no Kafka answers"):
        evidence.evidence(away, tmp_path)
