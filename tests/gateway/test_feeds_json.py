"""JSON feeds: the examples of GCN's schema, one by one, and real notices."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Circle, Ellipse, MultiOrderMap, Notice, Polygon, SystematicTerm
from gateway.feeds import load_feeds
from gateway.feeds.spec import Feed, Kind
from gateway.intake import EventBook
from gateway.understand import Understood, understand

FEEDS = load_feeds()


def read(raw: bytes) -> Understood:
    return understand(FEEDS, DEFAULT_CHAINS, raw)


def terms(*pairs: tuple[float, float]) -> tuple[SystematicTerm, ...]:
    return tuple(SystematicTerm(r, w) for r, w in pairs)


# The examples of GCN's schema: what each of them says, read off by eye.


class Fact(NamedTuple):
    """Outcome, feed, event, kind, role, alert type, trigger time, place; or reason."""

    outcome: str
    feed: str
    event: str = ""
    kind: str = ""
    role: str = ""
    alert_type: str = ""
    time: str = ""
    place: Any = None
    reason: str = ""


GBM = ("fermi_gbm_json", "Fermi_745121685")
GBM_TIME = "2024-08-24T02:14:40.430"
FLIGHT = terms((7.5, 0.9), (55.6, 0.1))
GROUND = terms((3.7, 0.8), (13.7, 0.2))
LONG = terms((1.9, 0.58), (4.1, 0.42))
FRB_TIME = "2024-09-18T07:19:10.765"
MAXI_TIME = "2023-02-20T08:56:01.000"
MAXI_BOX = Polygon(((345.72, 19.547), (345.464, 19.29), (347.309, 17.634), (347.566, 17.889)), 0.9)
UNKNOWN = ("maxi_unknown_json", "MAXI_9995289617", "unknown", "observation")
GUANO = ("swift_guano", "Swift-GUANO_694215995", "guano", "observation")
GUANO_TIME = "2022-12-31T21:46:05.130"
SVOM_TIME = "2024-02-22T08:51:31.320"
SVOM_PLACE = Circle(143.2478, -68.0289, 0.1, 0.9)
SVOM_EVENT = ("svom_json", "SVOM_sb24022203")
SUPERK_PLACE = Circle(270.82, 31.46, 0.91, 0.68)
CHIME_PLACE = Ellipse(
    346.77850859547, 12.632485229956252, 0.598921231135782, 0.503806986334273, 90.0, 0.9
)
DSA_PLACE = Ellipse(346.77850859547, 12.632485229956252, 0.02, 0.016, 90.0, 0.9)
OBSERVED = "observation"
FRAGMENT = Fact("ignored", "gcn_core", reason="core_fragment")

# fmt: off
EXAMPLES: dict[str, Fact] = {
    "circulars.example.json": Fact("ignored", "gcn_circulars", reason="circular"),
    "notices/boom/alert.example.json": Fact(
        "region", "boom", "BOOM_ZTF25acffkdr", "counterpart", OBSERVED, "initial",
        "2025-11-30T10:28:57.000", Circle(150.175649, 15.2832185, 0.000278, 0.9)),
    # The embedded map is a placeholder: the circle stands.
    "notices/burstcube/alert.example.json": Fact(
        "region", "burstcube", "BurstCube_240601000", "alert", OBSERVED, "initial",
        "2024-06-01T00:00:00.000", Circle(232.0, -53.1, 10.0, 0.9)),
    "notices/burstcube/test.example.json": Fact(
        "region", "burstcube", "BurstCube_240601000", "test", "test", "initial",
        "2024-06-01T00:00:00.000", Circle(232.0, -53.1, 10.0, 0.9)),
    "notices/chime/frb.detection.example.json": Fact(
        "region", "chime_frb_json", "CHIME_427325191", "burst", OBSERVED, "initial", FRB_TIME,
        CHIME_PLACE),
    "notices/chime/frb.subsequent.example.json": Fact(
        "region", "chime_frb_json", "CHIME_427325192", "repeater", OBSERVED, "update", FRB_TIME,
        CHIME_PLACE),
    "notices/chime/frb.update.example.json": Fact(
        "no_position", "chime_frb_json", "CHIME_427325191", "burst", OBSERVED, "update", FRB_TIME,
        reason="no_position"),
    "notices/chime/frb.retraction.example.json": Fact(
        "retraction", "chime_frb_json", "CHIME_427325191", "burst", OBSERVED, "retraction",
        FRB_TIME, reason="retraction"),
    "notices/core/Localization.example.json": FRAGMENT,
    "notices/core/Pointing.example.json": FRAGMENT,
    "notices/core/Reporter.example.json": FRAGMENT,
    "notices/core/Spectral.example.json": FRAGMENT,
    "notices/core/Statistics.example.json": FRAGMENT,
    "notices/dsa110/frb.detection.example.json": Fact(
        "region", "dsa110_frb", "DSA-110_240918aaaa", "burst", OBSERVED, "initial", FRB_TIME,
        DSA_PLACE),
    "notices/dsa110/frb.subsequent.example.json": Fact(
        "region", "dsa110_frb", "DSA-110_240918aaaa", "repeater", OBSERVED, "update", FRB_TIME,
        DSA_PLACE),
    "notices/dsa110/frb.update.example.json": Fact(
        "no_position", "dsa110_frb", "DSA-110_240918aaaa", "burst", OBSERVED, "update", FRB_TIME,
        reason="no_position"),
    "notices/dsa110/frb.retraction.example.json": Fact(
        "retraction", "dsa110_frb", "DSA-110_240918aaaa", "burst", OBSERVED, "retraction",
        FRB_TIME, reason="retraction"),
    "notices/einstein_probe/wxt/alert.example.json": Fact(
        "region", "einstein_probe", "EP_01708973486", "alert", OBSERVED, "initial",
        "2024-03-01T21:46:05.130", Circle(120.0, 40.0, 0.02, 0.9)),
    "notices/fermi/gbm/trigger.alert.example.json": Fact(
        "no_position", *GBM, "alert", OBSERVED, "initial", GBM_TIME,
        reason="alert_without_position"),
    "notices/fermi/gbm/trigger.flight1.example.json": Fact(
        "region", *GBM, "flight", OBSERVED, "update", GBM_TIME,
        Circle(136.917, -78.117, 8.32, 0.68, FLIGHT)),
    "notices/fermi/gbm/trigger.flight2.example.json": Fact(
        "region", *GBM, "flight", OBSERVED, "update", GBM_TIME,
        Circle(236.783, 66.633, 9.23, 0.68, FLIGHT)),
    "notices/fermi/gbm/trigger.flight3.example.json": Fact(
        "region", *GBM, "flight", OBSERVED, "update", GBM_TIME,
        Circle(235.883, 68.683, 7.15, 0.68, FLIGHT)),
    "notices/fermi/gbm/trigger.ground1.example.json": Fact(
        "region", *GBM, "ground", OBSERVED, "update", GBM_TIME,
        Circle(92.17, -66.98, 1.34, 0.68, GROUND)),
    "notices/fermi/gbm/trigger.ground2.example.json": Fact(
        "region", *GBM, "ground", OBSERVED, "update", GBM_TIME,
        Circle(90.56, -67.87, 1.08, 0.68, GROUND)),
    "notices/fermi/gbm/trigger.final.example.json": Fact(
        "region", *GBM, "final", OBSERVED, "update", GBM_TIME,
        Circle(29.24, -63.62, 1.0, 0.68, LONG)),
    "notices/fermi/lat/flare.example.json": Fact(
        "region", "fermi_lat_flare", "Fermi-LAT_OQ_334_2025-11-20T00:00:00.0", "flare", OBSERVED,
        "initial", "2025-11-20T00:00:00.000", Circle(215.62657, 32.38623, 0.1, 0.95)),
    "notices/glowbug/Alert.example.json": Fact(
        "no_position", "glowbug", "Glowbug_BUG230423.789", "alert", OBSERVED, "initial",
        "2023-04-23T15:20:11.000", reason="no_position"),
    "notices/heasarc/archive_alert.example.json": Fact("ignored", "heasarc", reason="product"),
    "notices/icecube/lvk_nu_track_search.example.json": Fact(
        "region", "icecube_lvk", "IceCube-LVK_S230914ak", "track search", OBSERVED, "initial",
        "2023-09-14T11:14:01.000", Circle(17.48, 16.15, 0.5, 0.9)),
    "notices/icecube/single_neutrino_alerts.gold_bronze_track_alerts.example.json": Fact(
        "region", "icecube_json", "IceCube_137840_57034692", "bronze", OBSERVED, "initial",
        "2023-04-16T05:22:26.150", Circle(345.82, 9.01, 0.5, 0.9)),
    "notices/km3net/alert.example.json": Fact(
        "region", "km3net_json", "KM3NeT_1", "track", OBSERVED, "initial",
        "2024-09-01T01:16:47.000", Circle(10.82, 20.01, 0.9, 0.9)),
    "notices/km3net/alert.multiplet.example.json": Fact(
        "region", "km3net_json", "KM3NeT_2", "multiplet", OBSERVED, "initial",
        "2025-01-01T01:16:47.000", Circle(13.81, 18.85, 0.41, 0.9)),
    "notices/maxi/gsc.known.example.json": Fact(
        "region", "maxi_known_json", "MAXI_858800020", "known", OBSERVED, "initial",
        "2025-07-02T14:35:59.000", Circle(285.6, -9.2, 0.5, 0.9)),
    "notices/maxi/gsc.known.retraction.example.json": Fact(
        "retraction", "maxi_known_json", "MAXI_858800020", "known", OBSERVED, "retraction",
        "2025-07-02T14:35:59.000", reason="retraction"),
    "notices/maxi/gsc.unknown.circle.example.json": Fact(
        "region", *UNKNOWN, "update", MAXI_TIME, Circle(346.56, 18.61, 1.5, 0.9)),
    "notices/maxi/gsc.unknown.ellipse.example.json": Fact(
        "region", *UNKNOWN, "update", MAXI_TIME, Ellipse(346.56, 18.61, 0.22, 0.19, 153.0, 0.9)),
    "notices/maxi/gsc.unknown.noerror.example.json": Fact(
        "region", *UNKNOWN, "initial", MAXI_TIME, Circle(346.56, 18.61, 1.0, 0.9)),
    "notices/maxi/gsc.unknown.rectangle.example.json": Fact(
        "region", *UNKNOWN, "update", MAXI_TIME, MAXI_BOX),
    "notices/maxi/gsc.unknown.retraction.example.json": Fact(
        "retraction", *UNKNOWN, "retraction", MAXI_TIME, reason="retraction"),
    "notices/superk/sn_alert.real.example.json": Fact(
        "region", "superk_json", "SuperK_10070", "supernova", OBSERVED, "initial",
        "2023-08-01T00:00:01.000", SUPERK_PLACE),
    "notices/superk/sn_alert.test.example.json": Fact(
        "region", "superk_json", "SuperK_10070", "supernova", "test", "initial",
        "2023-08-01T00:00:01.000", SUPERK_PLACE),
    "notices/svom/eclairs/trigger.catalog.example.json": Fact(
        "region", *SVOM_EVENT, "catalog", "test", "initial", SVOM_TIME, SVOM_PLACE),
    "notices/svom/eclairs/trigger.not-slewing.example.json": Fact(
        "region", *SVOM_EVENT, "not slewing", "test", "update", SVOM_TIME, SVOM_PLACE),
    "notices/svom/eclairs/trigger.slewing.example.json": Fact(
        "region", *SVOM_EVENT, "slewing", "test", "update", SVOM_TIME, SVOM_PLACE),
    "notices/svom/eclairs/trigger.wakeup.example.json": Fact(
        "region", *SVOM_EVENT, "wakeup", "test", "initial", SVOM_TIME, SVOM_PLACE),
    "notices/svom/grm/trigger.example.json": Fact(
        "region", *SVOM_EVENT, "grm", "test", "initial", SVOM_TIME, SVOM_PLACE),
    "notices/swift/bat/Guano.example.json": Fact(
        "no_position", *GUANO, "initial", GUANO_TIME, reason="no_position"),
    "notices/swift/bat/Guano.Retraction.example.json": Fact(
        "retraction", *GUANO, "retraction", GUANO_TIME, reason="retraction"),
    "notices/swift/bat/guano.loc_arc_min.example.json": Fact(
        "region", *GUANO, "update", GUANO_TIME, Circle(336.26, 25.139, 0.5, 0.9)),
    "notices/swift/bat/guano.loc_map.example.json": Fact(
        "rejected", "swift_guano", reason="bad_skymap"),
}
# fmt: on


def fact(found: Understood) -> Fact:
    if found.notice is None:
        return Fact(found.outcome, found.feed, reason=found.reason)
    one = found.notice
    assert one.trigger_time is not None
    return Fact(
        found.outcome,
        found.feed,
        one.event_id,
        one.kind,
        one.role,
        one.alert_type,
        one.trigger_time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3],
        one.localization,
        found.reason,
    )


@pytest.mark.realdata
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_of_the_schema(shared_data: Path, name: str) -> None:
    path = shared_data / "notices/gcn_schema/gcn" / name
    assert fact(read(path.read_bytes())) == EXAMPLES[name]


@pytest.mark.realdata
def test_every_example_is_in_the_table_and_every_schema_is_ignored(shared_data: Path) -> None:
    folder = shared_data / "notices/gcn_schema/gcn"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*.example.json")}
    assert names == set(EXAMPLES)
    schemas = list(folder.rglob("*.schema.json"))
    assert len(schemas) > 30
    assert {read(p.read_bytes()).reason for p in schemas} == {"json_schema"}


@pytest.mark.realdata
def test_what_the_examples_say_besides(shared_data: Path) -> None:
    folder = shared_data / "notices/gcn_schema/gcn/notices"

    def of(name: str) -> Notice:
        found = read((folder / name).read_bytes()).notice
        assert found is not None
        return found

    nu = of("icecube/single_neutrino_alerts.gold_bronze_track_alerts.example.json")
    assert (nu.far_hz, nu.classification, nu.event_class) == (
        8.029e-08, {"astro": 0.34064}, "bronze track",
    )  # fmt: skip
    assert nu.skymap_url is not None
    assert nu.skymap_url.endswith("nside_1024_probability.fits.gz")
    assert of("km3net/alert.example.json").skymap_url is None, "a home page is no map"
    star = of("superk/sn_alert.real.example.json")
    assert (star.distance_mpc, star.distance_error_mpc) == (0.0025, 0.0004)
    search = of("icecube/lvk_nu_track_search.example.json")
    assert not search.significant
    assert search.details["gw_event"] == "S230914ak"
    assert search.details["other_neutrinos"] == "13.82 18.66 0.0656"
    assert of("boom/alert.example.json").details["counterpart_of"] == "S251117bs"
    assert [of(f"{n}.example.json").known_source for n in (
        "maxi/gsc.known", "maxi/gsc.unknown.circle", "chime/frb.subsequent", "chime/frb.detection",
        "svom/eclairs/trigger.catalog", "svom/eclairs/trigger.wakeup", "fermi/lat/flare",
    )] == [True, False, True, False, True, False, True]  # fmt: skip
    flight = of("fermi/gbm/trigger.flight3.example.json")
    assert (flight.event_class, flight.order[1:]) == ("GRB", (1, 4))
    assert flight.classification == {"GRB": 0.85, "generic SGR": 0.14}


@pytest.mark.realdata
def test_retraction_names_the_records_before_it(shared_data: Path) -> None:
    """GUANO's retraction is dated as the first notice: its number says what it takes back."""
    path = shared_data / "notices/gcn_schema/gcn/notices/swift/bat/Guano.Retraction.example.json"
    found = read(path.read_bytes()).notice
    assert found is not None
    assert found.retracts[0] == "Swift-GUANO_694215995"
    assert "Swift-GUANO:694215995:3" in found.retracts
    assert "Swift-GUANO:694215995:4" not in found.retracts


