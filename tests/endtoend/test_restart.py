"""The match service and Kafka are killed amid a stream; the outcome is as if they were not."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from broker import kafka_io, topics
from broker.codec import decode
from broker.ledger import MATCHER_KINDS, added, alert_hole
from broker.regioncodec import decode_region
from crossmatch.index import RegionIndex
from crossmatch.match import match
from tests.gateway.candidatefiles import read_table

from . import killing, packets
from .conftest import Gateway, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

# Small batches, so that there is always one to kill in the middle of.
SETTINGS = """
[match]
max_offsets_per_trigger = 20
"""
ALERTS = 360
TOPIC = "alerts.ztf"
RA, DEC = packets.GBM_PLACE
SECOND_PLACE = (RA + 8.0, DEC + 3.0)
Groups = dict[tuple[str, str], dict[int, float]]


def _alerts() -> list[tuple[dict[str, Any], bytes]]:
    """Three alerts an object, half of them outside; some packets that only Python reads."""
    rng = np.random.default_rng(7)
    made = []
    for number in range(ALERTS // 3):
        ra, dec = RA + rng.uniform(-16, 16), DEC + rng.uniform(-16, 16)
        for visit in range(3):
            candid = 100 * (number + 1) + visit
            record = packets.record(candid, ra + 1e-5 * visit, dec, 1.0 + visit / 10)
            codec = "deflate" if candid % 10 == visit == 1 else "null"
            made.append((record, packets.container(record, codec=codec)))
    return [made[i] for i in rng.permutation(len(made))]


def _expected(gateway: Gateway, alerts: list[tuple[dict[str, Any], bytes]]) -> Groups:
    """The pairs of all alerts and all regions at once, by the functions of the core."""
    records = [decode_region(value) for value in gateway.messages(topics.REGIONS)]
    regions = [r.region for r in records if r.region is not None]
    assert len({r.event_id for r in regions}) == len(regions) == 2
    candidates = [record["candidate"] for record, _ in alerts]
    columns = [np.array([c[name] for c in candidates]) for name in ("jd", "ra", "dec")]
    pairs = match(*columns, RegionIndex.build(regions))
    groups: Groups = defaultdict(dict)
    for row, region, level in zip(
        pairs.alert_row, pairs.region_row, pairs.credible_level, strict=True
    ):
        record = alerts[row][0]
        key = (regions[region].event_id, record["objectId"])
        groups[key][record["candid"]] = pytest.approx(level, abs=1e-9)
    return dict(groups)


def _in_force(gateway: Gateway) -> Groups:
    return {
        key: {a["alert"]["alert_id"]: a["credible_level"] for a in group["alerts"]}
        for key, group in gateway.state().items()
        if group["last"]["state"] == "in_force"
    }


def _received(gateway: Gateway) -> int:
    return gateway.ledger("alerts").get("received", 0)


@pytest.mark.parametrize("gateway", [SETTINGS], indirect=True)
def test_killed_services_change_nothing_that_a_reader_sees(gateway: Gateway):
    alerts = _alerts()
    values = [value for _, value in alerts]
    gateway.send(packets.GBM_TOPIC, [packets.notice(100000001)])
    gateway.send(TOPIC, values[:120])
    assert until(lambda: _received(gateway) >= 20)

    state = gateway.config.paths.state
    old = killing.pid_of(state, "match")
    assert killing.kill(killing.everything(state, "match"))
    producer = kafka_io.producer(gateway.bootstrap, {})
    for value in values[120:240]:
        kafka_io.send(producer, TOPIC, value)
    assert producer.flush(30) == 0
    # While nobody matches: the archive's and the stream's share of it is decided later.
    gateway.send(packets.GBM_TOPIC, [packets.notice(100000002, *SECOND_PLACE)])
    assert until(lambda: killing.is_back(state, "match", old))
    assert until(lambda: _received(gateway) >= 140)

    old = killing.pid_of(state, "kafka")
    assert killing.kill(killing.everything(state, "kafka"))
    for value in values[240:]:
        kafka_io.send(producer, TOPIC, value)
    assert until(lambda: killing.is_back(state, "kafka", old))
    assert producer.flush(60) == 0
    assert until(lambda: _received(gateway) >= ALERTS, 120), gateway.command("status").stdout

    assert until(gateway.searched)
    _check(gateway, alerts)


def _check(gateway: Gateway, alerts: list[tuple[dict[str, Any], bytes]]) -> None:
    counts = gateway.ledger("alerts")
    assert counts["received"] == ALERTS, counts
    assert alert_hole(counts) == 0
    assert not [name for name in counts if name.startswith("rejected")], counts
    assert _in_force(gateway) == _expected(gateway, alerts)

    statements = [decode(value) for value in gateway.messages(topics.candidates("grb"))]
    ids = [s["candidate_id"] for s in statements]
    assert len(set(ids)) == len(ids)
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for statement in statements:
        key = (statement["event_id"], statement["counterpart_id"])
        numbers[key].append(statement["record_number"])
    for key, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), key
    # The packet of each candidate could be read, whatever was down at that time.
    assert all(s["alert_sha256"] for s in statements)

    table = gateway.config.paths.state / "candidates"
    # The table follows the topics.
    assert until(lambda: len(read_table(table)) >= len(ids))
    assert sorted(str(r["candidate_id"]) for r in read_table(table)) == sorted(ids)
    marker = [json.loads(v) for v in gateway.messages(topics.MARKER) if b'"batch_id"' in v][-1]
    every = added(gateway.ledger(kind) for kind in MATCHER_KINDS)
    assert marker["totals"] == every
    assert until(lambda: len(gateway.messages(topics.VOEVENTS)) >= len(ids))
    assert len(gateway.messages(topics.VOEVENTS)) == len(ids)
