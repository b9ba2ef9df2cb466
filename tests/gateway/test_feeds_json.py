"""JSON feeds: the examples of GCN's schema, real notices, private dialects, any mission."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from crossmatch import sky
from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.errors import NoticeError
from crossmatch.model import Circle, Ellipse, MultiOrderMap, Notice, Polygon, SystematicTerm
from crossmatch.region import credible_level
from crossmatch.skymap import write_skymap
from gateway.feeds import Ignored, Registry, load_feeds
from gateway.feeds.generic import messenger_of
from gateway.understand import Understood, understand

DATA = Path(__file__).parents[1] / "data" / "notices"
WXT = json.loads((DATA / "wxt.json").read_bytes())
GW = json.loads((DATA / "gwalert.json").read_bytes())
FEEDS = load_feeds()


def read(raw: bytes, registry: Registry = FEEDS, **where: str) -> Understood:
    return understand(registry, DEFAULT_CHAINS, raw, **where)


def notice(table: dict[str, Any], registry: Registry = FEEDS, **where: str) -> Notice:
    found = read(json.dumps(table).encode(), registry, **where)
    assert found.notice is not None, found
    return found.notice


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
    "notices/burstcube/alert.example.json": Fact("rejected", "burstcube", reason="bad_skymap"),
    "notices/burstcube/test.example.json": Fact("rejected", "burstcube", reason="bad_skymap"),
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


# External coincidences


def skymap(ra_deg: float, dec_deg: float) -> tuple[bytes, MultiOrderMap]:
    cell = 4 ** (29 - 6)
    start = sky.ipix29(np.array([ra_deg]), np.array([dec_deg])) // cell * cell
    one = MultiOrderMap(start, start + cell, np.array([1 / (cell * sky.PIXEL_SR)]))
    return write_skymap(one, {"DISTMEAN": 40.0, "DISTSTD": 8.0}), one


def coincident(**coincidence: Any) -> dict[str, Any]:
    own, together = skymap(100.0, 10.0)[0], skymap(200.0, -20.0)[0]
    event = {**GW["event"], "skymap": base64.b64encode(own).decode()}
    combined = base64.b64encode(together).decode()
    coinc = {"observatory": "Fermi", "combined_skymap": combined, **coincidence}
    return {**GW, "event": event, "external_coinc": coinc}


def holds(found: Notice, ra_deg: float, dec_deg: float) -> bool:
    assert isinstance(found.localization, MultiOrderMap)
    return bool(credible_level(found.localization, ra_deg, dec_deg)[0] <= 1) and bool(
        found.localization.start[0]
        <= sky.ipix29(np.array([ra_deg]), np.array([dec_deg]))[0]
        < found.localization.end[0]
    )


def test_a_chance_coincidence_does_not_move_the_event() -> None:
    found = notice(coincident())
    assert holds(found, 100.0, 10.0)
    assert found.details["external_combined_skymap"] == "embedded"
    assert "skymap" not in found.details
    assert (found.distance_mpc, found.distance_error_mpc) == (40.0, 8.0)


def with_files(tmp_path: Path, **files: str) -> Registry:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return load_feeds([tmp_path])


def test_combined_map_by_choice(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "gateway/feeds/lvk.toml"
    text = source.read_text("utf-8")
    chosen = text.replace('combined_map = "false"', 'combined_map = "true"')
    assert chosen != text
    registry = with_files(tmp_path, lvk=chosen)
    found = notice(coincident(), registry)
    assert holds(found, 200.0, -20.0)
    assert found.details["skymap"] == "combined"
    alone = notice(coincident(combined_skymap=None), registry)
    assert holds(alone, 100.0, 10.0)
    assert "skymap" not in alone.details
    broken = read(json.dumps(coincident(combined_skymap="?")).encode(), registry)
    assert broken.reason == "bad_skymap"


# A private dialect: everything by paths

DIALECT = """
name = "orbiter"
title = "Bursts of our orbiter"
mission = "Orbiter"
instrument = "camera"
messenger = "grb"
format = "json"
topics = ["orbiter.bursts"]
prefix = "Orb"
trigger = ["$.burst.run", "$.burst.no"]
kind_field = "$.meta.level"
error_unit = "arcmin"
frame = "galactic"
time_format = "unix_ms"
far = "$.burst.rate"
far_unit = "per_year"
significant = "$.burst.good"
classes = ["$.burst.p_grb"]
properties = ["$.burst.p_short"]
chain = "xray"
window_days = [-1.0, 2.0]

