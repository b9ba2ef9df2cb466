"""VOEvent feeds as data: places and times in Params, units, ellipses, marks, unknown types."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import gateway.feeds
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import ConfigError, NoticeError
from crossmatch.model import Circle, Ellipse, Notice
from gateway.feeds import Ignored, Registry, load_feeds
from gateway.feeds.dialect import FIELDS, VOEVENT_FIELDS
from gateway.feeds.spec import Feed, Kind, Transport
from gateway.intake import EventBook
from gateway.understand import understand

DATA = Path(__file__).parents[1] / "data" / "notices"
FINAL = (DATA / "gbm_final.xml").read_text()
FEEDS = load_feeds()

EVENT = """<?xml version="1.0"?>
<v:VOEvent xmlns:v="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0" role="observation"
 ivorn="ivo://org.example/dome#N-17"><Who><Date>2026-01-02T03:10:00</Date></Who><What>
<Param name="name" value="N 17"/><Param name="number" value="0017"/>
<Group name="position"><Param name="ra" value="13:41:16.8"/><Param name="dec" value="-66:00:36"/>
<Param name="radius" value="30"/></Group>
<Group name="box"><Param name="a" value="12"/><Param name="b" value="3"/>
<Param name="angle" value="30"/></Group>
<Param name="held" value="0.68"/><Param name="mjd" value="61042.125"/>
<Param name="quality" value="Good"/><Param name="l" value="0"/><Param name="b" value="90"/>
</What></v:VOEvent>"""

DOME = """
name = "dome"
title = "A dome with its own dialect"
mission = "Dome"
instrument = "camera"
messenger = "optical"
format = "voevent"
ivoids = ["ivo://org.example/dome#"]
prefix = "Dome"
error_unit = "arcmin"
time_format = "mjd"

