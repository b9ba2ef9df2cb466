"""VOEvents to packets: every version and namespace, bounded, times to UTC."""

from __future__ import annotations

import csv
import pickle
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import voeventparse
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.errors import NoticeError
from voevents.document import MAX_BYTES
from voevents.parse import MAX_VALIDATED, Packet, parse_voevent
from voevents.times import parse_time, truncated_julian_time

DATA = Path(__file__).parents[1] / "data" / "notices"
FINAL = (DATA / "gbm_final.xml").read_bytes()
SUFFIXES = (".json", ".bz2", ".bin", ".txt")


def voevents(folder: Path) -> list[Path]:
    names = ("voevent_samples", "voevent_kafka_2026", "voevent_4pisky", "gcn_2024-01")
    return sorted(
        p
        for n in names
        for p in (folder / "notices" / n).rglob("*")
        if p.is_file() and p.suffix not in SUFFIXES
    )


def reason(data: bytes) -> str:
    with pytest.raises(NoticeError) as caught:
        parse_voevent(data)
    return caught.value.reason


def edited(old: str, new: str) -> bytes:
    text = FINAL.decode()
    assert old in text
    return text.replace(old, new).encode()


def test_packet_says_everything_in_the_notice() -> None:
    packet = parse_voevent(FINAL)
    assert packet.ivoid.endswith("100000001_0-001")
    assert (packet.role, packet.version, packet.packet_type) == ("observation", "2.0", 115)
    assert packet.author_ivoid == "ivo://nasa.gsfc.tan/gcn"
    assert packet.date == datetime(2026, 1, 2, 3, 20, tzinfo=UTC)
    assert packet.isotime == datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)
    assert (packet.ra_deg, packet.dec_deg, packet.error_deg) == (238.41, -0.18, 11.43)
    assert (packet.time_system, packet.coord_system) == ("UTC", "UTC-FK5-GEO")
    assert [cite for cite, _ in packet.citations] == ["followup"]
    assert packet.references == ("https://example.org/gbm",)
    assert packet.concepts == ("process.variation.burst;em.gamma",)
    assert (packet.importance, packet.description) == (0.95, "Invented.")
    assert packet.notes == ()


def test_params_keep_order_and_groups() -> None:
    params = parse_voevent(FINAL).params
    assert list(params)[:3] == ["Packet_Type", "Pkt_Ser_Num", "TrigID"]
    assert params["Trigger_ID.Long_short"] == params["Long_short"] == "Short"
    assert params["Remark"] == "in an element"


def test_ungrouped_param_wins_the_plain_name() -> None:
    data = edited(
        '<Param name="TrigID"',
        '<Group name="G"><Param name="TrigID" value="7"/></Group><Param name="TrigID"',
    )
    params = parse_voevent(data).params
    assert (params["TrigID"], params["G.TrigID"]) == ("100000001", "7")


@pytest.mark.parametrize("version", ["1.1", "2.0", "2.1"])
@pytest.mark.parametrize("style", ["prefix", "default", "none"])
def test_versions_and_namespaces_give_the_same_packet(version: str, style: str) -> None:
    space = f"http://www.ivoa.net/xml/VOEvent/v{version}"
    text = re.sub(r'xmlns:voe="[^"]*"', f'xmlns:voe="{space}"', FINAL.decode())
    text = text.replace('version="2.0"', f'version="{version}"')
    if style != "prefix":
        text = text.replace("voe:VOEvent", "VOEvent")
        text = (
            text.replace("xmlns:voe=", "xmlns=")
            if style == "default"
            else re.sub(r'xmlns:voe="[^"]*"', "", text)
        )
    packet, expected = parse_voevent(text.encode()), parse_voevent(FINAL)
    assert packet.version == version
    # The schema of 2.0 wants the namespace on the root element alone.
    notes = {"none": ["no namespace"], "default": ["schema"] * (version == "2.0")}.get(style, [])
    assert [n.partition(":")[0] for n in packet.notes] == notes
    for name in ("params", "isotime", "ra_deg", "citations", "concepts", "references"):
        assert getattr(packet, name) == getattr(expected, name)


def test_old_coordinate_system_order() -> None:
    packet = parse_voevent(FINAL.replace(b"UTC-FK5-GEO", b"FK5-UTC-GEO"))
    assert packet.isotime == parse_voevent(FINAL).isotime