[fields]
trigger_time = "$.burst.at[0]"
alert_datetime = "$.meta.sent"
record_number = "$.meta.n"
ra = "$.place.l"
dec = "$.place.b"
ra_dec_error = "$.place.err"
alert_type = ""
instrument = "$.meta.eyes"
cites = "$.meta.refers"
retracts = "$.meta.takes_back"
source_name = "$.burst.name"
containment_probability = "$.place.prob"
systematic_included = "$.place.all"
healpix_url = "$.place.map"

[class_names]
"$.burst.p_grb" = "GRB"
"$.burst.p_short" = "short"

[details]
colour = "$.burst['colour of it']"
numbers = "$.burst.list"

[retraction_when]
"$.meta.state" = "withdrawn"

[test_when]
"$.meta.drill" = "*"

[ignore_when]
"$.meta.state" = "house*"

[[kinds]]
name = "weak"
values = ["1", "weak*"]
subthreshold = true

[[kinds]]
name = "old friend"
values = ["2"]
known_source = true

[[kinds]]
name = "burst"
"""
BURST: dict[str, Any] = {
    "alert_type": "a word of their own",
    "meta": {"level": 3, "n": 2, "sent": 1767323200000, "eyes": ["A", "B"], "refers": ["Orb:1"]},
    "burst": {
        "run": 7, "no": "0042", "at": [1767323045670, 5], "rate": 36.525, "good": 1, "name": "X",
        "p_grb": 0.9, "p_short": 0.2, "colour of it": "blue", "list": [1, 2.5, {}],
    },
    "place": {"l": 123.0, "b": "-30.5", "err": [90, 60, 20], "prob": 0.5, "all": True,
              "map": "https://example.org/maps/1.fits"},
}  # fmt: skip


@pytest.fixture(scope="module")
def dialect(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Understood]:
    registry = with_files(tmp_path_factory.mktemp("feeds"), orbiter=DIALECT)

    def read_changed(**changes: Any) -> Understood:
        table = json.loads(json.dumps(BURST))
        for path, value in changes.items():
            group, _, name = path.partition("__")
            table[group][name] = value
        return read(json.dumps(table).encode(), registry, topic="orbiter.bursts")

    return read_changed


def test_private_dialect_says_everything(dialect: Callable[..., Understood]) -> None:
    understood = dialect()
    found, region = understood.notice, understood.region
    assert found is not None
    assert region is not None
    assert (found.event_id, found.notice_id, found.kind) == ("Orb_7_42", "Orb:7_42:2", "burst")
    assert (found.role, found.alert_type, found.instrument) == (OBSERVED, "update", "A,B")
    assert found.trigger_time == datetime(2026, 1, 2, 3, 4, 5, 670000, UTC)
    assert found.order == (1767323200.0, 0, 2)
    assert found.far_hz == pytest.approx(36.525 / (365.25 * 86400))
    assert found.classification == {"GRB": 0.9, "short": 0.2}
    assert (found.event_class, found.significant, found.known_source) == ("GRB", True, False)
    assert (found.cites, found.retracts) == (("Orb:1",), ())
    assert found.skymap_url == "https://example.org/maps/1.fits"
    assert found.details == {
        "colour": "blue", "numbers": "1, 2.5", "source_name": "X", "systematic_included": "true",
    }  # fmt: skip
    assert (region.chain, region.window.start_days, region.window.end_days) == ("xray", -1.0, 2.0)


def test_galactic_ellipse_is_turned_to_icrs(dialect: Callable[..., Understood]) -> None:
    """Independent truth: astropy's frames; the angle from a point a little along the axis."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    found = dialect().notice
    assert found is not None
    place = found.localization
    assert isinstance(place, Ellipse)
    centre = SkyCoord(123.0 * u.deg, -30.5 * u.deg, frame="galactic")
    tip = centre.directional_offset_by(20 * u.deg, 1 * u.arcmin)
    assert (place.ra_deg, place.dec_deg) == pytest.approx(
        (centre.icrs.ra.deg, centre.icrs.dec.deg), abs=2e-5
    )
    assert (place.semi_major_deg, place.semi_minor_deg, place.containment) == (1.5, 1.0, 0.5)
    angle = centre.icrs.position_angle(tip.icrs).deg % 180
    assert place.position_angle_deg == pytest.approx(angle, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"meta__state": "WITHDRAWN"}, ("retraction", "retraction")),
        ({"meta__takes_back": ["7_41", "Orb:7_40:1"]}, ("retraction", "retraction")),
        ({"meta__state": "housekeeping"}, ("ignored", "unwanted")),
        ({"burst__run": None}, ("rejected", "no_trigger_id")),
        ({"burst__no": "a/b"}, ("rejected", "bad_trigger_id")),
        ({"burst__at": ["soon"]}, ("rejected", "bad_field")),
        ({"burst__at": [1e300]}, ("rejected", "bad_time")),
        ({"burst__at": [True]}, ("rejected", "bad_field")),
        ({"burst__at": [0]}, ("rejected", "bad_time")),
        ({"place__l": 361}, ("rejected", "bad_position")),
        ({"place__l": "east"}, ("rejected", "bad_field")),
        ({"place__b": 91}, ("rejected", "bad_position")),
        ({"place__l": None}, ("region", "")),
        ({"place__l": None, "place__map": "ftp://x/y"}, ("no_position", "no_position")),
        ({"place__err": ["1", "x"]}, ("rejected", "bad_field")),
        ({"place__err": 1e5}, ("no_position", "whole_sky")),
        ({"place__err": [1, -1]}, ("rejected", "bad_position")),
        ({"place__err": -999}, ("no_position", "no_error_radius")),
        ({"place__l": -999, "place__b": -999, "place__err": -999}, ("no_position", "sentinel")),
        ({"place__l": 0, "place__b": 0, "place__err": 0}, ("no_position", "null_position")),
        ({"place__prob": 90}, ("rejected", "bad_position")),
        ({"meta__n": 1.5}, ("rejected", "bad_field")),
        ({"burst__p_grb": "high"}, ("rejected", "bad_field")),
        ({"burst__rate": "often"}, ("rejected", "bad_field")),
    ],
)
def test_private_dialect_is_checked(
    dialect: Callable[..., Understood], changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    if "place__map" not in changes and expected != ("region", ""):
        changes = changes | {"place__map": None}
    found = dialect(**changes)
    if expected == ("region", ""):
        # The map's address is all there is: no region before the map is there.
        assert (found.outcome, found.reason) == ("no_position", "skymap_elsewhere")
    else:
        assert (found.outcome, found.reason) == expected


def test_marks_of_a_private_dialect(dialect: Callable[..., Understood]) -> None:
    def of(**changes: Any) -> Notice:
        found = dialect(**changes).notice
        assert found is not None
        return found

    assert of(meta__drill=False).role == OBSERVED
    assert of(meta__drill="yes").role == "test"
    assert (of(meta__level=1).kind, of(meta__level=1).significant) == ("weak", False)
    assert of(meta__level="Weak one").kind == "weak"
    assert of(meta__level=2).known_source
    assert not of(burst__good=False).significant
    back = of(meta__takes_back=["7_41", "Orb:7_40:1"])
    assert back.retracts == ("Orb_7_42", "Orb_7_41", "Orb:7_40:1", "Orb:7_42:0", "Orb:7_42:1")
    circle = of(place__err=30.0).localization
    assert isinstance(circle, Circle)
    assert circle.radius_deg == 0.5
    assert of(place__l=-237.0 + 180.0).localization is not None, "longitudes from -180"


def test_private_retraction_names_events_of_its_own_world(tmp_path: Path) -> None:
    registry = with_files(tmp_path, orbiter=DIALECT.replace("[fields]", "private = true\n[fields]"))
    meta = {**BURST["meta"], "takes_back": ["7_41", "ivo://a/b#c"]}
    found = notice({**BURST, "meta": meta}, registry, topic="orbiter.bursts")
    assert found.event_id == "orbiter:Orb_7_42"
    assert found.retracts[:3] == ("orbiter:Orb_7_42", "orbiter:Orb_7_41", "ivo://a/b#c")


def test_address_of_a_map_is_made_from_what_the_mission_gives(tmp_path: Path) -> None:
    text = DIALECT.replace("[fields]", 'skymap_replace = [["/maps/", "/healpix/"]]\n[fields]')
    registry = with_files(tmp_path, orbiter=text)
    found = notice(BURST, registry, topic="orbiter.bursts")
    assert found.skymap_url == "https://example.org/healpix/1.fits"
    place = {**BURST["place"], "map": "https://example.org/plots/1.png"}
    found = notice({**BURST, "place": place}, registry, topic="orbiter.bursts")
    assert found.skymap_url is None


@pytest.mark.parametrize(
    ("time_format", "system", "value"),
    [
        ("iso", "UTC", "2026-01-02T03:04:05.670"),
        ("iso", "TT", "2026-01-02T03:05:14.854"),
        ("iso", "TT", "2026-01-02T03:04:05.670Z"),
        ("unix", "UTC", 1767323045.67),
        ("unix", "UTC", "1767323045.67"),
        ("unix_ms", "UTC", 1767323045670),
        ("mjd", "UTC", 61042.12784340278),
        ("mjd", "TT", 61042.12864414352),
        ("jd", "UTC", 2461042.6278434028),
        ("gps", "UTC", 1451358263.67),
    ],
)
def test_time_formats(tmp_path: Path, time_format: str, system: str, value: Any) -> None:
    text = (
        'name = "clock"\ntitle = "Clock"\nmission = "C"\ninstrument = ""\nmessenger = "frb"\n'
        f'format = "json"\ntopics = ["clock"]\nprefix = "C"\ntime_format = "{time_format}"\n'
        f'time_system = "{system}"\n[fields]\ntrigger_time = "t"\n'
    )
    table = {"t": value, "id": "1", "ra": 1.0, "dec": 2.0, "ra_dec_error": 0.1}
    found = notice(table, with_files(tmp_path, clock=text), topic="clock")
    assert found.feed == "clock"
    assert found.trigger_time is not None
    wanted = datetime(2026, 1, 2, 3, 4, 5, 670000, UTC)
    assert abs((found.trigger_time - wanted).total_seconds()) < 1e-3


def test_box_with_corners_row_by_row_is_the_same_box() -> None:
    schema = "https://gcn.nasa.gov/schema/main/gcn/notices/maxi/gsc.unknown.schema.json"
    box = {"$schema": schema, "id": "1", "trigger_time": "2026-01-02T03:04:05Z",
           "ra": 0.0, "dec": 80.0}  # fmt: skip
    around = [[359.0, 79.0], [1.0, 79.0], [1.0, 81.0], [359.0, 81.0]]
    by_row = [around[0], around[1], around[3], around[2]]
    areas = [
        read(json.dumps({**box, "rectangular_error_corners": c}).encode()).region
        for c in (around, by_row)
    ]
    assert areas[0] is not None
    assert areas[1] is not None
    assert areas[0].area90_deg2 == pytest.approx(areas[1].area90_deg2)
    assert areas[0].localized_by == "polygon"
    for corners in ([[1, 2]], [[1, 2, 3]] * 4, "box", [[1, 2], [1, 3], [2, 720]], [["a", 1]] * 3):
        found = read(json.dumps({**box, "rectangular_error_corners": corners}).encode())
        assert found.reason in ("bad_position", "bad_field")


# Any mission that follows the core schema

CORE: dict[str, Any] = {
    "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/newcomer/eye/alert.schema.json",
    "alert_datetime": "2026-01-02T03:10:00Z",
    "trigger_time": "2026-01-02T03:04:05.670Z",
    "id": ["N1"],
    "ra": 10.0,
    "dec": -5.0,
    "ra_dec_error": 0.5,
    "rate_energy_range": [50, 300],
}


def test_unseen_mission_is_understood() -> None:
    found = notice(CORE)
    assert (found.feed, found.mission, found.instrument) == ("generic_json", "newcomer", "eye")
    assert (found.event_id, found.messenger) == ("newcomer_N1", "grb")
    assert found.localization == Circle(10.0, -5.0, 0.5, 0.9)
    said = notice({**CORE, "mission": "New Comer/1", "instrument": "Eye"})
    assert (said.event_id, said.mission, said.instrument) == (
        "New-Comer-1_N1", "New Comer/1", "Eye",
    )  # fmt: skip
    bare = {k: v for k, v in CORE.items() if k not in ("$schema", "rate_energy_range")}
    found = notice(bare, topic="gcn.notices.other.scope.alert")
    assert (found.mission, found.messenger) == ("unknown", "optical")
    assert notice(bare, topic="gcn.notices.other.scope").event_id == "other_N1"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messenger": "GW"}, "gw"),
        ({"messenger": "Neutrino", "dm": 3}, "neutrino"),
        ({"messenger": "EM"}, "other"),
        ({"dm": 300.0}, "frb"),
        ({"spectral_band": [400, 800], "spectral_band_units": "MHz"}, "frb"),
        ({"spectral_band": [400, 800], "spectral_band_units": "nm"}, "optical"),
        ({"spectral_band": [400, 800], "spectral_band_units": "furlong"}, "other"),
        ({"image_energy_range": [0.5, 4]}, "xray"),
        ({"rate_energy_range": [10, 100]}, "grb"),
        ({"rate_energy_range": ["a"]}, "other"),
    ],
)
def test_messenger_of_an_unseen_mission(record: dict[str, Any], expected: str) -> None:
    assert messenger_of(record, "other") == expected