[fields]
trigger = "number"
time = "mjd"
ra = "position.ra"
dec = "position.dec"
error = "//Group[@name='position']/Param[@name='radius']/@value"
"""


def registry(tmp_path: Path, text: str) -> Registry:
    (tmp_path / "dome.toml").write_text(text)
    return load_feeds([tmp_path])


def notice(feeds: Registry, raw: str) -> Notice:
    found = feeds.parse(raw.encode())
    assert isinstance(found, Notice)
    return found


def gcn(number: int, ivoid: str, *changes: tuple[str, str]) -> str:
    text = FINAL.replace('"115"', f'"{number}"').replace("Fermi#GBM_Fin_Pos", ivoid)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


# A dialect of one's own


def test_everything_may_stand_in_params(tmp_path: Path) -> None:
    found = notice(registry(tmp_path, DOME), EVENT)
    place = found.localization
    assert isinstance(place, Circle)
    assert (place.ra_deg, place.dec_deg) == pytest.approx((205.32, -66.01))
    assert (place.radius_deg, place.containment) == (0.5, 0.9)
    assert found.trigger_time == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert found.issued == datetime(2026, 1, 2, 3, 10, tzinfo=UTC)
    assert (found.event_id, found.notice_id) == ("Dome_17", "ivo://org.example/dome#N-17")


def test_names_of_the_unified_schema_do_as_well(tmp_path: Path) -> None:
    text = DOME.replace("trigger = ", "id = ").replace("time = ", "trigger_time = ")
    text = text.replace("error = ", "ra_dec_error = ") + 'containment_probability = "held"\n'
    place = notice(registry(tmp_path, text), EVENT).localization
    assert isinstance(place, Circle)
    assert (place.radius_deg, place.containment) == (0.5, 0.68)


def test_two_axes_and_an_angle_make_an_ellipse(tmp_path: Path) -> None:
    axes = 'semi_major = "box.a"\nsemi_minor = "box.b"\nposition_angle = "box.angle"\n'
    place = notice(registry(tmp_path, DOME + axes), EVENT).localization
    assert place == Ellipse(pytest.approx(205.32), pytest.approx(-66.01), 0.2, 0.05, 30.0, 0.9)
    swapped = axes.replace("box.a", "box.x").replace("box.b", "box.a").replace("box.x", "box.b")
    swapped = swapped.replace("box.bngle", "box.angle")
    place = notice(registry(tmp_path, DOME + swapped), EVENT).localization
    assert place == Ellipse(pytest.approx(205.32), pytest.approx(-66.01), 0.2, 0.05, 120.0, 0.9)


def test_galactic_positions_become_icrs(tmp_path: Path) -> None:
    text = DOME.replace('"position.ra"', '"l"').replace('"position.dec"', '"b"')
    text = text.replace('time_format = "mjd"', 'time_format = "mjd"\nframe = "galactic"')
    place = notice(registry(tmp_path, text), EVENT).localization
    assert isinstance(place, Circle)
    # The north galactic pole (Blaauw et al. 1960, in J2000).
    assert (place.ra_deg, place.dec_deg) == pytest.approx((192.85948, 27.12825), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"13:41:16.8": ""}, "no_position"),
        ({"13:41:16.8": "-1", "-66:00:36": "-1", '"30"': '"-1"'}, "sentinel"),
        ({"13:41:16.8": "-999", "-66:00:36": "-999", '"30"': '"0"'}, "sentinel"),
        ({'value="30"/></Group>': 'value="0"/></Group>'}, "no_error_radius"),
        ({"13:41:16.8": "0", "-66:00:36": "0", '"30"/></': '"0"/></'}, "null_position"),
        ({'"30"/></': '"99999"/></'}, "whole_sky"),
    ],
)
def test_no_position_in_params_has_a_reason(
    tmp_path: Path, changes: dict[str, str], expected: str
) -> None:
    raw = EVENT
    for old, new in changes.items():
        assert old in raw, old
        raw = raw.replace(old, new)
    found = notice(registry(tmp_path, DOME), raw)
    assert (found.localization, found.no_position_reason) == (None, expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("13:41:16.8", "13:61:16.8", "bad_field"),
        ("13:41:16.8", "east", "bad_field"),
        ("13:41:16.8", "400", "bad_position"),
        ('"30"', '"nan"', "bad_field"),
        ('"61042.125"', '"1e12"', "bad_time"),
        ('"61042.125"', '"0"', "bad_time"),
        ('"0017"', '"a b"', "bad_trigger_id"),
        ('"0017"', '""', "no_trigger_id"),
    ],
)
def test_bad_values_have_stable_reasons(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in EVENT
    with pytest.raises(NoticeError) as caught:
        registry(tmp_path, DOME).parse(EVENT.replace(old, new).encode())
    assert caught.value.reason == expected


def test_marks_by_param_and_xpath(tmp_path: Path) -> None:
    mark = '"//Param[@name=\'quality\']/@value" = "good"\n'
    assert notice(registry(tmp_path, DOME + "[test_when]\n" + mark), EVENT).role == "test"
    found = notice(registry(tmp_path, DOME + "[retraction_when]\n" + mark), EVENT)
    assert (found.alert_type, found.retracts, found.localization) == (
        "retraction", ("Dome_17",), None,
    )  # fmt: skip
    ignored = registry(tmp_path, DOME + '[ignore_when]\nheld = "*"\n').parse(EVENT.encode())
    assert isinstance(ignored, Ignored)
    assert ignored.reason == "unwanted"
    assert (
        notice(registry(tmp_path, DOME + '[test_when]\nheld = "1"\n'), EVENT).role == "observation"
    )


def test_kinds_by_the_value_of_a_param(tmp_path: Path) -> None:
    kinds = (
        '[[kinds]]\nname = "bad"\nvalues = ["bad"]\nignore = "bad_quality"\n'
        '[[kinds]]\nname = "good"\nvalues = ["good"]\ncontainment = 0.5\n'
    )
    text = DOME.replace('prefix = "Dome"', 'prefix = "Dome"\nkind_field = "quality"') + kinds
    feeds = registry(tmp_path, text)
    found = notice(feeds, EVENT)
    assert isinstance(found.localization, Circle)
    assert (found.kind, found.localization.containment) == ("good", 0.5)
    ignored = feeds.parse(EVENT.replace("Good", "BAD").encode())
    assert isinstance(ignored, Ignored)
    assert ignored.reason == "bad_quality"


def test_alternatives_name_the_trigger(tmp_path: Path) -> None:
    text = DOME.replace('trigger = "number"\n', "")
    text = text.replace(
        'prefix = "Dome"', 'prefix = "Dome"\ntrigger = ["none or number or @ivoid"]'
    )
    feeds = registry(tmp_path, text)
    assert notice(feeds, EVENT).trigger_id == "17"
    assert notice(feeds, EVENT.replace('"number"', '"other"')).trigger_id == "N-17"


def test_citations_may_name_the_event(tmp_path: Path) -> None:
    text = DOME.replace('trigger = "number"\n', "")
    text = text.replace('prefix = "Dome"', 'prefix = "Dome"\ntrigger = ["@cited or @ivoid"]')
    feeds, book = registry(tmp_path, text), EventBook()

    def later(number: int, cite: str) -> str:
        raw = EVENT.replace("#N-17", f"#N-{number}").replace("03:10:00", f"03:{number}:00")
        first = f'<EventIVORN cite="{cite}">ivo://org.example/dome#N-17</EventIVORN>'
        return raw.replace("</What>", f"</What><Citations>{first}</Citations>")

    for raw in (later(19, "supersedes"), EVENT, later(18, "supersedes")):
        book.accept(notice(feeds, raw))
    current = book.state("Dome_N-17").current
    assert current is not None
    assert current.notice_id == "ivo://org.example/dome#N-19"
    book.accept(notice(feeds, later(20, "retraction")))
    assert book.state("Dome_N-17").current is None


def superseding(feed: str, own: str, *cited: str, cite: str = "supersedes") -> str:
    events = "".join(f'<EventIVORN cite="{cite}">{ivoid}</EventIVORN>' for ivoid in cited)
    raw = FINAL.replace("ivo://nasa.gsfc.gcn/Fermi#GBM_Fin_Pos", f"ivo://{feed}#{own}")
    return raw.replace("</WhereWhen>", f"</WhereWhen><Citations>{events}</Citations>")


def test_what_supersedes_notices_of_other_events_says_which_no_longer_stand() -> None:
    """ASAS-SN names each packet anew: the order of one event's notices says nothing."""
    stream = "voevent.4pisky.org/ASASSN"
    cited = [f"ivo://{stream}#ASASSN-26a{i}" for i in "bc"]
    found = notice(FEEDS, superseding(stream, "ASASSN-26ad", *cited))
    assert (found.feed, found.alert_type) == ("asassn", "update")
    assert found.event_id.startswith("ASASSN_ASASSN-26ad")
    assert (found.retracts, found.cites[:2]) == (tuple(cited), tuple(cited))
    followup = notice(FEEDS, superseding(stream, "ASASSN-26ad", *cited, cite="followup"))
    assert followup.retracts == ()


