"""What a private feed brings reaches the stream that may see it, and nobody else.

One story is told to two gateways: public notices and alerts, and, to the first of them
only, a private event at the same place and time. Whoever may not see it must find no
trace of it, and the second gateway's public data in no way different.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from broker import kafka_io, topics
from broker.codec import decode
from broker.kafka_io import Record
from broker.ledger import alert_hole
from gateway import services
from gateway.publisher.positions import LOOK_SECONDS, PUBLISH_KEY, VTP_KEY, decode_position
from tests.gateway.candidatefiles import read_table

from . import packets
from .conftest import Gateway, running, until
from .tellers import DEC, OUR_DEC, OUR_RA, RA, SECRET, STREAM, Robot, Teller

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ZTF = "alerts.ztf"
NEAR, MIDDLE, FAR = 0.3, 4.0, 6.5
"""Degrees from the centre: in both events for good, in their first versions, in the private one."""
NEEDLES = {
    "the secret word": re.compile(SECRET.encode(), re.IGNORECASE),
    "the stream": re.compile(STREAM.encode()),
    "the position as text": re.compile(rb"238\.7654|-0\.12345"),
    "the position as numbers": re.compile(
        b"|".join(re.escape(struct.pack("<d", x)) for x in (OUR_RA, OUR_DEC))
    ),
}


def traces(text: bytes) -> set[str]:
    """Which private facts stand in ``text``."""
    return {name for name, needle in NEEDLES.items() if needle.search(text)}


def whole(message: Record) -> bytes:
    """Everything that a reader gets of a message."""
    headers = [part for name, value in message.headers for part in (name.encode(), value)]
    return b"\n".join([message.topic.encode(), message.key, message.value, *headers])


@dataclass
class Outcome:
    """What could be read at the end, by topic, and what VTP subscribers were sent."""

    messages: dict[str, list[Record]]
    public_vtp: list[bytes]
    private_vtp: list[bytes]
    other_vtp: list[bytes]
    archive: list[dict[str, Any]] = field(default_factory=list)
    ledger: dict[str, int] = field(default_factory=dict)

    def values(self, topic: str) -> list[bytes]:
        return [m.value for m in self.messages.get(topic, [])]


def story(folder: Path, with_private: bool) -> Outcome:
    """Tell the story to a fresh gateway."""
    folder.mkdir()
    teller = Teller()
    teller.prepare(folder / "data", with_private)
    ports = _free_ports(2)
    settings = '[publish]\nmin_tier = "bronze"\n' + "".join(
        f"[streams.{name}]\nbroadcast_port = {port}\n"
        for name, port in zip((STREAM, "otherteam"), ports, strict=True)
    )
    with running(folder, settings) as gateway:
        facts = services.endpoint(gateway.config.paths.state, "publish") or {}
        private = facts["private_ports"]
        with ExitStack() as stack:
            robots = [
                stack.enter_context(closing(Robot(port)))
                for port in (facts["broadcast_port"], private[STREAM], private["otherteam"])
            ]
            _tell(gateway, teller, with_private)
            _until_published(gateway)
        return Outcome(
            _everything(gateway),
            *(robot.events for robot in robots),
            archive=read_table(gateway.config.paths.state / "candidates"),
            ledger=gateway.ledger("alerts"),
        )


def _tell(gateway: Gateway, teller: Teller, with_private: bool) -> None:
    def private(serial: int, radius: float | None) -> None:
        if with_private:
            teller.private(gateway, serial, radius)
            _until_known(gateway)

    def public(serial: int, radius: float) -> None:
        teller.public(gateway, serial, radius)
        _until_known(gateway)

    def see(*seen: tuple[int, float]) -> None:
        before = gateway.ledger("alerts").get("received", 0)
        gateway.send(ZTF, [packets.alert(candid, RA, DEC + off) for candid, off in seen])
        want = before + len(seen)
        assert until(lambda: gateway.ledger("alerts").get("received", 0) == want)

    see((100, NEAR), (200, MIDDLE), (300, FAR))
    private(1, 5.0)
    public(1, 4.0)
    see((101, NEAR), (400, NEAR + 0.1))
    private(2, 1.0)
    public(2, 2.0)
    see((102, NEAR), (301, FAR))
    if with_private:
        teller.garbage(gateway)
    private(3, None)
    see((103, NEAR), (500, NEAR + 0.2))


def _until_known(gateway: Gateway) -> None:
    """Until the matcher has taken in what lies on the log of regions."""
    # Transactions leave gaps: not their number, but the place of the last one tells.
    want = _records(gateway, topics.REGION_LOG)[-1].offset + 1

    def taken() -> int:
        marks = [m for m in _records(gateway, topics.MARKER) if m.key == b"match"]
        found = re.search(rb'"regions_next": (\d+)', marks[-1].value) if marks else None
        return int(found[1]) if found else 0

    assert until(lambda: taken() >= want)


def _until_published(gateway: Gateway) -> None:
    """Until every statement has its VOEvent and was broadcast; new streams are looked for."""

    def done() -> bool:
        marks = {m.key: m.value for m in _records(gateway, topics.MARKER)}
        for key, sources in ((PUBLISH_KEY, topics.all_candidates()), (VTP_KEY, [topics.VOEVENTS])):
            at = decode_position(marks[key]) if key in marks else {}
            for topic in _topics(gateway):
                waiting = topics.place_of(topic)[0] in sources and _records(gateway, topic)
                if waiting and at.get((topic, 0), 0) <= waiting[-1].offset:
                    return False
        return True

    assert until(done, 90 + LOOK_SECONDS)


def _topics(gateway: Gateway) -> list[str]:
    admin = AdminClient({"bootstrap.servers": gateway.bootstrap})
    # Kafka's own, which none but Kafka reads, begin with __.
    return sorted(t for t in admin.list_topics(timeout=30).topics if not t.startswith("__"))


def _records(gateway: Gateway, topic: str) -> list[Record]:
    return list(kafka_io.read_all(gateway.bootstrap, {}, topic))


def _everything(gateway: Gateway) -> dict[str, list[Record]]:
    return {topic: _records(gateway, topic) for topic in _topics(gateway)}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True)
class Both:
    """The story with and without the private event."""

    told: Outcome
    without: Outcome


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("private")
    return Both(story(folder / "told", True), story(folder / "without", False))


def inputs(topic: str) -> bool:
    """What comes from outside is not ours to hide."""
    return not topic.startswith("mm.")


def test_no_trace_of_a_private_event_stands_where_others_read(both: Both):
    ours = tuple(topics.seen_by("mm.", [STREAM]))
    read = [
        t
        for t in both.told.messages
        if not inputs(t) and not t.startswith(ours) and t not in topics.OPERATOR_ONLY
    ]
    assert {topics.REGIONS, topics.VOEVENTS, topics.candidates("grb")} <= set(read)
    assert both.told.values(topics.candidates("grb"))
    found = [(t, m.offset, traces(whole(m))) for t in read for m in both.told.messages[t]]
    assert [one for one in found if one[2]] == []


def test_no_trace_of_a_private_event_goes_out_by_vtp_to_others(both: Both):
    assert len(both.told.public_vtp) > 4
    assert [traces(f) for f in both.told.public_vtp if traces(f)] == []
    assert both.told.other_vtp == []


def test_the_needles_are_found_where_private_data_may_be(both: Both):
    """Else the tests above would hold whatever the code does."""
    for topic in (topics.REGION_LOG, topics.STATE, topics.DEAD_LETTER):
        found = set().union(*(traces(whole(m)) for m in both.told.messages[topic]))
        assert "the secret word" in found, topic
    logged = [traces(whole(m)) for m in both.told.messages[topics.REGION_LOG]]
    assert set().union(*logged) >= {"the stream", "the position as numbers"}


def test_the_stream_gets_its_messages_regions_and_dead_letters(both: Both):
    notices, regions, letters = (
        both.told.values(topics.seen_by(topic, [STREAM])[0])
        for topic in (topics.NOTICES, topics.REGIONS, topics.DEAD_LETTER)
    )
    assert [json.loads(value)["record_number"] for value in notices] == [1, 2, 3]
    kinds = [(r["alert_type"], r["streams"]) for r in map(decode, regions)]
    assert kinds == [(kind, [STREAM]) for kind in ("initial", "update", "retraction")]
    by_reason = {letter["reason"]: letter for letter in map(decode, letters)}
    assert by_reason.keys() == {"json_broken", "bad_position"}
    assert all(letter["streams"] == [STREAM] for letter in by_reason.values())
    assert SECRET.encode() in by_reason["json_broken"]["raw"], "its topic says whose it is"
    assert str(OUR_RA).encode() in by_reason["bad_position"]["raw"]
    # Operators have all of them besides.
    assert len(both.told.values(topics.DEAD_LETTER)) == 2


def _statements(outcome: Outcome, topic: str) -> list[dict[str, Any]]:
    return [decode(value) for value in outcome.values(topic)]


def test_the_stream_gets_candidates_updates_and_withdrawals(both: Both):
    (topic,) = topics.seen_by(topics.candidates("grb"), [STREAM])
    said = _statements(both.told, topic)
    assert {(s["stream"], tuple(s["streams"])) for s in said} == {(topic, (STREAM,))}
    of_far = [s["reason"] for s in said if s["id"] == "ZTF260000003"]
    # Whichever came first, the alert or the region: both came at about the same time.
    assert of_far[0] in ("new_candidate", "found_in_archive")
    assert of_far[1:] == ["outside_revised_region"]
    of_near = [(s["state"], s["reason"]) for s in said if s["id"] == "ZTF260000001"]
    assert of_near[0][0] == "in_force"
    assert of_near[0][1] in ("new_candidate", "found_in_archive")
    assert of_near[-1] == ("withdrawn", "event_retracted")
    assert len(of_near) >= 4
    assert not [s for s in said if s["id"] == "ZTF260000005"]
    assert len({s["candidate_id"] for s in said}) == len(said)
    assert {s["event_name"] for s in said} == {f"{SECRET} 7"}


def test_each_statement_of_the_stream_is_one_voevent_on_its_topic_and_port(both: Both):
    (statements,) = topics.seen_by(topics.candidates("grb"), [STREAM])
    (voevents,) = topics.seen_by(topics.VOEVENTS, [STREAM])
    told = both.told.values(voevents)
    ivoids = [dict(m.headers)["ivoid"].decode() for m in both.told.messages[voevents]]
    assert len(set(ivoids)) == len(told) == len(both.told.values(statements))
    assert all("/private/ourteam/candidates#" in ivoid for ivoid in ivoids)
    public = {dict(m.headers)["ivoid"].decode() for m in both.told.messages[topics.VOEVENTS]}
    assert not public & set(ivoids)
    sent = both.told.private_vtp
    marked = [m.value for m in both.told.messages[voevents] if ("vtp", b"yes") in m.headers]
    assert sent == marked
    assert set(marked) <= set(told)
    assert any(b'cite="retraction"' in f for f in sent)


def _public(outcome: Outcome, topic: str) -> list[Any]:
    """Messages of a public topic but for the time at which they were made.

    In the order of each key: alerts that were sent together may come in two batches.
    """
    messages = sorted(outcome.messages[topic], key=lambda m: m.key)
    if topic == topics.VOEVENTS:
        moments = re.compile(rb'<Date>[^<]*</Date>|(name="alert_datetime" value=)"[^"]*"')
        return [(m.key, moments.sub(b"", m.value), m.headers) for m in messages]
    made = {"alert_datetime": "", "received": ""}
    return [(m.key, decode(m.value) | made, m.headers) for m in messages]


@pytest.mark.parametrize("topic", [topics.REGIONS, topics.candidates("grb"), topics.VOEVENTS])
def test_what_everybody_sees_is_the_same_as_without_the_private_event(both: Both, topic: str):
    assert _public(both.told, topic) == _public(both.without, topic)
    assert _public(both.told, topic)


def test_public_topics_are_the_same_in_number_as_without_the_private_event(both: Both):
    def filled(outcome: Outcome) -> dict[str, int]:
        return {
            t: len(found)
            for t, found in outcome.messages.items()
            if not inputs(t) and t not in topics.OPERATOR_ONLY and topics.place_of(t)[1] == ""
        }

    assert filled(both.told) == filled(both.without)


def test_the_archive_of_candidates_says_who_may_see_each(both: Both):
    marks = [(r["streams"], bool(traces(repr(r).encode()))) for r in both.told.archive]
    assert ([], False) in marks
    assert ([STREAM], True) in marks
    assert {(tuple(s), found) for s, found in marks} == {((), False), ((STREAM,), True)}
    assert {tuple(r["streams"]) for r in both.without.archive} == {()}


def test_the_ledger_adds_up_and_tells_operators_names_and_no_places(both: Both):
    assert topics.LEDGER in topics.OPERATOR_ONLY
    assert alert_hole(both.told.ledger) == 0
    for message in both.told.messages[topics.LEDGER]:
        # A search of the archive is told by its event, whose name has both; never by its place.
        assert traces(message.value) <= {"the secret word", "the stream"}