def test_topic_of_a_feed_outranks_the_feed_for_what_is_left(tmp_path: Path) -> None:
    """Else a private record that follows the core schema would become everybody's."""
    text = (
        'name = "ours"\ntitle = "Ours"\nmission = "Ours"\ninstrument = ""\nmessenger = "grb"\n'
        'format = "json"\ntopics = ["ours.bursts"]\nprefix = "Ours"\nprivate = true\n'
    )
    registry = with_files(tmp_path, ours=text)
    raw = json.dumps(CORE).encode()
    assert read(raw, registry, topic="ours.bursts").streams == ("ours",)
    assert read(raw, registry, topic="elsewhere").feed == "generic_json"


def test_neither_notice_nor_fragment_has_no_feed() -> None:
    for table in ({"a": 1}, {"ra": 1.0, "dec": 2.0}, {"trigger_time": "2026-01-02T03:04:05Z"}):
        with pytest.raises(NoticeError) as caught:
            FEEDS.parse(json.dumps(table).encode())
        assert caught.value.reason == "no_feed"


# BOOM and IceCube's searches: the two that need a function


def boom(*targets: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/boom/alert.schema.json",
        "alert_datetime": "2026-01-02T03:04:05Z",
        "data": {"targets": list(targets)},
    }


def test_several_targets_are_one_map_that_holds_each() -> None:
    targets = [
        {"event_name": "ZTFb", "ra": 10.0, "dec": 20.0, "gcn_crossmatch": [{"ref_ID": "S1a"}]},
        {"event_name": "ZTFa", "ra": 0.0001, "dec": -89.0, "gcn_crossmatch": [{"ref_ID": "S1a"}]},
        {"event_name": "ZTFc", "ra": 359.9999, "dec": 0.0},
    ]
    understood = read(json.dumps(boom(*targets)).encode())
    found, region = understood.notice, understood.region
    assert found is not None
    assert region is not None
    assert found.event_id == "BOOM_ZTFa+ZTFb+ZTFc"
    assert found.details["targets"] == "ZTFa, ZTFb, ZTFc"
    assert found.details["counterpart_of"] == "S1a"
    places = np.array([(t["ra"], t["dec"]) for t in targets], np.float64)
    inside = credible_level(region.localization, places[:, 0], places[:, 1])
    assert (inside < 0.1).all(), "the centre of each target is among the likeliest cells"
    beside = credible_level(region.localization, places[:, 0], places[:, 1] + 0.01)
    assert (beside == 1).all()
    reverse = read(json.dumps(boom(*reversed(targets))).encode()).notice
    assert reverse is not None
    assert (reverse.event_id, reverse.skymap_sha256) == (found.event_id, found.skymap_sha256)
    assert notice(boom(*({**targets[0], "event_name": f"Z{n}"} for n in range(6)))).event_id == (
        "BOOM_Z0+5"
    )


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], "bad_field"),
        (["x"], "bad_field"),
        ([{"ra": 1.0, "dec": 1.0}], "no_trigger_id"),
        ([{"event_name": "a b"}], "bad_trigger_id"),
        ([{"event_name": "a", "gcn_crossmatch": 1}], "bad_field"),
        ([{"event_name": "a"}, {"event_name": "b"}], "bad_position"),
        ([{"event_name": "a", "ra": 1, "dec": 99}, {"event_name": "b"}], "bad_position"),
    ],
)
def test_targets_are_checked(targets: list[Any], expected: str) -> None:
    assert read(json.dumps(boom(*targets)).encode()).reason == expected


