"""From stored bytes to records: order, repeats, versions, rejections, restarts."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker import topics
from broker.ledger import notice_hole
from crossmatch.errors import NoticeError, ServiceError
from crossmatch.model import Notice
from gateway.intake import EventBook
from gateway.listener.outbox import arrival_of
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.skymaps import SkymapStore
from gateway.reports import NoticeReport
from tests.gateway.memory import NOW, REGISTRY, Direct, MemorySink, a_map, arrival, gbm, sample


def pipeline_of(sink: MemorySink, folder: Path, **options: Any) -> NoticePipeline:
    """A pipeline that goes on where the sink says."""
    direct = options.pop("direct", Direct())
    options.setdefault("now", lambda: NOW)
    return NoticePipeline(
        direct.understand,
        EventBook(),
        sink,
        SkymapStore(folder),
        sink.progress(),
        audience=direct.audience,
        **options,
    )


def digest_of(raw: bytes) -> str:
    found = REGISTRY.parse(raw)
    assert isinstance(found, Notice)
    return found.sha256


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def pipeline(sink: MemorySink, tmp_path: Path) -> NoticePipeline:
    return pipeline_of(sink, tmp_path)


def test_raw_bytes_are_stored_before_anything_else(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    raw = sample("gbm_final.xml")
    outcomes = pipeline.take([arrival(raw)], stored=lambda: sink.events.append("told"))
    assert outcomes == ["region"]
    assert sink.events == ["store", "told", "commit"]
    assert sink.stored[0].raw == raw


def test_nothing_is_told_or_worked_through_when_the_bytes_cannot_be_stored(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    sink.full = True
    with pytest.raises(ServiceError):
        pipeline.take([arrival(b"<x/>")], stored=lambda: sink.events.append("told"))
    assert sink.events == []
    assert pipeline.totals["received"] == 0


def test_localised_notice_becomes_a_region(pipeline: NoticePipeline, sink: MemorySink) -> None:
    raw = sample("gbm_final.xml")
    pipeline.take([arrival(raw)])
    (region,) = sink.regions()
    assert (region["feed"], region["version"], region["shape"]) == ("fermi_gbm", 1, "circle")
    assert region["notice_sha256"] == digest_of(raw)
    assert region["received"] == "2026-01-02T04:00:00.000000Z"


def test_retraction_is_a_record_without_localisation(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    assert pipeline.take([arrival(sample("svom_retraction.xml"))]) == ["retraction"]
    (record,) = sink.regions()
    assert (record["alert_type"], record["shape"]) == ("retraction", "none")
    assert record["retracts"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"<voe:VOEvent><broken", "xml_broken"),
        (b'{"a": ', "json_broken"),
        (b"", "empty"),
        (b"GIF89a", "unknown_format"),
        (sample("gwalert.json"), "not_fits"),
    ],
)
def test_what_cannot_be_understood_is_a_dead_letter_with_reason_and_bytes(
    pipeline: NoticePipeline, sink: MemorySink, raw: bytes, reason: str
) -> None:
    good = sample("wxt.json")
    outcomes = pipeline.take([arrival(raw, topic="t", partition=2, offset=7), arrival(good)])
    assert outcomes == ["rejected", "region"]
    (letter,) = sink.letters()
    assert (letter["reason"], letter["raw"]) == (reason, raw)
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("t", 2, 7)
    assert letter["detail"]


def test_refusal_of_a_source_is_a_dead_letter(pipeline: NoticePipeline, sink: MemorySink) -> None:
    refused = NoticeError("missing_role", "the VOEvent has no role")
    assert pipeline.take([arrival(sample("wxt.json"), refused=refused)]) == ["rejected"]
    assert sink.letters()[0]["reason"] == "missing_role"


def test_fault_of_a_parser_costs_one_notice(
    pipeline: NoticePipeline, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def route(self: object, raw: bytes, **options: str) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(type(REGISTRY), "route", route)
    assert pipeline.take([arrival(b"{}")]) == ["rejected"]
    assert sink.letters()[0]["reason"] == "parser_failed"
    assert "ZeroDivisionError" in sink.letters()[0]["detail"]


def test_repeats_are_counted_and_give_no_second_region(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    raw = sample("wxt.json")
    assert pipeline.take([arrival(raw)] * 3) == ["region", "duplicate", "duplicate"]
    assert len(sink.regions()) == 1


def test_ledger_adds_up(pipeline: NoticePipeline, sink: MemorySink) -> None:
    names = ("gbm_final.xml", "wxt.json", "gwalert.json", "svom_retraction.xml", "wxt.json")
    pipeline.take([arrival(sample(name)) for name in names[:2]])
    pipeline.take([arrival(sample(name)) for name in names[2:]])
    assert notice_hole(pipeline.totals) == 0
    assert pipeline.totals["received"] == len(names)
    assert [notice_hole(b.counts) for b in sink.batches] == [0, 0]
    assert sink.batches[-1].totals == pipeline.totals
    assert sink.batches[-1].next_notice == len(names)


def test_ledger_has_parts_by_night_and_feed(pipeline: NoticePipeline, sink: MemorySink) -> None:
    noon = NOW.replace(hour=12)
    raw = sample("gbm_final.xml")
    pipeline.take([arrival(raw), arrival(raw, received=noon), arrival(b"<x/>")])
    (batch,) = sink.batches
    assert batch.tally.parts() == [
        {"night": "2026-01-01", "feed": "fermi_gbm", "counts": {"received": 1, "region": 1}},
        {"night": "2026-01-01", "feed": "unknown", "counts": {"received": 1, "rejected": 1}},
        {"night": "2026-01-02", "feed": "fermi_gbm", "counts": {"duplicate": 1, "received": 1}},
    ]
    assert batch.tally.counts() == batch.counts


def test_dead_letter_has_the_door_of_the_notice(pipeline: NoticePipeline, sink: MemorySink) -> None:
    one = arrival(b"<x/>", source="vtp:broker", partition=3)
    pipeline.take([one])
    (record,) = sink.batches[0].records
    assert arrival_of(one.raw, record.headers) == one


def test_large_notices_are_committed_nearly_alone(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    small, large = b"{", b"{" + b" " * 2**20
    outcomes = pipeline.take([arrival(raw) for raw in (small, large, large, small)])
    assert outcomes == ["rejected"] * 4
    assert [b.next_notice for b in sink.batches] == [2, 3, 4]


def test_versions_count_in_the_order_of_issue_and_are_sent_again_when_they_shift(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    late, early = gbm(2, 40), gbm(1, 10)
    pipeline.take([arrival(late)])
    pipeline.take([arrival(early)])
    said = [(r["notice_sha256"], r["version"]) for r in sink.regions()]
    newer, older = digest_of(late), digest_of(early)
    assert said == [(newer, 1), (older, 1), (newer, 2)]


def test_restart_changes_nothing(sink: MemorySink, tmp_path: Path) -> None:
    """What was published is known again: a repeat is a repeat, and versions go on."""

    def fresh() -> NoticePipeline:
        return pipeline_of(sink, tmp_path)

    first = fresh()
    first.take([arrival(gbm(1, 10)), arrival(sample("svom_retraction.xml"))])
    second = fresh()
    assert second.restore(sink.values(topics.REGION_LOG)) == 2
    again = [arrival(gbm(1, 10)), arrival(sample("svom_retraction.xml")), arrival(gbm(2, 40))]
    assert second.take(again) == ["duplicate", "duplicate", "region"]
    assert sink.regions()[-1]["version"] == 2


def test_damaged_record_does_not_stop_the_restart(pipeline: NoticePipeline) -> None:
    assert pipeline.restore([b"no container"]) == 0


def test_quick_repeats_and_those_known_from_before_are_both_repeats(
    sink: MemorySink, tmp_path: Path
) -> None:
    """The same event by another door is read, and is one event all the same."""
    pipeline = pipeline_of(sink, tmp_path)
    raw = sample("wxt.json")
    other = arrival(raw, topic="gcn.notices.einstein_probe.wxt.alert")
    assert pipeline.take([arrival(raw), other, other]) == ["region", "duplicate", "duplicate"]
    assert len(sink.regions()) == 1


def test_public_regions_go_to_the_log_and_to_everybody(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    pipeline.take([arrival(sample("gbm_final.xml"))])
    assert sink.names() == {topics.REGION_LOG, topics.REGIONS}
    assert sink.values(topics.REGION_LOG) == sink.values(topics.REGIONS)


def test_observers_are_told_after_the_commit(sink: MemorySink, tmp_path: Path) -> None:
    reports: list[NoticeReport] = []
    later = datetime(2026, 1, 2, 5, tzinfo=UTC)

    def observe(report: NoticeReport) -> None:
        assert sink.events[-1] == "commit"
        reports.append(report)

    pipeline = pipeline_of(sink, tmp_path, observers=[observe], now=lambda: later)
    raw, strange = sample("wxt.json"), b'{"stranger": 1}'
    pipeline.take([arrival(raw), arrival(raw), arrival(strange, topic="t"), arrival(b"{")])
    assert [(r.feed, r.outcome, r.reason) for r in reports] == [
        ("einstein_probe", "region", ""),
        ("einstein_probe", "duplicate", ""),
        ("", "rejected", "no_feed"),
        ("", "rejected", "json_broken"),
    ]
    assert [r.raw for r in reports] == [b"", b"", strange, b"{"]
    assert (reports[0].finished, reports[0].role) == (later, "observation")


def test_fault_of_an_observer_costs_nothing(sink: MemorySink, tmp_path: Path) -> None:
    def observe(report: NoticeReport) -> None:
        raise ZeroDivisionError

    pipeline = pipeline_of(sink, tmp_path, observers=[observe])
    assert pipeline.take([arrival(sample("wxt.json"))]) == ["region"]


def test_fault_while_a_region_is_written_costs_one_notice(
    sink: MemorySink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*arguments: object, **options: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.listener.regionlog.encode_region", encode)
    outcomes = pipeline_of(sink, tmp_path).take([arrival(sample("wxt.json")), arrival(b"{")])
    assert outcomes == ["rejected", "rejected"]
    assert [r["reason"] for r in sink.letters()] == ["parser_failed", "json_broken"]


def test_why_there_is_no_region_is_logged(
    pipeline: NoticePipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests may have switched on our own handler.
    monkeypatch.setattr(logging.getLogger("mmgateway"), "propagate", True)
    caplog.set_level(logging.INFO, "mmgateway")
    unplaced = sample("gbm_final.xml").replace(b"<Error2Radius>", b"<Error2Radius>-")
    utility = sample("gbm_final.xml").replace(b'role="observation"', b'role="utility"')
    assert pipeline.take([arrival(unplaced), arrival(utility)]) == ["no_position", "ignored"]
    lines = [line for line in caplog.messages if " event=notice " in line]
    assert ["outcome=no_position" in line for line in lines] == [True, False]
    assert ["outcome=ignored" in line for line in lines] == [False, True]
    assert "reason=no_error_radius" in lines[0]
    assert "reason=utility" in lines[1]


@pytest.mark.parametrize("is_late", [False, True])
def test_the_last_message_of_a_retracted_event_says_so(
    pipeline: NoticePipeline, sink: MemorySink, is_late: bool
) -> None:
    alert = json.loads(sample("gwalert.json"))
    alert["event"]["skymap"] = base64.b64encode(a_map()).decode()
    gone = alert | {
        "alert_type": "RETRACTION",
        "event": None,
        "time_created": "2030-01-01T00:00:00Z",
    }
    raws = [json.dumps(alert).encode(), json.dumps(gone).encode()]
    pipeline.take([arrival(raw) for raw in (reversed(raws) if is_late else raws)])
    assert len(sink.batches) == 1
    said = [r["alert_type"] for r in sink.regions(topics.REGIONS)]
    assert said == (
        ["retraction", "initial", "retraction"] if is_late else ["initial", "retraction"]
    )
    assert [r["alert_type"] for r in sink.regions()] == said


@pytest.mark.realdata
def test_real_maps_travel_by_hash(
    pipeline: NoticePipeline, sink: MemorySink, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "notices" / "json_igwn").glob("*.json"))
    outcomes = pipeline.take([arrival(f.read_bytes(), topic="igwn.gwalert") for f in files])
    assert set(outcomes) <= {"region", "retraction"}
    maps = [r for r in sink.regions() if r["shape"] == "map"]
    assert maps
    for record in maps:
        fits = (tmp_path / record["skymap_path"]).read_bytes()
        assert hashlib.sha256(fits).hexdigest() == record["skymap_sha256"]
        assert json.dumps(record["moc"])
