from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest

from broker.codec import decode_region
from broker.ledger import notice_hole
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import NoticeError, ServiceError
from gateway.feeds.registry import load_feeds
from gateway.intake import EventBook
from gateway.listen import Worker
from gateway.pipeline import Batch, NoticePipeline, SkymapStore
from gateway.sink import arrival_of, headers_of
from gateway.sources import Arrival, FolderSource, KafkaSource, bounded

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[1] / "data" / "notices"
REGISTRY = load_feeds()


@dataclass
class MemorySink:
    """Keeps everything, and the order in which it came."""

    stored: list[Arrival] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    full: bool = False

    def store(self, arrivals: Sequence[Arrival]) -> list[int]:
        if self.full:
            raise ServiceError("no space left")
        self.events.append("store")
        first = len(self.stored)
        self.stored.extend(arrivals)
        return list(range(first, len(self.stored)))

    def commit(self, batch: Batch) -> None:
        self.events.append("commit")
        self.batches.append(batch)

    @property
    def regions(self) -> list[dict[str, Any]]:
        return [dict(decode_region(v).fields) for b in self.batches for _, v in b.regions]

    @property
    def dead_letters(self) -> list[dict[str, Any]]:
        values = [v for b in self.batches for _, v in b.dead_letters]
        return [record for v in values for record in fastavro.reader(io.BytesIO(v))]  # type: ignore[misc]


def arrival(raw: bytes, **facts: Any) -> Arrival:
    return Arrival(raw=raw, source="test:here", topic=facts.pop("topic", ""), received=NOW, **facts)


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def gbm(serial: int, second: int) -> bytes:
    """A later or earlier final position of the same burst."""
    text = sample("gbm_final.xml")
    before = text.count(b"<Date>")
    assert before == 1
    start = text.index(b"<Date>") + 6
    end = text.index(b"</Date>")
    issued = f"2026-01-02T04:00:{second:02d}".encode()
    changed = text[:start] + issued + text[end:]
    return changed.replace(b"</voe:VOEvent>", f"<!-- {serial} --></voe:VOEvent>".encode())


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def pipeline(sink: MemorySink, tmp_path: Path) -> NoticePipeline:
    return NoticePipeline(REGISTRY, EventBook(), DEFAULT_CHAINS, sink, SkymapStore(tmp_path))


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
    (region,) = sink.regions
    assert (region["feed"], region["version"], region["shape"]) == ("fermi_gbm", 1, "circle")
    assert region["notice_sha256"] == hashlib.sha256(raw).hexdigest()
    assert region["received"] == "2026-01-02T04:00:00.000000Z"