def test_an_event_that_was_superseded_is_no_longer_in_force() -> None:
    stream = "voevent.4pisky.org/ASASSN"
    old = notice(FEEDS, superseding(stream, "ASASSN-26ab"))
    new = notice(FEEDS, superseding(stream, "ASASSN-26ad", old.notice_id))
    for order in ((old, new), (new, old)):
        book = EventBook()
        for each in order:
            book.accept(each)
        assert book.state(old.event_id).current is None
        assert book.state(new.event_id).current == new


def test_of_one_event_the_order_decides_what_is_superseded() -> None:
    """What was sent once more would withdraw the better position that it was made of."""
    own = "ivo://nasa.gsfc.gcn/Fermi#GBM_Flt_Pos2026-01-02T03:04:05_00100000001_1-1"
    raw = superseding("nasa.gsfc.gcn/Fermi", "GBM_Fin_Pos", own)
    assert notice(FEEDS, raw).retracts == ()
    other = own.replace("00100000001", "100000002")
    assert notice(FEEDS, raw.replace(own, other)).retracts == (other,)


def test_a_retraction_names_its_event_too() -> None:
    stream = "voevent.4pisky.org/ASASSN"
    raw = superseding(stream, "ASASSN-26ad", f"ivo://{stream}#ASASSN-26ab", cite="retraction")
    found = notice(FEEDS, raw)
    assert found.alert_type == "retraction"
    assert found.retracts == (f"ivo://{stream}#ASASSN-26ab", found.event_id)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"arcmin"', '"parsec"', "error_unit"),
        ('"mjd"\n', '"sundial"\n', "time_format"),
        ("time = ", "clock = ", "clock: no such field"),
        ("//Group", "//Group[", "not an XPath"),
        ('trigger = "number"', "", "trigger"),
    ],
)
def test_bad_words_stop_the_start(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in DOME
    with pytest.raises(ConfigError, match=says):
        registry(tmp_path, DOME.replace(old, new, 1))


# Missions


@pytest.mark.parametrize(
    ("number", "ivoid", "feed", "containment", "messenger"),
    [
        (120, "Fermi#LAT_Pos_Ini_", "fermi_lat", 0.9, "grb"),
        (134, "MAXI#Unknown_", "maxi", 0.9, "xray"),
        (45, "COUNTERPART#Position_", "counterparts", 0.9, "xray"),
    ],
)
def test_missions_with_a_trigger_number(
    number: int, ivoid: str, feed: str, containment: float, messenger: str
) -> None:
    found = notice(FEEDS, gcn(number, ivoid))
    assert isinstance(found.localization, Circle)
    assert (found.feed, found.messenger) == (feed, messenger)
    assert found.localization.containment == containment


def test_lat_and_gbm_speak_of_one_event_and_lat_goes_first() -> None:
    gbm, lat = notice(FEEDS, FINAL), notice(FEEDS, gcn(121, "Fermi#LAT_Pos_Upd_"))
    assert gbm.event_id == lat.event_id
    assert lat.order[1] > gbm.order[1]


@pytest.mark.parametrize(
    ("number", "ivoid", "known", "significant", "chain"),
    [
        (140, "SWIFT#BAT_SubSubThresh_", False, False, "subthreshold"),
        (141, "SWIFT#BAT_Known_", True, True, "known_source"),
        (135, "MAXI#Known_", True, True, "known_source"),
        (61, "SWIFT#BAT_GRB_Pos_", False, True, "grb"),
    ],
)
def test_weak_and_known_sources_are_marked(
    number: int, ivoid: str, known: bool, significant: bool, chain: str
) -> None:
    found = understand(FEEDS, DEFAULT_CHAINS, gcn(number, ivoid).encode())
    assert found.notice is not None
    assert found.region is not None
    assert (found.notice.known_source, found.notice.significant) == (known, significant)
    assert found.region.chain == chain


def test_unknown_type_stays_with_its_mission_and_has_no_place() -> None:
    found = notice(FEEDS, gcn(9999, "SWIFT#BAT_New_"))
    assert (found.feed, found.kind, found.localization) == ("swift_bat", "type 9999", None)
    assert found.no_position_reason == "unknown_packet_type"
    retracting = gcn(
        9999, "SWIFT#BAT_New_", ('"Def_NOT_a_GRB" value="false"', '"Def_NOT_a_GRB" value="true"')
    )
    assert notice(FEEDS, retracting).alert_type == "retraction"
    nameless = FEEDS.parse(gcn(9999, "SWIFT#BAT_New_", ('"TrigID"', '"Other"')).encode())
    assert isinstance(nameless, Ignored)
    assert nameless.reason == "unknown_packet_type"


def test_retraction_is_the_last_word_of_its_second() -> None:
    flag = ('"Def_NOT_a_GRB" value="false"', '"Def_NOT_a_GRB" value="true"')
    flight = notice(FEEDS, gcn(111, "Fermi#GBM_Flt_Pos_", flag))
    assert flight.alert_type == "retraction"
    assert flight.order >= notice(FEEDS, FINAL).order


def test_counterparts_of_one_trigger_are_events_of_their_own() -> None:
    first, second = gcn(45, "COUNTERPART#A_"), gcn(45, "COUNTERPART#B_")
    assert notice(FEEDS, first).event_id != notice(FEEDS, second).event_id


def test_gbm_map_lies_beside_its_picture() -> None:
    def with_url(url: str) -> Notice:
        param = f'<Param name="LocationMap_URL" value="{url}"/><Param name="TrigID"'
        return notice(FEEDS, FINAL.replace('<Param name="TrigID"', param))

    found = with_url("http://h.org/bn1/quicklook/glg_locplot_all_bn260102003.png")
    assert found.skymap_url == "http://h.org/bn1/quicklook/glg_healpix_all_bn260102003.fit"
    assert isinstance(found.localization, Circle)
    assert with_url("http://h.org/gbm_gnd_loc_map_1.fits").skymap_url is None
    assert with_url("file:///quicklook/glg_locplot_all_bn260102003.png").skymap_url is None


CHIME = """<v:VOEvent xmlns:v="http://www.ivoa.net/xml/VOEvent/v2.0" version="2.0"
 role="observation" ivorn="ivo://ca.chimenet.frb/FRB-DETECTION-#2026-01-02-03:04:05UTC+0000_0a">
<Who><Date>2026-01-02T03:04:20+00:00</Date></Who><What><Group name="event parameters">
<Param name="event_no" value="424242"/><Param name="known_source_name" value=""/>
<Param name="event_type" value="EXTRAGALACTIC"/><Param name="dm" value="301.5"/>
<Param name="pos_error_semiminor_deg_95" value="0.5"/>
<Param name="pos_error_semimajor_deg_95" value="0.25"/></Group></What>
<WhereWhen><ObsDataLocation><ObservatoryLocation id="x"/><ObservationLocation>
<AstroCoordSystem id="UTC-FK5-TOPO"/><AstroCoords coord_system_id="UTC-FK5-TOPO">
<Time><TimeInstant><ISOTime>2026-01-02T03:04:05.5</ISOTime></TimeInstant></Time>
<Position2D unit="deg"><Name1>RA</Name1><Name2>Dec</Name2><Value2><C1>200.5</C1><C2>40.25</C2>
</Value2><Error2Radius>0.5</Error2Radius></Position2D></AstroCoords></ObservationLocation>
</ObsDataLocation></WhereWhen><Why importance="0.98"/></v:VOEvent>"""


def test_chime_ellipse_is_long_in_right_ascension() -> None:
    found = notice(FEEDS, CHIME)
    assert found.localization == Ellipse(200.5, 40.25, 0.5, 0.25, 90.0, 0.95)
    assert (found.event_id, found.event_class, found.kind) == (
        "CHIME_424242",
        "EXTRAGALACTIC",
        "burst",
    )
    assert (found.details["dm"], found.details["importance"]) == ("301.5", "0.98")
    repeater = CHIME.replace('"known_source_name" value=""', '"known_source_name" value="FRB 1"')
    assert notice(FEEDS, repeater).known_source


# One event, however wrapped


def test_digest_is_that_of_the_element() -> None:
    element = EVENT[EVENT.index("<v:VOEvent") :]
    wrapped = f"<!-- by another way -->\n{element}\n\n"
    feeds = load_feeds()
    found = {feeds.route(raw.encode()).message.sha256 for raw in (EVENT, element, wrapped)}
    assert found == {hashlib.sha256(element.encode()).hexdigest()}


def test_digest_of_other_messages_is_that_of_all_bytes() -> None:
    raw = b'{"alert_datetime": "2026-01-02T03:04:05Z", "a": 1} '
    assert FEEDS.route(raw).message.sha256 == hashlib.sha256(raw).hexdigest()


def test_no_builtin_feed_has_kinds_that_hide_each_other() -> None:
    """Two kinds of one packet type: the first must ask for more than the type."""
    hidden: list[Any] = []
    for feed in FEEDS.feeds:
        seen: set[int] = set()
        for kind in feed.kinds:
            hidden += [(feed.name, n) for n in kind.packet_types if n in seen]
            if not (kind.when or kind.values):
                seen.update(kind.packet_types)
    assert not hidden


def test_every_key_of_a_feed_file_is_explained() -> None:
    text = (Path(gateway.feeds.__file__).parent / "missions/README.md").read_text()
    made = {"version", "source", "kinds", "transport"}
    for record in (Feed, Kind, Transport):
        for key in {f.name for f in fields(record)} - made:
            assert f"`{key}`" in text, key
    for name in FIELDS | VOEVENT_FIELDS:
        assert f"`{name}`" in text, name
