"""Feeds against real notices of all missions: everything is understood or refused with a reason."""

from __future__ import annotations

import csv
import re
import tarfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from astropy.time import Time

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import NoticeError
from crossmatch.model import Circle, Notice
from gateway.feeds import Ignored, load_feeds
from gateway.intake import EventBook, is_localised
from gateway.understand import Understood, understand
from voevents.parse import parse_voevent

pytestmark = pytest.mark.realdata
FEEDS = load_feeds()
Mixture: TypeAlias = tuple[tuple[float, float], ...]
VOEVENTS = ("voevent", "voevent v1.1")
# What the manifest's radii hold, by packet type; 90 % where nothing is said.
HELD = {111: 0.68, 112: 0.68, 115: 0.68, 131: 0.68, 188: 0.68, 189: 0.68, 172: 0.5}

# Mixtures of systematic errors by packet type, (68 % radius in degrees, weight): Connaughton et
# al. 2015, Tables 3 and 7; of the final position since 11 September 2019, by RoboBA's class, GCN
# Circular 25726. What is not listed has none, or includes it.
FLIGHT = ((7.5, 0.9), (55.6, 0.1))
GROUND = ((3.7, 0.8), (13.7, 0.2))
FINAL_UNTIL_2019 = ((3.7, 0.9), (14.3, 0.1))
FINAL_BY_CLASS = {
    "Long": ((1.9, 0.58), (4.1, 0.42)),
    "Short": ((2.6, 0.39), (4.4, 0.61)),
    "": ((1.8, 0.52), (4.1, 0.48)),
}


# Real positions of the manifest that must be found again, and why the others are none.
USABLE = {
    "": 648,
    "no error radius": 495,
    "test or utility": 291,
    "no coordinates": 81,
    "star tracker lost": 10,
    "UVOT nack": 8,
    "retraction": 3,
    "observatory's place": 2,
    "test by a Param": 1,
}
# Packets of October 2023 by feed, outcome, and kind or reason.
MONTH: dict[tuple[str, str, str], int] = {
    ("agile", "region", "test"): 211,
    ("amon", "region", "coincidence"): 1,
    ("amon", "region", "test"): 205,
    ("calet", "no_position", "flight light curve"): 12,
    ("counterparts", "region", "counterpart"): 6,
    ("fermi_gbm", "no_position", "alert"): 40,
    ("fermi_gbm", "region", "final"): 20,
    ("fermi_gbm", "region", "flight"): 77,
    ("fermi_gbm", "region", "ground"): 18,
    ("fermi_gbm", "region", "test"): 210,
    ("fermi_gbm_subthreshold", "region", "subthreshold"): 5,
    ("fermi_lat", "region", "test"): 208,
    ("fermi_spacecraft", "ignored", "utility"): 742,
    ("gcn_tests", "region", "test"): 431,
    ("gecam", "region", "flight"): 2,
    ("gecam", "region", "ground"): 1,
    ("icecube", "region", "bronze"): 2,
    ("icecube", "region", "gold"): 4,
    ("integral", "ignored", "pointing"): 39,
    ("integral", "ignored", "utility"): 823,
    ("integral", "region", "weak"): 18,
    ("ipn", "no_position", "time"): 8,
    ("konus", "no_position", "light curve"): 8,
    ("lvk_voevent", "no_position", "earlywarning"): 1,
    ("lvk_voevent", "no_position", "initial"): 366,
    ("lvk_voevent", "no_position", "preliminary"): 2037,
    ("lvk_voevent", "no_position", "update"): 11,
    ("lvk_voevent", "retraction", "retraction"): 381,
    ("maxi", "region", "known source"): 1,
    ("maxi", "region", "test"): 207,
    ("snews", "no_position", "burst"): 5,
    ("superk", "no_position", "burst"): 1,
    ("swift_bat", "ignored", "product"): 6,
    ("swift_bat", "region", "known source"): 931,
    ("swift_bat", "region", "position"): 1,
    ("swift_bat", "region", "quicklook"): 1,
    ("swift_bat", "region", "subsubthreshold"): 2995,
    ("swift_bat", "region", "test"): 211,
    ("swift_spacecraft", "ignored", "slew"): 82,
    ("swift_spacecraft", "ignored", "utility"): 3014,
}


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