def test_packet_survives_pickle() -> None:
    packet = parse_voevent(FINAL)
    assert pickle.loads(pickle.dumps(packet)) == packet


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
<!ENTITY lol2 "&lol;&lol;&lol;&lol;">]><VOEvent ivorn="ivo://a/b">&lol2;</VOEvent>"""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<VOEvent", "xml_broken"),
        (b"<VOEvent ivorn='ivo://a/b'>&nothing;</VOEvent>", "xml_broken"),
        (FINAL[:-20], "xml_broken"),
        (FINAL + b"<more/>", "xml_broken"),
        (b"\xff" + FINAL, "unknown_format"),
        (FINAL.replace(b"Invented.</D", b"\x80</D"), "xml_broken"),
        (LAUGHS, "xml_dtd"),
        (b"<?a?><!-- b -->\n<!DOCTYPE VOEvent SYSTEM 'file:///etc/passwd'><VOEvent/>", "xml_dtd"),
        (FINAL.decode().encode("utf-16"), "xml_encoding"),
        (b'<?xml version="1.0" encoding="UTF-7"?>+ADw-VOEvent/+AD4-', "xml_encoding"),
        (b" " * (MAX_BYTES + 1), "too_large"),
        (b"<VOEvent>" + b"<a/>" * 200_000 + b"</VOEvent>", "too_large"),
        (b"<a>" * 70 + b"</a>" * 70, "too_deep"),
        (b"<a>" * 100_000, "too_deep"),
        (b"<Transport role='iamalive'/>", "not_voevent"),
        (b"<VOEvent version='2.0' role='test'/>", "no_ivoid"),
        (FINAL.replace(b'role="observation"', b'role="gossip"'), "bad_role"),
        (FINAL.replace(b'version="2.0"', b'version="3.0"'), "bad_version"),
        (FINAL.replace(b'cite="followup"', b'cite="denial"'), "bad_citation"),
        (FINAL.replace(b"238.4100", b"720"), "bad_position"),
        (FINAL.replace(b"238.4100", b"NaN"), "bad_position"),
        (FINAL.replace(b"-0.1800", b"-90.1"), "bad_position"),
        (FINAL.replace(b"11.4300", b"inf"), "bad_position"),
        (FINAL.replace(b"11.4300", b"wide"), "bad_position"),
        (FINAL.replace(b'2D unit="deg"', b'2D unit="furlong"'), "bad_position"),
        (FINAL.replace(b"UTC-FK5-GEO", b"UTC-GALACTIC-GEO"), "bad_position"),
    ],
)  # fmt: skip
def test_bad_packets_have_stable_reasons(data: bytes, expected: str) -> None:
    assert reason(data) == expected


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (FINAL.replace(b"UTC-FK5-GEO", b"TCB-FK5-GEO"), "time system 'TCB'"),
        (FINAL.replace(b"2026-01-02T03:04:05.67</ISO", b"yesterday</ISO"), "'yesterday' is not"),
        (FINAL.replace(b"2026-01-02T03:04:05.67</ISO", b"2022-01-00T00:00:00</ISO"), "day is out"),
    ],
)
def test_a_time_that_cannot_be_read_costs_the_time_alone(data: bytes, fault: str) -> None:
    packet = parse_voevent(data)

    assert packet.isotime is None
    assert fault in packet.time_fault
    assert packet.notes[-1] == f"ISOTime: {packet.time_fault}"
    assert packet.ra_deg == parse_voevent(FINAL).ra_deg


def test_the_params_give_the_time_that_isotime_does_not() -> None:
    """As in GECAM's packets, whose ISOTime once read ``2023-05-09T8582729.92``."""
    data = FINAL.replace(b"2026-01-02T03:04:05.67</ISO", b"2023-05-09T8582729.92</ISO").replace(
        b"<What>",
        b'<What><Param name="EVENT_DATE" value="19853"/>'
        b'<Param name="EVENT_TIME" value="55156.449"/>',
    )

    packet = parse_voevent(data)

    assert packet.isotime == datetime(2022, 10, 1, 15, 19, 16, 449000, tzinfo=UTC)
    assert packet.notes[-1].endswith("taken from EVENT_DATE and EVENT_TIME")


