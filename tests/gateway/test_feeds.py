"""Feeds: recognising, roles, positions, errors, order, retractions; new ones without old files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Circle, Ellipse, Notice, SystematicTerm
from gateway.feeds import Ignored, Registry, load_feeds
from gateway.understand import understand

DATA = Path(__file__).parents[1] / "data" / "notices"
FINAL = (DATA / "gbm_final.xml").read_bytes()
RETRACTION = (DATA / "svom_retraction.xml").read_bytes()
WXT = json.loads((DATA / "wxt.json").read_bytes())
GW = json.loads((DATA / "gwalert.json").read_bytes())
ISSUED = "<Date>2026-01-02T03:20:00"
FEEDS = load_feeds()


def notice(raw: bytes, registry: Registry = FEEDS, **where: str) -> Notice:
    found = registry.parse(raw, **where)
    assert isinstance(found, Notice)
    return found


def ignored(raw: bytes, **where: str) -> str:
    found = FEEDS.parse(raw, **where)
    assert isinstance(found, Ignored)
    return found.reason


def reason(raw: bytes, registry: Registry = FEEDS, **where: str) -> str:
    with pytest.raises(NoticeError) as caught:
        registry.parse(raw, **where)
    return caught.value.reason


def final(*changes: tuple[str, str]) -> bytes:
    text = FINAL.decode()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text.encode()


def packet_type(number: int, *changes: tuple[str, str]) -> bytes:
    return final(('"115"', f'"{number}"'), *changes)


def record(table: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (table | changes).items() if v is not ...}).encode()


def terms(*pairs: tuple[float, float]) -> tuple[SystematicTerm, ...]:
    return tuple(SystematicTerm(r, w) for r, w in pairs)


# Fermi GBM


def test_gbm_notice_says_everything() -> None:
    found = notice(FINAL)
    assert (found.feed, found.mission, found.instrument, found.kind) == (
        "fermi_gbm", "Fermi", "GBM", "final",
    )  # fmt: skip
    assert (found.event_id, found.trigger_id) == ("Fermi_100000001", "100000001")
    assert (found.messenger, found.role, found.alert_type) == ("grb", "observation", "update")
    assert found.issued == datetime(2026, 1, 2, 3, 20, tzinfo=UTC)
    assert found.trigger_time == datetime(2026, 1, 2, 3, 4, 5, 670000, tzinfo=UTC)
    assert found.order == (found.issued.timestamp(), 3, 9)
    assert found.localization == Circle(238.41, -0.18, 11.43, 0.68, terms((2.6, 0.39), (4.4, 0.61)))
    assert found.classification == {"GRB": 0.93, "solar flare": 0.05}
    assert found.event_class == "GRB"
    assert len(found.cites) == 1
    assert found.details["systematic_included"] == "false"
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (111, (), ((7.5, 0.9), (55.6, 0.1))),
        (112, (), ((3.7, 0.8), (13.7, 0.2))),
        (115, ((ISSUED, "<Date>2019-09-10T23:59:59"),), ((3.7, 0.9), (14.3, 0.1))),
        (115, ((ISSUED, "<Date>2019-09-11T00:00:00"),), ((2.6, 0.39), (4.4, 0.61))),
        (115, (('"Short"', '"Long"'),), ((1.9, 0.58), (4.1, 0.42))),
        (115, (('"Short"', '"unknown"'),), ((1.8, 0.52), (4.1, 0.48))),
        (119, (), ()),
    ],
)  # fmt: skip
def test_gbm_systematics(number: int, changes: Any, expected: Any) -> None:
    place = notice(packet_type(number, *changes)).localization
    assert isinstance(place, Circle)
    assert place.containment == 0.68
    assert place.systematic == terms(*expected)


def test_gbm_alert_never_has_a_position() -> None:
    at_zero = (("238.4100", "0.0"), ("-0.1800", "0.0"), ("11.4300", "0.0"))
    for raw in (packet_type(110), packet_type(110, *at_zero)):
        found = notice(raw)
        assert found.localization is None
        assert found.no_position_reason == "alert_without_position"


def test_gbm_kinds_are_ordered_even_in_one_second() -> None:
    orders = [notice(packet_type(n)).order for n in (115, 111, 112, 110)]
    assert [o[1] for o in sorted(orders)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((("source_object", "pointing_direction"),), "pointing_direction"),
        ((("source_object", "unavailable/inappropriate"),), "unavailable"),
        ((("238.4100", "-1"), ("-0.1800", "-1"), ("11.4300", "-1")), "sentinel"),
        ((("238.4100", "0"), ("-0.1800", "0"), ("11.4300", "0")), "null_position"),
        ((("11.4300", "0"),), "no_error_radius"),
        ((("11.4300", "-1"),), "no_error_radius"),
        ((("<Error2Radius>11.4300</Error2Radius>", ""),), "no_error_radius"),
        ((("11.4300", "360"),), "whole_sky"),
        ((("Position2D", "PositionX"),), "no_position"),
    ],
)
def test_no_position_has_a_reason(changes: Any, expected: str) -> None:
    found = notice(final(*changes))
    assert (found.localization, found.no_position_reason) == (None, expected)


def test_coordinates_described_in_words_only() -> None:
    raw = final(
        ('<Param name="Coords_String" value="source_object"/>', ""),
        ("of the type: source_object", "of the type: pointing_direction"),
    )
    assert notice(raw).no_position_reason == "pointing_direction"


@pytest.mark.parametrize(
    "changes",
    [
        (('role="observation"', 'role="test"'),),
        (('"Test_Submission" value="false"', '"Test_Submission" value="true"'),),
    ],
)
def test_marked_tests_are_tests(changes: Any) -> None:
    assert notice(final(*changes)).role == "test"


def test_flag_not_a_burst_retracts_the_event() -> None:
    found = notice(final(('"Def_NOT_a_GRB" value="false"', '"Def_NOT_a_GRB" value="true"')))
    assert found.alert_type == "retraction"
    assert found.retracts == ("Fermi_100000001",)
    assert found.localization is None


def test_missing_trigger_time_and_id() -> None:
    assert reason(final(("<ISOTime>2026-01-02T03:04:05.67</ISOTime>", ""))) == "bad_time"
    assert reason(final(('name="TrigID"', 'name="Other"'))) == "no_trigger_id"
    assert reason(final(('value="100000001"', 'value="a b"'))) == "bad_trigger_id"
    assert reason(final(("238.4100", "720"))) == "bad_position"


# Other missions


def test_svom_retraction_cites_several_and_its_position_is_none() -> None:
    found = notice(RETRACTION)
    assert (found.event_id, found.alert_type) == ("SVOM_sb99010101", "retraction")
    assert (found.localization, found.no_position_reason) == (None, "retraction")
    assert len(found.retracts) == 4
    assert found.retracts[-1] == found.event_id
    assert found.instrument == "ECLAIRs"


def test_swift_star_tracker_lost() -> None:
    swift = ("Fermi#GBM_Fin_Pos", "SWIFT#BAT_GRB_Pos_")
    found = notice(packet_type(61, swift))
    assert isinstance(found.localization, Circle)
    assert (found.localization.containment, found.localization.systematic) == (0.9, ())
    assert found.details["systematic_included"] == "true"
    flag = ('"Test_Submission" value="false"', '"StarTrack_Lost_Lock" value="true"')
    assert notice(packet_type(61, swift, flag)).no_position_reason == "startrack_lost_lock"


@pytest.mark.parametrize(("number", "instrument"), [(71, "XRT_"), (89, "UVOT_")])
def test_swift_nacks_carry_an_error_but_no_position(number: int, instrument: str) -> None:
    found = notice(packet_type(number, ("Fermi#GBM_Fin_Pos", f"SWIFT#{instrument}Nack_")))
    assert (found.localization, found.no_position_reason) == (None, "nack")
    assert found.event_id == "Swift_100000001"


def test_integral_test_notice_and_trigger_without_zeros() -> None:
    changes = (
        ("Fermi#GBM_Fin_Pos", "INTEGRAL#Weak_"),
        ("Test_Submission", "Test_Notice"),
        ('Test_Notice" value="false"', 'Test_Notice" value="true"'),
        ('"100000001"', '"010205"'),
    )
    found = notice(packet_type(56, *changes))
    assert (found.role, found.event_id) == ("test", "INTEGRAL_10205")


def test_service_messages_are_ignored() -> None:
    assert ignored(packet_type(63, ("Fermi#GBM_Fin_Pos", "SWIFT#BAT_Lightcurve_"))) == "product"
    assert ignored(packet_type(129, ("Fermi#GBM_Fin_Pos", "Fermi#Point_Dir"))) == "pointing"
    assert ignored(final(('role="observation"', 'role="utility"'))) == "utility"
    nobody = (("nasa.gsfc.gcn/Fermi", "nobody/x"), ('role="observation"', 'role="utility"'))
    assert ignored(final(*nobody)) == "utility"
    assert ignored(b'{"alert_datetime": "2026-01-02T03:04:05Z"}', topic="gcn.heartbeat") == "heartbeat"  # noqa: E501  # fmt: skip
    assert ignored(b'{"$schema": "x", "alert_datetime": "2026-01-02T03:04:05Z"}') == "heartbeat"


def test_unknown_streams_have_no_feed() -> None:
    assert reason(final(("nasa.gsfc.gcn", "nobody"))) == "no_feed"
    assert reason(b'{"$schema": "https://example.org/x.schema.json", "a": 1}') == "no_feed"
    assert reason(FINAL, feed="no_such_feed") == "no_feed"
    assert reason(b"") == "empty"
    assert reason(b"TITLE: GCN NOTICE") == "unknown_format"


# Unified JSON


def test_wxt_notice() -> None:
    found = notice(record(WXT))
    assert (found.event_id, found.trigger_id) == ("EP_01799999999", "01799999999")
    assert (found.notice_id, found.messenger, found.mission) == (
        "EP:01799999999", "xray", "Einstein Probe",
    )  # fmt: skip
    assert found.localization == Circle(184.5, -6.25, 0.05, 0.9)
    assert found.issued == found.trigger_time
    assert found.details["snr"] == "7.5"


def test_topic_names_the_feed_without_schema() -> None:
    raw = record(WXT, **{"$schema": ...})
    assert notice(raw).feed == "generic_json"
    assert notice(raw, topic="gcn.notices.einstein_probe.wxt.alert").feed == "einstein_probe"


def test_wxt_without_id_is_named_by_its_time() -> None:
    assert notice(record(WXT, id=...)).event_id == "EP_20260102T030405.670"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ra": 720}, "bad_position"),
        ({"dec": -91}, "bad_position"),
        ({"ra": "12"}, "bad_field"),
        ({"ra": True}, "bad_field"),
        ({"ra_dec_error": [1, 2, 3, 4]}, "bad_position"),
        ({"containment_probability": 90}, "bad_position"),
        ({"trigger_time": "tomorrow"}, "bad_time"),
        ({"trigger_time": 12}, "bad_field"),
        ({"trigger_time": ...}, "bad_time"),
        ({"id": {"a": 1}}, "bad_field"),
        ({"id": ["a/b"]}, "bad_trigger_id"),
        ({"id": ["1" * 200]}, "bad_trigger_id"),
        ({"record_number": -1}, "bad_field"),
        ({"alert_type": "rumour"}, "bad_field"),
        ({"alert_tense": "future"}, "bad_field"),
        ({"healpix_file": "***", "ra": None}, "bad_skymap"),
    ],
)
def test_json_ranges_are_ours_to_check(changes: dict[str, Any], expected: str) -> None:
    assert reason(record(WXT, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ra_dec_error": -1}, "no_error_radius"),
        ({"ra_dec_error": ...}, "no_error_radius"),
        ({"ra": 0, "dec": 0, "ra_dec_error": 0}, "null_position"),
        ({"ra": -1, "dec": -1, "ra_dec_error": -1}, "sentinel"),
        ({"ra": None}, "no_position"),
    ],
)
def test_json_without_position(changes: dict[str, Any], expected: str) -> None:
    found = notice(record(WXT, **changes))
    assert (found.localization, found.no_position_reason) == (None, expected)


@pytest.mark.parametrize(
    ("embedded", "fault"), [("***", "bad_skymap"), ("bm8gRklUUw==", "not_fits")]
)
def test_a_circle_stands_in_for_a_broken_map_inside_and_says_so(embedded: str, fault: str) -> None:
    raw = record(WXT, healpix_file=embedded)
    found = understand(FEEDS, DEFAULT_CHAINS, raw)
    assert (found.outcome, found.region.localized_by) == ("region", "circle")
    assert found.notice.details["map_fault"] == fault
    assert found.notice.skymap_fits is None
    raw = record(WXT, healpix_file=embedded, ra=None)
    assert understand(FEEDS, DEFAULT_CHAINS, raw).reason == fault


def test_json_ellipse_and_its_angle() -> None:
    found = notice(record(WXT, ra_dec_error=[0.5, 0.1, 30], containment_probability=0.68))
    assert found.localization == Ellipse(184.5, -6.25, 0.5, 0.1, 30.0, 0.68)
    found = notice(record(WXT, ra_dec_error=[0.1, 0.5, 30]))
    assert found.localization == Ellipse(184.5, -6.25, 0.5, 0.1, 120.0, 0.9)


def test_json_roles_and_alert_types() -> None:
    assert notice(record(WXT, alert_tense="injection")).role == "test"
    assert ignored(record(WXT, alert_tense="planned")) == "utility"
    assert notice(record(WXT, alert_type="subsequent")).alert_type == "update"
    found = notice(record(WXT, alert_type="retraction"))
    assert (found.retracts, found.localization) == (("EP_01799999999",), None)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": NaN}', "json_nan"),
        (b'{"a": -Infinity}', "json_nan"),
        (b'{"a": 1e999}', "json_nan"),
        (b'{"a": 1, "a": 2}', "json_duplicate_key"),
        (b'{"b": {"a": 1, "a": 1}}', "json_duplicate_key"),
        (b'{"a": ', "json_broken"),
        (b'{"a": "\xff"}', "json_broken"),
        (b'{"a": "\n"}', "json_broken"),
        (b'{} {}', "json_broken"),
        (b"[1]", "json_not_object"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "json_number"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "too_deep"),
        (b'{"a": ' + b"[" * 200_000, "too_deep"),
        (b'{"a":' * 90 + b"1" + b"}" * 90, "too_deep"),
    ],
)  # fmt: skip
def test_bad_json_has_stable_reasons(raw: bytes, expected: str) -> None:
    assert reason(raw) == expected


# LIGO/Virgo/KAGRA


def test_gw_alert() -> None:
    found = notice(record(GW))
    assert (found.event_id, found.kind, found.role) == ("S999999zz", "preliminary", "observation")
    assert found.notice_id == "S999999zz-PRELIMINARY-2026-01-02T03:10:00Z"
    assert found.skymap_fits == b"no map"
    assert (found.significant, found.far_hz, found.event_class) == (True, 1e-12, "BNS")
    assert found.classification["HasRemnant"] == 0.9
    assert (found.details["search"], found.details["group"]) == ("AllSky", "CBC")
    assert found.details["external_gcn_notice_id"] == "100000001"
    assert found.details["external_combined_skymap"] == "embedded"


def test_gw_retraction_has_no_event() -> None:
    found = notice(record(GW, alert_type="RETRACTION", event=None, external_coinc=None))
    assert (found.alert_type, found.retracts) == ("retraction", ("S999999zz",))
    assert found.trigger_time is None


@pytest.mark.parametrize("name", ["MS260605l", "TS260605l"])
def test_mock_ids_are_tests(name: str) -> None:
    assert notice(record(GW, superevent_id=name)).role == "test"


def test_mock_search_is_a_test() -> None:
    assert notice(record(GW, event=GW["event"] | {"search": "MDC"})).role == "test"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event": None}, "missing_field"),
        ({"superevent_id": "../S1"}, "bad_trigger_id"),
        ({"superevent_id": ""}, "missing_field"),
        ({"alert_type": "RUMOUR"}, "bad_field"),
        ({"time_created": "now"}, "bad_time"),
        ({"event": GW["event"] | {"time": ""}}, "missing_field"),
        ({"event": GW["event"] | {"skymap": "!"}}, "bad_skymap"),
        ({"event": GW["event"] | {"far": "rare"}}, "bad_field"),
        ({"event": GW["event"] | {"classification": {"BNS": "yes"}}}, "bad_field"),
        ({"event": [1]}, "bad_field"),
    ],
)
def test_bad_gw_alerts(changes: dict[str, Any], expected: str) -> None:
    assert reason(record(GW, **changes)) == expected


def test_a_rate_or_probability_that_is_none_is_left_out_and_the_event_stays() -> None:
    classes = {"BNS": 0.9, "NSBH": 7, "BBH": 1 + 1e-9}
    found = notice(record(GW, event=GW["event"] | {"far": -1, "classification": classes}))
    assert found.far_hz is None
    assert found.classification["BNS"] == 0.9
    assert found.classification["BBH"] == 1.0
    assert "NSBH" not in found.classification


def test_gw_alert_without_map() -> None:
    found = notice(record(GW, event=GW["event"] | {"skymap": None}))
    assert found.no_position_reason == "no_skymap"
    urls = {"skymap": "https://example.org/map.fits"}
    found = notice(record(GW, event=GW["event"] | {"skymap": None}, urls=urls))
    assert (found.skymap_url, found.no_position_reason) == (urls["skymap"], "")


# New feeds

OWN = """
name = "observatory"
title = "An observatory of our own"
mission = "Own"
instrument = "camera"
messenger = "optical"
format = "voevent"
topics = ["own.events"]
ivoids = ["ivo://org.example/own#"]
prefix = "Own"
trigger = ["TrigID"]
containment = 0.95
"""


def test_new_feed_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    registry = load_feeds([tmp_path])
    found = notice(final(("nasa.gsfc.gcn/Fermi", "org.example/own")), registry)
    assert (found.feed, found.event_id, found.messenger) == ("observatory", "Own_100000001", "optical")  # noqa: E501  # fmt: skip
    assert "own.events" in registry.topics()


def test_new_feed_with_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_feed_parser.py").write_text(
        "from gateway.feeds import Ignored\n"
        "def parse(message, feed):\n"
        "    if message.raw == b'crash':\n"
        "        raise KeyError('oops')\n"
        "    return Ignored(message.raw.decode(), feed.name, '')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = OWN.replace('"voevent"', '"other"') + 'parser = "own_feed_parser:parse"\n'
    (tmp_path / "own.toml").write_text(text)
    registry = load_feeds([tmp_path])
    assert registry.parse(b"{}", topic="own.events") == Ignored("{}", "observatory", "")
    assert registry.parse(b"TEXT", topic="own.events") == Ignored("TEXT", "observatory", "")
    assert registry.parse(b"TEXT", feed="observatory") == Ignored("TEXT", "observatory", "")
    assert reason(b"crash", registry, topic="own.events") == "parser_failed"


def test_operator_replaces_or_disables_a_built_in_feed(tmp_path: Path) -> None:
    text = OWN.replace('"observatory"', '"fermi_gbm"') + "enabled = false\n"
    (tmp_path / "gbm.toml").write_text(text)
    assert reason(FINAL, load_feeds([tmp_path])) == "no_feed"


def test_fallback_feed_takes_what_no_other_knows(tmp_path: Path) -> None:
    text = OWN.replace('ivoids = ["ivo://org.example/own#"]', "fallback = true")
    (tmp_path / "any.toml").write_text(text.replace('["TrigID"]', '["@ivoid"]'))
    registry = load_feeds([tmp_path])
    assert registry.feeds[-1].fallback
    assert notice(FINAL, registry).feed == "fermi_gbm"
    found = notice(final(("nasa.gsfc.gcn", "nobody")), registry)
    assert found.event_id.startswith("Own_GBM_Fin_Pos2026")
    assert notice(FINAL, feed="any_voevent").feed == "any_voevent"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"optical"', '"sound"', "messenger"),
        ('"voevent"', '"pigeon"', "format"),
        ("0.95", "95.0", "containment"),
        ("0.95", '"much"', "containment"),
        ('title = "An observatory of our own"', "", "title is missing"),
        ('title = "An', 'colour = "An', "colour: no such key"),
        ('name = "observatory"', 'name = "Own Feed"', "name"),
        ("ivoids", "#", "ivoids and trigger"),
        ("name", "name name", "not valid TOML"),
        ('"voevent"', '"voevent"\nparser = "no_such"', "entry point"),
        ('"voevent"', '"voevent"\nparser = "no.such:thing"', "parser"),
        ('"voevent"', '"other"', "needs a parser"),
        ("containment", 'test_triggers = "("\ncontainment', "test_triggers"),
        (
            "containment = 0.95",
            '[[kinds]]\nname = "a"\n[[kinds.systematic]]\nterms = [[1.0, 0.4]]',
            "sum to 1",
        ),
    ],
)
def test_bad_feed_files_stop_the_start(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in OWN
    (tmp_path / "own.toml").write_text(OWN.replace(old, new, 1))
    with pytest.raises(ConfigError, match=says) as caught:
        load_feeds([tmp_path])
    assert "own.toml" in str(caught.value)


def test_missing_feed_folder_and_name_given_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feeds"):
        load_feeds([tmp_path / "none"])
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(OWN)
    with pytest.raises(ConfigError, match="stands in"):
        load_feeds([tmp_path])


def test_built_in_feeds_name_their_topics() -> None:
    topics = FEEDS.topics()
    assert len(topics) == len(set(topics))
    assert {"igwn.gwalert", "gcn.notices.einstein_probe.wxt.alert"} <= set(topics)
    assert replace(FEEDS.feed("lvk"), name="x").format == "igwn"


def test_topic_of_another_format_is_no_excuse() -> None:
    assert reason(record(WXT), feed="fermi_gbm") == "no_feed"
    assert reason(FINAL, feed="lvk") == "no_feed"
    assert notice(FINAL, topic="igwn.gwalert").feed == "fermi_gbm"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_messages_are_understood_or_refused(data: st.DataObject) -> None:
    """No other exception, and nothing off the sphere comes out."""
    sources = [FINAL, RETRACTION, record(WXT), record(GW)]
    raw = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(0, 12))
        raw[at : at + length] = data.draw(st.binary(max_size=6) | st.just(b'": null, "'))
    try:
        found = FEEDS.parse(bytes(raw))
    except NoticeError as error:
        found = Ignored(error.reason, "", "")
    if isinstance(found, Notice) and isinstance(found.localization, Circle):
        assert 0 <= found.localization.ra_deg < 360
        assert -90 <= found.localization.dec_deg <= 90
        assert 0 < found.localization.radius_deg < 180


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_value_in_any_field_is_understood_or_refused(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([WXT, GW, GW["event"]]))
    extra = ["record_number", "alert_type", "alert_tense", "healpix_file", "p_astro", "far"]
    name = data.draw(st.sampled_from([*table, *extra]))
    value = data.draw(VALUES)
    if table is GW["event"]:
        raw = record(GW, event=table | {name: value})
    else:
        raw = record(table, **{name: value})
    try:
        found = FEEDS.parse(raw)
    except NoticeError as error:
        found = Ignored(error.reason, "", "")
    assert isinstance(found, Notice | Ignored)