def test_no_voevent_of_any_mission_is_refused(shared_data: Path) -> None:
    known, outcomes = Counter[str](), Counter[str]()
    for row in rows(shared_data):
        if row["kind"] in VOEVENTS:
            raw = (shared_data / row["file"]).read_bytes()
            found = understand(FEEDS, DEFAULT_CHAINS, raw)
            assert found.rejected is None, (row["file"], found.rejected)
            known[found.feed] += 1
            outcomes[found.outcome] += 1
    assert outcomes == {"region": 708, "no_position": 436, "ignored": 323, "retraction": 66}
    assert len(known) == 29
    assert "" not in known


def unusable(row: dict[str, str], raw: bytes) -> str:
    """Why the manifest's position of a real observation is none; empty when it is one."""
    facts = row["facts"]
    listed = re.search(r"RA (\S+) Dec (\S+) err (\S+) deg", facts)
    if not re.match(r"role observation|WXT", facts):
        return "test or utility"
    if listed is None:
        return "no coordinates"
    if float(listed[3]) <= 0:
        return "no error radius"
    if "Packet_Type 219" in facts:
        return "retraction"
    if "Packet_Type 89" in facts:
        return "UVOT nack"
    if re.search(rb'"Test_Notice"\s+value="true"', raw):
        return "test by a Param"
    if re.search(rb'"StarTrack_Lost_Lock"\s+value="true"', raw):
        return "star tracker lost"
    # The manifest lists where ANTARES stands.
    return "observatory's place" if "Antares" in row["file"] else ""


def test_every_usable_position_of_the_manifest_is_ours(shared_data: Path) -> None:
    """Position to 1e-4 deg, time to 1 ms, the error as stated, what it holds and what it lacks."""
    counts, mixtures = Counter[str](), Counter[Mixture]()
    for row in rows(shared_data):
        if row["kind"] not in (*VOEVENTS, "gcn json"):
            continue
        raw = (shared_data / row["file"]).read_bytes()
        reason = unusable(row, raw)
        counts[reason] += 1
        found = understand(FEEDS, DEFAULT_CHAINS, raw)
        if reason:
            tested = found.region is not None and found.region.role == "test"
            assert found.region is None or tested or reason == "observatory's place", row["file"]
        else:
            mixtures[agrees(row, found, raw)] += 1
    assert counts == USABLE
    assert {m for m, n in mixtures.items() if n > 1} >= {
        (), FLIGHT, GROUND, FINAL_UNTIL_2019, *FINAL_BY_CLASS.values(),
    }  # fmt: skip


def mixture(number: int, raw: bytes) -> Mixture:
    """Systematic error that a packet of this type lacks, from what the missions published."""
    if number == 115:
        issued = re.search(rb"<Date>(\d{4}-\d\d-\d\d)", raw)
        assert issued is not None
        if issued[1] < b"2019-09-11":
            return FINAL_UNTIL_2019
        said = re.search(rb'"Long_short"\s+value="(\w*)"', raw)
        return FINAL_BY_CLASS.get(said[1].decode() if said else "", FINAL_BY_CLASS[""])
    return {111: FLIGHT, 112: GROUND}.get(number, ())


def agrees(row: dict[str, str], found: Understood, raw: bytes) -> Mixture:
    facts = row["facts"]
    assert found.region is not None, (row["file"], found)
    place = found.region.localization
    assert isinstance(place, Circle)
    listed = re.search(r"RA (\S+) Dec (\S+) err (\S+) deg", facts)
    assert listed is not None
    expected = [float(v) for v in listed.groups()]
    assert [place.ra_deg, place.dec_deg] == pytest.approx(expected[:2], abs=1e-4), row["file"]
    assert place.radius_deg == pytest.approx(expected[2], abs=1e-9), row["file"]
    number = re.search(r"Packet_Type (\d+)", facts)
    assert place.containment == HELD.get(int(number[1]) if number else 0, 0.9), row["file"]
    off = abs(found.region.trigger_time - listed_time(row))
    assert off <= timedelta(milliseconds=1), row["file"]
    lacks = tuple((t.radius68_deg, t.weight) for t in place.systematic)
    assert lacks == mixture(int(number[1]) if number else 0, raw), row["file"]
    return lacks