SERIES = {
    "Swift-GUANO_694215995": (
        "swift/bat/Guano.example", "swift/bat/guano.loc_arc_min.example",
        "swift/bat/Guano.Retraction.example",
    ),
    "MAXI_9995289617": (
        "maxi/gsc.unknown.noerror.example", "maxi/gsc.unknown.circle.example",
        "maxi/gsc.unknown.retraction.example",
    ),
    "DSA-110_240918aaaa": (
        "dsa110/frb.detection.example", "dsa110/frb.subsequent.example",
        "dsa110/frb.update.example", "dsa110/frb.retraction.example",
    ),
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("event", SERIES)
def test_series_of_examples_ends_retracted_in_any_order(shared_data: Path, event: str) -> None:
    folder = shared_data / "notices/gcn_schema/gcn/notices"
    notices = [read((folder / f"{n}.json").read_bytes()).notice for n in SERIES[event]]
    for order in permutations(notices):
        book = EventBook()
        for one in order:
            assert one is not None
            book.accept(one)
        assert book.state(event).retracted
    book = EventBook()
    for one in notices[:-1]:
        assert one is not None
        book.accept(one)
    assert book.state(event).current is not None


# Real notices

GW_FILES = {
    "json_igwn/MS260605l_preliminary.json": ("MS260605l", "preliminary", "test", "initial", 39.588),
    "json_igwn/S1234-1-earlywarning.json": ("S1234", "earlywarning", "test", "initial", 28.622),
    "json_igwn/S1234-2-initial.json": ("S1234", "initial", "test", "initial", 28.622),
    "json_igwn/S230518h_initial.json": ("S230518h", "initial", OBSERVED, "initial", 277.915),
    "json_igwn/S230518h_update.json": ("S230518h", "update", OBSERVED, "update", 277.915),
    "json_igwn/MS260605l_retraction.json": ("MS260605l", "retraction", "test", "retraction", None),
}
for _name, _distance in (
    ("S240112e", None), ("S240112w", ...), ("S240112y", None), ("S240114b", 623.583),
    ("S240114aj", ...),
):  # fmt: skip
    for _file in ("initial", "update_0"):
        GW_FILES[f"gcn_2024-01/lvk/{_name}_{_file}.json"] = (
            _name, "preliminary", OBSERVED, "initial", _distance,
        )  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("name", GW_FILES)
def test_gravitational_waves(shared_data: Path, name: str) -> None:
    event, kind, role, alert_type, distance = GW_FILES[name]
    found = read((shared_data / "notices" / name).read_bytes())
    one = found.notice
    assert one is not None
    assert (found.feed, one.event_id, one.kind, one.role, one.alert_type) == (
        "lvk", event, kind, role, alert_type,
    )  # fmt: skip
    assert found.outcome == ("retraction" if kind == "retraction" else "region")
    if distance is not ...:
        assert one.distance_mpc == (distance and pytest.approx(distance, abs=1e-3))
    if found.region is not None:
        assert isinstance(found.region.localization, MultiOrderMap)
        assert found.region.localized_by == "map_embedded"
        assert one.significant is name.startswith("json_igwn")


@pytest.mark.realdata
def test_einstein_probe_and_other_real_json(shared_data: Path) -> None:
    folder = shared_data / "notices"
    names = sorted(folder.glob("json_kafka_2026/ep_wxt/*.json"))
    found = [read(p.read_bytes()) for p in names]
    assert {(f.outcome, f.feed) for f in found} == {("region", "einstein_probe")}
    first = fact(found[0])
    assert (first.event, first.time, first.place) == (
        "EP_01709259773", "2026-04-09T11:45:11.949", Circle(184.664, -6.146, 0.05174976, 0.9),
    )  # fmt: skip
    without_id = read((folder / "json_einstein_probe/EP240508.json").read_bytes())
    assert fact(without_id).event == "EP_20240508T073801.151"
    alert = read((folder / "json_boom/alert.json").read_bytes())
    assert (alert.outcome, alert.reason) == ("ignored", "optical_alert")


# One mission, two formats


def _marks(feed: Feed, kind: Kind) -> dict[str, object]:
    included = kind.systematic_included
    return {
        "known_source": kind.known_source,
        "subthreshold": kind.subthreshold,
        "containment": kind.containment or feed.containment,
        "included": feed.systematic_included if included is None else included,
        "systematic": [(r.terms, r.before) for r in kind.systematic],
        "position": kind.position,
        "messenger": kind.messenger or feed.messenger,
    }


def _pairs() -> list[tuple[Feed, Feed]]:
    feeds = [f for f in FEEDS.feeds if f.prefix and not f.fallback]
    return [
        (one, other)
        for one in feeds
        for other in feeds
        if (one.prefix, one.format, other.format) == (other.prefix, "voevent", "json")
        and one.instrument == other.instrument
    ]


# Where the two differ, and why.
DIFFER = {
    # By GCN's default 90 %; the VOEvent's Params are called 95 %.
    ("chime_frb_json", "repeater"): {"containment"},
    ("chime_frb_json", "burst"): {"containment"},
    # There was no JSON before 11 September 2019, when the localisation was changed.
    ("fermi_gbm_json", "final"): {"systematic"},
    # JSON notices say it themselves.
    ("icecube_json", "cascade"): {"included"},
}


@pytest.mark.parametrize("pair", _pairs(), ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_kinds_of_one_name_mean_the_same_in_both_formats(pair: tuple[Feed, Feed]) -> None:
    one, other = pair
    theirs = {kind.name: kind for kind in other.kinds}
    for kind in one.kinds:
        if kind.name in theirs and not kind.ignore:
            ours, their = _marks(one, kind), _marks(other, theirs[kind.name])
            differ = {name for name in ours if ours[name] != their[name]}
            assert differ == DIFFER.get((other.name, kind.name), set()), kind.name


def test_what_is_a_known_source_in_one_format_is_one_in_the_other() -> None:
    """Also where the kinds of the two formats have different names."""
    known = {f.prefix: set[str]() for pair in _pairs() for f in pair}
    for one, other in _pairs():
        for feed in (one, other):
            if any(k.known_source for k in feed.kinds):
                known[feed.prefix].add(feed.format)
    assert {p for p, formats in known.items() if formats} == {"CHIME", "MAXI", "SVOM"}
    assert all(formats in (set(), {"voevent", "json"}) for formats in known.values())


def test_the_pairs_that_are_compared() -> None:
    names = {one.name for one, _ in _pairs()}
    assert names == {"svom", "fermi_gbm", "icecube", "km3net", "maxi", "superk", "chime_frb"}
