"""The live path (Kafka, listener, Spark, Kafka) finds the pairs of an independent program."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import fastavro
import pyarrow.dataset as pads
import pytest

from .conftest import Gateway, until

pytestmark = [pytest.mark.integration, pytest.mark.realdata, pytest.mark.timeout(300)]

SETTINGS = """
[cuts]
enabled = false

[chains.gw_low]
level = 0.9
window = [0, 7]
active_days = 7

[chains.gw_low_ns]
level = 0.9
window = [0, 7]
active_days = 7
"""


def _packets(shared_data: Path) -> list[bytes]:
    """The Fink-layout night of 15 January 2024 as the Avro containers that ZTF sends."""
    folder = shared_data / "schemas/ztf"
    parts = ("candidate", "prv_candidate", "fp_hist", "cutout", "alert")
    schema = fastavro.schema.load_schema_ordered([str(folder / f"{p}.avsc") for p in parts])
    rows = pads.dataset(shared_data / "alerts/ztf_parquet/fink_science_20240115").to_table()
    names = [f["name"] for f in schema["fields"]]
    packets = []
    for row in rows.to_pylist():
        record = {name: row.get(name) for name in names}
        record |= {"schemavsn": "4.02", "publisher": "test", "prv_candidates": None}
        buffer = io.BytesIO()
        fastavro.writer(buffer, schema, [record])
        packets.append(buffer.getvalue())
    return packets


def _expected(shared_data: Path) -> dict[tuple[str, str], dict[int, float]]:
    found: dict[tuple[str, str], dict[int, float]] = {}
    with (shared_data / "expected/gw_membership_20240115.csv").open() as file:
        for row in csv.DictReader(file):
            level = float(row["credible_level"])
            if level <= 0.9:
                key = (row["superevent_id"], row["gcn_status"])
                found.setdefault(key, {})[int(row["candid"])] = level
    return found


def _in_force(gateway: Gateway) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for (event, _), group in gateway.state().items():
        if group["last"]["state"] == "in_force":
            for matched in group["alerts"]:
                pairs = found.setdefault(event, {})
                pairs[matched["alert"]["alert_id"]] = matched["credible_level"]
    return found


def _same(found: dict[int, float], expected: dict[int, float]) -> bool:
    return found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("gateway", [SETTINGS], indirect=True)
def test_the_live_path_gives_the_expected_pairs_before_and_after_a_revision(
    gateway: Gateway, shared_data: Path
):
    folder = shared_data / "notices/gcn_2024-01/lvk"
    expected = _expected(shared_data)
    packets = _packets(shared_data)
    late = "S240114aj_update_0.json"
    early = sorted(p for p in folder.glob("*.json") if p.name != late)

    # Half of the alerts before the notices: those pairs are the archive's to find.
    gateway.send("alerts.ztf", packets[:200])
    assert until(lambda: gateway.ledger("alerts").get("received") == 200)
    gateway.send("igwn.gwalert", [p.read_bytes() for p in early])
    assert until(lambda: gateway.ledger("notices").get("region") == len(early))
    gateway.send("alerts.ztf", packets[200:])
    assert until(lambda: gateway.ledger("alerts").get("received") == len(packets))
    assert until(gateway.searched)

    found = _in_force(gateway)
    for event, label, count in (
        ("S240112e", "update_0", 111),
        ("S240112y", "update_0", 37),
        ("S240114aj", "initial", 70),
        ("S240114b", "update_0", 18),
    ):
        assert len(found[event]) == count
        assert _same(found[event], expected[(event, label)]), event

    gateway.send("igwn.gwalert", [(folder / late).read_bytes()])
    assert until(lambda: len(_in_force(gateway)["S240114aj"]) == 64)
    assert _same(_in_force(gateway)["S240114aj"], expected[("S240114aj", "update_0")])
    reasons = [
        group["last"]["reason"]
        for (event, _), group in gateway.state().items()
        if event == "S240114aj"
    ]
    assert reasons.count("outside_revised_region") == 7
    assert reasons.count("found_in_archive") == 1

    counts = gateway.ledger("alerts")
    assert counts["received"] == counts["matched"] + counts["unmatched"]
    status = json.loads(gateway.command("status", "--json").stdout)
    assert {s["state"] for s in status["services"]} == {"running"}
