"""Feeds against real notices of all missions: everything is understood or refused with a reason."""

from __future__ import annotations

import csv
import re
import tarfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from crossmatch.errors import NoticeError
from crossmatch.model import Circle, Notice
from gateway.feeds import Ignored, load_feeds
from gateway.intake import EventBook, is_localised
from voevents.parse import parse_voevent

pytestmark = pytest.mark.realdata
FEEDS = load_feeds()
MISSIONS = re.compile(
    r"fermi|swift|icecube|integral|svom|lvc|gwnet|eclairs|grm|mxt|json_igwn|json_einstein|ep_wxt",
    re.IGNORECASE,
)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.csv").open(newline="") as lines:
        return [r for r in csv.DictReader(lines) if r["file"].startswith("notices/")]


def outcome(raw: bytes, topic: str = "") -> Notice | Ignored | str:
    try:
        return FEEDS.parse(raw, topic=topic)
    except NoticeError as error:
        return error.reason


def test_every_file_is_a_notice_or_has_a_reason(shared_data: Path) -> None:
    found = Counter[str]()
    for row in rows(shared_data):
        if row["file"].endswith(".bz2"):
            continue
        result = outcome((shared_data / row["file"]).read_bytes())
        found["notice" if isinstance(result, Notice) else "other"] += 1
        if isinstance(result, str):
            assert re.fullmatch(r"[a-z_]+", result)
    assert found["notice"] > 900


def test_notices_of_our_missions_are_never_refused(shared_data: Path) -> None:
    refused = Counter[str]()
    for row in rows(shared_data):
        name = row["file"]
        if "gcn_schema" in name or "classic" in name or name.endswith(".bz2"):
            continue
        if MISSIONS.search(name):
            result = outcome((shared_data / name).read_bytes())
            if isinstance(result, str):
                refused[f"{result} {Path(name).name.rpartition('_')[0]}"] += 1
    # Fermi LAT has no feed yet.
    assert all("LAT" in k.upper() for k in refused), refused


def test_circles_and_times_agree_with_the_manifest(shared_data: Path) -> None:
    compared = 0
    for row in rows(shared_data):
        listed = re.search(r"RA (\S+) Dec (\S+) err (\S+) deg", row["facts"])
        if not listed or row["kind"] not in ("voevent", "gcn json"):
            continue
        result = outcome((shared_data / row["file"]).read_bytes())
        if not isinstance(result, Notice) or not isinstance(result.localization, Circle):
            continue
        place = result.localization
        expected = [float(v) for v in listed.groups()]
        assert [place.ra_deg, place.dec_deg, place.radius_deg] == pytest.approx(expected, abs=1e-4)
        assert result.trigger_time is not None
        compared += 1
    assert compared > 450


def test_notices_without_a_place_have_none(shared_data: Path) -> None:
    for path in (shared_data / "notices" / "voevent_kafka_2026" / "grm").iterdir():
        result = outcome(path.read_bytes())
        assert isinstance(result, Notice)
        assert result.localization is None
        assert result.no_position_reason in ("no_position", "no_error_radius", "retraction")


def test_mock_events_of_2026_are_tests(shared_data: Path) -> None:
    for path in (shared_data / "notices" / "voevent_kafka_2026").glob("lvc_*/*.xml"):
        result = outcome(path.read_bytes())
        assert isinstance(result, Notice)
        assert (result.role, result.messenger) == ("test", "gw")
        assert result.event_id.startswith("MS")


def test_gw_messages_agree_with_the_manifest(shared_data: Path) -> None:
    for row in rows(shared_data):
        if row["kind"] != "igwn json":
            continue
        result = outcome((shared_data / row["file"]).read_bytes(), "igwn.gwalert")
        assert isinstance(result, Notice)
        facts = row["facts"]
        kind, event = facts.split()[:2]
        assert (result.kind, result.event_id) == (kind.lower(), event)
        if kind == "RETRACTION":
            assert result.alert_type == "retraction"
            continue
        assert result.skymap_fits is not None
        assert result.skymap_fits.startswith(b"SIMPLE")
        assert f"significant {result.significant}" in facts
        assert f"FAR {result.far_hz}" in facts
        assert f"{result.details['group']}/{result.details['pipeline']}" in facts


def test_late_arrivals_of_january_2024_are_put_in_the_order_of_issue(shared_data: Path) -> None:
    book = EventBook()
    for path in sorted((shared_data / "notices" / "gcn_2024-01").rglob("*")):
        if path.is_file():
            result = outcome(path.read_bytes())
            assert isinstance(result, Notice | Ignored)
            book.accept(result)
    kinds = [n.kind for n in book.state("Fermi_726773850").versions]
    assert kinds == ["flight", "ground", "final"]
    aj = book.state("S240114aj")
    assert [n.issued.isoformat()[11:16] for n in aj.versions] == ["22:59", "23:05"]
    swift = book.state("Swift_1208389")
    assert [(n.instrument, n.kind) for n in swift.versions] == [
        ("BAT", "quicklook"), ("BAT", "position"), ("XRT", "position"), ("UVOT", "position"),
    ]  # fmt: skip


def test_svom_chain_ends_retracted(shared_data: Path) -> None:
    book = EventBook()
    for path in sorted((shared_data / "notices" / "voevent_kafka_2026").rglob("*.xml")):
        if path.parent.name in ("grm", "eclairs", "mxt"):
            result = FEEDS.parse(path.read_bytes())
            assert isinstance(result, Notice)
            book.accept(result)
    assert book.state("SVOM_sb26050405").retracted
    assert book.state("SVOM_sb26022802").current is not None


def test_one_month_of_every_stream(shared_data: Path) -> None:
    """Every fifth packet of October 2023, in the order of arrival."""
    path = shared_data / "notices" / "voevent_4pisky_full_month" / "2023-10.001.tar.bz2"
    counts, book = Counter[str](), EventBook()
    with tarfile.open(path, "r:bz2") as tar:
        for number, member in enumerate(tar):
            handle = tar.extractfile(member) if member.isfile() and number % 5 == 0 else None
            if handle is None:
                continue
            result = outcome(handle.read())
            if isinstance(result, str):
                counts[result] += 1
            else:
                counts[book.accept(result).outcome] += 1
    assert set(counts) <= {"no_feed", "region", "no_position", "retraction", "ignored"}
    assert sum(counts.values()) > 2600
    assert counts["region"] > 400


def test_event_times_agree_with_the_packets(shared_data: Path) -> None:
    for path in sorted((shared_data / "notices" / "voevent_kafka_2026").rglob("*.xml"))[::7]:
        raw = path.read_bytes()
        result = outcome(raw)
        if isinstance(result, Notice):
            packet = parse_voevent(raw)
            assert result.trigger_time == packet.isotime
            assert result.issued == packet.date
            assert result.trigger_time is not None
            assert abs(result.issued - result.trigger_time) < timedelta(days=2)
            assert is_localised(result) or result.no_position_reason