def search(*events: Any, **changes: Any) -> dict[str, Any]:
    return {
        "$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/icecube/lvk_nu_track_search.schema.json",
        "ref_ID": "S260102a",
        "alert_datetime": "2026-01-02T03:20:00Z",
        "trigger_time": "2026-01-02T03:04:05Z",
        "coincident_events": list(events),
        **changes,
    }


def neutrino(ra_deg: float, p_value: float | None) -> dict[str, Any]:
    place = {"ra": ra_deg, "dec": 5.0, "ra_dec_error": 0.7}
    return {"localization": place, "event_pval_generic": p_value, "event_pval_bayesian": None}


def test_neutrino_that_chance_explains_least_is_the_region() -> None:
    found = notice(search(neutrino(1.0, None), neutrino(2.0, 0.5), neutrino(3.0, 0.001)))
    assert found.localization == Circle(3.0, 5.0, 0.7, 0.9)
    assert found.details["other_neutrinos"].startswith("2 5 0.5; 1 5")


def test_searches_that_found_little_are_not_significant() -> None:
    for p_value, expected in ((0.009, True), (0.02, False), (None, False)):
        assert notice(search(neutrino(1.0, 0.1), pval_bayesian=p_value)).significant is expected
    nothing = read(json.dumps(search(pval_generic=1.0)).encode())
    assert (nothing.outcome, nothing.reason) == ("no_position", "no_coincidence")
    assert notice(search(neutrino(1.0, 0.1), ref_ID="MS260102a")).role == "test"
    assert read(json.dumps(search("x")).encode()).reason == "bad_field"


def test_all_kinds_of_service_records_are_ignored() -> None:
    for table, expected in (
        ({"circularId": 1, "subject": "s", "body": "b"}, "circular"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "json_schema"),
        ({"objectId": "ZTF1", "candid": 1, "candidate": {"ra": 1}}, "optical_alert"),
        ({"diaSourceId": 1, "diaSource": {"ra": 1}}, "optical_alert"),
    ):
        found = FEEDS.parse(json.dumps(table).encode())
        assert isinstance(found, Ignored)
        assert found.reason == expected