def test_a_date_that_cannot_be_read_costs_the_date_alone() -> None:
    packet = parse_voevent(FINAL.replace(b"<Date>2026", b"<Date>1822"))

    assert packet.date is None
    assert packet.notes[-1].startswith("Date: ")


def test_what_departs_from_the_schema_is_read_and_noted() -> None:
    packet = parse_voevent(FINAL.replace(b"<Param ", b'<Param datatype="int" ', 1))

    assert packet.notes == (
        "schema: Element 'Param', attribute 'datatype': The attribute 'datatype' is not allowed.",
    )


def test_what_is_too_large_is_not_compared_with_the_schema() -> None:
    long = FINAL.replace(b"<Who>", b"<Who><Bad/>" + b" " * MAX_VALIDATED)

    assert parse_voevent(long).notes == ("schema: not compared, too large",)


@pytest.mark.parametrize(
    ("day", "second"), [(None, 1.0), (19853.0, None), (19853.0, 86401.0), (19853.0, -1.0),
                        (0.0, 0.0), (1e9, 0.0)],
)  # fmt: skip
def test_days_that_are_none(day: float | None, second: float | None) -> None:
    assert truncated_julian_time(day, second) is None


def test_entities_are_not_expanded_and_files_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    data = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret.as_uri()}">]><VOEvent ivorn="ivo://a/&e;"/>'
    assert reason(data.encode()) == "xml_dtd"


def test_sentinel_is_no_position() -> None:
    data = FINAL.replace(b"238.4100", b"-1.0").replace(b"-0.1800", b"-1.0")
    packet = parse_voevent(data.replace(b"11.4300", b"-1.0"))
    assert (packet.ra_deg, packet.dec_deg, packet.position_note) == (None, None, "sentinel")


def test_units_and_order_of_coordinates() -> None:
    data = FINAL.replace(b'Position2D unit="deg"', b'Position2D unit="rad"')
    data = data.replace(b"238.4100", b"0.5").replace(b"-0.1800", b"1.5").replace(b"11.4300", b"0.1")
    packet = parse_voevent(data.replace(b"<Name1>RA", b"<Name1>Dec"))
    assert packet.ra_deg == pytest.approx(85.9436692696)
    assert packet.dec_deg == pytest.approx(28.6478897565)
    assert packet.error_deg == pytest.approx(5.7295779513)


def test_right_ascension_360_is_0() -> None:
    assert parse_voevent(FINAL.replace(b"238.4100", b"360.0")).ra_deg == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-12T17:37:25.12", "2024-01-12T17:37:25.120000+00:00"),
        ("2024-01-12T17:37:25Z", "2024-01-12T17:37:25+00:00"),
        (" 2024-01-12 17:37:25.1234567 ", "2024-01-12T17:37:25.123457+00:00"),
        ("2024-01-12T17:37:25+00:00", "2024-01-12T17:37:25+00:00"),
        ("2024-01-12T00:37:25+0200", "2024-01-11T22:37:25+00:00"),
        ("2024-01-12T17:37:25 UTC", "2024-01-12T17:37:25+00:00"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00+00:00"),
        ("2023-12-31T23:59:59.9999999", "2024-01-01T00:00:00+00:00"),
    ],
)
def test_times_as_written(text: str, expected: str) -> None:
    assert parse_time(text).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "2022-01-00T00:00:00", "2022-01-00", "2022-02-30T00:00:00", "2022-01-01T24:00:00",
        "2022-01-01T00:60:00", "2022-01-01T00:00:61", "2022-01-01", "yesterday", "", "T",
        "2022-01-01T00:00:00Zulu", "2022-01-01T00:00:00 junk", "1989-12-31T23:59:59",
        "2100-01-01T00:00:00", "9999-12-31T23:59:60", "1970-01-01T00:00:00",
        "0000-01-01T00:00:00", "٢٠٢٢-01-01T00:00:00",
        "2022-01-01T00:00:00+99:00", "2023-05-09T8582729.92",
    ],
)  # fmt: skip
def test_bad_times(text: str) -> None:
    with pytest.raises(NoticeError) as caught:
        parse_time(text)
    assert caught.value.reason == "bad_time"