def listed_time(row: dict[str, str]) -> datetime:
    """Time in the manifest, as UTC: Gaia's are TDB."""
    match = re.search(r"(?:time |; )(\d{4}-\d\d-\d\dT[\d:.]+)", row["facts"])
    assert match is not None
    scale = "tdb" if "gaia" in row["file"] else "utc"
    utc: datetime = Time(match[1], scale=scale).utc.to_datetime(UTC)
    return utc


def test_gw_messages_give_the_time_of_the_manifest(shared_data: Path) -> None:
    compared = 0
    for row in rows(shared_data):
        match = re.search(r"event time (\d{4}-\S+?)Z?;", row["facts"])
        if row["kind"] != "igwn json" or match is None:
            continue
        found = understand(FEEDS, DEFAULT_CHAINS, (shared_data / row["file"]).read_bytes())
        assert found.region is not None
        expected = Time(match[1], scale="utc").to_datetime(UTC)
        assert abs(found.region.trigger_time - expected) <= timedelta(milliseconds=1)
        compared += 1
    assert compared == 15


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


def test_the_whole_month_is_classified(shared_data: Path) -> None:
    """Every packet of every stream of October 2023: 13,342, none refused."""
    path = shared_data / "notices" / "voevent_4pisky_full_month" / "2023-10.001.tar.bz2"
    counts = Counter[tuple[str, str, str]]()
    with tarfile.open(path, "r:bz2") as tar:
        for member in tar:
            handle = tar.extractfile(member) if member.isfile() else None
            if handle is not None:
                found = understand(FEEDS, DEFAULT_CHAINS, handle.read())
                kind = found.notice.kind if found.notice else found.reason
                counts[found.feed, found.outcome, kind] += 1
    assert counts == MONTH
    assert sum(counts.values()) == 13_342


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


def test_arrival_in_any_order_ends_in_the_same_state(shared_data: Path) -> None:
    """All real VOEvents, each twice, as they lie in the folder and backwards."""
    found = []
    for row in rows(shared_data):
        if row["kind"] in VOEVENTS:
            result = outcome((shared_data / row["file"]).read_bytes())
            assert not isinstance(result, str)
            found.append(result)
    forward, backward = EventBook(), EventBook()
    for result in (*found, *found):
        forward.accept(result)
    for result in (*reversed(found), *found):
        backward.accept(result)
    events = forward.events()
    assert len(events) > 400
    assert events == backward.events()
    for name in events:
        one, other = forward.state(name), backward.state(name)
        assert one.current == other.current
        assert (one.version, one.retracted) == (other.version, other.retracted)
    # Flight positions were sent again after the ground position, and after the final one.
    for trigger in ("551035331", "590610007", "611989445", "705503315"):
        current = forward.state(f"Fermi_{trigger}").current
        assert current is not None
        assert current.kind in ("final", "offline")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "event_id", "kind", "radius_deg"),
    [
        # Flight positions were sent again 16 hours after the final position.
        ("2020-05", "Fermi_611989445", "final", 1.08),
        # XRT sent once more, 12 minutes after UVOT's better position.
        ("2018-06", "Swift_843211", "position", 0.0002),
    ],
)
def test_a_late_issue_of_a_coarser_kind_does_not_replace_the_finer(
    shared_data: Path, folder: str, event_id: str, kind: str, radius_deg: float
) -> None:
    book = EventBook()
    for path in sorted((shared_data / "notices/voevent_4pisky" / folder).glob("**/*.xml")):
        if event_id.partition("_")[2] in path.name and "LAT" not in path.name:
            book.accept(FEEDS.parse(path.read_bytes()))
    current = book.state(event_id).current
    assert current is not None
    assert (current.kind, current.localization.radius_deg) == (kind, radius_deg)
    assert max(n.issued for n in book.state(event_id).versions) > current.issued
