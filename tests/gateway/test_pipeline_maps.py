"""Maps by address: wanted with the notice, and a version of it when they come."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from broker.ledger import notice_hole
from gateway.listener.maps import Wanted
from gateway.listener.pipeline import NoticePipeline
from gateway.listener.skymaps import SkymapStore
from gateway.listener.sources import Arrival
from gateway.understand import SkymapFile
from tests.gateway.memory import MAP_URL, REGISTRY, Mapped, MemorySink, a_map, arrival, gbm
from tests.gateway.test_pipeline import digest_of, pipeline_of

FITS = a_map()


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def asked() -> list[Wanted]:
    return []


@pytest.fixture
def pipeline(sink: MemorySink, asked: list[Wanted], tmp_path: Path) -> NoticePipeline:
    return pipeline_of(sink, tmp_path, direct=Mapped(), want=asked.append)


def came(wanted: Wanted, sink: MemorySink, folder: Path, fits: bytes = FITS) -> Arrival:
    """The arrival that a fetched map makes of a stored notice."""
    SkymapStore(folder).put(fits)
    raw = sink.stored[wanted.notice_offset].raw
    digest = hashlib.sha256(fits).hexdigest()
    return arrival(raw, source="map:maps.example.org", feed=wanted.feed, skymap=digest,
                   answers=f"map/{wanted.notice_sha256}")  # fmt: skip


def test_map_is_wanted_in_the_transaction_of_its_notice(
    pipeline: NoticePipeline, sink: MemorySink, asked: list[Wanted]
) -> None:
    raw = gbm(1, 10)
    assert pipeline.take([arrival(b"{"), arrival(raw)]) == ["rejected", "region"]
    (wanted,) = asked
    assert (wanted.url, wanted.notice_offset, wanted.feed) == (MAP_URL, 1, "fermi_gbm")
    assert wanted.notice_sha256 == digest_of(raw)
    assert sink.batches[-1].markers == {f"map/{digest_of(raw)}": wanted}
    assert sink.progress().wanted == pipeline.wanted


def test_circle_is_published_at_once_and_the_map_as_the_next_version(
    pipeline: NoticePipeline, sink: MemorySink, asked: list[Wanted], tmp_path: Path
) -> None:
    pipeline.take([arrival(gbm(1, 10))])
    assert pipeline.take([came(asked[0], sink, tmp_path)]) == ["region"]
    circle, placed = sink.regions()
    assert [(r["version"], r["localized_by"]) for r in (circle, placed)] == [
        (1, "circle"),
        (2, "map_fetched"),
    ]
    assert circle["notice_sha256"] == placed["notice_sha256"]
    assert placed["skymap_sha256"] == hashlib.sha256(FITS).hexdigest()
    assert (pipeline.wanted, sink.progress().wanted) == ({}, {})
    assert notice_hole(pipeline.totals) == 0


def test_map_that_comes_twice_is_one_version(
    pipeline: NoticePipeline, sink: MemorySink, asked: list[Wanted], tmp_path: Path
) -> None:
    pipeline.take([arrival(gbm(1, 10))])
    again = came(asked[0], sink, tmp_path)
    assert pipeline.take([again, again]) == ["region", "duplicate"]
    second = pipeline_of(sink, tmp_path, direct=Mapped(), want=asked.append)
    second.restore(v for v in sink.values("mm.regionlog"))
    assert second.take([again, arrival(gbm(1, 10))]) == ["duplicate", "duplicate"]
    assert len(asked) == 1


def test_what_is_no_map_stays_wanted_and_is_no_dead_letter(
    sink: MemorySink, asked: list[Wanted], tmp_path: Path
) -> None:
    told: list[tuple[Wanted, str]] = []
    pipeline = pipeline_of(
        sink,
        tmp_path,
        direct=Mapped(),
        want=asked.append,
        answered=lambda wanted, reason: told.append((wanted, reason)),
    )
    pipeline.take([arrival(gbm(1, 10))])
    assert pipeline.take([came(asked[0], sink, tmp_path, b"<html>")]) == ["rejected"]
    assert sink.letters() == []
    assert list(sink.progress().wanted.values()) == asked
    assert pipeline.take([came(asked[0], sink, tmp_path)]) == ["region"]
    assert sink.progress().wanted == {}
    assert told == [(asked[0], "not_fits"), (asked[0], "")]
    assert notice_hole(pipeline.totals) == 0


def test_map_that_came_while_its_feed_is_paused_is_wanted_until_it_is_read(
    sink: MemorySink, asked: list[Wanted], tmp_path: Path
) -> None:
    told: list[tuple[Wanted, str]] = []
    direct = Mapped()
    pipeline = pipeline_of(
        sink,
        tmp_path,
        direct=direct,
        want=asked.append,
        answered=lambda wanted, reason: told.append((wanted, reason)),
    )
    pipeline.take([arrival(gbm(1, 10))])
    direct.replace(replace(REGISTRY, paused=frozenset({"fermi_gbm"})))
    assert pipeline.take([came(asked[0], sink, tmp_path)]) == ["held"]
    assert (list(pipeline.wanted.values()), told) == (asked, [])
    direct.replace(REGISTRY)
    pipeline.release("fermi_gbm", sink.held("fermi_gbm", 0))
    assert (pipeline.wanted, told) == ({}, [(asked[0], "")])
    assert [r["localized_by"] for r in sink.regions()] == ["circle", "map_fetched"]


def test_unfinished_maps_are_known_after_a_restart_and_can_be_given_up(
    pipeline: NoticePipeline, sink: MemorySink, tmp_path: Path
) -> None:
    pipeline.take([arrival(gbm(1, 10))])
    second = pipeline_of(sink, tmp_path, direct=Mapped(), want=lambda wanted: None)
    (key,) = second.wanted
    second.give_up(key)
    second.give_up(key)
    assert sink.progress().wanted == {}
    assert sink.batches[-1].markers == {key: None}
    assert sink.progress().totals == pipeline.totals


def test_map_in_the_folder_is_taken_at_once(sink: MemorySink, tmp_path: Path) -> None:
    asked: list[Wanted] = []
    pipeline = pipeline_of(
        sink,
        tmp_path,
        direct=Mapped(),
        want=asked.append,
        find_map=lambda notice: SkymapFile(FITS, "folder"),
    )
    pipeline.take([arrival(gbm(1, 10))])
    assert [(r["version"], r["localized_by"]) for r in sink.regions()] == [(1, "map_folder")]
    assert asked == []


def test_nothing_is_wanted_when_nothing_is_fetched(sink: MemorySink, tmp_path: Path) -> None:
    pipeline = pipeline_of(sink, tmp_path, direct=Mapped())
    pipeline.take([arrival(gbm(1, 10))])
    assert (sink.batches[-1].markers, pipeline.wanted) == ({}, {})


def test_lost_file_of_a_map_costs_that_version_only(
    pipeline: NoticePipeline, sink: MemorySink, asked: list[Wanted]
) -> None:
    pipeline.take([arrival(gbm(1, 10))])
    lost = arrival(gbm(1, 10), feed="fermi_gbm", skymap="0" * 64, answers="map/x")
    assert pipeline.take([lost]) == ["rejected"]
    assert [r["reason"] for r in sink.letters()] == ["map_missing"]