@settings(max_examples=40, deadline=None)
@given(
    moment=st.datetimes(datetime(1991, 1, 1), datetime(2024, 1, 1)),
    system=st.sampled_from(["TDB", "TT", "TAI"]),
)
def test_time_systems_agree_with_astropy(moment: datetime, system: str) -> None:
    expected = Time(moment, scale=system.lower()).utc.to_datetime()
    found = parse_time(moment.isoformat(), system).replace(tzinfo=None)
    # Inside a leap second POSIX cannot agree with UTC.
    if expected.second != 59:
        assert abs(found - expected) <= timedelta(microseconds=60)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_packets_parse_or_are_rejected(data: st.DataObject) -> None:
    raw = bytearray(FINAL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(0, 30))
        raw[at : at + length] = data.draw(st.binary(max_size=8))
    try:
        outcome: Packet | str = parse_voevent(bytes(raw))
    except NoticeError as error:
        outcome = error.reason
    assert isinstance(outcome, Packet) or re.fullmatch(r"[a-z_]+", outcome)


@pytest.mark.realdata
def test_real_packets_agree_with_voeventparse(shared_data: Path) -> None:
    """Positions and times as another reader finds them, for every fifth packet."""
    compared = 0
    for path in voevents(shared_data)[::5]:
        raw = path.read_bytes()
        packet = parse_voevent(raw)
        if "no namespace" in packet.notes or packet.version != "2.0":
            continue
        other = voeventparse.loads(raw)
        assert packet.ivoid == other.attrib["ivorn"]
        assert packet.role == other.attrib["role"]
        flat = voeventparse.get_toplevel_params(other)
        for name, entry in flat.items():
            if entry.get("value") is not None:
                assert packet.params[name] == entry["value"]
        if packet.ra_deg is not None:
            place = voeventparse.get_event_position(other)
            assert (packet.ra_deg, packet.dec_deg) == pytest.approx((place.ra, place.dec))
            assert packet.error_deg == pytest.approx(place.err)
            when = voeventparse.get_event_time_as_utc(other)
            assert packet.isotime is not None
            # voevent-parse leaves the TDB - TT term of 2 ms out.
            assert abs(packet.isotime - when.astimezone(UTC)) <= timedelta(milliseconds=2)
        compared += 1
    assert compared > 250


@pytest.mark.realdata
def test_real_packets_agree_with_the_manifest(shared_data: Path) -> None:
    """Position, error, trigger time, role and type of every packet listed."""
    compared = 0
    with (shared_data / "MANIFEST.csv").open(newline="") as lines:
        rows = [r for r in csv.DictReader(lines) if r["kind"].startswith("voevent")]
    for row in rows:
        facts = row["facts"]
        packet = parse_voevent((shared_data / row["file"]).read_bytes())
        listed = re.search(r"RA (\S+) Dec (\S+) err (\S+) deg", facts)
        # For two authors the manifest lists the place of the observatory.
        elsewhere = re.search("Antares|utmost", packet.ivoid)
        if listed and packet.position_note != "sentinel" and not elsewhere:
            expected = [float(v) for v in listed.groups()]
            if expected[:2] != [0.0, 0.0]:
                place = [packet.ra_deg, packet.dec_deg]
                assert place == pytest.approx(expected[:2], abs=1e-4), row["file"]
            assert packet.error_deg == pytest.approx(expected[2], abs=1e-4), row["file"]
        when = re.search(r"; time (\d\S+?);", facts)
        if when and packet.time_system == "UTC":
            assert packet.isotime is not None
            expected_time = datetime.fromisoformat(when[1])
            if expected_time.tzinfo is None:
                expected_time = expected_time.replace(tzinfo=UTC)
            assert abs(packet.isotime - expected_time) <= timedelta(milliseconds=1), row["file"]
            compared += 1
        kind = re.search(r"Packet_Type (\S+);", facts)
        assert kind is None or kind[1] == str(packet.packet_type)
        role = re.search(r"role (\w+);", facts)
        assert role is None or role[1] == packet.role
    assert compared > 1000


def test_all_citations_are_read() -> None:
    """The schema has one list; what a second one retracts is retracted all the same."""
    second = b'<Citations><EventIVORN cite="retraction">ivo://a/b#2</EventIVORN></Citations>'
    packet = parse_voevent(FINAL.replace(b"</Citations>", b"</Citations>" + second))
    assert [cite for cite, _ in packet.citations] == ["followup", "retraction"]
    assert packet.citations[1][1] == "ivo://a/b#2"