def test_retraction_is_a_record_without_localisation(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    assert pipeline.take([arrival(sample("svom_retraction.xml"))]) == ["retraction"]
    (record,) = sink.regions
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
    (letter,) = sink.dead_letters
    assert (letter["reason"], letter["raw"]) == (reason, raw)
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("t", 2, 7)
    assert letter["detail"]


def test_refusal_of_a_source_is_a_dead_letter(pipeline: NoticePipeline, sink: MemorySink) -> None:
    refused = NoticeError("missing_role", "the VOEvent has no role")
    assert pipeline.take([arrival(sample("wxt.json"), refused=refused)]) == ["rejected"]
    assert sink.dead_letters[0]["reason"] == "missing_role"


def test_fault_of_a_parser_costs_one_notice(
    pipeline: NoticePipeline, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(self: object, raw: bytes, **options: str) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(type(REGISTRY), "parse", parse)
    assert pipeline.take([arrival(b"{}")]) == ["rejected"]
    assert sink.dead_letters[0]["reason"] == "parser_failed"
    assert "ZeroDivisionError" in sink.dead_letters[0]["detail"]


def test_repeats_are_counted_and_give_no_second_region(
    pipeline: NoticePipeline, sink: MemorySink
) -> None:
    raw = sample("wxt.json")
    assert pipeline.take([arrival(raw)] * 3) == ["region", "duplicate", "duplicate"]
    assert len(sink.regions) == 1


def test_ledger_adds_up(pipeline: NoticePipeline, sink: MemorySink) -> None:
    names = ("gbm_final.xml", "wxt.json", "gwalert.json", "svom_retraction.xml", "wxt.json")
    pipeline.take([arrival(sample(name)) for name in names[:2]])
    pipeline.take([arrival(sample(name)) for name in names[2:]])
    assert notice_hole(pipeline.totals) == 0
    assert pipeline.totals["received"] == len(names)
    assert [notice_hole(b.counts) for b in sink.batches] == [0, 0]
    assert sink.batches[-1].totals == pipeline.totals
    assert sink.batches[-1].next_notice == len(names)


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
    said = [(r["notice_sha256"], r["version"]) for r in sink.regions]
    newer, older = hashlib.sha256(late).hexdigest(), hashlib.sha256(early).hexdigest()
    assert said == [(newer, 1), (older, 1), (newer, 2)]


def test_restart_changes_nothing(sink: MemorySink, tmp_path: Path) -> None:
    """What was published is known again: a repeat is a repeat, and versions go on."""

    def fresh() -> NoticePipeline:
        return NoticePipeline(REGISTRY, EventBook(), DEFAULT_CHAINS, sink, SkymapStore(tmp_path))

    first = fresh()
    first.take([arrival(gbm(1, 10)), arrival(sample("svom_retraction.xml"))])
    second = fresh()
    assert second.restore([v for b in sink.batches for _, v in b.regions]) == 2
    again = [arrival(gbm(1, 10)), arrival(sample("svom_retraction.xml")), arrival(gbm(2, 40))]
    assert second.take(again) == ["duplicate", "duplicate", "region"]
    assert sink.regions[-1]["version"] == 2


def test_damaged_record_does_not_stop_the_restart(pipeline: NoticePipeline) -> None:
    assert pipeline.restore([b"no container"]) == 0


def test_sky_map_is_kept_once_under_its_hash(tmp_path: Path) -> None:
    store = SkymapStore(tmp_path)
    digest = hashlib.sha256(b"map").hexdigest()
    assert store.put(b"map") == store.put(b"map") == f"skymaps/{digest}.fits"
    assert [p.name for p in (tmp_path / "skymaps").iterdir()] == [f"{digest}.fits"]


def test_sky_map_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "skymaps").write_text("a file where the folder should be")
    with pytest.raises(ServiceError, match="cannot be written"):
        SkymapStore(tmp_path).put(b"map")


def test_headers_bring_the_arrival_back() -> None:
    full = arrival(
        b"x", topic="t", partition=1, offset=2, feed="f", refused=NoticeError("why", "because")
    )
    back = arrival_of(b"x", headers_of(full))
    assert (back.source, back.topic, back.partition, back.offset, back.received, back.feed) == (
        full.source, "t", 1, 2, NOW, "f",
    )  # fmt: skip
    assert back.refused is not None
    assert (back.refused.reason, back.refused.detail) == ("why", "because")
    assert arrival_of(b"x", headers_of(arrival(b"x"))).refused is None


def test_too_long_a_notice_is_refused_with_its_beginning() -> None:
    long = bounded(arrival(b"<" * (7 * 2**20 + 1)))
    assert long.refused is not None
    assert (long.refused.reason, len(long.raw)) == ("too_large", 2**16)


@dataclass
class Delivered:
    """A pipeline's end of the queue, by hand."""

    jobs: list[tuple[Sequence[Arrival], Any, Any]] = field(default_factory=list)
    outcome: str = "region"

    def __call__(self, arrivals: Sequence[Arrival], stored: Any = None, done: Any = None) -> None:
        self.jobs.append((arrivals, stored, done))
        if stored is not None:
            stored()


def test_folder_takes_complete_files_and_moves_them(tmp_path: Path) -> None:
    delivered = Delivered()
    source = FolderSource(tmp_path, delivered, lambda: NOW)
    for name in ("a.xml", "b.json", "c.txt", ".d.xml"):
        (tmp_path / name).write_bytes(name.encode())
    assert source.poll() == 0
    assert source.poll() == 2
    assert source.poll() == 0
    for (arrivals, _, done), outcome in zip(delivered.jobs, ("region", "rejected"), strict=True):
        assert arrivals[0].source.startswith("folder:")
        done([outcome])
    assert (tmp_path / "done" / "a.xml").read_bytes() == b"a.xml"
    assert (tmp_path / "rejected" / "b.json").exists()


def test_folder_leaves_a_growing_file_and_keeps_files_of_one_name(tmp_path: Path) -> None:
    delivered = Delivered()
    source = FolderSource(tmp_path, delivered, lambda: NOW)
    file = tmp_path / "a.xml"
    file.write_bytes(b"1")
    source.poll()
    file.write_bytes(b"12")
    assert source.poll() == 0
    assert source.poll() == 1
    delivered.jobs[-1][2](["region"])
    file.write_bytes(b"other")
    source.poll()
    source.poll()
    delivered.jobs[-1][2](["region"])
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a-1.xml", "a.xml"]


class Message:
    """A message of confluent_kafka, as far as the source looks at it."""

    def __init__(self, value: bytes | None, offset: int = 0, error: Any = None) -> None:
        self._value, self._offset, self._error = value, offset, error

    def value(self) -> bytes | None:
        return self._value

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> Any:
        return self._error


class Trouble:
    """An error that came as a message."""

    def __init__(self, fatal: bool) -> None:
        self._fatal = fatal

    def fatal(self) -> bool:
        return self._fatal

    def str(self) -> str:
        return "unknown topic"


class Client:
    """A consumer with messages in memory."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.commits: list[int] = []

    def poll(self, wait: float) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, number: int, wait: float) -> list[Message]:
        taken, self.messages = self.messages[:number], self.messages[number:]
        return taken

    def commit(self, offsets: list[Any], asynchronous: bool) -> None:
        self.commits += [o.offset for o in offsets]


def test_offsets_are_committed_after_the_bytes_are_stored() -> None:
    client = Client([Message(b"a", 4), Message(b"b", 5)])
    seen: list[list[int]] = []

    def deliver(arrivals: Sequence[Arrival], stored: Any = None, done: Any = None) -> None:
        seen.append(list(client.commits))
        stored()

    source = KafkaSource("gcn", client, ["t"], deliver, lambda: NOW)
    assert source.step() == 2
    assert seen == [[]]
    assert client.commits == [6]


def test_errors_that_come_as_messages_are_no_notices() -> None:
    client = Client([Message(None, error=Trouble(False)), Message(b"a", 1)])
    delivered = Delivered()
    assert KafkaSource("gcn", client, ["t"], delivered, lambda: NOW).step() == 1
    assert [a.raw for a in delivered.jobs[0][0]] == [b"a"]


def test_fatal_error_of_kafka_ends_the_source() -> None:
    client = Client([Message(None, error=Trouble(True))])
    with pytest.raises(ServiceError, match="gcn"):
        KafkaSource("gcn", client, ["t"], Delivered(), lambda: NOW).step()


def test_worker_hands_each_source_its_own_outcomes(pipeline: NoticePipeline) -> None:
    failures: list[Exception] = []
    worker = Worker(pipeline, failures.append)
    told: list[Any] = []
    worker.deliver([arrival(sample("wxt.json")), arrival(b"{")], done=told.append)
    worker.deliver([arrival(sample("wxt.json"))], done=told.append)
    worker.start()
    worker.stop()
    assert told == [["region", "rejected"], ["duplicate"]]
    assert failures == []


def test_worker_reports_why_it_ended(pipeline: NoticePipeline, sink: MemorySink) -> None:
    sink.full = True
    failures: list[Exception] = []
    worker = Worker(pipeline, failures.append)
    worker.deliver([arrival(b"{")])
    worker.start()
    worker.stop()
    assert [str(f) for f in failures] == ["no space left"]


@pytest.mark.realdata
def test_real_maps_travel_by_hash(
    pipeline: NoticePipeline, sink: MemorySink, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "notices" / "json_igwn").glob("*.json"))
    outcomes = pipeline.take([arrival(f.read_bytes(), topic="igwn.gwalert") for f in files])
    assert set(outcomes) <= {"region", "retraction"}
    maps = [r for r in sink.regions if r["shape"] == "map"]
    assert maps
    for record in maps:
        fits = (tmp_path / record["skymap_path"]).read_bytes()
        assert hashlib.sha256(fits).hexdigest() == record["skymap_sha256"]
        assert json.dumps(record["moc"])
