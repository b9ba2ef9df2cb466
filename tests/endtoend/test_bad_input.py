"""Bad input at every door of one running gateway: each is told why, nothing else is lost."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker import topics
from broker.codec import decode
from broker.flatavro import varint
from broker.ledger import alert_hole, notice_hole
from gateway import services
from gateway.night import packets as layout

from . import packets
from .conftest import Gateway, running, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LSST_SCHEMAS = SHARED / "schemas/lsst"
LSST_ALERT = SHARED / "alerts/lsst_avro/boom_lsst/7912941781254298.avro"
LSST_PLACE = (55.752, -32.268)
ZTF, LSST = "alerts.ztf", "alerts.lsst"
RA, DEC = packets.GBM_PLACE
# The event before all that is bad, the one after it, and one for the packet of LSST.
FIRST, SECOND, THIRD = "Fermi_100000001", "Fermi_100000002", "Fermi_100000003"
SECOND_PLACE = (80.0, 30.0)


def _body(candid: int) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, packets.schema(), packets.record(candid, RA, DEC))
    return buffer.getvalue()


def _plain(candid: int) -> bytes:
    """A good packet with the very header that is in use, which the JVM reads."""
    return layout.container(_body(candid))


def _absurd(length: int) -> bytes:
    """The text of ``objectId`` says that it is ``length`` bytes long."""
    body = _body(900)
    start = body.index(b"\x18ZTF")
    return layout.container(body[:start] + varint(length) + body[start + 1 :])


BAD_NOTICES: dict[str, tuple[str, bytes, str]] = {
    "broken XML": (packets.GBM_TOPIC, b"<voe:VOEvent><broken", "xml_broken"),
    "broken JSON": ("igwn.gwalert", b'{"a": ', "json_broken"),
    "map that is not FITS": (
        "igwn.gwalert",
        (packets.NOTICES / "gwalert.json").read_bytes(),
        "not_fits",
    ),
    "no bytes": (packets.GBM_TOPIC, b" ", "empty"),
}
BAD_ALERTS: dict[str, tuple[str, bytes, set[str]]] = {
    "not Avro": (ZTF, b"no alert", {"not_avro"}),
    "no bytes": (ZTF, b"", {"empty", "not_avro"}),
    "truncated": (ZTF, _plain(901)[:-60], {"truncated"}),
    "truncated in the header": (ZTF, _plain(902)[:3000], {"truncated"}),
    "a gigabyte of text": (ZTF, _absurd(1 << 30), {"absurd_length", "truncated", "malformed"}),
    "an exabyte of text": (ZTF, _absurd(1 << 60), {"absurd_length", "truncated", "malformed"}),
    "a negative length": (ZTF, _absurd(-5), {"absurd_length", "truncated", "malformed"}),
    "RA 720": (ZTF, packets.alert(903, 720.0, 0.0), {"ra_out_of_range"}),
    "no number": (ZTF, packets.alert(904, RA, float("nan")), {"null_required"}),
    "unknown schema id": (LSST, b"\x00\x00\x00\x09\x99" + bytes(200), {"unknown_schema_id"}),
}
GARBAGE_REGION = b"no region"
IN_THE_JVM = (
    "not Avro",
    "no bytes",
    "truncated",
    "a gigabyte of text",
    "an exabyte of text",
    "a negative length",
)


@dataclass(frozen=True)
class After:
    """What is on the topics when everything was worked through."""

    gateway: Gateway
    letters: list[dict[str, Any]]
    alerts: dict[str, int]
    notices: dict[str, int]
    statements: list[dict[str, Any]]

    def letters_of(self, raw: bytes) -> list[dict[str, Any]]:
        return [letter for letter in self.letters if letter["raw"] == raw]


def _vtp(gateway: Gateway, raw: bytes) -> bytes:
    port = (services.endpoint(gateway.config.paths.state, "listen") or {})["receiver_port"]
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def _received(gateway: Gateway, kind: str, number: int) -> None:
    assert until(lambda: gateway.ledger(kind).get("received", 0) >= number, 120), (
        gateway.ledger(kind),
        gateway.command("status").stdout,
    )


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[After]:
    settings = "[cuts]\nenabled = false\n"
    if LSST_SCHEMAS.is_dir():
        settings += f"[match]\nlsst_schemas = {json.dumps(str(LSST_SCHEMAS))}\n"
    with running(tmp_path_factory.mktemp("gateway"), settings) as gateway:
        yield _fed(gateway)


def _fed(gateway: Gateway) -> After:
    lsst = [LSST_ALERT.read_bytes()] if LSST_ALERT.is_file() else []
    gateway.send(packets.GBM_TOPIC, [packets.notice(100000001)])
    # It also teaches the schema, so that what follows is read in the JVM.
    gateway.send(ZTF, [_plain(100)])
    _received(gateway, "alerts", 1)
    _received(gateway, "notices", 1)

    for topic, raw, _ in BAD_NOTICES.values():
        gateway.send(topic, [raw])
    garbage = b"GET / HTTP/1.1\r\n\r\n"
    _vtp(gateway, garbage)
    _vtp(gateway, struct.pack(">I", 7) + b"garbage")
    gateway.send(topics.REGION_LOG, [GARBAGE_REGION])
    for topic, raw, _ in BAD_ALERTS.values():
        gateway.send(topic, [raw])
    gateway.send(
        ZTF,
        [
            packets.container(packets.record(200, RA, DEC), codec="deflate"),
            packets.container(packets.record(300, RA, DEC), packets.record(400, RA, DEC)),
        ],
    )
    gateway.send(LSST, lsst)
    good = 1 + 1 + 2 + len(lsst)
    _received(gateway, "alerts", good + len(BAD_ALERTS))

    gateway.send(
        packets.GBM_TOPIC,
        [
            packets.notice(100000002, *SECOND_PLACE),
            packets.notice(100000003, *LSST_PLACE, time="2025-10-13T03:04:05.67"),
        ],
    )
    _received(gateway, "notices", 3 + len(BAD_NOTICES) + 1)
    gateway.send(ZTF, [_plain(500), packets.alert(600, *SECOND_PLACE)])
    _received(gateway, "alerts", good + len(BAD_ALERTS) + 2)
    return After(
        gateway,
        [decode(value) for value in gateway.messages(topics.DEAD_LETTER)],
        gateway.ledger("alerts"),
        gateway.ledger("notices"),
        [decode(value) for value in gateway.messages(topics.candidates("grb"))],
    )


@pytest.mark.parametrize("name", BAD_ALERTS)
def test_a_bad_alert_is_a_dead_letter_with_its_bytes(after: After, name: str):
    topic, raw, _ = BAD_ALERTS[name]

    (letter,) = after.letters_of(raw)

    assert letter["topic"] == topic
    assert letter["offset"] >= 0
    assert letter["reason"]
    assert letter["detail"]


@pytest.mark.parametrize("name", list(BAD_ALERTS))
def test_the_reason_says_what_is_wrong_with_a_bad_alert(after: After, name: str):
    _, raw, reasons = BAD_ALERTS[name]

    assert [letter["reason"] in reasons for letter in after.letters_of(raw)] == [True]


@pytest.mark.parametrize("name", BAD_NOTICES)
def test_a_bad_notice_is_a_dead_letter_with_its_reason_and_bytes(after: After, name: str):
    topic, raw, reason = BAD_NOTICES[name]

    (letter,) = after.letters_of(raw)

    assert (letter["topic"], letter["reason"]) == (topic, reason)
    assert letter["detail"]


def test_garbage_by_vtp_is_a_dead_letter(after: After):
    (letter,) = after.letters_of(b"garbage")[:1]

    assert letter["source"].startswith("vtp:")
    assert letter["reason"]


def test_garbage_on_the_regions_topic_is_a_dead_letter(after: After):
    (letter,) = after.letters_of(GARBAGE_REGION)

    assert letter["topic"] == topics.REGION_LOG
    assert letter["reason"] == "not_avro"


def test_good_alerts_before_between_and_after_become_candidates(after: After):
    objects = {(s["event_id"], s["id"]) for s in after.statements if s["survey"] == "ztf"}

    assert objects == {(FIRST, f"ZTF26000000{i}") for i in (1, 2, 3, 4, 5)} | {
        (SECOND, "ZTF260000006")
    }
    digest = hashlib.sha256(_plain(500)).hexdigest()
    assert [s["alert_sha256"] for s in after.statements if s["id"] == "ZTF260000005"] == [digest]


@pytest.mark.realdata
def test_a_packet_of_lsst_with_a_known_schema_becomes_a_candidate(after: After):
    if not LSST_ALERT.is_file():
        pytest.skip("real data not tested: there is no ../shared/data beside this checkout")

    (statement,) = [s for s in after.statements if s["survey"] == "lsst"]

    assert (statement["event_id"], statement["alert_id"]) == (THIRD, "7912941781254298")


def test_the_ledgers_add_up(after: After):
    rejected = {n: c for n, c in after.alerts.items() if n.startswith("rejected.")}

    assert alert_hole(after.alerts) == 0
    assert sum(rejected.values()) == len(BAD_ALERTS)
    assert notice_hole(after.notices) == 0
    assert after.notices["region"] == 3
    assert len(after.letters) == len(BAD_ALERTS) + after.notices["rejected"] + 1


def test_no_service_had_to_be_started_again(after: After):
    status = json.loads(after.gateway.command("status", "--json").stdout)["services"]

    assert {s["state"] for s in status} == {"running"}
    assert {s["restarts"] for s in status} == {0}


def test_candidates_are_read_with_fastavro_and_a_plain_consumer(after: After):
    """As `docs` promise: no code of ours is needed to read the topics."""
    import confluent_kafka

    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": after.gateway.bootstrap,
            "group.id": "a-robot",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    client.subscribe([topics.candidates("grb")])
    records: list[Any] = []
    try:
        while len(records) < len(after.statements):
            message = client.poll(30)
            assert message is not None
            assert message.error() is None
            value = message.value()
            assert value is not None
            (record,) = fastavro.reader(io.BytesIO(value))
            records.append(record)
    finally:
        client.close()

    assert len({r["candidate_id"] for r in records}) == len(records)
    assert {r["state"] for r in records} == {"in_force"}
    text = json.dumps(records, allow_nan=False)
    assert "-999" not in text


def test_voevents_are_valid(after: After):
    import voeventparse

    count = len(after.statements)
    assert until(lambda: len(after.gateway.messages(topics.VOEVENTS)) >= count)
    packets_ = after.gateway.messages(topics.VOEVENTS)

    assert len(packets_) == count
    for packet in packets_:
        event = voeventparse.loads(packet)
        assert voeventparse.valid_as_v2_0(event)
        assert event.attrib["role"] == "observation"
